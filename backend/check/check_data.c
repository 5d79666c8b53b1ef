/* check_data.c - see check_data.h. Values depend on seed, role and index only, so a sample alone
 * has the values it has in a batch. */
#include "backend/check/check_data.h"

#include <math.h>
#include <string.h>

#include "backend/check/check_moments.h"
#include "backend/ops/int8.h"
#include "backend/vtable.h"
#include "base/alloc.h"

/* SplitMix64 (Steele, Lea and Flood 2014) of a counter. */
uint64_t check_random(uint64_t seed, uint64_t index)
{
    uint64_t z = seed * 0xd1342543de82ef95u + (index + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Mean 0, deviation 1, near enough to normal. */
static float noise(uint64_t seed, uint64_t index)
{
    uint64_t r = check_random(seed, index);
    double sum = 0;
    for (int i = 0; i < 4; i++)
        sum += (double)(r >> (16 * i) & 0xffff) / 65536.0;
    return (float)((sum - 2.0) * 1.7320508075688772);
}

static struct act *check_act(struct op *op, enum check_role role)
{
    struct act *acts[ROLE_COUNT] = { &op->src,      &op->k,           &op->v,
                                     &op->residual, &op->channel_add, &op->dst };
    return acts[role];
}

static int64_t act_rows(const struct act *a)
{
    return a->n * a->h * a->w;
}

static int values_new(struct check_data *d, enum check_role role, uint64_t seed,
                      struct dr_error *err)
{
    const struct act *a = check_act(&d->setup.op, role);
    int64_t count = act_rows(a) * a->c;
    if (!count || role == ROLE_DST)
        return 0;
    float *v = dr_malloc(DR_TAG_TEST, (size_t)count * sizeof *v);
    d->values[role] = v;
    if (!v)
        return dr_fail(err, DR_ENOMEM, "out of memory for a case");
    bool src = role == ROLE_SRC;
    for (int64_t i = 0; i < count; i++) {
        v[i] = noise(seed + role, (uint64_t)i);
        if (src)
            v[i] = d->setup.constant ? (float)d->setup.mean : v[i] + (float)d->setup.mean;
    }
    if (src && d->setup.ids)
        for (int64_t i = 0; i < count; i++)
            ((int32_t *)v)[i] = (int32_t)(check_random(seed, (uint64_t)i) % (uint64_t)d->setup.ids);
    return 0;
}

/* A source of random values, at an odd address: files promise no alignment. */
static int source_new(struct check_data *d, int slot, struct weight_source *s, struct shape shape,
                      enum dtype dtype, double mean, double deviation, uint64_t seed,
                      struct dr_error *err)
{
    enum { CHUNK = 256 };
    int64_t count = 0, bytes = 0;
    shape_count(&shape, &count);
    dtype_bytes(dtype, count, &bytes);
    char *p = dr_malloc(DR_TAG_TEST, (size_t)bytes + 1);
    d->memory[slot] = p;
    if (!p)
        return dr_fail(err, DR_ENOMEM, "out of memory for a case");
    p++;
    for (int64_t i = 0; i < count; i += CHUNK) {
        float v[CHUNK];
        int64_t n = count - i < CHUNK ? count - i : CHUNK;
        for (int64_t j = 0; j < n; j++)
            v[j] = (float)(mean + deviation * noise(seed, (uint64_t)(i + j)));
        dtype_bytes(dtype, i, &bytes);
        dtype_from_f32(p + bytes, dtype, v, n);
    }
    *s = (struct weight_source){ .name = "case", .data = p, .dtype = dtype, .shape = shape };
    return 0;
}

/* A matrix or filters of random values as I8, with a scale for each row, all at odd addresses. */
static int int8_source_new(struct check_data *d, int slot, struct weight_source *s,
                           struct shape shape, double deviation, uint64_t seed,
                           struct dr_error *err)
{
    int64_t count = 0, rows = shape.d[0];
    shape_count(&shape, &count);
    int64_t k = count / rows;
    char *p = dr_malloc(DR_TAG_TEST, (size_t)count + (size_t)rows * sizeof(float) + 1);
    float *row = dr_malloc(DR_TAG_TEST, (size_t)k * sizeof *row), scale;
    d->memory[slot] = p;
    if (!p || !row) {
        dr_free(row);
        return dr_fail(err, DR_ENOMEM, "out of memory for a case");
    }
    p++;
    *s = (struct weight_source){ .name = "case", .dtype = DTYPE_I8, .shape = shape };
    s->data = p;
    s->scales = p + count;
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = 0; i < k; i++)
            row[i] = (float)deviation * noise(seed, (uint64_t)(r * k + i));
        int8_weight_row(row, k, (int8_t *)p + r * k, &scale);
        memcpy(p + count + (size_t)r * sizeof scale, &scale, sizeof scale);
    }
    dr_free(row);
    return 0;
}

/* Scales by row, about 1, at an odd address. */
static int scales_new(struct check_data *d, int slot, struct weight_source *s, uint64_t seed,
                      struct dr_error *err)
{
    int64_t rows = s->shape.d[0];
    char *p = dr_malloc(DR_TAG_TEST, (size_t)rows * sizeof(float) + 1);
    d->scales[slot] = p;
    if (!p)
        return dr_fail(err, DR_ENOMEM, "out of memory for a case");
    for (int64_t i = 0; i < rows; i++) {
        float scale = 1 + 0.25f * noise(seed, (uint64_t)i);
        memcpy(p + 1 + (size_t)i * sizeof scale, &scale, sizeof scale);
    }
    s->scales = p + 1;
    return 0;
}

/* Height of part i; parts of odd mean height differ by one. */
static int64_t part_rows(const struct weight_desc *w, int i)
{
    int64_t rows = w->out / w->parts;
    if (w->parts == 1 || i > w->parts)
        return w->out;
    if (rows % 2 == 0 || rows < 3)
        return i == w->parts - 1 ? w->out - rows * (w->parts - 1) : rows;
    return i == 0 ? rows + 1 : i == w->parts - 1 ? w->out - rows * (w->parts - 1) - 1 : rows;
}

static int sources_new(struct check_data *d, uint64_t seed, struct dr_error *err)
{
    const struct weight_desc *w = &d->setup.weight;
    bool matrices_only = d->setup.weight_dtype == DTYPE_I8 ||
                         dtype_block(d->setup.weight_dtype) > 1;
    enum dtype vectors = matrices_only ? DTYPE_F16 : d->setup.weight_dtype;
    int slot = 0, r = 0;
    for (int i = 0; w->out && i < w->parts && !r; i++, slot++) {
        struct shape shape = SHAPE1(w->out);
        double mean = 0, deviation = 1;
        if (w->kind == WEIGHT_NORM) {
            mean = 1;
            deviation = 0.25;
        } else if (w->kind == WEIGHT_TABLE) {
            shape = SHAPE2(w->in, w->out);
        } else if (w->kind == WEIGHT_CONV) {
            shape = SHAPE4(w->out, w->in, w->kernel, w->kernel);
            deviation = 1 / sqrt((double)(w->in * w->kernel * w->kernel));
        } else {
            shape = SHAPE2(part_rows(w, i), w->in);
            deviation = 1 / sqrt((double)w->in);
        }
        if (d->setup.weight_dtype == DTYPE_I8)
            r = int8_source_new(d, slot, &d->source[slot], shape, deviation,
                                seed + 100 + (uint64_t)i, err);
        else
            r = source_new(d, slot, &d->source[slot], shape, d->setup.weight_dtype, mean, deviation,
                           seed + 100 + (uint64_t)i, err);
        if (!r && d->setup.weight_scales)
            r = scales_new(d, slot, &d->source[slot], seed + 400 + (uint64_t)i, err);
    }
    for (int i = 0; w->bias && i < w->parts && !r; i++, slot++) {
        int64_t rows = w->kind == WEIGHT_LINEAR ? part_rows(w, i) : w->out;
        r = source_new(d, slot, &d->source[slot], SHAPE1(rows), vectors, 0, 0.5,
                       seed + 200 + (uint64_t)i, err);
    }
    d->n_sources = slot;
    const struct weight_desc *p = &d->setup.position;
    if (!r && p->out)
        r = source_new(d, 6, &d->position, SHAPE2(p->in, p->out), vectors, 0, 1, seed + 300, err);
    return r;
}

/* The weight as references see it. */
static int vectors_new(struct check_data *d, struct dr_error *err)
{
    const struct weight_desc *w = &d->setup.weight;
    d->host = (struct host_weight){ .desc = w, .source = d->source, .n_sources = d->n_sources };
    size_t bytes = w->out ? host_vectors_bytes(w) : 0;
    if (!bytes)
        return 0;
    d->vectors = dr_malloc(DR_TAG_TEST, bytes);
    if (!d->vectors)
        return dr_fail(err, DR_ENOMEM, "out of memory for a case");
    host_vectors_make(&d->host, d->vectors);
    host_vectors_bind(&d->host, d->vectors);
    return 0;
}

int check_data_new(const struct op_info *info, enum op_kind kind, const struct op_case *c,
                   uint64_t seed, struct check_data *ret, struct dr_error *err)
{
    struct check_data d;
    memset(&d, 0, sizeof d);
    d.setup.op.kind = kind;
    info->setup(c, &d.setup);
    int r = 0;
    for (int role = 0; role < ROLE_COUNT && !r; role++) {
        struct act *a = check_act(&d.setup.op, (enum check_role)role);
        if (a->c && !a->ld)
            a->ld = a->c;
        r = values_new(&d, (enum check_role)role, seed, err);
    }
    if (!r)
        r = sources_new(&d, seed, err);
    *ret = d;
    if (!r)
        r = vectors_new(ret, err);
    if (r)
        check_data_free(ret);
    return r;
}

void check_data_free(struct check_data *d)
{
    for (int i = 0; i < ROLE_COUNT; i++)
        dr_free(d->values[i]);
    for (int i = 0; i < 7; i++) {
        dr_free(d->memory[i]);
        dr_free(d->scales[i]);
    }
    dr_free(d->vectors);
    memset(d, 0, sizeof *d);
}

int check_weights_new(struct backend *be, const struct check_data *d, struct check_weights *ret,
                      struct dr_error *err)
{
    struct check_weights w = { NULL, NULL };
    int r = 0;
    if (d->setup.weight.out)
        r = weight_prepare(be, &d->setup.weight, d->source, d->n_sources, &w.weight, err);
    if (!r && d->setup.position.out)
        r = weight_prepare(be, &d->setup.position, &d->position, 1, &w.position, err);
    if (r)
        check_weights_free(&w);
    else
        *ret = w;
    return r;
}

void check_weights_free(struct check_weights *w)
{
    weight_free(w->weight);
    weight_free(w->position);
    *w = (struct check_weights){ NULL, NULL };
}

/* ---- a run ---- */

static size_t guarded_count(const struct act *a)
{
    return (size_t)((act_rows(a) + 2 * CHECK_GUARD) * a->ld);
}

static bool is_narrow(const struct act *a)
{
    return a->dtype == DTYPE_F16 || a->dtype == DTYPE_BF16;
}

/* The activation with guard rows around it: writes `values` (NULL: none) into a new one and narrows
 * *a to the inner view. Gaps of inputs are NaN, so that reading one shows. */
static int place(struct exec *x, struct act *a, const float *values, int fill,
                 struct act *ret_whole, struct dr_error *err)
{
    int64_t rows = act_rows(a), whole_rows = rows + 2 * CHECK_GUARD;
    size_t size = dtype_size(a->dtype), bytes = guarded_count(a) * size;
    struct act whole;
    int r = act_new(x, a->dtype, 1, 1, whole_rows, a->ld, &whole, err);
    if (r)
        return r;
    char *image = dr_malloc(DR_TAG_TEST, bytes);
    if (!image)
        return dr_fail(err, DR_ENOMEM, "out of memory for a case");
    memset(image, fill, bytes);
    for (int64_t i = 0; values && i < rows; i++) {
        char *row = image + (size_t)((CHECK_GUARD + i) * a->ld) * size;
        if (is_narrow(a))
            dtype_from_f32(row, a->dtype, values + i * a->c, a->c);
        else
            memcpy(row, values + i * a->c, (size_t)a->c * size);
    }
    r = act_write(x, whole, image, err);
    dr_free(image);
    a->buf = whole.buf;
    a->offset = whole.offset + (size_t)(CHECK_GUARD * a->ld) * size;
    *ret_whole = whole;
    return r;
}

/* Which activation's memory dst is in. */
static enum check_role memory_of_dst(const struct op_setup *s, const struct op *op)
{
    enum check_role role = s->src_in_place        ? ROLE_SRC
                           : s->residual_in_place ? ROLE_RESIDUAL
                                                  : ROLE_DST;
    return check_act((struct op *)op, role)->dtype == op->dst.dtype ? role : ROLE_DST;
}

static int place_all(struct exec *x, const struct check_data *d, struct op *op, int64_t first,
                     struct act *ret_dst, struct dr_error *err)
{
    const struct op_setup *s = &d->setup;
    enum check_role same = memory_of_dst(s, op);
    for (int role = 0; role < ROLE_COUNT; role++) {
        struct act *a = check_act(op, (enum check_role)role), whole;
        if (!a->c || (role == ROLE_DST && same != ROLE_DST))
            continue;
        const struct act *all = check_act((struct op *)&s->op, (enum check_role)role);
        int64_t skip = all->n == s->op.dst.n ? first * a->h * a->w * a->c : 0;
        const float *values = d->values[role] ? (const float *)d->values[role] + skip : NULL;
        int r = place(x, a, values, role == (int)same ? CHECK_GUARD_BYTE : 0xff, &whole, err);
        if (r)
            return r;
        if (role == (int)same) {
            *ret_dst = whole;
            op->dst.buf = a->buf;
            op->dst.offset = a->offset;
        }
    }
    return 0;
}

/* n 16-bit values at the front of `out` to float32, guards to guards. */
static void widen_out(float *out, enum dtype t, size_t n)
{
    uint16_t guard;
    memset(&guard, CHECK_GUARD_BYTE, sizeof guard);
    const uint16_t *from = (const uint16_t *)(const void *)out;
    for (size_t i = n; i-- > 0;) { /* from the end: the values are where the results go */
        uint16_t v = from[i];
        if (v == guard)
            memset(&out[i], CHECK_GUARD_BYTE, sizeof out[i]);
        else
            dtype_to_f32(&out[i], &v, t, 1);
    }
}

/* Memory for the op's moments; those of a norm's source in it. */
static int place_moments(struct exec *x, const struct check_data *d, struct op *op, int64_t first,
                         struct act *ret_whole, struct dr_error *err)
{
    struct act *m = &op->moments;
    if (!m->c)
        return 0;
    if (op->kind != OP_KIND_group_norm)
        return place(x, m, NULL, CHECK_GUARD_BYTE, ret_whole, err);
    float *made = dr_malloc(DR_TAG_TEST, (size_t)(act_rows(m) * m->c) * sizeof *made);
    if (!made)
        return dr_fail(err, DR_ENOMEM, "out of memory for a case");
    const float *src = d->values[ROLE_SRC];
    check_moments_make(op, src + first * op->src.h * op->src.w * op->src.c, made);
    int r = place(x, m, made, 0xff, ret_whole, err);
    dr_free(made);
    return r;
}

/* The moments that a product gave: within their guards, and those of its results. */
static int take_moments(struct exec *x, const struct op *op, const struct act *whole,
                        struct check_out *out, struct dr_error *err)
{
    const struct act *m = &op->moments;
    if (!m->c || op->kind == OP_KIND_group_norm)
        return 0;
    float *all = dr_malloc(DR_TAG_TEST, guarded_count(m) * sizeof *all);
    out->moments = all;
    if (!all)
        return dr_fail(err, DR_ENOMEM, "out of memory for a case");
    int r = act_read(x, *whole, all, err);
    size_t guard = (size_t)(CHECK_GUARD * m->ld) * sizeof *all;
    size_t bytes = (size_t)(act_rows(m) * m->c) * sizeof *all;
    const unsigned char *before = (const unsigned char *)all, *after = before + guard + bytes;
    for (size_t i = 0; !r && i < guard; i++)
        if (before[i] != CHECK_GUARD_BYTE || after[i] != CHECK_GUARD_BYTE)
            r = dr_fail(err, DR_EINVAL, "writes outside moments");
    memmove(all, before + guard, bytes);
    out->sample_moments = bytes / (size_t)m->n;
    return r ? r
             : check_moments_compare(op, all, out->dst + CHECK_GUARD * op->dst.ld, op->dst.ld, err);
}

static int run_placed(struct exec *x, const struct check_data *d, struct op *op, int64_t first,
                      struct check_out *out, struct dr_error *err)
{
    struct act whole = { .buf = NULL }, moments = { .buf = NULL };
    int r = place_all(x, d, op, first, &whole, err);
    if (!r)
        r = place_moments(x, d, op, first, &moments, err);
    if (!r)
        r = op_run(x, op, err);
    if (!r)
        r = act_read(x, whole, out->dst, err);
    if (!r && is_narrow(&whole))
        widen_out(out->dst, whole.dtype, guarded_count(&op->dst));
    return r ? r : take_moments(x, op, &moments, out, err);
}

void check_out_free(struct check_out *out)
{
    dr_free(out->dst);
    dr_free(out->moments);
    *out = (struct check_out){ .dst = NULL };
}

/* Some samples of every batched activation. */
static struct op narrowed(const struct check_data *d, const struct check_weights *w, int64_t count)
{
    struct op op = d->setup.op;
    int64_t n = op.dst.n;
    for (int role = 0; role < ROLE_COUNT; role++) {
        struct act *a = check_act(&op, (enum check_role)role);
        if (a->n == n)
            a->n = count;
    }
    op.weight = w->weight;
    op.position = w->position;
    return op;
}

int check_data_run(struct backend *be, const struct check_data *d, const struct check_weights *w,
                   struct check_part part, const atomic_int *stop, struct check_out *ret,
                   struct dr_error *err)
{
    struct op op = narrowed(d, w, part.count);
    struct exec x = { .be = be, .stop = stop };
    struct check_out out = { .dst = NULL };
    size_t capacity = 0;
    for (int role = 0; role < ROLE_COUNT; role++) {
        struct act *a = check_act(&op, (enum check_role)role);
        if (part.narrow && a->c && (op_info(op.kind)->operands & 1u << role))
            a->dtype = backend_operand(be, op.kind);
        if (a->c)
            capacity += backend_align(guarded_count(a) * dtype_size(a->dtype));
    }
    if (d->setup.moments)
        check_moments_shape(be, &op);
    capacity += backend_align(guarded_count(&op.moments) * sizeof(float));
    capacity += backend_align(be->v->need(be, &op).scratch);
    out.dst = dr_malloc(DR_TAG_TEST, guarded_count(&op.dst) * sizeof *out.dst);
    if (!out.dst)
        return dr_fail(err, DR_ENOMEM, "out of memory for a case");
    int r = workspace_new(be, capacity, &x.ws, err);
    if (!r)
        r = run_placed(&x, d, &op, part.first, &out, err);
    workspace_free(x.ws);
    if (r)
        check_out_free(&out);
    else
        *ret = out;
    return r;
}

/* ---- the reference ---- */

struct op check_dense_op(const struct check_data *d, const struct check_weights *w)
{
    struct op op = narrowed(d, w, d->setup.op.dst.n);
    for (int role = 0; role < ROLE_COUNT; role++) {
        struct act *a = check_act(&op, (enum check_role)role);
        a->ld = a->c;
    }
    return op;
}

struct op_args check_dense_args(const struct check_data *d, const struct op *op)
{
    return (struct op_args){ .op = op,
                             .src = d->values[ROLE_SRC],
                             .k = d->values[ROLE_K],
                             .v = d->values[ROLE_V],
                             .residual = d->values[ROLE_RESIDUAL],
                             .channel_add = d->values[ROLE_CHANNEL_ADD],
                             .weight = d->setup.weight.out ? &d->host : NULL };
}
