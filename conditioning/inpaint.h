/* inpaint.h - masks of a picture as masks of its latents, and what stands in their place at the
 * beginning.
 *
 * References: diffusers StableDiffusionXLInpaintPipeline (masks that are cut at one half, nearest);
 * diffusers' community pipeline for differential image to image, Levin and Fried 2023
 * (arXiv 2306.00950), for grey ones, averaged; A1111's "masked content" for the fillings.
 */
#ifndef DR_CONDITIONING_INPAINT_H
#define DR_CONDITIONING_INPAINT_H

#include <stdbool.h>

#include "base/image/image.h"

/* What is to be drawn anew: the picture itself, its surroundings drawn out over it, noise, or
 * zeros. */
enum inpaint_fill { INPAINT_ORIGINAL, INPAINT_FILL, INPAINT_NOISE, INPAINT_NOTHING };

/* mask: of a picture, of factor times the size. ret [h, w]: 1 where the latents are drawn anew;
 * soft: in between too. */
void inpaint_latent_mask(const struct dr_image *mask, int64_t factor, bool soft, float *ret);

/* Draws out what is around the mask over what is in it, in place. DR_ENOMEM. */
int inpaint_draw_out(struct dr_image *picture, const struct dr_image *mask, struct dr_error *err);

#endif
