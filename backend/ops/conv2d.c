/* conv2d.c - dst = act(conv(src, W) + b + channel_add) + residual.
 *
 * Contract. src [n, h, w, in], dst [n, H, W, out] float32 NHWC, H = (h + pad_low + pad_high -
 * kernel) / stride + 1, the same for W; weight WEIGHT_CONV [out, in, kernel, kernel] as in torch,
 * kernel 1 or 3; outside src there are zeros. channel_add [n, 1, 1, out] is added to the sum in
 * float32, so that an add may do it as well, before the activation (NONE or SILU). residual: dst's
 * shape, may be dst itself; src may not. flops = 2 n H W in out kernel^2. Order: one sum per output
 * in double, over rows, columns, then channels of the window. Kernels may take the channels in
 * blocks, each in that order. 8-bit kernels round src by sample (int8.h).
 */
#include "backend/ops/common.h"
#include "backend/ops/window.h"

static int64_t extent(const struct op *op, int64_t size)
{
    int64_t room = size + op->pad_low + op->pad_high - weight_desc(op->weight)->kernel;
    return room < 0 ? 0 : room / op_stride(op) + 1;
}

static int check(const struct op *op, struct dr_error *err)
{
    int r = ref_usual("conv2d", op, false, err);
    if (!r)
        r = ref_weight("conv2d", op->weight, WEIGHT_CONV, err);
    if (r)
        return r;
    const struct weight_desc *d = weight_desc(op->weight);
    if (d->upsamples)
        return dr_fail(err, DR_EINVAL, "conv2d: the weight is one of an upsample_conv");
    if (op->pad_low < 0 || op->pad_low >= 3 || op->pad_high < 0 || op->pad_high >= 3)
        return dr_fail(err, DR_EINVAL, "conv2d: padding %d, %d, expected 0 to 2", op->pad_low,
                       op->pad_high);
    if (op->activation != ACT_NONE && op->activation != ACT_SILU)
        return dr_fail(err, DR_EINVAL, "conv2d: activation must be none or silu");
    r = ref_shape("conv2d", "src", &op->src, op->dst.n, -1, -1, d->in, err);
    if (!r)
        r = ref_shape("conv2d", "dst", &op->dst, -1, extent(op, op->src.h), extent(op, op->src.w),
                      d->out, err);
    return r ? r : ref_channel_add("conv2d", op, err);
}

static int64_t source(const struct op *op, bool row, int64_t out, int tap)
{
    int64_t in = out * op_stride(op) - op->pad_low + tap;
    return in < 0 || in >= (row ? op->src.h : op->src.w) ? -1 : in;
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

enum {
    F16 = 1,
    BF16 = 2,
    F8 = 3,
    DTYPES = 3,
    VIEW = 4,
    CHANNEL_ADD = 8,
    ADD = 16,
    IN_PLACE = 32,
    SILU = 64,
    PAD_HIGH = 128,
    NO_PAD = 256,
    NO_BIAS = 512,
    I8 = 1024,
    MOMENTS = 2048,
    Q8_0 = 4096,
    Q4_K = 8192,
    SCALES = 16384
};

static const struct op_case cases[] = {
    { "one value", .n = 1, .h = 1, .w = 1, .cin = 1, .cout = 1, .kernel = 3, .stride = 1 },
    { "one pixel", .n = 1, .h = 1, .w = 1, .cin = 20, .cout = 13, .kernel = 3, .stride = 1,
      .variant = F16 | MOMENTS },
    { "one column", .n = 1, .h = 9, .w = 1, .cin = 7, .cout = 5, .kernel = 3, .stride = 1 },
    { "odd sizes", .n = 2, .h = 7, .w = 9, .cin = 19, .cout = 21, .kernel = 3, .stride = 1,
      .variant = CHANNEL_ADD },
    { "stride", .n = 1, .h = 13, .w = 9, .cin = 24, .cout = 17, .kernel = 3, .stride = 2,
      .variant = F16 },
    { "stride, even", .n = 1, .h = 12, .w = 8, .cin = 16, .cout = 16, .kernel = 3, .stride = 2,
      .variant = BF16 },
    { "stride, padded below", .n = 2, .h = 8, .w = 11, .cin = 12, .cout = 20, .kernel = 3,
      .stride = 2, .variant = PAD_HIGH | MOMENTS },
    { "no padding", .n = 1, .h = 6, .w = 5, .cin = 9, .cout = 8, .kernel = 3, .stride = 1,
      .variant = NO_PAD | NO_BIAS },
    { "1x1", .n = 2, .h = 5, .w = 7, .cin = 33, .cout = 18, .kernel = 1, .stride = 1,
      .variant = NO_PAD | ADD | F16 | MOMENTS },
    { "1x1 stride", .n = 1, .h = 5, .w = 7, .cin = 12, .cout = 18, .kernel = 1, .stride = 2,
      .variant = NO_PAD },
    { "views", .n = 2, .h = 6, .w = 5, .cin = 24, .cout = 20, .kernel = 3, .stride = 1,
      .variant = VIEW | ADD | CHANNEL_ADD | SILU | F16 | MOMENTS },
    { "in place", .n = 3, .h = 8, .w = 8, .cin = 32, .cout = 32, .kernel = 3, .stride = 1,
      .variant = IN_PLACE | F16 },
    { "f8", .n = 1, .h = 4, .w = 4, .cin = 10, .cout = 10, .kernel = 3, .stride = 1,
      .variant = F8 },
    { "conv_in", .n = 1, .h = 64, .w = 64, .cin = 4, .cout = 320, .kernel = 3, .stride = 1,
      .variant = F16 },
    { "conv_out", .n = 1, .h = 64, .w = 64, .cin = 320, .cout = 4, .kernel = 3, .stride = 1,
      .variant = F16 },
    { "unet resnet", .n = 1, .h = 16, .w = 16, .cin = 1280, .cout = 1280, .kernel = 3, .stride = 1,
      .variant = F16 | CHANNEL_ADD | IN_PLACE },
    { "unet concatenation", .n = 1, .h = 13, .w = 9, .cin = 2560, .cout = 1280, .kernel = 3,
      .stride = 1, .variant = F16 | CHANNEL_ADD },
    { "odd sizes, views", .n = 3, .h = 19, .w = 22, .cin = 36, .cout = 70, .kernel = 3, .stride = 1,
      .variant = VIEW | ADD | CHANNEL_ADD | SILU | F16 | MOMENTS },
    { "odd sizes, a pixel short", .n = 3, .h = 23, .w = 31, .cin = 36, .cout = 70, .kernel = 3,
      .stride = 1, .variant = VIEW | ADD | CHANNEL_ADD | SILU | F16 | MOMENTS },
    { "odd sizes, in place", .n = 2, .h = 17, .w = 33, .cin = 64, .cout = 64, .kernel = 3,
      .stride = 1, .variant = IN_PLACE | BF16 | MOMENTS },
    { "padded below", .n = 1, .h = 21, .w = 18, .cin = 33, .cout = 34, .kernel = 3, .stride = 1,
      .variant = PAD_HIGH | NO_BIAS },
    { "no padding, f8", .n = 2, .h = 16, .w = 15, .cin = 47, .cout = 40, .kernel = 3, .stride = 1,
      .variant = NO_PAD | F8 },
    { "unet finest", .n = 2, .h = 40, .w = 48, .cin = 320, .cout = 320, .kernel = 3, .stride = 1,
      .variant = F16 | IN_PLACE | MOMENTS },
    { "more output tiles than a slab has", .n = 2, .h = 31, .w = 32, .cin = 2560, .cout = 72,
      .kernel = 3, .stride = 1, .variant = F16 | CHANNEL_ADD },
    { "more slabs, more filters", .n = 3, .h = 24, .w = 30, .cin = 2560, .cout = 200, .kernel = 3,
      .stride = 1, .variant = F16 | ADD | MOMENTS },
    { "rows longer than tiles", .n = 3, .h = 5, .w = 40, .cin = 96, .cout = 72, .kernel = 3,
      .stride = 1, .variant = F16 | CHANNEL_ADD | MOMENTS },
    { "stride, padded below, wide", .n = 2, .h = 9, .w = 64, .cin = 64, .cout = 40, .kernel = 3,
      .stride = 2, .variant = F16 | PAD_HIGH | MOMENTS },
    { "no padding, wide", .n = 1, .h = 9, .w = 50, .cin = 64, .cout = 40, .kernel = 3, .stride = 1,
      .variant = F16 | NO_PAD },
    { "unet downsampler", .n = 1, .h = 64, .w = 64, .cin = 320, .cout = 320, .kernel = 3,
      .stride = 2, .variant = F16 },
    { "vae resnet", .n = 1, .h = 96, .w = 104, .cin = 128, .cout = 128, .kernel = 3, .stride = 1,
      .variant = F16 | ADD | MOMENTS },
    { "larger than caches", .n = 1, .h = 724, .w = 740, .cin = 32, .cout = 16, .kernel = 3,
      .stride = 1, .variant = F16 | MOMENTS },
    { "vae downsampler", .n = 1, .h = 64, .w = 64, .cin = 128, .cout = 128, .kernel = 3,
      .stride = 2, .variant = F16 | PAD_HIGH },
    { "f8 with scales", .n = 1, .h = 9, .w = 11, .cin = 20, .cout = 37, .kernel = 3, .stride = 1,
      .variant = F8 | SCALES },
    { "blocks across rows", .n = 1, .h = 9, .w = 11, .cin = 64, .cout = 20, .kernel = 3,
      .stride = 1, .variant = Q4_K },
    { "blocks, stride", .n = 1, .h = 12, .w = 8, .cin = 32, .cout = 24, .kernel = 3, .stride = 2,
      .variant = Q8_0 | MOMENTS },
    { "int8, one pixel", .n = 1, .h = 1, .w = 1, .cin = 3, .cout = 13, .kernel = 3, .stride = 1,
      .variant = I8 },
    { "int8, odd sizes", .n = 3, .h = 7, .w = 9, .cin = 19, .cout = 21, .kernel = 3, .stride = 1,
      .variant = I8 | VIEW | CHANNEL_ADD | SILU | MOMENTS },
    { "int8, stride", .n = 2, .h = 8, .w = 11, .cin = 12, .cout = 20, .kernel = 3, .stride = 2,
      .variant = I8 | PAD_HIGH | ADD },
    { "int8, 1x1", .n = 2, .h = 5, .w = 7, .cin = 33, .cout = 18, .kernel = 1, .stride = 1,
      .variant = I8 | NO_PAD | NO_BIAS | MOMENTS },
    { "int8, rows longer than tiles", .n = 2, .h = 5, .w = 40, .cin = 256, .cout = 72, .kernel = 3,
      .stride = 1, .variant = I8 | ADD | MOMENTS },
    { "int8, stride, even", .n = 1, .h = 12, .w = 64, .cin = 128, .cout = 40, .kernel = 3,
      .stride = 2, .variant = I8 },
    { "int8, unet concatenation", .n = 2, .h = 13, .w = 9, .cin = 1920, .cout = 640, .kernel = 3,
      .stride = 1, .variant = I8 | CHANNEL_ADD | IN_PLACE | MOMENTS },
};

static void setup(const struct op_case *c, struct op_setup *ret)
{
    static const enum dtype dtypes[] = { DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_F8_E4M3 };
    int64_t gap = c->variant & VIEW ? 3 : 0;
    struct op *op = &ret->op;
    op->pad_low = c->variant & (NO_PAD | PAD_HIGH) ? 0 : 1;
    op->pad_high = c->variant & NO_PAD ? 0 : 1;
    op->activation = c->variant & SILU ? ACT_SILU : ACT_NONE;
    int64_t pads = op->pad_low + op->pad_high - c->kernel;
    op->src = (struct act){ .n = c->n, .h = c->h, .w = c->w, .c = c->cin, .ld = c->cin + gap };
    op->dst = (struct act){ .n = c->n,
                            .h = (c->h + pads) / c->stride + 1,
                            .w = (c->w + pads) / c->stride + 1,
                            .c = c->cout,
                            .ld = c->cout + gap };
    if (c->variant & CHANNEL_ADD)
        op->channel_add = (struct act){ .n = c->n, .h = 1, .w = 1, .c = c->cout };
    if (c->variant & (ADD | IN_PLACE))
        op->residual = op->dst;
    ret->residual_in_place = c->variant & IN_PLACE;
    ret->moments = c->variant & MOMENTS;
    ret->weight_dtype = c->variant & I8     ? DTYPE_I8
                        : c->variant & Q8_0 ? DTYPE_Q8_0
                        : c->variant & Q4_K ? DTYPE_Q4_K
                                            : dtypes[c->variant & DTYPES];
    ret->weight_scales = c->variant & SCALES;
    ret->weight = (struct weight_desc){ .kind = WEIGHT_CONV,
                                        .in = c->cin,
                                        .out = c->cout,
                                        .kernel = c->kernel,
                                        .parts = 1,
                                        .bias = !(c->variant & NO_BIAS),
                                        .downsamples = c->stride == 2 };
}

const struct op_work op_work_conv2d = {
    .phases = 1, .per_thread = window_per_thread, .tiles = window_tiles, .run = run
};

const struct op_info op_info_conv2d = {
    .name = "conv2d",
    .operands = OP_SRC | OP_DST,
    .check = check,
    .flops = window_flops,
    .reference = &op_work_conv2d,
    .at = at,
    .setup = setup,
    .cases = cases,
    .n_cases = sizeof cases / sizeof *cases,
    .tolerance = 3e-6,
    .fast_tolerance = 1e-5,
};
