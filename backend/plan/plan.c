/* plan.c - the backend that computes nothing.
 *
 * It asks the wrapped backend what each op and each weight would take and adds up. Networks run
 * through it unchanged, so what it says of memory is what the run will use, by construction.
 */
#include <stdatomic.h>
#include <string.h>

#include "backend/vtable.h"
#include "base/alloc.h"

struct plan_backend {
    struct backend base;
    struct plan_totals totals;
    uint64_t epoch;
};

/* Epochs are unique among all plan backends: a weight may be used under several. */
static uint64_t new_epoch(void)
{
    static atomic_ullong last;
    return atomic_fetch_add(&last, 1) + 1;
}

static void plan_close(struct backend *be)
{
    dr_free(be);
}

static int plan_buffer_init(struct backend *be, struct buffer *b, struct dr_error *err)
{
    (void)be;
    (void)b;
    (void)err;
    return 0;
}

static void plan_buffer_release(struct buffer *b)
{
    (void)b;
}

static void plan_copy(struct backend *be, const struct transfer *t)
{
    (void)be;
    if (!t->to_host)
        return;
    for (int64_t i = 0; i < t->rows; i++)
        memset(t->host + (size_t)i * t->host_stride, 0, t->width);
}

static struct weight_bytes plan_weight_bytes(struct backend *be, const struct weight_desc *d)
{
    return be->inner->v->weight_bytes(be->inner, d);
}

static void plan_weight_new(struct backend *be, const struct weight *w)
{
    ((struct plan_backend *)be)->totals.packed_bytes += w->bytes.vectors + w->bytes.packed;
}

static void plan_weight_gone(struct backend *be, const struct weight *w)
{
    ((struct plan_backend *)be)->totals.packed_bytes -= w->bytes.vectors + w->bytes.packed;
}

static struct op_need plan_need(struct backend *be, const struct op *op)
{
    return be->inner->v->need(be->inner, op);
}

static int64_t plan_runs(struct backend *be, const struct op *op)
{
    return be->inner->v->runs(be->inner, op);
}

/* The mark of use is the one field of a weight that running an op changes. Of a table only `rows`
 * are read. */
static void use_weight(struct plan_backend *plan, const struct weight *used, int64_t rows)
{
    struct weight *w = (struct weight *)used;
    if (!w || w->epoch == plan->epoch)
        return;
    w->epoch = plan->epoch;
    if (w->in_pack)
        plan->totals.mapped_bytes += w->bytes.vectors + w->bytes.packed;
    for (int i = 0; i < w->cpu.n_sources; i++) {
        int64_t count;
        if (!weight_reads_source(w, i) || !shape_count(&w->cpu.source[i].shape, &count))
            continue;
        if (w->cpu.desc.kind == WEIGHT_TABLE && rows < w->cpu.desc.in)
            count = rows * w->cpu.desc.out;
        plan->totals.mapped_bytes += (size_t)count * dtype_size(w->cpu.source[i].dtype);
    }
}

static int plan_run(struct backend *be, const struct op *op, struct buffer *scratch_buf,
                    size_t scratch_offset, const atomic_int *stop, struct dr_error *err)
{
    (void)scratch_buf;
    (void)scratch_offset;
    (void)stop;
    (void)err;
    struct plan_backend *plan = (struct plan_backend *)be;
    struct op_need need = plan_need(be, op);
    plan->totals.ops++;
    plan->totals.flops += need.flops;
    plan->totals.executed += need.executed;
    if (need.scratch > plan->totals.scratch_peak)
        plan->totals.scratch_peak = need.scratch;
    int64_t tokens = op->dst.n * op->dst.w;
    use_weight(plan, op->weight, tokens);
    use_weight(plan, op->position, op->dst.w);
    return 0;
}

int backend_open_plan(struct backend *inner, struct backend **ret, struct dr_error *err)
{
    static const struct backend_vtable vtable = {
        .close = plan_close,
        .buffer_init = plan_buffer_init,
        .buffer_release = plan_buffer_release,
        .copy = plan_copy,
        .weight_bytes = plan_weight_bytes,
        .weight_new = plan_weight_new,
        .weight_gone = plan_weight_gone,
        .need = plan_need,
        .runs = plan_runs,
        .run = plan_run,
    };
    struct plan_backend *plan = dr_calloc(DR_TAG_BASE, 1, sizeof *plan);
    if (!plan)
        return dr_fail(err, DR_ENOMEM, "out of memory for a backend");
    plan->base = *inner;
    plan->base.v = &vtable;
    plan->base.inner = inner;
    plan->epoch = new_epoch();
    *ret = &plan->base;
    return 0;
}

struct plan_totals backend_plan_totals(const struct backend *plan)
{
    static const struct plan_totals none;
    return plan->inner ? ((const struct plan_backend *)plan)->totals : none;
}

void backend_plan_reset(struct backend *be)
{
    struct plan_backend *plan = (struct plan_backend *)be;
    if (!be->inner)
        return;
    size_t packed = plan->totals.packed_bytes;
    memset(&plan->totals, 0, sizeof plan->totals);
    plan->totals.packed_bytes = packed;
    plan->epoch = new_epoch();
}
