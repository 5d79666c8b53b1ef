/* config_arch.h - architectures from the config.json files of a diffusers folder.
 *
 * Every key that changes the arithmetic is either read or must have the one value that Darkroom
 * computes; an error names file, key and that value. Keys that nobody knows are reported through
 * `unknown`, not refused: newer libraries write more of them. A key that is absent has the default
 * of the class. Reference: diffusers 0.42 UNet2DConditionModel and AutoencoderKL, transformers
 * CLIPTextConfig.
 */
#ifndef DR_MODELS_FORMATS_CONFIG_ARCH_H
#define DR_MODELS_FORMATS_CONFIG_ARCH_H

#include <jansson.h>

#include "base/error.h"
#include "models/arch.h"

/* Called with each unknown key; a negative return is an error. NULL: not called. */
struct config_unknown {
    int (*found)(void *ctx, const char *file, const char *key);
    void *ctx;
};

/* `file` names the config in errors ("unet/config.json"). added: the family adds pooled text and
 * time ids to the time embedding. pooled and time ids are worked out by the
 * caller from *ret_added, projection_class_embeddings_input_dim. */
int config_unet(const json_t *config, const char *file, bool added,
                const struct config_unknown *unknown, struct unet_arch *ret, int64_t *ret_added,
                struct dr_error *err);
/* *ret_projects: 1 and 0 as "architectures" says, -1 when it is absent; ret->projection is
 * projection_dim. */
int config_clip(const json_t *config, const char *file, const struct config_unknown *unknown,
                struct clip_arch *ret, int *ret_projects, struct dr_error *err);
/* AutoencoderKL or AutoencoderTiny, as "_class_name" says. */
int config_vae(const json_t *config, const char *file, const struct config_unknown *unknown,
               struct vae_arch *ret, struct dr_error *err);

#endif
