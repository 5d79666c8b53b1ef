/* vtable.h - what a backend is made of; for files under backend/ only.
 *
 * The generic half (backend.c, workspace.c, weight.c) checks arguments, cuts the workspace and
 * keeps weights' descriptions and sources; a backend supplies memory, transfers, its own form of
 * weights, and the running of an op that has been checked.
 */
#ifndef DR_BACKEND_VTABLE_H
#define DR_BACKEND_VTABLE_H

#include "backend/backend.h"

struct device_info;

struct buffer {
    struct backend *be;
    size_t size;
    void *memory; /* the backend's own: an address, a handle; NULL under plan */
};

struct weight {
    struct backend *be;
    struct weight_desc desc;
    struct weight_source source[WEIGHT_SOURCES];
    int n_sources;
    struct weight_bytes bytes; /* of the packed form, also under plan */
    const void *packed;        /* it in host memory: a pack's, or private; NULL under plan */
    bool in_pack;              /* else private memory, DR_TAG_WEIGHTS */
    uint64_t serial;           /* no other weight of the process has it; from 1 */
    void *own;                 /* the backend's */
};

/* Elements of `element` bytes between a buffer and host memory. Element (i, j, k) is at
 * offset + i * stride[0] + j * stride[1] + k * stride[2] of the buffer, and likewise at host. */
struct transfer {
    struct buffer *buf;
    size_t offset;
    char *host;
    size_t element;
    int64_t count[3];
    size_t stride[3], host_stride[3];
    bool to_host;
};

struct backend_vtable {
    void (*close)(struct backend *be);

    /* ---- memory ---- */

    /* b is zeroed but for be and size. */
    int (*buffer_init)(struct backend *be, struct buffer *b, struct dr_error *err);
    void (*buffer_release)(struct buffer *b);
    /* The buffer's memory where it is the host's. NULL: it never is. */
    void *(*host_address)(const struct buffer *b);
    /* Begins a copy, ordered after the ops that were run before; its host memory is the backend's
     * until transfer_wait. A backend may be done when transfer_start returns. At most one at a
     * time. */
    int (*transfer_start)(struct backend *be, const struct transfer *t, struct dr_error *err);
    int (*transfer_wait)(struct backend *be, const struct transfer *t, struct dr_error *err);

    /* ---- weights ---- */

    /* Bytes of the packed form of a weight with this desc, multiples of BACKEND_ALIGN. Pure. */
    struct weight_bytes (*packed_size)(struct backend *be, const struct weight_desc *d);
    /* Makes the packed form of the sources, in host memory. Pure: it may be kept in a file. */
    void (*pack)(struct backend *be, const struct weight *w, void *dst);
    /* A weight exists: desc, sources and bytes are there; may set w->own. NULL: nothing to do. */
    int (*weight_created)(struct backend *be, struct weight *w, struct dr_error *err);
    /* w->packed is in place, if there are any bytes of it; ops may use the weight afterwards. */
    int (*bind_packed)(struct backend *be, struct weight *w, struct dr_error *err);
    /* Before it goes: what the two above took is given back. NULL: nothing to do. */
    void (*weight_destroyed)(struct backend *be, struct weight *w);

    /* ---- ops ---- */

    /* Whether the op, which is within its contract, runs here with these types and shapes:
     * DR_EINVAL or DR_EUNSUPPORTED with words. */
    int (*supports)(struct backend *be, const struct op *op, struct dr_error *err);
    struct op_need (*need)(struct backend *be, const struct op *op); /* as backend_need */
    int64_t (*stat_chunks)(struct backend *be, const struct op *op); /* as backend_stat_chunks */
    /* The op has passed its checks; scratch is at scratch_offset of scratch_buf (NULL: none
     * needed). */
    int (*run)(struct backend *be, const struct op *op, struct buffer *scratch_buf,
               size_t scratch_offset, const atomic_int *stop, struct dr_error *err);
    /* As backend_each: 0 or DR_ECANCELED. NULL: on the calling thread. */
    int (*each)(struct backend *be, backend_part_fn part, void *ctx, int64_t n,
                const atomic_int *stop);
};

/* First member of every backend. */
struct backend {
    const struct backend_vtable *v;
    const struct device_info *device; /* set by backend_open */
    struct backend *inner;            /* plan: the one it wraps; else NULL */
    const char *set;
    enum precision precision; /* as backend_precision says */
    unsigned narrow_ops;      /* bit k: the kernel for op k meets 16-bit activations */
    int threads;
};

enum { BACKEND_ALIGN = 64, BACKEND_LAYOUT_VERSION = 7 };

/* Whether what ops read of a weight lies in its i-th source. */
bool weight_reads_source(const struct weight *w, int i);

/* Bytes from a's first element to the end of its last; false when that does not fit. */
bool act_extent(const struct act *a, size_t *ret);

/* A block of the workspace: `bytes` rounded up. */
int workspace_take(struct workspace *ws, size_t bytes, const char *what, size_t *ret_offset,
                   struct dr_error *err);
void workspace_give(struct workspace *ws, size_t offset);
struct buffer *workspace_buffer(struct workspace *ws);

#endif
