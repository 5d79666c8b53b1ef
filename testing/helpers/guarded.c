/* guarded.c - see guarded.h.
 *
 * Buffers are mapped PROT_NONE and opened only while an op runs or an explicit copy is made, so
 * host code that keeps a pointer into one dies at once.
 */
#include "testing/helpers/guarded.h"

#include <sys/mman.h>

#include "backend/cpu/cpu.h"

static int guarded_buffer_init(struct backend *be, struct buffer *b, struct dr_error *err)
{
    (void)be;
    void *p = mmap(NULL, b->size ? b->size : 1, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return dr_fail(err, DR_ENOMEM, "out of memory for %zu bytes of activations", b->size);
    b->memory = p;
    return 0;
}

static void guarded_buffer_release(struct buffer *b)
{
    if (b->memory)
        munmap(b->memory, b->size ? b->size : 1);
}

static void protect(struct buffer *b, int protection)
{
    if (b)
        mprotect(b->memory, b->size, protection);
}

static int guarded_transfer_start(struct backend *be, const struct transfer *t,
                                  struct dr_error *err)
{
    protect(t->buf, PROT_READ | PROT_WRITE);
    int r = cpu_vtable.transfer_start(be, t, err);
    protect(t->buf, PROT_NONE);
    return r;
}

static int guarded_run(struct backend *be, const struct op *op, struct buffer *scratch_buf,
                       size_t scratch_offset, const atomic_int *stop, struct dr_error *err)
{
    struct buffer *used[] = { op->dst.buf,      op->src.buf,         op->k.buf,       op->v.buf,
                              op->residual.buf, op->channel_add.buf, op->moments.buf, scratch_buf };
    int count = (int)(sizeof used / sizeof *used);
    for (int i = 0; i < count; i++)
        protect(used[i], PROT_READ | PROT_WRITE);
    int r = cpu_vtable.run(be, op, scratch_buf, scratch_offset, stop, err);
    for (int i = 0; i < count; i++)
        protect(used[i], PROT_NONE);
    return r;
}

int backend_open_guarded(const struct backend_options *opt, struct backend **ret,
                         struct dr_error *err)
{
    static struct backend_vtable vtable;
    vtable = cpu_vtable;
    vtable.buffer_init = guarded_buffer_init;
    vtable.buffer_release = guarded_buffer_release;
    vtable.host_address = NULL; /* nobody may look */
    vtable.transfer_start = guarded_transfer_start;
    vtable.run = guarded_run;
    int r = cpu_backend_open(opt, &vtable, ret, err);
    if (!r)
        (*ret)->device = &device_cpu;
    return r;
}
