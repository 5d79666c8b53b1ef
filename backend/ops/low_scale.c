/* low_scale.c - dst = src with the lowest frequencies of each picture multiplied by scale.
 *
 * Contract (the Fourier filter of FreeU, Si et al. 2023, arXiv 2309.11497, as diffusers'
 * fourier_filter with threshold 1 has it). src and dst [n, h, w, c] float32; dst may be src. The
 * frequencies are -1 and 0 of each axis that is longer than 1, else 0: with F their part of the
 * discrete Fourier transform of a channel, dst = src + (scale - 1) Re(inverse of F). flops 0.
 * Order: sums in double, pixels in order.
 */
#include <math.h>

#include "backend/ops/common.h"
#include "base/dmath.h"

enum { CHANNELS = 32 /* of a tile */ };

#define TURN 6.283185307179586

static int check(const struct op *op, struct dr_error *err)
{
    int r = ref_usual("low_scale", op, true, err);
    if (!r)
        r = ref_shape("low_scale", "src", &op->src, op->dst.n, op->dst.h, op->dst.w, op->dst.c,
                      err);
    if (!r &&
        (!isfinite(op->scale) || op->weight || op->residual.buf || op->activation != ACT_NONE))
        r = dr_fail(err, DR_EINVAL, "low_scale: a finite scale, no weight, residual or activation");
    return r;
}

static int64_t channel_tiles(const struct op *op)
{
    return ref_ceil(op->dst.c, CHANNELS);
}

static int64_t tiles(const struct op *op, int phase)
{
    (void)phase;
    return op->dst.n * channel_tiles(op);
}

/* The waves at a pixel: 1, then cosine and sine along y, along x, and along both. */
enum { WAVES = 7 };

static void waves(const struct act *d, int64_t y, int64_t x, double ret[WAVES])
{
    double down = TURN * (double)y / (double)d->h, across = TURN * (double)x / (double)d->w;
    double cy = dr_cos(down), sy = dr_sin(down), cx = dr_cos(across), sx = dr_sin(across);
    double tall = d->h > 1, wide = d->w > 1, both = tall * wide;
    const double all[WAVES] = { 1,
                                tall * cy,
                                tall * sy,
                                wide * cx,
                                wide * sx,
                                both * (cy * cx - sy * sx),
                                both * (sy * cx + cy * sx) };
    for (int k = 0; k < WAVES; k++)
        ret[k] = all[k];
}

static void run(const struct op_args *a, int phase, int64_t tile, void *own)
{
    (void)phase;
    (void)own;
    const struct op *op = a->op;
    const struct act *d = &op->dst;
    int64_t n = tile / channel_tiles(op), first = tile % channel_tiles(op) * CHANNELS;
    int64_t count = ref_min(CHANNELS, d->c - first), pixels = ref_pixels(d);
    double sum[WAVES][CHANNELS] = { { 0 } }, wave[WAVES];
    for (int64_t p = 0; p < pixels; p++) {
        const float *x = ref_row(a->src, &op->src, n * pixels + p) + first;
        waves(d, p / d->w, p % d->w, wave);
        for (int k = 0; k < WAVES; k++)
            for (int64_t c = 0; c < count; c++)
                sum[k][c] += wave[k] * x[c];
    }
    double factor = (op->scale - 1) / (double)pixels;
    for (int64_t p = 0; p < pixels; p++) {
        const float *x = ref_row(a->src, &op->src, n * pixels + p) + first;
        float *out = (float *)a->dst + (n * pixels + p) * d->ld + first;
        waves(d, p / d->w, p % d->w, wave);
        for (int64_t c = 0; c < count; c++) {
            double low = 0;
            for (int k = 0; k < WAVES; k++)
                low += wave[k] * sum[k][c];
            out[c] = (float)(x[c] + factor * low);
        }
    }
}

enum { VIEW = 1, IN_PLACE = 2 };

static const struct op_case cases[] = {
    { "one value", .n = 1, .h = 1, .w = 1, .cin = 1 },
    { "one row", .n = 2, .h = 1, .w = 5, .cin = 3 },
    { "one column", .n = 1, .h = 6, .w = 1, .cin = 40 },
    { "two by two", .n = 1, .h = 2, .w = 2, .cin = 2 },
    { "odd", .n = 3, .h = 5, .w = 7, .cin = 33, .variant = VIEW },
    { "onto src", .n = 2, .h = 9, .w = 8, .cin = 70, .variant = IN_PLACE },
    { "unet", .n = 1, .h = 32, .w = 32, .cin = 320, .variant = IN_PLACE },
};

static void setup(const struct op_case *c, struct op_setup *ret)
{
    struct op *op = &ret->op;
    int64_t gap = c->variant & VIEW ? 5 : 0;
    op->src = (struct act){ .n = c->n, .h = c->h, .w = c->w, .c = c->cin, .ld = c->cin + gap };
    op->dst = op->src;
    op->scale = 0.375;
    ret->src_in_place = c->variant & IN_PLACE;
}

const struct op_work op_work_low_scale = { .phases = 1, .tiles = tiles, .run = run };

const struct op_info op_info_low_scale = {
    .name = "low_scale",
    .check = check,
    .reference = &op_work_low_scale,
    .setup = setup,
    .cases = cases,
    .n_cases = sizeof cases / sizeof *cases,
    .tolerance = 1e-6,
};
