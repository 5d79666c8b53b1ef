/* res.c - see res.h. */
#include "schedulers/res.h"

#include "base/dmath.h"

/* Weights in a step's result. */
struct res_weights {
    double x, now, before;
};

/* `before`: the level that the step before went to before noise was added. */
static struct res_weights second_order(double from, double down, double from_before, double before)
{
    double h = dr_log(from / down), share = dr_log(before / from_before) / h;
    double phi_1 = -dr_expm1(-h) / h, phi_2 = (1 - phi_1) / h;
    double old = phi_2 / share;
    return (struct res_weights){ down / from, h * (phi_1 - old), h * old };
}

void res_step(struct sched *s, const struct sched_answer *answer, double eta, double s_noise,
              bool cfg_pp)
{
    int e = s->state->evaluation;
    double from = s->sigmas[e], to = s->sigmas[e + 1];
    struct sched_ancestral way = sched_ancestral_parts(from, to, eta);
    struct sched_pair clean = sched_clean(s, from);
    const float *own = cfg_pp ? answer->uncond : answer->pred;
    float *x = sched_latents(s), *x0 = sched_vector(s, e % RES_VECTORS);
    struct res_weights w = { way.down / from, 1 - way.down / from, 0 };
    bool history = way.down > 0 && e > s->state->first;
    if (history) {
        double before = s->sigmas[e - 1];
        w = second_order(from, way.down, before, sched_ancestral_parts(before, from, eta).down);
    }
    struct sched_term now[] = { { clean.x, x }, { clean.pred, own } };
    sched_mix(x0, s->n, now, 2);
    const float *noise = to > 0 && eta > 0 ? sched_next_noise(s, from, to) : NULL;
    struct sched_term terms[6] = { { w.x, x }, { w.now, x0 } };
    int n = 2;
    if (history)
        terms[n++] = (struct sched_term){ w.before, sched_vector(s, (e + 1) % RES_VECTORS) };
    if (cfg_pp) { /* the guided x0 less the unconditional one, over the whole step */
        double share = history ? w.x : 1;
        terms[n++] = (struct sched_term){ share * clean.pred, answer->pred };
        terms[n++] = (struct sched_term){ -share * clean.pred, answer->uncond };
    }
    if (noise)
        terms[n++] = (struct sched_term){ way.up * s_noise, noise };
    sched_mix(x, s->n, terms, n);
}
