/* gguf_writer.c - see gguf_writer.h. Written from the format's description, apart from the reader.
 * */
#include "testing/helpers/gguf_writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "testing/helpers/model_access.h"
#include "testing/helpers/safetensors_writer.h"
#include "testing/helpers/test.h"

void gguf_put(struct gguf_bytes *b, const void *bytes, size_t n)
{
    if (b->n + n > b->cap) {
        b->cap = 2 * (b->n + n) + 256;
        b->data = realloc(b->data, b->cap);
        assert_non_null(b->data);
    }
    if (n)
        memcpy(b->data + b->n, bytes, n);
    b->n += n;
}

void gguf_u32(struct gguf_bytes *b, uint32_t v)
{
    for (int i = 0; i < 4; i++, v >>= 8)
        gguf_put(b, &(unsigned char){ (unsigned char)v }, 1);
}

void gguf_u64(struct gguf_bytes *b, uint64_t v)
{
    gguf_u32(b, (uint32_t)v);
    gguf_u32(b, (uint32_t)(v >> 32));
}

void gguf_text(struct gguf_bytes *b, const char *text)
{
    gguf_u64(b, strlen(text));
    gguf_put(b, text, strlen(text));
}

void gguf_pad(struct gguf_bytes *b, size_t alignment)
{
    while (b->n % alignment)
        gguf_put(b, "", 1);
}

void gguf_preamble(struct gguf_bytes *b, uint32_t version, uint64_t tensors, uint64_t entries)
{
    gguf_put(b, "GGUF", 4);
    gguf_u32(b, version);
    gguf_u64(b, tensors);
    gguf_u64(b, entries);
}

void gguf_entry_text(struct gguf_bytes *b, const char *key, const char *value)
{
    gguf_text(b, key);
    gguf_u32(b, GGUF_STRING);
    gguf_text(b, value);
}

void gguf_tensor(struct gguf_bytes *b, const char *name, const struct shape *shape, uint32_t type,
                 uint64_t offset)
{
    gguf_text(b, name);
    gguf_u32(b, (uint32_t)shape->n);
    for (int i = shape->n - 1; i >= 0; i--)
        gguf_u64(b, (uint64_t)shape->d[i]);
    gguf_u32(b, type);
    gguf_u64(b, offset);
}

void gguf_save(struct gguf_bytes *b, const char *path)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(b->data, 1, b->n, f), b->n);
    assert_int_equal(fclose(f), 0);
    free(b->data);
    *b = (struct gguf_bytes){ 0 };
}

/* ---- whole files ---- */

static uint32_t type_number(enum dtype t)
{
    switch (t) {
    case DTYPE_F32:
        return GGUF_F32;
    case DTYPE_F16:
        return 1;
    case DTYPE_Q8_0:
        return GGUF_Q8_0;
    case DTYPE_Q4_K:
        return GGUF_Q4_K;
    default:
        fail_msg("a type that the test cannot write");
        return 0;
    }
}

static void put_original_shape(struct gguf_bytes *b, const char *name, const struct shape *shape)
{
    char key[700];
    snprintf(key, sizeof key, "comfy.gguf.orig_shape.%s", name);
    gguf_text(b, key);
    gguf_u32(b, GGUF_ARRAY);
    gguf_u32(b, GGUF_INT32);
    gguf_u64(b, (uint64_t)shape->n);
    for (int i = 0; i < shape->n; i++)
        gguf_u32(b, (uint32_t)shape->d[i]);
}

/* Adds the tensor's data and what they say, in float32, to the other file. */
static void put_data(struct gguf_bytes *b, struct st_writer *w, const struct safetensors *st,
                     const struct st_tensor *t, const struct gguf_plan *p)
{
    int64_t count = 0, bytes = 0;
    assert_true(shape_count(&t->shape, &count) && dtype_bytes(p->dtype, count, &bytes));
    float *values = malloc((size_t)count * sizeof *values + 1);
    void *data = malloc((size_t)bytes + 1);
    assert_true(values && data);
    dtype_to_f32(values, st_data(st, t), t->dtype, count);
    dtype_from_f32(data, p->dtype, values, count);
    dtype_to_f32(values, data, p->dtype, count);
    gguf_put(b, data, (size_t)bytes);
    gguf_pad(b, 32);
    st_writer_add(w, t->name, "F32", t->shape.n, t->shape.d, values);
    free(values);
    free(data);
}

static void put_header(struct gguf_bytes *b, const struct st_header *h,
                       struct gguf_plan (*plan)(const struct st_tensor *t),
                       const char *architecture)
{
    uint64_t tensors = 0, entries = architecture != NULL, at = 0;
    for (size_t i = 0; i < h->n_tensors; i++) {
        struct gguf_plan p = plan(&h->tensors[i]);
        tensors += p.name != NULL;
        entries += p.name && !shape_equal(&p.shape, &h->tensors[i].shape);
    }
    gguf_preamble(b, 3, tensors, entries);
    if (architecture)
        gguf_entry_text(b, "general.architecture", architecture);
    for (size_t i = 0; i < h->n_tensors; i++) {
        struct gguf_plan p = plan(&h->tensors[i]);
        if (p.name && !shape_equal(&p.shape, &h->tensors[i].shape))
            put_original_shape(b, p.name, &h->tensors[i].shape);
    }
    for (size_t i = 0; i < h->n_tensors; i++) {
        struct gguf_plan p = plan(&h->tensors[i]);
        int64_t count, bytes = 0;
        if (!p.name)
            continue;
        gguf_tensor(b, p.name, &p.shape, type_number(p.dtype), at);
        assert_true(shape_count(&p.shape, &count) && dtype_bytes(p.dtype, count, &bytes));
        at += ((uint64_t)bytes + 31) / 32 * 32;
    }
    gguf_pad(b, 32);
}

void gguf_convert(const char *from, const char *architecture,
                  struct gguf_plan (*plan)(const struct st_tensor *t), const char *gguf,
                  const char *values)
{
    struct safetensors st;
    struct dr_error err;
    struct gguf_bytes b = { 0 };
    struct st_writer *w = st_writer_new();
    assert_int_equal(st_open(from, &st, &err), 0);
    put_header(&b, &st.header, plan, architecture);
    for (size_t i = 0; i < st.header.n_tensors; i++) {
        struct gguf_plan p = plan(&st.header.tensors[i]);
        if (p.name)
            put_data(&b, w, &st, &st.header.tensors[i], &p);
    }
    gguf_save(&b, gguf);
    st_writer_save(w, values);
    st_writer_free(w);
    st_close(&st);
}
