/* gradient.c - see gradient.h. */
#include "schedulers/gradient.h"

void gradient_step(struct sched *s, const struct sched_answer *answer, double gamma, bool cfg_pp)
{
    int e = s->state->evaluation;
    double from = s->sigmas[e], to = s->sigmas[e + 1], dt = to - from;
    struct sched_pair slope = sched_slope(s, from), clean = sched_clean(s, from);
    float *x = sched_latents(s), *d = sched_vector(s, e % GRADIENT_VECTORS);
    const float *before = sched_vector(s, (e + 1) % GRADIENT_VECTORS);
    bool last = e == s->levels - 1, history = e > s->state->first && !last;
    struct sched_term now[] = { { slope.x, x },
                                { slope.pred, cfg_pp ? answer->uncond : answer->pred } };
    sched_mix(d, s->n, now, 2);
    double more = history ? (gamma - 1) * dt : 0;
    if (last || cfg_pp) {
        struct sched_term terms[] = {
            { clean.x, x }, { clean.pred, answer->pred }, { to + more, d }, { -more, before }
        };
        sched_mix(x, s->n, terms, history ? 4 : last ? 2 : 3);
        return;
    }
    struct sched_term terms[] = { { 1, x }, { dt + more, d }, { -more, before } };
    sched_mix(x, s->n, terms, history ? 3 : 2);
}
