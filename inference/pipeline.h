/* pipeline.h - a job from words to pictures: text, context, denoise, decode.
 *
 *     job_plan(p, &job, baseline, limit, &events, &plan, err); what it will use, what follows
 *     job_run(p, &job, &plan, &events, &stop, NULL, &timing, err);
 *
 * Both walk the same code; planning walks it on the plan backend. Each stage has one workspace of
 * the planned size, made before and given back after it. Planning takes no memory of the size of a
 * picture.
 */
#ifndef DR_INFERENCE_PIPELINE_H
#define DR_INFERENCE_PIPELINE_H

#include "inference/job.h"
#include "inference/memory_optimizer.h"
#include "inference/pipeline_manager.h"

/* baseline: resident bytes that are neither tagged allocations nor weights. limit: bytes, 0 for
 * what is free. The prompts are read here first, so this is what warns of them, each thing once;
 * events may be NULL. */
int job_plan(struct pipeline *p, const struct job *job, size_t baseline, size_t limit,
             const struct job_events *events, struct memory_plan *ret_plan, struct dr_error *err);

struct job_timing {
    double seconds[STAGE_COUNT];
    size_t tagged[DR_TAG_COUNT]; /* peak bytes by allocation tag while it ran */
};

/* Each picture goes to events->picture as soon as it is decoded. images[batch] are made too
 * (img_free them; none on failure), or NULL: one picture is held at a time, which is what a plan
 * counts. DR_ECANCELED when *stop was set. */
int job_run(struct pipeline *p, const struct job *job, const struct memory_plan *plan,
            const struct job_events *events, const atomic_int *stop, struct dr_image *images,
            struct job_timing *ret_timing, struct dr_error *err);

#endif
