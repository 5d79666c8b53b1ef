/* resize.c - nearest neighbour: dst[i, j] = src[floor(i h / H), floor(j w / W)].
 *
 * Contract (torch's interpolate, mode nearest, given a size). src [n, h, w, c], dst [n, H, W, c],
 * the same dtype of 4 bytes; any H and W. Equal sizes: a copy, e.g. into some channels of a
 * concatenation. dst and src share nothing. flops 0. Exact.
 */
#include "backend/ops/common.h"

#include <string.h>

enum { RUN = 1 << 18 }; /* values of a tile, about */

static int check(const struct op *op, struct dr_error *err)
{
    enum dtype dtype = op->dst.dtype == DTYPE_I32 ? DTYPE_I32 : DTYPE_F32;
    int r = ref_need("resize", "dst", &op->dst, dtype, err);
    if (!r)
        r = ref_need("resize", "src", &op->src, dtype, err);
    if (!r)
        r = ref_shape("resize", "src", &op->src, op->dst.n, -1, -1, op->dst.c, err);
    if (!r && (op->weight || op->residual.buf || op->activation != ACT_NONE))
        r = dr_fail(err, DR_EINVAL, "resize: no weight, activation or residual");
    return r ? r : ref_apart("resize", "src", &op->dst, &op->src, false, err);
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
            int64_t from = (n * s->h + y * s->h / d->h) * s->w + x * s->w / d->w;
            memcpy((float *)a->dst + ((n * d->h + y) * d->w + x) * d->ld,
                   (const float *)a->src + from * s->ld, (size_t)d->c * sizeof(float));
        }
}

enum { VIEW = 1 };

/* h, w: of dst; kv, groups: of src. */
static const struct op_case cases[] = {
    { "one value", .n = 1, .h = 1, .w = 1, .kv = 1, .groups = 1, .cin = 1 },
    { "copy into channels", .n = 3, .h = 9, .w = 7, .kv = 9, .groups = 7, .cin = 20,
      .variant = VIEW },
    { "double", .n = 2, .h = 8, .w = 10, .kv = 4, .groups = 5, .cin = 33 },
    { "7 to 13, 5 to 9", .n = 2, .h = 13, .w = 9, .kv = 7, .groups = 5, .cin = 17 },
    { "smaller", .n = 1, .h = 4, .w = 3, .kv = 11, .groups = 8, .cin = 5, .variant = VIEW },
    { "unet skip", .n = 1, .h = 64, .w = 64, .kv = 64, .groups = 64, .cin = 320, .variant = VIEW },
};

static void setup(const struct op_case *c, struct op_setup *ret)
{
    int64_t gap = c->variant & VIEW ? 13 : 0;
    struct op *op = &ret->op;
    op->src = (struct act){ .n = c->n, .h = c->kv, .w = c->groups, .c = c->cin };
    op->dst = (struct act){ .n = c->n, .h = c->h, .w = c->w, .c = c->cin, .ld = c->cin + gap };
}

const struct op_work op_work_resize = { .phases = 1, .tiles = tiles, .run = run };

const struct op_info op_info_resize = {
    .name = "resize",
    .check = check,
    .reference = &op_work_resize,
    .setup = setup,
    .cases = cases,
    .n_cases = sizeof cases / sizeof *cases,
};
