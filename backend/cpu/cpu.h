/* cpu.h - the parts of the cpu backend that guarded shares. */
#ifndef DR_BACKEND_CPU_CPU_H
#define DR_BACKEND_CPU_CPU_H

#include "backend/cpu/pool.h"
#include "backend/vtable.h"

struct cpu_backend {
    struct backend base;
    struct pool *pool;
    int set;
    bool exact;
};

int cpu_backend_open(const struct backend_options *opt, const struct backend_vtable *v,
                     struct backend **ret, struct dr_error *err);
void cpu_close(struct backend *be);
void cpu_copy(struct backend *be, const struct transfer *t);
struct weight_bytes cpu_weight_bytes(struct backend *be, const struct weight_desc *d);
void cpu_weight_make(struct backend *be, const struct cpu_weight *w, void *dst);
void cpu_weight_bind(struct backend *be, struct cpu_weight *w, const void *made);
struct op_need cpu_need(struct backend *be, const struct op *op);
int64_t cpu_runs(struct backend *be, const struct op *op);
int cpu_run(struct backend *be, const struct op *op, struct buffer *scratch_buf,
            size_t scratch_offset, const atomic_int *stop, struct dr_error *err);

#endif
