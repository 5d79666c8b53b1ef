/* schedule_impl.h - what the files of schedules share. Included by files of schedulers/ only. */
#ifndef DR_SCHEDULERS_SCHEDULE_IMPL_H
#define DR_SCHEDULERS_SCHEDULE_IMPL_H

#include "schedulers/noise_table.h"
#include "schedulers/scheduler_impl.h"
#include "schedulers/schedules.h"

/* The value of row i of the schedule's options. */
static inline double schedule_value(const struct schedule_job *job, int i)
{
    return job->config->schedule_option[i];
}

/* Rows that every schedule between two ends has, first. */
enum { SCHEDULE_SIGMA_MIN, SCHEDULE_SIGMA_MAX, SCHEDULE_ENDS_ROWS };

#define SCHEDULE_ENDS_OPTIONS                                                                      \
    [SCHEDULE_SIGMA_MIN] = { "sigma_min", 0, 1000, 0, false, "lowest; 0: the model's", NULL },     \
    [SCHEDULE_SIGMA_MAX] = { "sigma_max", 0, 1000, 0, false, "highest; 0: the model's", NULL }

/* The ends: the options', else the run's own for Euler's rule and schedules of SCHEDULE_RANGE, else
 * the model's. */
void schedule_ends(const struct schedule_job *job, double *ret_max, double *ret_min);

/* numpy.linspace(start, end, n)[i]. */
double schedule_linspace(double start, double end, int n, int i);

/* How the classes of the DPM rule make a whole timestep of a level's. */
enum schedule_rounding { SCHEDULE_NEAREST, SCHEDULE_DOWN };

/* The timestep that the model is given at a sigma between timesteps. */
double schedule_timestep(const struct schedule_job *job, double sigma,
                         enum schedule_rounding rounding);

/* Level i at a timestep of training. */
void schedule_put_timestep(const struct schedule_job *job, int i, int timestep, double *ret_sigmas,
                           double *ret_timesteps);

/* x of the regularised incomplete beta function I_x(a, b) = p: scipy.stats.beta.ppf. */
double schedule_beta_quantile(double p, double a, double b);

#endif
