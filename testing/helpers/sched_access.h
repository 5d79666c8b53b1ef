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

/* json NULL: no file. */
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
    if (!r)
        r = sched_configure(file, request, ret_config, err);
    json_decref(file);
    return r;
}

#endif
