/* x86.c - the tables of x86-64: kernels.def and peaks.def. */
#include "backend/cpu/cpu_arch.h"

#include "backend/cpu/panel.h"
#include "backend/cpu/x86/features.h"
#include "backend/cpu/x86/peaks.h"

enum {
#define SET(name, needs, precision, packing) SET_##name,
#include "backend/cpu/x86/kernels.def"
    SET_COUNT
};

#define KERNEL(op, set) extern const struct kernel cpu_##op##__##set;
#define FAST(op, set) extern const struct kernel cpu_##op##_fast__##set;
#include "backend/cpu/x86/kernels.def"

static const struct kernel_set sets[SET_COUNT] = {
#define SET(name, needs, precision, packing) SET_MEMBERS(name, #name, needs, precision, packing),
#define KERNEL(op, set) [SET_##set].kernels[OP_KIND_##op] = &cpu_##op##__##set,
#define FAST(op, set) [SET_##set].fast[OP_KIND_##op] = &cpu_##op##_fast__##set,
#include "backend/cpu/x86/kernels.def"
#define OF(set, family_) [SET_##set].family = #family_,
#include "backend/cpu/x86/peaks.def"
#define OP OP_SCALAR
#include "backend/ops/ops.def"
#undef OP
};

static const struct peak_family families[] = {
#define FAMILY(name, needs, flops) { #name, needs, flops, cpu_peak_loop__##name },
#include "backend/cpu/x86/peaks.def"
};

/* Some processors add small constants for nothing: y is in a register. */
static int64_t add_chain(int64_t additions, int64_t x, int64_t y)
{
    enum { UNROLLED = 20 };
#define ADD "add %1, %0\n\t"
#define ADD5 ADD ADD ADD ADD ADD
    for (int64_t i = 0; i < additions / UNROLLED; i++)
        __asm__ volatile(ADD5 ADD5 ADD5 ADD5 : "+r"(x) : "r"(y));
#undef ADD5
#undef ADD
    return x;
}

const struct cpu_arch cpu_arch = {
    .processor = "x86-64 processor",
    .features = cpu_features,
    .sets = sets,
    .n_sets = SET_COUNT,
    .families = families,
    .n_families = sizeof families / sizeof *families,
    .add_chain = add_chain,
};
