/* guarded.c - the cpu backend with its buffers out of reach.
 *
 * Buffers are mapped PROT_NONE and opened only while an op runs or an explicit copy is made, so
 * host code that keeps a pointer into one dies at once. For tests.
 */
#include <sys/mman.h>

#include "backend/cpu/cpu.h"

static int guarded_buffer_init(struct backend *be, struct buffer *b, struct dr_error *err)
{
    (void)be;
    void *p = mmap(NULL, b->size ? b->size : 1, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return dr_fail(err, DR_ENOMEM, "out of memory for %zu bytes of activations", b->size);
    b->base = p;
    return 0;
}

static void guarded_buffer_release(struct buffer *b)
{
    if (b->base)
        munmap(b->base, b->size ? b->size : 1);
}

static void protect(struct buffer *b, int protection)
{
    if (b)
        mprotect(b->base, b->size, protection);
}

static void guarded_copy(struct backend *be, const struct transfer *t)
{
    protect(t->buf, PROT_READ | PROT_WRITE);
    cpu_copy(be, t);
    protect(t->buf, PROT_NONE);
}

static int guarded_run(struct backend *be, const struct op *op, struct buffer *scratch_buf,
                       size_t scratch_offset, const atomic_int *stop, struct dr_error *err)
{
    struct buffer *used[] = { op->dst.buf,      op->src.buf,         op->k.buf,       op->v.buf,
                              op->residual.buf, op->channel_add.buf, op->moments.buf, scratch_buf };
    int count = (int)(sizeof used / sizeof *used);
    for (int i = 0; i < count; i++)
        protect(used[i], PROT_READ | PROT_WRITE);
    int r = cpu_run(be, op, scratch_buf, scratch_offset, stop, err);
    for (int i = 0; i < count; i++)
        protect(used[i], PROT_NONE);
    return r;
}

int backend_open_guarded(const struct backend_options *opt, struct backend **ret,
                         struct dr_error *err)
{
    static const struct backend_vtable vtable = {
        .close = cpu_close,
        .buffer_init = guarded_buffer_init,
        .buffer_release = guarded_buffer_release,
        .copy = guarded_copy,
        .weight_bytes = cpu_weight_bytes,
        .weight_make = cpu_weight_make,
        .weight_bind = cpu_weight_bind,
        .need = cpu_need,
        .runs = cpu_runs,
        .run = guarded_run,
    };
    return cpu_backend_open(opt, &vtable, ret, err);
}
