/* linear.c - dst = act(src . W^T + b) + residual.
 *
 * Contract. src [n, h, w, in], dst [n, h, w, out] float32 (h x w may be cut differently: a picture
 * or its tokens); weight WEIGHT_LINEAR [out, in], its parts stacked on out. GEGLU: dst has out / 2
 * channels, value rows first, then gate rows; dst = (value + b) * gelu(gate + b'), as in diffusers'
 * GEGLU. residual: dst's shape, may be dst itself; src may not. flops = 2 n h w in out. Order: one
 * sum per output over the inputs in rising order, in double, rounded once at the end. Kernels may
 * block the sum by in, never by anything else. 8-bit kernels round src by token (int8.h).
 */
#include "backend/ops/common.h"

enum { ROWS = 32 };

static int check(const struct op *op, struct dr_error *err)
{
    int r = ref_usual("linear", op, false, err);
    if (!r)
        r = ref_weight("linear", op->weight, WEIGHT_LINEAR, err);
    if (r)
        return r;
    const struct weight_desc *d = weight_desc(op->weight);
    bool geglu = op->activation == ACT_GEGLU;
    if (geglu != d->gated)
        return dr_fail(err, DR_EINVAL, "linear: GEGLU goes with a weight that has gates");
    if ((unsigned)op->activation > ACT_GEGLU)
        return dr_fail(err, DR_EINVAL, "linear: no such activation");
    if (op->channel_add.buf)
        return dr_fail(err, DR_EINVAL, "linear: channel_add is for convolutions");
    r = ref_shape("linear", "src", &op->src, op->dst.n, -1, -1, d->in, err);
    if (!r)
        r = ref_shape("linear", "dst", &op->dst, -1, -1, -1, geglu ? d->out / 2 : d->out, err);
    if (!r && ref_pixels(&op->src) != ref_pixels(&op->dst))
        r = dr_fail(err, DR_EINVAL, "linear: src has %lld rows, dst %lld",
                    (long long)ref_pixels(&op->src), (long long)ref_pixels(&op->dst));
    return r;
}

static double flops(const struct op *op)
{
    const struct weight_desc *d = weight_desc(op->weight);
    return 2.0 * (double)(op->dst.n * ref_pixels(&op->dst)) * (double)d->in * (double)d->out;
}

/* The source that holds row `row` of the stacked matrix, and the row's number in it. */
static const struct weight_source *part_of(const struct host_weight *w, int64_t *row)
{
    int i = 0;
    while (i < w->desc->parts - 1 && *row >= w->source[i].shape.d[0])
        *row -= w->source[i++].shape.d[0];
    return &w->source[i];
}

static int64_t row_tiles(const struct op *op)
{
    return ref_ceil(op->dst.n * ref_pixels(&op->dst), ROWS);
}

static int64_t tiles(const struct op *op, int phase)
{
    (void)phase;
    return row_tiles(op) * ref_ceil(op->dst.c, REF_BLOCK);
}

/* One row of the matrix, the block of rows interleaved, and the same for the gates. */
static size_t per_thread(const struct op *op)
{
    return (size_t)op->src.c * (1 + 2 * REF_BLOCK) * sizeof(float);
}

static void interleave(float *dst, float *row, const struct host_weight *w, int64_t first,
                       int64_t count)
{
    int64_t in = w->desc->in;
    for (int64_t j = 0; j < REF_BLOCK; j++) {
        int64_t r = first + ref_min(j, count - 1);
        const struct weight_source *s = part_of(w, &r);
        ref_elements(row, s, r * in, in);
        for (int64_t k = 0; k < in; k++)
            dst[k * REF_BLOCK + j] = row[k];
    }
}

static void run(const struct op_args *a, int phase, int64_t tile, void *own)
{
    (void)phase;
    const struct op *op = a->op;
    const struct host_weight *w = a->weight;
    int64_t in = op->src.c, rows = op->dst.n * ref_pixels(&op->dst);
    int64_t c0 = tile / row_tiles(op) * REF_BLOCK, first = tile % row_tiles(op) * ROWS;
    int64_t columns = ref_min(REF_BLOCK, op->dst.c - c0), last = ref_min(first + ROWS, rows);
    bool geglu = op->activation == ACT_GEGLU;
    float *row = own, *values = row + in, *gates = values + in * REF_BLOCK;
    interleave(values, row, w, c0, columns);
    if (geglu)
        interleave(gates, row, w, op->dst.c + c0, columns);
    for (int64_t p = first; p < last; p += REF_BLOCK) {
        double sums[REF_BLOCK][REF_BLOCK] = { { 0 } }, gate[REF_BLOCK][REF_BLOCK] = { { 0 } };
        const float *x[REF_BLOCK];
        for (int64_t i = 0; i < REF_BLOCK; i++)
            x[i] = ref_row(a->src, &op->src, ref_min(p + i, last - 1));
        ref_multiply(sums, x, values, in);
        if (geglu)
            ref_multiply(gate, x, gates, in);
        for (int64_t i = 0; i < REF_BLOCK && p + i < last; i++) {
            float *out = (float *)a->dst + (p + i) * op->dst.ld + c0;
            for (int64_t j = 0; j < columns; j++)
                out[j] = (float)ref_finish(a, p + i, c0 + j, sums[i][j], gate[i][j]);
        }
    }
}

static double dot(const struct op_args *a, int64_t p, int64_t row)
{
    const struct weight_source *s = part_of(a->weight, &row);
    const float *x = ref_row(a->src, &a->op->src, p);
    int64_t in = a->op->src.c;
    double sum = 0;
    for (int64_t k = 0; k < in; k++)
        sum += (double)x[k] * ref_element(s, row * in + k);
    return sum;
}

static double at(const struct op_args *a, int64_t n, int64_t h, int64_t w, int64_t c)
{
    const struct act *dst = &a->op->dst;
    int64_t p = (n * dst->h + h) * dst->w + w;
    double gate = a->op->activation == ACT_GEGLU ? dot(a, p, dst->c + c) : 0;
    return ref_finish(a, p, c, dot(a, p, c), gate);
}

enum {
    PLAIN,
    F16 = 1,
    BF16 = 2,
    F8 = 3,
    DTYPES = 3,
    VIEW = 4,
    PARTS = 8,
    ADD = 16,
    IN_PLACE = 32,
    SILU = 64,
    GELU = 128,
    QUICK = 192,
    GEGLU = 256,
    ACTS = 448,
    NO_BIAS = 512,
    I8 = 1024,
    MOMENTS = 2048,
    Q8_0 = 4096,
    Q4_K = 8192,
    SCALES = 16384
};

/* h, w: rows; cin, cout (of dst). */
static const struct op_case cases[] = {
    { "one value", .n = 1, .h = 1, .w = 1, .cin = 1, .cout = 1 },
    { "one row", .n = 1, .h = 1, .w = 1, .cin = 1280, .cout = 320, .variant = F16 | SILU },
    { "odd sizes", .n = 2, .h = 1, .w = 7, .cin = 37, .cout = 29, .variant = ADD | MOMENTS },
    { "thin", .n = 1, .h = 1, .w = 131, .cin = 3, .cout = 1, .variant = BF16 },
    { "views", .n = 2, .h = 3, .w = 5, .cin = 24, .cout = 18,
      .variant = VIEW | ADD | F16 | MOMENTS },
    { "views, whole strips", .n = 2, .h = 4, .w = 8, .cin = 42, .cout = 18, .variant = VIEW },
    { "no bias", .n = 1, .h = 1, .w = 33, .cin = 65, .cout = 33, .variant = NO_BIAS },
    { "three parts", .n = 1, .h = 1, .w = 21, .cin = 48, .cout = 3 * 40,
      .variant = PARTS | F16 | NO_BIAS },
    { "three odd parts", .n = 1, .h = 1, .w = 21, .cin = 50, .cout = 3 * 13, .variant = PARTS },
    { "in place", .n = 3, .h = 4, .w = 4, .cin = 64, .cout = 64,
      .variant = IN_PLACE | F16 | MOMENTS },
    { "gelu", .n = 1, .h = 1, .w = 19, .cin = 40, .cout = 52, .variant = GELU },
    { "quick gelu f8", .n = 1, .h = 1, .w = 19, .cin = 40, .cout = 52, .variant = QUICK | F8 },
    { "geglu odd", .n = 1, .h = 1, .w = 19, .cin = 41, .cout = 23, .variant = GEGLU },
    { "geglu views", .n = 2, .h = 1, .w = 34, .cin = 64, .cout = 96,
      .variant = GEGLU | VIEW | F16 | ADD },
    { "long sum", .n = 1, .h = 1, .w = 40, .cin = 10240, .cout = 24, .variant = F16 | MOMENTS },
    { "three samples", .n = 3, .h = 1, .w = 77, .cin = 96, .cout = 80, .variant = F16 | MOMENTS },
    { "moments of many rows", .n = 3, .h = 1, .w = 800, .cin = 96, .cout = 70,
      .variant = F16 | MOMENTS },
    { "two slabs of rows", .n = 2, .h = 120, .w = 100, .cin = 373, .cout = 130,
      .variant = F16 | ADD | MOMENTS },
    { "two slabs of short rows", .n = 1, .h = 700, .w = 100, .cin = 63, .cout = 66,
      .variant = F16 | VIEW },
    { "larger than caches", .n = 1, .h = 1, .w = 131200, .cin = 8, .cout = 64, .variant = F16 },
    { "clip mlp", .n = 1, .h = 1, .w = 77, .cin = 768, .cout = 3072, .variant = F16 | QUICK },
    { "unet qkv", .n = 1, .h = 1, .w = 256, .cin = 1280, .cout = 3840,
      .variant = F16 | PARTS | NO_BIAS },
    { "unet geglu", .n = 1, .h = 1, .w = 256, .cin = 1280, .cout = 5120, .variant = F16 | GEGLU },
    { "unet down projection", .n = 1, .h = 1, .w = 1024, .cin = 2560, .cout = 640,
      .variant = F16 | IN_PLACE | MOMENTS },
    { "f8 with scales", .n = 1, .h = 1, .w = 21, .cin = 50, .cout = 3 * 13,
      .variant = F8 | SCALES | PARTS },
    { "f16 with scales", .n = 1, .h = 1, .w = 19, .cin = 41, .cout = 23,
      .variant = GEGLU | F16 | SCALES },
    { "blocks of 32", .n = 1, .h = 1, .w = 21, .cin = 96, .cout = 3 * 13,
      .variant = Q8_0 | PARTS | NO_BIAS },
    { "blocks of 256", .n = 2, .h = 1, .w = 67, .cin = 1280, .cout = 40,
      .variant = Q4_K | GEGLU | MOMENTS },
    { "blocks across rows", .n = 1, .h = 1, .w = 19, .cin = 72, .cout = 32, .variant = Q4_K | ADD },
    { "int8, one value", .n = 1, .h = 1, .w = 1, .cin = 1, .cout = 1, .variant = I8 },
    { "int8, odd sizes", .n = 2, .h = 1, .w = 7, .cin = 37, .cout = 29,
      .variant = I8 | ADD | SILU | MOMENTS },
    { "int8, views", .n = 2, .h = 3, .w = 5, .cin = 26, .cout = 18, .variant = I8 | VIEW | ADD },
    { "int8, views, whole strips", .n = 2, .h = 4, .w = 8, .cin = 42, .cout = 18,
      .variant = I8 | VIEW },
    { "int8, three odd parts", .n = 1, .h = 1, .w = 21, .cin = 50, .cout = 3 * 13,
      .variant = I8 | PARTS | NO_BIAS },
    { "int8, in place", .n = 3, .h = 4, .w = 4, .cin = 64, .cout = 80,
      .variant = I8 | IN_PLACE | GELU | MOMENTS },
    { "int8, three blocks, geglu", .n = 2, .h = 1, .w = 67, .cin = 2570, .cout = 40,
      .variant = I8 | GEGLU },
    { "int8, unet feed-forward", .n = 1, .h = 1, .w = 256, .cin = 1280, .cout = 5120,
      .variant = I8 | GEGLU },
};

static void setup(const struct op_case *c, struct op_setup *ret)
{
    static const enum dtype dtypes[] = { DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_F8_E4M3 };
    int act = (c->variant & ACTS) / SILU;
    static const enum activation acts[] = { ACT_NONE, ACT_SILU, ACT_GELU, ACT_QUICK_GELU,
                                            ACT_GEGLU };
    int64_t gap = c->variant & VIEW ? 5 : 0;
    struct op *op = &ret->op;
    op->activation = acts[act];
    op->src = (struct act){ .n = c->n, .h = c->h, .w = c->w, .c = c->cin, .ld = c->cin + gap };
    op->dst = (struct act){ .n = c->n, .h = c->h, .w = c->w, .c = c->cout, .ld = c->cout + gap };
    if (c->variant & (ADD | IN_PLACE))
        op->residual = op->dst;
    ret->moments = c->variant & MOMENTS;
    ret->residual_in_place = c->variant & IN_PLACE;
    ret->weight_dtype = c->variant & I8     ? DTYPE_I8
                        : c->variant & Q8_0 ? DTYPE_Q8_0
                        : c->variant & Q4_K ? DTYPE_Q4_K
                                            : dtypes[c->variant & DTYPES];
    ret->weight_scales = c->variant & SCALES;
    ret->weight = (struct weight_desc){ .kind = WEIGHT_LINEAR,
                                        .in = c->cin,
                                        .out = op->activation == ACT_GEGLU ? 2 * c->cout : c->cout,
                                        .parts = c->variant & PARTS ? 3 : 1,
                                        .bias = !(c->variant & NO_BIAS),
                                        .gated = op->activation == ACT_GEGLU };
}

const struct op_work op_work_linear = {
    .phases = 1, .per_thread = per_thread, .tiles = tiles, .run = run
};

const struct op_info op_info_linear = {
    .name = "linear",
    .operands = OP_SRC | OP_DST,
    .check = check,
    .flops = flops,
    .reference = &op_work_linear,
    .at = at,
    .setup = setup,
    .cases = cases,
    .n_cases = sizeof cases / sizeof *cases,
    .tolerance = 3e-6,
};
