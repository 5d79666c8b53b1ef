/* remote_backend.c - see remote_backend.h. */
#include "testing/helpers/remote_backend.h"

#include <stdio.h>
#include <string.h>

#include "backend/device.h"
#include "backend/ops/op.h"
#include "backend/vtable.h"
#include "base/alloc.h"

struct remote_backend {
    struct backend base;
    struct transfer pending; /* element 0: none */
};

static long transfers;

long remote_transfers(void)
{
    return transfers;
}

static void remote_close(struct backend *be)
{
    dr_free(be);
}

/* ---- memory ---- */

/* A handle is the number of a block plus 1. */
enum { BLOCKS = 64 };
static char *blocks[BLOCKS];

static char *memory_of(const struct buffer *b)
{
    return blocks[(uintptr_t)b->memory - 1];
}

static int remote_buffer_init(struct backend *be, struct buffer *b, struct dr_error *err)
{
    (void)be;
    uintptr_t i = 0;
    while (i < BLOCKS && blocks[i])
        i++;
    if (i == BLOCKS || !(blocks[i] = dr_malloc(DR_TAG_ACTIVATION, b->size)))
        return dr_fail(err, DR_ENOMEM, "out of memory for %zu bytes of activations", b->size);
    b->memory = (void *)(i + 1);
    return 0;
}

static void remote_buffer_release(struct buffer *b)
{
    if (!b->memory)
        return;
    dr_free(memory_of(b));
    blocks[(uintptr_t)b->memory - 1] = NULL;
}

static int remote_transfer_start(struct backend *be, const struct transfer *t, struct dr_error *err)
{
    struct remote_backend *remote = (struct remote_backend *)be;
    if (remote->pending.element)
        return dr_fail(err, DR_EINTERNAL, "a transfer began before the last was waited for");
    remote->pending = *t;
    transfers++;
    return 0;
}

static int remote_transfer_wait(struct backend *be, const struct transfer *given,
                                struct dr_error *err)
{
    struct remote_backend *remote = (struct remote_backend *)be;
    const struct transfer *t = &remote->pending;
    (void)given;
    if (!t->element)
        return dr_fail(err, DR_EINTERNAL, "nothing to wait for");
    for (int64_t i = 0; i < t->count[0]; i++)
        for (int64_t j = 0; j < t->count[1]; j++)
            for (int64_t k = 0; k < t->count[2]; k++) {
                char *inside = memory_of(t->buf) + t->offset + (size_t)i * t->stride[0] +
                               (size_t)j * t->stride[1] + (size_t)k * t->stride[2];
                char *host = t->host + (size_t)i * t->host_stride[0] +
                             (size_t)j * t->host_stride[1] + (size_t)k * t->host_stride[2];
                memcpy(t->to_host ? host : inside, t->to_host ? inside : host, t->element);
            }
    remote->pending.element = 0;
    return 0;
}

/* ---- weights: all of it as float32, every bit inverted ---- */

struct remote_weight {
    struct host_weight host; /* what references need, in the device's memory */
    struct weight_desc desc;
    struct weight_source source;
    float *values; /* the matrix, then the biases; of a norm scales, then shifts */
};

static int64_t matrix_values(const struct weight_desc *d)
{
    if (d->kind == WEIGHT_NORM)
        return d->out;
    return d->out * d->in * (d->kind == WEIGHT_CONV ? d->kernel * d->kernel : 1);
}

static int64_t all_values(const struct weight_desc *d)
{
    return matrix_values(d) + (d->bias ? d->out : 0);
}

static struct weight_bytes remote_packed_size(struct backend *be, const struct weight_desc *d)
{
    (void)be;
    return (struct weight_bytes){ .packed = backend_align((size_t)all_values(d) * sizeof(float)) };
}

static float *invert(float *values, int64_t n)
{
    uint32_t bits;
    for (int64_t i = 0; i < n; i++) {
        memcpy(&bits, &values[i], sizeof bits);
        bits = ~bits;
        memcpy(&values[i], &bits, sizeof bits);
    }
    return values + n;
}

static void remote_pack(struct backend *be, const struct weight *w, void *dst)
{
    (void)be;
    float *to = dst;
    memset(dst, 0, w->bytes.packed);
    for (int i = 0; i < w->n_sources; i++) {
        const struct weight_source *s = &w->source[i];
        int64_t count, rows = s->shape.d[0];
        if (!shape_count(&s->shape, &count))
            return;
        for (int64_t row = 0; row < rows; row++) {
            weight_row(s, row, 0, count / rows, to);
            to = invert(to, count / rows);
        }
    }
}

static int remote_bind_packed(struct backend *be, struct weight *w, struct dr_error *err)
{
    (void)be;
    int64_t n = all_values(&w->desc);
    struct remote_weight *own = dr_calloc(DR_TAG_WEIGHTS, 1, sizeof *own);
    float *values = own ? dr_malloc(DR_TAG_WEIGHTS, (size_t)n * sizeof *values) : NULL;
    w->own = own;
    if (!values)
        return dr_fail(err, DR_ENOMEM, "out of memory for a weight");
    memcpy(values, w->packed, (size_t)n * sizeof *values);
    invert(values, n);
    own->values = values;
    own->desc = w->desc;
    own->desc.parts = 1;
    own->source = (struct weight_source){ .data = values, .shape = w->source[0].shape };
    own->source.shape.d[0] = w->desc.kind == WEIGHT_TABLE ? w->desc.in : w->desc.out;
    own->host = (struct host_weight){
        .desc = &own->desc,
        .source = &own->source,
        .n_sources = 1,
        .scale = w->desc.kind == WEIGHT_NORM ? values : NULL,
        .bias = w->desc.bias ? values + matrix_values(&w->desc) : NULL,
    };
    return 0;
}

static void remote_weight_destroyed(struct backend *be, struct weight *w)
{
    (void)be;
    struct remote_weight *own = w->own;
    if (own)
        dr_free(own->values);
    dr_free(own);
}

/* ---- ops: the references, tile after tile ---- */

static size_t shared_bytes(const struct op_work *work, const struct op *op)
{
    return work->shared ? backend_align(work->shared(op)) : 0;
}

static struct op_need remote_need(struct backend *be, const struct op *op)
{
    (void)be;
    const struct op_info *info = op_info(op->kind);
    const struct op_work *work = info->reference;
    double flops = info->flops ? info->flops(op) : 0;
    size_t own = work->per_thread ? backend_align(work->per_thread(op)) : 0;
    return (struct op_need){ .scratch = shared_bytes(work, op) + own,
                             .flops = flops,
                             .executed = flops };
}

static int64_t remote_stat_chunks(struct backend *be, const struct op *op)
{
    (void)be;
    (void)op;
    return 0;
}

static int remote_supports(struct backend *be, const struct op *op, struct dr_error *err)
{
    (void)be;
    const struct act *acts[] = { &op->dst, &op->src, &op->k, &op->v, &op->residual };
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++)
        if (acts[i]->buf && (acts[i]->dtype == DTYPE_F16 || acts[i]->dtype == DTYPE_BF16))
            return dr_fail(err, DR_EUNSUPPORTED, "%s: 16-bit activations", op_info(op->kind)->name);
    return 0;
}

static void *address(const struct act *a)
{
    return a->buf ? memory_of(a->buf) + a->offset : NULL;
}

static const struct host_weight *host_of(const struct weight *w)
{
    return w ? &((const struct remote_weight *)w->own)->host : NULL;
}

static int remote_run(struct backend *be, const struct op *op, struct buffer *scratch_buf,
                      size_t scratch_offset, const atomic_int *stop, struct dr_error *err)
{
    const struct op_work *work = op_info(op->kind)->reference;
    char *scratch = scratch_buf ? memory_of(scratch_buf) + scratch_offset : NULL;
    size_t shared = shared_bytes(work, op);
    struct op_args args = { .op = op,
                            .dst = address(&op->dst),
                            .src = address(&op->src),
                            .k = address(&op->k),
                            .v = address(&op->v),
                            .residual = address(&op->residual),
                            .channel_add = address(&op->channel_add),
                            .moments = address(&op->moments),
                            .weight = host_of(op->weight),
                            .position = host_of(op->position),
                            .shared = shared ? scratch : NULL };
    if (((struct remote_backend *)be)->pending.element)
        return dr_fail(err, DR_EINTERNAL, "an op ran before a transfer was waited for");
    int phases = work->phases_of ? work->phases_of(op) : work->phases;
    for (int phase = 0; phase < phases; phase++)
        for (int64_t tile = 0; tile < work->tiles(op, phase); tile++) {
            if (stop && atomic_load(stop))
                return dr_fail(err, DR_ECANCELED, "stopped");
            work->run(&args, phase, tile, scratch ? scratch + shared : NULL);
        }
    return 0;
}

/* ---- the device ---- */

static bool remote_probe(struct device_facts *ret)
{
    snprintf(ret->name, sizeof ret->name, "remote memory");
    ret->features = 0;
    return true;
}

static bool remote_kernel_set(int i, struct kernel_set_facts *ret)
{
    *ret = (struct kernel_set_facts){
        .name = REMOTE_SET, .precision = PRECISION_F32, .usable = true, .family = -1
    };
    return i == 0;
}

static struct kernel_facts remote_kernel(int set, int op, const struct weight_desc *desc,
                                         bool exact)
{
    (void)set;
    (void)desc;
    (void)exact;
    return (struct kernel_facts){ .identity = (const char *)op_info((enum op_kind)op)->reference +
                                              1 };
}

static int remote_open(const struct backend_options *opt, struct backend **ret,
                       struct dr_error *err)
{
    static const struct backend_vtable vtable = {
        .close = remote_close,
        .buffer_init = remote_buffer_init,
        .buffer_release = remote_buffer_release,
        .transfer_start = remote_transfer_start,
        .transfer_wait = remote_transfer_wait,
        .packed_size = remote_packed_size,
        .pack = remote_pack,
        .bind_packed = remote_bind_packed,
        .weight_destroyed = remote_weight_destroyed,
        .supports = remote_supports,
        .need = remote_need,
        .stat_chunks = remote_stat_chunks,
        .run = remote_run,
    };
    struct remote_backend *remote = dr_calloc(DR_TAG_BASE, 1, sizeof *remote);
    if (!remote)
        return dr_fail(err, DR_ENOMEM, "out of memory for a backend");
    remote->base = (struct backend){ .v = &vtable, .set = REMOTE_SET, .threads = 1 };
    remote->base.precision = opt->precision;
    *ret = &remote->base;
    return 0;
}

static const struct device_info device_remote = {
    .name = "remote",
    .probe = remote_probe,
    .kernel_set = remote_kernel_set,
    .kernel = remote_kernel,
    .open = remote_open,
};

void remote_device_add(void)
{
    device_add(&device_remote);
}
