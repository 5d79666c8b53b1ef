/* peak.h - the most that this machine does now, for saying which fraction of it a kernel reached.
 */
#ifndef DR_BACKEND_CPU_PEAK_H
#define DR_BACKEND_CPU_PEAK_H

#include <stdint.h>

#include "backend/backend.h"

/* float32 multiply-adds of the backend's kernel set (scalar: of AVX2 where the machine has it) on
 * all its threads at once, on random data in registers: FLOP/s, the best of a few rounds. 0 where
 * nothing can be measured. Takes about 0.1 s. */
double cpu_peak(struct backend *be);

/* The loops, in kernels/: `turns` rounds of multiply-adds begun from 512 floats in (0, 1); the
 * FLOPs. */
double cpu_peak_loop__avx2(int64_t turns, const float *seed, float *ret_sink);
double cpu_peak_loop__avx512(int64_t turns, const float *seed, float *ret_sink);

#endif
