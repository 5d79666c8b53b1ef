/* scheduler_manager.h - from a model's scheduler_config.json and a request to effective settings.
 *
 * The file supplies class, spacing, offset, schedule flags, betas and prediction type; the request
 * overrides it. What the file leaves open takes the defaults of its own class, as diffusers'
 * from_pretrained does. When the request names a sampler of another class, the file's keys hold for
 * that one, as in diffusers' from_config, and what they leave open takes the values with which the
 * model's family was trained: sched_assumed names those keys. A file without a class, and no file,
 * take those values too.
 *
 * Keys are read as the diffusers class of the effective sampler reads them: a key that this class
 * does not have is ignored, a value that it has but Darkroom does not do is an error that names the
 * key. What says that the model is of another formulation (the class, or keys of any class) is an
 * error whatever the request asks for.
 */
#ifndef DR_SCHEDULERS_SCHEDULER_MANAGER_H
#define DR_SCHEDULERS_SCHEDULER_MANAGER_H

#include <jansson.h>

#include "base/error.h"
#include "schedulers/base_scheduler.h"

/* What was asked for; NULL, NaN: nothing said. */
struct sched_request {
    const char *sampler, *schedule; /* "NAME[,key=value]..." (scheduler_options.h) */
    const char *spacing;
    const struct sched_conventions *conventions; /* NULL: those of diffusers' classes */
    /* What stands for a sampler or a schedule that neither the request nor the file names; NULL:
     * Euler's, normal. */
    const char *usual_sampler, *usual_schedule;
    const char *timesteps, *sigmas; /* lists, "999,749,499,249" (base/numbers.h) */
    double eta;
    int steps; /* 1 .., 0: as many as the list has */
};

/* trained: how models of the family were trained, in the keys of a scheduler_config.json without a
 * class; betas, num_train_timesteps and all else that a file may leave open are there. file:
 * scheduler_config.json, NULL for models without one (single files). DR_EINVAL names the request's
 * field or "scheduler_config.json: KEY"; DR_EUNSUPPORTED for a valid value that is not done. */
int sched_configure(const json_t *trained, const json_t *file, const struct sched_request *request,
                    struct sched_config *ret_config, struct dr_error *err);

#endif
