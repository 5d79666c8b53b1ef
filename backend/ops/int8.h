/* int8.h - what 8-bit operands are: the same for whoever writes weights, for kernels, and for the
 * references that these are compared with.
 *
 * Weights: numbers -127 .. 127 of type I8 and one float32 scale for each output (the row of a
 * matrix, the filter of a convolution). Every kernel set computes with number * scale.
 *
 * Sources: only kernels that say so (`int8`) round them, each time anew: those of a linear layer by
 * token, for tokens differ much in size; those of a convolution by sample, since the windows of its
 * pixels overlap. In float32, with m the largest |x| of the token or sample:
 *     number = round(x * (127 / m)), ties to even; value = number * (m / 127)
 * and all numbers are 0 when m < 1e-30. Sums of products of numbers are exact, so no order or cut
 * of them changes a bit. With an infinity or NaN in a token or sample, nothing that it gives is
 * finite.
 */
#ifndef DR_BACKEND_OPS_INT8_H
#define DR_BACKEND_OPS_INT8_H

#include "backend/ops/op.h"

#define INT8_LEAST 1e-30f

enum {
    INT8_MOST = 127,
    INT8_OFFSET = 128,    /* added to a source's numbers where an instruction wants them unsigned */
    INT8_SUM_MAX = 65536, /* products in a sum: 65536 * 255 * 127 is within 32 bits */
};

/* One row of a weight: n values to numbers and their scale. */
void int8_weight_row(const float *values, int64_t n, int8_t *ret_numbers, float *ret_scale);

/* A matrix or filters in any real dtype: numbers [elements], scales [rows]. DR_ECANCELED after a
 * stop. */
int int8_source(const struct weight_source *s, int8_t *ret_numbers, float *ret_scales,
                const atomic_int *stop, struct dr_error *err);

/* src, the source of a linear, conv2d or upsample_conv, to the values that 8-bit kernels see. */
void int8_round_source(const struct op *op, float *src);

#endif
