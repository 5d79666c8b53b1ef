/* er_sde.c - Extended reverse-time SDE solver of up to three stages (Cui et al. 2023, arXiv
 * 2309.06169, ER-SDE-Solver-3 with data prediction): how fast noise is exchanged is a function phi
 * of sigma. Reference: ComfyUI's sample_er_sde; the integrals of 1/phi are sums over 200 points, as
 * there and in the authors' code, which for very many steps are of order 1. The last step, to sigma
 * 0, ends at x0. */
#include "schedulers/scheduler_impl.h"

#include <math.h>

#include "base/dmath.h"

enum { MAX_STAGE, S_NOISE, SOLVER_TYPE };

/* phi(s): s (exp(s^0.3) + 10) of the paper's ER-SDE 5, s^2 of the reverse-time SDE, s of the
 * probability flow. */
enum solver_type { ER_SDE, REVERSE_TIME_SDE, ODE };

static const char *const solver_types[] = { "er_sde", "reverse_time_sde", "ode", NULL };

static const struct sched_option options[] = {
    [MAX_STAGE] = { "max_stage", 1, 3, 3, true, "most evaluations that a step is made from", NULL },
    [S_NOISE] = { "s_noise", 0, 10, 1, false, "factor of the fresh noise", NULL },
    [SOLVER_TYPE] = { "solver_type", 0, 2, ER_SDE, true, "how noise is exchanged; ode: not at all",
                      solver_types },
    { .name = NULL },
};

/* x0 of this evaluation and of the two before, by turns. */
enum { VECTORS = 3, POINTS = 200 };

static double phi(enum solver_type type, double sigma)
{
    if (type == ER_SDE)
        return sigma * (dr_exp(dr_pow(sigma, 0.3)) + 10);
    return type == ODE ? sigma : sigma * sigma;
}

/* Weights of x0 now, before, and before that, beyond those of stage 1. */
static void stages(const struct sched *s, int e, enum solver_type type, int count, double w[3])
{
    double from = s->sigmas[e], to = s->sigmas[e + 1], dt = to - from, apart = -dt / POINTS;
    double plain = 0, rising = 0, end = phi(type, to);
    w[0] = w[1] = w[2] = 0;
    if (count < 2)
        return;
    for (int i = 0; i < POINTS; i++) {
        double at = to + i * apart, rate = phi(type, at);
        plain += apart / rate;
        rising += apart * (at - from) / rate;
    }
    double before = s->sigmas[e - 1], slope = (dt + plain * end) / (from - before);
    w[0] = slope;
    w[1] = -slope;
    if (count < 3)
        return;
    double earlier = s->sigmas[e - 2];
    double bend = (dt * dt / 2 + rising * end) / ((from - earlier) / 2);
    w[0] += bend / (from - before);
    w[1] -= bend / (from - before) + bend / (before - earlier);
    w[2] = bend / (before - earlier);
}

static void feed(struct sched *s, const struct sched_answer *answer)
{
    int e = s->state->evaluation, past = e - s->state->first + 1;
    int most = (int)sched_option_value(s, MAX_STAGE), count = past < most ? past : most;
    enum solver_type type = (enum solver_type)sched_option_value(s, SOLVER_TYPE);
    double sigma = s->sigmas[e], next = s->sigmas[e + 1], s_noise = sched_option_value(s, S_NOISE);
    struct sched_pair clean = sched_clean(s, sigma);
    float *x = sched_latents(s), *x0 = sched_vector(s, e % VECTORS);
    struct sched_term now[] = { { clean.x, x }, { clean.pred, answer->pred } };
    sched_mix(x0, s->n, now, 2);
    if (e == s->levels - 1) {
        sched_mix(x, s->n, now, 2);
        return;
    }
    double w[3], kept = phi(type, next) / phi(type, sigma);
    double variance = next * next - sigma * sigma * kept * kept;
    stages(s, e, type, count, w);
    const float *noise = type != ODE && s_noise > 0 ? sched_next_noise(s, sigma, next) : NULL;
    struct sched_term terms[] = { { kept, x },
                                  { 1 - kept + w[0], x0 },
                                  { w[1], sched_vector(s, (e + 2) % VECTORS) },
                                  { w[2], sched_vector(s, (e + 1) % VECTORS) },
                                  { s_noise * sqrt(variance > 0 ? variance : 0), noise } };
    sched_mix(x, s->n, terms, noise ? 5 : 4);
}

const struct sched_info sched_er_sde = {
    .name = "er_sde",
    .title = "ER SDE",
    .order = 1,
    .rule = SCHED_RULE_EULER,
    .lists = SCHED_LISTS_SIGMAS,
    .options = options,
    .noise = SCHED_NOISE_NORMAL,
    .zero_snr = true,
    .vectors = VECTORS,
    .feed = feed,
};
