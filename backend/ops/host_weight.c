/* host_weight.c - weights as references and kernels on the host see them: float32 vectors beside
 * the sources, rows of a source. */
#include <string.h>

#include "backend/ops/op.h"
#include "backend/vtable.h"

static size_t vector_bytes(const struct weight_desc *d)
{
    return backend_align((size_t)d->out * sizeof(float));
}

size_t host_vectors_bytes(const struct weight_desc *d)
{
    return vector_bytes(d) * ((d->bias ? 1u : 0u) + (d->kind == WEIGHT_NORM ? 1u : 0u));
}

void host_vectors_bind(struct host_weight *w, const void *vectors)
{
    const char *at = vectors;
    if (w->desc->kind == WEIGHT_NORM) {
        w->scale = (const float *)at;
        at += vector_bytes(w->desc);
    }
    if (w->desc->bias)
        w->bias = (const float *)at;
}

void host_vectors_make(const struct host_weight *w, void *dst)
{
    struct host_weight at = { .desc = w->desc };
    host_vectors_bind(&at, dst);
    memset(dst, 0, host_vectors_bytes(w->desc));
    if (at.scale)
        dtype_read((float *)at.scale, w->source[0].data, w->source[0].dtype, 0, w->desc->out);
    float *bias = (float *)at.bias;
    for (int i = w->desc->parts; bias && i < w->n_sources; i++) {
        const struct weight_source *s = &w->source[i];
        dtype_read(bias, s->data, s->dtype, 0, s->shape.d[0]);
        bias += s->shape.d[0];
    }
}

void weight_row(const struct weight_source *s, int64_t row, int64_t first, int64_t n, float *dst)
{
    int64_t k = 1;
    float scale;
    for (int i = 1; i < s->shape.n; i++)
        k *= s->shape.d[i];
    dtype_read(dst, s->data, s->dtype, row * k + first, n);
    if (!s->scales)
        return;
    memcpy(&scale, (const char *)s->scales + (size_t)row * sizeof scale, sizeof scale);
    for (int64_t i = 0; i < n; i++)
        dst[i] *= scale;
}
