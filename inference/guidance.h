/* guidance.h - classifier-free guidance (Ho and Salimans 2022) and the guiders beside it
 * (guiders/guiders.h) as pure functions; they never call the model. */
#ifndef DR_INFERENCE_GUIDANCE_H
#define DR_INFERENCE_GUIDANCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "schedulers/base_scheduler.h"

struct guiders;
struct unet_conditioning;
struct unet_row;

struct guidance {
    double scale;   /* <= 1: off, unless uncond is set */
    bool uncond;    /* the sampler needs the unconditional prediction: both rows, at any scale */
    double rescale; /* share of the prediction whose deviation is drawn back (Lin et al. 2023,
                       section 3.4) */
    const struct guiders *guiders; /* NULL: none */
    const struct unet_conditioning *negative, *positive;
};

/* Most rows that an evaluation of one picture has, and whether the negative one is ever among them.
 */
int guidance_rows(const struct guidance *g);
bool guidance_negative(const struct guidance *g);

/* The rows that answer `ask`: negative first. predictions [rows, n] are where they will be written.
 * Returns how many. With ask->steps 0, of an unknown number, all there may be. */
int guidance_expand(const struct guidance *g, const struct sched_ask *ask, float *predictions,
                    size_t n, struct unet_row *ret_rows);

/* The unconditional prediction among predictions [rows, n]; NULL where the sampler needs none. */
const float *guidance_uncond(const struct guidance *g, const float *predictions);

/* Whether further parts of a prompt may follow the rows: both rows are there at every evaluation,
 * and no guider has one of its own. */
bool guidance_composes(const struct guidance *g);

/* What guiders keep of a picture: `state` arrays of n floats, to be saved with it, and all that
 * combining needs, `memory`, whose first arrays are the state. Zeros at first. */
int guidance_state(const struct guidance *g);
int guidance_memory(const struct guidance *g);

/* One evaluation that was answered. */
struct guidance_at {
    const struct sched_ask *ask;
    const float *predictions; /* [rows, n] */
    size_t n;
    int64_t channels;
    struct sched_weights clean; /* of the clean picture in ask->x and a prediction */
    float *memory;              /* [guidance_memory, n]; NULL where that is 0 */
};

/* The predictions to one, ret_pred [n]: negative + scale (positive - negative), rescaled by the
 * unbiased standard deviation of the sample. Reference: diffusers rescale_noise_cfg. The state
 * stays as it is until guidance_advance. */
void guidance_combine(const struct guidance *g, const struct guidance_at *at, float *ret_pred);
void guidance_advance(const struct guidance *g, size_t n, float *memory);

#endif
