/* peak.h - the most that this machine does now, for saying which fraction of it a kernel reached.
 *
 * Register-only loops of each instruction family (cpu_arch.h) on random data, begun on all threads
 * of the backend at once. The clock is taken in the same threads, between pieces of the loop, from
 * a chain of integer additions that each wait for the one before: one a cycle. So a loop that fills
 * the instruction's ports shows as a whole number of instructions a cycle, whatever the clock is.
 */
#ifndef DR_BACKEND_CPU_PEAK_H
#define DR_BACKEND_CPU_PEAK_H

#include "backend/cpu/cpu_arch.h"
#include "backend/device.h"

/* Names of the families in the order of the table; NULL past the end. */
const char *cpu_peak_family(int family);
bool cpu_peak_usable(int family);

/* The family of a set's matrix instruction; -1 when the table has none. */
int cpu_peak_family_of(const struct kernel_set *set);

/* The best of a few rounds, about 0.1 s; zeros for a family that this machine lacks. */
struct device_peak cpu_peak_measure(struct backend *be, int family);

#endif
