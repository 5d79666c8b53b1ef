/* packing.c - see packing.h. */
#include "testing/backends/packing.h"

#include "backend/cpu/kernels.h"
#include "backend/ops/common.h"

enum { ROWS = 16 }; /* of a matrix, packed as one piece */

static size_t rows_bytes(const struct weight_desc *d)
{
    return d->kind == WEIGHT_LINEAR ? (size_t)(d->out * d->in) * sizeof(float) : 0;
}

static int64_t rows_pieces(const struct weight_desc *d)
{
    return ref_ceil(d->out, ROWS);
}

static void rows_piece(const struct host_weight *w, int64_t piece, void *dst)
{
    int64_t in = w->desc->in, last = ref_min((piece + 1) * ROWS, w->desc->out);
    for (int64_t row = piece * ROWS; row < last; row++) {
        const struct weight_source *s = w->source;
        int64_t r = row;
        while (r >= s->shape.d[0])
            r -= s++->shape.d[0];
        weight_row(s, r, 0, in, (float *)dst + row * in);
    }
}

static const struct packing packing_rows = { .bytes = rows_bytes,
                                             .pieces = rows_pieces,
                                             .piece = rows_piece };

/* A tile is a row of the source. */
static int64_t linear_tiles(const struct op *op, int phase)
{
    (void)phase;
    return op->dst.n * ref_pixels(&op->dst);
}

/* The reference's order of sums. */
static double dot(const float *x, const float *w, int64_t n)
{
    double sum = 0;
    for (int64_t k = 0; k < n; k++)
        sum += (double)x[k] * (double)w[k];
    return sum;
}

static void linear_run(const struct op_args *a, int phase, int64_t tile, void *own)
{
    (void)phase;
    (void)own;
    const struct op *op = a->op;
    const float *w = a->packed, *x = ref_row(a->src, &op->src, tile);
    int64_t in = op->src.c;
    float *out = (float *)a->dst + tile * op->dst.ld;
    for (int64_t c = 0; c < op->dst.c; c++) {
        bool geglu = op->activation == ACT_GEGLU;
        double gate = geglu ? dot(x, w + (op->dst.c + c) * in, in) : 0;
        out[c] = (float)ref_finish(a, tile, c, dot(x, w + c * in, in), gate);
    }
}

static bool fits(const struct weight_desc *d)
{
    return !d->keep_f32;
}

/* `narrow` has its weights packed; that it is for some weights only leaves activations float32. */
static const struct kernel linear = {
    KERNEL_WORK(.phases = 1, .tiles = linear_tiles, .run = linear_run),
    .narrow = true,
    .fits = fits,
};

static const struct added_kernel_set packing_set = {
    .set = { PACKING_SET, 0, PRECISION_F32, &packing_rows,
             .kernels = { [OP_KIND_linear] = &linear } },
    .rest = 0, /* scalar */
};

void packing_set_add(void)
{
    kernel_set_add(&packing_set);
}
