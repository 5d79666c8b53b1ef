/* kernel.h - the CPU's kernels: an op's work made fast, and how their weights are packed.
 *
 * In this folder: the CPU as a device - its threads, its kernel sets and which kernel a call gets,
 * the packed forms of weights, the peak of its instructions. What depends on the instruction set of
 * an architecture is in a folder of its own (x86/), behind cpu_arch.h; kernel templates, written
 * over vector words, are in kernels/. Not here: what an op means (backend/ops/op.h).
 */
#ifndef DR_BACKEND_CPU_KERNEL_H
#define DR_BACKEND_CPU_KERNEL_H

#include "backend/ops/op.h"

struct kernel {
    const struct op_work *work;
    double (*executed)(const struct op *op);     /* flops really done; NULL: the op's */
    int64_t (*stat_chunks)(const struct op *op); /* of a sample in `moments`; NULL: gives none */
    /* Rounds operands of products to the set's 16-bit type, reads their weights packed, and takes
     * activations of that type; of an op without a weight: takes them. */
    bool narrow;
    double tolerance; /* of its results where the op's own is too tight for its operands; 0: not */
    double activated_tolerance; /* the same where the op has an activation */
    bool int8; /* takes I8 weights only, and rounds the source to 8 bits: ops/int8.h */
    /* Takes these weights only; NULL: takes all. Then it must take 16-bit activations where the
     * set's kernel for other weights does. */
    bool (*fits)(const struct weight_desc *d);
};

/* For definitions: the symbol that a line of kernels.def names, and the work in place. */
#define KERNEL_NAME_(op, set) cpu_##op##__##set
#define KERNEL_NAME(op, set) KERNEL_NAME_(op, set)
#define KERNEL_WORK(...)                                                                           \
    .work = &(const struct op_work)                                                                \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

/* DR_EINTERNAL that names what a kernel must have and lacks. */
int kernel_check(const struct kernel *kernel, const char *name, struct dr_error *err);

/* How a kernel set keeps the weights of matrix products. Pure functions of desc and sources; the
 * pieces of a weight are written independently of each other. */
struct packing {
    size_t (*bytes)(const struct weight_desc *d); /* 0: such a weight stays as it is */
    int64_t (*pieces)(const struct weight_desc *d);
    /* Fills its part of the `bytes` at dst; all parts together fill them all. */
    void (*piece)(const struct host_weight *w, int64_t piece, void *dst);
};

/* A closed choice of kernels. */
struct kernel_set {
    const char *name;
    unsigned needs; /* features of the architecture */
    enum precision precision;
    const struct packing *packing; /* NULL: weights stay as they are */
    const struct kernel *kernels[OP_KIND_COUNT];
    const struct kernel *fast[OP_KIND_COUNT]; /* in their place, unless float32 was asked for */
    const char *family; /* of instructions, whose peak its speed is a fraction of; NULL: unknown */
};

#endif
