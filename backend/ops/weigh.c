/* weigh.c - dst = residual + scale * mask * src: a share of an activation, added.
 *
 * Contract. src and dst [n, h, w, c] float32. k, the mask, [n or 1, h, w, 1]: a factor for each
 * pixel, of all samples where its n is 1; absent: 1. residual may be absent: 0. scale is finite.
 * dst may be src or residual. h x w counts as pixels, so a picture and its tokens are the
 * same. flops 0. The product is rounded once, with the sum: with a scale of 1 and no mask this is
 * the float32 sum.
 */
#include <math.h>

#include "backend/ops/common.h"

static int check_mask(const struct op *op, struct dr_error *err)
{
    const struct act *k = &op->k;
    if (!k->buf)
        return 0;
    int r = ref_need("weigh", "mask", k, DTYPE_F32, err);
    if (!r &&
        ((k->n != 1 && k->n != op->dst.n) || ref_pixels(k) != ref_pixels(&op->dst) || k->c != 1))
        r = dr_fail(err, DR_EINVAL,
                    "weigh: mask is [%lld, %lld, %lld, %lld], expected one value for each of %lld "
                    "pixels, of 1 or %lld samples",
                    (long long)k->n, (long long)k->h, (long long)k->w, (long long)k->c,
                    (long long)ref_pixels(&op->dst), (long long)op->dst.n);
    return r ? r : ref_apart("weigh", "mask", &op->dst, k, false, err);
}

static int check(const struct op *op, struct dr_error *err)
{
    int r = ref_usual("weigh", op, true, err);
    if (!r)
        r = ref_shape("weigh", "src", &op->src, op->dst.n, op->dst.h, op->dst.w, op->dst.c, err);
    if (!r)
        r = check_mask(op, err);
    if (!r && (!isfinite(op->scale) || op->weight || op->activation != ACT_NONE))
        r = dr_fail(err, DR_EINVAL, "weigh: a finite scale, no weight or activation");
    return r;
}

static void run(const struct op_args *a, int phase, int64_t tile, void *own)
{
    (void)phase;
    (void)own;
    const struct op *op = a->op;
    int64_t pixels = ref_pixels(&op->dst), rows = op->dst.n * pixels;
    int64_t first = tile * ref_tile_pixels(op), last = ref_min(first + ref_tile_pixels(op), rows);
    for (int64_t p = first; p < last; p++) {
        const float *x = ref_row(a->src, &op->src, p);
        const float *y = a->residual ? ref_row(a->residual, &op->residual, p) : NULL;
        double scale = op->scale;
        if (a->k)
            scale *= *ref_row(a->k, &op->k, op->k.n == 1 ? p % pixels : p);
        float *out = (float *)a->dst + p * op->dst.ld;
        for (int64_t c = 0; c < op->dst.c; c++)
            out[c] = (float)(scale * x[c] + (y ? y[c] : 0.0));
    }
}

enum {
    ADD = 1,
    MASK = 2,
    SHARED = 4,
    VIEW = 8,
    SRC_IN_PLACE = 16,
    RESIDUAL_IN_PLACE = 32,
    ONE = 64
};

static const struct op_case cases[] = {
    { "one value", .n = 1, .h = 1, .w = 1, .cin = 1 },
    { "share", .n = 2, .h = 3, .w = 5, .cin = 19 },
    { "sum", .n = 3, .h = 5, .w = 7, .cin = 19, .variant = ADD | ONE },
    { "masked", .n = 2, .h = 4, .w = 3, .cin = 33, .variant = MASK | VIEW },
    { "masked sum", .n = 3, .h = 4, .w = 3, .cin = 33, .variant = ADD | MASK | VIEW },
    { "one mask", .n = 3, .h = 1, .w = 35, .cin = 8, .variant = ADD | MASK | SHARED },
    { "onto src", .n = 1, .h = 9, .w = 9, .cin = 40, .variant = MASK | SRC_IN_PLACE },
    { "onto residual", .n = 2, .h = 9, .w = 9, .cin = 40, .variant = ADD | RESIDUAL_IN_PLACE },
    { "unet", .n = 1, .h = 64, .w = 64, .cin = 320, .variant = ADD | MASK | RESIDUAL_IN_PLACE },
};

static void setup(const struct op_case *c, struct op_setup *ret)
{
    struct op *op = &ret->op;
    int64_t gap = c->variant & VIEW ? 5 : 0;
    op->src = (struct act){ .n = c->n, .h = c->h, .w = c->w, .c = c->cin, .ld = c->cin + gap };
    op->dst = op->src;
    if (c->variant & ADD)
        op->residual = op->src;
    if (c->variant & MASK)
        op->k = (struct act){
            .n = c->variant & SHARED ? 1 : c->n, .h = c->h, .w = c->w, .c = 1, .ld = 1 + gap
        };
    op->scale = c->variant & ONE ? 1 : -0.375;
    ret->src_in_place = c->variant & SRC_IN_PLACE;
    ret->residual_in_place = c->variant & RESIDUAL_IN_PLACE;
}

const struct op_work op_work_weigh = { .phases = 1, .tiles = ref_pixel_tiles, .run = run };

const struct op_info op_info_weigh = {
    .name = "weigh",
    .check = check,
    .reference = &op_work_weigh,
    .setup = setup,
    .cases = cases,
    .n_cases = sizeof cases / sizeof *cases,
    .tolerance = 1e-6,
};
