/* sched_access.h - what a run of a sampler was made from, and settings from the text of a model's
 * scheduler_config.json; the product has the first where it makes a run, and the file is read with
 * the rest of the model. */
#ifndef DR_TESTING_HELPERS_SCHED_ACCESS_H
#define DR_TESTING_HELPERS_SCHED_ACCESS_H

#include "base/json.h"
#include "schedulers/scheduler_impl.h"
#include "schedulers/scheduler_manager.h"

static inline const struct sched_config *sched_config_of(const struct sched *s)
{
    return &s->config;
}

/* stabilityai/stable-diffusion-xl-base-1.0, scheduler/scheduler_config.json, without the class. */
static inline json_t *sched_sdxl_base(void)
{
    return json_pack("{s:s,s:f,s:f,s:i,s:s,s:i,s:b,s:s}", "beta_schedule", "scaled_linear",
                     "beta_start", 0.00085, "beta_end", 0.012, "num_train_timesteps", 1000,
                     "timestep_spacing", "leading", "steps_offset", 1, "set_alpha_to_one", 0,
                     "prediction_type", "epsilon");
}

/* Of a model of SDXL's training. json NULL: no file. */
static inline int sched_configure_text(const char *json, size_t n_json,
                                       const struct sched_request *request,
                                       struct sched_config *ret_config, struct dr_error *err)
{
    static const struct jx_limits limits = { .bytes = 256 << 10, .python = true };
    json_t *file = NULL;
    int r = json ? jx_parse(json, n_json, &limits, "scheduler_config.json", &file, err) : 0;
    if (!r && file && !json_is_object(file))
        r = dr_fail(err, DR_EFORMAT, "scheduler_config.json: got %s, expected an object",
                    jx_kind(file));
    json_t *trained = sched_sdxl_base();
    if (!r)
        r = trained ? sched_configure(trained, file, request, ret_config, err)
                    : dr_fail(err, DR_ENOMEM, "out of memory for the training's values");
    json_decref(trained);
    json_decref(file);
    return r;
}

#endif
