/* scheduler_manager.h - from a model's scheduler_config.json and a request to effective settings.
 *
 * The file supplies class, spacing, offset, schedule flags, betas and prediction type; the request
 * overrides it; what neither says takes SDXL base 1.0's values, not the diffusers class's defaults.
 * Keys are read as the diffusers class of the effective sampler reads them: a key that this class
 * does not have is ignored, a value that it has but Darkroom does not do is an error that names the
 * key.
 */
#ifndef DR_SCHEDULERS_SCHEDULER_MANAGER_H
#define DR_SCHEDULERS_SCHEDULER_MANAGER_H

#include <stddef.h>

#include "base/error.h"
#include "schedulers/base_scheduler.h"

/* What was asked for; NULL, NaN: nothing said. */
struct sched_request {
    const char *sampler, *schedule, *spacing;
    double eta;
    int steps; /* 1 .. */
};

/* json: text of scheduler_config.json, NULL for models without one (single files). Bare
 * infinities, which Python writes, are null. DR_EINVAL names the request's field or
 * "scheduler_config.json: KEY"; DR_EFORMAT for text that is not JSON; DR_EUNSUPPORTED for a valid
 * value that is not done. */
int sched_configure(const char *json, size_t n_json, const struct sched_request *request,
                    struct sched_config *ret_config, struct dr_error *err);

#endif
