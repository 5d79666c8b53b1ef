/* scalar.c - the set that every machine has: the references, run on all threads. */
#include "backend/cpu/cpu_arch.h"

#define OP(name) const struct kernel cpu_##name##__scalar = { .work = &op_work_##name };
#include "backend/ops/ops.def"
#undef OP
