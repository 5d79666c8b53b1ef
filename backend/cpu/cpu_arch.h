/* cpu_arch.h - what the CPU backend needs to know of an architecture. One folder below backend/cpu
 * defines cpu_arch: x86/, or portable/ where there are no kernels of its own.
 */
#ifndef DR_BACKEND_CPU_CPU_ARCH_H
#define DR_BACKEND_CPU_CPU_ARCH_H

#include "backend/cpu/kernel.h"

/* A loop of one matrix instruction on registers: `turns` rounds begun from CPU_PEAK_SEEDS floats in
 * (0, 1); returns the number of instructions. What is computed goes to ret_sink so that no compiler
 * leaves it out. */
enum { CPU_PEAK_SEEDS = 1024 };
typedef double cpu_peak_loop(int64_t turns, const float *seed, float *ret_sink);

struct peak_family {
    const char *name;
    unsigned needs;
    double flops; /* of one instruction */
    cpu_peak_loop *loop;
};

struct cpu_arch {
    const char *processor;         /* where the system does not say which one it is */
    unsigned (*features)(void);    /* flags of this processor, as `needs` has them */
    const struct kernel_set *sets; /* worst first; the first has a kernel for every op */
    int n_sets;
    const struct peak_family *families;
    int n_families;
    /* Additions that each wait for the last, the operand being in a register; the sum. */
    int64_t (*add_chain)(int64_t additions, int64_t x, int64_t y);
};
extern const struct cpu_arch cpu_arch;

/* The kernels of `scalar`: the references. */
#define OP(name) extern const struct kernel cpu_##name##__scalar;
#include "backend/ops/ops.def"
#undef OP

/* Members of a table of sets, indexed by constants SET_name. */
#define SET_MEMBERS(set, name_, needs_, precision_, packing_)                                      \
    [SET_##set].name = name_, [SET_##set].needs = needs_,                                          \
    [SET_##set].precision = PRECISION_##precision_, [SET_##set].packing = packing_
#define OP_SCALAR(op) [SET_scalar].kernels[OP_KIND_##op] = &cpu_##op##__scalar,

#endif
