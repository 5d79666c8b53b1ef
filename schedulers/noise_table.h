/* noise_table.h - how much noise each of the model's training timesteps has.
 *
 * Float32 step by step, in the order torch computes it for every diffusers scheduler: near timestep
 * 0, 1 - abar is a difference of nearly equal numbers, so rounding elsewhere would show in the
 * fifth digit of sigma.
 */
#ifndef DR_SCHEDULERS_NOISE_TABLE_H
#define DR_SCHEDULERS_NOISE_TABLE_H

#include "base/error.h"
#include "schedulers/base_scheduler.h"

struct noise_table {
    int n;             /* config.train_steps */
    float *alphas;     /* [n] cumulative products of 1 - beta, falling */
    float *sigmas;     /* [n] sqrt((1 - abar)/abar), rising; abar 0 (zero SNR) counts as 2^-24 */
    float *log_sigmas; /* [n] */
    bool edm;          /* the two ends of its levels; a timestep is 0.25 ln(sigma) */
};

/* DR_EINVAL where the betas give no rising sigmas; DR_ENOMEM. */
int noise_table_init(struct noise_table *ret_table, const struct sched_config *config,
                     struct dr_error *err);
void noise_table_release(struct noise_table *t);

/* Sigma at a fractional timestep: linear between neighbours, the end values outside. */
double noise_table_sigma(const struct noise_table *t, double timestep);

/* The same, linear in the logarithm. */
double noise_table_sigma_log(const struct noise_table *t, double timestep);

/* Fractional timestep of a sigma: linear in the logarithm, 0 and n-1 outside; of EDM what its
 * models take for one (Karras et al. 2022, c_noise). */
double noise_table_timestep(const struct noise_table *t, double sigma);

#endif
