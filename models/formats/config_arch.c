/* config_arch.c - see config_arch.h. */
#include "models/formats/config_arch.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "models/formats/config_keys.h"

enum { WIDEST = 1 << 20, DEEPEST = 256 };

static const struct config_key unet_keys[] = {
    { .key = "sample_size", .rule = CONFIG_READ },
    { .key = "in_channels", .rule = CONFIG_READ },
    { .key = "out_channels", .rule = CONFIG_READ },
    { .key = "flip_sin_to_cos", .rule = CONFIG_READ },
    { .key = "freq_shift", .rule = CONFIG_READ },
    { .key = "down_block_types", .rule = CONFIG_READ },
    { .key = "mid_block_type", .rule = CONFIG_READ },
    { .key = "up_block_types", .rule = CONFIG_READ },
    { .key = "block_out_channels", .rule = CONFIG_READ },
    { .key = "layers_per_block", .rule = CONFIG_READ },
    { .key = "norm_num_groups", .rule = CONFIG_READ },
    { .key = "norm_eps", .rule = CONFIG_READ },
    { .key = "cross_attention_dim", .rule = CONFIG_READ },
    { .key = "transformer_layers_per_block", .rule = CONFIG_READ },
    { .key = "reverse_transformer_layers_per_block", .rule = CONFIG_READ },
    { .key = "attention_head_dim", .rule = CONFIG_READ },
    { .key = "use_linear_projection", .rule = CONFIG_READ },
    { .key = "addition_time_embed_dim", .rule = CONFIG_READ },
    { .key = "time_embedding_dim", .rule = CONFIG_READ },
    { .key = "projection_class_embeddings_input_dim", .rule = CONFIG_READ },
    { .key = "addition_embed_type", .rule = CONFIG_READ },
    { .key = "act_fn", .rule = CONFIG_TEXT, .text = "silu|swish" },
    { .key = "resnet_time_scale_shift", .rule = CONFIG_TEXT, .text = "default" },
    { .key = "time_embedding_type", .rule = CONFIG_TEXT, .text = "positional" },
    { .key = "attention_type", .rule = CONFIG_TEXT, .text = "default" },
    { .key = "downsample_padding", .rule = CONFIG_NUMBER, .number = 1 },
    { .key = "mid_block_scale_factor", .rule = CONFIG_NUMBER, .number = 1 },
    { .key = "resnet_out_scale_factor", .rule = CONFIG_NUMBER, .number = 1 },
    { .key = "conv_in_kernel", .rule = CONFIG_NUMBER, .number = 3 },
    { .key = "conv_out_kernel", .rule = CONFIG_NUMBER, .number = 3 },
    { .key = "center_input_sample", .rule = CONFIG_FALSE },
    { .key = "only_cross_attention", .rule = CONFIG_FALSE },
    { .key = "mid_block_only_cross_attention", .rule = CONFIG_FALSE },
    { .key = "dual_cross_attention", .rule = CONFIG_FALSE },
    { .key = "resnet_skip_time_act", .rule = CONFIG_FALSE },
    { .key = "class_embeddings_concat", .rule = CONFIG_FALSE },
    { .key = "num_attention_heads", .rule = CONFIG_NULL },
    { .key = "encoder_hid_dim", .rule = CONFIG_NULL },
    { .key = "encoder_hid_dim_type", .rule = CONFIG_NULL },
    { .key = "class_embed_type", .rule = CONFIG_NULL },
    { .key = "num_class_embeds", .rule = CONFIG_NULL },
    { .key = "time_embedding_act_fn", .rule = CONFIG_NULL },
    { .key = "timestep_post_act", .rule = CONFIG_NULL },
    { .key = "time_cond_proj_dim", .rule = CONFIG_NULL },
    { .key = "cross_attention_norm", .rule = CONFIG_NULL },
    { .key = "quantization_config", .rule = CONFIG_NULL },
    { .key = "dropout", .rule = CONFIG_NO_EFFECT },
    { .key = "upcast_attention", .rule = CONFIG_NO_EFFECT },
    { .key = "addition_embed_type_num_heads", .rule = CONFIG_NO_EFFECT }, /* of type "text" alone */
    { 0 },
};

static const struct config_key vae_keys[] = {
    { .key = "in_channels", .rule = CONFIG_READ },
    { .key = "out_channels", .rule = CONFIG_READ },
    { .key = "latent_channels", .rule = CONFIG_READ },
    { .key = "block_out_channels", .rule = CONFIG_READ },
    { .key = "layers_per_block", .rule = CONFIG_READ },
    { .key = "norm_num_groups", .rule = CONFIG_READ },
    { .key = "scaling_factor", .rule = CONFIG_READ },
    { .key = "use_quant_conv", .rule = CONFIG_READ },
    { .key = "use_post_quant_conv", .rule = CONFIG_READ },
    { .key = "mid_block_add_attention", .rule = CONFIG_READ },
    { .key = "down_block_types", .rule = CONFIG_READ },
    { .key = "up_block_types", .rule = CONFIG_READ },
    { .key = "act_fn", .rule = CONFIG_TEXT, .text = "silu|swish" },
    { .key = "shift_factor", .rule = CONFIG_NULL },
    { .key = "latents_mean", .rule = CONFIG_READ },
    { .key = "latents_std", .rule = CONFIG_READ },
    { .key = "quantization_config", .rule = CONFIG_NULL },
    { .key = "sample_size", .rule = CONFIG_NO_EFFECT },
    { .key = "force_upcast", .rule = CONFIG_NO_EFFECT },
    { 0 },
};

static const struct config_key tiny_keys[] = {
    { .key = "in_channels", .rule = CONFIG_READ },
    { .key = "out_channels", .rule = CONFIG_READ },
    { .key = "latent_channels", .rule = CONFIG_READ },
    { .key = "encoder_block_out_channels", .rule = CONFIG_READ },
    { .key = "decoder_block_out_channels", .rule = CONFIG_READ },
    { .key = "num_encoder_blocks", .rule = CONFIG_READ },
    { .key = "num_decoder_blocks", .rule = CONFIG_READ },
    { .key = "scaling_factor", .rule = CONFIG_READ },
    { .key = "act_fn", .rule = CONFIG_TEXT, .text = "relu" },
    { .key = "upsample_fn", .rule = CONFIG_TEXT, .text = "nearest" },
    { .key = "upsampling_scaling_factor", .rule = CONFIG_NUMBER, .number = 2 },
    { .key = "shift_factor", .rule = CONFIG_NUMBER, .number = 0 },
    { .key = "quantization_config", .rule = CONFIG_NULL },
    { .key = "block_out_channels", .rule = CONFIG_NO_EFFECT }, /* the encoder's, again */
    { .key = "latent_magnitude", .rule = CONFIG_NO_EFFECT },   /* of latents stored as pictures */
    { .key = "latent_shift", .rule = CONFIG_NO_EFFECT },
    { .key = "force_upcast", .rule = CONFIG_NO_EFFECT },
    { 0 },
};

static const struct config_key clip_keys[] = {
    { .key = "architectures", .rule = CONFIG_READ },
    { .key = "vocab_size", .rule = CONFIG_READ },
    { .key = "hidden_size", .rule = CONFIG_READ },
    { .key = "intermediate_size", .rule = CONFIG_READ },
    { .key = "projection_dim", .rule = CONFIG_READ },
    { .key = "num_hidden_layers", .rule = CONFIG_READ },
    { .key = "num_attention_heads", .rule = CONFIG_READ },
    { .key = "max_position_embeddings", .rule = CONFIG_READ },
    { .key = "hidden_act", .rule = CONFIG_READ },
    { .key = "layer_norm_eps", .rule = CONFIG_READ },
    { .key = "bos_token_id", .rule = CONFIG_READ },
    { .key = "eos_token_id", .rule = CONFIG_READ },
    { .key = "model_type", .rule = CONFIG_TEXT, .text = "clip_text_model" },
    { .key = "quantization_config", .rule = CONFIG_NULL },
    { .key = "pad_token_id", .rule = CONFIG_NO_EFFECT }, /* padding is the tokenizer's */
    { .key = "attention_dropout", .rule = CONFIG_NO_EFFECT },
    { .key = "dropout", .rule = CONFIG_NO_EFFECT },
    { .key = "initializer_range", .rule = CONFIG_NO_EFFECT },
    { .key = "initializer_factor", .rule = CONFIG_NO_EFFECT },
    { .key = "torch_dtype", .rule = CONFIG_NO_EFFECT },
    { .key = "dtype", .rule = CONFIG_NO_EFFECT },
    { .key = "transformers_version", .rule = CONFIG_NO_EFFECT },
    { 0 },
};

/* ---- lists ---- */

/* An array of n integers from 1 up, or one integer that holds for all. */
static int int_list(const json_t *config, const char *file, const char *key, int n, int64_t max,
                    int64_t *ret, struct dr_error *err)
{
    const json_t *value = json_object_get(config, key);
    if (json_is_array(value) && json_array_size(value) != (size_t)n)
        return config_bad(config, file, key, "one number for each of block_out_channels", err);
    for (int i = 0; i < n; i++) {
        const json_t *v = json_is_array(value) ? json_array_get(value, (size_t)i) : value;
        if (!json_is_integer(v) || json_integer_value(v) < 1 || json_integer_value(v) > max)
            return config_bad(config, file, key, "positive integers", err);
        ret[i] = json_integer_value(v);
    }
    return 0;
}

/* block_out_channels, which also tells how many levels there are. */
static int level_channels(const json_t *config, const char *file, int *ret_levels, int64_t *ret,
                          struct dr_error *err)
{
    const char *key = "block_out_channels";
    const json_t *value = json_object_get(config, key);
    size_t n = json_array_size(value);
    if (!n || n > ARCH_LEVELS)
        return config_bad(config, file, key, "1 to 6 levels", err);
    *ret_levels = (int)n;
    return int_list(config, file, key, (int)n, WIDEST, ret, err);
}

/* An array of `n` names, each `plain` or (if not NULL) `attends`. */
static int block_types(const json_t *config, const char *file, const char *key, int n,
                       const char *plain, const char *attends, bool *ret_attends,
                       struct dr_error *err)
{
    const json_t *value = json_object_get(config, key);
    char expected[160];
    snprintf(expected, sizeof expected, "%d of \"%s\"%s%s%s", n, plain, attends ? " or \"" : "",
             attends ? attends : "", attends ? "\"" : "");
    bool good = json_is_array(value) && json_array_size(value) == (size_t)n;
    for (int i = 0; i < n && good; i++) {
        const char *type = json_string_value(json_array_get(value, (size_t)i));
        bool attending = type && attends && !strcmp(type, attends);
        good = type && (attending || !strcmp(type, plain));
        if (ret_attends)
            ret_attends[i] = attending;
    }
    return good ? 0 : config_bad(config, file, key, expected, err);
}

/* Depth of one block: a number for all its layers, or an array of one each. */
static bool block_depth(const json_t *value, int layers, int *ret)
{
    if (json_is_array(value) && json_array_size(value) != (size_t)layers)
        return false;
    for (int j = 0; j < layers; j++) {
        const json_t *v = json_is_array(value) ? json_array_get(value, (size_t)j) : value;
        if (!json_is_integer(v) || json_integer_value(v) < 1 || json_integer_value(v) > DEEPEST)
            return false;
        ret[j] = (int)json_integer_value(v);
    }
    return true;
}

/* ---- UNet ---- */

static const json_t *entry_of(const json_t *value, int i)
{
    return json_is_array(value) ? json_array_get(value, (size_t)i) : value;
}

/* transformer_layers_per_block and its reverse: a number, or one entry a level, each a number or
 * one a layer. Blocks without attention have an entry too, which says nothing. */
static int unet_depths(const json_t *config, const char *file, const bool *down, const bool *up,
                       struct unet_arch *a, struct dr_error *err)
{
    static const char forward[] = "transformer_layers_per_block";
    static const char reverse[] = "reverse_transformer_layers_per_block";
    static const char expected[] =
        "a positive number, or an array with one for each level (or one for each layer of it)";
    const json_t *going_down = json_object_get(config, forward);
    const json_t *going_up = json_object_get(config, reverse);
    json_t *one = going_down ? NULL : json_integer(1);
    if (!going_down)
        going_down = one;
    bool own_up = going_up && !json_is_null(going_up);
    int r = 0;
    if (json_is_array(going_down) && json_array_size(going_down) != (size_t)a->levels)
        r = config_bad(config, file, forward, expected, err);
    if (!r && own_up &&
        (!json_is_array(going_up) || json_array_size(going_up) != (size_t)a->levels))
        r = config_bad(config, file, reverse, expected, err);
    for (int i = 0; !r && i < a->levels; i++) {
        const json_t *entry = entry_of(going_down, i);
        if (down[i] && !block_depth(entry, a->layers[i], a->depth[i]))
            r = config_bad(config, file, forward, expected, err);
        if (!r && !own_up && json_is_array(entry))
            r = config_bad(config, file, reverse, "an array: the way down differs by layer", err);
        if (!r && own_up)
            entry = json_array_get(going_up, (size_t)(a->levels - 1 - i));
        if (!r && up[i] && !block_depth(entry, a->layers[i] + 1, a->up_depth[i]))
            r = config_bad(config, file, own_up ? reverse : forward, expected, err);
    }
    /* The middle takes the last entry, or the first number of it. */
    const json_t *last = entry_of(going_down, a->levels - 1);
    if (!r && a->mid_depth && !block_depth(entry_of(last, 0), 1, &a->mid_depth))
        r = config_bad(config, file, forward, expected, err);
    json_decref(one);
    return r;
}

static int unet_middle(const json_t *config, const char *file, struct unet_arch *a,
                       struct dr_error *err)
{
    const char *key = "mid_block_type";
    const json_t *value = json_object_get(config, key);
    const char *type = value ? json_string_value(value) : "UNetMidBlock2DCrossAttn";
    a->mid = true;
    if (json_is_null(value)) {
        a->mid = false;
    } else if (type && !strcmp(type, "UNetMidBlock2DCrossAttn")) {
        a->mid_depth = 1;
        a->mid_resnets = 2;
    } else if (type && !strcmp(type, "UNetMidBlock2D")) {
        a->mid_resnets = 1;
    } else {
        return config_bad(config, file, key,
                          "\"UNetMidBlock2DCrossAttn\", \"UNetMidBlock2D\" or null", err);
    }
    return 0;
}

static int unet_blocks(const json_t *config, const char *file, struct unet_arch *a,
                       struct dr_error *err)
{
    bool down[ARCH_LEVELS] = { 0 }, up[ARCH_LEVELS] = { 0 }, up_reversed[ARCH_LEVELS] = { 0 };
    int64_t list[ARCH_LEVELS];
    int r = level_channels(config, file, &a->levels, a->channels, err);
    for (int i = 0; i < ARCH_LEVELS; i++)
        list[i] = 2;
    if (!r && json_object_get(config, "layers_per_block"))
        r = int_list(config, file, "layers_per_block", a->levels, ARCH_LAYERS - 1, list, err);
    for (int i = 0; i < a->levels; i++)
        a->layers[i] = (int)list[i];
    for (int i = 0; i < a->levels; i++)
        a->heads[i] = 8;
    if (!r &&
        json_object_get(config, "attention_head_dim")) /* the number of heads, whatever its name */
        r = int_list(config, file, "attention_head_dim", a->levels, WIDEST, a->heads, err);
    if (!r)
        r = block_types(config, file, "down_block_types", a->levels, "DownBlock2D",
                        "CrossAttnDownBlock2D", down, err);
    if (!r)
        r = block_types(config, file, "up_block_types", a->levels, "UpBlock2D",
                        "CrossAttnUpBlock2D", up_reversed, err);
    if (r)
        return r;
    for (int i = 0; i < a->levels; i++)
        up[i] = up_reversed[a->levels - 1 - i];
    r = unet_middle(config, file, a, err);
    return r ? r : unet_depths(config, file, down, up, a, err);
}

static int unet_context(const json_t *config, const char *file, struct unet_arch *a,
                        struct dr_error *err)
{
    int64_t widths[ARCH_LEVELS];
    int r = int_list(config, file, "cross_attention_dim", a->levels, WIDEST, widths, err);
    for (int i = 1; !r && i < a->levels; i++)
        if (widths[i] != widths[0])
            r = config_bad(config, file, "cross_attention_dim", "the same width at all levels",
                           err);
    a->context = r ? 0 : widths[0];
    return r;
}

/* A number, or [height, width] of which the larger counts; absent or null: 128. */
static int sample_size(const json_t *config, const char *file, int64_t *ret, struct dr_error *err)
{
    const json_t *value = json_object_get(config, "sample_size");
    int64_t edge = 0;
    if (!value || json_is_null(value))
        edge = 128;
    for (int i = 0; i < 2 && !edge && json_is_integer(value); i++)
        edge = json_integer_value(value);
    for (size_t i = 0; i < 2 && json_array_size(value) == 2; i++)
        if (json_integer_value(json_array_get(value, i)) > edge)
            edge = json_integer_value(json_array_get(value, i));
    if (edge < 1 || edge > WIDEST)
        return config_bad(config, file, "sample_size", "a positive integer", err);
    *ret = edge;
    return 0;
}

/* What is added to the time embedding: "text_time" or nothing. */
static int unet_added(const json_t *config, const char *file, bool added, struct unet_arch *a,
                      int64_t *ret_added, struct dr_error *err)
{
    static const char key[] = "addition_embed_type";
    const json_t *value = json_object_get(config, key);
    const char *type = json_string_value(value);
    bool none = !value || json_is_null(value);
    if (added ? !type || strcmp(type, "text_time") : !none)
        return config_bad(config, file, key, added ? "\"text_time\"" : "null", err);
    if (!added)
        return 0;
    int r = jx_get_int(config, file, "addition_time_embed_dim", 1, WIDEST, &a->addition_time_dim,
                       err);
    return r ? r
             : jx_get_int(config, file, "projection_class_embeddings_input_dim", 1, WIDEST,
                          ret_added, err);
}

int config_unet(const json_t *config, const char *file, bool added,
                const struct config_unknown *unknown, struct unet_arch *ret, int64_t *ret_added,
                struct dr_error *err)
{
    struct unet_arch a = { .flip_sin_to_cos = true };
    int64_t groups = 32, width = 0;
    double eps = 1e-5;
    a.in_channels = a.out_channels = 4;
    int r = config_keys_check(config, unet_keys, file, unknown, err);
    if (r || (r = unet_blocks(config, file, &a, err)) ||
        (r = unet_context(config, file, &a, err)) ||
        (r = sample_size(config, file, &a.sample_size, err)))
        return r;
    a.time_dim = 4 * a.channels[0];
    if ((r = jx_opt_int(config, file, "in_channels", 1, WIDEST, &a.in_channels, err)) ||
        (r = jx_opt_int(config, file, "out_channels", 1, WIDEST, &a.out_channels, err)) ||
        (r = jx_opt_int(config, file, "norm_num_groups", 1, WIDEST, &groups, err)) ||
        (r = jx_opt_number(config, file, "norm_eps", &eps, err)) ||
        (r = jx_opt_bool(config, file, "flip_sin_to_cos", &a.flip_sin_to_cos, err)) ||
        (r = jx_opt_number(config, file, "freq_shift", &a.freq_shift, err)) ||
        (r = jx_opt_int(config, file, "time_embedding_dim", 1, WIDEST, &a.time_dim, err)) ||
        (r = jx_opt_bool(config, file, "use_linear_projection", &a.linear_projection, err)) ||
        (r = unet_added(config, file, added, &a, &width, err)))
        return r;
    if (!(eps > 0 && eps < 1))
        return config_bad(config, file, "norm_eps", "a number between 0 and 1", err);
    a.groups = (int)groups;
    a.eps = eps;
    *ret = a;
    *ret_added = width;
    return 0;
}

/* ---- text encoders ---- */

static int clip_act(const json_t *config, const char *file, enum arch_act *ret,
                    struct dr_error *err)
{
    const char *act = "quick_gelu";
    int r = jx_opt_string(config, file, "hidden_act", &act, err);
    if (r)
        return r;
    if (!strcmp(act, "quick_gelu"))
        *ret = ARCH_QUICK_GELU;
    else if (!strcmp(act, "gelu"))
        *ret = ARCH_GELU;
    else
        return config_bad(config, file, "hidden_act", "\"quick_gelu\" or \"gelu\"", err);
    return 0;
}

static int clip_projects(const json_t *config, const char *file, int *ret, struct dr_error *err)
{
    const json_t *list = json_object_get(config, "architectures");
    *ret = -1;
    if (!list || json_is_null(list))
        return 0;
    const char *name = json_string_value(json_array_get(list, 0));
    if (name && !strcmp(name, "CLIPTextModelWithProjection"))
        *ret = 1;
    else if (name && !strcmp(name, "CLIPTextModel"))
        *ret = 0;
    else
        return config_bad(config, file, "architectures",
                          "[\"CLIPTextModel\"] or [\"CLIPTextModelWithProjection\"]", err);
    return 0;
}

int config_clip(const json_t *config, const char *file, const struct config_unknown *unknown,
                struct clip_arch *ret, int *ret_projects, struct dr_error *err)
{
    struct clip_arch a = {
        .vocab = 49408,
        .width = 512,
        .layers = 12,
        .heads = 8,
        .mlp = 2048,
        .positions = 77,
        .projection = 512,
        .eps = 1e-5,
        .bos_id = 49406,
        .eos_id = 49407,
    };
    int projects = -1;
    int r = config_keys_check(config, clip_keys, file, unknown, err);
    if (r || (r = clip_act(config, file, &a.act, err)) ||
        (r = clip_projects(config, file, &projects, err)) ||
        (r = jx_opt_int(config, file, "vocab_size", 1, INT32_MAX, &a.vocab, err)) ||
        (r = jx_opt_int(config, file, "hidden_size", 1, WIDEST, &a.width, err)) ||
        (r = jx_opt_int(config, file, "intermediate_size", 1, WIDEST, &a.mlp, err)) ||
        (r = jx_opt_int(config, file, "projection_dim", 1, WIDEST, &a.projection, err)) ||
        (r = jx_opt_int(config, file, "num_hidden_layers", 1, DEEPEST, &a.layers, err)) ||
        (r = jx_opt_int(config, file, "num_attention_heads", 1, WIDEST, &a.heads, err)) ||
        (r = jx_opt_int(config, file, "max_position_embeddings", 1, WIDEST, &a.positions, err)) ||
        (r = jx_opt_number(config, file, "layer_norm_eps", &a.eps, err)) ||
        (r = jx_opt_int(config, file, "bos_token_id", 0, INT32_MAX, &a.bos_id, err)) ||
        (r = jx_opt_int(config, file, "eos_token_id", 0, INT32_MAX, &a.eos_id, err)))
        return r;
    if (a.width % a.heads)
        return config_bad(config, file, "num_attention_heads", "a divisor of hidden_size", err);
    if (!(a.eps > 0 && a.eps < 1))
        return config_bad(config, file, "layer_norm_eps", "a number between 0 and 1", err);
    *ret = a;
    *ret_projects = projects;
    return 0;
}

/* ---- VAE ---- */

/* A number for each latent channel. */
static int channel_numbers(const json_t *config, const char *file, const char *key, int64_t n,
                           bool positive, double *ret, struct dr_error *err)
{
    const json_t *list = json_object_get(config, key);
    bool good = n <= ARCH_LATENTS && json_array_size(list) == (size_t)n;
    for (int64_t i = 0; good && i < n; i++) {
        const json_t *v = json_array_get(list, (size_t)i);
        ret[i] = json_number_value(v);
        good = json_is_number(v) && (ret[i] > 0 || !positive) && ret[i] > -1e6 && ret[i] < 1e6;
    }
    return good ? 0
                : config_bad(config, file, key,
                             positive
                                 ? "a number above 0 for each latent channel, beside latents_mean"
                                 : "a number for each latent channel, beside latents_std",
                             err);
}

/* latents_mean and latents_std: both or neither. */
static int vae_statistics(const json_t *config, const char *file, struct vae_arch *a,
                          struct dr_error *err)
{
    static const char *const keys[] = { "latents_mean", "latents_std" };
    const json_t *mean = json_object_get(config, keys[0]), *std = json_object_get(config, keys[1]);
    if ((!mean || json_is_null(mean)) && (!std || json_is_null(std)))
        return 0;
    a->normalised = true;
    int r = channel_numbers(config, file, keys[0], a->latent_channels, false, a->mean, err);
    return r ? r
             : channel_numbers(config, file, keys[1], a->latent_channels, true, a->deviation, err);
}

/* An array of the class's default 64 or of the file's numbers, all the same. */
static int tiny_channels(const json_t *config, const char *file, const char *key,
                         struct vae_arch *a, struct dr_error *err)
{
    const json_t *list = json_object_get(config, key);
    int64_t channels[ARCH_LEVELS];
    size_t n = list ? json_array_size(list) : 4;
    if (!n || n > ARCH_LEVELS || (a->levels && (int)n != a->levels))
        return config_bad(config, file, key, "1 to 6 levels, as many in both halves", err);
    a->levels = (int)n;
    for (int i = 0; i < a->levels; i++)
        channels[i] = 64;
    int r = list ? int_list(config, file, key, a->levels, WIDEST, channels, err) : 0;
    for (int i = 0; !r && i < a->levels; i++) {
        if (channels[i] != channels[0] || (a->channels[0] && channels[i] != a->channels[0]))
            return config_bad(config, file, key, "one number of channels at all levels", err);
        a->channels[i] = channels[i];
    }
    return r;
}

static int tiny_blocks(const json_t *config, const char *file, const char *key, const int *dflt,
                       int levels, int *ret, struct dr_error *err)
{
    int64_t list[ARCH_LEVELS];
    bool given = json_object_get(config, key) != NULL;
    if (!given && levels != 4)
        return config_bad(config, file, key, "one number for each level", err);
    int r = given ? int_list(config, file, key, levels, ARCH_LAYERS, list, err) : 0;
    for (int i = 0; !r && i < levels; i++)
        ret[i] = given ? (int)list[i] : dflt[i];
    return r;
}

static int config_tiny(const json_t *config, const char *file, const struct config_unknown *unknown,
                       struct vae_arch *ret, struct dr_error *err)
{
    static const int down[] = { 1, 3, 3, 3 }, up[] = { 3, 3, 3, 1 };
    struct vae_arch a = {
        .in_channels = 3, .out_channels = 3, .latent_channels = 4, .tiny = true, .scaling_factor = 1
    };
    int r = config_keys_check(config, tiny_keys, file, unknown, err);
    if (r || (r = tiny_channels(config, file, "encoder_block_out_channels", &a, err)) ||
        (r = tiny_channels(config, file, "decoder_block_out_channels", &a, err)) ||
        (r = tiny_blocks(config, file, "num_encoder_blocks", down, a.levels, a.blocks, err)) ||
        (r = tiny_blocks(config, file, "num_decoder_blocks", up, a.levels, a.up_blocks, err)) ||
        (r = jx_opt_int(config, file, "in_channels", 1, WIDEST, &a.in_channels, err)) ||
        (r = jx_opt_int(config, file, "out_channels", 1, WIDEST, &a.out_channels, err)) ||
        (r = jx_opt_int(config, file, "latent_channels", 1, WIDEST, &a.latent_channels, err)) ||
        (r = jx_opt_number(config, file, "scaling_factor", &a.scaling_factor, err)))
        return r;
    if (!(a.scaling_factor > 0 && a.scaling_factor < 1e6))
        return config_bad(config, file, "scaling_factor", "a positive number", err);
    *ret = a;
    return 0;
}

int config_vae(const json_t *config, const char *file, const struct config_unknown *unknown,
               struct vae_arch *ret, struct dr_error *err)
{
    struct vae_arch a = { .in_channels = 3,
                          .out_channels = 3,
                          .latent_channels = 4,
                          .scaling_factor = SD_VAE_SCALE,
                          .quant_conv = true,
                          .post_quant_conv = true,
                          .mid_attention = true };
    int64_t layers = 1, groups = 32;
    const char *class_name = json_string_value(json_object_get(config, "_class_name"));
    if (class_name && !strcmp(class_name, "AutoencoderTiny"))
        return config_tiny(config, file, unknown, ret, err);
    int r = config_keys_check(config, vae_keys, file, unknown, err);
    if (r || (r = level_channels(config, file, &a.levels, a.channels, err)) ||
        (r = block_types(config, file, "down_block_types", a.levels, "DownEncoderBlock2D", NULL,
                         NULL, err)) ||
        (r = block_types(config, file, "up_block_types", a.levels, "UpDecoderBlock2D", NULL, NULL,
                         err)) ||
        (r = jx_opt_int(config, file, "in_channels", 1, WIDEST, &a.in_channels, err)) ||
        (r = jx_opt_int(config, file, "out_channels", 1, WIDEST, &a.out_channels, err)) ||
        (r = jx_opt_int(config, file, "latent_channels", 1, WIDEST, &a.latent_channels, err)) ||
        (r = jx_opt_int(config, file, "layers_per_block", 1, ARCH_LAYERS - 1, &layers, err)) ||
        (r = jx_opt_int(config, file, "norm_num_groups", 1, WIDEST, &groups, err)) ||
        (r = jx_opt_number(config, file, "scaling_factor", &a.scaling_factor, err)) ||
        (r = jx_opt_bool(config, file, "use_quant_conv", &a.quant_conv, err)) ||
        (r = jx_opt_bool(config, file, "use_post_quant_conv", &a.post_quant_conv, err)) ||
        (r = jx_opt_bool(config, file, "mid_block_add_attention", &a.mid_attention, err)) ||
        (r = vae_statistics(config, file, &a, err)))
        return r;
    if (!(a.scaling_factor > 0 && a.scaling_factor < 1e6))
        return config_bad(config, file, "scaling_factor", "a positive number", err);
    a.layers = (int)layers;
    a.groups = (int)groups;
    *ret = a;
    return 0;
}
