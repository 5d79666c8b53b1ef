/* wrap.c - dst[i, j] = src[(i + pad_low) mod h, (j + pad_high) mod w]: a picture that goes on at
 * its opposite edges, moved, and cut to any size.
 *
 * Contract (torch's circular padding, and its reversal by cutting). src [n, h, w, c], dst
 * [n, H, W, c], float32; any H and W. pad_low is added to rows and pad_high to columns, from minus
 * the source's size up. dst and src share nothing. flops 0. Exact.
 */
#include "backend/ops/common.h"

#include <string.h>

enum { RUN = 1 << 18 }; /* values of a tile, about */

static int check(const struct op *op, struct dr_error *err)
{
    int r = ref_need("wrap", "dst", &op->dst, DTYPE_F32, err);
    if (!r)
        r = ref_need("wrap", "src", &op->src, DTYPE_F32, err);
    if (!r)
        r = ref_shape("wrap", "src", &op->src, op->dst.n, -1, -1, op->dst.c, err);
    if (!r && (op->weight || op->residual.buf || op->activation != ACT_NONE))
        r = dr_fail(err, DR_EINVAL, "wrap: no weight, activation or residual");
    if (!r && (op->pad_low < -op->src.h || op->pad_high < -op->src.w))
        r = dr_fail(err, DR_EINVAL,
                    "wrap: moved by %d rows and %d columns, expected no less than "
                    "minus the picture",
                    op->pad_low, op->pad_high);
    return r ? r : ref_apart("wrap", "src", &op->dst, &op->src, false, err);
}

static int64_t tile_rows(const struct op *op)
{
    int64_t row = op->dst.w * op->dst.c;
    return row < RUN ? RUN / row : 1;
}

static int64_t row_tiles(const struct op *op)
{
    return ref_ceil(op->dst.h, tile_rows(op));
}

static int64_t tiles(const struct op *op, int phase)
{
    (void)phase;
    return op->dst.n * row_tiles(op);
}

static void run(const struct op_args *a, int phase, int64_t tile, void *own)
{
    (void)phase;
    (void)own;
    const struct op *op = a->op;
    const struct act *d = &op->dst, *s = &op->src;
    int64_t n = tile / row_tiles(op), first = tile % row_tiles(op) * tile_rows(op);
    int64_t last = ref_min(first + tile_rows(op), d->h);
    for (int64_t y = first; y < last; y++)
        for (int64_t x = 0; x < d->w; x++) {
            int64_t row = (y + op->pad_low + s->h) % s->h,
                    column = (x + op->pad_high + s->w) % s->w;
            memcpy((float *)a->dst + ((n * d->h + y) * d->w + x) * d->ld,
                   (const float *)a->src + ((n * s->h + row) * s->w + column) * s->ld,
                   (size_t)d->c * sizeof(float));
        }
}

enum { VIEW = 1, CUT = 2 };

static const struct op_case cases[] = {
    { "one value", .n = 1, .h = 1, .w = 1, .cin = 1 },
    { "around", .n = 2, .h = 3, .w = 5, .cin = 19 },
    { "cut", .n = 2, .h = 6, .w = 7, .cin = 8, .variant = CUT | VIEW },
    { "unet", .n = 2, .h = 32, .w = 32, .cin = 320 },
};

static void setup(const struct op_case *c, struct op_setup *ret)
{
    struct op *op = &ret->op;
    int64_t gap = c->variant & VIEW ? 5 : 0, grow = c->variant & CUT ? -2 : 2;
    op->src = (struct act){ .n = c->n, .h = c->h, .w = c->w, .c = c->cin, .ld = c->cin + gap };
    op->dst = op->src;
    op->dst.h += grow;
    op->dst.w += grow;
    op->pad_low = op->pad_high = c->variant & CUT ? 1 : -1;
}

const struct op_work op_work_wrap = { .phases = 1, .tiles = tiles, .run = run };

const struct op_info op_info_wrap = {
    .name = "wrap",
    .check = check,
    .reference = &op_work_wrap,
    .setup = setup,
    .cases = cases,
    .n_cases = sizeof cases / sizeof *cases,
};
