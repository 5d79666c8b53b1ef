/* emulation.h - what an op would give with an 8-bit weight, computed on a float32 kernel set. The
 * choice of layers measures their errors with it.
 *
 * The weight is rounded as a conversion rounds it, the source as 8-bit kernels do (ops/int8.h), and
 * the op runs on the rounded values: the result of an 8-bit set up to rounding in float32.
 */
#ifndef DR_QUANTIZE_EMULATION_H
#define DR_QUANTIZE_EMULATION_H

#include "backend/ops/op.h"

/* true: 8-bit kernels could take the op's weight. */
bool trial_possible(const struct op *op);

/* Runs the op in 8 bits. */
int trial_run(struct exec *x, const struct op *op, struct dr_error *err);

/* Runs the op both ways without its residual, on memory of its own; adds the squares of the
 * difference and of the result. */
int trial_measure(struct exec *x, const struct op *op, double *difference, double *result,
                  struct dr_error *err);

#endif
