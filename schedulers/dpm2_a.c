/* dpm2_a.c - ancestral DPM-Solver-2: the step of dpm2.c to below the next level, then fresh noise
 * up to it. The last step, to sigma 0, is Euler's. Reference: k-diffusion's
 * sample_dpm_2_ancestral. */
#include "schedulers/scheduler_impl.h"

#include <math.h>
#include <string.h>

enum { ETA, S_NOISE };

static const struct sched_option options[] = {
    [ETA] = { "eta", 0, 1, 1, false, "share of a step's noise that is fresh", NULL },
    [S_NOISE] = { "s_noise", 0, 10, 1, false, "factor of the fresh noise", NULL },
    { .name = NULL },
};

/* Latents of the step's beginning. */
enum { START, VECTORS };

static double level(const struct sched_config *config, const struct sched_way *way, int part)
{
    (void)part;
    double down = sched_ancestral_parts(way->from, way->to, config->option[ETA]).down;
    return sqrt(way->from * down);
}

static void feed(struct sched *s, const struct sched_answer *answer)
{
    int e = s->state->evaluation;
    struct sched_place at = sched_place(s, e);
    double from = s->sigmas[at.begin], to = s->sigmas[at.next];
    struct sched_ancestral way = sched_ancestral_parts(from, to, sched_option_value(s, ETA));
    bool inside = !at.part && at.next > at.begin + 1;
    double dt = (inside ? s->sigmas[e + 1] : way.down) - from;
    struct sched_pair slope = sched_slope(s, s->sigmas[e]);
    float *x = sched_latents(s), *start = sched_vector(s, START);
    if (!at.part)
        memcpy(start, x, s->n * sizeof *x);
    const float *noise = !inside && to > 0 ? sched_next_noise(s, from, to) : NULL;
    struct sched_term terms[] = { { 1, start },
                                  { dt * slope.x, x },
                                  { dt * slope.pred, answer->pred },
                                  { way.up * sched_option_value(s, S_NOISE), noise } };
    sched_mix(x, s->n, terms, noise ? 4 : 3);
}

static const char *const aliases[] = { "dpm_2_ancestral", "KDPM2AncestralDiscrete", NULL };

const struct sched_info sched_dpm2_a = {
    .name = "dpm2_a",
    .title = "DPM2 a",
    .aliases = aliases,
    .order = 2,
    .rule = SCHED_RULE_EULER,
    .lists = SCHED_LISTS_SIGMAS,
    .layout = { .evaluations = sched_two_but_last, .level = level },
    .options = options,
    .noise = SCHED_NOISE_NORMAL,
    .zero_snr = true,
    .vectors = VECTORS,
    .feed = feed,
};
