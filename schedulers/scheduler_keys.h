/* scheduler_keys.h - keys of a scheduler_config.json, as their readers see them. Included by files
 * of schedulers/ only. */
#ifndef DR_SCHEDULERS_SCHEDULER_KEYS_H
#define DR_SCHEDULERS_SCHEDULER_KEYS_H

#include <jansson.h>
#include <stddef.h>

#include "base/error.h"
#include "schedulers/scheduler_factory.h"

#define SCHED_FILE_NAME "scheduler_config.json"

/* "scheduler_config.json: KEY: got ..., expected ...". */
int sched_key_error(int code, const char *key, const char *got, const char *expected,
                    const char *hint, struct dr_error *err);

/* DR_EUNSUPPORTED for a key whose value is none of those that are done. */
int sched_keys_fixed(const json_t *file, const struct sched_fixed_key *fixed, struct dr_error *err);

/* A string key that names one of n things; absent: *ret_index stays. */
int sched_key_name(const json_t *file, const char *key, const char *const *names, size_t n,
                   int *ret_index, struct dr_error *err);

#endif
