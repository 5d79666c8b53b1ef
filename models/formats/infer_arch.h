/* infer_arch.h - the architecture of a single file's networks, read off names and shapes.
 *
 * What no tensor shows is taken from the SDXL release: 32 norm groups, heads of 64 channels,
 * epsilons, time ids of 256 channels, the encoders' activations, the VAE's scaling factor (its
 * diffusers config.json files say the same).
 */
#ifndef DR_MODELS_FORMATS_INFER_ARCH_H
#define DR_MODELS_FORMATS_INFER_ARCH_H

#include "models/arch.h"
#include "models/formats/tensor_table.h"

/* `file` is for errors. DR_EFORMAT when tensors needed for this are missing or contradict each
 * other; DR_EUNSUPPORTED when there are more levels than Darkroom knows. pooled: width of the
 * second encoder's projection. */
int infer_unet(const struct tensor_table *t, int64_t pooled, const char *file,
               struct unet_arch *ret, struct dr_error *err);
int infer_clip(const struct tensor_table *t, const char *file, struct clip_arch *ret,
               struct dr_error *err);
int infer_vae(const struct tensor_table *t, const char *file, struct vae_arch *ret,
              struct dr_error *err);

#endif
