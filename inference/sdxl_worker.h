/* sdxl_worker.h - the plain text-to-image worker: its request becomes a job. */
#ifndef DR_INFERENCE_SDXL_WORKER_H
#define DR_INFERENCE_SDXL_WORKER_H

#include "core/communication/request.h"
#include "inference/job.h"
#include "inference/pipeline_manager.h"

/* Everything decided: defaults of the model and of the table, a seed drawn if none was given, sizes
 * checked. The job keeps nothing of the request but its load_stage map (borrowed). DR_EINVAL names
 * the field; DR_EUNSUPPORTED for what this build does not do. job_release takes it back. */
int sdxl_job(const struct request *q, const struct pipeline *p, struct job *ret,
             struct dr_error *err);

/* The same, but with a list it goes on after an error, judges everything, and makes a job only if
 * the list has not grown: *ret_made. p may then be NULL, for a model that cannot be had: what
 * depends on it is not judged, nor what depends on a field that is wrong. */
int sdxl_job_all(const struct request *q, const struct pipeline *p, struct error_list *list,
                 struct job *ret, bool *ret_made, struct dr_error *err);
void job_release(struct job *job);

#endif
