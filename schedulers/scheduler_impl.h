/* scheduler_impl.h - what a sampler's own file works with. Included by files of schedulers/ only.
 *
 * Every update of every sampler here is a sum of arrays with scalar weights. The weights are worked
 * out in double from the float32 sigmas, the sum is taken in double and rounded once: the result is
 * that of the formula, and diffusers' float32 operation by operation stays within rounding of it.
 */
#ifndef DR_SCHEDULERS_SCHEDULER_IMPL_H
#define DR_SCHEDULERS_SCHEDULER_IMPL_H

#include <stddef.h>
#include <stdint.h>

#include "schedulers/base_scheduler.h"
#include "schedulers/noise_table.h"
#include "schedulers/scheduler_factory.h"
#include "schedulers/schedules.h"

/* Head of the flat state; the sampler's scalars (double), latents[n] and its vectors[n] follow. */
struct sched_state {
    char magic[8];
    uint64_t fingerprint; /* of settings, timesteps, sigmas and n */
    int64_t n;
    int32_t first;      /* evaluation it began at */
    int32_t evaluation; /* next one; -1 before sched_begin */
    uint8_t reserved[32];
};

struct sched {
    struct sched_config config;
    size_t n;
    int evaluations;    /* 0: open */
    int levels;         /* the evaluations; of an open number: the steps */
    float *timesteps;   /* [levels] */
    float *sigmas;      /* [levels + 1] */
    int *begins;        /* [steps + 1] level at which each step begins; the last: `levels` */
    double *aux;        /* [levels * info->aux] */
    float *input;       /* [n] what ask.x shows */
    float *noise;       /* [n] what sched_noise gives; NULL if none is added */
    double *sum;        /* [n] and */
    float *work;        /* [3 n] for brownian_interval; NULL for other noise */
    struct dr_rng *rng; /* the picture's, during sched_feed */
    struct sched_source source;
    bool given_source;        /* else a path is of the generator's seed and kind */
    struct noise_table table; /* of an open number of evaluations; else empty */
    double highest;           /* the model's highest sigma */
    size_t state_size;        /* bytes of state */
    struct sched_state *state;
    bool asked;
    bool given_sigmas; /* sched_replace's: alphas follow from them */
};

struct sched_term {
    double weight;
    const float *v; /* [n] */
};

/* dst = sum of weight * v, in double, in the order given. dst may be one of them. */
void sched_mix(float *dst, size_t n, const struct sched_term *terms, int n_terms);

/* The k-th vector of history. */
float *sched_vector(struct sched *s, int k);

/* The scalars [info->scalars]. */
double *sched_scalars(const struct sched *s);

/* The value of row i of the sampler's options. */
double sched_option_value(const struct sched *s, int i);

/* Noise [n] of deviation 1 for the interval of sigma between two levels, by the sampler's source;
 * NULL where none is added (eta 0). Valid until the next call. */
const float *sched_next_noise(struct sched *s, double from, double to);

/* Where an evaluation is: the step that it belongs to, which of the step's it is, from 0, and the
 * levels at which this step and the next begin. */
struct sched_place {
    int step, part, begin, next;
};

struct sched_place sched_place(const struct sched *s, int evaluation);

/* A step from one level to another as one to `down` and noise of deviation `up`: together of the
 * variance of `to`. k-diffusion's get_ancestral_step. */
struct sched_ancestral {
    double down, up;
};

struct sched_ancestral sched_ancestral_parts(double from, double to, double eta);

/* One evaluation in the last step, two in every other. */
int sched_two_but_last(const struct sched_config *config, int step);

/* Weights of latents and prediction in a quantity made of the two. */
struct sched_pair {
    double x, pred;
};

/* dx/dsigma in the variance-exploding parametrisation: eps. */
struct sched_pair sched_slope(const struct sched *s, double sigma);

/* x0 in the same: x - sigma * eps. */
struct sched_pair sched_clean(const struct sched *s, double sigma);

/* x0 and eps in the variance-preserving one, x = alpha x0 + beta eps. */
struct sched_pair sched_vp_clean(const struct sched *s, double alpha, double beta);
struct sched_pair sched_vp_noise(const struct sched *s, double alpha, double beta);

/* alpha of a sigma: 1/sqrt(1 + sigma^2). */
double sched_alpha(double sigma);
/* That of the latents at a sigma: the same for samplers with `vp`, else 1. */
double sched_alpha_at(const struct sched *s, double sigma);

/* Whether timesteps say what the levels are, and not sigmas (schedules that the reference of
 * SCHED_RULE_CONSISTENCY lacks, sigmas from outside). */
bool sched_by_timestep(const struct sched *s);

/* alpha^2 of an evaluation: the table's by timestep, or that of sigma. */
double sched_alpha_bar(const struct sched *s, const struct noise_table *table, int evaluation);

/* DR_EINVAL where a run begins at alpha 0 and its prediction type cannot go on from pure noise. */
int sched_check_pure_noise(const struct sched *s, double first_alpha_bar, struct dr_error *err);

#define X(name) extern const struct sched_info sched_##name;
#include "schedulers/schedulers.def"
#undef X

#define X(name) extern const struct schedule_info schedule_##name;
#include "schedulers/schedules.def"
#undef X

#endif
