/* model_folder.h - a small diffusers folder that loads, for tests to spoil or to vary.
 *
 *     folder_make();
 *     folder_set_key("unet/config.json", FOLDER_UNET, "act_fn", "\"gelu\"");
 *     folder_must_fail(DR_EINVAL, "act_fn");
 *
 * The texts of its files are without spaces. There is one at a time, below the test's own folder.
 */
#ifndef DR_TESTING_HELPERS_MODEL_FOLDER_H
#define DR_TESTING_HELPERS_MODEL_FOLDER_H

#include "testing/helpers/test.h"

#include "models/model_loader.h"

/* Members of its configurations, and what is to be read from them. */
#define FOLDER_UNET                                                                                \
    "\"_class_name\":\"UNet2DConditionModel\",\"_diffusers_version\":\"0.42.1\",\"act_fn\":"       \
    "\"silu\",\"addition_embed_type\":\"text_time\",\"addition_embed_type_num_heads\":64,"         \
    "\"addition_time_embed_dim\":16,\"attention_head_dim\":[2,3],\"block_out_channels\":[16,24],"  \
    "\"center_input_sample\":false,\"class_embed_type\":null,\"conv_in_kernel\":3,"                \
    "\"conv_out_kernel\":3,\"cross_attention_dim\":20,\"cross_attention_norm\":null,"              \
    "\"down_block_types\":[\"DownBlock2D\",\"CrossAttnDownBlock2D\"],\"downsample_padding\":1,"    \
    "\"dropout\":0.0,\"flip_sin_to_cos\":true,\"freq_shift\":0,\"in_channels\":4,"                 \
    "\"layers_per_block\":1,\"mid_block_scale_factor\":1,\"mid_block_type\":"                      \
    "\"UNetMidBlock2DCrossAttn\",\"norm_eps\":1e-05,\"norm_num_groups\":8,\"out_channels\":4,"     \
    "\"projection_class_embeddings_input_dim\":108,\"sample_size\":24,"                            \
    "\"transformer_layers_per_block\":[1,2],\"up_block_types\":[\"CrossAttnUpBlock2D\","           \
    "\"UpBlock2D\"],\"upcast_attention\":null,\"use_linear_projection\":true"
#define FOLDER_CLIP1                                                                               \
    "\"architectures\":[\"CLIPTextModel\"],\"hidden_act\":\"quick_gelu\",\"hidden_size\":8,"       \
    "\"intermediate_size\":12,\"num_attention_heads\":2,\"num_hidden_layers\":2,\"vocab_size\":"   \
    "30,"                                                                                          \
    "\"projection_dim\":8,\"model_type\":\"clip_text_model\",\"eos_token_id\":2"
#define FOLDER_CLIP2                                                                               \
    "\"architectures\":[\"CLIPTextModelWithProjection\"],\"hidden_act\":\"gelu\",\"hidden_size\":" \
    "12,\"intermediate_size\":20,\"num_attention_heads\":3,\"num_hidden_layers\":3,"               \
    "\"vocab_size\":30,\"projection_dim\":12,\"layer_norm_eps\":1e-06,\"eos_token_id\":29"
#define FOLDER_VAE                                                                                 \
    "\"_class_name\":\"AutoencoderKL\",\"block_out_channels\":[8,16],\"down_block_types\":["       \
    "\"DownEncoderBlock2D\",\"DownEncoderBlock2D\"],\"up_block_types\":[\"UpDecoderBlock2D\","     \
    "\"UpDecoderBlock2D\"],\"norm_num_groups\":4,\"layers_per_block\":1,\"scaling_factor\":0."     \
    "13025,"                                                                                       \
    "\"sample_size\":48,\"force_upcast\":true,\"latents_mean\":null"
#define FOLDER_INDEX                                                                               \
    "\"_class_name\":\"StableDiffusionXLPipeline\",\"text_encoder\":[\"transformers\","            \
    "\"CLIPTextModel\"],\"text_encoder_2\":[\"transformers\",\"CLIPTextModelWithProjection\"],"    \
    "\"unet\":[\"diffusers\",\"UNet2DConditionModel\"],\"vae\":[\"diffusers\",\"AutoencoderKL\"]"

extern const struct unet_arch folder_unet_arch;
extern const struct clip_arch folder_clip_arch[2];
extern const struct vae_arch folder_vae_arch;

/* A fresh one. */
void folder_make(void);
const char *folder_root(void);
const char *folder_path(const char *relative); /* one of 4 buffers in turn */

/* An object of these members and more (NULL: none). */
void folder_write(const char *relative, const char *members, const char *more);
/* The object with one key set to a value, both as JSON text; no library, so that tests of failing
 * allocations fail in the loader alone. */
void folder_set_key(const char *file, const char *members, const char *key, const char *value);

/* Weights: `cut` is a prefix taken off names, `old` replaced by `spelling`; NULL: neither. */
void folder_unet(const struct unet_arch *arch, const char *file);
void folder_clip(int which, const char *file, const char *cut);
void folder_vae(const char *file, const char *old, const char *spelling);
/* The UNet's in two files, with an index that says where its first two tensors are. */
void folder_shards(const char *first, const char *second, const char *index);

/* Opens it and loads all networks; the test fails when that does. */
struct checkpoint *folder_open(void);
int folder_load(struct checkpoint *c, struct dr_error *err);
/* Opens, loads without a warning, closes, leaves no block. */
void folder_must_load(void);
void folder_must_fail(int code, const char *words);

#endif
