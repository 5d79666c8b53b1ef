/* heun.c - Heun's method: an Euler step, a second look where it led, and the mean of both slopes
 * (Karras et al. 2022, arXiv 2206.00364, algorithm 1). The last step, to sigma 0, is Euler's, so n
 * steps ask 2n - 1 times. Reference: diffusers HeunDiscreteScheduler. */
#include "schedulers/scheduler_impl.h"

#include <string.h>

enum { SLOPE, START, VECTORS };

static void feed(struct sched *s, const struct sched_answer *answer)
{
    const float *pred = answer->pred;
    int e = s->state->evaluation;
    bool second = sched_place(s, e).part;
    double from = s->sigmas[second ? e - 1 : e], to = s->sigmas[second ? e : e + 1];
    double dt = to - from;
    struct sched_pair weights = sched_slope(s, second ? to : from);
    float *x = sched_latents(s), *slope = sched_vector(s, SLOPE), *start = sched_vector(s, START);
    struct sched_term now[] = { { weights.x, x }, { weights.pred, pred } };
    if (second) {
        struct sched_term terms[] = { { 1, start },
                                      { dt / 2, slope },
                                      { dt / 2 * weights.x, x },
                                      { dt / 2 * weights.pred, pred } };
        sched_mix(x, s->n, terms, 4);
        return;
    }
    memcpy(start, x, s->n * sizeof *x);
    sched_mix(slope, s->n, now, 2);
    struct sched_term terms[] = { { 1, start }, { dt, slope } };
    sched_mix(x, s->n, terms, 2);
}

static const char *const aliases[] = { "HeunDiscrete", NULL };

static const struct sched_fixed_key fixed[] = {
    { "clip_sample", "false" },
    { NULL, NULL },
};

static const struct sched_defaults defaults = {
    .spacing = SCHED_LINSPACE,
    .betas = SCHED_LINEAR,
    .beta_start = 0.00085,
    .beta_end = 0.012,
};

const struct sched_info sched_heun = {
    .name = "heun",
    .title = "Heun",
    .diffusers = "HeunDiscreteScheduler",
    .aliases = aliases,
    .fixed = fixed,
    .order = 2,
    .defaults = &defaults,
    .rule = SCHED_RULE_EULER,
    .lists = SCHED_LISTS_TIMESTEPS,
    .layout.evaluations = sched_two_but_last,
    .sigma_flags = true,
    .repeats = true,
    .vectors = VECTORS,
    .feed = feed,
};
