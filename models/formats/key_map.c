/* key_map.c - see key_map.h.
 *
 * A pattern: '#' is a decimal number, '*' (last) any rest; else each character is itself. In a
 * result: '#' is the next number of the pattern; '@' and '$' are level and place of the UNet block
 * that the first number numbers; '^' is the next number counted from the other end of the VAE's
 * levels; '*' is the rest, sent through the rule's `rest` table if there is one; '?' stands for q,
 * k, v in turn.
 */
#include "models/formats/key_map.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "models/formats/key_rules.h"
#include "models/formats/quantised.h"

/* ---- single files ---- */

static const struct rule unet_resnet[] = {
    { .from = "in_layers.0.*", .to = "norm1.*" },
    { .from = "in_layers.2.*", .to = "conv1.*" },
    { .from = "emb_layers.1.*", .to = "time_emb_proj.*" },
    { .from = "out_layers.0.*", .to = "norm2.*" },
    { .from = "out_layers.3.*", .to = "conv2.*" },
    { .from = "skip_connection.*", .to = "conv_shortcut.*" },
    { 0 },
};

static const struct rule unet_single[] = {
    { .from = "time_embed.0.*", .to = "time_embedding.linear_1.*" },
    { .from = "time_embed.2.*", .to = "time_embedding.linear_2.*" },
    { .from = "label_emb.0.0.*", .to = "add_embedding.linear_1.*" },
    { .from = "label_emb.0.2.*", .to = "add_embedding.linear_2.*" },
    { .from = "out.0.*", .to = "conv_norm_out.*" },
    { .from = "out.2.*", .to = "conv_out.*" },
    { .from = "input_blocks.0.0.*", .to = "conv_in.*" },
    { .from = "input_blocks.#.0.op.*",
      .to = "down_blocks.@.downsamplers.0.conv.*",
      .how = INPUT_BLOCK },
    { .from = "input_blocks.#.0.*",
      .to = "down_blocks.@.resnets.$.*",
      .rest = unet_resnet,
      .how = INPUT_BLOCK },
    { .from = "input_blocks.#.1.*", .to = "down_blocks.@.attentions.$.*", .how = INPUT_BLOCK },
    { .from = "middle_block.0.*", .to = "mid_block.resnets.0.*", .rest = unet_resnet },
    { .from = "middle_block.1.*", .to = "mid_block.attentions.0.*" },
    { .from = "middle_block.2.*", .to = "mid_block.resnets.1.*", .rest = unet_resnet },
    { .from = "output_blocks.#.0.*",
      .to = "up_blocks.@.resnets.$.*",
      .rest = unet_resnet,
      .how = OUTPUT_BLOCK },
    { .from = "output_blocks.#.1.conv.*",
      .to = "up_blocks.@.upsamplers.0.conv.*",
      .how = OUTPUT_BLOCK },
    { .from = "output_blocks.#.2.conv.*",
      .to = "up_blocks.@.upsamplers.0.conv.*",
      .how = OUTPUT_BLOCK },
    { .from = "output_blocks.#.1.*", .to = "up_blocks.@.attentions.$.*", .how = OUTPUT_BLOCK },
    { 0 },
};

static const struct rule clip_any[] = {
    { .from = "text_model.embeddings.position_ids", .how = IGNORED },
    { .from = "embeddings.position_ids", .how = IGNORED },
    { .from = "logit_scale", .how = IGNORED },
    /* as stable-diffusion.cpp spells OpenCLIP's */
    { .from = "text_model.text_projection", .to = "text_projection.weight", .how = TRANSPOSED },
    { .from = "text_model.encoder.layers.#.self_attn.in_proj.weight",
      .to = "text_model.encoder.layers.#.self_attn.?_proj.weight",
      .how = STACKED },
    { .from = "text_model.encoder.layers.#.self_attn.in_proj.bias",
      .to = "text_model.encoder.layers.#.self_attn.?_proj.bias",
      .how = STACKED },
    { .from = "text_model.*", .to = "text_model.*" },
    { .from = "text_projection.weight", .to = "text_projection.weight" },
    /* without the outer module's name */
    { .from = "embeddings.*", .to = "text_model.embeddings.*" },
    { .from = "encoder.*", .to = "text_model.encoder.*" },
    { .from = "final_layer_norm.*", .to = "text_model.final_layer_norm.*" },
    { 0 },
};

static const struct rule open_clip_layer[] = {
    { .from = "attn.in_proj_weight", .to = "self_attn.?_proj.weight", .how = STACKED },
    { .from = "attn.in_proj_bias", .to = "self_attn.?_proj.bias", .how = STACKED },
    { .from = "attn.out_proj.*", .to = "self_attn.out_proj.*" },
    { .from = "ln_1.*", .to = "layer_norm1.*" },
    { .from = "ln_2.*", .to = "layer_norm2.*" },
    { .from = "mlp.c_fc.*", .to = "mlp.fc1.*" },
    { .from = "mlp.c_proj.*", .to = "mlp.fc2.*" },
    { 0 },
};

static const struct rule open_clip[] = {
    { .from = "token_embedding.weight", .to = "text_model.embeddings.token_embedding.weight" },
    { .from = "positional_embedding", .to = "text_model.embeddings.position_embedding.weight" },
    { .from = "transformer.resblocks.#.*",
      .to = "text_model.encoder.layers.#.*",
      .rest = open_clip_layer },
    { .from = "ln_final.*", .to = "text_model.final_layer_norm.*" },
    { .from = "text_projection", .to = "text_projection.weight", .how = TRANSPOSED },
    { .from = "text_projection.weight",
      .to = "text_projection.weight" }, /* merging tools write it the other way */
    { .from = "logit_scale", .how = IGNORED },
    { .from = "transformer.text_model.embeddings.position_ids", .how = IGNORED },
    { .from = "attn_mask", .how = IGNORED },
    { 0 },
};

static const struct rule vae_attention[] = {
    { .from = "norm.*", .to = "group_norm.*" },
    { .from = "q.*", .to = "to_q.*" },
    { .from = "k.*", .to = "to_k.*" },
    { .from = "v.*", .to = "to_v.*" },
    { .from = "proj_out.*", .to = "to_out.0.*" },
    { 0 },
};

static const struct rule vae_resnet[] = {
    { .from = "nin_shortcut.*", .to = "conv_shortcut.*" },
    { .from = "norm#.*", .to = "norm#.*" },
    { .from = "conv#.*", .to = "conv#.*" },
    { 0 },
};

static const struct rule vae_half[] = {
    { .from = "conv_in.*", .to = "conv_in.*" },
    { .from = "conv_out.*", .to = "conv_out.*" },
    { .from = "norm_out.*", .to = "conv_norm_out.*" },
    { .from = "mid.block_1.*", .to = "mid_block.resnets.0.*", .rest = vae_resnet },
    { .from = "mid.block_2.*", .to = "mid_block.resnets.1.*", .rest = vae_resnet },
    { .from = "mid.attn_1.*", .to = "mid_block.attentions.0.*", .rest = vae_attention },
    { .from = "down.#.block.#.*", .to = "down_blocks.#.resnets.#.*", .rest = vae_resnet },
    { .from = "down.#.downsample.conv.*", .to = "down_blocks.#.downsamplers.0.conv.*" },
    { .from = "up.#.block.#.*", .to = "up_blocks.^.resnets.#.*", .rest = vae_resnet },
    { .from = "up.#.upsample.conv.*", .to = "up_blocks.^.upsamplers.0.conv.*" },
    { 0 },
};

static const struct rule vae_single[] = {
    { .from = "encoder.*", .to = "encoder.*", .rest = vae_half },
    { .from = "decoder.*", .to = "decoder.*", .rest = vae_half },
    { .from = "quant_conv.*", .to = "quant_conv.*" },
    { .from = "post_quant_conv.*", .to = "post_quant_conv.*" },
    { 0 },
};

/* Constants of the noise schedule and marks that are no parameters. */
static const struct rule constants[] = {
    { .from = "betas", .how = IGNORED },
    { .from = "alphas_cumprod*", .how = IGNORED },
    { .from = "sqrt_*", .how = IGNORED },
    { .from = "log_one_minus_alphas_cumprod", .how = IGNORED },
    { .from = "posterior_*", .how = IGNORED },
    { .from = "global_step", .how = IGNORED },
    { .from = "denoiser.sigmas", .how = IGNORED },
    { .from = "model_ema.decay", .how = IGNORED },
    { .from = "model_ema.num_updates", .how = IGNORED },
    { .from = "v_pred", .how = IGNORED }, /* read by the loader as marks */
    { .from = "ztsnr", .how = IGNORED },
    { .from = "edm_mean", .how = IGNORED },
    { .from = "edm_std", .how = IGNORED },
    { .from = "edm_vpred.sigma_max", .how = IGNORED },
    { .from = "edm_vpred.sigma_min", .how = IGNORED },
    { 0 },
};

static const struct {
    const char *prefix;
    enum component component;
    const struct rule *rules;
} single_parts[] = {
    { "model.diffusion_model.", COMPONENT_UNET, unet_single },
    { "conditioner.embedders.0.transformer.", COMPONENT_TEXT_ENCODER, clip_any },
    { "conditioner.embedders.0.model.", COMPONENT_TEXT_ENCODER_2, open_clip }, /* refiner */
    { "conditioner.embedders.1.model.", COMPONENT_TEXT_ENCODER_2, open_clip },
    { "cond_stage_model.1.transformer.", COMPONENT_TEXT_ENCODER_2, clip_any }, /* GGUF, SDXL */
    { "cond_stage_model.transformer.", COMPONENT_TEXT_ENCODER, clip_any },     /* 1.x; GGUF, SDXL */
    { "cond_stage_model.model.", COMPONENT_TEXT_ENCODER, open_clip },          /* 2.x */
    { "first_stage_model.", COMPONENT_VAE, vae_single },
    { "", COMPONENT_COUNT, constants },
};

const struct rule *key_rules(enum key_form form)
{
    static const struct rule *const forms[] = {
        [KEY_FORM_UNET] = unet_single,
        [KEY_FORM_OPEN_CLIP] = open_clip,
        [KEY_FORM_VAE] = vae_single,
    };
    return forms[form];
}

/* ---- diffusers folders ---- */

static const struct rule vae_old_attention[] = {
    { .from = "query.*", .to = "to_q.*" },
    { .from = "key.*", .to = "to_k.*" },
    { .from = "value.*", .to = "to_v.*" },
    { .from = "proj_attn.*", .to = "to_out.0.*" },
    { .from = "*", .to = "*" },
    { 0 },
};

static const struct rule vae_folder[] = {
    { .from = "encoder.mid_block.attentions.#.*",
      .to = "encoder.mid_block.attentions.#.*",
      .rest = vae_old_attention },
    { .from = "decoder.mid_block.attentions.#.*",
      .to = "decoder.mid_block.attentions.#.*",
      .rest = vae_old_attention },
    { .from = "*", .to = "*" },
    { 0 },
};

static const struct rule as_it_is[] = {
    { .from = "*", .to = "*" },
    { 0 },
};

static const struct rule *const folder_rules[COMPONENT_COUNT] = {
    [COMPONENT_UNET] = as_it_is,
    [COMPONENT_TEXT_ENCODER] = clip_any,
    [COMPONENT_TEXT_ENCODER_2] = clip_any,
    [COMPONENT_VAE] = vae_folder,
};

/* Tiny autoencoders as TAESD's own code writes them: its decoder begins with a clamp. */
static const struct rule taesd_decoder[] = {
    { .from = "#.*", .to = "decoder.layers.#.*", .how = SHIFTED },
    { 0 },
};

static const struct rule taesd[] = {
    { .from = "taesd_encoder.#.*", .to = "encoder.layers.#.*" },
    { .from = "taesd_decoder.#.*", .to = "decoder.layers.#.*", .how = SHIFTED },
    { .from = "vae_scale", .how = IGNORED },
    { .from = "vae_shift", .how = IGNORED },
    { 0 },
};

/* ---- components in files of their own ---- */

struct key_layout {
    enum component component;
    const char *prefix, *mark; /* PREFIX.MARK is a tensor that each such file has */
    const struct rule *rules;
};

static const struct key_layout layouts[] = {
    { COMPONENT_UNET, "model.diffusion_model.", "out.2.weight", unet_single },
    { COMPONENT_UNET, "", "out.2.weight", unet_single },
    { COMPONENT_UNET, "", "conv_out.weight", as_it_is },
    { COMPONENT_TEXT_ENCODER, "conditioner.embedders.0.transformer.",
      "text_model.encoder.layers.0.mlp.fc1.weight", clip_any },
    { COMPONENT_TEXT_ENCODER, "cond_stage_model.transformer.",
      "text_model.encoder.layers.0.mlp.fc1.weight", clip_any },
    { COMPONENT_TEXT_ENCODER, "cond_stage_model.model.", "transformer.resblocks.0.mlp.c_fc.weight",
      open_clip },
    { COMPONENT_TEXT_ENCODER, "", "text_model.encoder.layers.0.mlp.fc1.weight", clip_any },
    { COMPONENT_TEXT_ENCODER, "", "encoder.layers.0.mlp.fc1.weight", clip_any },
    { COMPONENT_TEXT_ENCODER, "", "transformer.resblocks.0.mlp.c_fc.weight", open_clip },
    { COMPONENT_TEXT_ENCODER_2, "conditioner.embedders.1.model.",
      "transformer.resblocks.0.mlp.c_fc.weight", open_clip },
    { COMPONENT_TEXT_ENCODER_2, "conditioner.embedders.0.model.",
      "transformer.resblocks.0.mlp.c_fc.weight", open_clip },
    { COMPONENT_TEXT_ENCODER_2, "", "text_model.encoder.layers.0.mlp.fc1.weight", clip_any },
    { COMPONENT_TEXT_ENCODER_2, "", "encoder.layers.0.mlp.fc1.weight", clip_any },
    { COMPONENT_TEXT_ENCODER_2, "", "transformer.resblocks.0.mlp.c_fc.weight", open_clip },
    { COMPONENT_VAE, "first_stage_model.", "decoder.mid.block_1.conv1.weight", vae_single },
    { COMPONENT_VAE, "", "decoder.mid.block_1.conv1.weight", vae_single },
    { COMPONENT_VAE, "", "decoder.mid_block.resnets.0.conv1.weight", vae_folder },
    { COMPONENT_VAE, "", "decoder.layers.0.weight", as_it_is },
    { COMPONENT_VAE, "", "taesd_decoder.1.weight", taesd },
    { COMPONENT_VAE, "", "1.weight", taesd_decoder },
};

/* ---- matching ---- */

enum { NUMBERS = 4 };

struct match {
    int number[NUMBERS], n;
    const char *rest;
};

static bool matches(const char *pattern, const char *key, struct match *ret)
{
    *ret = (struct match){ .rest = "" };
    for (; *pattern; pattern++) {
        if (*pattern == '*') {
            ret->rest = key;
            return true;
        }
        if (*pattern != '#') {
            if (*key++ != *pattern)
                return false;
            continue;
        }
        int v = 0, digits = 0;
        for (; *key >= '0' && *key <= '9'; key++, digits++) {
            if (digits == 4)
                return false;
            v = v * 10 + (*key - '0');
        }
        if (!digits || ret->n == NUMBERS)
            return false;
        ret->number[ret->n++] = v;
    }
    return !*key;
}

static enum key_answer translate(const struct rule *rules, const struct key_blocks *b,
                                 const char *key, struct key_target *ret, size_t at);

static bool put(struct key_target *t, size_t *at, const char *fmt, ...) DR_PRINTF(3, 4);

static bool put(struct key_target *t, size_t *at, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(t->name + *at, sizeof t->name - *at, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof t->name - *at)
        return false;
    *at += (size_t)n;
    return true;
}

static enum key_answer emit(const struct rule *r, const struct match *m, const struct key_blocks *b,
                            struct key_target *ret, size_t at)
{
    int level = 0, place = 0, next = 0;
    if (r->how == INPUT_BLOCK || r->how == OUTPUT_BLOCK) {
        int i = m->number[0];
        if (i >= KEY_BLOCKS)
            return KEY_UNKNOWN;
        level = r->how == INPUT_BLOCK ? b->input[i].level : b->output[i].level;
        place = r->how == INPUT_BLOCK ? b->input[i].place : b->output[i].place;
    }
    if (r->how == STACKED)
        ret->parts = 3;
    if (r->how == TRANSPOSED)
        ret->transpose = true;
    for (const char *c = r->to; *c; c++) {
        bool fits = true;
        if (*c == '@')
            fits = put(ret, &at, "%d", level);
        else if (*c == '$')
            fits = put(ret, &at, "%d", place);
        else if (*c == '#') {
            int number = m->number[next] - (r->how == SHIFTED && !next);
            fits = number >= 0 && put(ret, &at, "%d", number);
            next++;
        } else if (*c == '^')
            fits = put(ret, &at, "%d", b->vae_levels - 1 - m->number[next++]);
        else if (*c == '*' && r->rest)
            return translate(r->rest, b, m->rest, ret, at);
        else if (*c == '*')
            fits = put(ret, &at, "%s", m->rest);
        else
            fits = put(ret, &at, "%c", *c);
        if (!fits)
            return KEY_UNKNOWN;
    }
    return KEY_KNOWN;
}

/* Appends to ret->name from `at` on. The first rule that matches decides. */
static enum key_answer translate(const struct rule *rules, const struct key_blocks *b,
                                 const char *key, struct key_target *ret, size_t at)
{
    struct match m;
    for (const struct rule *r = rules; r->from; r++)
        if (matches(r->from, key, &m))
            return r->how == IGNORED ? KEY_IGNORED : emit(r, &m, b, ret, at);
    return KEY_UNKNOWN;
}

/* "X.weight_scale" and "X.scale_weight" go where "X.weight" goes, under that name and _scale. */
static enum key_answer translate_scale(const struct rule *rules, const struct key_blocks *b,
                                       const char *key, struct key_target *ret)
{
    char base[ST_NAME_MAX + sizeof ".weight"];
    size_t n = scale_of_layer(key);
    if (quantised_mark(key))
        return KEY_IGNORED;
    if (!n)
        return translate(rules, b, key, ret, 0);
    snprintf(base, sizeof base, "%.*s.weight", (int)n, key);
    enum key_answer answer = translate(rules, b, base, ret, 0);
    size_t at = strlen(ret->name);
    return answer == KEY_KNOWN && !put(ret, &at, "%s", "_scale") ? KEY_UNKNOWN : answer;
}

enum key_answer key_map_single(const struct key_blocks *b, const char *key, struct key_target *ret)
{
    for (size_t i = 0; i < sizeof single_parts / sizeof *single_parts; i++) {
        size_t n = strlen(single_parts[i].prefix);
        if (strncmp(key, single_parts[i].prefix, n))
            continue;
        *ret = (struct key_target){ .component = single_parts[i].component, .parts = 1 };
        return translate_scale(single_parts[i].rules, b, key + n, ret);
    }
    return KEY_UNKNOWN;
}

enum key_answer key_map_folder(enum component component, const char *key, struct key_target *ret)
{
    static const struct key_blocks none;
    *ret = (struct key_target){ .component = component, .parts = 1 };
    return translate_scale(folder_rules[component], &none, key, ret);
}

/* ---- blocks ---- */

/* Which blocks exist, and after or in which a sampler ends the level. */
struct seen {
    bool exists[KEY_BLOCKS], samples[KEY_BLOCKS];
};

static void see(struct seen *s, const char *exists, const char *samples, const char *key)
{
    struct match m;
    if (matches(exists, key, &m) && m.number[0] < KEY_BLOCKS)
        s->exists[m.number[0]] = true;
    if (matches(samples, key, &m) && m.number[0] < KEY_BLOCKS)
        s->samples[m.number[0]] = true;
}

/* Names without the prefixes of UNet and VAE. */
static void scan(const struct st_header *h, const char *unet, const char *vae,
                 struct key_blocks *ret)
{
    size_t n_unet = strlen(unet), n_vae = strlen(vae);
    struct seen in = { 0 }, out = { 0 };
    struct match m;
    memset(ret, 0, sizeof *ret);
    for (size_t i = 0; i < h->n_tensors; i++) {
        const char *key = h->tensors[i].name;
        if (!strncmp(key, unet, n_unet)) {
            see(&in, "input_blocks.#.*", "input_blocks.#.0.op.*", key + n_unet);
            see(&out, "output_blocks.#.*", "output_blocks.#.#.conv.*", key + n_unet);
        }
        if (!strncmp(key, vae, n_vae) && matches("decoder.up.#.*", key + n_vae, &m) &&
            m.number[0] >= ret->vae_levels)
            ret->vae_levels = m.number[0] + 1;
    }
    /* Block 0 is the first convolution. A downsampler is a block of its own, an upsampler part of a
     * level's last. */
    int level = 0, place = 0;
    for (int i = 1; i < KEY_BLOCKS && in.exists[i]; i++) {
        ret->input[i].level = (int8_t)level;
        ret->input[i].place = (int8_t)place++;
        if (in.samples[i]) {
            level++;
            place = 0;
        }
    }
    level = place = 0;
    for (int i = 0; i < KEY_BLOCKS && out.exists[i]; i++) {
        ret->output[i].level = (int8_t)level;
        ret->output[i].place = (int8_t)place++;
        if (out.samples[i]) {
            level++;
            place = 0;
        }
    }
}

void key_blocks_scan(const struct st_header *h, struct key_blocks *ret)
{
    scan(h, "model.diffusion_model.", "first_stage_model.", ret);
}

void key_layout_scan(const struct key_layout *l, const struct st_header *h, struct key_blocks *ret)
{
    scan(h, l->prefix, l->prefix, ret);
}

const struct key_layout *key_layout_find(const struct st_header *h, enum component component)
{
    char name[PARAM_NAME];
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        const struct key_layout *l = &layouts[i];
        snprintf(name, sizeof name, "%s%s", l->prefix, l->mark);
        if (l->component == component && st_find(h, name))
            return l;
    }
    return NULL;
}

enum key_answer key_map_part(const struct key_layout *l, const struct key_blocks *b,
                             const char *key, struct key_target *ret)
{
    size_t n = strlen(l->prefix);
    *ret = (struct key_target){ .component = l->component, .parts = 1 };
    if (quantised_mark(key) || strncmp(key, l->prefix, n) ||
        translate(constants, b, key, ret, 0) == KEY_IGNORED)
        return KEY_IGNORED;
    return translate_scale(l->rules, b, key + n, ret);
}
