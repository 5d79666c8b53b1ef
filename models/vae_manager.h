/* vae_manager.h - decoding and encoding large pictures in overlapping tiles.
 *
 * A blended decode gives other bits than a whole one, so whether it happens is a parameter with an
 * effective value that receipts name, decided by the picture's size or the request before the job
 * starts; never by what memory happens to be free.
 *
 *     struct vae_tiling how = vae_tiling_effective(wanted, v, h, w);
 *     r = vae_manager_decode(v, x, how, latents, n, h, w, image, err);
 *
 * Reference: diffusers AutoencoderKL.tiled_decode and tiled_encode (overlap a quarter of a tile,
 * linear ramps).
 */
#ifndef DR_MODELS_VAE_MANAGER_H
#define DR_MODELS_VAE_MANAGER_H

#include "models/vae.h"

enum vae_tiling_mode { VAE_TILING_AUTO, VAE_TILING_OFF, VAE_TILING_ON };

enum {
    VAE_TILE = 128, /* latents a side; diffusers' value for SDXL (sample_size 1024) */
    VAE_TILE_MIN = 8,
    VAE_TILE_MAX = 4096,
    VAE_TILING_PIXELS = 2 * 1024 * 1024, /* auto: pictures above this are tiled */
};

struct vae_tiling {
    enum vae_tiling_mode mode;
    int64_t tile; /* latents a side, a multiple of 4; 0: VAE_TILE */
};

/* mode ON or OFF, tile filled in. OFF when one tile holds the picture. h, w: latents. */
struct vae_tiling vae_tiling_effective(struct vae_tiling wanted, const struct vae *v, int64_t h,
                                       int64_t w);

/* Host memory (DR_TAG_JOB) that a tiled decode takes, 0 for a whole one. */
size_t vae_manager_bytes(const struct vae *v, struct vae_tiling how, int64_t h, int64_t w);

/* The same of an encode. */
size_t vae_manager_encode_bytes(const struct vae *v, struct vae_tiling how, int64_t h, int64_t w);

/* vae_decode, tiled if vae_tiling_effective(how) says so. */
int vae_manager_decode(struct vae *v, struct exec *x, struct vae_tiling how, const float *latents,
                       int64_t n, int64_t h, int64_t w, float *ret_image, struct dr_error *err);
/* vae_encode likewise: image [n, in_channels, 8h, 8w], h and w in latents. */
int vae_manager_encode(struct vae *v, struct exec *x, struct vae_tiling how, const float *image,
                       int64_t n, int64_t h, int64_t w, float *ret_moments, struct dr_error *err);

#endif
