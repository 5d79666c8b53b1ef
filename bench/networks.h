/* networks.h - a forward pass of each of SDXL's networks, for timing. */
#ifndef DR_BENCH_NETWORKS_H
#define DR_BENCH_NETWORKS_H

#include "bench/model.h"

const char *bench_network_name(int i); /* NULL past the end */

struct bench_network; /* inputs, workspace and FLOPs of a case */

/* Gets its part of the model, which must stay until bench_network_free. */
int bench_network_new(struct bench_model *m, int i, const atomic_int *stop,
                      struct bench_network **ret, struct dr_error *err);
void bench_network_free(struct bench_network *b);
/* One pass; *ret_seconds of it. */
int bench_network_run(struct bench_network *b, double *ret_seconds, struct dr_error *err);
struct op_need bench_network_need(const struct bench_network *b);

#endif
