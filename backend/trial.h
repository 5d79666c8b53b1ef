/* trial.h - what an op would give with its weight in 8 bits, found out on a set of float32: for the
 * choice of the layers that stand it.
 *
 * The weight is rounded as a conversion would, the source as kernels of 8 bits do (ops/int8.h), and
 * the op runs on the rounded values: what sets of 8 bits compute, up to the rounding of the set.
 */
#ifndef DR_BACKEND_TRIAL_H
#define DR_BACKEND_TRIAL_H

#include "backend/ops/op.h"

/* Whether the op has a weight that kernels of 8 bits could take. */
bool trial_possible(const struct op *op);

/* Runs the op in 8 bits. */
int trial_run(struct exec *x, const struct op *op, struct dr_error *err);

/* Runs the op both ways without its residual, on memory of its own; adds the squares of the
 * difference and of the result. */
int trial_measure(struct exec *x, const struct op *op, double *difference, double *result,
                  struct dr_error *err);

#endif
