/* weight.c - weights: what fits a desc, private memory, acquire and release.
 *
 * A kernel set without a form of its own reads matrices and convolutions where they lie, in the
 * file's dtype; only vectors (biases, scales and shifts of norms) get a private float32 copy. So a
 * model costs its file, mapped, and little more. A set that packs reads vectors and matrices from a
 * pack, which takes the file's place, or from private memory when there is no pack.
 */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backend/ops/int8.h"
#include "backend/cache/pack.h"
#include "backend/vtable.h"
#include "base/alloc.h"
#include "base/checked.h"

enum { PARTS_MAX = WEIGHT_SOURCES / 2 };

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
    bool scaled = s->scales && keep == 2;
    if (s->scales && !scaled)
        return dr_fail(err, DR_EINVAL, "%s: a vector with scales", name);
    if ((unsigned)s->dtype >= DTYPE_COUNT ||
        (!dtype_is_real(s->dtype) && !(s->dtype == DTYPE_I8 && scaled)))
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
    if ((d->upsamples || d->downsamples) &&
        (d->kind != WEIGHT_CONV || d->upsamples == d->downsamples))
        return dr_fail(err, DR_EINVAL,
                       "weight: up- or downsampling, expected of a convolution, one of them");
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

bool weight_is_int8(const struct weight_desc *d, const struct weight_source *s)
{
    bool product = (d->kind == WEIGHT_LINEAR || d->kind == WEIGHT_CONV) && !d->keep_f32;
    for (int i = 0; product && i < d->parts; i++)
        product = s[i].dtype == DTYPE_I8;
    return product && d->in * (d->kind == WEIGHT_CONV ? d->kernel * d->kernel : 1) <= INT8_SUM_MAX;
}

struct weight_bytes weight_bytes(struct backend *be, const struct weight_desc *desc)
{
    struct weight_bytes none = { 0, 0 };
    struct weight_desc d = *desc;
    if (!d.parts)
        d.parts = 1;
    return desc_check(&d, d.parts * (d.bias ? 2 : 1), NULL) ? none : be->v->packed_size(be, &d);
}

/* Advice about the whole pages around a range. In a read-only mapping of a file that loses nothing,
 * the neighbours' bytes come back from the page cache. */
static void advise_range(const void *data, size_t bytes, int advice)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t first = (uintptr_t)data / page * page, last = (uintptr_t)data + bytes;
    if (bytes)
        madvise((void *)first, (last - first + page - 1) / page * page, advice);
}

static void advise_source(const struct weight_source *s, int advice)
{
    int64_t count, bytes;
    if (s->mapped && s->data && shape_count(&s->shape, &count) &&
        dtype_bytes(s->dtype, count, &bytes))
        advise_range(s->data, (size_t)bytes, advice);
}

void weight_source_release(const struct weight_source *s)
{
    advise_source(s, MADV_DONTNEED);
}

/* Into the pack, or from it. */
static int pack_into(struct weight *w, struct pack *pack, const char *name, size_t bytes,
                     struct dr_error *err)
{
    const void *packed = NULL;
    int r = 0;
    if (pack_building(pack)) {
        w->be->v->pack(w->be, w, pack_stage(pack));
        r = pack_add(pack, name, bytes, &packed, err);
    } else if (!(packed = pack_find(pack, name, bytes))) {
        r = dr_fail(err, DR_EFORMAT, "the packed weights have no %s of %zu bytes", name, bytes);
    }
    w->packed = packed;
    w->in_pack = true;
    return r;
}

static int pack_weight(struct weight *w, struct pack *pack, const char *name, struct dr_error *err)
{
    size_t bytes = w->bytes.vectors + w->bytes.packed;
    int r = 0;
    if (backend_is_plan(w->be))
        return 0;
    if (bytes && pack) {
        r = pack_into(w, pack, name, bytes, err);
    } else if (bytes) {
        void *memory = dr_malloc(DR_TAG_WEIGHTS, bytes);
        if (!memory)
            return dr_fail(err, DR_ENOMEM, "out of memory for a weight of %zu bytes", bytes);
        w->be->v->pack(w->be, w, memory);
        w->packed = memory;
    }
    if (!r)
        r = w->be->v->bind_packed(w->be, w, err);
    for (int i = 0; !r && bytes && i < w->n_sources; i++)
        if (!weight_reads_source(w, i))
            advise_source(&w->source[i], MADV_DONTNEED);
    return r;
}

static int weight_new(struct backend *be, const struct weight_desc *d,
                      const struct weight_source *sources, int n, struct weight **ret,
                      struct dr_error *err)
{
    struct weight *w = dr_calloc(DR_TAG_MODEL, 1, sizeof *w);
    if (!w)
        return dr_fail(err, DR_ENOMEM, "out of memory for a weight");
    static atomic_ullong made;
    w->serial = atomic_fetch_add(&made, 1) + 1;
    w->be = be;
    w->desc = *d;
    w->desc.int8 = weight_is_int8(d, sources);
    w->n_sources = n;
    memcpy(w->source, sources, (size_t)n * sizeof *sources);
    w->bytes = be->v->packed_size(be, &w->desc);
    int r = be->v->weight_created ? be->v->weight_created(be, w, err) : 0;
    if (r)
        dr_free(w);
    else
        *ret = w;
    return r;
}

int weight_prepare_in(struct backend *be, struct pack *pack, const char *name,
                      const struct weight_desc *desc, const struct weight_source *sources, int n,
                      struct weight **ret, struct dr_error *err)
{
    struct weight_desc d = *desc;
    struct weight *w = NULL;
    if (!d.parts)
        d.parts = 1;
    int r = desc_check(&d, n, err);
    if (!r)
        r = sources_check(be, &d, sources, err);
    if (!r)
        r = weight_new(be, &d, sources, n, &w, err);
    if (r)
        return r;
    r = pack_weight(w, pack, name, err);
    if (r)
        weight_free(w);
    else
        *ret = w;
    return r;
}

int weight_prepare(struct backend *be, const struct weight_desc *desc,
                   const struct weight_source *sources, int n, struct weight **ret,
                   struct dr_error *err)
{
    return weight_prepare_in(be, NULL, NULL, desc, sources, n, ret, err);
}

void weight_free(struct weight *w)
{
    if (!w)
        return;
    if (w->be->v->weight_destroyed)
        w->be->v->weight_destroyed(w->be, w);
    if (!w->in_pack)
        dr_free((void *)w->packed);
    dr_free(w);
}

bool weight_reads_source(const struct weight *w, int i)
{
    if (w->bytes.packed)
        return false;
    return !w->in_pack || (w->desc.kind != WEIGHT_NORM && i < w->desc.parts);
}

const struct weight_desc *weight_desc(const struct weight *w)
{
    return &w->desc;
}

const struct weight_source *weight_sources(const struct weight *w, int *ret_n)
{
    *ret_n = w->n_sources;
    return w->source;
}

static void advise(const struct weight *w, int advice)
{
    if (w->in_pack)
        advise_range(w->packed, w->bytes.vectors + w->bytes.packed, advice);
    for (int i = 0; i < w->n_sources; i++)
        if (weight_reads_source(w, i))
            advise_source(&w->source[i], advice);
}

void weight_release(struct weight *w, bool drop)
{
    if (drop)
        advise(w, MADV_DONTNEED);
}
