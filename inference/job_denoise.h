/* job_denoise.h - the pictures of one job, denoised in step: one object each, all in one batch.
 *
 * Stages are arrays over the batch, so dumping and loading them hangs here and not on the pictures.
 */
#ifndef DR_INFERENCE_JOB_DENOISE_H
#define DR_INFERENCE_JOB_DENOISE_H

#include "inference/job.h"

struct denoise_phase;
struct exec;
struct vae;

struct job_denoise {
    const struct job *job;
    const struct denoise_phase *phases;
    int n_phases;
    int rows; /* most rows of one forward */
    const struct vae *encoder;
    const float *moments;   /* what it gave of the picture to begin with; NULL: none */
    int64_t channels, h, w; /* of the latents */
};

/* Runs all evaluations; ret_latents [batch, channels, h, w]: the last latents, in the sampler's own
 * parametrisation. On a plan backend it runs the forwards of one evaluation, which take the memory
 * and the work of any other, and touches no stage; ret_latents are zeros then and stay so.
 * DR_EFORMAT when a prediction is not finite. */
int job_denoise_run(const struct job_denoise *d, struct exec *x, const struct job_events *events,
                    float *ret_latents, struct dr_error *err);

#endif
