/* dpmpp_2m_sde_heun.c - the solver of dpmpp_2m_sde.c with Heun's weights for the history (Lu et al.
 * 2022, arXiv 2211.01095, appendix). Reference: k-diffusion's sample_dpmpp_2m_sde with solver_type
 * heun. The last step, to sigma 0, ends at x0. */
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
    struct sched_term now[] = { { clean.x, x }, { clean.pred, answer->pred } };
    sched_mix(x0, s->n, now, 2);
    if (e == s->levels - 1) {
        sched_mix(x, s->n, now, 2);
        return;
    }
    double h = dr_log(sigma / next), h_eta = h * (1 + eta), kept = dr_exp(-eta * h), extra = 0;
    if (e > s->state->first)
        extra = (1 + dr_expm1(-h_eta) / h_eta) * h / dr_log(s->sigmas[e - 1] / sigma);
    const float *noise = sched_next_noise(s, sigma, next);
    struct sched_term terms[] = { { next / sigma * kept, x },
                                  { extra - dr_expm1(-h_eta), x0 },
                                  { -extra, sched_vector(s, (e + 1) % VECTORS) },
                                  { next * sqrt(1 - kept * kept) * sched_option_value(s, S_NOISE),
                                    noise } };
    sched_mix(x, s->n, terms, noise ? 4 : 3);
}

const struct sched_info sched_dpmpp_2m_sde_heun = {
    .name = "dpmpp_2m_sde_heun",
    .title = "DPM++ 2M SDE Heun",
    .order = 2,
    .rule = SCHED_RULE_EULER,
    .lists = SCHED_LISTS_SIGMAS,
    .options = options,
    .noise = SCHED_NOISE_BROWNIAN,
    .zero_snr = true,
    .vectors = VECTORS,
    .feed = feed,
};
