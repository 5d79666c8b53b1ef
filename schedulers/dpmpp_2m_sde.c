/* dpmpp_2m_sde.c - DPM-Solver++(2M) for the diffusion SDE, midpoint (Lu et al. 2022, arXiv
 * 2211.01095, appendix): the multistep solver with noise from a Brownian path. Reference:
 * k-diffusion's sample_dpmpp_2m_sde. The last step, to sigma 0, ends at x0.
 *
 * With lambda = -log(sigma), exp(-h) of a step is sigma'/sigma, and exp(-eta h) its power eta. */
#include "schedulers/scheduler_impl.h"

#include <math.h>

#include "base/dmath.h"

enum { ETA, S_NOISE };

static const struct sched_option options[] = {
    [ETA] = { "eta", 0, 1, 1, false, "share of a step's noise that is fresh", NULL },
    [S_NOISE] = { "s_noise", 0, 10, 1, false, "factor of the fresh noise", NULL },
    { .name = NULL },
};

/* History: x0 of this evaluation and of the one before, by turns. */
enum { VECTORS = 2 };

static void feed(struct sched *s, const struct sched_answer *answer)
{
    int e = s->state->evaluation;
    double sigma = s->sigmas[e], next = s->sigmas[e + 1], eta = sched_option_value(s, ETA);
    struct sched_pair clean = sched_clean(s, sigma);
    float *x = sched_latents(s), *x0 = sched_vector(s, e % VECTORS);
    const float *x0_before = sched_vector(s, (e + 1) % VECTORS);
    struct sched_term now[] = { { clean.x, x }, { clean.pred, answer->pred } };
    sched_mix(x0, s->n, now, 2);
    if (e == s->levels - 1) {
        sched_mix(x, s->n, now, 2);
        return;
    }
    double h = dr_log(sigma / next), kept = dr_exp(-eta * h), to_x = next / sigma * kept;
    double extra = 0, up = next * sqrt(1 - kept * kept); /* weights of x0 - x0_before, of noise */
    if (e > s->state->first)
        extra = (1 - to_x) / 2 * h / dr_log(s->sigmas[e - 1] / sigma);
    const float *noise = sched_next_noise(s, sigma, next);
    struct sched_term terms[] = { { to_x, x },
                                  { 1 - to_x + extra, x0 },
                                  { -extra, x0_before },
                                  { up * sched_option_value(s, S_NOISE), noise } };
    sched_mix(x, s->n, terms, noise ? 4 : 3);
}

const struct sched_info sched_dpmpp_2m_sde = {
    .name = "dpmpp_2m_sde",
    .title = "DPM++ 2M SDE",
    .order = 2,
    .rule = SCHED_RULE_EULER,
    .lists = SCHED_LISTS_SIGMAS,
    .options = options,
    .noise = SCHED_NOISE_BROWNIAN,
    .zero_snr = true,
    .vectors = VECTORS,
    .feed = feed,
};
