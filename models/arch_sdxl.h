/* arch_sdxl.h - SDXL base 1.0, as the config.json files of stabilityai/stable-diffusion-xl-base-1.0
 * describe it: for benchmarks and tests at full size. Loading a model never reads it. */
#ifndef DR_MODELS_ARCH_SDXL_H
#define DR_MODELS_ARCH_SDXL_H

#include "models/arch.h"

extern const struct unet_arch arch_sdxl_unet;
extern const struct vae_arch arch_sdxl_vae;
extern const struct vae_arch arch_sdxl_vae_tiny; /* madebyollin/taesdxl */
extern const struct clip_arch arch_sdxl_text[2];

#endif
