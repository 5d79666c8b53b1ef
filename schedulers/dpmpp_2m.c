/* dpmpp_2m.c - DPM-Solver++(2M), midpoint, x0 prediction (Lu et al. 2022, arXiv 2211.01095,
 * algorithm 2). The first step and the last, to sigma 0, are of first order. Reference: diffusers
 * DPMSolverMultistepScheduler with solver_order 2.
 *
 * With lambda = -log(sigma), exp(-h) of a step is sigma_next/sigma: no exponential is needed. */
#include "schedulers/scheduler_impl.h"

#include "base/dmath.h"

/* History: x0 of this evaluation and of the one before, by turns. */
enum { VECTORS = 2 };

static void feed(struct sched *s, const struct sched_answer *answer)
{
    const float *pred = answer->pred;
    int e = s->state->evaluation;
    bool first_order = e == s->state->first || e == s->evaluations - 1;
    double sigma = s->sigmas[e], next = s->sigmas[e + 1];
    double alpha = sched_alpha_at(s, sigma), alpha_next = sched_alpha_at(s, next);
    struct sched_pair clean = sched_vp_clean(s, alpha, sigma * alpha);
    float *x = sched_latents(s), *x0 = sched_vector(s, e % VECTORS);
    const float *x0_before = sched_vector(s, (e + 1) % VECTORS);
    struct sched_term now[] = { { clean.x, x }, { clean.pred, pred } };
    sched_mix(x0, s->n, now, 2);

    double to_x = next * alpha_next / (sigma * alpha);
    double to_clean = alpha_next * (1 - next / sigma); /* alpha_t (1 - exp(-h)) */
    double extra = 0;                                  /* weight of x0 - x0_before */
    if (!first_order) {
        double h = dr_log(sigma / next), h_before = dr_log(s->sigmas[e - 1] / sigma);
        extra = to_clean * h / (2 * h_before);
    }
    struct sched_term terms[] = { { to_x, x }, { to_clean + extra, x0 }, { -extra, x0_before } };
    sched_mix(x, s->n, terms, first_order ? 2 : 3);
}

static const char *const aliases[] = { "DPMSolverMultistep", NULL };

static const struct sched_fixed_key fixed[] = {
    { "algorithm_type", "dpmsolver++|deis" },
    { "solver_type", "midpoint|logrho|bh1|bh2" },
    { "lambda_min_clipped", "null" },
    { "use_lu_lambdas", "false" },
    { NULL, NULL },
};

const struct sched_info sched_dpmpp_2m = {
    .name = "dpmpp_2m",
    .title = "DPM++ 2M",
    .diffusers = "DPMSolverMultistepScheduler",
    .aliases = aliases,
    .fixed = fixed,
    .order = 2,
    .rule = SCHED_RULE_DPM,
    .lists = SCHED_LISTS_TIMESTEPS,
    .vp = true,
    .sigma_flags = true,
    .zero_snr = true,
    .vectors = VECTORS,
    .feed = feed,
};
