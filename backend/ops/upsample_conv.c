/* upsample_conv.c - a 3x3 convolution of the nearest-resized picture, which is never made.
 *
 * Contract. src [n, h, w, in], dst [n, H, W, out] float32, any H and W; weight WEIGHT_CONV, kernel
 * 3. The picture that is convolved is U[i, j] = src[floor(i h / H), floor(j w / W)] (torch's
 * interpolate, mode nearest, given a size), with one zero around it: diffusers' Upsample2D. dst =
 * conv(U) + b, then residual. flops, order and rounding as conv2d.
 */
#include "backend/ops/common.h"
#include "backend/ops/window.h"

static int check(const struct op *op, struct dr_error *err)
{
    int r = ref_usual("upsample_conv", op, false, err);
    if (!r)
        r = ref_weight("upsample_conv", op->weight, WEIGHT_CONV, err);
    if (r)
        return r;
    const struct weight_desc *d = weight_desc(op->weight);
    if (!d->upsamples)
        return dr_fail(err, DR_EINVAL, "upsample_conv: the weight is one of a conv2d");
    if (d->kernel != 3 || op->activation != ACT_NONE || op->channel_add.buf)
        return dr_fail(err, DR_EINVAL, "upsample_conv: kernel 3, no activation, no channel_add");
    r = ref_shape("upsample_conv", "src", &op->src, op->dst.n, -1, -1, d->in, err);
    return r ? r : ref_shape("upsample_conv", "dst", &op->dst, -1, -1, -1, d->out, err);
}

static int64_t source(const struct op *op, bool row, int64_t out, int tap)
{
    int64_t from = row ? op->src.h : op->src.w, to = row ? op->dst.h : op->dst.w;
    int64_t i = out - 1 + tap;
    return i < 0 || i >= to ? -1 : i * from / to;
}

static void run(const struct op_args *a, int phase, int64_t tile, void *own)
{
    (void)phase;
    window_run(a, source, tile, own);
}

static double at(const struct op_args *a, int64_t n, int64_t h, int64_t w, int64_t c)
{
    return window_at(a, source, n, h, w, c);
}

enum { F16 = 1, VIEW = 2, ADD = 4, I8 = 8, MOMENTS = 16 };

/* h, w: of dst; kv, groups: of src. */
static const struct op_case cases[] = {
    { "one value", .n = 1, .h = 1, .w = 1, .kv = 1, .groups = 1, .cin = 1, .cout = 1 },
    { "double", .n = 2, .h = 8, .w = 10, .kv = 4, .groups = 5, .cin = 20, .cout = 12 },
    { "7 to 13, 5 to 9", .n = 3, .h = 13, .w = 9, .kv = 7, .groups = 5, .cin = 33, .cout = 17,
      .variant = F16 | MOMENTS },
    { "same size", .n = 1, .h = 6, .w = 5, .kv = 6, .groups = 5, .cin = 16, .cout = 16 },
    { "one to seven", .n = 1, .h = 7, .w = 7, .kv = 1, .groups = 1, .cin = 5, .cout = 3 },
    { "smaller", .n = 1, .h = 4, .w = 3, .kv = 9, .groups = 7, .cin = 8, .cout = 8 },
    { "views", .n = 2, .h = 10, .w = 6, .kv = 5, .groups = 3, .cin = 24, .cout = 20,
      .variant = VIEW | F16 | ADD },
    { "double, odd sizes, views", .n = 3, .h = 14, .w = 10, .kv = 7, .groups = 5, .cin = 36,
      .cout = 70, .variant = VIEW | F16 | ADD | MOMENTS },
    { "double, almost", .n = 1, .h = 15, .w = 10, .kv = 7, .groups = 5, .cin = 36, .cout = 40 },
    { "double, deep", .n = 2, .h = 22, .w = 16, .kv = 11, .groups = 8, .cin = 1280, .cout = 1280,
      .variant = F16 },
    { "unet upsampler", .n = 1, .h = 32, .w = 32, .kv = 16, .groups = 16, .cin = 640, .cout = 640,
      .variant = F16 },
    { "vae upsampler", .n = 1, .h = 128, .w = 96, .kv = 64, .groups = 48, .cin = 128, .cout = 128,
      .variant = F16 | MOMENTS },
    { "double, a pixel short", .n = 2, .h = 62, .w = 126, .kv = 31, .groups = 63, .cin = 200,
      .cout = 70, .variant = VIEW | F16 | ADD | MOMENTS },
    { "double, rows longer than strips", .n = 2, .h = 6, .w = 72, .kv = 3, .groups = 36, .cin = 64,
      .cout = 72, .variant = F16 | ADD | MOMENTS },
    { "int8, double", .n = 2, .h = 4, .w = 72, .kv = 2, .groups = 36, .cin = 128, .cout = 72,
      .variant = I8 | ADD | MOMENTS },
    { "int8, odd sizes", .n = 2, .h = 7, .w = 5, .kv = 4, .groups = 3, .cin = 19, .cout = 21,
      .variant = I8 | MOMENTS },
    { "int8", .n = 2, .h = 13, .w = 9, .kv = 7, .groups = 5, .cin = 150, .cout = 70,
      .variant = VIEW | I8 | ADD },
};

static void setup(const struct op_case *c, struct op_setup *ret)
{
    int64_t gap = c->variant & VIEW ? 3 : 0;
    struct op *op = &ret->op;
    op->src =
        (struct act){ .n = c->n, .h = c->kv, .w = c->groups, .c = c->cin, .ld = c->cin + gap };
    op->dst = (struct act){ .n = c->n, .h = c->h, .w = c->w, .c = c->cout, .ld = c->cout + gap };
    if (c->variant & ADD)
        op->residual = op->dst;
    ret->moments = c->variant & MOMENTS;
    ret->weight_dtype = c->variant & I8 ? DTYPE_I8 : c->variant & F16 ? DTYPE_F16 : DTYPE_F32;
    ret->weight = (struct weight_desc){ .kind = WEIGHT_CONV,
                                        .in = c->cin,
                                        .out = c->cout,
                                        .kernel = 3,
                                        .parts = 1,
                                        .bias = true,
                                        .upsamples = true };
}

const struct op_work op_work_upsample_conv = {
    .phases = 1, .per_thread = window_per_thread, .tiles = window_tiles, .run = run
};

const struct op_info op_info_upsample_conv = {
    .name = "upsample_conv",
    .operands = OP_SRC | OP_DST,
    .check = check,
    .flops = window_flops,
    .reference = &op_work_upsample_conv,
    .at = at,
    .setup = setup,
    .cases = cases,
    .n_cases = sizeof cases / sizeof *cases,
    .tolerance = 3e-6,
    .fast_tolerance = 1e-5,
};
