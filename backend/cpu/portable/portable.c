/* portable.c - an architecture without kernels of its own: the references only. */
#include "backend/cpu/cpu_arch.h"

enum { SET_scalar };

static const struct kernel_set sets[] = {
    SET_MEMBERS(scalar, "scalar", 0, F32, NULL),
#define OP OP_SCALAR
#include "backend/ops/ops.def"
#undef OP
};

static unsigned features(void)
{
    return 0;
}

static int64_t add_chain(int64_t additions, int64_t x, int64_t y)
{
    for (int64_t i = 0; i < additions; i++) {
        x += y;
        __asm__ volatile("" : "+r"(x));
    }
    return x;
}

const struct cpu_arch cpu_arch = {
    .processor = "processor",
    .features = features,
    .sets = sets,
    .n_sets = 1,
    .add_chain = add_chain,
};
