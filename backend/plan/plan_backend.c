/* plan_backend.c - the backend that computes nothing.
 *
 * It asks the wrapped backend what each op and each weight would take and adds up. Networks run
 * through it unchanged, so what it says of memory is what the run will use, by construction.
 */
#include <string.h>

#include "backend/ops/op.h"
#include "backend/vtable.h"
#include "base/alloc.h"

struct plan_backend {
    struct backend base;
    struct plan_totals totals;
    bool packs; /* as backend_plan_packs says */
    /* Numbers of the weights used since the last reset: a hash table of a power of two entries, at
     * most half of them taken; 0: free. */
    uint64_t *used;
    size_t n_used, capacity;
};

/* Where the weight of that number is, or would be. */
static size_t place_of(const struct plan_backend *plan, uint64_t serial)
{
    size_t at = serial & (plan->capacity - 1);
    while (plan->used[at] && plan->used[at] != serial)
        at = (at + 1) & (plan->capacity - 1);
    return at;
}

static int grow(struct plan_backend *plan, struct dr_error *err)
{
    struct plan_backend larger = { .capacity = plan->capacity ? 2 * plan->capacity : 1024 };
    struct dr_tally *before = dr_tally_use(NULL); /* the backend outlives the job that it plans */
    larger.used = dr_calloc(DR_TAG_BASE, larger.capacity, sizeof *larger.used);
    dr_tally_use(before);
    if (!larger.used)
        return dr_fail(err, DR_ENOMEM, "out of memory for a plan");
    for (size_t i = 0; i < plan->capacity; i++)
        if (plan->used[i])
            larger.used[place_of(&larger, plan->used[i])] = plan->used[i];
    dr_free(plan->used);
    plan->used = larger.used;
    plan->capacity = larger.capacity;
    return 0;
}

static void plan_close(struct backend *be)
{
    dr_free(((struct plan_backend *)be)->used);
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

/* Nothing is copied; what is read is zeros. */
static int plan_transfer_start(struct backend *be, const struct transfer *t, struct dr_error *err)
{
    (void)be;
    (void)err;
    int64_t n = t->count[0] * t->count[1] * t->count[2];
    for (int64_t i = 0; t->to_host && i < n; i++) {
        int64_t row = i / t->count[2], k = i % t->count[2];
        memset(t->host + (size_t)(row / t->count[1]) * t->host_stride[0] +
                   (size_t)(row % t->count[1]) * t->host_stride[1] + (size_t)k * t->host_stride[2],
               0, t->element);
    }
    return 0;
}

static int plan_transfer_wait(struct backend *be, const struct transfer *t, struct dr_error *err)
{
    (void)be;
    (void)t;
    (void)err;
    return 0;
}

static struct weight_bytes plan_packed_size(struct backend *be, const struct weight_desc *d)
{
    return be->inner->v->packed_size(be->inner, d);
}

static int plan_weight_created(struct backend *be, struct weight *w, struct dr_error *err)
{
    struct plan_backend *plan = (struct plan_backend *)be;
    (void)err;
    w->in_pack = plan->packs && w->bytes.vectors + w->bytes.packed;
    plan->totals.packed_bytes += w->bytes.vectors + w->bytes.packed;
    return 0;
}

static void plan_weight_destroyed(struct backend *be, struct weight *w)
{
    ((struct plan_backend *)be)->totals.packed_bytes -= w->bytes.vectors + w->bytes.packed;
}

static int plan_supports(struct backend *be, const struct op *op, struct dr_error *err)
{
    return be->inner->v->supports(be->inner, op, err);
}

static struct op_need plan_need(struct backend *be, const struct op *op)
{
    return be->inner->v->need(be->inner, op);
}

static int64_t plan_stat_chunks(struct backend *be, const struct op *op)
{
    return be->inner->v->stat_chunks(be->inner, op);
}

/* Of a table only `rows` are read. */
static int use_weight(struct plan_backend *plan, const struct weight *w, int64_t rows,
                      struct dr_error *err)
{
    if (!w)
        return 0;
    int r = plan->capacity <= 2 * plan->n_used ? grow(plan, err) : 0;
    size_t at = r ? 0 : place_of(plan, w->serial);
    if (r || plan->used[at])
        return r;
    plan->used[at] = w->serial;
    plan->n_used++;
    if (w->in_pack)
        plan->totals.mapped_bytes += w->bytes.vectors + w->bytes.packed;
    for (int i = 0; i < w->n_sources; i++) {
        int64_t count, bytes;
        if (!weight_reads_source(w, i) || !shape_count(&w->source[i].shape, &count))
            continue;
        if (w->desc.kind == WEIGHT_TABLE && rows < w->desc.in)
            count = rows * w->desc.out;
        if (dtype_bytes(w->source[i].dtype, count, &bytes))
            plan->totals.mapped_bytes += (size_t)bytes;
    }
    return 0;
}

static int plan_run(struct backend *be, const struct op *op, struct buffer *scratch_buf,
                    size_t scratch_offset, const atomic_int *stop, struct dr_error *err)
{
    (void)scratch_buf;
    (void)scratch_offset;
    (void)stop;
    struct plan_backend *plan = (struct plan_backend *)be;
    struct op_need need = plan_need(be, op);
    plan->totals.ops++;
    plan->totals.flops += need.flops;
    plan->totals.executed += need.executed;
    int64_t tokens = op->dst.n * op->dst.w;
    int r = use_weight(plan, op->weight, tokens, err);
    return r ? r : use_weight(plan, op->position, op->dst.w, err);
}

int backend_open_plan(struct backend *inner, struct backend **ret, struct dr_error *err)
{
    static const struct backend_vtable vtable = {
        .close = plan_close,
        .buffer_init = plan_buffer_init,
        .buffer_release = plan_buffer_release,
        .transfer_start = plan_transfer_start,
        .transfer_wait = plan_transfer_wait,
        .packed_size = plan_packed_size,
        .weight_created = plan_weight_created,
        .weight_destroyed = plan_weight_destroyed,
        .supports = plan_supports,
        .need = plan_need,
        .stat_chunks = plan_stat_chunks,
        .run = plan_run,
    };
    struct plan_backend *plan = dr_calloc(DR_TAG_BASE, 1, sizeof *plan);
    if (!plan)
        return dr_fail(err, DR_ENOMEM, "out of memory for a backend");
    plan->base = *inner;
    plan->base.v = &vtable;
    plan->base.inner = inner;
    *ret = &plan->base;
    return 0;
}

void backend_plan_packs(struct backend *be, bool packs)
{
    ((struct plan_backend *)be)->packs = packs;
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
    if (plan->used)
        memset(plan->used, 0, plan->capacity * sizeof *plan->used);
    plan->n_used = 0;
}
