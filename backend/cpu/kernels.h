/* kernels.h - kernel sets by number, and which kernel a set has for an op. */
#ifndef DR_BACKEND_CPU_KERNELS_H
#define DR_BACKEND_CPU_KERNELS_H

#include "backend/cpu/kernel.h"

/* Number of a set; name NULL or "auto": the best that this machine can run in that precision.
 * DR_EINVAL for an unknown name (the error lists the known ones) and for a set of another
 * precision, DR_EUNSUPPORTED when the processor lacks what is needed. */
int kernel_set_find(const char *name, enum precision precision, int *ret_set, struct dr_error *err);
const struct kernel_set *kernel_set_at(int set); /* NULL past the end */
bool kernel_set_usable(int set);

/* exact: none of the `fast` ones. d: of the op's weight, NULL: it has none. */
const struct kernel *kernel_of(enum op_kind op, const struct weight_desc *d, int set, bool exact);
/* The kernel of this call: that of the set, or in a set that rounds operands, for a weight that is
 * `keep_f32` and for an attention of float32, that of the nearest set that does not. */
const struct kernel *kernel_for(const struct op *op, int set, bool exact);

/* Whether every kernel and packing of the architecture has what it must have. */
int kernel_tables_check(struct dr_error *err);

/* A set that nobody can choose: kernels on emulated instructions, whose indexing and arithmetic
 * tests check on processors without the real ones. It exists in programs that add it; `auto` never
 * means it. */
struct added_kernel_set {
    struct kernel_set set;
    int rest; /* the set that has its other kernels: one that was there before */
};
void kernel_set_add(const struct added_kernel_set *set); /* kept; twice is once */

#endif
