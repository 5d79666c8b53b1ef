/* batch_manager.h - drives pictures in flight: the rows of all that have the same network, variant
 * of its weights and size go through the UNet together, in forwards of at most so many rows.
 *
 * What goes together changes memory and speed, never bits (see unet.h), so pictures of different
 * prompts, steps, samplers and scales share forwards, and join and leave between steps.
 */
#ifndef DR_INFERENCE_BATCH_MANAGER_H
#define DR_INFERENCE_BATCH_MANAGER_H

#include <stdbool.h>

#include "backend/backend.h"

struct batch;
struct denoise;

/* most: rows of one forward. */
int batch_new(int most, struct batch **ret, struct dr_error *err);
void batch_free(struct batch *b); /* the pictures stay */

/* Borrows the picture until it is removed or finished. */
int batch_add(struct batch *b, struct denoise *picture, struct dr_error *err);
void batch_remove(struct batch *b, struct denoise *picture); /* nothing if it is not there */

/* Where a step may be watched, or parts of it replaced; any may be NULL. A negative result ends the
 * step with it. */
struct batch_hooks {
    /* The model inputs are there. *skip_forward: the predictions need not be computed. */
    int (*input)(void *ctx, bool *skip_forward, struct dr_error *err);
    int (*pred)(void *ctx, struct dr_error *err);    /* the guided predictions are there */
    int (*latents)(void *ctx, struct dr_error *err); /* the latents are those of the next level */
    void *ctx;
};

/* One evaluation of every picture; finished ones leave before it. *ret_stepped is how many made it,
 * 0 at the end. x's workspace is the batch's alone. After a failure before the advance
 * (DR_ECANCELED, a forward that fails) all are where they were and may be stepped again; after a
 * hook that fails they may not. *ret_failed is the picture that failed, or NULL; it has left the
 * batch. Either its prediction is not finite (DR_EFORMAT), and the others are where they were, or
 * its sampler does not end or finds no next step (DR_ELIMIT, DR_EINVAL), and the others have made
 * the step. */
int batch_step(struct batch *b, struct exec *x, const struct batch_hooks *hooks, int *ret_stepped,
               struct denoise **ret_failed, struct dr_error *err);

/* The forwards of a step alone, which leave every picture where it was: what a plan measures. */
int batch_forward(struct batch *b, struct exec *x, struct dr_error *err);

#endif
