/* vae_tiny.c - see vae_tiny.h.
 *
 * Both halves are a list of layers numbered from 0, in which activations and upsamplings count too.
 */
#include "models/vae_tiny.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/dmath.h"
#include "models/blocks.h"

enum { BLOCK_CONVS = 3 };

struct tiny_block {
    struct layer conv[BLOCK_CONVS];
};

struct tiny_level {
    int n;
    struct tiny_block blocks[ARCH_LAYERS];
    bool samples;
    struct layer sampler; /* before the blocks going down, after them going up */
};

struct tiny_half {
    bool present;
    struct layer first, last;
    struct tiny_level levels[ARCH_LEVELS]; /* in order of execution */
};

struct vae_tiny {
    struct vae_arch arch;
    struct tiny_half encoder, decoder;
};

/* ---- construction ---- */

static struct layer without_bias(struct layer l)
{
    l.desc.bias = false;
    return l;
}

static void half_init(struct tiny_half *h, const struct vae_arch *a, bool encoder)
{
    int64_t c = a->channels[0];
    h->present = true;
    h->first = layer_conv(encoder ? a->in_channels : a->latent_channels, c, 3);
    h->last = layer_conv(c, encoder ? a->latent_channels : a->out_channels, 3);
    for (int i = 0; i < a->levels; i++) {
        struct tiny_level *l = &h->levels[i];
        l->n = encoder ? a->blocks[i] : a->up_blocks[i];
        for (int j = 0; j < l->n; j++)
            for (int k = 0; k < BLOCK_CONVS; k++)
                l->blocks[j].conv[k] = layer_conv(c, c, 3);
        l->samples = encoder ? i > 0 : i + 1 < a->levels;
        if (l->samples)
            l->sampler = without_bias(encoder ? layer_downsampler(c) : layer_upsampler(c));
    }
}

static int check_arch(const struct vae_arch *a, struct dr_error *err)
{
    for (int i = 0; i < a->levels; i++) {
        if (a->channels[i] < 1 || a->channels[i] != a->channels[0])
            return dr_fail(err, DR_EINVAL,
                           "tiny autoencoder: %lld channels, expected the same at "
                           "all levels",
                           (long long)a->channels[i]);
        if (a->blocks[i] < 0 || a->blocks[i] > ARCH_LAYERS || a->up_blocks[i] < 0 ||
            a->up_blocks[i] > ARCH_LAYERS)
            return dr_fail(err, DR_EINVAL, "tiny autoencoder: more than %d blocks at a level",
                           ARCH_LAYERS);
    }
    return 0;
}

int vae_tiny_new(const struct vae_arch *arch, bool encoder, bool decoder, struct vae_tiny **ret,
                 struct dr_error *err)
{
    int e = check_arch(arch, err);
    if (e)
        return e;
    struct vae_tiny *t = dr_calloc(DR_TAG_MODEL, 1, sizeof *t);
    if (!t)
        return dr_fail(err, DR_ENOMEM, "out of memory for the autoencoder's structure");
    t->arch = *arch;
    if (encoder)
        half_init(&t->encoder, arch, true);
    if (decoder)
        half_init(&t->decoder, arch, false);
    *ret = t;
    return 0;
}

bool vae_tiny_has(const struct vae_tiny *t, bool encoder)
{
    return encoder ? t->encoder.present : t->decoder.present;
}

/* ---- parameters ---- */

static int visit_numbered(const struct visitor *v, struct layer *l, const char *half, int number)
{
    char name[PARAM_NAME];
    snprintf(name, sizeof name, "%s.layers.%d", half, number);
    return visit_layer(v, l, name);
}

static int visit_blocks(struct tiny_level *l, const struct visitor *v, const char *half, int *at)
{
    char name[PARAM_NAME];
    int e = 0;
    for (int j = 0; j < l->n; j++, ++*at)
        for (int k = 0; k < BLOCK_CONVS && !e; k++) {
            snprintf(name, sizeof name, "%s.layers.%d.conv.%d", half, *at, 2 * k);
            e = visit_layer(v, &l->blocks[j].conv[k], name);
        }
    return e;
}

static int half_visit(struct tiny_half *h, int levels, bool encoder, const struct visitor *v)
{
    const char *name = encoder ? "encoder" : "decoder";
    int e, at = encoder ? 1 : 2; /* the decoder's first convolution has an activation */
    if (!h->present)
        return 0;
    if ((e = visit_numbered(v, &h->first, name, 0)))
        return e;
    for (int i = 0; i < levels; i++) {
        struct tiny_level *l = &h->levels[i];
        if (encoder && l->samples && (e = visit_numbered(v, &l->sampler, name, at++)))
            return e;
        if ((e = visit_blocks(l, v, name, &at)))
            return e;
        at += !encoder && l->samples; /* the upsampling */
        if (!encoder && l->samples && (e = visit_numbered(v, &l->sampler, name, at++)))
            return e;
    }
    return visit_numbered(v, &h->last, name, at);
}

int vae_tiny_visit(struct vae_tiny *t, const struct visitor *v)
{
    int e = half_visit(&t->encoder, t->arch.levels, true, v);
    return e ? e : half_visit(&t->decoder, t->arch.levels, false, v);
}

/* ---- forward ---- */

/* *y = l(*y), its own memory. */
static int run_conv(const struct layer *l, struct exec *x, struct act *y, struct dr_error *err)
{
    struct act in = *y;
    int e;
    if ((e = blk_new(x, in.n, in.h, in.w, l->desc.out, y, err)) ||
        (e = blk_conv(x, l, in, (struct blk_conv){ .residual = { .buf = NULL } }, *y, err)))
        return e;
    act_free(x, &in);
    return 0;
}

/* *y = relu(*y + conv(relu(conv(relu(conv(*y)))))). */
static int run_block(const struct tiny_block *b, struct exec *x, struct act *y,
                     struct dr_error *err)
{
    struct act in = *y, t, out;
    int e;
    if ((e = blk_new(x, in.n, in.h, in.w, in.c, &t, err)) ||
        (e = blk_conv(x, &b->conv[0], in, (struct blk_conv){ .pad_high = false }, t, err)) ||
        (e = blk_relu(x, t, err)) || (e = run_conv(&b->conv[1], x, &t, err)) ||
        (e = blk_relu(x, t, err)) || (e = blk_new(x, in.n, in.h, in.w, in.c, &out, err)) ||
        (e = blk_conv(x, &b->conv[2], t, (struct blk_conv){ .residual = in }, out, err)) ||
        (e = blk_relu(x, out, err)))
        return e;
    act_free(x, &t);
    act_free(x, &in);
    *y = out;
    return 0;
}

static int run_sampler(const struct layer *l, bool down, struct exec *x, struct act *y,
                       struct dr_error *err)
{
    struct act in = *y;
    int64_t h = down ? in.h / 2 : in.h * 2, w = down ? in.w / 2 : in.w * 2;
    int e = blk_new(x, in.n, h, w, in.c, y, err);
    if (!e)
        e = down ? blk_conv(x, l, in, (struct blk_conv){ .pad_high = false }, *y, err)
                 : blk_upsample(x, l, in, *y, NULL, err);
    if (e)
        return e;
    act_free(x, &in);
    return 0;
}

/* From *y, what the half reads, to what it gives. */
static int run_half(const struct tiny_half *h, int levels, bool encoder, struct exec *x,
                    struct act *y, struct dr_error *err)
{
    int e;
    if ((e = run_conv(&h->first, x, y, err)) || (!encoder && (e = blk_relu(x, *y, err))))
        return e;
    for (int i = 0; i < levels; i++) {
        const struct tiny_level *l = &h->levels[i];
        if (encoder && l->samples && (e = run_sampler(&l->sampler, true, x, y, err)))
            return e;
        for (int j = 0; j < l->n; j++)
            if ((e = run_block(&l->blocks[j], x, y, err)))
                return e;
        if (!encoder && l->samples && (e = run_sampler(&l->sampler, false, x, y, err)))
            return e;
    }
    return run_conv(&h->last, x, y, err);
}

/* host: c planes of what is read, NULL under the plan backend; the result goes to ret. */
static int run_one(const struct vae_tiny *t, bool encoder, struct exec *x, const float *host,
                   int64_t c, int64_t h, int64_t w, float *ret, struct dr_error *err)
{
    const struct tiny_half *half = encoder ? &t->encoder : &t->decoder;
    struct act y;
    int e;
    if ((e = blk_new(x, 1, h, w, c, &y, err)) || (e = act_write_nchw(x, y, host, err)) ||
        (e = run_half(half, t->arch.levels, encoder, x, &y, err)) ||
        (e = act_read_nchw(x, y, ret, err)))
        return e;
    act_free(x, &y);
    return 0;
}

/* 3 tanh(v / 3): latents beyond 3 are outside of what it was trained on. */
static float soft_clamp(float v)
{
    return (float)(3 * (1 - 2 / (dr_exp(2.0 / 3 * v) + 1)));
}

int vae_tiny_decode(const struct vae_tiny *t, struct exec *x, float *latent, int64_t h, int64_t w,
                    float *ret_image, struct dr_error *err)
{
    const struct vae_arch *a = &t->arch;
    int64_t in = a->latent_channels * h * w;
    int64_t out = a->out_channels * h * w << 2 * (a->levels - 1);
    bool plan = backend_is_plan(x->be);
    for (int64_t i = 0; i < in && !plan; i++)
        latent[i] = soft_clamp(latent[i]);
    int e = run_one(t, false, x, latent, a->latent_channels, h, w, ret_image, err);
    for (int64_t i = 0; i < out && !e && !plan; i++)
        ret_image[i] = 2 * ret_image[i] - 1;
    return e;
}

int vae_tiny_encode(const struct vae_tiny *t, struct exec *x, const float *image, int64_t h,
                    int64_t w, float *ret_latent, struct dr_error *err)
{
    int64_t c = t->arch.in_channels, n = c * h * w;
    bool plan = backend_is_plan(x->be);
    float *unit = plan ? NULL : dr_malloc(DR_TAG_JOB, (size_t)n * sizeof *unit);
    if (!unit && !plan)
        return dr_fail(err, DR_ENOMEM, "out of memory for the picture to encode");
    for (int64_t i = 0; i < n && !plan; i++)
        unit[i] = (image[i] + 1) / 2;
    int e = run_one(t, true, x, unit, c, h, w, ret_latent, err);
    dr_free(unit);
    return e;
}
