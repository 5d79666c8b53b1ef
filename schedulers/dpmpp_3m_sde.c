/* dpmpp_3m_sde.c - DPM-Solver++(3M) for the diffusion SDE: x0 as a parabola in the logarithm of
 * sigma through the last three evaluations, with noise from a Brownian path (after Lu et al. 2022,
 * arXiv 2211.01095). Reference: k-diffusion's sample_dpmpp_3m_sde. The last step, to sigma 0, ends
 * at x0.
 *
 * The reference gives the parabola's bend half of its weight, which leaves the order at 2. */
#include "schedulers/scheduler_impl.h"

#include <math.h>

#include "base/dmath.h"

enum { ETA, S_NOISE };

static const struct sched_option options[] = {
    [ETA] = { "eta", 0, 1, 1, false, "share of a step's noise that is fresh", NULL },
    [S_NOISE] = { "s_noise", 0, 10, 1, false, "factor of the fresh noise", NULL },
    { .name = NULL },
};

/* History: x0 of this evaluation and of the two before, by turns. */
enum { VECTORS = 3 };

/* Weights of x0 now, before, and before that, beside those of the first order. */
static void history_weights(const struct sched *s, int e, double h, double h_eta, double weights[3])
{
    int past = e - s->state->first;
    weights[0] = weights[1] = weights[2] = 0;
    if (past < 1)
        return;
    double phi_2 = dr_expm1(-h_eta) / h_eta + 1, phi_3 = phi_2 / h_eta - 0.5;
    double r_0 = dr_log((double)s->sigmas[e - 1] / s->sigmas[e]) / h;
    weights[0] = phi_2 / r_0;
    weights[1] = -phi_2 / r_0;
    if (past < 2)
        return;
    double r_1 = dr_log((double)s->sigmas[e - 2] / s->sigmas[e - 1]) / h;
    double bend = (phi_2 * r_0 - phi_3) / (r_0 + r_1); /* of the difference of differences */
    weights[0] += bend / r_0;
    weights[1] -= bend / r_0 + bend / r_1;
    weights[2] = bend / r_1;
}

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
    double h = dr_log(sigma / next), h_eta = h * (1 + eta), w[3];
    double kept = dr_exp(-eta * h), up = next * sqrt(1 - kept * kept);
    history_weights(s, e, h, h_eta, w);
    const float *noise = sched_next_noise(s, sigma, next);
    struct sched_term terms[] = { { next / sigma * kept, x },
                                  { w[0] - dr_expm1(-h_eta), x0 },
                                  { w[1], sched_vector(s, (e + 2) % VECTORS) },
                                  { w[2], sched_vector(s, (e + 1) % VECTORS) },
                                  { up * sched_option_value(s, S_NOISE), noise } };
    sched_mix(x, s->n, terms, noise ? 5 : 4);
}

const struct sched_info sched_dpmpp_3m_sde = {
    .name = "dpmpp_3m_sde",
    .title = "DPM++ 3M SDE",
    .order = 2,
    .rule = SCHED_RULE_EULER,
    .lists = SCHED_LISTS_SIGMAS,
    .options = options,
    .noise = SCHED_NOISE_BROWNIAN,
    .zero_snr = true,
    .vectors = VECTORS,
    .feed = feed,
};
