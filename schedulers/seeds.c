/* seeds.c - see seeds.h. */
#include "schedulers/seeds.h"

#include <math.h>
#include <string.h>

#include "base/dmath.h"

const char *const seeds_solvers[] = { "phi_1", "phi_2", NULL };

double seeds_phi_2(double h)
{
    return (dr_expm1(h) - h) / h;
}

void seeds_clean(struct sched *s, const float *pred, float *ret)
{
    struct sched_pair clean = sched_clean(s, s->sigmas[s->state->evaluation]);
    struct sched_term terms[] = { { clean.x, sched_latents(s) }, { clean.pred, pred } };
    sched_mix(ret, s->n, terms, 2);
}

bool seeds_gather(struct sched *s, const struct seeds *how, int e, double h, double h_before)
{
    if (!(how->eta > 0) || !(how->s_noise > 0))
        return false;
    float *path = sched_vector(s, SEEDS_NOISE);
    const float *fresh = sched_next_noise(s, s->sigmas[e - 1], s->sigmas[e]);
    double kept = dr_exp(-(h - h_before) * how->eta);
    struct sched_term terms[] = { { sqrt(1 - kept * kept), fresh }, { kept, path } };
    sched_mix(path, s->n, terms, h_before > 0 ? 2 : 1);
    return true;
}

/* The latents of evaluation e from START: x0 is the sum of two terms. */
static void go(struct sched *s, const struct seeds *how, int e, double h, double h_before,
               const struct sched_term clean[2])
{
    double to = s->sigmas[e], from = to * dr_exp(h);
    bool noisy = seeds_gather(s, how, e, h, h_before);
    struct sched_term terms[] = { { to / from * dr_exp(-h * how->eta),
                                    sched_vector(s, SEEDS_START) },
                                  clean[0],
                                  clean[1],
                                  { to * how->s_noise, sched_vector(s, SEEDS_NOISE) } };
    sched_mix(sched_latents(s), s->n, terms, noisy ? 4 : 3);
}

void seeds_step(struct sched *s, const struct sched_answer *answer, const struct seeds *how)
{
    int e = s->state->evaluation;
    struct sched_place at = sched_place(s, e);
    double from = s->sigmas[at.begin], to = s->sigmas[at.next];
    float *x = sched_latents(s), *clean = sched_vector(s, SEEDS_CLEAN);
    if (to <= 0) {
        seeds_clean(s, answer->pred, x);
        return;
    }
    double h = dr_log(from / to), h_inner = dr_log(from / s->sigmas[at.begin + 1]), r = h_inner / h;
    double longer = 1 + how->eta;
    if (!at.part) {
        memcpy(sched_vector(s, SEEDS_START), x, s->n * sizeof *x);
        seeds_clean(s, answer->pred, clean);
        go(s, how, e + 1, h_inner, 0,
           (struct sched_term[]){ { -dr_expm1(-h_inner * longer), clean }, { 0, clean } });
        return;
    }
    double all = -dr_expm1(-h * longer), second = all / (2 * r);
    if (how->solver == SEEDS_PHI_2)
        second = -seeds_phi_2(-h * longer) / r;
    seeds_clean(s, answer->pred, x);
    go(s, how, e + 1, h, h_inner, (struct sched_term[]){ { all - second, clean }, { second, x } });
}
