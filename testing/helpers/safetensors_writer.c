/* safetensors_writer.c - see safetensors_writer.h. */
#include "testing/helpers/safetensors_writer.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "testing/helpers/test.h"

struct text {
    char *p;
    size_t n, cap;
};

struct st_writer {
    struct text header, metadata, data;
    bool sparse;
    size_t at; /* end of the last tensor */
};

static void append(struct text *t, const void *bytes, size_t n)
{
    if (t->n + n + 1 > t->cap) {
        t->cap = (t->n + n + 1) * 2;
        t->p = realloc(t->p, t->cap);
        assert_non_null(t->p);
    }
    memcpy(t->p + t->n, bytes, n);
    t->n += n;
    t->p[t->n] = '\0';
}

static void append_text(struct text *t, const char *s)
{
    append(t, s, strlen(s));
}

struct st_writer *st_writer_new(void)
{
    struct st_writer *w = calloc(1, sizeof *w);
    assert_non_null(w);
    return w;
}

void st_writer_free(struct st_writer *w)
{
    if (!w)
        return;
    free(w->header.p);
    free(w->metadata.p);
    free(w->data.p);
    free(w);
}

static size_t size_of(const char *dtype)
{
    const char *digits = strpbrk(dtype, "123468");
    long bits = digits ? strtol(digits, NULL, 10) : 8; /* BOOL */
    return (size_t)bits / 8;
}

/* Small finite numbers in -0.125 .. 0.125, from an FNV-1a hash of the name. */
static void fill(struct text *data, const char *name, const char *dtype, size_t count)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    for (const char *c = name; *c; c++)
        hash = (hash ^ (uint8_t)*c) * UINT64_C(1099511628211);
    for (size_t i = 0; i < count; i++) {
        hash = hash * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        uint32_t bits = (uint32_t)(hash >> 40);
        float f = ((float)(bits & 255) - 128) / 1024;
        uint32_t word;
        memcpy(&word, &f, sizeof word);
        uint16_t half = (uint16_t)(word >> 16); /* exact: 8 significant bits */
        if (!strcmp(dtype, "F32")) {
            append(data, &f, sizeof f);
        } else if (!strcmp(dtype, "F16")) {
            int exponent = (int)(word >> 23 & 255) - 127 + 15;
            half = (uint16_t)((word >> 16 & 0x8000) |
                              (exponent > 0 ? (uint32_t)exponent << 10 | (word >> 13 & 0x3ff) : 0));
            append(data, &half, sizeof half);
        } else if (!strcmp(dtype, "BF16")) {
            append(data, &half, sizeof half);
        } else {
            append(data, "\0\0\0\0\0\0\0", size_of(dtype));
        }
    }
}

void st_writer_add(struct st_writer *w, const char *name, const char *dtype, int dims,
                   const int64_t *shape, const void *data)
{
    char piece[256];
    size_t begin = w->at, count = 1;
    append_text(&w->header, w->header.n ? ",\"" : "\"");
    append_text(&w->header, name);
    snprintf(piece, sizeof piece, "\":{\"dtype\":\"%s\",\"shape\":[", dtype);
    append_text(&w->header, piece);
    for (int i = 0; i < dims; i++) {
        snprintf(piece, sizeof piece, "%s%" PRId64, i ? "," : "", shape[i]);
        append_text(&w->header, piece);
        count *= (size_t)shape[i];
    }
    w->at += count * size_of(dtype);
    if (!w->sparse && data)
        append(&w->data, data, count * size_of(dtype));
    else if (!w->sparse)
        fill(&w->data, name, dtype, count);
    snprintf(piece, sizeof piece, "],\"data_offsets\":[%zu,%zu]}", begin, w->at);
    append_text(&w->header, piece);
}

void st_writer_add_text(struct st_writer *w, const char *name, const char *dtype, const char *shape)
{
    int64_t d[8];
    int n = 0;
    for (const char *at = shape; *at && n < 8;) {
        char *end;
        d[n++] = strtoll(at, &end, 10);
        assert_true(end > at);
        at = *end == 'x' ? end + 1 : end;
    }
    st_writer_add(w, name, dtype, n, d, NULL);
}

void st_writer_metadata(struct st_writer *w, const char *key, const char *value)
{
    append_text(&w->metadata, w->metadata.n ? ",\"" : "\"");
    append_text(&w->metadata, key);
    append_text(&w->metadata, "\":\"");
    append_text(&w->metadata, value);
    append_text(&w->metadata, "\"");
}

static void put(FILE *f, const void *bytes, size_t n)
{
    if (n)
        assert_int_equal(fwrite(bytes, 1, n, f), n);
}

static FILE *create(const char *path, int64_t length)
{
    FILE *f = fopen(path, "wb");
    if (!f)
        fail_msg("cannot write %s", path);
    uint8_t prefix[8];
    for (int i = 0; i < 8; i++)
        prefix[i] = (uint8_t)((uint64_t)length >> 8 * i);
    put(f, prefix, sizeof prefix);
    return f;
}

void st_writer_sparse(struct st_writer *w)
{
    w->sparse = true;
}

void st_writer_save(const struct st_writer *w, const char *path)
{
    struct text h = { 0 };
    append_text(&h, "{");
    if (w->metadata.n) {
        append_text(&h, "\"__metadata__\":{");
        append(&h, w->metadata.p, w->metadata.n);
        append_text(&h, w->header.n ? "}," : "}");
    }
    if (w->header.n)
        append(&h, w->header.p, w->header.n);
    append_text(&h, "}");
    while (h.n % 8)
        append_text(&h, " ");
    FILE *f = create(path, (int64_t)h.n);
    put(f, h.p, h.n);
    put(f, w->data.p, w->data.n);
    assert_int_equal(fflush(f), 0);
    assert_int_equal(ftruncate(fileno(f), (off_t)(8 + h.n + w->at)), 0);
    assert_int_equal(fclose(f), 0);
    free(h.p);
}

void st_write_raw(const char *path, int64_t length, const char *header, size_t header_n,
                  size_t data_n)
{
    FILE *f = create(path, length < 0 ? (int64_t)header_n : length);
    put(f, header, header_n);
    for (size_t i = 0; i < data_n; i++)
        put(f, "", 1);
    assert_int_equal(fclose(f), 0);
}

void test_make_dirs(const char *path)
{
    char part[1024];
    size_t n = strlen(path);
    assert_true(n < sizeof part);
    for (size_t i = 1; i <= n; i++) {
        if (path[i] != '/' && path[i])
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        mkdir(part, 0700);
    }
}

void test_write_text(const char *path, const char *text)
{
    char dir[1024];
    snprintf(dir, sizeof dir, "%s", path);
    char *slash = strrchr(dir, '/');
    if (slash) {
        *slash = '\0';
        test_make_dirs(dir);
    }
    FILE *f = fopen(path, "wb");
    if (!f)
        fail_msg("cannot write %s", path);
    put(f, text, strlen(text));
    assert_int_equal(fclose(f), 0);
}
