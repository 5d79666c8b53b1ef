/* model.c - see model.h. Random matrices have variance 1 / fan-in, norms are near 1 and
 * biases near 0, so activations stay finite; tools/make_sdxl_checkpoint.py does the same. */
#include "bench/model.h"

#include <math.h>
#include <string.h>

#include "bench/ops.h"
#include "base/alloc.h"
#include "models/arch_sdxl.h"

void bench_model_init(struct bench_model *m, struct backend *be, const struct model_spec *spec)
{
    memset(m, 0, sizeof *m);
    m->be = be;
    m->spec = spec;
    m->part = BENCH_NOTHING;
}

/* ---- random weights ---- */

struct filling {
    const atomic_int *stop;
    struct dr_error *err;
};

static int fill_param(void *ctx, struct param *p, const char *name, const struct shape *shape)
{
    struct filling *f = ctx;
    int64_t count;
    size_t n = strlen(name);
    if (f->stop && atomic_load(f->stop))
        return dr_fail(f->err, DR_ECANCELED, "stopped");
    if (!shape_count(shape, &count) || count <= 0)
        return dr_fail(f->err, DR_EINVAL, "%s: no such shape", name);
    bool matrix = shape->n > 1, bias = n > 5 && !strcmp(name + n - 5, ".bias");
    double deviation = matrix ? 1 / sqrt((double)(count / shape->d[0])) : 0.02;
    void *data = dr_malloc(DR_TAG_WEIGHTS, (size_t)count * dtype_size(DTYPE_F16));
    if (!data)
        return dr_fail(f->err, DR_ENOMEM, "out of memory for random weights");
    p->src = (struct weight_source){ .data = data, .dtype = DTYPE_F16, .shape = *shape };
    return bench_fill(data, DTYPE_F16, count, matrix || bias ? 0 : 1, deviation, f->err);
}

static int forget_param(void *ctx, struct param *p, const char *name, const struct shape *shape)
{
    (void)ctx;
    (void)name;
    (void)shape;
    dr_free((void *)p->src.data);
    p->src.data = NULL;
    return 0;
}

int bench_model_fill(void *network, visit_fn visit, const atomic_int *stop, struct dr_error *err)
{
    struct filling f = { stop, err };
    struct visitor v = { .param = fill_param, .ctx = &f };
    return visit(network, &v);
}

void bench_model_empty(void *network, visit_fn visit)
{
    struct visitor v = { .param = forget_param };
    visit(network, &v);
}

static int quantize_layer(void *ctx, struct layer *l, const char *name)
{
    const struct filling *f = ctx;
    bool product = l->desc.kind == WEIGHT_LINEAR || l->desc.kind == WEIGHT_CONV;
    int r = 0;
    (void)name;
    for (int i = 0; i < l->desc.parts && product && !l->desc.keep_f32 && !r; i++)
        r = bench_quantize(&l->weight[i].src, f->stop, f->err);
    return r;
}

/* All products but the wide ones; a converted model keeps a few more as they are. */
static int quantize(void *network, visit_fn visit, const atomic_int *stop, struct dr_error *err)
{
    struct filling f = { stop, err };
    struct visitor v = { .layer = quantize_layer, .ctx = &f };
    return visit(network, &v);
}

/* Weights from the checkpoint or from nowhere, then prepared. */
static int fill(struct bench_model *m, enum component component, void *network, visit_fn visit,
                const atomic_int *stop, struct dr_error *err)
{
    int r = !m->random ? checkpoint_load(m->checkpoint, component, network, visit, err)
                       : bench_model_fill(network, visit, stop, err);
    if (!r && m->random && component == COMPONENT_UNET &&
        backend_precision(m->be) == PRECISION_INT8)
        r = quantize(network, visit, stop, err);
    if (!r)
        r = params_prepare(network, visit, m->be, stop, err);
    return r ? r : params_acquire(network, visit, err);
}

static void empty(const struct bench_model *m, void *network, visit_fn visit)
{
    if (!network)
        return;
    params_unprepare(network, visit);
    if (m->random)
        bench_model_empty(network, visit);
}

/* ---- parts ---- */

static const struct clip_arch *text_arch(const struct bench_model *m, int which)
{
    return m->checkpoint ? checkpoint_clip_arch(m->checkpoint, which) : &arch_sdxl_text[which];
}

static int make_text(struct bench_model *m, const atomic_int *stop, struct dr_error *err)
{
    static const enum component components[] = { COMPONENT_TEXT_ENCODER, COMPONENT_TEXT_ENCODER_2 };
    int r = 0;
    for (int i = 0; i < BENCH_ENCODERS && !r; i++) {
        const struct clip_arch *arch = text_arch(m, i);
        if (!arch)
            continue;
        r = clip_text_new(arch, &m->text[i], err);
        if (!r)
            r = fill(m, components[i], m->text[i], clip_text_visit, stop, err);
    }
    return r;
}

static int make_tiny(struct bench_model *m, const atomic_int *stop, struct dr_error *err)
{
    int r = vae_new(&arch_sdxl_vae_tiny, false, true, &m->vae, err);
    return r ? r : fill(m, COMPONENT_VAE, m->vae, vae_visit, stop, err);
}

static int make_vae(struct bench_model *m, bool encoder, const atomic_int *stop,
                    struct dr_error *err)
{
    const struct vae_arch *arch = m->checkpoint ? checkpoint_vae_arch(m->checkpoint)
                                                : &arch_sdxl_vae;
    if (!arch)
        return dr_fail(err, DR_EUNSUPPORTED, "the model has no VAE");
    int r = vae_new(arch, encoder, !encoder, &m->vae, err);
    return r ? r : fill(m, COMPONENT_VAE, m->vae, vae_visit, stop, err);
}

static int make_unet(struct bench_model *m, const atomic_int *stop, struct dr_error *err)
{
    const struct unet_arch *arch = m->checkpoint ? checkpoint_unet_arch(m->checkpoint)
                                                 : &arch_sdxl_unet;
    if (!arch)
        return dr_fail(err, DR_EUNSUPPORTED, "the model has no UNet");
    int r = unet_new(arch, &m->unet, err);
    return r ? r : fill(m, COMPONENT_UNET, m->unet, unet_visit, stop, err);
}

static void let_go(struct bench_model *m)
{
    empty(m, m->unet, unet_visit);
    empty(m, m->vae, vae_visit);
    unet_free(m->unet);
    vae_free(m->vae);
    for (int i = 0; i < BENCH_ENCODERS; i++) {
        empty(m, m->text[i], clip_text_visit);
        clip_text_free(m->text[i]);
        m->text[i] = NULL;
    }
    m->unet = NULL;
    m->vae = NULL;
    m->part = BENCH_NOTHING;
}

int bench_model_need(struct bench_model *m, enum bench_part part, const atomic_int *stop,
                     struct dr_error *err)
{
    int r = 0;
    if (m->part == part)
        return 0;
    let_go(m);
    if (m->spec && !m->checkpoint)
        r = checkpoint_open_spec(m->spec, stop, &m->checkpoint, err);
    m->random = !m->checkpoint || part == BENCH_TINY_DECODER;
    if (!r && part == BENCH_TINY_DECODER)
        r = make_tiny(m, stop, err);
    if (!r && part == BENCH_UNET)
        r = make_unet(m, stop, err);
    if (!r && part == BENCH_TEXT)
        r = make_text(m, stop, err);
    if (!r && (part == BENCH_DECODER || part == BENCH_ENCODER))
        r = make_vae(m, part == BENCH_ENCODER, stop, err);
    if (r)
        let_go(m);
    else
        m->part = part;
    return r;
}

void bench_model_release(struct bench_model *m)
{
    let_go(m);
    checkpoint_close(m->checkpoint);
    m->checkpoint = NULL;
}
