/* check_moments.h - moments in the checker's cases: made for norms, compared for products. */
#ifndef DR_BACKEND_CHECK_CHECK_MOMENTS_H
#define DR_BACKEND_CHECK_CHECK_MOMENTS_H

#include "backend/ops/op.h"

/* The shape of the op's moments on this backend: of a product, the runs that it gives, so c stays 0
 * where it gives none; of a norm some short runs, the last of them empty. */
void check_moments_shape(struct backend *be, struct op *op);

/* What a product would have given for values [n, pixels, c], dense. */
void check_moments_make(const struct op *op, const float *values, float *ret);

/* Whether moments are those of values: rows of a pixel, ld apart. DR_EINVAL with words if not. */
int check_moments_compare(const struct op *op, const float *moments, const float *values,
                          int64_t ld, struct dr_error *err);

#endif
