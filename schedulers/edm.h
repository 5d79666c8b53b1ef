/* edm.h - models of the EDM formulation (Karras et al. 2022, arXiv 2206.00364): their
 * scheduler_config.json. Included by files of schedulers/ only.
 *
 * Such a model was trained on any level of noise between two ends instead of on timesteps; what it
 * is given and what its output means is scaled by the level (c_in, c_skip, c_out), and its timestep
 * is 0.25 ln(sigma). Every sampler that works by sigmas can sample it. Reference:
 * diffusers EDMEulerScheduler, EDMDPMSolverMultistepScheduler.
 */
#ifndef DR_SCHEDULERS_EDM_H
#define DR_SCHEDULERS_EDM_H

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"
#include "schedulers/base_scheduler.h"

/* The sampler of a class of that formulation; NULL: another class. */
const struct sched_info *edm_sampler(const char *class_name);

/* Whether the file's class is one. */
bool edm_is_file(const json_t *file);

/* What the file says, and the class's defaults for the rest; the sampler stays. */
int edm_read(const json_t *file, struct sched_config *ret, struct dr_error *err);

/* Whether sampler and schedule can sample such a model. */
int edm_check(const struct sched_config *config, struct dr_error *err);

#endif
