/* euler_a.c - ancestral Euler: a step to below the next level, then fresh noise up to it.
 * Reference: diffusers EulerAncestralDiscreteScheduler, which is eta 1; other values follow
 * k-diffusion's get_ancestral_step. Noise is drawn at the last step too, where its weight is 0, so
 * that the generator stands where the reference's does. */
#include "schedulers/scheduler_impl.h"

enum { ETA };

static const struct sched_option options[] = {
    [ETA] = { "eta", 0, 1, 1, false, "share of a step's noise that is fresh", NULL },
    { .name = NULL },
};

static void feed(struct sched *s, const struct sched_answer *answer)
{
    int e = s->state->evaluation;
    double from = s->sigmas[e], to = s->sigmas[e + 1];
    const float *pred = answer->pred, *noise = sched_next_noise(s, from, to);
    struct sched_ancestral step = sched_ancestral_parts(from, to, sched_option_value(s, ETA));
    double dt = step.down - from;
    struct sched_pair slope = sched_slope(s, from);
    float *x = sched_latents(s);
    struct sched_term terms[] = { { 1 + dt * slope.x, x },
                                  { dt * slope.pred, pred },
                                  { step.up, noise } };
    sched_mix(x, s->n, terms, noise ? 3 : 2);
}

static const char *const aliases[] = { "euler_ancestral", "EulerAncestralDiscrete", NULL };

static const struct sched_fixed_key fixed[] = { { NULL, NULL } };

const struct sched_info sched_euler_a = {
    .name = "euler_a",
    .title = "Euler a",
    .diffusers = "EulerAncestralDiscreteScheduler",
    .aliases = aliases,
    .fixed = fixed,
    .order = 1,
    .rule = SCHED_RULE_EULER,
    .lists = SCHED_LISTS_SIGMAS,
    .zero_snr = true,
    .no_sample = true,
    .repeats = true,
    .options = options,
    .noise = SCHED_NOISE_NORMAL,
    .feed = feed,
};
