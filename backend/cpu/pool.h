/* pool.h - threads that share out the tiles of an op.
 *
 * The caller works too, as thread 0. Each thread has a share of the tiles, neighbours in their
 * order, and takes from the shares of others when its own is empty, so one that is late or slow
 * simply gets fewer; which thread computes a tile never shows in the bits. Before
 * each tile the stop flag is read. Every thread computes with the default floating-point
 * environment (round to nearest, denormals kept) whatever the caller's is.
 */
#ifndef DR_BACKEND_CPU_POOL_H
#define DR_BACKEND_CPU_POOL_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/error.h"

struct pool;

/* threads >= 1. Pinned one to a processor when they take all that this process may use. */
int pool_new(int threads, struct pool **ret, struct dr_error *err);
void pool_free(struct pool *p);

/* Processors that this process may use: affinity mask, cut by the control group's quota, at least
 * 1. And without the quota. */
int cpu_count(void);
int cpu_affinity_count(void);

typedef void (*pool_fn)(void *ctx, int64_t tile, int thread);

/* Runs fn for the tiles 0 .. tiles-1 and returns when all are done; DR_ECANCELED when *stop became
 * nonzero before the last was handed out. Calls from several threads are served one after another.
 */
int pool_run(struct pool *p, pool_fn fn, void *ctx, int64_t tiles, const atomic_int *stop);

#endif
