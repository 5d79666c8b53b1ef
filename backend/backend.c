/* backend.c - the generic half of the backends: views, op calls, traffic with the host. */
#include "backend/backend.h"

#include <string.h>

#include "backend/ops/common.h"
#include "backend/vtable.h"
#include "base/alloc.h"
#include "base/checked.h"

struct act act_channels(struct act a, int64_t first, int64_t count)
{
    a.offset += (size_t)first * dtype_size(a.dtype);
    a.c = count;
    return a;
}

struct act act_samples(struct act a, int64_t first, int64_t count)
{
    a.offset += (size_t)(first * a.h * a.w * a.ld) * dtype_size(a.dtype);
    a.n = count;
    return a;
}

struct act act_tokens(struct act a)
{
    a.w *= a.h;
    a.h = 1;
    return a;
}

bool act_extent(const struct act *a, size_t *ret)
{
    int64_t pixels, span;
    if (a->n <= 0 || a->h <= 0 || a->w <= 0 || a->c <= 0 || a->ld < a->c ||
        (unsigned)a->dtype >= DTYPE_COUNT)
        return false;
    if (!dr_mul_i64(a->n, a->h, &pixels) || !dr_mul_i64(pixels, a->w, &pixels) ||
        !dr_mul_i64(pixels - 1, a->ld, &span) || !dr_add_i64(span, a->c, &span) ||
        !dr_mul_i64(span, (int64_t)dtype_size(a->dtype), &span))
        return false;
    *ret = (size_t)span;
    return true;
}

int act_new(struct exec *x, enum dtype dtype, int64_t n, int64_t h, int64_t w, int64_t c,
            struct act *ret, struct dr_error *err)
{
    struct act a = { .dtype = dtype, .n = n, .h = h, .w = w, .c = c, .ld = c };
    size_t bytes;
    if (!act_extent(&a, &bytes))
        return dr_fail(err, DR_EINVAL, "activation [%lld, %lld, %lld, %lld]: no such shape",
                       (long long)n, (long long)h, (long long)w, (long long)c);
    int r = workspace_take(x->ws, bytes, "an activation", &a.offset, err);
    if (r)
        return r;
    a.buf = workspace_buffer(x->ws);
    *ret = a;
    return 0;
}

void act_free(struct exec *x, struct act *a)
{
    if (a->buf && a->buf == workspace_buffer(x->ws))
        workspace_give(x->ws, a->offset);
    memset(a, 0, sizeof *a);
}

/* A present activation must lie inside a buffer of this backend. */
static int act_check(const struct backend *be, const char *op, const char *what,
                     const struct act *a, struct dr_error *err)
{
    size_t bytes;
    if (!a->buf)
        return 0;
    if (!act_extent(a, &bytes))
        return dr_fail(err, DR_EINVAL, "%s: %s [%lld, %lld, %lld, %lld], ld %lld: no such shape",
                       op, what, (long long)a->n, (long long)a->h, (long long)a->w, (long long)a->c,
                       (long long)a->ld);
    if (a->buf->be != be)
        return dr_fail(err, DR_EINVAL, "%s: %s is on another backend", op, what);
    if (a->offset % dtype_size(a->dtype) || a->offset > a->buf->size ||
        bytes > a->buf->size - a->offset)
        return dr_fail(err, DR_EINVAL, "%s: %s lies outside its buffer", op, what);
    return 0;
}

static int weight_on(const struct backend *be, const char *op, const struct weight *w,
                     struct dr_error *err)
{
    if (w && w->be != be && w->be != be->inner)
        return dr_fail(err, DR_EINVAL, "%s: the weight is on another backend", op);
    return 0;
}

/* Written by ops that can: as many runs as they have. Read by norms, of whatever wrote them. */
static int moments_check(struct backend *be, const struct op *op, const char *name,
                         struct dr_error *err)
{
    const struct act *m = &op->moments;
    if (!m->buf && !m->c)
        return 0;
    bool read = op->kind == OP_KIND_group_norm;
    int64_t runs = read ? m->w : backend_stat_chunks(be, op);
    if (m->buf && m->dtype == DTYPE_F32 && runs && m->n == op->dst.n && m->h == 1 && m->w == runs &&
        m->c == moments_width(op->dst.c))
        return ref_apart(name, "moments", &op->dst, m, false, err);
    return dr_fail(
        err, DR_EINVAL, "%s: moments are [%lld, %lld, %lld, %lld], expected F32 %lld runs", name,
        (long long)m->n, (long long)m->h, (long long)m->w, (long long)m->c, (long long)runs);
}

/* 16-bit activations only where the op may have them. */
static int act_type_check(const struct op *op, const struct op_info *info, const char *what,
                          const struct act *a, enum op_role role, struct dr_error *err)
{
    bool narrow = a->buf && (a->dtype == DTYPE_F16 || a->dtype == DTYPE_BF16);
    bool keep_f32 = op->weight && weight_desc(op->weight)->keep_f32;
    if (!narrow || (!keep_f32 && info->operands & role))
        return 0;
    return dr_fail(err, DR_EINVAL, "%s: %s is %s, expected F32", info->name, what,
                   dtype_name(a->dtype));
}

static int op_check(const struct exec *x, const struct op *op, const struct op_info *info,
                    struct dr_error *err)
{
    const struct {
        const char *name;
        const struct act *act;
        enum op_role role;
    } acts[] = {
        { "dst", &op->dst, OP_DST },
        { "src", &op->src, OP_SRC },
        { "k", &op->k, OP_K },
        { "v", &op->v, OP_V },
        { "residual", &op->residual, OP_RESIDUAL },
        { "channel_add", &op->channel_add, OP_CHANNEL_ADD },
        { "moments", &op->moments, 0 },
    };
    int r = 0;
    for (size_t i = 0; !r && i < sizeof acts / sizeof *acts; i++) {
        r = act_check(x->be, info->name, acts[i].name, acts[i].act, err);
        if (!r)
            r = act_type_check(op, info, acts[i].name, acts[i].act, acts[i].role, err);
    }
    if (!r)
        r = weight_on(x->be, info->name, op->weight, err);
    if (!r)
        r = weight_on(x->be, info->name, op->position, err);
    if (!r)
        r = info->check(op, err);
    if (!r)
        r = x->be->v->supports(x->be, op, err);
    return r ? r : moments_check(x->be, op, info->name, err);
}

int64_t backend_stat_chunks(struct backend *be, const struct op *op)
{
    return be->v->stat_chunks(be, op);
}

struct op_need backend_need(struct backend *be, const struct op *op)
{
    return be->v->need(be, op);
}

static bool stopped(const struct exec *x)
{
    return x->stop && atomic_load_explicit(x->stop, memory_order_relaxed);
}

int op_run(struct exec *x, const struct op *op, struct dr_error *err)
{
    const struct op_info *info = op_info(op->kind);
    struct buffer *buf = NULL;
    size_t at = 0;
    if (!info)
        return dr_fail(err, DR_EINVAL, "no op of number %d", (int)op->kind);
    int r = op_check(x, op, info, err);
    if (r)
        return r;
    if (stopped(x))
        return dr_fail(err, DR_ECANCELED, "stopped");
    r = x->watch ? x->watch(x, op, err) : 0;
    if (r)
        return r < 0 ? r : 0;
    size_t scratch = x->be->v->need(x->be, op).scratch;
    if (scratch) {
        r = workspace_take(x->ws, scratch, "an op's scratch", &at, err);
        if (r)
            return dr_while(err, r, "running %s", info->name);
        buf = workspace_buffer(x->ws);
    }
    r = x->be->v->run(x->be, op, buf, at, x->stop, err);
    if (scratch)
        workspace_give(x->ws, at);
    return r;
}

/* ---- traffic with the host ---- */

static int transfer(struct exec *x, const struct transfer *t, struct dr_error *err)
{
    int r = x->be->v->transfer_start(x->be, t, err);
    return r ? r : x->be->v->transfer_wait(x->be, t, err);
}

static int transfer_check(const struct exec *x, const struct act *a, bool to_host,
                          struct dr_error *err)
{
    int r = act_check(x->be, to_host ? "read" : "write", "activation", a, err);
    return r || a->buf ? r : dr_fail(err, DR_EINVAL, "no activation to copy");
}

static int move_act(struct exec *x, const struct act *a, char *host, bool to_host,
                    struct dr_error *err)
{
    size_t size = dtype_size(a->dtype);
    int r = transfer_check(x, a, to_host, err);
    if (r || (!host && backend_is_plan(x->be)))
        return r;
    return transfer(x,
                    &(struct transfer){
                        .buf = a->buf,
                        .offset = a->offset,
                        .host = host,
                        .element = (size_t)a->c * size,
                        .count = { 1, 1, a->n * a->h * a->w },
                        .stride = { 0, 0, (size_t)a->ld * size },
                        .host_stride = { 0, 0, (size_t)a->c * size },
                        .to_host = to_host,
                    },
                    err);
}

int act_write(struct exec *x, struct act a, const void *src, struct dr_error *err)
{
    return move_act(x, &a, (char *)src, false, err);
}

int act_read(struct exec *x, struct act a, void *dst, struct dr_error *err)
{
    return move_act(x, &a, dst, true, err);
}

const void *act_address(struct exec *x, struct act a)
{
    void *(*address)(const struct buffer *) = x->be->v->host_address;
    const char *memory = address && a.buf && a.ld == a.c ? address(a.buf) : NULL;
    return memory ? memory + a.offset : NULL;
}

static int each_here(backend_part_fn part, void *ctx, int64_t n, const atomic_int *stop)
{
    for (int64_t i = 0; i < n; i++) {
        if (stop && atomic_load(stop))
            return DR_ECANCELED;
        part(ctx, i);
    }
    return 0;
}

int backend_each(struct backend *be, backend_part_fn part, void *ctx, int64_t n,
                 const atomic_int *stop, struct dr_error *err)
{
    int r = be->v->each ? be->v->each(be, part, ctx, n, stop) : each_here(part, ctx, n, stop);
    return r ? dr_fail(err, r, "stopped") : 0;
}

/* Samples, channels, pixels of an activation, and of [n, c, h, w] in its dtype. */
static struct transfer nchw_transfer(const struct act *a, void *host, bool to_host)
{
    size_t size = dtype_size(a->dtype), pixels = (size_t)(a->h * a->w);
    size_t row = (size_t)a->ld * size;
    return (struct transfer){
        .buf = a->buf,
        .offset = a->offset,
        .host = host,
        .element = size,
        .count = { a->n, a->c, a->h * a->w },
        .stride = { pixels * row, size, row },
        .host_stride = { (size_t)a->c * pixels * size, pixels * size, size },
        .to_host = to_host,
    };
}

static int move_nchw(struct exec *x, const struct act *a, float *floats, bool to_host,
                     struct dr_error *err)
{
    int r = transfer_check(x, a, to_host, err);
    if (!r && !dtype_is_real(a->dtype))
        r = dr_fail(err, DR_EINVAL, "activation of %s read as float", dtype_name(a->dtype));
    if (r || (!floats && backend_is_plan(x->be)))
        return r;
    struct transfer t = nchw_transfer(a, floats, to_host);
    if (a->dtype == DTYPE_F32)
        return transfer(x, &t, err);
    int64_t count = a->n * a->c * a->h * a->w;
    t.host = dr_malloc(DR_TAG_ACTIVATION, (size_t)count * t.element);
    if (!t.host)
        return dr_fail(err, DR_ENOMEM, "out of memory for %lld values", (long long)count);
    if (!to_host)
        dtype_from_f32(t.host, a->dtype, floats, count);
    r = transfer(x, &t, err);
    if (!r && to_host)
        dtype_to_f32(floats, t.host, a->dtype, count);
    dr_free(t.host);
    return r;
}

int act_write_nchw(struct exec *x, struct act a, const float *src, struct dr_error *err)
{
    return move_nchw(x, &a, (float *)src, false, err);
}

int act_read_nchw(struct exec *x, struct act a, float *dst, struct dr_error *err)
{
    return move_nchw(x, &a, dst, true, err);
}

/* ---- backends ---- */

void backend_close(struct backend *be)
{
    if (be)
        be->v->close(be);
}

bool backend_is_plan(const struct backend *be)
{
    return be->inner != NULL;
}

const char *backend_kernel_set(const struct backend *be)
{
    return be->set;
}

enum precision backend_precision(const struct backend *be)
{
    return be->precision;
}

enum dtype backend_operand(const struct backend *be, int op)
{
    if (!(be->narrow_ops >> op & 1))
        return DTYPE_F32;
    return be->precision == PRECISION_F16 ? DTYPE_F16 : DTYPE_BF16;
}

const char *precision_name(enum precision p)
{
    static const char *const names[PRECISION_COUNT] = { "auto", "f32", "f16", "bf16", "int8" };
    return (unsigned)p < PRECISION_COUNT ? names[p] : "?";
}

int precision_find(const char *name, enum precision *ret, struct dr_error *err)
{
    for (int p = 0; p < PRECISION_COUNT; p++)
        if (!strcmp(name, precision_name((enum precision)p))) {
            *ret = (enum precision)p;
            return 0;
        }
    return dr_fail_field(err, DR_EINVAL, "precision", name, "auto, f32, f16, bf16 or int8", NULL);
}

int backend_layout_version(const struct backend *be)
{
    (void)be;
    return BACKEND_LAYOUT_VERSION;
}

int backend_threads(const struct backend *be)
{
    return be->threads;
}
