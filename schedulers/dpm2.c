/* dpm2.c - DPM-Solver-2 with the slope half-way in the logarithm of sigma (Lu et al. 2022, arXiv
 * 2206.00927, algorithm 1; Karras et al. 2022, arXiv 2206.00364, algorithm 2 for the frame). The
 * last step, to sigma 0, is Euler's. Reference: k-diffusion's sample_dpm_2 without churn. */
#include "schedulers/scheduler_impl.h"

#include <math.h>
#include <string.h>

/* Latents of the step's beginning. */
enum { START, VECTORS };

static double level(const struct sched_config *config, const struct sched_way *way, int part)
{
    (void)config;
    (void)part;
    return sqrt(way->from * way->to);
}

static void feed(struct sched *s, const struct sched_answer *answer)
{
    int e = s->state->evaluation;
    struct sched_place at = sched_place(s, e);
    bool inside = !at.part && at.next > at.begin + 1;
    double dt = (inside ? s->sigmas[e + 1] : s->sigmas[at.next]) - (double)s->sigmas[at.begin];
    struct sched_pair slope = sched_slope(s, s->sigmas[e]);
    float *x = sched_latents(s), *start = sched_vector(s, START);
    if (!at.part)
        memcpy(start, x, s->n * sizeof *x);
    struct sched_term terms[] = { { 1, start },
                                  { dt * slope.x, x },
                                  { dt * slope.pred, answer->pred } };
    sched_mix(x, s->n, terms, 3);
}

static const char *const aliases[] = { "KDPM2Discrete", NULL };

const struct sched_info sched_dpm2 = {
    .name = "dpm2",
    .title = "DPM2",
    .aliases = aliases,
    .order = 2,
    .rule = SCHED_RULE_EULER,
    .lists = SCHED_LISTS_SIGMAS,
    .layout = { .evaluations = sched_two_but_last, .level = level },
    .zero_snr = true,
    .vectors = VECTORS,
    .feed = feed,
};
