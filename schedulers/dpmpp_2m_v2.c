/* dpmpp_2m_v2.c - DPM-Solver++(2M) changed for few steps: the weight of x0 is that of a step as
 * long as the mean of this one and the one before, and the share of the history follows from the
 * longer over the shorter. On steps of equal length in the logarithm of sigma it is dpmpp_2m; on
 * others it is a blend, not a solver of that order. The first step and the last, to sigma 0, are of
 * first order.
 *
 * No paper has it; the rule is that of AUTOMATIC1111's discussion 8457, which stable-diffusion.cpp
 * has as dpm++2mv2. */
#include "schedulers/scheduler_impl.h"

#include <math.h>

#include "base/dmath.h"

/* History: x0 of this evaluation and of the one before, by turns. */
enum { VECTORS = 2 };

static void feed(struct sched *s, const struct sched_answer *answer)
{
    int e = s->state->evaluation;
    double sigma = s->sigmas[e], next = s->sigmas[e + 1];
    struct sched_pair clean = sched_clean(s, sigma);
    float *x = sched_latents(s), *x0 = sched_vector(s, e % VECTORS);
    struct sched_term now[] = { { clean.x, x }, { clean.pred, answer->pred } };
    sched_mix(x0, s->n, now, 2);
    double to_clean = 1 - next / sigma, extra = 0;
    bool history = e > s->state->first && e < s->levels - 1;
    if (history) {
        double h = dr_log(sigma / next), h_before = dr_log(s->sigmas[e - 1] / sigma);
        to_clean = -dr_expm1(-(h + h_before) / 2);
        extra = to_clean * fmin(h, h_before) / (2 * fmax(h, h_before));
    }
    struct sched_term terms[] = { { next / sigma, x },
                                  { to_clean + extra, x0 },
                                  { -extra, sched_vector(s, (e + 1) % VECTORS) } };
    sched_mix(x, s->n, terms, history ? 3 : 2);
}

const struct sched_info sched_dpmpp_2m_v2 = {
    .name = "dpmpp_2m_v2",
    .title = "DPM++ 2M v2",
    .order = 1,
    .rule = SCHED_RULE_EULER,
    .lists = SCHED_LISTS_SIGMAS,
    .zero_snr = true,
    .vectors = VECTORS,
    .feed = feed,
};
