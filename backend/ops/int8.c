/* int8.c - see int8.h. */
#include "backend/ops/int8.h"

#include <string.h>

#include "base/alloc.h"

/* The larger of most and all |x|, NaN above all: as integers, magnitudes have the order of floats.
 * */
static float largest(const float *x, int64_t n, float most)
{
    uint32_t bits, m;
    memcpy(&m, &most, sizeof m);
    for (int64_t i = 0; i < n; i++) {
        memcpy(&bits, &x[i], sizeof bits);
        bits &= 0x7fffffffu;
        m = bits > m ? bits : m;
    }
    memcpy(&most, &m, sizeof m);
    return most;
}

/* To the nearest integer, ties to even, for |x| to 2^22: adding 1.5 * 2^23 leaves no fraction. */
static float nearest(float x)
{
    const float magic = 12582912.0f;
    return (x + magic) - magic;
}

void int8_weight_row(const float *values, int64_t n, int8_t *ret_numbers, float *ret_scale)
{
    float m = largest(values, n, 0), up = m >= INT8_LEAST ? INT8_MOST / m : 0;
    *ret_scale = m / INT8_MOST;
    for (int64_t i = 0; i < n; i++) {
        float q = nearest(values[i] * up);
        ret_numbers[i] = q >= -INT8_MOST && q <= INT8_MOST ? (int8_t)q : 0;
    }
}

int int8_source(const struct weight_source *s, int8_t *ret_numbers, float *ret_scales,
                const atomic_int *stop, struct dr_error *err)
{
    int64_t count = 0, rows = s->shape.d[0];
    shape_count(&s->shape, &count);
    int64_t k = count / rows;
    float *row = dr_malloc(DR_TAG_WEIGHTS, (size_t)k * sizeof *row);
    if (!row)
        return dr_fail(err, DR_ENOMEM, "out of memory for a row of a weight");
    int r = 0;
    for (int64_t i = 0; i < rows && !r; i++) {
        if (stop && atomic_load(stop))
            r = dr_fail(err, DR_ECANCELED, "stopped");
        weight_row(s, i, 0, k, row);
        int8_weight_row(row, k, ret_numbers + i * k, &ret_scales[i]);
    }
    dr_free(row);
    return r;
}

void int8_round_source(const struct op *op, float *src)
{
    const struct act *a = &op->src;
    int64_t pixels = a->n * a->h * a->w;
    int64_t rows = op->kind == OP_LINEAR ? 1 : a->h * a->w;
    for (int64_t first = 0; first < pixels; first += rows) {
        float m = 0;
        for (int64_t r = first; r < first + rows; r++)
            m = largest(src + r * a->ld, a->c, m);
        float up = m >= INT8_LEAST ? INT8_MOST / m : 0, down = m / INT8_MOST;
        for (int64_t r = first; r < first + rows; r++)
            for (int64_t i = 0; i < a->c; i++)
                src[r * a->ld + i] = nearest(src[r * a->ld + i] * up) * down;
    }
}
