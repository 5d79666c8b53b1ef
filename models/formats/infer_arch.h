/* infer_arch.h - the architecture of a single file's networks, read off names and shapes.
 *
 * What no tensor shows is the family's (models/family.h): how heads are counted, the encoders'
 * activations, the VAE's scaling factor; or the same in all families: 32 norm groups, epsilons,
 * time ids of 256 channels, heads of 64 channels in text encoders.
 */
#ifndef DR_MODELS_FORMATS_INFER_ARCH_H
#define DR_MODELS_FORMATS_INFER_ARCH_H

#include "models/family.h"
#include "models/formats/tensor_table.h"

/* Whether a table shows the same network as an architecture that is known from elsewhere: then what
 * no tensor shows is that one's. */
bool infer_is_unet(const struct tensor_table *t, const struct unet_arch *known);
bool infer_is_clip(const struct tensor_table *t, const struct clip_arch *known);
bool infer_is_vae(const struct tensor_table *t, const struct vae_arch *known);

/* `file` is for errors. DR_EFORMAT when tensors needed for this are missing or contradict each
 * other; DR_EUNSUPPORTED when there are more levels than Darkroom knows. pooled: width of the
 * pooled embedding, where the family has one. A VAE may lack its encoder. */
int infer_unet(const struct tensor_table *t, const struct family *family, int64_t pooled,
               const char *file, struct unet_arch *ret, struct dr_error *err);
int infer_clip(const struct tensor_table *t, const struct family_encoder *encoder, const char *file,
               struct clip_arch *ret, struct dr_error *err);
int infer_vae(const struct tensor_table *t, const struct family *family, const char *file,
              struct vae_arch *ret, struct dr_error *err);

#endif
