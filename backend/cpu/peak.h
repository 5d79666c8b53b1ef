/* peak.h - the most that this machine does now, for saying which fraction of it a kernel reached.
 *
 * Register-only loops of each instruction family (peaks.def) on random data, begun on all threads
 * of the backend at once. The clock is taken in the same threads, between pieces of the loop, from
 * a chain of integer additions that each wait for the one before: one a cycle. So a loop that fills
 * the instruction's ports shows as a whole number of instructions a cycle, whatever the clock is.
 */
#ifndef DR_BACKEND_CPU_PEAK_H
#define DR_BACKEND_CPU_PEAK_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/backend.h"

/* Names of the families in the order of the table; NULL past the end. */
const char *cpu_peak_family(int family);
bool cpu_peak_usable(int family);

/* The family of a kernel set's matrix instruction; -1 when the table has no line for it. */
int cpu_peak_family_of(const char *kernel_set);

struct cpu_peak {
    double flops;        /* FLOP/s of all threads together (int8: OP/s) */
    double hz;           /* clock, mean over the threads */
    double instructions; /* a cycle and core */
    double per_cycle;    /* FLOPs a cycle and core */
};

/* The best of a few rounds, about 0.1 s; zeros for a family that this machine lacks. */
struct cpu_peak cpu_peak_measure(struct backend *be, int family);

/* FLOP/s of the family of the backend's kernel set; 0 where nothing can be measured. */
double cpu_peak(struct backend *be);

/* The loops, in kernels/: `turns` rounds begun from CPU_PEAK_SEEDS floats in (0, 1); the number of
 * instructions. What is computed goes to ret_sink so that no compiler leaves it out. */
enum { CPU_PEAK_SEEDS = 1024 };
typedef double cpu_peak_loop(int64_t turns, const float *seed, float *ret_sink);
#define FAMILY(name, needs, flops) cpu_peak_loop cpu_peak_loop__##name;
#include "backend/cpu/x86/peaks.def"

#endif
