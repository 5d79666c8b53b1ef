/* add.c - dst = act(src + residual + bias + channel_add).
 *
 * Contract. All [n, h, w, c] float32; what is added may each be absent. bias [c], the same for all
 * pixels, is that of `weight`, a WEIGHT_LINEAR: what it gives for an input of zeros. channel_add
 * [n, 1, 1, c] is the same for all pixels of a sample. activation NONE, SILU, GELU, QUICK_GELU or
 * RELU, after the addition, unlike elsewhere. dst may be src or residual. flops 0.
 */
#include "backend/ops/common.h"

static int check(const struct op *op, struct dr_error *err)
{
    int r = ref_usual("add", op, true, err);
    if (!r)
        r = ref_shape("add", "src", &op->src, op->dst.n, op->dst.h, op->dst.w, op->dst.c, err);
    if (!r && (op->activation == ACT_GEGLU || (unsigned)op->activation > ACT_RELU))
        r = dr_fail(err, DR_EINVAL, "add: no geglu");
    if (!r)
        r = ref_channel_add("add", op, err);
    if (r || !op->weight)
        return r;
    const struct weight_desc *d = weight_desc(op->weight);
    if (d->kind != WEIGHT_LINEAR || !d->bias || d->out != op->dst.c)
        return dr_fail(err, DR_EINVAL, "add: its weight is a linear layer with a bias of %lld",
                       (long long)op->dst.c);
    return 0;
}

static void run(const struct op_args *a, int phase, int64_t tile, void *own)
{
    (void)phase;
    (void)own;
    const struct op *op = a->op;
    int64_t rows = op->dst.n * ref_pixels(&op->dst), first = tile * ref_tile_pixels(op);
    int64_t last = ref_min(first + ref_tile_pixels(op), rows);
    const float *bias = a->weight ? a->weight->bias : NULL;
    for (int64_t p = first; p < last; p++) {
        const float *x = ref_row(a->src, &op->src, p);
        const float *y = a->residual ? ref_row(a->residual, &op->residual, p) : NULL;
        const float *add = a->channel_add
                               ? ref_row(a->channel_add, &op->channel_add, p / ref_pixels(&op->dst))
                               : NULL;
        float *out = (float *)a->dst + p * op->dst.ld;
        for (int64_t c = 0; c < op->dst.c; c++) {
            double sum = y ? (double)x[c] + y[c] : x[c];
            if (bias)
                sum += bias[c];
            if (add)
                sum += add[c];
            out[c] = (float)ref_activate(op->activation, sum);
        }
    }
}

enum {
    ACTS = 3,
    ADD = 4,
    SRC_IN_PLACE = 8,
    RESIDUAL_IN_PLACE = 16,
    VIEW = 32,
    BIAS = 64,
    CHANNELS = 128,
    RELU = 256
};

static const struct op_case cases[] = {
    { "one value", .n = 1, .h = 1, .w = 1, .cin = 1, .variant = ADD },
    { "sum", .n = 3, .h = 5, .w = 7, .cin = 19, .variant = ADD },
    { "views", .n = 2, .h = 4, .w = 3, .cin = 33, .variant = ADD | VIEW },
    { "onto src", .n = 1, .h = 9, .w = 9, .cin = 40, .variant = ADD | SRC_IN_PLACE },
    { "onto residual", .n = 1, .h = 9, .w = 9, .cin = 40, .variant = ADD | RESIDUAL_IN_PLACE },
    { "silu", .n = 2, .h = 1, .w = 1, .cin = 1280, .variant = ACT_SILU },
    { "gelu of a sum", .n = 1, .h = 3, .w = 17, .cin = 21, .variant = ACT_GELU | ADD },
    { "quick gelu", .n = 1, .h = 3, .w = 17, .cin = 21, .variant = ACT_QUICK_GELU | VIEW },
    { "unet", .n = 1, .h = 64, .w = 64, .cin = 320, .variant = ADD },
    { "bias", .n = 2, .h = 1, .w = 63, .cin = 37, .variant = BIAS | SRC_IN_PLACE },
    { "by channel", .n = 3, .h = 4, .w = 5, .cin = 35, .variant = CHANNELS | VIEW },
    { "all", .n = 2, .h = 9, .w = 3, .cin = 70, .variant = CHANNELS | BIAS | ADD | ACT_GELU },
    { "relu", .n = 2, .h = 5, .w = 7, .cin = 19, .variant = RELU | SRC_IN_PLACE },
    { "relu of a sum", .n = 1, .h = 4, .w = 9, .cin = 64, .variant = RELU | ADD | VIEW },
    { "bias of a sum", .n = 1, .h = 3, .w = 5, .cin = 640, .variant = BIAS | ADD | ACT_SILU },
};

static void setup(const struct op_case *c, struct op_setup *ret)
{
    struct op *op = &ret->op;
    int64_t gap = c->variant & VIEW ? 5 : 0;
    op->src = (struct act){ .n = c->n, .h = c->h, .w = c->w, .c = c->cin, .ld = c->cin + gap };
    op->dst = op->src;
    if (c->variant & ADD)
        op->residual = op->src;
    if (c->variant & CHANNELS)
        op->channel_add = (struct act){ .n = c->n, .h = 1, .w = 1, .c = c->cin };
    op->activation = c->variant & RELU ? ACT_RELU : (enum activation)(c->variant & ACTS);
    if (c->variant & BIAS)
        ret->weight = (struct weight_desc){
            .kind = WEIGHT_LINEAR, .in = 3, .out = c->cin, .parts = 1, .bias = true
        };
    ret->src_in_place = c->variant & SRC_IN_PLACE;
    ret->residual_in_place = c->variant & RESIDUAL_IN_PLACE;
}

const struct op_work op_work_add = { .phases = 1, .tiles = ref_pixel_tiles, .run = run };

const struct op_info op_info_add = {
    .name = "add",
    .check = check,
    .reference = &op_work_add,
    .setup = setup,
    .cases = cases,
    .n_cases = sizeof cases / sizeof *cases,
    .tolerance = 1e-6,
};
