/* cpu.h - the inside of the cpu backend, for its own files and for tests that change one part. */
#ifndef DR_BACKEND_CPU_CPU_H
#define DR_BACKEND_CPU_CPU_H

#include "backend/cpu/kernel.h"
#include "backend/cpu/pool.h"
#include "backend/device.h"
#include "backend/vtable.h"

struct cpu_backend {
    struct backend base;
    struct pool *pool;
    int set;
    bool exact;
};

/* A weight's `own`. */
struct cpu_weight {
    struct host_weight host;
    const void *packed; /* by the kernel set's packing; NULL: kernels read the sources */
};

extern const struct backend_vtable cpu_vtable;
extern const struct device_info device_cpu;

int cpu_backend_open(const struct backend_options *opt, const struct backend_vtable *v,
                     struct backend **ret, struct dr_error *err);

#endif
