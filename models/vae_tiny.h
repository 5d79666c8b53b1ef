/* vae_tiny.h - a tiny autoencoder: convolutions and ReLU alone, a twentieth of a VAE's work, for
 * quick pictures. Used through models/vae.h.
 *
 * Reference: diffusers AutoencoderTiny (EncoderTiny, DecoderTiny, AutoencoderTinyBlock); Ollin
 * Boer Bohan's TAESD and TAESDXL.
 */
#ifndef DR_MODELS_VAE_TINY_H
#define DR_MODELS_VAE_TINY_H

#include "models/arch.h"
#include "models/params.h"

struct vae_tiny; /* one block: dr_free it, after params_unprepare */

int vae_tiny_new(const struct vae_arch *arch, bool encoder, bool decoder, struct vae_tiny **ret,
                 struct dr_error *err);
bool vae_tiny_has(const struct vae_tiny *t, bool encoder);
int vae_tiny_visit(struct vae_tiny *t, const struct visitor *v);

/* One sample: latents [latent_channels, h, w], which are used up, to a picture about -1..1
 * [out_channels, fh, fw], f the factor of the levels, and back. */
int vae_tiny_decode(const struct vae_tiny *t, struct exec *x, float *latent, int64_t h, int64_t w,
                    float *ret_image, struct dr_error *err);
int vae_tiny_encode(const struct vae_tiny *t, struct exec *x, const float *image, int64_t h,
                    int64_t w, float *ret_latent, struct dr_error *err);

#endif
