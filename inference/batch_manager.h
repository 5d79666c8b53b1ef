/* batch_manager.h - rows of any jobs, through the network in forwards of at most so many.
 *
 * What goes together changes memory and speed, never bits (see unet.h), so the cut is free: the
 * most rows that the memory decided on for the run can hold.
 */
#ifndef DR_INFERENCE_BATCH_MANAGER_H
#define DR_INFERENCE_BATCH_MANAGER_H

#include "backend/backend.h"

struct unet;
struct unet_row;

/* Rows of one picture size h x w (latents), in order, at most `most` a forward. */
int batch_forward(struct unet *u, struct exec *x, const struct unet_row *rows, int n, int most,
                  int64_t h, int64_t w, struct dr_error *err);

#endif
