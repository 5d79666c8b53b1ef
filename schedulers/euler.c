/* euler.c - Euler steps along the probability flow (Karras et al. 2022, arXiv 2206.00364, algorithm
 * 2 without churn). Reference: diffusers EulerDiscreteScheduler. */
#include "schedulers/scheduler_impl.h"

static void feed(struct sched *s, const struct sched_answer *answer)
{
    const float *pred = answer->pred;
    int e = s->state->evaluation;
    double dt = (double)s->sigmas[e + 1] - s->sigmas[e];
    struct sched_pair slope = sched_slope(s, s->sigmas[e]);
    float *x = sched_latents(s);
    struct sched_term terms[] = { { 1 + dt * slope.x, x }, { dt * slope.pred, pred } };
    sched_mix(x, s->n, terms, 2);
}

static const char *const aliases[] = { "EulerDiscrete", NULL };

static const struct sched_fixed_key fixed[] = {
    { "interpolation_type", "linear" },
    { "timestep_type", "discrete" },
    { "final_sigmas_type", "zero" },
    { "sigma_min", "null" },
    { "sigma_max", "null" },
    { NULL, NULL },
};

const struct sched_info sched_euler = {
    .name = "euler",
    .title = "Euler",
    .diffusers = "EulerDiscreteScheduler",
    .aliases = aliases,
    .fixed = fixed,
    .order = 1,
    .rule = SCHED_RULE_EULER,
    .lists = SCHED_LISTS_TIMESTEPS | SCHED_LISTS_SIGMAS,
    .sigma_flags = true,
    .zero_snr = true,
    .repeats = true,
    .feed = feed,
};
