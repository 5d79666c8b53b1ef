/* sgm_maker.c - see sgm_maker.h. */
#include "testing/helpers/sgm_maker.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "testing/helpers/test.h"

#define CLIP_L                                                                                     \
    {                                                                                              \
        .width = 768, .mlp = 3072, .layers = 12                                                    \
    }
#define CLIP_G                                                                                     \
    {                                                                                              \
        .width = 1280, .mlp = 5120, .layers = 32, .projection = 1280                               \
    }
#define REAL                                                                                       \
    .dtype = "F16", .vocab = 49408, .positions = 77, .vae_levels = 4, .vae_layers = 2,             \
    .vae_channels = { 128, 256, 512, 512 }, .clip_g = CLIP_G
#define XL                                                                                         \
    REAL, .clip_l = CLIP_L, .levels = 3, .channels = { 320, 640, 1280 }, .context = 2048,          \
          .added = 2816

const struct sgm_spec sgm_base = {
    XL,
    .in_channels = 4,
    .layers = 2,
    .depth = { 0, 0, 2, 2, 10, 10 },
    .up_depth = { 10, 10, 10, 2, 2, 2, 0, 0, 0 },
    .mid = 10,
};
const struct sgm_spec sgm_inpaint = {
    XL,
    .in_channels = 9,
    .layers = 2,
    .depth = { 0, 0, 2, 2, 10, 10 },
    .up_depth = { 10, 10, 10, 2, 2, 2, 0, 0, 0 },
    .mid = 10,
};
const struct sgm_spec sgm_ssd_1b = {
    XL,
    .in_channels = 4,
    .layers = 2,
    .depth = { 0, 0, 2, 2, 4, 4 },
    .up_depth = { 4, 4, 10, 2, 1, 1, 0, 0, 0 },
    .mid = -1,
};
const struct sgm_spec sgm_vega = {
    XL,
    .in_channels = 4,
    .layers = 2,
    .depth = { 0, 0, 1, 1, 2, 2 },
    .up_depth = { 2, 2, 2, 1, 1, 1, 0, 0, 0 },
    .mid = -1,
};
const struct sgm_spec sgm_koala_700m = {
    XL,
    .in_channels = 4,
    .layers = 1,
    .depth = { 0, 2, 5 },
    .up_depth = { 5, 5, 2, 2, 0, 0 },
    .mid = -2,
};
#define SD                                                                                         \
    .dtype = "F16", .in_channels = 4, .vocab = 49408, .positions = 77, .vae_levels = 4,            \
    .vae_layers = 2, .vae_channels = { 128, 256, 512, 512 }, .levels = 4, .layers = 2,             \
    .channels = { 320, 640, 1280, 1280 }, .depth = { 1, 1, 1, 1, 1, 1, 0, 0 },                     \
    .up_depth = { 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1 }, .mid = 1

const struct sgm_spec sgm_sd1 = { SD, .version = 1, .context = 768, .clip_l = CLIP_L };
const struct sgm_spec sgm_sd2 = {
    SD,
    .version = 2,
    .context = 1024,
    .clip_g = { .width = 1024, .mlp = 4096, .layers = 24, .projection = 1024 },
};
const struct sgm_spec sgm_refiner = {
    REAL,
    .in_channels = 4,
    .levels = 4,
    .channels = { 384, 768, 1536, 1536 },
    .layers = 2,
    .depth = { 0, 0, 4, 4, 4, 4, 0, 0 },
    .up_depth = { 0, 0, 0, 4, 4, 4, 4, 4, 4, 0, 0, 0 },
    .mid = 4,
    .context = 1280,
    .added = 2560,
};
const struct sgm_spec sgm_tiny = {
    .dtype = "F16",
    .in_channels = 4,
    .levels = 2,
    .channels = { 64, 64 },
    .layers = 1,
    .depth = { 0, 2 },
    .up_depth = { 1, 1, 0, 0 },
    .mid = 1,
    .context = 128,
    .added = 64 + 6 * 256,
    .clip_l = { .width = 64, .mlp = 96, .layers = 1 },
    .clip_g = { .width = 64, .mlp = 96, .layers = 1, .projection = 64 },
    .vocab = 50,
    .positions = 77,
    .vae_levels = 2,
    .vae_layers = 1,
    .vae_channels = { 32, 32 },
};

/* Adds PREFIX.NAME where NAME is made as by printf. */
struct at {
    struct st_writer *w;
    const char *dtype;
    const char *prefix;
};

static void add(const struct at *a, int dims, const int64_t *shape, const char *fmt, ...)
    DR_PRINTF(4, 5);

static void add(const struct at *a, int dims, const int64_t *shape, const char *fmt, ...)
{
    char name[256];
    size_t n = (size_t)snprintf(name, sizeof name, "%s", a->prefix);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(name + n, sizeof name - n, fmt, ap);
    va_end(ap);
    st_writer_add(a->w, name, a->dtype, dims, shape, NULL);
}

static void linear(const struct at *a, const char *name, int64_t out, int64_t in)
{
    add(a, 2, (const int64_t[]){ out, in }, "%s.weight", name);
    add(a, 1, &out, "%s.bias", name);
}

static void conv(const struct at *a, const char *name, int64_t out, int64_t in, int64_t k)
{
    add(a, 4, (const int64_t[]){ out, in, k, k }, "%s.weight", name);
    add(a, 1, &out, "%s.bias", name);
}

static void norm(const struct at *a, const char *name, int64_t c)
{
    add(a, 1, &c, "%s.weight", name);
    add(a, 1, &c, "%s.bias", name);
}

/* a with the printed text appended to its prefix, in a buffer of the caller's. */
static struct at under(const struct at *a, char *buffer, size_t size, const char *fmt, ...)
    DR_PRINTF(4, 5);

static struct at under(const struct at *a, char *buffer, size_t size, const char *fmt, ...)
{
    struct at b = *a;
    size_t n = (size_t)snprintf(buffer, size, "%s", a->prefix);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(buffer + n, size - n, fmt, ap);
    va_end(ap);
    b.prefix = buffer;
    return b;
}

/* ---- text encoders ---- */

static void clip_l(struct at a, const struct sgm_spec *s)
{
    const struct sgm_clip *c = &s->clip_l;
    char text[200];
    a.prefix = s->version ? "cond_stage_model.transformer.text_model."
                          : "conditioner.embedders.0.transformer.text_model.";
    add(&a, 2, (const int64_t[]){ s->vocab, c->width }, "embeddings.token_embedding.weight");
    add(&a, 2, (const int64_t[]){ s->positions, c->width }, "embeddings.position_embedding.weight");
    snprintf(text, sizeof text, "%sembeddings.position_ids", a.prefix);
    st_writer_add(a.w, text, "I64", 2, (const int64_t[]){ 1, s->positions }, NULL);
    for (int i = 0; i < c->layers; i++) {
        struct at l = under(&a, text, sizeof text, "encoder.layers.%d.", i);
        linear(&l, "self_attn.k_proj", c->width, c->width);
        linear(&l, "self_attn.v_proj", c->width, c->width);
        linear(&l, "self_attn.q_proj", c->width, c->width);
        linear(&l, "self_attn.out_proj", c->width, c->width);
        norm(&l, "layer_norm1", c->width);
        linear(&l, "mlp.fc1", c->mlp, c->width);
        linear(&l, "mlp.fc2", c->width, c->mlp);
        norm(&l, "layer_norm2", c->width);
    }
    norm(&a, "final_layer_norm", c->width);
}

static void clip_g(struct at a, const struct sgm_spec *s)
{
    const struct sgm_clip *c = &s->clip_g;
    char text[200];
    a.prefix = s->version        ? "cond_stage_model.model."
               : s->clip_l.width ? "conditioner.embedders.1.model."
                                 : "conditioner.embedders.0.model.";
    add(&a, 2, (const int64_t[]){ s->positions, c->width }, "positional_embedding");
    add(&a, 2, (const int64_t[]){ c->width, c->projection }, "text_projection");
    add(&a, 0, NULL, "logit_scale");
    add(&a, 2, (const int64_t[]){ s->vocab, c->width }, "token_embedding.weight");
    norm(&a, "ln_final", c->width);
    for (int i = 0; i < c->layers; i++) {
        struct at l = under(&a, text, sizeof text, "transformer.resblocks.%d.", i);
        add(&l, 2, (const int64_t[]){ 3 * c->width, c->width }, "attn.in_proj_weight");
        add(&l, 1, (const int64_t[]){ 3 * c->width }, "attn.in_proj_bias");
        linear(&l, "attn.out_proj", c->width, c->width);
        norm(&l, "ln_1", c->width);
        norm(&l, "ln_2", c->width);
        linear(&l, "mlp.c_fc", c->mlp, c->width);
        linear(&l, "mlp.c_proj", c->width, c->mlp);
    }
}

void sgm_add_clips(struct st_writer *w, const struct sgm_spec *s)
{
    struct at a = { w, s->dtype, "" };
    if (s->clip_l.width)
        clip_l(a, s);
    if (s->clip_g.width)
        clip_g(a, s);
}

/* ---- UNet ---- */

static void resblock(const struct at *a, int64_t in, int64_t out, int64_t time)
{
    norm(a, "in_layers.0", in);
    conv(a, "in_layers.2", out, in, 3);
    linear(a, "emb_layers.1", out, time);
    norm(a, "out_layers.0", out);
    conv(a, "out_layers.3", out, out, 3);
    if (in != out)
        conv(a, "skip_connection", out, in, 1);
}

static void attention(const struct at *a, const char *name, int64_t c, int64_t context)
{
    add(a, 2, (const int64_t[]){ c, c }, "%s.to_q.weight", name);
    add(a, 2, (const int64_t[]){ c, context }, "%s.to_k.weight", name);
    add(a, 2, (const int64_t[]){ c, context }, "%s.to_v.weight", name);
    add(a, 2, (const int64_t[]){ c, c }, "%s.to_out.0.weight", name);
    add(a, 1, &c, "%s.to_out.0.bias", name);
}

/* Convolutions in version 1. */
static void projection(const struct at *a, const struct sgm_spec *s, const char *name, int64_t c)
{
    if (s->version == 1)
        conv(a, name, c, c, 1);
    else
        linear(a, name, c, c);
}

static void transformer(const struct at *a, const struct sgm_spec *s, int64_t c, int depth)
{
    char text[200];
    norm(a, "norm", c);
    projection(a, s, "proj_in", c);
    for (int i = 0; i < depth; i++) {
        struct at b = under(a, text, sizeof text, "transformer_blocks.%d.", i);
        attention(&b, "attn1", c, c);
        linear(&b, "ff.net.0.proj", 8 * c, c);
        linear(&b, "ff.net.2", c, 4 * c);
        attention(&b, "attn2", c, s->context);
        norm(&b, "norm1", c);
        norm(&b, "norm2", c);
        norm(&b, "norm3", c);
    }
    projection(a, s, "proj_out", c);
}

static void input_blocks(const struct at *a, const struct sgm_spec *s, int64_t time, int64_t *skips,
                         int *ret_skips)
{
    char text[200];
    int block = 0, layer = 0, n = 0;
    int64_t c = s->channels[0];
    conv(a, "input_blocks.0.0", c, s->in_channels, 3);
    skips[n++] = c;
    for (int level = 0; level < s->levels; level++) {
        for (int j = 0; j < s->layers; j++, layer++) {
            struct at r = under(a, text, sizeof text, "input_blocks.%d.0.", ++block);
            resblock(&r, c, s->channels[level], time);
            c = skips[n++] = s->channels[level];
            struct at t = under(a, text, sizeof text, "input_blocks.%d.1.", block);
            if (s->depth[layer])
                transformer(&t, s, c, s->depth[layer]);
        }
        if (level + 1 < s->levels) {
            struct at d = under(a, text, sizeof text, "input_blocks.%d.0.", ++block);
            conv(&d, "op", c, c, 3);
            skips[n++] = c;
        }
    }
    *ret_skips = n;
}

static void output_blocks(const struct at *a, const struct sgm_spec *s, int64_t time,
                          const int64_t *skips, int n)
{
    char text[200];
    int block = 0;
    int64_t c = s->channels[s->levels - 1];
    for (int level = s->levels - 1; level >= 0; level--)
        for (int j = 0; j <= s->layers; j++, block++) {
            struct at r = under(a, text, sizeof text, "output_blocks.%d.0.", block);
            resblock(&r, c + skips[--n], s->channels[level], time);
            c = s->channels[level];
            int depth = s->up_depth[block];
            struct at t = under(a, text, sizeof text, "output_blocks.%d.1.", block);
            if (depth)
                transformer(&t, s, c, depth);
            struct at u = under(a, text, sizeof text, "output_blocks.%d.%d.", block, depth ? 2 : 1);
            if (j == s->layers && level)
                conv(&u, "conv", c, c, 3);
        }
    assert_int_equal(n, 0);
}

void sgm_add_unet(struct st_writer *w, const struct sgm_spec *s)
{
    struct at a = { w, s->dtype, "model.diffusion_model." };
    char text[200];
    int64_t skips[32], time = 4 * s->channels[0], c = s->channels[s->levels - 1];
    int n;
    linear(&a, "time_embed.0", time, s->channels[0]);
    linear(&a, "time_embed.2", time, time);
    if (s->added) {
        linear(&a, "label_emb.0.0", time, s->added);
        linear(&a, "label_emb.0.2", time, time);
    }
    input_blocks(&a, s, time, skips, &n);
    for (int i = 0; i < 3 && s->mid != -2; i++) {
        struct at m = under(&a, text, sizeof text, "middle_block.%d.", i);
        if (i == 1 && s->mid > 0)
            transformer(&m, s, c, s->mid);
        else if (i == 0 || s->mid > 0)
            resblock(&m, c, c, time);
    }
    output_blocks(&a, s, time, skips, n);
    norm(&a, "out.0", s->channels[0]);
    conv(&a, "out.2", 4, s->channels[0], 3);
}

/* ---- VAE ---- */

static void vae_block(const struct at *a, int64_t in, int64_t out)
{
    norm(a, "norm1", in);
    conv(a, "conv1", out, in, 3);
    norm(a, "norm2", out);
    conv(a, "conv2", out, out, 3);
    if (in != out)
        conv(a, "nin_shortcut", out, in, 1);
}

static void vae_middle(const struct at *a, int64_t c)
{
    char text[200];
    struct at b = under(a, text, sizeof text, "mid.block_1.");
    vae_block(&b, c, c);
    b = under(a, text, sizeof text, "mid.attn_1.");
    norm(&b, "norm", c);
    conv(&b, "q", c, c, 1);
    conv(&b, "k", c, c, 1);
    conv(&b, "v", c, c, 1);
    conv(&b, "proj_out", c, c, 1);
    b = under(a, text, sizeof text, "mid.block_2.");
    vae_block(&b, c, c);
}

void sgm_add_vae(struct st_writer *w, const struct sgm_spec *s)
{
    struct at e = { w, s->dtype, "first_stage_model.encoder." };
    struct at d = { w, s->dtype, "first_stage_model.decoder." };
    struct at both = { w, s->dtype, "first_stage_model." };
    char text[200];
    int64_t top = s->vae_channels[s->vae_levels - 1], c = s->vae_channels[0];
    conv(&e, "conv_in", c, 3, 3);
    for (int i = 0; i < s->vae_levels; i++) {
        for (int j = 0; j < s->vae_layers; j++, c = s->vae_channels[i]) {
            struct at b = under(&e, text, sizeof text, "down.%d.block.%d.", i, j);
            vae_block(&b, c, s->vae_channels[i]);
        }
        struct at b = under(&e, text, sizeof text, "down.%d.downsample.", i);
        if (i + 1 < s->vae_levels)
            conv(&b, "conv", c, c, 3);
    }
    vae_middle(&e, top);
    norm(&e, "norm_out", top);
    conv(&e, "conv_out", 8, top, 3);
    conv(&d, "conv_in", top, 4, 3);
    vae_middle(&d, top);
    c = top;
    for (int i = s->vae_levels - 1; i >= 0; i--) {
        for (int j = 0; j <= s->vae_layers; j++, c = s->vae_channels[i]) {
            struct at b = under(&d, text, sizeof text, "up.%d.block.%d.", i, j);
            vae_block(&b, c, s->vae_channels[i]);
        }
        struct at b = under(&d, text, sizeof text, "up.%d.upsample.", i);
        if (i)
            conv(&b, "conv", c, c, 3);
    }
    norm(&d, "norm_out", c);
    conv(&d, "conv_out", 3, c, 3);
    conv(&both, "quant_conv", 8, 8, 1);
    conv(&both, "post_quant_conv", 4, 4, 1);
}

void sgm_add(struct st_writer *w, const struct sgm_spec *s)
{
    sgm_add_clips(w, s);
    sgm_add_unet(w, s);
    sgm_add_vae(w, s);
}

void sgm_save(const struct sgm_spec *s, bool sparse, const char *path)
{
    struct st_writer *w = st_writer_new();
    if (sparse)
        st_writer_sparse(w);
    sgm_add(w, s);
    st_writer_save(w, path);
    st_writer_free(w);
}
