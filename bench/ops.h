/* ops.h - one op at a shape of SDXL's, as often as wanted, for timing.
 *
 * The cases are a table of ops.c; inputs are random, of the types that the networks give these ops,
 * weights random in f16 (I8 on an 8-bit backend), as large as in the network. A new case is a line.
 */
#ifndef DR_BENCH_OPS_H
#define DR_BENCH_OPS_H

#include "backend/backend.h"

const char *bench_op_name(int i); /* NULL past the end */

struct bench_op; /* memory, weights and inputs of a case on a backend */

int bench_op_new(struct backend *be, int i, struct bench_op **ret, struct dr_error *err);
void bench_op_free(struct bench_op *b);

/* One call; *ret_seconds of it. */
int bench_op_run(struct bench_op *b, const atomic_int *stop, double *ret_seconds,
                 struct dr_error *err);
struct op_need bench_op_need(const struct bench_op *b);

/* n values in `dtype`, normal near enough, with this deviation around mean: a few drawn and
 * converted, then copied from a start that moves on, so that gigabytes take seconds. */
int bench_fill(void *dst, enum dtype dtype, int64_t n, double mean, double deviation,
               struct dr_error *err);
/* A source that bench_fill has filled, its data from dr_malloc, to I8 with scales: in new memory
 * which *s has then, one block. DR_ECANCELED after a stop. */
int bench_quantize(struct weight_source *s, const atomic_int *stop, struct dr_error *err);

#endif
