/* common.h - what the references share: checks of activations, the epilogue, a blocked dot product
 * in double. */
#ifndef DR_BACKEND_OPS_COMMON_H
#define DR_BACKEND_OPS_COMMON_H

#include "backend/ops/op.h"

/* The activation is present and of that type. Where F32 is asked for, 16-bit floats pass: which op
 * and backend take them is checked for all ops in one place, before. */
int ref_need(const char *op, const char *what, const struct act *a, enum dtype dtype,
             struct dr_error *err);
/* [n, h, w, c] as expected; -1 matches anything. */
int ref_shape(const char *op, const char *what, const struct act *a, int64_t n, int64_t h,
              int64_t w, int64_t c, struct dr_error *err);
/* dst shares no element with a; with in_place, it may also be exactly a. Absent a is fine. */
int ref_apart(const char *op, const char *what, const struct act *dst, const struct act *a,
              bool in_place, struct dr_error *err);
/* dst, src and residual of the usual op: float32, residual of dst's shape. */
int ref_usual(const char *op, const struct op *o, bool in_place, struct dr_error *err);
/* channel_add, where there is one: float32 [n, 1, 1, c] for dst's n and c, apart from dst. */
int ref_channel_add(const char *op, const struct op *o, struct dr_error *err);
int ref_weight(const char *op, const struct weight *w, enum weight_kind kind, struct dr_error *err);

static inline int64_t ref_pixels(const struct act *a)
{
    return a->h * a->w;
}

static inline int64_t ref_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t ref_ceil(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* Address of pixel p (counted over all samples) of an activation that begins at base. */
static inline const float *ref_row(const void *base, const struct act *a, int64_t p)
{
    return (const float *)base + p * a->ld;
}

/* An elementwise op of one phase cuts its pixels, over all samples, into tiles of so many. */
enum { REF_TILE = 1 << 16 /* values of a tile, about */ };
static inline int64_t ref_tile_pixels(const struct op *op)
{
    return op->dst.c < REF_TILE ? REF_TILE / op->dst.c : 1;
}
int64_t ref_pixel_tiles(const struct op *op, int phase);

/* One element of a source, and a run of them (of I8: within a row), as float. */
float ref_element(const struct weight_source *s, int64_t i);
void ref_elements(float *dst, const struct weight_source *s, int64_t first, int64_t count);

double ref_activate(enum activation act, double x);

/* From the sum of products to the stored value, for pixel p (over all samples) and channel c of
 * dst: bias, channel_add, activation (gate: the second sum of GEGLU), residual, rounding. */
double ref_finish(const struct op_args *a, int64_t p, int64_t c, double sum, double gate);

enum { REF_BLOCK = 4 };

/* sums[i][j] += dot(x[i], column j of w), i, j < REF_BLOCK; w is [k][REF_BLOCK]. One chain in order
 * of k per sum. */
void ref_multiply(double sums[REF_BLOCK][REF_BLOCK], const float *const x[REF_BLOCK],
                  const float *w, int64_t k);

#endif
