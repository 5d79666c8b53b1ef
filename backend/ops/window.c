/* window.c - see window.h. */
#include "backend/ops/window.h"

#include <string.h>

#include "backend/ops/common.h"

enum { PIXELS = 16 };

double window_flops(const struct op *op)
{
    const struct weight_desc *d = weight_desc(op->weight);
    return 2.0 * (double)(op->dst.n * ref_pixels(&op->dst)) * (double)d->in * (double)d->out *
           (double)(d->kernel * d->kernel);
}

/* Tiles of PIXELS pixels of one sample and REF_BLOCK channels. */
static int64_t sample_tiles(const struct op *op)
{
    return ref_ceil(ref_pixels(&op->dst), PIXELS);
}

int64_t window_tiles(const struct op *op, int phase)
{
    (void)phase;
    return op->dst.n * sample_tiles(op) * ref_ceil(op->dst.c, REF_BLOCK);
}

static int64_t taps_of(const struct op *op)
{
    return weight_desc(op->weight)->kernel * weight_desc(op->weight)->kernel;
}

/* One filter, the block of filters as [tap][in][REF_BLOCK], a pixel of zeros. */
size_t window_per_thread(const struct op *op)
{
    int64_t filter = taps_of(op) * op->src.c;
    return (size_t)(filter * (1 + REF_BLOCK) + op->src.c) * sizeof(float);
}

static void interleave(float *dst, float *filter, const struct op_args *a, int64_t first,
                       int64_t count)
{
    const struct op *op = a->op;
    const struct weight_source *s = a->weight->source;
    int64_t taps = taps_of(op), in = op->src.c;
    for (int64_t j = 0; j < REF_BLOCK; j++) {
        ref_elements(filter, s, (first + ref_min(j, count - 1)) * taps * in, taps * in);
        for (int64_t k = 0; k < in; k++)
            for (int64_t t = 0; t < taps; t++)
                dst[(t * in + k) * REF_BLOCK + j] = filter[k * taps + t];
    }
}

/* The pixel of src under a tap of output pixel p of a sample; NULL outside. */
static const float *under(const struct op_args *a, window_source source, int64_t n, int64_t p,
                          int64_t tap)
{
    const struct op *op = a->op;
    int kernel = weight_desc(op->weight)->kernel;
    int64_t y = source(op, true, p / op->dst.w, (int)(tap / kernel));
    int64_t x = source(op, false, p % op->dst.w, (int)(tap % kernel));
    return y < 0 || x < 0 ? NULL : ref_row(a->src, &op->src, (n * op->src.h + y) * op->src.w + x);
}

void window_run(const struct op_args *a, window_source source, int64_t tile, float *own)
{
    const struct op *op = a->op;
    int64_t pixels = ref_pixels(&op->dst), in = op->src.c, taps = taps_of(op);
    int64_t per_block = op->dst.n * sample_tiles(op);
    int64_t c0 = tile / per_block * REF_BLOCK, n = tile % per_block / sample_tiles(op);
    int64_t first = tile % sample_tiles(op) * PIXELS, last = ref_min(first + PIXELS, pixels);
    int64_t channels = ref_min(REF_BLOCK, op->dst.c - c0);
    float *filters = own + taps * in, *zeros = filters + taps * in * REF_BLOCK;
    interleave(filters, own, a, c0, channels);
    memset(zeros, 0, (size_t)in * sizeof *zeros);
    for (int64_t p = first; p < last; p += REF_BLOCK) {
        double sums[REF_BLOCK][REF_BLOCK] = { { 0 } };
        for (int64_t t = 0; t < taps; t++) {
            const float *x[REF_BLOCK];
            for (int64_t i = 0; i < REF_BLOCK; i++) {
                x[i] = under(a, source, n, ref_min(p + i, last - 1), t);
                if (!x[i])
                    x[i] = zeros;
            }
            ref_multiply(sums, x, filters + t * in * REF_BLOCK, in);
        }
        for (int64_t i = 0; i < REF_BLOCK && p + i < last; i++) {
            int64_t q = n * pixels + p + i;
            float *out = (float *)a->dst + q * op->dst.ld + c0;
            for (int64_t j = 0; j < channels; j++)
                out[j] = (float)ref_finish(a, q, c0 + j, sums[i][j], 0);
        }
    }
}

double window_at(const struct op_args *a, window_source source, int64_t n, int64_t h, int64_t w,
                 int64_t c)
{
    const struct op *op = a->op;
    int64_t p = h * op->dst.w + w, taps = taps_of(op), in = op->src.c;
    const struct weight_source *s = a->weight->source;
    double sum = 0;
    for (int64_t t = 0; t < taps; t++) {
        const float *x = under(a, source, n, p, t);
        for (int64_t k = 0; x && k < in; k++)
            sum += (double)x[k] * ref_element(s, (c * in + k) * taps + t);
    }
    return ref_finish(a, n * ref_pixels(&op->dst) + p, c, sum, 0);
}
