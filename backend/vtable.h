/* vtable.h - what a backend is made of; for files under backend/ only.
 *
 * The generic half (backend.c, workspace.c, weight.c) checks arguments, cuts the workspace and
 * keeps weights' source lists; a backend supplies memory, copies and the running of an op that has
 * been checked.
 */
#ifndef DR_BACKEND_VTABLE_H
#define DR_BACKEND_VTABLE_H

#include "backend/backend.h"
#include "backend/ops/op.h"

struct buffer {
    struct backend *be;
    size_t size;
    char *base; /* host address; NULL under plan */
};

struct weight {
    struct backend *be;
    struct cpu_weight cpu;
    const char *made;          /* vectors, then the kernel set's own form; NULL under plan */
    struct weight_bytes bytes; /* of both, also under plan */
    bool in_pack;              /* made lies in a pack, else in private memory, DR_TAG_WEIGHTS */
    uint64_t epoch;            /* of the plan backend that last saw it used */
};

/* Rows of `width` bytes, `stride` apart in the buffer and `host_stride` apart in host memory. */
struct transfer {
    struct buffer *buf;
    size_t offset, stride, width;
    int64_t rows;
    char *host;
    size_t host_stride;
    bool to_host;
};

struct backend_vtable {
    void (*close)(struct backend *be);
    /* b is zeroed but for be and size. */
    int (*buffer_init)(struct backend *be, struct buffer *b, struct dr_error *err);
    void (*buffer_release)(struct buffer *b);
    void (*copy)(struct backend *be, const struct transfer *t);
    /* Bytes that are made of a weight with this desc: multiples of BACKEND_ALIGN. Make them of its
     * sources; point the weight to them. */
    struct weight_bytes (*weight_bytes)(struct backend *be, const struct weight_desc *d);
    void (*weight_make)(struct backend *be, const struct cpu_weight *w, void *dst);
    void (*weight_bind)(struct backend *be, struct cpu_weight *w, const void *made);
    /* One more, one less; NULL: nothing to do. */
    void (*weight_new)(struct backend *be, const struct weight *w);
    void (*weight_gone)(struct backend *be, const struct weight *w);
    struct op_need (*need)(struct backend *be, const struct op *op);
    int64_t (*runs)(struct backend *be, const struct op *op); /* as backend_runs */
    /* The op has passed its check; scratch lies at scratch_offset of scratch_buf (NULL: none
     * needed). */
    int (*run)(struct backend *be, const struct op *op, struct buffer *scratch_buf,
               size_t scratch_offset, const atomic_int *stop, struct dr_error *err);
};

/* First member of every backend. */
struct backend {
    const struct backend_vtable *v;
    struct backend *inner; /* plan: the one it wraps; else NULL */
    const char *set;
    enum precision precision; /* as backend_precision says */
    unsigned narrow_ops;      /* bit k: the kernel for op k meets 16-bit activations */
    int threads;
};

enum { BACKEND_ALIGN = 64, BACKEND_LAYOUT_VERSION = 7 };

/* Whether what ops read of a weight lies in its i-th source. */
bool weight_reads_source(const struct weight *w, int i);

/* Rounded up to BACKEND_ALIGN; SIZE_MAX when that does not fit. */
size_t backend_align(size_t bytes);

/* Bytes from a's first element to the end of its last; false when that does not fit. */
bool act_extent(const struct act *a, size_t *ret);

/* A block of the workspace: `bytes` rounded up. */
int workspace_take(struct workspace *ws, size_t bytes, const char *what, size_t *ret_offset,
                   struct dr_error *err);
void workspace_give(struct workspace *ws, size_t offset);
struct buffer *workspace_buffer(struct workspace *ws);

#endif
