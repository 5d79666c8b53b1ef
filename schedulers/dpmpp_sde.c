/* dpmpp_sde.c - DPM-Solver++ for the diffusion SDE, singlestep of second order (Lu et al. 2022,
 * arXiv 2211.01095): a first evaluation, one at a level inside the step, and noise from a Brownian
 * path at both. Reference: k-diffusion's sample_dpmpp_sde. The last step, to sigma 0, is Euler's.
 *
 * With t = -log(sigma), exp(t - t') of a step is sigma'/sigma: only the inner level needs
 * logarithms. */
#include "schedulers/scheduler_impl.h"

#include <string.h>

#include "base/dmath.h"

enum { ETA, S_NOISE, R };

static const struct sched_option options[] = {
    [ETA] = { "eta", 0, 1, 1, false, "share of a step's noise that is fresh", NULL },
    [S_NOISE] = { "s_noise", 0, 10, 1, false, "factor of the fresh noise", NULL },
    [R] = { "r", 0.01, 1, 0.5, false, "where in a step the second evaluation is, in log sigma",
            NULL },
    { .name = NULL },
};

/* Latents and x0 of the step's beginning. */
enum { START, CLEAN, VECTORS };

static double level(const struct sched_config *config, const struct sched_way *way, int part)
{
    double r = config->option[R];
    (void)part;
    return r < 1 ? dr_exp((1 - r) * dr_log(way->from) + r * dr_log(way->to)) : way->to;
}

/* Latents: START taken from `from` to `to` with x0 the sum of two terms, and noise added. */
static void step(struct sched *s, double from, double to, const struct sched_term clean[2])
{
    struct sched_ancestral way = sched_ancestral_parts(from, to, sched_option_value(s, ETA));
    double keep = way.down / from;
    const float *noise = sched_next_noise(s, from, to);
    struct sched_term terms[] = { { keep, sched_vector(s, START) },
                                  { (1 - keep) * clean[0].weight, clean[0].v },
                                  { (1 - keep) * clean[1].weight, clean[1].v },
                                  { way.up * sched_option_value(s, S_NOISE), noise } };
    sched_mix(sched_latents(s), s->n, terms, noise ? 4 : 3);
}

/* x0 of this evaluation, in place of the latents that it was asked at. */
static void to_clean(struct sched *s, double sigma, const float *pred, float *ret)
{
    struct sched_pair clean = sched_clean(s, sigma);
    struct sched_term terms[] = { { clean.x, sched_latents(s) }, { clean.pred, pred } };
    sched_mix(ret, s->n, terms, 2);
}

static void feed(struct sched *s, const struct sched_answer *answer)
{
    int e = s->state->evaluation;
    struct sched_place at = sched_place(s, e);
    double from = s->sigmas[at.begin], to = s->sigmas[at.next];
    float *x = sched_latents(s), *start = sched_vector(s, START), *clean = sched_vector(s, CLEAN);
    if (at.next == at.begin + 1) {
        struct sched_pair slope = sched_slope(s, from);
        struct sched_term terms[] = { { 1 + (to - from) * slope.x, x },
                                      { (to - from) * slope.pred, answer->pred } };
        sched_mix(x, s->n, terms, 2);
        return;
    }
    if (at.part == 0) {
        memcpy(start, x, s->n * sizeof *x);
        to_clean(s, from, answer->pred, clean);
        step(s, from, s->sigmas[e + 1], (struct sched_term[]){ { 1, clean }, { 0, clean } });
        return;
    }
    double second = 1 / (2 * sched_option_value(s, R));
    to_clean(s, s->sigmas[e], answer->pred, x);
    step(s, from, to, (struct sched_term[]){ { 1 - second, clean }, { second, x } });
}

const struct sched_info sched_dpmpp_sde = {
    .name = "dpmpp_sde",
    .title = "DPM++ SDE",
    .order = 2,
    .rule = SCHED_RULE_EULER,
    .lists = SCHED_LISTS_SIGMAS,
    .layout = { .evaluations = sched_two_but_last, .level = level },
    .options = options,
    .noise = SCHED_NOISE_BROWNIAN,
    .zero_snr = true,
    .vectors = VECTORS,
    .feed = feed,
};
