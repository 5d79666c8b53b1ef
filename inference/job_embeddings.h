/* job_embeddings.h - the textual inversions of a job: read from open files, for the pipeline's text
 * encoders. What they hold is the job's memory. */
#ifndef DR_INFERENCE_JOB_EMBEDDINGS_H
#define DR_INFERENCE_JOB_EMBEDDINGS_H

#include "inference/pipeline.h"

struct job;

/* Adds the file of descriptor `fd`, which stays the caller's. `token`: its word in prompts, NULL:
 * the file's name. `sha256` of a receipt, "": any; DR_EINVAL when the file has another. */
int job_add_embedding(struct job *job, const struct pipeline *p, int fd, const char *path,
                      const char *token, const char *sha256, struct dr_error *err);

/* After the last one: they are words of the job's prompts from now on. */
int job_fit_embeddings(struct job *job, const struct pipeline *p,
                       void (*warning)(void *ctx, const char *text), void *ctx,
                       struct dr_error *err);

#endif
