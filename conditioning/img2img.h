/* img2img.h - a picture to begin with: from its bytes to the latents that a run starts from.
 *
 * Reference: diffusers StableDiffusionImg2ImgPipeline and StableDiffusionXLImg2ImgPipeline. The
 * generator of a picture draws from the posterior of the encoder first, then the noise.
 */
#ifndef DR_CONDITIONING_IMG2IMG_H
#define DR_CONDITIONING_IMG2IMG_H

#include "base/image/image.h"
#include "base/rng.h"
#include "models/arch.h"

/* The step that a run of so many begins with; `steps` where none is left. */
int img2img_first_step(int steps, double strength);

/* An edge in pixels of a picture made from one: a multiple of `factor`, not larger. */
int64_t img2img_edge(int64_t pixels, int64_t factor);

/* Bytes of an RGB picture to planes [3, h, w] of -1..1. */
void img2img_planes(const struct dr_image *image, float *ret_planes);

/* What the encoder gave [vae_moments, n] to latents as the UNet sees them [latent_channels, n]: a
 * draw from the distribution (a tiny autoencoder has none: its latents), scaled. */
void img2img_latents(const struct vae_arch *a, const float *moments, size_t n, struct dr_rng *rng,
                     float *ret_latents);

#endif
