/* vae.h - the autoencoder between pictures and latents. Reference: diffusers AutoencoderKL and, for
 * tiny ones (TAESD, TAESDXL; models/vae_tiny.h), AutoencoderTiny. */
#ifndef DR_MODELS_VAE_H
#define DR_MODELS_VAE_H

#include "models/arch.h"
#include "models/params.h"

struct vae;

int vae_new(const struct vae_arch *arch, bool encoder, bool decoder, struct vae **ret,
            struct dr_error *err);
void vae_free(struct vae *v);
int vae_visit(void *vae, const struct visitor *v);
const struct vae_arch *vae_arch(const struct vae *v);
int64_t vae_factor(const struct vae *v);       /* pixels per latent, 8 for SDXL */
int64_t vae_moments(const struct vae_arch *a); /* channels that vae_encode gives */

/* latents [n, latent_channels, h, w] as the UNet sees them (scaled): divided by the scaling factor
 * inside. ret_image [n, out_channels, 8h, 8w], about -1..1, not clamped. (8: the factor of the
 * levels.) */
int vae_decode(struct vae *v, struct exec *x, const float *latents, int64_t n, int64_t h, int64_t w,
               float *ret_image, struct dr_error *err);
/* image [n, in_channels, h, w] in -1..1, h and w multiples of the factor. ret_moments [n,
 * vae_moments, h/8, w/8]: mean, then log variance (not clamped, not scaled); of a tiny one, which
 * has no distribution, the latents. Under the plan backend the pictures and latents of both may be
 * NULL. */
int vae_encode(struct vae *v, struct exec *x, const float *image, int64_t n, int64_t h, int64_t w,
               float *ret_moments, struct dr_error *err);

#endif
