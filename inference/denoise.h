/* denoise.h - the one loop: the scheduler is asked where to look, the model looks, the scheduler is
 * told what it saw.
 *
 * All pictures of a batch go in step, each with its own scheduler object and generator. Guidance
 * makes rows out of questions and predictions out of rows; cancel, progress and stages hang on the
 * loop here and nowhere else.
 */
#ifndef DR_INFERENCE_DENOISE_H
#define DR_INFERENCE_DENOISE_H

#include "inference/guidance.h"
#include "inference/job.h"

struct exec;
struct unet;

struct denoise {
    struct unet *unet;
    struct exec *x;
    const struct job *job;
    struct guidance guidance;
    int rows;               /* most rows of one forward */
    int64_t channels, h, w; /* of the latents */
};

/* Draws the initial noise and runs all evaluations; ret_latents [batch, channels, h, w]: the last
 * latents, in the sampler's own parametrisation. DR_EFORMAT when a prediction is not finite. On a
 * plan backend: allocates the same, runs a forward of `rows` rows, as many of them positive as can
 * be, and where these are one more than the negative ones a second with one less. So
 * denoise_planned_rows rows are run, as many of either kind. (What rows of a picture share is
 * counted as in these; a last forward of fewer rows may share a little more or less.) */
int denoise_run(const struct denoise *d, const struct job_events *events, float *ret_latents,
                struct dr_error *err);
int denoise_planned_rows(const struct denoise *d);

#endif
