/* vae.c - see vae.h.
 *
 * Samples go through one at a time: at these sizes one fills the machine, and the memory is one
 * picture's.
 */
#include "models/vae.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/checked.h"
#include "models/blocks.h"
#include "models/vae_tiny.h"

/* Fixed by diffusers' Encoder and Decoder, not by any config file. */
#define VAE_EPS 1e-6

struct vae_level {
    int n;
    struct resnet units[ARCH_LAYERS + 1];
    bool samples;
    struct layer sampler;
};

/* Encoder and decoder are the same parts in another order. */
struct vae_half {
    bool present;
    struct layer conv_in;
    struct vae_level levels[ARCH_LEVELS]; /* in order of execution */
    struct resnet mid[2];
    struct pixel_attention attention;
    struct layer norm_out, conv_out;
};

struct vae {
    struct vae_arch arch;
    struct vae_tiny *tiny; /* instead of all below; NULL: none */
    struct vae_half encoder, decoder;
    struct layer quant, post_quant;
};

/* ---- construction ---- */

static void half_init(struct vae_half *h, const struct vae_arch *a, bool encoder)
{
    int top = a->levels - 1;
    int64_t deep = a->channels[top];
    int64_t in = encoder ? a->channels[0] : deep;
    h->present = true;
    h->conv_in = layer_conv(encoder ? a->in_channels : a->latent_channels, in, 3);
    for (int i = 0; i <= top; i++) {
        struct vae_level *l = &h->levels[i];
        int64_t c = a->channels[encoder ? i : top - i];
        l->n = encoder ? a->layers : a->layers + 1;
        for (int j = 0; j < l->n; j++, in = c)
            resnet_init(&l->units[j], in, c, 0, a->groups, VAE_EPS);
        l->samples = i < top;
        if (l->samples)
            l->sampler = encoder ? layer_downsampler(c) : layer_upsampler(c);
    }
    for (int j = 0; j < 2; j++)
        resnet_init(&h->mid[j], deep, deep, 0, a->groups, VAE_EPS);
    if (a->mid_attention)
        pixel_attention_init(&h->attention, deep, a->groups, VAE_EPS);
    h->norm_out = layer_norm_of(encoder ? deep : a->channels[0]);
    h->conv_out = encoder ? layer_conv(deep, 2 * a->latent_channels, 3)
                          : layer_conv(a->channels[0], a->out_channels, 3);
}

static int check_arch(const struct vae_arch *a, struct dr_error *err)
{
    int layers = a->tiny ? 1 : a->layers;
    if (a->levels < 1 || a->levels > ARCH_LEVELS || layers < 1 || layers > ARCH_LAYERS)
        return dr_fail(err, DR_EINVAL, "autoencoder: number of levels or layers");
    int groups = a->tiny ? 1 : a->groups;
    if (a->in_channels <= 0 || a->out_channels <= 0 || a->latent_channels <= 0 || groups <= 0 ||
        !(a->scaling_factor > 0))
        return dr_fail(err, DR_EINVAL, "autoencoder: a size that is not positive");
    for (int i = 0; i < a->levels && !a->tiny; i++)
        if (a->channels[i] <= 0 || a->channels[i] % a->groups)
            return dr_fail(err, DR_EINVAL, "autoencoder: %lld channels in %d norm groups",
                           (long long)a->channels[i], a->groups);
    return 0;
}

int vae_new(const struct vae_arch *arch, bool encoder, bool decoder, struct vae **ret,
            struct dr_error *err)
{
    int e = check_arch(arch, err);
    if (e)
        return e;
    struct vae *v = dr_calloc(DR_TAG_MODEL, 1, sizeof *v);
    if (!v)
        return dr_fail(err, DR_ENOMEM, "out of memory for the autoencoder's structure");
    v->arch = *arch;
    if (arch->tiny) {
        e = vae_tiny_new(arch, encoder, decoder, &v->tiny, err);
        if (e)
            dr_free(v);
        else
            *ret = v;
        return e;
    }
    if (encoder)
        half_init(&v->encoder, arch, true);
    if (decoder)
        half_init(&v->decoder, arch, false);
    v->quant = layer_linear(2 * arch->latent_channels, 2 * arch->latent_channels, true);
    v->post_quant = layer_linear(arch->latent_channels, arch->latent_channels, true);
    *ret = v;
    return 0;
}

void vae_free(struct vae *v)
{
    if (!v)
        return;
    params_unprepare(v, vae_visit);
    dr_free(v->tiny);
    dr_free(v);
}

int64_t vae_moments(const struct vae_arch *a)
{
    return a->tiny ? a->latent_channels : 2 * a->latent_channels;
}

const struct vae_arch *vae_arch(const struct vae *v)
{
    return &v->arch;
}

int64_t vae_factor(const struct vae *v)
{
    return (int64_t)1 << (v->arch.levels - 1);
}

/* ---- parameters ---- */

static int visit_levels(struct vae_half *h, const struct vae_arch *a, const struct visitor *v,
                        const char *prefix, bool encoder)
{
    char name[PARAM_NAME];
    const char *way = encoder ? "down" : "up";
    int e;
    for (int i = 0; i < a->levels; i++) {
        struct vae_level *l = &h->levels[i];
        for (int j = 0; j < l->n; j++) {
            snprintf(name, sizeof name, "%s.%s_blocks.%d.resnets.%d", prefix, way, i, j);
            if ((e = resnet_visit(&l->units[j], v, name)))
                return e;
        }
        snprintf(name, sizeof name, "%s.%s_blocks.%d.%ssamplers.0.conv", prefix, way, i, way);
        if (l->samples && (e = visit_layer(v, &l->sampler, name)))
            return e;
    }
    return 0;
}

static int half_visit(struct vae_half *h, const struct vae_arch *a, const struct visitor *v,
                      const char *prefix, bool encoder)
{
    char name[PARAM_NAME];
    int e;
    if (!h->present)
        return 0;
    snprintf(name, sizeof name, "%s.conv_in", prefix);
    if ((e = visit_layer(v, &h->conv_in, name)) || (e = visit_levels(h, a, v, prefix, encoder)))
        return e;
    for (int j = 0; j < 2; j++) {
        snprintf(name, sizeof name, "%s.mid_block.resnets.%d", prefix, j);
        if ((e = resnet_visit(&h->mid[j], v, name)))
            return e;
    }
    snprintf(name, sizeof name, "%s.mid_block.attentions.0", prefix);
    if (a->mid_attention && (e = pixel_attention_visit(&h->attention, v, name)))
        return e;
    snprintf(name, sizeof name, "%s.conv_norm_out", prefix);
    if ((e = visit_layer(v, &h->norm_out, name)))
        return e;
    snprintf(name, sizeof name, "%s.conv_out", prefix);
    return visit_layer(v, &h->conv_out, name);
}

int vae_visit(void *vae, const struct visitor *v)
{
    struct vae *a = vae;
    int e;
    if (a->tiny)
        return vae_tiny_visit(a->tiny, v);
    if ((e = half_visit(&a->encoder, &a->arch, v, "encoder", true)) ||
        (e = half_visit(&a->decoder, &a->arch, v, "decoder", false)))
        return e;
    if (a->encoder.present && a->arch.quant_conv && (e = visit_layer(v, &a->quant, "quant_conv")))
        return e;
    if (a->decoder.present && a->arch.post_quant_conv)
        return visit_layer(v, &a->post_quant, "post_quant_conv");
    return 0;
}

/* ---- forward ---- */

static int run_resnet(const struct resnet *r, bool moments, struct exec *x, struct stream *y,
                      struct dr_error *err)
{
    struct stream in = *y;
    return resnet_run(r, x, (struct act){ 0 }, &in, (struct blk_way){ .moments = moments }, y, err);
}

static int run_mid(const struct vae_half *h, bool attention, struct exec *x, struct stream *y,
                   struct dr_error *err)
{
    int e;
    if ((e = run_resnet(&h->mid[0], true, x, y, err)) ||
        (attention && (e = pixel_attention_run(&h->attention, x, y, err))))
        return e;
    return run_resnet(&h->mid[1], true, x, y, err);
}

static int run_sampler(const struct layer *l, bool down, struct exec *x, struct stream *y,
                       struct dr_error *err)
{
    struct act in = y->x;
    int64_t h = down ? in.h / 2 : in.h * 2, w = down ? in.w / 2 : in.w * 2;
    const struct blk_conv how = { .pad_high = true, .moments = &y->moments };
    int e = blk_new(x, in.n, h, w, in.c, &y->x, err);
    if (!e)
        e = down ? blk_conv(x, l, in, how, y->x, err)
                 : blk_upsample(x, l, in, y->x, &y->moments, err);
    if (e)
        return e;
    act_free(x, &in);
    return 0;
}

static int run_levels(const struct vae_half *h, int levels, bool down, struct exec *x,
                      struct stream *y, struct dr_error *err)
{
    int e;
    for (int i = 0; i < levels; i++) {
        const struct vae_level *l = &h->levels[i];
        for (int j = 0; j < l->n; j++)
            if ((e = run_resnet(&l->units[j], j + 1 < l->n || !l->samples, x, y, err)))
                return e;
        if (l->samples && (e = run_sampler(&l->sampler, down, x, y, err)))
            return e;
    }
    return 0;
}

/* *y = l(*y), its own memory; moments as in blk_conv. */
static int run_conv(const struct layer *l, struct exec *x, struct act *y, struct act *moments,
                    struct dr_error *err)
{
    struct act in = *y;
    int e;
    if ((e = blk_new(x, in.n, in.h, in.w, l->desc.out, y, err)) ||
        (e = blk_conv(x, l, in, (struct blk_conv){ .moments = moments }, *y, err)))
        return e;
    act_free(x, &in);
    return 0;
}

static int run_pointwise(const struct layer *l, struct exec *x, struct act *y, struct dr_error *err)
{
    struct act in = *y;
    int e;
    if ((e = blk_new(x, in.n, in.h, in.w, l->desc.out, y, err)) ||
        (e = blk_linear(x, l, in, (struct blk_linear){ 0 }, *y, err)))
        return e;
    act_free(x, &in);
    return 0;
}

static int run_out(const struct vae_half *h, int groups, struct exec *x, struct stream *y,
                   struct dr_error *err)
{
    const struct blk_norm norm = { .groups = groups, .eps = VAE_EPS, .activation = ACT_SILU };
    int e = blk_normed(x, &h->norm_out, norm, y, err);
    return e ? e : run_conv(&h->conv_out, x, &y->x, NULL, err);
}

static int decode_one(const struct vae *v, struct exec *x, const float *latent, int64_t h,
                      int64_t w, float *ret_image, struct dr_error *err)
{
    const struct vae_arch *a = &v->arch;
    const struct vae_half *d = &v->decoder;
    struct stream y;
    int e;
    if ((e = blk_new(x, 1, h, w, a->latent_channels, &y.x, err)) ||
        (e = act_write_nchw(x, y.x, latent, err)) ||
        (a->post_quant_conv && (e = run_pointwise(&v->post_quant, x, &y.x, err))) ||
        (e = run_conv(&d->conv_in, x, &y.x, &y.moments, err)) ||
        (e = run_mid(d, a->mid_attention, x, &y, err)) ||
        (e = run_levels(d, a->levels, false, x, &y, err)) ||
        (e = run_out(d, a->groups, x, &y, err)) || (e = act_read_nchw(x, y.x, ret_image, err)))
        return e;
    act_free(x, &y.x);
    return 0;
}

static int encode_one(const struct vae *v, struct exec *x, const float *image, int64_t h, int64_t w,
                      float *ret_moments, struct dr_error *err)
{
    const struct vae_arch *a = &v->arch;
    const struct vae_half *d = &v->encoder;
    struct stream y;
    int e;
    if ((e = blk_new(x, 1, h, w, a->in_channels, &y.x, err)) ||
        (e = act_write_nchw(x, y.x, image, err)) ||
        (e = run_conv(&d->conv_in, x, &y.x, &y.moments, err)) ||
        (e = run_levels(d, a->levels, true, x, &y, err)) ||
        (e = run_mid(d, a->mid_attention, x, &y, err)) || (e = run_out(d, a->groups, x, &y, err)) ||
        (a->quant_conv && (e = run_pointwise(&v->quant, x, &y.x, err))) ||
        (e = act_read_nchw(x, y.x, ret_moments, err)))
        return e;
    act_free(x, &y.x);
    return 0;
}

/* Elements of one sample of c channels; 0: not a picture. */
static int64_t sample_size(int64_t c, int64_t h, int64_t w)
{
    int64_t n;
    if (h < 1 || w < 1 || !dr_mul_i64(h, w, &n) || !dr_mul_i64(n, c, &n) || n > INT64_MAX / 64)
        return 0;
    return n;
}

/* What the UNet works on to what the decoder takes: [latent_channels, n]. */
static void unscale(const struct vae_arch *a, const float *latents, int64_t n, float *ret)
{
    float factor = (float)a->scaling_factor;
    for (int64_t c = 0; c < a->latent_channels; c++)
        for (int64_t k = c * n; k < (c + 1) * n; k++)
            ret[k] = a->normalised
                         ? latents[k] * (float)a->deviation[c] / factor + (float)a->mean[c]
                         : latents[k] / factor;
}

int vae_decode(struct vae *v, struct exec *x, const float *latents, int64_t n, int64_t h, int64_t w,
               float *ret_image, struct dr_error *err)
{
    const struct vae_arch *a = &v->arch;
    int64_t factor = vae_factor(v), size = sample_size(a->latent_channels, h, w);
    int64_t image = size ? sample_size(a->out_channels, h * factor, w * factor) : 0;
    bool present = v->tiny ? vae_tiny_has(v->tiny, false) : v->decoder.present;
    if (!present || n < 1 || !size || !image)
        return dr_fail(err, DR_EINVAL, "cannot decode %lld latents of %lldx%lld", (long long)n,
                       (long long)w, (long long)h);
    bool plan = backend_is_plan(x->be);
    float *scaled = plan ? NULL : dr_malloc(DR_TAG_JOB, (size_t)size * sizeof *scaled);
    if (!scaled && !plan)
        return dr_fail(err, DR_ENOMEM, "out of memory for scaled latents");
    int e = 0;
    for (int64_t i = 0; i < n && !e; i++) {
        if (!plan)
            unscale(a, latents + i * size, h * w, scaled);
        float *to = plan ? NULL : ret_image + i * image;
        e = v->tiny ? vae_tiny_decode(v->tiny, x, scaled, h, w, to, err)
                    : decode_one(v, x, scaled, h, w, to, err);
    }
    dr_free(scaled);
    return e;
}

int vae_encode(struct vae *v, struct exec *x, const float *image, int64_t n, int64_t h, int64_t w,
               float *ret_moments, struct dr_error *err)
{
    const struct vae_arch *a = &v->arch;
    int64_t factor = vae_factor(v), size = sample_size(a->in_channels, h, w);
    int64_t out = sample_size(vae_moments(a), h / factor, w / factor);
    bool present = v->tiny ? vae_tiny_has(v->tiny, true) : v->encoder.present;
    if (!present || n < 1 || !size || h % factor || w % factor)
        return dr_fail(err, DR_EINVAL,
                       "cannot encode %lld pictures of %lldx%lld: expected multiples of %lld",
                       (long long)n, (long long)w, (long long)h, (long long)factor);
    bool plan = backend_is_plan(x->be);
    int e = 0;
    for (int64_t i = 0; i < n && !e; i++) {
        const float *from = plan ? NULL : image + i * size;
        float *to = plan ? NULL : ret_moments + i * out;
        e = v->tiny ? vae_tiny_encode(v->tiny, x, from, h, w, to, err)
                    : encode_one(v, x, from, h, w, to, err);
    }
    return e;
}
