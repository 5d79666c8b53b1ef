/* guidance.h - classifier-free guidance (Ho and Salimans 2022) as two pure functions; it never
 * calls the model. */
#ifndef DR_INFERENCE_GUIDANCE_H
#define DR_INFERENCE_GUIDANCE_H

#include <stdbool.h>
#include <stddef.h>

#include "schedulers/base_scheduler.h"

struct unet_conditioning;
struct unet_row;

struct guidance {
    double scale;   /* <= 1: off, unless uncond is set */
    bool uncond;    /* the sampler needs the unconditional prediction: both rows, at any scale */
    double rescale; /* share of the prediction whose deviation is drawn back (Lin et al. 2023,
                       section 3.4) */
    const struct unet_conditioning *negative, *positive;
};

int guidance_rows(const struct guidance *g); /* rows of one picture: 2 or 1 */

/* The rows that answer `ask`: negative first. predictions [rows, n] are where they will be written.
 */
void guidance_expand(const struct guidance *g, const struct sched_ask *ask, float *predictions,
                     size_t n, struct unet_row *ret_rows);

/* The unconditional prediction among predictions [rows, n]; NULL where it was not asked for. */
const float *guidance_uncond(const struct guidance *g, const float *predictions);

/* predictions [rows, n] to one, ret_pred [n]: negative + scale (positive - negative), rescaled by
 * the unbiased standard deviation of the sample. Reference: diffusers rescale_noise_cfg. */
void guidance_combine(const struct guidance *g, const float *predictions, size_t n,
                      float *ret_pred);

#endif
