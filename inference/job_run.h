/* job_run.h - a job from words to pictures: text, context, denoise, decode. See job_plan.h. */
#ifndef DR_INFERENCE_JOB_RUN_H
#define DR_INFERENCE_JOB_RUN_H

#include "inference/job_plan.h"

struct job_timing {
    double seconds[STAGE_COUNT];
    size_t tagged[DR_TAG_COUNT]; /* peak bytes of job and model by allocation tag while it ran */
};

/* Each picture goes to events->picture as soon as it is decoded. images[batch] are made too
 * (img_free them; none on failure), or NULL: one picture is held at a time, which is what a plan
 * counts. DR_ECANCELED when *stop was set; DR_ESTATE for a pipeline that is not loaded. */
int job_run(struct pipeline *p, struct job *job, const struct memory_plan *plan,
            const struct job_events *events, const atomic_int *stop, struct dr_image *images,
            struct job_timing *ret_timing, struct dr_error *err);

#endif
