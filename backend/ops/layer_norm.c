/* layer_norm.c - dst = (src - mean) / sqrt(variance + eps) * scale + shift, statistics per token.
 *
 * Contract (Ba, Kiros and Hinton 2016; torch's LayerNorm over the last dimension). src and dst [n,
 * h, w, c] float32; weight WEIGHT_NORM [c], shift optional; biased variance; no activation; dst may
 * be src. flops 0. Order: the mean in double over the channels in rising order, then the squared
 * distances from it.
 */
#include "backend/ops/common.h"

#include <math.h>

enum { ROWS = 8 };

static int check(const struct op *op, struct dr_error *err)
{
    int r = ref_usual("layer_norm", op, true, err);
    if (!r)
        r = ref_weight("layer_norm", op->weight, WEIGHT_NORM, err);
    if (r)
        return r;
    if (!(op->eps > 0) || op->residual.buf || op->channel_add.buf || op->activation != ACT_NONE)
        return dr_fail(err, DR_EINVAL, "layer_norm: eps above 0, no activation, nothing added");
    r = ref_shape("layer_norm", "src", &op->src, op->dst.n, op->dst.h, op->dst.w, op->dst.c, err);
    return r ? r
             : ref_shape("layer_norm", "dst", &op->dst, -1, -1, -1, weight_desc(op->weight)->out,
                         err);
}

static int64_t tiles(const struct op *op, int phase)
{
    (void)phase;
    return ref_ceil(op->src.n * ref_pixels(&op->src), ROWS);
}

static void run(const struct op_args *a, int phase, int64_t tile, void *own)
{
    (void)phase;
    (void)own;
    const struct op *op = a->op;
    const struct host_weight *w = a->weight;
    int64_t last = ref_min((tile + 1) * ROWS, op->src.n * ref_pixels(&op->src));
    for (int64_t p = tile * ROWS; p < last; p++) {
        const float *x = ref_row(a->src, &op->src, p);
        float *y = (float *)a->dst + p * op->dst.ld;
        double sum = 0, squares = 0;
        for (int64_t c = 0; c < op->src.c; c++)
            sum += x[c];
        double mean = sum / (double)op->src.c;
        for (int64_t c = 0; c < op->src.c; c++)
            squares += (x[c] - mean) * (x[c] - mean);
        double factor = 1.0 / sqrt(squares / (double)op->src.c + op->eps);
        for (int64_t c = 0; c < op->src.c; c++)
            y[c] = (float)((x[c] - mean) * factor * w->scale[c] + (w->bias ? w->bias[c] : 0.0f));
    }
}

enum { IN_PLACE = 1, VIEW = 2, F16 = 4, FAR = 8, NO_SHIFT = 16 };

static const struct op_case cases[] = {
    { "one value", .n = 1, .h = 1, .w = 1, .cin = 1 },
    { "one token", .n = 1, .h = 1, .w = 1, .cin = 768, .variant = F16 },
    { "odd width", .n = 3, .h = 1, .w = 7, .cin = 37, .variant = IN_PLACE },
    { "views", .n = 2, .h = 3, .w = 5, .cin = 40, .variant = VIEW },
    { "far from zero", .n = 1, .h = 1, .w = 9, .cin = 320, .variant = FAR | NO_SHIFT },
    { "constant", .n = 1, .h = 1, .w = 3, .cin = 64, .kv = 1 },
    { "clip", .n = 2, .h = 1, .w = 77, .cin = 1280, .variant = F16 },
    { "unet", .n = 3, .h = 32, .w = 32, .cin = 640, .variant = F16 },
};

static void setup(const struct op_case *c, struct op_setup *ret)
{
    struct op *op = &ret->op;
    int64_t gap = c->variant & VIEW ? 7 : 0;
    op->src = (struct act){ .n = c->n, .h = c->h, .w = c->w, .c = c->cin, .ld = c->cin + gap };
    op->dst = op->src;
    op->eps = 1e-5;
    ret->src_in_place = c->variant & IN_PLACE;
    ret->mean = c->variant & FAR ? 100 : 0;
    ret->constant = c->kv == 1;
    ret->weight_dtype = c->variant & F16 ? DTYPE_F16 : DTYPE_F32;
    ret->weight = (struct weight_desc){ .kind = WEIGHT_NORM,
                                        .in = c->cin,
                                        .out = c->cin,
                                        .parts = 1,
                                        .bias = !(c->variant & NO_SHIFT) };
}

const struct op_work op_work_layer_norm = { .phases = 1, .tiles = tiles, .run = run };

const struct op_info op_info_layer_norm = {
    .name = "layer_norm",
    .operands = OP_DST,
    .check = check,
    .reference = &op_work_layer_norm,
    .setup = setup,
    .cases = cases,
    .n_cases = sizeof cases / sizeof *cases,
    .tolerance = 2e-6,
};
