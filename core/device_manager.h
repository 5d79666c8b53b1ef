/* device_manager.h - the machine as the engine sees it: kernel sets, threads, memory, and backends
 * opened on demand.
 *
 * One backend for each kernel set and precision, kept open once made. Not thread-safe but
 * for device_manager_json. */
#ifndef DR_CORE_DEVICE_MANAGER_H
#define DR_CORE_DEVICE_MANAGER_H

#include <jansson.h>

#include "backend/backend.h"

struct device_manager;

/* kernels: the set that "auto" means, NULL for the best of this machine; threads 0: all this
 * process may use. */
int device_manager_new(const char *kernels, int threads, struct device_manager **ret,
                       struct dr_error *err);
void device_manager_free(struct device_manager *m);

/* The backend of a kernel set by name or "auto" that computes in that precision, borrowed.
 * DR_EINVAL names those that this machine has. */
int device_manager_backend(struct device_manager *m, const char *kernels, enum precision precision,
                           struct backend **ret, struct dr_error *err);

/* Whether device_manager_backend would refuse them, without timing kernels: where the machine
 * decides the set, those of that precision are there. */
int device_manager_check(struct device_manager *m, const char *kernels, enum precision precision,
                         struct dr_error *err);

/* The set of that name, "auto" being the configured one, is for models with 8-bit
 * weights: for others it computes what a 16-bit set does. Its name, or NULL. */
const char *device_manager_int8_set(const struct device_manager *m, const char *kernels);

/* Whether "auto" may mean a kernel set of that precision: this machine has one, and the manager
 * has no configured set. */
bool device_manager_computes(const struct device_manager *m, enum precision precision);

/* {"devices":[{"name","kind","threads","kernel_sets":[{"name","usable","precision"}],
 * "default_kernels","layout","memory_bytes","available_bytes","limit":{"bytes","source"}}]}; new
 * reference, NULL when memory is short. */
json_t *device_manager_json(const struct device_manager *m);

#endif
