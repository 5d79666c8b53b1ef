/* params.c - see params.h. */
#include "models/params.h"

#include <stdio.h>

#include "backend/cache/pack.h"
#include "base/checked.h"
#include "base/hash.h"

struct layer layer_linear(int64_t in, int64_t out, bool bias)
{
    return layer_linears(in, &out, 1, bias);
}

struct layer layer_linears(int64_t in, const int64_t *outs, int parts, bool bias)
{
    struct layer l = { .desc = { .kind = WEIGHT_LINEAR, .in = in, .parts = parts, .bias = bias } };
    for (int i = 0; i < parts && i < LAYER_PARTS; i++) {
        l.part_out[i] = outs[i];
        l.desc.out += outs[i];
    }
    return l;
}

struct layer layer_conv(int64_t in, int64_t out, int kernel)
{
    return (struct layer){
        .desc = { .kind = WEIGHT_CONV,
                  .in = in,
                  .out = out,
                  .kernel = kernel,
                  .parts = 1,
                  .bias = true },
        .part_out = { out },
    };
}

struct layer layer_norm_of(int64_t channels)
{
    return (struct layer){
        .desc = { .kind = WEIGHT_NORM, .out = channels, .parts = 1, .bias = true },
        .part_out = { channels },
    };
}

struct layer layer_table(int64_t rows, int64_t channels)
{
    return (struct layer){
        .desc = { .kind = WEIGHT_TABLE, .in = rows, .out = channels, .parts = 1 },
        .part_out = { channels },
    };
}

struct layer layer_downsampler(int64_t channels)
{
    struct layer l = layer_conv(channels, channels, 3);
    l.desc.downsamples = true;
    return l;
}

struct layer layer_upsampler(int64_t channels)
{
    struct layer l = layer_conv(channels, channels, 3);
    l.desc.upsamples = true;
    return l;
}

struct layer layer_keep_f32(struct layer l)
{
    l.desc.keep_f32 = true;
    return l;
}

static struct shape weight_shape(const struct layer *l, int part)
{
    const struct weight_desc *d = &l->desc;
    switch (d->kind) {
    case WEIGHT_LINEAR:
        return SHAPE2(l->part_out[part], d->in);
    case WEIGHT_CONV:
        return SHAPE4(d->out, d->in, d->kernel, d->kernel);
    case WEIGHT_NORM:
        return SHAPE1(d->out);
    case WEIGHT_TABLE:
        return SHAPE2(d->in, d->out);
    }
    return SHAPE1(0);
}

static int visit_param(const struct visitor *v, struct param *p, const char *layer,
                       const char *suffix, const struct shape *shape)
{
    char name[PARAM_NAME];
    int n = snprintf(name, sizeof name, "%s%s", layer, suffix);
    if (n < 0 || (size_t)n >= sizeof name)
        return DR_ELIMIT;
    return v->param(v->ctx, p, name, shape);
}

int visit_layers(const struct visitor *v, struct layer *l, const char *const *names)
{
    for (int i = 0; v->param && i < l->desc.parts; i++) {
        struct shape shape = weight_shape(l, i);
        int r = visit_param(v, &l->weight[i], names[i], ".weight", &shape);
        if (!r && l->desc.bias) {
            shape = SHAPE1(l->part_out[i]);
            r = visit_param(v, &l->bias[i], names[i], ".bias", &shape);
        }
        if (r)
            return r;
    }
    return v->layer ? v->layer(v->ctx, l, names[0]) : 0;
}

int visit_layer(const struct visitor *v, struct layer *l, const char *name)
{
    return visit_layers(v, l, &name);
}

/* ---- visitors ---- */

/* The layer's blob in a pack. */
static int blob_name(char dst[PACK_NAME], const char *prefix, const char *layer,
                     struct dr_error *err)
{
    int n = snprintf(dst, PACK_NAME, "%s/%s", prefix, layer);
    return n < 0 || n >= PACK_NAME
               ? dr_fail(err, DR_ELIMIT, "layer '%.100s...': name too long", layer)
               : 0;
}

struct sizing {
    struct backend *be;
    const char *prefix;
    struct params_bytes *sum;
    struct dr_error *err;
};

/* The packed form that `be` makes of a layer whose parameters are bound: it depends on their types.
 */
static struct weight_bytes made_bytes(struct backend *be, const struct layer *l)
{
    struct weight_desc d = l->desc;
    struct weight_source sources[LAYER_PARTS];
    for (int i = 0; i < d.parts; i++)
        sources[i] = l->weight[i].src;
    d.int8 = weight_is_int8(&d, sources);
    return weight_bytes(be, &d);
}

static int size_layer(void *ctx, struct layer *l, const char *name)
{
    struct sizing *s = ctx;
    struct params_bytes *sum = s->sum;
    struct weight_bytes b = made_bytes(s->be, l);
    char text[PACK_NAME + 32], blob[PACK_NAME];
    uint64_t bytes = b.vectors + b.packed;
    uint64_t whole = (bytes + PACK_ALIGN - 1) / PACK_ALIGN * PACK_ALIGN;
    int r = blob_name(blob, s->prefix, name, s->err);
    if (r || !bytes)
        return r;
    int n = snprintf(text, sizeof text, "%s %llu\n", blob, (unsigned long long)bytes);
    sum->contents = dr_hash(sum->contents ? sum->contents : HASH_START, text, (size_t)n);
    sum->blobs++;
    sum->bytes += whole;
    sum->made += bytes;
    sum->packed += b.packed;
    sum->largest = whole > sum->largest ? whole : sum->largest;
    return 0;
}

int params_bytes(void *network, visit_fn visit, struct backend *be, const char *prefix,
                 struct params_bytes *sum, struct dr_error *err)
{
    struct sizing s = { be, prefix, sum, err };
    struct visitor v = { .layer = size_layer, .ctx = &s };
    return visit(network, &v);
}

struct prepare {
    struct backend *be;
    const struct params_packing *how;
    struct dr_error *err;
};

static int prepare_layer(void *ctx, struct layer *l, const char *name)
{
    struct prepare *p = ctx;
    const struct params_packing *how = p->how;
    if (how->stop && atomic_load(how->stop))
        return dr_fail(p->err, DR_ECANCELED, "stopped while weights were prepared");
    if (l->packed)
        return dr_fail(p->err, DR_ESTATE, "layer '%s' is prepared already", name);
    struct weight_source sources[2 * LAYER_PARTS];
    int n = 0;
    for (int i = 0; i < l->desc.parts; i++)
        sources[n++] = l->weight[i].src;
    for (int i = 0; l->desc.bias && i < l->desc.parts; i++)
        sources[n++] = l->bias[i].src;
    for (int i = 0; i < n; i++)
        if (!sources[i].data && !backend_is_plan(p->be))
            return dr_fail(p->err, DR_ESTATE, "layer '%s' has no weights loaded", name);
    char blob[PACK_NAME];
    int r = blob_name(blob, how->prefix ? how->prefix : "", name, p->err);
    if (!r)
        r = weight_prepare_in(p->be, how->pack, blob, &l->desc, sources, n, &l->packed, p->err);
    if (r)
        return dr_while(p->err, r, "preparing layer '%s'", name);
    struct weight_bytes b = made_bytes(p->be, l);
    if (how->made)
        how->made(how->ctx, b.vectors + b.packed);
    return 0;
}

int params_prepare(void *network, visit_fn visit, struct backend *be, const atomic_int *stop,
                   struct dr_error *err)
{
    return params_prepare_in(network, visit, be, &(struct params_packing){ .stop = stop }, err);
}

int params_prepare_in(void *network, visit_fn visit, struct backend *be,
                      const struct params_packing *how, struct dr_error *err)
{
    struct prepare p = { .be = be, .how = how, .err = err };
    struct visitor v = { .layer = prepare_layer, .ctx = &p };
    int r = visit(network, &v);
    if (r)
        params_unprepare(network, visit);
    return r;
}

static int unprepare_layer(void *ctx, struct layer *l, const char *name)
{
    (void)ctx;
    (void)name;
    weight_free(l->packed);
    l->packed = NULL;
    return 0;
}

void params_unprepare(void *network, visit_fn visit)
{
    struct visitor v = { .layer = unprepare_layer };
    visit(network, &v);
}

static int check_layer(void *ctx, struct layer *l, const char *name)
{
    struct dr_error *err = ctx;
    return l->packed ? 0 : dr_fail(err, DR_ESTATE, "layer '%s' is not prepared", name);
}

static int release_layer(void *ctx, struct layer *l, const char *name)
{
    const bool *drop = ctx;
    (void)name;
    if (l->packed)
        weight_release(l->packed, *drop);
    return 0;
}

int params_acquire(void *network, visit_fn visit, struct dr_error *err)
{
    struct visitor v = { .layer = check_layer, .ctx = err };
    return visit(network, &v);
}

void params_release(void *network, visit_fn visit, bool drop)
{
    struct visitor v = { .layer = release_layer, .ctx = &drop };
    visit(network, &v);
}
