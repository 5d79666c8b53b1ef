/* gguf.c - see gguf.h.
 *
 * The header is walked twice by the same code: first to check it and to count what is to be kept,
 * then, with memory of that size, to keep it. Places and names of tensors are checked at the end.
 */
#include "models/formats/gguf.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/utf8.h"
#include "models/formats/gguf_write.h"
#include "models/formats/tensor_places.h"

enum {
    ENTRIES_MAX = 65536,
    DIMENSIONS_MAX = 4,
    ALIGNMENT = 32,
    ALIGNMENT_MAX = 1 << 20,
    ENTRY_LEAST = 8 + 1 + 4 + 1, /* bytes of the shortest entry */
    TENSOR_LEAST = 8 + 1 + 4 + 4 + 8,
    NUMBER_TEXT = 32,
};

#define ORIGINAL_SHAPE "comfy.gguf.orig_shape."

enum value_type {
    V_UINT8,
    V_INT8,
    V_UINT16,
    V_INT16,
    V_UINT32,
    V_INT32,
    V_FLOAT32,
    V_BOOL,
    V_STRING,
    V_ARRAY,
    V_UINT64,
    V_INT64,
    V_FLOAT64,
    V_COUNT
};

static const uint8_t value_sizes[V_COUNT] = {
    [V_UINT8] = 1,   [V_INT8] = 1, [V_UINT16] = 2, [V_INT16] = 2, [V_UINT32] = 4,  [V_INT32] = 4,
    [V_FLOAT32] = 4, [V_BOOL] = 1, [V_UINT64] = 8, [V_INT64] = 8, [V_FLOAT64] = 8,
};

/* The types of ggml by number, those that are read with their dtype, others by name alone. */
static const struct {
    uint32_t type;
    const char *name;
    enum dtype dtype; /* DTYPE_COUNT: not read */
} types[] = {
    { 0, "F32", DTYPE_F32 },       { 1, "F16", DTYPE_F16 },        { 2, "Q4_0", DTYPE_Q4_0 },
    { 3, "Q4_1", DTYPE_Q4_1 },     { 6, "Q5_0", DTYPE_Q5_0 },      { 7, "Q5_1", DTYPE_Q5_1 },
    { 8, "Q8_0", DTYPE_Q8_0 },     { 9, "Q8_1", DTYPE_COUNT },     { 10, "Q2_K", DTYPE_Q2_K },
    { 11, "Q3_K", DTYPE_Q3_K },    { 12, "Q4_K", DTYPE_Q4_K },     { 13, "Q5_K", DTYPE_Q5_K },
    { 14, "Q6_K", DTYPE_Q6_K },    { 15, "Q8_K", DTYPE_COUNT },    { 16, "IQ2_XXS", DTYPE_COUNT },
    { 17, "IQ2_XS", DTYPE_COUNT }, { 18, "IQ3_XXS", DTYPE_COUNT }, { 19, "IQ1_S", DTYPE_COUNT },
    { 20, "IQ4_NL", DTYPE_COUNT }, { 21, "IQ3_S", DTYPE_COUNT },   { 22, "IQ2_S", DTYPE_COUNT },
    { 23, "IQ4_XS", DTYPE_COUNT }, { 24, "I8", DTYPE_I8 },         { 25, "I16", DTYPE_I16 },
    { 26, "I32", DTYPE_I32 },      { 27, "I64", DTYPE_I64 },       { 28, "F64", DTYPE_F64 },
    { 29, "IQ1_M", DTYPE_COUNT },  { 30, "BF16", DTYPE_BF16 },     { 34, "TQ1_0", DTYPE_COUNT },
    { 35, "TQ2_0", DTYPE_COUNT },  { 39, "MXFP4", DTYPE_COUNT },   { 40, "NVFP4", DTYPE_COUNT },
};

int gguf_type_of(enum dtype dtype)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].dtype == dtype && dtype != DTYPE_COUNT)
            return (int)types[i].type;
    return -1;
}

struct original_shape {
    const char *name;
    struct shape shape;
};

struct gguf_scan {
    const uint8_t *begin, *p, *end;
    const char *what;
    struct dr_error *err;
    struct st_header *h; /* in the first walk without memory */
    uint64_t alignment;
    size_t strings, metadata, shapes; /* needed in the first walk, used in the second */
    struct original_shape *original;
};

static bool keeps(const struct gguf_scan *s)
{
    return s->h->strings != NULL;
}

static int bad(const struct gguf_scan *s, const char *words)
{
    return dr_fail(s->err, DR_EFORMAT, "%s: GGUF header, byte %zu: %s", s->what,
                   (size_t)(s->p - s->begin), words);
}

static uint64_t left(const struct gguf_scan *s)
{
    return (uint64_t)(s->end - s->p);
}

/* A little-endian number of n bytes. */
static int number(struct gguf_scan *s, size_t n, uint64_t *ret)
{
    uint64_t v = 0;
    if (left(s) < n)
        return bad(s, "the file ends inside the header (incomplete download?)");
    for (size_t i = n; i-- > 0;)
        v = v << 8 | s->p[i];
    s->p += n;
    *ret = v;
    return 0;
}

static int number32(struct gguf_scan *s, uint32_t *ret)
{
    uint64_t v = 0;
    int r = number(s, 4, &v);
    *ret = (uint32_t)v;
    return r;
}

/* The bytes of a string, where they lie. */
static int raw_string(struct gguf_scan *s, const char **ret, size_t *ret_n)
{
    uint64_t n;
    int r = number(s, 8, &n);
    if (r)
        return r;
    if (n > left(s))
        return bad(s, "a string is longer than the rest of the file");
    *ret = (const char *)s->p;
    *ret_n = (size_t)n;
    s->p += n;
    return 0;
}

/* A text to be kept: UTF-8 without NUL. `most` 0: of any length. */
static int text(struct gguf_scan *s, const char *meaning, size_t most, const char **ret)
{
    const char *bytes;
    size_t n;
    char words[80];
    int r = raw_string(s, &bytes, &n);
    if (r)
        return r;
    if (most && (!n || n > most)) {
        snprintf(words, sizeof words, "%s of %zu bytes, expected 1 to %zu", meaning, n, most);
        return bad(s, words);
    }
    if (utf8_valid_prefix(bytes, n) != n || memchr(bytes, 0, n)) {
        snprintf(words, sizeof words, "%s that is no UTF-8 text", meaning);
        return bad(s, words);
    }
    *ret = "";
    if (keeps(s)) {
        char *to = s->h->strings + s->strings;
        memcpy(to, bytes, n);
        to[n] = '\0';
        *ret = to;
    }
    s->strings += n + 1;
    return 0;
}

/* ---- entries ---- */

static int64_t signed_of(uint64_t v, size_t n)
{
    unsigned shift = (unsigned)(64 - 8 * n);
    return (int64_t)(v << shift) >> shift;
}

static void number_text(enum value_type type, uint64_t v, char dst[NUMBER_TEXT])
{
    uint32_t u = (uint32_t)v;
    float f;
    double d;
    memcpy(&f, &u, sizeof f);
    memcpy(&d, &v, sizeof d);
    switch (type) {
    case V_FLOAT32:
    case V_FLOAT64:
        snprintf(dst, NUMBER_TEXT, "%.9g", type == V_FLOAT32 ? (double)f : d);
        break;
    case V_BOOL:
        snprintf(dst, NUMBER_TEXT, "%s", v ? "true" : "false");
        break;
    case V_INT8:
    case V_INT16:
    case V_INT32:
    case V_INT64:
        snprintf(dst, NUMBER_TEXT, "%" PRId64, signed_of(v, value_sizes[type]));
        break;
    default:
        snprintf(dst, NUMBER_TEXT, "%" PRIu64, v);
    }
}

static int alignment_of(struct gguf_scan *s, uint64_t v)
{
    if (!v || v & (v - 1) || v > ALIGNMENT_MAX)
        return bad(s, "general.alignment: expected a power of two up to 2^20");
    s->alignment = v;
    return 0;
}

static int number_value(struct gguf_scan *s, enum value_type type, const char *key,
                        const char **ret)
{
    uint64_t v;
    int r = number(s, value_sizes[type], &v);
    if (!r && !strcmp(key, "general.alignment"))
        r = alignment_of(s, v);
    if (r)
        return r;
    *ret = "";
    if (keeps(s)) {
        number_text(type, v, s->h->strings + s->strings);
        *ret = s->h->strings + s->strings;
    }
    s->strings += NUMBER_TEXT;
    return 0;
}

/* The shape that a tensor had before it was stored as another one. */
static int original_shape(struct gguf_scan *s, const char *name, uint64_t n)
{
    struct original_shape o = { .name = name, .shape.n = (int)n };
    if (n > SHAPE_MAX)
        return bad(s, ORIGINAL_SHAPE "*: more than 8 dimensions");
    for (uint64_t i = 0; i < n; i++) {
        uint64_t v = 0;
        int r = number(s, 4, &v);
        if (r)
            return r;
        o.shape.d[i] = signed_of(v, 4);
    }
    if (s->original)
        s->original[s->shapes] = o;
    s->shapes++;
    return 0;
}

static int array_value(struct gguf_scan *s, const char *key)
{
    static const char prefix[] = ORIGINAL_SHAPE;
    uint32_t type;
    uint64_t n;
    int r = number32(s, &type);
    if (!r)
        r = number(s, 8, &n);
    if (r)
        return r;
    bool shape = !strncmp(key, prefix, sizeof prefix - 1);
    if (shape && type != V_INT32)
        return bad(s, ORIGINAL_SHAPE "*: expected an array of int32");
    if (shape)
        return original_shape(s, key + sizeof prefix - 1, n);
    if (type == V_ARRAY)
        return bad(s, "an array of arrays");
    if (type >= V_COUNT)
        return bad(s, "an array of a type that does not exist");
    if (type != V_STRING) {
        if (n > left(s) / value_sizes[type])
            return bad(s, "an array is longer than the rest of the file");
        s->p += n * value_sizes[type];
        return 0;
    }
    if (n > left(s) / 8)
        return bad(s, "an array is longer than the rest of the file");
    for (uint64_t i = 0; !r && i < n; i++) {
        const char *bytes;
        size_t length;
        r = raw_string(s, &bytes, &length);
    }
    return r;
}

/* Keys are compared in both walks, so a copy is made of what lies in the file without a NUL. */
static int entry(struct gguf_scan *s)
{
    char key[ST_NAME_MAX + 64];
    const char *kept, *value;
    const uint8_t *at = s->p;
    uint32_t type;
    int r = text(s, "a key", sizeof key - 1, &kept);
    if (r)
        return r;
    size_t n = (size_t)(s->p - at) - 8;
    memcpy(key, at + 8, n);
    key[n] = '\0';
    r = number32(s, &type);
    if (r)
        return r;
    if (type >= V_COUNT)
        return bad(s, "a value of a type that does not exist");
    if (type != V_UINT32 && !strcmp(key, "general.alignment"))
        return bad(s, "general.alignment: expected a uint32");
    if (type == V_ARRAY)
        return array_value(s, keeps(s) ? kept : key);
    r = type == V_STRING ? text(s, "a value", 0, &value) : number_value(s, type, key, &value);
    if (r)
        return r;
    if (keeps(s))
        s->h->metadata[s->metadata] = (struct st_metadata){ kept, value };
    s->metadata++;
    return 0;
}

/* ---- tensors ---- */

static int bad_tensor(const struct gguf_scan *s, int code, const char *name, const char *words)
{
    return dr_fail(s->err, code, "%s: tensor '%s': %s", s->what, show_name(name).text, words);
}

static int dtype_of(const struct gguf_scan *s, const char *name, uint32_t type, enum dtype *ret)
{
    char words[120];
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (types[i].type != type)
            continue;
        *ret = types[i].dtype;
        if (*ret != DTYPE_COUNT)
            return 0;
        snprintf(words, sizeof words, "is of type %s, which Darkroom does not read", types[i].name);
        return bad_tensor(s, DR_EUNSUPPORTED, name, words);
    }
    snprintf(words, sizeof words, "is of type %" PRIu32 ", which is unknown", type);
    return bad_tensor(s, DR_EUNSUPPORTED, name, words);
}

/* The dimensions, which lie innermost first; the innermost must be whole blocks. */
static int shape_of(struct gguf_scan *s, const char *name, struct st_tensor *t, uint32_t *ret_type)
{
    uint32_t n;
    int64_t count, bytes;
    int r = number32(s, &n);
    if (!r && n > DIMENSIONS_MAX)
        r = bad_tensor(s, DR_ELIMIT, name, "more than 4 dimensions");
    t->shape.n = r ? 0 : (int)n;
    for (uint32_t i = 0; !r && i < n; i++) {
        uint64_t d = 0;
        r = number(s, 8, &d);
        if (!r && d > INT64_MAX)
            r = bad_tensor(s, DR_EFORMAT, name, "a dimension of 2^63 or more");
        t->shape.d[n - 1 - i] = (int64_t)d;
    }
    if (!r)
        r = number32(s, ret_type);
    if (!r)
        r = dtype_of(s, name, *ret_type, &t->dtype);
    if (r)
        return r;
    int64_t block = dtype_block(t->dtype);
    if (block > 1 && (!n || t->shape.d[n - 1] % block))
        return bad_tensor(s, DR_EFORMAT, name, "its rows are no whole blocks of its type");
    if (!shape_count(&t->shape, &count) || !dtype_bytes(t->dtype, count, &bytes))
        return bad_tensor(s, DR_EFORMAT, name, "its shape is larger than any file");
    t->end = (uint64_t)bytes;
    return 0;
}

static int tensor(struct gguf_scan *s, size_t i)
{
    struct st_tensor t = { 0 };
    char name[ST_NAME_MAX + 1];
    const uint8_t *at = s->p;
    uint32_t type = 0;
    int r = text(s, "a tensor's name", ST_NAME_MAX, &t.name);
    if (r)
        return r;
    snprintf(name, sizeof name, "%.*s", (int)(s->p - at) - 8, (const char *)at + 8);
    r = shape_of(s, name, &t, &type);
    if (!r)
        r = number(s, 8, &t.begin);
    if (r)
        return r;
    if (t.begin % s->alignment)
        return bad_tensor(s, DR_EFORMAT, name, "its offset is not aligned");
    if (__builtin_add_overflow(t.begin, t.end, &t.end))
        return bad_tensor(s, DR_EFORMAT, name, "it ends beyond any file");
    if (keeps(s))
        s->h->tensors[i] = t;
    return 0;
}

/* ---- the whole ---- */

bool gguf_begins(const uint8_t *bytes, size_t n)
{
    return n >= 4 && !memcmp(bytes, GGUF_MAGIC, 4);
}

/* Magic, version and the two counts. */
static int preamble(struct gguf_scan *s, uint64_t *ret_tensors, uint64_t *ret_entries)
{
    uint32_t version;
    s->p = s->begin + 4;
    int r = number32(s, &version);
    if (!r && version >> 16 && !(version & 0xffff))
        return dr_fail(s->err, DR_EUNSUPPORTED, "%s: a GGUF file for big-endian machines", s->what);
    if (!r && version != 2 && version != 3)
        return dr_fail(s->err, DR_EUNSUPPORTED, "%s: GGUF version %" PRIu32 ", expected 2 or 3",
                       s->what, version);
    if (!r)
        r = number(s, 8, ret_tensors);
    if (!r)
        r = number(s, 8, ret_entries);
    if (r)
        return r;
    if (*ret_tensors > ST_TENSORS_MAX || *ret_entries > ENTRIES_MAX)
        return dr_fail(s->err, DR_ELIMIT,
                       "%s: GGUF header: %" PRIu64 " tensors and %" PRIu64
                       " entries, at most %d of each accepted",
                       s->what, *ret_tensors, *ret_entries, ST_TENSORS_MAX);
    if (*ret_entries * ENTRY_LEAST + *ret_tensors * TENSOR_LEAST > left(s))
        return bad(s, "more tensors and entries than the file has room for (incomplete download?)");
    return 0;
}

static int walk(struct gguf_scan *s)
{
    uint64_t tensors = 0, entries = 0;
    s->strings = s->metadata = s->shapes = 0;
    s->alignment = ALIGNMENT;
    int r = preamble(s, &tensors, &entries);
    for (uint64_t i = 0; !r && i < entries; i++)
        r = entry(s);
    for (uint64_t i = 0; !r && i < tensors; i++)
        r = tensor(s, (size_t)i);
    s->h->n_tensors = r ? 0 : (size_t)tensors;
    s->h->n_metadata = r ? 0 : s->metadata;
    return r;
}

static int take_memory(struct gguf_scan *s)
{
    struct st_header *h = s->h;
    h->tensors = dr_malloc(DR_TAG_FILE, (h->n_tensors + 1) * sizeof *h->tensors);
    h->metadata = dr_malloc(DR_TAG_FILE, (s->metadata + 1) * sizeof *h->metadata);
    h->strings = dr_malloc(DR_TAG_FILE, s->strings + 1);
    s->original = dr_malloc(DR_TAG_FILE, (s->shapes + 1) * sizeof *s->original);
    if (h->tensors && h->metadata && h->strings && s->original)
        return 0;
    return dr_fail(s->err, DR_ENOMEM, "%s: out of memory for its table of tensors", s->what);
}

/* Tensors get their own shapes back; a shape without a tensor does not matter. */
static int restore_shapes(const struct gguf_scan *s)
{
    for (size_t i = 0; i < s->shapes; i++) {
        const struct original_shape *o = &s->original[i];
        struct st_tensor *t = (struct st_tensor *)st_find(s->h, o->name);
        int64_t stored, original;
        if (!t)
            continue;
        if (!shape_count(&o->shape, &original) || !shape_count(&t->shape, &stored) ||
            original != stored)
            return bad_tensor(s, DR_EFORMAT, o->name,
                              ORIGINAL_SHAPE "*: another number of elements than the tensor has");
        t->shape = o->shape;
    }
    return 0;
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct st_metadata *)a)->key, ((const struct st_metadata *)b)->key);
}

static int keys_sort(const struct gguf_scan *s)
{
    struct st_header *h = s->h;
    if (h->n_metadata)
        qsort(h->metadata, h->n_metadata, sizeof *h->metadata, by_key);
    for (size_t i = 1; i < h->n_metadata; i++)
        if (!strcmp(h->metadata[i].key, h->metadata[i - 1].key))
            return dr_fail(s->err, DR_EFORMAT, "%s: GGUF header: the key '%s' appears twice",
                           s->what, show_name(h->metadata[i].key).text);
    return 0;
}

static int parse(struct gguf_scan *s, uint64_t file_size)
{
    struct st_header *h = s->h;
    int r = walk(s);
    if (!r && (size_t)(s->p - s->begin) > ST_HEADER_MAX)
        r = dr_fail(s->err, DR_ELIMIT, "%s: GGUF header of %zu bytes, at most %d accepted", s->what,
                    (size_t)(s->p - s->begin), ST_HEADER_MAX);
    if (!r)
        r = take_memory(s);
    if (!r)
        r = walk(s);
    if (r)
        return r;
    uint64_t header = (uint64_t)(s->p - s->begin);
    uint64_t data_at = (header + s->alignment - 1) / s->alignment * s->alignment;
    if (!h->n_tensors && data_at > file_size)
        data_at = file_size;
    if (data_at > file_size)
        return bad(s, "the file ends before its data (incomplete download?)");
    h->data_at = (size_t)data_at;
    r = tensor_places_check(h, file_size - data_at, s->alignment, s->what, s->err);
    if (!r)
        r = tensor_names_sort(h, s->what, s->err);
    if (!r)
        r = keys_sort(s);
    return r ? r : restore_shapes(s);
}

int gguf_parse(const uint8_t *bytes, size_t n, uint64_t file_size, const char *what,
               struct st_header *ret, struct dr_error *err)
{
    struct st_header h = { 0 };
    struct gguf_scan s = {
        .begin = bytes, .p = bytes, .end = bytes + n, .what = what, .err = err, .h = &h
    };
    if (!gguf_begins(bytes, n))
        return dr_fail(err, DR_EFORMAT, "%s: not a GGUF file", what);
    int r = parse(&s, file_size);
    dr_free(s.original);
    if (r)
        st_header_free(&h);
    else
        *ret = h;
    return r;
}
