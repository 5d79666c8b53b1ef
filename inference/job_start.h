/* job_start.h - the latents that the pictures of a job begin with, where it begins with a picture:
 * a draw from its encoding and noise for each, from the generator that goes on in the run. */
#ifndef DR_INFERENCE_JOB_START_H
#define DR_INFERENCE_JOB_START_H

#include "inference/job_denoise.h"

struct job_start {
    float *clean, *noise; /* [batch, channels, h, w]; NULL: the job begins with noise alone */
    float *spare;         /* of one picture */
    struct dr_rng rng[JOB_BATCH];
    bool pure; /* the run begins with the noise alone */
};

/* Memory only on a plan. Its stages, "init_latents" and "noise", are replaced and written. */
int job_start_init(struct job_start *s, const struct job_denoise *d, bool planning,
                   struct dr_error *err);
void job_start_release(struct job_start *s);

#endif
