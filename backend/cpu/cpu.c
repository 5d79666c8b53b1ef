/* cpu.c - the cpu backend: memory is memory, an op is its kernel's phases run tile by tile on the
 * pool. */
#include "backend/cpu/cpu.h"

#include <stdio.h>
#include <string.h>

#include "backend/cpu/cpu_arch.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/peak.h"
#include "base/alloc.h"

static void cpu_close(struct backend *be)
{
    struct cpu_backend *cpu = (struct cpu_backend *)be;
    pool_free(cpu->pool);
    dr_free(cpu);
}

static int cpu_buffer_init(struct backend *be, struct buffer *b, struct dr_error *err)
{
    (void)be;
    b->memory = dr_malloc_again(DR_TAG_ACTIVATION, b->size);
    if (!b->memory)
        return dr_fail(err, DR_ENOMEM, "out of memory for %zu bytes of activations", b->size);
    return 0;
}

static void cpu_buffer_release(struct buffer *b)
{
    dr_free(b->memory);
}

static void *cpu_host_address(const struct buffer *b)
{
    return b->memory;
}

/* ---- transfers ---- */

/* A row of elements as far apart as said. Those of 4 bytes are what pictures and latents have. */
static void copy_row(char *to, size_t to_stride, const char *from, size_t from_stride, size_t size,
                     int64_t n)
{
    if (size == sizeof(float)) {
        for (int64_t i = 0; i < n; i++)
            memcpy(to + (size_t)i * to_stride, from + (size_t)i * from_stride, sizeof(float));
        return;
    }
    for (int64_t i = 0; i < n; i++)
        memcpy(to + (size_t)i * to_stride, from + (size_t)i * from_stride, size);
}

/* Done when it returns. */
static int cpu_transfer_start(struct backend *be, const struct transfer *t, struct dr_error *err)
{
    (void)be;
    (void)err;
    char *memory = (char *)t->buf->memory + t->offset;
    for (int64_t i = 0; i < t->count[0]; i++)
        for (int64_t j = 0; j < t->count[1]; j++) {
            char *inside = memory + (size_t)i * t->stride[0] + (size_t)j * t->stride[1];
            char *host = t->host + (size_t)i * t->host_stride[0] + (size_t)j * t->host_stride[1];
            if (t->to_host)
                copy_row(host, t->host_stride[2], inside, t->stride[2], t->element, t->count[2]);
            else
                copy_row(inside, t->stride[2], host, t->host_stride[2], t->element, t->count[2]);
        }
    return 0;
}

static int cpu_transfer_wait(struct backend *be, const struct transfer *t, struct dr_error *err)
{
    (void)be;
    (void)t;
    (void)err;
    return 0;
}

/* ---- weights ---- */

/* Packed are the weights whose kernels round operands. */
static struct weight_bytes cpu_packed_size(struct backend *be, const struct weight_desc *d)
{
    const struct cpu_backend *cpu = (struct cpu_backend *)be;
    const struct packing *p = kernel_set_at(cpu->set)->packing;
    enum op_kind kind = d->kind != WEIGHT_CONV ? OP_LINEAR
                        : d->upsamples         ? OP_KIND_upsample_conv
                                               : OP_KIND_conv2d;
    const struct kernel *k = kernel_of(kind, d, cpu->set, cpu->exact);
    bool packs = p && !d->keep_f32 && (k->int8 || k->narrow);
    return (struct weight_bytes){ .vectors = host_vectors_bytes(d),
                                  .packed = packs ? backend_align(p->bytes(d)) : 0 };
}

struct pack_run {
    const struct packing *packing;
    const struct host_weight *weight;
    void *dst;
};

static void pack_piece(void *ctx, int64_t piece, int thread)
{
    struct pack_run *r = ctx;
    (void)thread;
    r->packing->piece(r->weight, piece, r->dst);
}

/* Vectors, then the packed matrix; gaps are zeros. */
static void cpu_pack(struct backend *be, const struct weight *w, void *dst)
{
    struct cpu_backend *cpu = (struct cpu_backend *)be;
    const struct cpu_weight *own = w->own;
    host_vectors_make(&own->host, dst);
    if (!w->bytes.packed)
        return;
    struct pack_run run = { kernel_set_at(cpu->set)->packing, &own->host,
                            (char *)dst + w->bytes.vectors };
    size_t end = run.packing->bytes(&w->desc);
    memset((char *)run.dst + end, 0, w->bytes.packed - end);
    pool_run(cpu->pool, pack_piece, &run, run.packing->pieces(&w->desc), NULL);
}

static int cpu_weight_created(struct backend *be, struct weight *w, struct dr_error *err)
{
    (void)be;
    struct cpu_weight *own = dr_calloc(DR_TAG_MODEL, 1, sizeof *own);
    if (!own)
        return dr_fail(err, DR_ENOMEM, "out of memory for a weight");
    own->host =
        (struct host_weight){ .desc = &w->desc, .source = w->source, .n_sources = w->n_sources };
    w->own = own;
    return 0;
}

static int cpu_bind_packed(struct backend *be, struct weight *w, struct dr_error *err)
{
    (void)be;
    (void)err;
    struct cpu_weight *own = w->own;
    if (w->bytes.vectors)
        host_vectors_bind(&own->host, w->packed);
    if (w->bytes.packed)
        own->packed = (const char *)w->packed + w->bytes.vectors;
    return 0;
}

static void cpu_weight_destroyed(struct backend *be, struct weight *w)
{
    (void)be;
    dr_free(w->own);
}

/* ---- ops ---- */

struct layout {
    size_t shared, per_thread, total;
};

static struct layout scratch_layout(const struct cpu_backend *cpu, const struct kernel *k,
                                    const struct op *op)
{
    struct layout l = { 0, 0, 0 };
    if (k->work->shared)
        l.shared = backend_align(k->work->shared(op));
    if (k->work->per_thread)
        l.per_thread = backend_align(k->work->per_thread(op));
    l.total = l.shared + (size_t)cpu->base.threads * l.per_thread;
    return l;
}

static struct op_need cpu_need(struct backend *be, const struct op *op)
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

static int64_t cpu_stat_chunks(struct backend *be, const struct op *op)
{
    const struct cpu_backend *cpu = (struct cpu_backend *)be;
    const struct kernel *k = kernel_for(op, cpu->set, cpu->exact);
    return k->stat_chunks && op->dst.dtype == DTYPE_F32 ? k->stat_chunks(op) : 0;
}

struct running_op {
    const struct op_work *work;
    struct op_args args;
    char *own;
    size_t per_thread;
    int phase;
};

static void run_tile(void *ctx, int64_t tile, int thread)
{
    struct running_op *r = ctx;
    void *own = r->own ? r->own + (size_t)thread * r->per_thread : NULL;
    r->work->run(&r->args, r->phase, tile, own);
}

/* 16-bit activations are of the type that the op's kernel takes. */
static int cpu_supports(struct backend *be, const struct op *op, struct dr_error *err)
{
    const struct act *acts[] = {
        &op->dst, &op->src, &op->k, &op->v, &op->residual, &op->channel_add
    };
    enum dtype operand = backend_operand(be, op->kind);
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++) {
        enum dtype t = acts[i]->dtype;
        if (acts[i]->buf && (t == DTYPE_F16 || t == DTYPE_BF16) && t != operand)
            return dr_fail(err, DR_EINVAL, "%s: %s activations, kernels %s take %s",
                           op_info(op->kind)->name, dtype_name(t), be->set, dtype_name(operand));
    }
    return 0;
}

static char *address(const struct act *a)
{
    return a->buf ? (char *)a->buf->memory + a->offset : NULL;
}

static struct op_args args_of(const struct op *op, char *shared)
{
    const struct cpu_weight *weight = op->weight ? op->weight->own : NULL;
    const struct cpu_weight *position = op->position ? op->position->own : NULL;
    return (struct op_args){ .op = op,
                             .dst = address(&op->dst),
                             .src = address(&op->src),
                             .k = address(&op->k),
                             .v = address(&op->v),
                             .residual = address(&op->residual),
                             .channel_add = address(&op->channel_add),
                             .moments = address(&op->moments),
                             .weight = weight ? &weight->host : NULL,
                             .position = position ? &position->host : NULL,
                             .packed = weight ? weight->packed : NULL,
                             .shared = shared };
}

static int cpu_run(struct backend *be, const struct op *op, struct buffer *scratch_buf,
                   size_t scratch_offset, const atomic_int *stop, struct dr_error *err)
{
    struct cpu_backend *cpu = (struct cpu_backend *)be;
    const struct kernel *k = kernel_for(op, cpu->set, cpu->exact);
    const struct op_work *work = k->work;
    struct layout l = scratch_layout(cpu, k, op);
    char *scratch = scratch_buf ? (char *)scratch_buf->memory + scratch_offset : NULL;
    struct running_op run = {
        .work = work,
        .args = args_of(op, l.shared ? scratch : NULL),
        .own = l.per_thread ? scratch + l.shared : NULL,
        .per_thread = l.per_thread,
    };
    int phases = work->phases_of ? work->phases_of(op) : work->phases;
    for (run.phase = 0; run.phase < phases; run.phase++) {
        int r = pool_run(cpu->pool, run_tile, &run, work->tiles(op, run.phase), stop);
        if (r)
            return dr_fail(err, r, "stopped");
    }
    return 0;
}

struct host_parts {
    backend_part_fn part;
    void *ctx;
};

static void run_part(void *ctx, int64_t i, int thread)
{
    const struct host_parts *h = ctx;
    (void)thread;
    h->part(h->ctx, i);
}

static int cpu_each(struct backend *be, backend_part_fn part, void *ctx, int64_t n,
                    const atomic_int *stop)
{
    struct host_parts h = { part, ctx };
    return pool_run(((struct cpu_backend *)be)->pool, run_part, &h, n, stop);
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
    cpu->base.set = kernel_set_at(set)->name;
    cpu->base.precision = kernel_set_at(set)->precision;
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

const struct backend_vtable cpu_vtable = {
    .close = cpu_close,
    .buffer_init = cpu_buffer_init,
    .buffer_release = cpu_buffer_release,
    .host_address = cpu_host_address,
    .transfer_start = cpu_transfer_start,
    .transfer_wait = cpu_transfer_wait,
    .packed_size = cpu_packed_size,
    .pack = cpu_pack,
    .weight_created = cpu_weight_created,
    .bind_packed = cpu_bind_packed,
    .weight_destroyed = cpu_weight_destroyed,
    .supports = cpu_supports,
    .need = cpu_need,
    .stat_chunks = cpu_stat_chunks,
    .run = cpu_run,
    .each = cpu_each,
};

static int device_open(const struct backend_options *opt, struct backend **ret,
                       struct dr_error *err)
{
    return cpu_backend_open(opt, &cpu_vtable, ret, err);
}

/* ---- the device ---- */

/* "model name" of /proc/cpuinfo. */
static bool device_probe(struct device_facts *ret)
{
    char line[256];
    snprintf(ret->name, sizeof ret->name, "%s", cpu_arch.processor);
    ret->features = cpu_arch.features();
    FILE *f = fopen("/proc/cpuinfo", "re");
    while (f && fgets(line, sizeof line, f)) {
        const char *value = strchr(line, ':');
        if (!value || strncmp(line, "model name", 10))
            continue;
        value += 1 + (value[1] == ' ');
        snprintf(ret->name, sizeof ret->name, "%.*s", (int)strcspn(value, "\n"), value);
        break;
    }
    if (f)
        fclose(f);
    return true;
}

static bool device_kernel_set(int i, struct kernel_set_facts *ret)
{
    const struct kernel_set *set = kernel_set_at(i);
    if (!set)
        return false;
    *ret = (struct kernel_set_facts){ .name = set->name,
                                      .precision = set->precision,
                                      .usable = kernel_set_usable(i),
                                      .family = cpu_peak_family_of(set) };
    return true;
}

static struct kernel_facts device_kernel(int set, int op, const struct weight_desc *desc,
                                         bool exact)
{
    const struct kernel *k = kernel_of((enum op_kind)op, desc, set, exact);
    return (struct kernel_facts){ .identity = k,
                                  .tolerance = k->tolerance,
                                  .activated_tolerance = k->activated_tolerance,
                                  .int8 = k->int8 };
}

const struct device_info device_cpu = {
    .name = "cpu",
    .probe = device_probe,
    .kernel_set = device_kernel_set,
    .kernel = device_kernel,
    .open = device_open,
    .family = cpu_peak_family,
    .peak = cpu_peak_measure,
    .check = kernel_tables_check,
};
