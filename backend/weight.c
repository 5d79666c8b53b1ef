/* weight.c - weights: what fits a desc, private memory, acquire and release.
 *
 * Matrices and convolutions are read by the kernels where they lie, in the file's dtype; only
 * vectors (biases, scales and shifts of norms) get a private float32 copy. So a model costs its
 * file, mapped, and little more.
 */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backend/vtable.h"
#include "base/alloc.h"
#include "base/checked.h"

enum { PARTS_MAX = 3 };

static int misfit(const struct weight_source *s, const char *expected, struct dr_error *err)
{
    char shape[96];
    return dr_fail_field(err, DR_EINVAL, s->name ? s->name : "weight",
                         shape_text(&s->shape, shape, sizeof shape), expected, NULL);
}

/* The shape without trailing dimensions of 1 beyond the first `keep`. */
static struct shape trimmed(const struct shape *s, int keep)
{
    struct shape t = *s;
    while (t.n > keep && t.d[t.n - 1] == 1)
        t.n--;
    return t;
}

static int source_check(const struct backend *be, const struct weight_source *s,
                        const struct shape *want, int keep, struct dr_error *err)
{
    char expected[96];
    struct shape got = trimmed(&s->shape, keep), wanted = trimmed(want, keep);
    const char *name = s->name ? s->name : "weight";
    if (!shape_equal(&got, &wanted))
        return misfit(s, shape_text(want, expected, sizeof expected), err);
    if ((unsigned)s->dtype >= DTYPE_COUNT || !dtype_is_real(s->dtype))
        return dr_fail_field(err, DR_EINVAL, name,
                             (unsigned)s->dtype < DTYPE_COUNT ? dtype_name(s->dtype) : "?",
                             "a floating-point tensor", NULL);
    if (!s->data && !backend_is_plan(be))
        return dr_fail(err, DR_EINVAL, "%s: no data", name);
    return 0;
}

/* The parts of a linear: any heights that add up to desc->out; biases as high as their part. */
static int linear_check(const struct backend *be, const struct weight_desc *d,
                        const struct weight_source *s, struct dr_error *err)
{
    int64_t sum = 0;
    for (int i = 0; i < d->parts; i++) {
        int64_t rows = s[i].shape.n >= 1 ? s[i].shape.d[0] : 0;
        int r = source_check(be, &s[i], &SHAPE2(rows, d->in), 2, err);
        if (!r && d->bias)
            r = source_check(be, &s[d->parts + i], &SHAPE1(rows), 1, err);
        if (r)
            return r;
        if (rows <= 0 || !dr_add_i64(sum, rows, &sum))
            return misfit(&s[i], "a matrix with rows", err);
    }
    if (sum != d->out)
        return misfit(&s[0], "parts that add up to the layer's outputs", err);
    return 0;
}

static int sources_check(const struct backend *be, const struct weight_desc *d,
                         const struct weight_source *s, struct dr_error *err)
{
    int r = 0;
    switch (d->kind) {
    case WEIGHT_LINEAR:
        return linear_check(be, d, s, err);
    case WEIGHT_CONV:
        r = source_check(be, &s[0], &SHAPE4(d->out, d->in, d->kernel, d->kernel), 2, err);
        break;
    case WEIGHT_NORM:
        r = source_check(be, &s[0], &SHAPE1(d->out), 1, err);
        break;
    case WEIGHT_TABLE:
        return source_check(be, &s[0], &SHAPE2(d->in, d->out), 2, err);
    }
    if (!r && d->bias)
        r = source_check(be, &s[1], &SHAPE1(d->out), 1, err);
    return r;
}

static int desc_check(const struct weight_desc *d, int n, struct dr_error *err)
{
    bool linear = d->kind == WEIGHT_LINEAR;
    int64_t elements;
    if ((unsigned)d->kind > WEIGHT_TABLE || d->out <= 0 || (d->in <= 0 && d->kind != WEIGHT_NORM))
        return dr_fail(err, DR_EINVAL, "weight: no such layer");
    if (d->kind == WEIGHT_CONV && d->kernel != 1 && d->kernel != 3)
        return dr_fail(err, DR_EINVAL, "weight: kernel %d, expected 1 or 3", d->kernel);
    if (d->parts < 1 || d->parts > (linear ? PARTS_MAX : 1))
        return dr_fail(err, DR_EINVAL, "weight: %d parts, expected 1 to %d", d->parts,
                       linear ? PARTS_MAX : 1);
    if (d->gated && (!linear || d->out % 2))
        return dr_fail(err, DR_EINVAL, "weight: gates of %lld outputs", (long long)d->out);
    if (d->kind == WEIGHT_TABLE && d->bias)
        return dr_fail(err, DR_EINVAL, "weight: a table has no bias");
    if (n != d->parts * (d->bias ? 2 : 1))
        return dr_fail(err, DR_EINVAL, "weight: %d sources, expected %d", n,
                       d->parts * (d->bias ? 2 : 1));
    if (!dr_mul_i64(d->out, d->in > 0 ? d->in : 1, &elements) ||
        !dr_mul_i64(elements, 9 * 8, &elements))
        return dr_fail(err, DR_EINVAL, "weight: too large");
    return 0;
}

int weight_prepare(struct backend *be, const struct weight_desc *desc,
                   const struct weight_source *sources, int n, struct weight **ret,
                   struct dr_error *err)
{
    struct weight_desc d = *desc;
    if (!d.parts)
        d.parts = 1;
    int r = desc_check(&d, n, err);
    if (!r)
        r = sources_check(be, &d, sources, err);
    if (r)
        return r;
    struct weight *w = dr_calloc(DR_TAG_MODEL, 1, sizeof *w);
    if (!w)
        return dr_fail(err, DR_ENOMEM, "no memory for a weight");
    w->be = be;
    w->cpu.desc = d;
    w->cpu.n_sources = n;
    memcpy(w->cpu.source, sources, (size_t)n * sizeof *sources);
    w->bytes = be->v->weight_bytes(be, &w->cpu);
    if (w->bytes && !backend_is_plan(be) && !(w->memory = dr_malloc(DR_TAG_WEIGHTS, w->bytes))) {
        dr_free(w);
        return dr_fail(err, DR_ENOMEM, "no memory for a weight");
    }
    w->packed_bytes = be->v->packed_bytes(be, &w->cpu);
    r = be->v->weight_fill(be, w, err);
    if (!r && w->packed_bytes && !backend_is_plan(be)) {
        void *packed = dr_malloc(DR_TAG_WEIGHTS, w->packed_bytes);
        if (packed)
            be->v->pack(be, &w->cpu, packed);
        else
            r = dr_fail(err, DR_ENOMEM, "no memory for a weight of %zu bytes", w->packed_bytes);
        w->cpu.packed = packed;
    }
    if (r) {
        dr_free(w->memory);
        dr_free(w);
        return r;
    }
    *ret = w;
    return 0;
}

void weight_free(struct weight *w)
{
    if (!w)
        return;
    if (w->be->v->weight_gone)
        w->be->v->weight_gone(w->be, w);
    dr_free((void *)w->cpu.packed);
    dr_free(w->memory);
    dr_free(w);
}

const struct weight_desc *weight_desc(const struct weight *w)
{
    return &w->cpu.desc;
}

const struct cpu_weight *weight_cpu(const struct weight *w)
{
    return &w->cpu;
}

/* Advice about the pages that hold the mapped sources. Whole pages around them: in a read-only
 * mapping of a file that loses nothing, the neighbours' bytes come back from the page cache. */
static void advise(const struct weight *w, int advice)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    for (int i = 0; i < w->cpu.n_sources; i++) {
        const struct weight_source *s = &w->cpu.source[i];
        int64_t count;
        if (!s->mapped || !s->data || !shape_count(&s->shape, &count) || !count)
            continue;
        uintptr_t first = (uintptr_t)s->data / page * page;
        uintptr_t last = (uintptr_t)s->data + (size_t)count * dtype_size(s->dtype);
        madvise((void *)first, (last - first + page - 1) / page * page, advice);
    }
}

int weight_acquire(struct weight *w, struct dr_error *err)
{
    (void)w;
    (void)err;
    return 0;
}

void weight_prefetch(struct weight *w)
{
    advise(w, MADV_WILLNEED);
}

void weight_release(struct weight *w, bool drop)
{
    if (drop)
        advise(w, MADV_DONTNEED);
}
