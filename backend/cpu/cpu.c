/* cpu.c - the cpu backend: memory is memory, an op is its kernel's phases run tile by tile on the
 * pool. */
#include "backend/cpu/cpu.h"

#include <string.h>

#include "backend/cpu/x86/features.h"
#include "backend/cpu/kernels.h"
#include "base/alloc.h"

void cpu_close(struct backend *be)
{
    struct cpu_backend *cpu = (struct cpu_backend *)be;
    pool_free(cpu->pool);
    dr_free(cpu);
}

static int cpu_buffer_init(struct backend *be, struct buffer *b, struct dr_error *err)
{
    (void)be;
    b->base = dr_malloc(DR_TAG_ACTIVATION, b->size);
    if (!b->base)
        return dr_fail(err, DR_ENOMEM, "out of memory for %zu bytes of activations", b->size);
    return 0;
}

static void cpu_buffer_release(struct buffer *b)
{
    dr_free(b->base);
}

void cpu_copy(struct backend *be, const struct transfer *t)
{
    (void)be;
    char *inside = t->buf->base + t->offset, *host = t->host;
    for (int64_t i = 0; i < t->rows; i++) {
        if (t->to_host)
            memcpy(host, inside, t->width);
        else
            memcpy(inside, host, t->width);
        inside += t->stride;
        host += t->host_stride;
    }
}

/* ---- weights ---- */

/* Packed are the weights whose kernels round operands. */
struct weight_bytes cpu_weight_bytes(struct backend *be, const struct weight_desc *d)
{
    const struct cpu_backend *cpu = (struct cpu_backend *)be;
    const struct packing *p = kernel_set_packing(cpu->set);
    enum op_kind kind = d->kind != WEIGHT_CONV ? OP_KIND_linear
                        : d->upsamples         ? OP_KIND_upsample_conv
                                               : OP_KIND_conv2d;
    const struct kernel *k = kernel_of(kind, d, cpu->set, cpu->exact);
    bool packs = p && !d->wide && (k->int8 || k->narrow);
    size_t vectors = (d->bias ? 1u : 0u) + (d->kind == WEIGHT_NORM ? 1u : 0u);
    return (struct weight_bytes){ .vectors = vectors *
                                             backend_align((size_t)d->out * sizeof(float)),
                                  .packed = packs ? backend_align(p->bytes(d)) : 0 };
}

struct pack_run {
    const struct packing *packing;
    const struct cpu_weight *weight;
    void *dst;
};

static void pack_piece(void *ctx, int64_t piece, int thread)
{
    struct pack_run *r = ctx;
    (void)thread;
    r->packing->piece(r->weight, piece, r->dst);
}

/* Scale, bias, the packed matrix; gaps are zeros. */
void cpu_weight_make(struct backend *be, const struct cpu_weight *w, void *dst)
{
    struct cpu_backend *cpu = (struct cpu_backend *)be;
    struct weight_bytes bytes = cpu_weight_bytes(be, &w->desc);
    struct cpu_weight at = { .desc = w->desc };
    cpu_weight_bind(be, &at, dst);
    memset(dst, 0, bytes.vectors);
    if (at.scale)
        dtype_to_f32((float *)at.scale, w->source[0].data, w->source[0].dtype, w->desc.out);
    float *bias = (float *)at.bias;
    for (int i = w->desc.parts; bias && i < w->n_sources; i++) {
        const struct weight_source *s = &w->source[i];
        dtype_to_f32(bias, s->data, s->dtype, s->shape.d[0]);
        bias += s->shape.d[0];
    }
    if (!bytes.packed)
        return;
    struct pack_run run = { kernel_set_packing(cpu->set), w, (char *)dst + bytes.vectors };
    size_t end = run.packing->bytes(&w->desc);
    memset((char *)run.dst + end, 0, bytes.packed - end);
    pool_run(cpu->pool, pack_piece, &run, run.packing->pieces(&w->desc), NULL);
}

void cpu_weight_bind(struct backend *be, struct cpu_weight *w, const void *made)
{
    const char *at = made;
    size_t vector = backend_align((size_t)w->desc.out * sizeof(float));
    if (w->desc.kind == WEIGHT_NORM) {
        w->scale = (const float *)at;
        at += vector;
    }
    if (w->desc.bias) {
        w->bias = (const float *)at;
        at += vector;
    }
    if (cpu_weight_bytes(be, &w->desc).packed)
        w->packed = at;
}

/* ---- ops ---- */

struct layout {
    size_t shared, per_thread, total;
};

static struct layout scratch_layout(const struct cpu_backend *cpu, const struct kernel *k,
                                    const struct op *op)
{
    struct layout l = { 0, 0, 0 };
    if (k->shared)
        l.shared = backend_align(k->shared(op));
    if (k->per_thread)
        l.per_thread = backend_align(k->per_thread(op));
    l.total = l.shared + (size_t)cpu->base.threads * l.per_thread;
    return l;
}

struct op_need cpu_need(struct backend *be, const struct op *op)
{
    struct cpu_backend *cpu = (struct cpu_backend *)be;
    double (*flops)(const struct op *) = op_info(op->kind)->flops;
    const struct kernel *k = kernel_for(op, cpu->set, cpu->exact);
    double nominal = flops ? flops(op) : 0;
    return (struct op_need){
        .scratch = scratch_layout(cpu, k, op).total,
        .flops = nominal,
        .executed = k->executed ? k->executed(op) : nominal,
    };
}

int64_t cpu_runs(struct backend *be, const struct op *op)
{
    const struct cpu_backend *cpu = (struct cpu_backend *)be;
    const struct kernel *k = kernel_for(op, cpu->set, cpu->exact);
    return k->runs && op->dst.dtype == DTYPE_F32 ? k->runs(op) : 0;
}

struct run {
    const struct kernel *kernel;
    struct op_args args;
    char *own;
    size_t per_thread;
    int phase;
};

static void run_tile(void *ctx, int64_t tile, int thread)
{
    struct run *r = ctx;
    void *own = r->own ? r->own + (size_t)thread * r->per_thread : NULL;
    r->kernel->run(&r->args, r->phase, tile, own);
}

static char *address(const struct act *a)
{
    return a->buf ? a->buf->base + a->offset : NULL;
}

int cpu_run(struct backend *be, const struct op *op, struct buffer *scratch_buf,
            size_t scratch_offset, const atomic_int *stop, struct dr_error *err)
{
    struct cpu_backend *cpu = (struct cpu_backend *)be;
    const struct kernel *k = kernel_for(op, cpu->set, cpu->exact);
    struct layout l = scratch_layout(cpu, k, op);
    char *scratch = scratch_buf ? scratch_buf->base + scratch_offset : NULL;
    struct run run = {
        .kernel = k,
        .args = { .op = op,
                  .dst = address(&op->dst),
                  .src = address(&op->src),
                  .k = address(&op->k),
                  .v = address(&op->v),
                  .residual = address(&op->residual),
                  .channel_add = address(&op->channel_add),
                  .moments = address(&op->moments),
                  .shared = l.shared ? scratch : NULL },
        .own = l.per_thread ? scratch + l.shared : NULL,
        .per_thread = l.per_thread,
    };
    int phases = k->phases_of ? k->phases_of(op) : k->phases;
    for (run.phase = 0; run.phase < phases; run.phase++) {
        int r = pool_run(cpu->pool, run_tile, &run, k->tiles(op, run.phase), stop);
        if (r)
            return dr_fail(err, r, "stopped");
    }
    return 0;
}

/* ---- opening ---- */

int cpu_backend_open(const struct backend_options *opt, const struct backend_vtable *v,
                     struct backend **ret, struct dr_error *err)
{
    static const struct backend_options defaults = { .kernels = NULL };
    int set;
    if (!opt)
        opt = &defaults;
    int r = kernel_set_find(opt->kernels, opt->precision, &set, err);
    if (r)
        return r;
    struct cpu_backend *cpu = dr_calloc(DR_TAG_BASE, 1, sizeof *cpu);
    if (!cpu)
        return dr_fail(err, DR_ENOMEM, "out of memory for a backend");
    cpu->set = set;
    cpu->exact = opt->precision == PRECISION_F32;
    cpu->base.v = v;
    cpu->base.set = kernel_set_name(set);
    cpu->base.precision = kernel_set_precision(set);
    for (int kind = 0; kind < OP_KIND_COUNT; kind++)
        cpu->base.narrow_ops |=
            (unsigned)kernel_of((enum op_kind)kind, NULL, set, cpu->exact)->narrow << kind;
    if (opt->precision == PRECISION_AUTO && cpu->base.precision == PRECISION_F32)
        cpu->base.precision = PRECISION_AUTO;
    cpu->base.threads = opt->threads ? opt->threads : cpu_count();
    r = pool_new(cpu->base.threads, &cpu->pool, err);
    if (r) {
        dr_free(cpu);
        return r;
    }
    *ret = &cpu->base;
    return 0;
}

int backend_open_cpu(const struct backend_options *opt, struct backend **ret, struct dr_error *err)
{
    static const struct backend_vtable vtable = {
        .close = cpu_close,
        .buffer_init = cpu_buffer_init,
        .buffer_release = cpu_buffer_release,
        .copy = cpu_copy,
        .weight_bytes = cpu_weight_bytes,
        .weight_make = cpu_weight_make,
        .weight_bind = cpu_weight_bind,
        .need = cpu_need,
        .runs = cpu_runs,
        .run = cpu_run,
    };
    return cpu_backend_open(opt, &vtable, ret, err);
}
