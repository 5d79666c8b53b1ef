/* job_plan.h - what a job will use, before anything is loaded or computed.
 *
 *     r = job_plan(p, &job, &budget, &events, &plan, err);
 *     r = memory_admit(&plan, err);
 *     r = pipeline_load(p, &options, err);
 *     r = job_run(p, &job, &plan, &events, &stop, NULL, &timing, err);
 *
 * The code of the run is walked on the plan backend (job_walk.h). That takes no weights, whose
 * sizes follow from their descriptors, and of pictures only their latents. All figures are the
 * job's and the model's own, whatever else the process does.
 */
#ifndef DR_INFERENCE_JOB_PLAN_H
#define DR_INFERENCE_JOB_PLAN_H

#include "inference/job.h"
#include "inference/memory_optimizer.h"
#include "inference/pipeline.h"

/* Tokenises the prompts, for the run too, and warns of them, each thing once; events may be NULL.
 * Files that stages are loaded from are compared with what the job needs, by their headers. */
int job_plan(struct pipeline *p, struct job *job, const struct memory_budget *budget,
             const struct job_events *events, struct memory_plan *ret_plan, struct dr_error *err);

#endif
