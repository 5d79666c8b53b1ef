/* window.h - the reference of everything that slides a kernel over a picture: conv2d and
 * upsample_conv.
 *
 * They differ only in which row (and column) of src lies under tap `tap` of output row `out`.
 */
#ifndef DR_BACKEND_OPS_WINDOW_H
#define DR_BACKEND_OPS_WINDOW_H

#include "backend/ops/op.h"

/* Row (or column) of src; -1: outside, zeros. */
typedef int64_t (*window_source)(const struct op *op, bool row, int64_t out, int tap);

double window_flops(const struct op *op);
int64_t window_tiles(const struct op *op, int phase);
size_t window_per_thread(const struct op *op);
void window_run(const struct op_args *a, window_source source, int64_t tile, float *own);
double window_at(const struct op_args *a, window_source source, int64_t n, int64_t h, int64_t w,
                 int64_t c);

#endif
