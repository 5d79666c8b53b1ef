/* config_write.c - see config_write.h. Reference: the config.json files of stabilityai's SDXL and
 * Stable Diffusion 2.1 folders and of segmind's SSD-1B, whose middle and way up differ. */
#include "models/formats/config_write.h"

#include "base/json.h"

#define VERSION "0.30.0" /* of diffusers, the oldest that has all of these keys */

static json_t *numbers(const int64_t *v, int n)
{
    json_t *list = json_array();
    for (int i = 0; list && i < n; i++)
        if (jx_add(list, json_integer((json_int_t)v[i])) < 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

static json_t *reals(const double *v, int64_t n)
{
    json_t *list = json_array();
    for (int64_t i = 0; list && i < n; i++)
        if (jx_add(list, json_real(v[i])) < 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

/* The same name at all levels. */
static json_t *names(const char *name, int n)
{
    json_t *list = json_array();
    for (int i = 0; list && i < n; i++)
        if (jx_add(list, json_string(name)) < 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

static json_t *block_types(const struct unet_arch *a, bool up)
{
    json_t *list = json_array();
    for (int i = 0; list && i < a->levels; i++) {
        int level = up ? a->levels - 1 - i : i;
        bool attends = up ? a->up_depth[level][0] > 0 : a->depth[level][0] > 0;
        const char *name = up        ? attends ? "CrossAttnUpBlock2D" : "UpBlock2D"
                           : attends ? "CrossAttnDownBlock2D"
                                     : "DownBlock2D";
        if (jx_add(list, json_string(name)) < 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

/* One number for all layers, or one each; of a level without attention, which has an entry too,
 * the one that is `spare`. */
static json_t *depth_entry(const int *depth, int layers, int spare)
{
    bool same = true;
    int64_t list[ARCH_LAYERS] = { 0 };
    for (int j = 0; j < layers; j++) {
        same &= depth[j] == depth[0];
        list[j] = depth[j];
    }
    return same ? json_integer(depth[0] ? depth[0] : spare) : numbers(list, layers);
}

/* Whether going up is what readers take from going down. */
static bool mirrors(const struct unet_arch *a)
{
    for (int i = 0; i < a->levels; i++) {
        for (int j = 1; a->depth[i][0] && j < a->layers[i]; j++)
            if (a->depth[i][j] != a->depth[i][0])
                return false;
        for (int j = 0; a->up_depth[i][0] && j <= a->layers[i]; j++)
            if (a->up_depth[i][j] != (a->depth[i][0] ? a->depth[i][0] : 1))
                return false;
    }
    return true;
}

static int put_depths(json_t *o, const struct unet_arch *a)
{
    json_t *down = json_array(), *up = json_array();
    int r = down && up ? 0 : DR_ENOMEM, last = a->levels - 1;
    for (int i = 0; !r && i <= last; i++) {
        /* the middle has the depth of the last entry */
        int spare = i == last && a->mid_depth ? a->mid_depth : 1, level = last - i;
        r = jx_add(down, depth_entry(a->depth[i], a->layers[i], spare));
        if (!r)
            r = jx_add(up, depth_entry(a->up_depth[level], a->layers[level] + 1, 1));
    }
    if (!r)
        r = jx_set(o, "transformer_layers_per_block", json_incref(down));
    if (!r && !mirrors(a))
        r = jx_set(o, "reverse_transformer_layers_per_block", json_incref(up));
    json_decref(down);
    json_decref(up);
    return r;
}

static json_t *layers(const struct unet_arch *a)
{
    int64_t list[ARCH_LEVELS] = { 0 };
    bool same = true;
    for (int i = 0; i < a->levels; i++) {
        list[i] = a->layers[i];
        same &= list[i] == list[0];
    }
    return same ? json_integer(list[0]) : numbers(list, a->levels);
}

static int put_added(json_t *o, const struct unet_arch *a)
{
    if (!a->addition_time_dim)
        return 0;
    int r = jx_set(o, "addition_embed_type", json_string("text_time"));
    if (!r)
        r = jx_set(o, "addition_time_embed_dim", json_integer(a->addition_time_dim));
    return r ? r
             : jx_set(o, "projection_class_embeddings_input_dim",
                      json_integer(a->pooled + a->n_time_ids * a->addition_time_dim));
}

/* o, or NULL after an error. */
static json_t *finished(json_t *o, int r)
{
    if (r)
        json_decref(o);
    return r ? NULL : o;
}

json_t *config_write_unet(const struct unet_arch *a)
{
    const char *middle = a->mid_depth ? "UNetMidBlock2DCrossAttn" : "UNetMidBlock2D";
    json_t *o = json_pack(
        "{s:s,s:s,s:s,s:o,s:o,s:i,s:o,s:o,s:b,s:f,s:I,s:o,s:o,s:f,s:i,s:I,s:I,s:b}", "_class_name",
        "UNet2DConditionModel", "_diffusers_version", VERSION, "act_fn", "silu",
        "attention_head_dim", numbers(a->heads, a->levels), "block_out_channels",
        numbers(a->channels, a->levels), "downsample_padding", 1, "down_block_types",
        block_types(a, false), "up_block_types", block_types(a, true), "flip_sin_to_cos",
        a->flip_sin_to_cos, "freq_shift", a->freq_shift, "in_channels", (json_int_t)a->in_channels,
        "layers_per_block", layers(a), "mid_block_type", a->mid ? json_string(middle) : json_null(),
        "norm_eps", a->eps, "norm_num_groups", a->groups, "out_channels",
        (json_int_t)a->out_channels, "sample_size", (json_int_t)a->sample_size,
        "use_linear_projection", a->linear_projection);
    int r = o ? jx_set(o, "cross_attention_dim", json_integer(a->context)) : DR_ENOMEM;
    if (!r && a->time_dim != 4 * a->channels[0])
        r = jx_set(o, "time_embedding_dim", json_integer(a->time_dim));
    if (!r)
        r = put_depths(o, a);
    if (!r)
        r = put_added(o, a);
    return finished(o, r);
}

json_t *config_write_clip(const struct clip_arch *a)
{
    const char *class = a->projection ? "CLIPTextModelWithProjection" : "CLIPTextModel";
    json_t *o = json_pack("{s:[s],s:s,s:s,s:I,s:I,s:f,s:I,s:I,s:I,s:I,s:I,s:I,s:i}",
                          "architectures", class, "model_type", "clip_text_model", "hidden_act",
                          a->act == ARCH_QUICK_GELU ? "quick_gelu" : "gelu", "hidden_size",
                          (json_int_t)a->width, "intermediate_size", (json_int_t)a->mlp,
                          "layer_norm_eps", a->eps, "max_position_embeddings",
                          (json_int_t)a->positions, "num_attention_heads", (json_int_t)a->heads,
                          "num_hidden_layers", (json_int_t)a->layers, "vocab_size",
                          (json_int_t)a->vocab, "bos_token_id", (json_int_t)a->bos_id,
                          "eos_token_id", (json_int_t)a->eos_id, "pad_token_id", 1);
    int64_t projection = a->projection ? a->projection : a->width;
    return finished(o, o ? jx_set(o, "projection_dim", json_integer(projection)) : DR_ENOMEM);
}

json_t *config_write_vae(const struct vae_arch *a)
{
    json_t *o = json_pack(
        "{s:s,s:s,s:s,s:o,s:o,s:o,s:I,s:I,s:I,s:i,s:i,s:f}", "_class_name", "AutoencoderKL",
        "_diffusers_version", VERSION, "act_fn", "silu", "block_out_channels",
        numbers(a->channels, a->levels), "down_block_types", names("DownEncoderBlock2D", a->levels),
        "up_block_types", names("UpDecoderBlock2D", a->levels), "in_channels",
        (json_int_t)a->in_channels, "out_channels", (json_int_t)a->out_channels, "latent_channels",
        (json_int_t)a->latent_channels, "layers_per_block", a->layers, "norm_num_groups", a->groups,
        "scaling_factor", a->scaling_factor);
    int r = o ? 0 : DR_ENOMEM;
    if (!r && !a->quant_conv)
        r = jx_set(o, "use_quant_conv", json_false());
    if (!r && !a->post_quant_conv)
        r = jx_set(o, "use_post_quant_conv", json_false());
    if (!r && !a->mid_attention)
        r = jx_set(o, "mid_block_add_attention", json_false());
    if (!r && a->normalised)
        r = jx_set(o, "latents_mean", reals(a->mean, a->latent_channels));
    if (!r && a->normalised)
        r = jx_set(o, "latents_std", reals(a->deviation, a->latent_channels));
    return finished(o, r);
}
