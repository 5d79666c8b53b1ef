/* ops.c - see ops.h. */
#include "bench/ops.h"

#include <math.h>
#include <string.h>

#include "backend/check/check_data.h"
#include "backend/ops/int8.h"
#include "base/alloc.h"
#include "base/clock.h"

/* h x w: pixels of src, or 1 x tokens; c: its channels; out: dst's channels; keys: attention's,
 * 0: as many as queries; heads or groups. */
struct bench_case {
    const char *name;
    enum op_kind kind;
    int64_t n, h, w, c, out, keys;
    int heads;
    enum activation activation;
    bool residual;
};

#define TOKENS(n_, w_, c_, out_) .n = n_, .h = 1, .w = w_, .c = c_, .out = out_
#define PIXELS(edge, c_, out_) .n = 1, .h = edge, .w = edge, .c = c_, .out = out_

static const struct bench_case cases[] = {
    /* Matrices of the 1280-channel level at 1024x1024, of one row and of a pair. */
    { "op_geglu_1280", OP_LINEAR, TOKENS(1, 1024, 1280, 5120), .activation = ACT_GEGLU },
    { "op_geglu_1280_cfg", OP_LINEAR, TOKENS(2, 1024, 1280, 5120), .activation = ACT_GEGLU },
    { "op_ff_out_1280", OP_LINEAR, TOKENS(1, 1024, 5120, 1280), .residual = true },
    { "op_ff_out_1280_cfg", OP_LINEAR, TOKENS(2, 1024, 5120, 1280), .residual = true },
    { "op_qkv_1280", OP_LINEAR, TOKENS(1, 1024, 1280, 3840) },
    { "op_qkv_1280_cfg", OP_LINEAR, TOKENS(2, 1024, 1280, 3840) },
    { "op_proj_1280", OP_LINEAR, TOKENS(1, 1024, 1280, 1280), .residual = true },
    { "op_proj_1280_cfg", OP_LINEAR, TOKENS(2, 1024, 1280, 1280), .residual = true },
    /* The same of the 640-channel level. */
    { "op_geglu_640", OP_LINEAR, TOKENS(1, 4096, 640, 2560), .activation = ACT_GEGLU },
    { "op_ff_out_640", OP_LINEAR, TOKENS(1, 4096, 2560, 640), .residual = true },
    { "op_qkv_640", OP_LINEAR, TOKENS(1, 4096, 640, 1920) },
    { "op_proj_640", OP_LINEAR, TOKENS(1, 4096, 640, 640), .residual = true },
    /* Convolutions 3x3: op_conv_CHANNELS_EDGE, of the UNet, then of the VAE. */
    { "op_conv_320_128", OP_CONV2D, PIXELS(128, 320, 320) },
    { "op_conv_640_64", OP_CONV2D, PIXELS(64, 640, 640) },
    { "op_conv_1280_32", OP_CONV2D, PIXELS(32, 1280, 1280) },
    { "op_conv_128_1024", OP_CONV2D, PIXELS(1024, 128, 128), .residual = true },
    { "op_conv_256_512", OP_CONV2D, PIXELS(512, 256, 256), .residual = true },
    { "op_conv_512_256", OP_CONV2D, PIXELS(256, 512, 512), .residual = true },
    { "op_conv_512_128", OP_CONV2D, PIXELS(128, 512, 512), .residual = true },
    /* To twice the edge, then 3x3: op_upsample_CHANNELS_EDGE of the result. */
    { "op_upsample_1280_64", OP_UPSAMPLE_CONV, PIXELS(32, 1280, 1280) },
    { "op_upsample_640_128", OP_UPSAMPLE_CONV, PIXELS(64, 640, 640) },
    { "op_upsample_512_256", OP_UPSAMPLE_CONV, PIXELS(128, 512, 512) },
    { "op_upsample_256_1024", OP_UPSAMPLE_CONV, PIXELS(512, 256, 256) },
    /* Attention: op_attention_TOKENS to themselves, op_cross_TOKENS to the text. */
    { "op_attention_4096", OP_ATTENTION, TOKENS(1, 4096, 640, 640), .heads = 10 },
    { "op_attention_1024", OP_ATTENTION, TOKENS(1, 1024, 1280, 1280), .heads = 20 },
    /* Stable Diffusion 1.x: 8 heads of 40, 80 and 160 channels. */
    { "op_attention_4096_40", OP_ATTENTION, TOKENS(1, 4096, 320, 320), .heads = 8 },
    { "op_attention_1024_80", OP_ATTENTION, TOKENS(1, 1024, 640, 640), .heads = 8 },
    { "op_attention_256_160", OP_ATTENTION, TOKENS(1, 256, 1280, 1280), .heads = 8 },
    { "op_cross_4096", OP_ATTENTION, TOKENS(1, 4096, 640, 640), .keys = 77, .heads = 10 },
    { "op_cross_1024", OP_ATTENTION, TOKENS(1, 1024, 1280, 1280), .keys = 77, .heads = 20 },
    /* No FLOPs by the count, but time. */
    { "op_group_norm_320_128", OP_GROUP_NORM, PIXELS(128, 320, 320), .heads = 32,
      .activation = ACT_SILU },
    { "op_group_norm_128_1024", OP_GROUP_NORM, PIXELS(1024, 128, 128), .heads = 32,
      .activation = ACT_SILU },
    { "op_layer_norm_640", OP_LAYER_NORM, TOKENS(1, 4096, 640, 640) },
    { "op_layer_norm_1280", OP_LAYER_NORM, TOKENS(1, 1024, 1280, 1280) },
};

enum { CASES = sizeof cases / sizeof *cases, SOURCES = 2 };

struct bench_op {
    struct exec x;
    struct op op;
    struct weight *weight;
    struct op_need need;
    struct weight_source source[SOURCES];
};

const char *bench_op_name(int i)
{
    return i >= 0 && i < CASES ? cases[i].name : NULL;
}

/* ---- random values ---- */

/* A prime, so that equal rows of a matrix would have to be this many rows apart. */
enum { DRAWN = 262139 };

int bench_fill(void *dst, enum dtype dtype, int64_t n, double mean, double deviation,
               struct dr_error *err)
{
    static atomic_ullong calls;
    uint64_t seed = atomic_fetch_add(&calls, 1);
    size_t size = dtype_size(dtype);
    int64_t drawn = n < DRAWN ? n : DRAWN;
    float *values = dr_malloc(DR_TAG_TEST, (size_t)drawn * sizeof *values);
    if (!values)
        return dr_fail(err, DR_ENOMEM, "out of memory for random values");
    for (int64_t i = 0; i < drawn; i++) { /* the sum of four has a deviation of 1 / sqrt(3) */
        uint64_t r = check_random(seed, (uint64_t)i);
        double sum = -2;
        for (int k = 0; k < 4; k++)
            sum += (double)(r >> (16 * k) & 0xffff) / 65536.0;
        values[i] = (float)(mean + deviation * sum * 1.7320508075688772);
    }
    dtype_from_f32(dst, dtype, values, drawn);
    dr_free(values);
    for (int64_t done = drawn; done < n; done += drawn) {
        int64_t count = n - done < drawn ? n - done : drawn;
        memcpy((char *)dst + (size_t)done * size, dst, (size_t)count * size);
    }
    return 0;
}

int bench_quantize(struct weight_source *s, const atomic_int *stop, struct dr_error *err)
{
    int64_t count = 0, rows = s->shape.d[0];
    shape_count(&s->shape, &count);
    char *data = dr_malloc(DR_TAG_WEIGHTS, (size_t)count + (size_t)rows * sizeof(float));
    float *scales = data ? dr_malloc(DR_TAG_WEIGHTS, (size_t)rows * sizeof *scales) : NULL;
    int r = scales ? int8_source(s, (int8_t *)data, scales, stop, err)
                   : dr_fail(err, DR_ENOMEM, "out of memory for random weights");
    if (!r) {
        memcpy(data + count, scales, (size_t)rows * sizeof *scales);
        dr_free((void *)s->data);
        s->data = data;
        s->scales = data + count;
        s->dtype = DTYPE_I8;
    } else {
        dr_free(data);
    }
    dr_free(scales);
    return r;
}

/* ---- a case ---- */

static struct weight_desc describe(const struct bench_case *c)
{
    struct weight_desc d = { .in = c->c, .out = c->out, .parts = 1, .bias = true };
    switch (c->kind) {
    case OP_LINEAR:
        d.kind = WEIGHT_LINEAR;
        d.gated = c->activation == ACT_GEGLU;
        d.out = d.gated ? 2 * c->out : c->out;
        break;
    case OP_CONV2D:
    case OP_UPSAMPLE_CONV:
        d.kind = WEIGHT_CONV;
        d.kernel = 3;
        d.upsamples = c->kind == OP_UPSAMPLE_CONV;
        break;
    case OP_GROUP_NORM:
    case OP_LAYER_NORM:
        d.kind = WEIGHT_NORM;
        break;
    default:
        d.out = 0;
    }
    return d;
}

/* A matrix, filters or a norm's scales, then biases or shifts. */
static int make_source(struct weight_source *s, const struct bench_case *c, struct shape shape,
                       double mean, double deviation, struct dr_error *err)
{
    int64_t count = 0;
    shape_count(&shape, &count);
    void *data = dr_malloc(DR_TAG_WEIGHTS, (size_t)count * dtype_size(DTYPE_F16));
    if (!data)
        return dr_fail(err, DR_ENOMEM, "out of memory for a case");
    *s =
        (struct weight_source){ .name = c->name, .data = data, .dtype = DTYPE_F16, .shape = shape };
    return bench_fill(data, DTYPE_F16, count, mean, deviation, err);
}

static int make_weight(struct bench_op *b, const struct bench_case *c, struct dr_error *err)
{
    struct weight_desc d = describe(c);
    struct shape shape = SHAPE1(d.out);
    double mean = 1, deviation = 0.02;
    bool norm = d.kind == WEIGHT_NORM;
    if (!d.out)
        return 0;
    if (!norm) {
        int64_t inner = d.kind == WEIGHT_CONV ? d.in * d.kernel * d.kernel : d.in;
        shape = d.kind == WEIGHT_CONV ? SHAPE4(d.out, d.in, d.kernel, d.kernel)
                                      : SHAPE2(d.out, d.in);
        mean = 0;
        deviation = 1 / sqrt((double)inner);
    }
    int r = make_source(&b->source[0], c, shape, mean, deviation, err);
    if (!r && !norm && backend_precision(b->x.be) == PRECISION_INT8)
        r = bench_quantize(&b->source[0], NULL, err);
    if (!r)
        r = make_source(&b->source[1], c, SHAPE1(d.out), 0, 0.02, err);
    return r ? r : weight_prepare(b->x.be, &d, b->source, SOURCES, &b->weight, err);
}

static struct act shape_act(int64_t n, int64_t h, int64_t w, int64_t c)
{
    return (struct act){ .dtype = DTYPE_F32, .n = n, .h = h, .w = w, .c = c, .ld = c };
}

/* What lies between a norm and a product, or two products, is of the product's type; what is added
 * to, and what a norm reads, is float32. */
static void narrow_acts(const struct backend *be, const struct bench_case *c, struct op *op)
{
    enum dtype linear = backend_operand(be, OP_LINEAR), conv = backend_operand(be, OP_CONV2D);
    switch (c->kind) {
    case OP_LINEAR:
        op->src.dtype = linear;
        op->dst.dtype = c->residual ? DTYPE_F32 : linear;
        break;
    case OP_CONV2D:
        op->src.dtype = conv;
        break;
    case OP_GROUP_NORM:
        op->dst.dtype = conv;
        break;
    case OP_LAYER_NORM:
        op->dst.dtype = linear;
        break;
    case OP_ATTENTION:
        op->src.dtype = op->k.dtype = op->v.dtype = backend_operand(be, OP_ATTENTION);
        op->dst.dtype = linear;
        break;
    default:
        break;
    }
}

static struct op describe_op(const struct backend *be, const struct bench_case *c,
                             const struct weight *weight)
{
    int64_t scale = c->kind == OP_UPSAMPLE_CONV ? 2 : 1;
    struct op op = { .kind = c->kind, .weight = weight, .activation = c->activation };
    op.src = shape_act(c->n, c->h, c->w, c->c);
    op.dst = shape_act(c->n, scale * c->h, scale * c->w, c->out);
    if (c->residual)
        op.residual = op.dst;
    if (c->kind == OP_CONV2D)
        op.pad_low = op.pad_high = 1;
    if (c->kind == OP_ATTENTION) {
        op.k = op.v = shape_act(c->n, 1, c->keys ? c->keys : c->w, c->c);
        op.heads = c->heads;
        op.scale = 1 / sqrt((double)c->c / c->heads);
    }
    if (c->kind == OP_GROUP_NORM)
        op.groups = c->heads;
    op.eps = c->kind == OP_GROUP_NORM || c->kind == OP_LAYER_NORM ? 1e-5 : 0;
    narrow_acts(be, c, &op);
    return op;
}

/* Memory for one activation, random. */
static int place(struct bench_op *b, struct act *a, struct dr_error *err)
{
    size_t count = (size_t)(a->n * a->h * a->w * a->c);
    int r = act_new(&b->x, a->dtype, a->n, a->h, a->w, a->c, a, err);
    if (r)
        return r;
    void *values = dr_malloc(DR_TAG_TEST, count * dtype_size(a->dtype));
    if (!values)
        return dr_fail(err, DR_ENOMEM, "out of memory for a case");
    r = bench_fill(values, a->dtype, (int64_t)count, 0, 1, err);
    if (!r)
        r = act_write(&b->x, *a, values, err);
    dr_free(values);
    return r;
}

static size_t act_bytes(const struct act *a)
{
    return backend_align((size_t)(a->n * a->h * a->w * a->c) * sizeof(float));
}

static int make(struct bench_op *b, const struct bench_case *c, struct dr_error *err)
{
    int r = make_weight(b, c, err);
    if (r)
        return r;
    b->op = describe_op(b->x.be, c, b->weight);
    b->need = backend_need(b->x.be, &b->op);
    struct act *acts[] = { &b->op.src, &b->op.k, &b->op.v, &b->op.dst };
    size_t capacity = backend_align(b->need.scratch);
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++)
        capacity += act_bytes(acts[i]);
    r = workspace_new(b->x.be, capacity, &b->x.ws, err);
    for (size_t i = 0; i < sizeof acts / sizeof *acts && !r; i++)
        if (acts[i]->c)
            r = place(b, acts[i], err);
    if (c->residual)
        b->op.residual = b->op.dst; /* in place, as the networks do */
    return r;
}

int bench_op_new(struct backend *be, int i, struct bench_op **ret, struct dr_error *err)
{
    struct bench_op *b = dr_calloc(DR_TAG_TEST, 1, sizeof *b);
    if (!b)
        return dr_fail(err, DR_ENOMEM, "out of memory for a case");
    b->x.be = be;
    int r = make(b, &cases[i], err);
    if (r)
        bench_op_free(b);
    else
        *ret = b;
    return r;
}

void bench_op_free(struct bench_op *b)
{
    if (!b)
        return;
    weight_free(b->weight);
    workspace_free(b->x.ws);
    for (int i = 0; i < SOURCES; i++)
        dr_free((void *)b->source[i].data);
    dr_free(b);
}

int bench_op_run(struct bench_op *b, const atomic_int *stop, double *ret_seconds,
                 struct dr_error *err)
{
    double start = dr_now();
    b->x.stop = stop;
    int r = op_run(&b->x, &b->op, err);
    *ret_seconds = dr_now() - start;
    return r;
}

struct op_need bench_op_need(const struct bench_op *b)
{
    return b->need;
}
