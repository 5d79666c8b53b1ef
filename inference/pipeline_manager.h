/* pipeline_manager.h - the models of an engine that stay loaded between jobs.
 *
 * A worker which alternates between a few models loads each once. A model is found by what was
 * opened: by its paths and backend, as long as they lead to the same files. Those not used for
 * longest are unloaded first, when there are more than PIPELINES_MOST or when a job needs their
 * memory; one that a job references stays until the reference is gone. The manager and its
 * pipelines belong to one thread.
 */
#ifndef DR_INFERENCE_PIPELINE_MANAGER_H
#define DR_INFERENCE_PIPELINE_MANAGER_H

#include "inference/pipeline.h"

enum { PIPELINES_MOST = 8 };

struct pipeline_manager;

int pipeline_manager_new(struct pipeline_manager **ret, struct dr_error *err);
void pipeline_manager_free(struct pipeline_manager *m);

/* The pipeline of that model on that backend, opened if need be, not loaded: a reference, for
 * pipeline_unref. */
int pipeline_manager_get(struct pipeline_manager *m, const struct model_spec *spec,
                         struct backend *be, const struct pipeline_options *options,
                         struct pipeline **ret, struct dr_error *err);
/* How that model's weights are stored; opens no more than its headers. */
int pipeline_manager_weights(const struct pipeline_manager *m, const struct model_spec *spec,
                             const atomic_int *stop, enum checkpoint_weights *ret,
                             struct dr_error *err);

/* What the models that no job references hold, but for `kept` (may be NULL): bytes in all, and
 * *ret_private of them (may be NULL) in private memory. */
size_t pipeline_manager_idle(const struct pipeline_manager *m, const struct pipeline *kept,
                             size_t *ret_private);
/* The same of those that jobs reference. */
size_t pipeline_manager_busy(const struct pipeline_manager *m, const struct pipeline *kept);
/* Unloads idle models, those not used for longest first, until they hold at most so many bytes. */
void pipeline_manager_trim(struct pipeline_manager *m, const struct pipeline *kept, size_t bytes);
/* Forgets one, or all: it is unloaded when no job references it any more. With all of them the
 * block that jobs keep for their workspaces is given back (dr_alloc_keep). */
void pipeline_manager_forget(struct pipeline_manager *m, struct pipeline *p);
void pipeline_manager_clear(struct pipeline_manager *m);

#endif
