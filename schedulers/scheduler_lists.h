/* scheduler_lists.h - a run whose levels are listed: exact timesteps or sigmas in place of a
 * schedule and a number of steps.
 *
 * Timesteps are what set_timesteps(timesteps=) of the diffusers classes takes, sigmas what that of
 * EulerDiscreteScheduler and the functions of k-diffusion take: a sampler says in its descriptor
 * which of the two it can be given.
 */
#ifndef DR_SCHEDULERS_SCHEDULER_LISTS_H
#define DR_SCHEDULERS_SCHEDULER_LISTS_H

#include "schedulers/base_scheduler.h"

/* "999,749,499,249" into config->level, steps and listed, for the sampler and the noise of *config.
 * `field` is "timesteps" or "sigmas". DR_EINVAL for a sampler that takes no such list and for
 * numbers that no run has. */
int sched_list_read(const char *field, const char *text, struct sched_config *config,
                    struct dr_error *err);

#endif
