/* safetensors_parse.c - the header's parser, see safetensors.h.
 *
 * One pass over the JSON by a scanner that knows only the grammar of this header; nothing recurses.
 * Texts are decoded into one block as long as the header, which always suffices: a decoded string
 * is never longer than its source, and the closing quote leaves room for the terminator. Then the
 * tensors are sorted by place to see that they cover the data without hole or overlap, and by name
 * to see that no name comes twice.
 */
#include "models/formats/safetensors.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/checked.h"
#include "base/utf8.h"
#include "models/formats/tensor_places.h"

enum { PREFIX = 8, DEPTH_MAX = 64 };

/* U+FFFD, for NUL, which C strings cannot hold. Three bytes: no longer than its escape. */
enum { REPLACEMENT = 0xfffd };

/* Above this a JSON reader that holds numbers as doubles is no longer exact. */
static const uint64_t largest_integer = (UINT64_C(1) << 53) - 1;

struct header_scan {
    const uint8_t *begin, *p, *end;
    const char *what;
    struct dr_error *err;
    struct st_header *h;
    size_t strings_used;
    size_t tensors_cap, metadata_cap;
    bool metadata_seen;
};

static int bad(const struct header_scan *s, const char *fmt, ...) DR_PRINTF(2, 3);

static int bad(const struct header_scan *s, const char *fmt, ...)
{
    char words[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(words, sizeof words, fmt, ap);
    va_end(ap);
    return dr_fail(s->err, DR_EFORMAT, "%s: header byte %zu: %s", s->what,
                   (size_t)(s->p - s->begin), words);
}

static int bad_tensor(const struct header_scan *s, int code, const char *name, const char *fmt, ...)
    DR_PRINTF(4, 5);

static int bad_tensor(const struct header_scan *s, int code, const char *name, const char *fmt, ...)
{
    char words[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(words, sizeof words, fmt, ap);
    va_end(ap);
    return dr_fail(s->err, code, "%s: tensor '%s': %s", s->what, show_name(name).text, words);
}

static void skip_space(struct header_scan *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r'))
        s->p++;
}

/* Skips white space; whether c comes next, and past it if so. */
static bool take(struct header_scan *s, char c)
{
    skip_space(s);
    if (s->p >= s->end || *s->p != (uint8_t)c)
        return false;
    s->p++;
    return true;
}

static int expect(struct header_scan *s, char c)
{
    if (take(s, c))
        return 0;
    if (s->p >= s->end)
        return bad(s, "the header ends where '%c' should come", c);
    return bad(s, "expected '%c'", c);
}

static int hex4(struct header_scan *s, uint32_t *ret)
{
    uint32_t v = 0;
    for (int i = 0; i < 4; i++, s->p++) {
        int c = s->p < s->end ? *s->p : 0;
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0)
            return bad(s, "\\u needs four hexadecimal digits");
        v = v << 4 | (uint32_t)digit;
    }
    *ret = v;
    return 0;
}

/* After "\u": one scalar value, from a surrogate pair if need be, as UTF-8. */
static int unicode_escape(struct header_scan *s, char dst[4], size_t *ret_n)
{
    uint32_t v, low;
    int r = hex4(s, &v);
    if (r)
        return r;
    if (v >= 0xd800 && v < 0xdc00 && s->end - s->p > 6 && s->p[0] == '\\' && s->p[1] == 'u') {
        s->p += 2;
        r = hex4(s, &low);
        if (r)
            return r;
        if (low < 0xdc00 || low > 0xdfff)
            return bad(s, "an unpaired surrogate");
        v = 0x10000 + ((v - 0xd800) << 10) + (low - 0xdc00);
    }
    *ret_n = utf8_encode(v ? v : REPLACEMENT, dst);
    return *ret_n ? 0 : bad(s, "an unpaired surrogate");
}

static int escape(struct header_scan *s, char dst[4], size_t *ret_n)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    int c = s->p < s->end ? *s->p++ : 0;
    if (c == 'u')
        return unicode_escape(s, dst, ret_n);
    const char *at = c ? strchr(from, c) : NULL;
    if (!at)
        return bad(s, "unknown escape in a string");
    dst[0] = to[at - from];
    *ret_n = 1;
    return 0;
}

static int string(struct header_scan *s, const char **ret, size_t *ret_n)
{
    int r = expect(s, '"');
    if (r)
        return r;
    char *text = s->h->strings + s->strings_used;
    size_t n = 0;
    for (;;) {
        if (s->p >= s->end)
            return bad(s, "an unterminated string");
        uint8_t c = *s->p++;
        if (c == '"')
            break;
        if (c < 0x20)
            return bad(s, "a control character in a string");
        if (c == '\\') {
            char utf8[4];
            size_t k;
            r = escape(s, utf8, &k);
            if (r)
                return r;
            memcpy(text + n, utf8, k);
            n += k;
        } else {
            text[n++] = (char)c;
        }
    }
    text[n] = '\0';
    s->strings_used += n + 1;
    *ret = text;
    *ret_n = n;
    return 0;
}

static int integer(struct header_scan *s, const char *tensor, const char *field, uint64_t *ret)
{
    skip_space(s);
    uint64_t v = 0;
    const uint8_t *first = s->p;
    while (s->p < s->end && *s->p >= '0' && *s->p <= '9') {
        v = v * 10 + (uint64_t)(*s->p++ - '0');
        if (v > largest_integer)
            return bad_tensor(s, DR_EFORMAT, tensor, "%s: an integer above 2^53 - 1", field);
    }
    size_t digits = (size_t)(s->p - first);
    uint8_t next = s->p < s->end ? *s->p : 0;
    if (!digits || next == '.' || next == 'e' || next == 'E' || (digits > 1 && *first == '0'))
        return bad_tensor(s, DR_EFORMAT, tensor, "%s: expected integers from 0 up", field);
    *ret = v;
    return 0;
}

static int shape_of(struct header_scan *s, struct st_tensor *t)
{
    int r = expect(s, '[');
    t->shape.n = 0;
    for (bool more = !r && !take(s, ']'); !r && more;) {
        uint64_t d;
        if (t->shape.n == SHAPE_MAX)
            return bad_tensor(s, DR_ELIMIT, t->name, "shape: more than %d dimensions", SHAPE_MAX);
        r = integer(s, t->name, "shape", &d);
        if (r)
            return r;
        t->shape.d[t->shape.n++] = (int64_t)d;
        more = take(s, ',');
        if (!more)
            r = expect(s, ']');
    }
    return r;
}

static int offsets_of(struct header_scan *s, struct st_tensor *t)
{
    int r = expect(s, '[');
    if (!r)
        r = integer(s, t->name, "data_offsets", &t->begin);
    if (!r)
        r = expect(s, ',');
    if (!r)
        r = integer(s, t->name, "data_offsets", &t->end);
    return r ? r : expect(s, ']');
}

static int dtype_of(struct header_scan *s, struct st_tensor *t)
{
    const char *name;
    size_t n;
    int r = string(s, &name, &n);
    if (r)
        return r;
    if (!dtype_from_name(name, n, &t->dtype) || dtype_block(t->dtype) > 1)
        return bad_tensor(s, DR_EUNSUPPORTED, t->name, "dtype '%s' is unknown",
                          show_name(name).text);
    return 0;
}

/* The size that shape and dtype ask for against the one that the offsets give. */
static int check_size(const struct header_scan *s, const struct st_tensor *t)
{
    char text[200];
    int64_t count, bytes;
    if (!shape_count(&t->shape, &count) ||
        !dr_mul_i64(count, (int64_t)dtype_size(t->dtype), &bytes))
        return bad_tensor(s, DR_EFORMAT, t->name, "shape %s is larger than any file",
                          shape_text(&t->shape, text, sizeof text));
    if (t->end < t->begin)
        return bad_tensor(s, DR_EFORMAT, t->name,
                          "data_offsets [%" PRIu64 ", %" PRIu64 "] are reversed", t->begin, t->end);
    if (t->end - t->begin != (uint64_t)bytes)
        return bad_tensor(s, DR_EFORMAT, t->name,
                          "shape %s of %s is %" PRId64 " bytes, data_offsets give %" PRIu64,
                          shape_text(&t->shape, text, sizeof text), dtype_name(t->dtype), bytes,
                          t->end - t->begin);
    return 0;
}

/* Skips the value of a field that the format does not have, as other readers do. Brackets are
 * counted, not matched by kind; numbers and words are not looked into. */
static int skip_value(struct header_scan *s)
{
    int depth = 0;
    do {
        skip_space(s);
        size_t mark = s->strings_used, n;
        const char *text;
        int c = s->p < s->end ? *s->p : 0;
        int r = c == '"' ? string(s, &text, &n) : 0;
        s->strings_used = mark;
        if (r)
            return r;
        if (c == '"')
            continue;
        if (!c)
            return bad(s, "the header ends inside a value");
        bool opens = c == '{' || c == '[', closes = c == '}' || c == ']';
        if (!opens && !closes && !depth) {
            if (c == ',')
                return bad(s, "expected a value");
            while (s->p < s->end && !strchr(",}] \t\r\n", *s->p))
                s->p++;
            return 0;
        }
        s->p++;
        depth += opens - closes;
        if (depth < 0 || depth > DEPTH_MAX)
            return bad(s, "expected a value");
    } while (depth);
    return 0;
}

/* {"dtype": ..., "shape": ..., "data_offsets": ...}, each once, in any order; others are passed
 * over. */
static int tensor(struct header_scan *s, struct st_tensor *t)
{
    static const struct {
        const char *key;
        int (*read)(struct header_scan *s, struct st_tensor *t);
    } fields[] = { { "dtype", dtype_of }, { "shape", shape_of }, { "data_offsets", offsets_of } };
    enum { FIELDS = sizeof fields / sizeof *fields };
    unsigned seen = 0;
    int r = expect(s, '{');
    for (bool more = !r && !take(s, '}'); !r && more;) {
        const char *key;
        size_t n;
        size_t mark = s->strings_used;
        r = string(s, &key, &n);
        if (r || (r = expect(s, ':')))
            return r;
        size_t f = 0;
        while (f < FIELDS && strcmp(key, fields[f].key))
            f++;
        if (f < FIELDS && seen & 1u << f)
            return bad_tensor(s, DR_EFORMAT, t->name, "%s appears twice", key);
        seen |= f < FIELDS ? 1u << f : 0;
        r = f < FIELDS ? fields[f].read(s, t) : skip_value(s);
        s->strings_used = mark; /* field names and dtypes need not be kept */
        more = !r && take(s, ',');
        if (!r && !more)
            r = expect(s, '}');
    }
    for (size_t f = 0; !r && f < FIELDS; f++)
        if (!(seen & 1u << f))
            r = bad_tensor(s, DR_EFORMAT, t->name, "%s is missing", fields[f].key);
    return r ? r : check_size(s, t);
}

/* Room for one more element of an array. */
static int grow(struct header_scan *s, void **array, size_t *cap, size_t used, size_t size)
{
    if (used < *cap)
        return 0;
    size_t more = *cap ? *cap * 2 : 64;
    void *p = dr_realloc(DR_TAG_FILE, *array, more * size);
    if (!p)
        return dr_fail(s->err, DR_ENOMEM, "%s: out of memory for its table of tensors", s->what);
    *array = p;
    *cap = more;
    return 0;
}

static int metadata(struct header_scan *s)
{
    struct st_header *h = s->h;
    if (s->metadata_seen)
        return bad(s, "__metadata__ appears twice");
    s->metadata_seen = true;
    skip_space(s);
    if (s->end - s->p >= 4 && !memcmp(s->p, "null", 4)) {
        s->p += 4;
        return 0;
    }
    int r = expect(s, '{');
    for (bool more = !r && !take(s, '}'); !r && more;) {
        struct st_metadata m;
        size_t n;
        if (h->n_metadata == ST_TENSORS_MAX)
            return dr_fail(s->err, DR_ELIMIT, "%s: more than %d entries in __metadata__", s->what,
                           ST_TENSORS_MAX);
        r = grow(s, (void **)&h->metadata, &s->metadata_cap, h->n_metadata, sizeof *h->metadata);
        if (r || (r = string(s, &m.key, &n)) || (r = expect(s, ':')) ||
            (r = string(s, &m.value, &n)))
            return r;
        h->metadata[h->n_metadata++] = m;
        more = take(s, ',');
        if (!more)
            r = expect(s, '}');
    }
    return r;
}

static int entry(struct header_scan *s)
{
    struct st_header *h = s->h;
    struct st_tensor t = { 0 };
    size_t n;
    int r = string(s, &t.name, &n);
    if (r || (r = expect(s, ':')))
        return r;
    if (!strcmp(t.name, "__metadata__"))
        return metadata(s);
    if (n > ST_NAME_MAX)
        return bad_tensor(s, DR_ELIMIT, t.name, "a name of %zu bytes, at most %d accepted", n,
                          ST_NAME_MAX);
    if (h->n_tensors == ST_TENSORS_MAX)
        return dr_fail(s->err, DR_ELIMIT, "%s: more than %d tensors", s->what, ST_TENSORS_MAX);
    r = grow(s, (void **)&h->tensors, &s->tensors_cap, h->n_tensors, sizeof *h->tensors);
    if (!r)
        r = tensor(s, &t);
    if (!r)
        h->tensors[h->n_tensors++] = t;
    return r;
}

static int by_metadata_key(const void *a, const void *b)
{
    const struct st_metadata *x = a, *y = b;
    int order = strcmp(x->key, y->key);
    return order ? order : x->key < y->key ? -1 : x->key > y->key;
}

/* Of a key that comes more than once the last value holds, as in the reference. */
static void sort_metadata(struct st_header *h)
{
    size_t kept = 0;
    if (h->n_metadata)
        qsort(h->metadata, h->n_metadata, sizeof *h->metadata, by_metadata_key);
    for (size_t i = 0; i < h->n_metadata; i++) {
        bool again = kept && !strcmp(h->metadata[i].key, h->metadata[kept - 1].key);
        h->metadata[again ? kept - 1 : kept] = h->metadata[i];
        kept += !again;
    }
    h->n_metadata = kept;
}

static int fail_truncated(const char *what, const char *says, uint64_t bytes, uint64_t file_size,
                          struct dr_error *err)
{
    return dr_fail(err, DR_EFORMAT,
                   "%s: file is truncated: %s %" PRIu64 " bytes, the file has %" PRIu64
                   " (incomplete download?)",
                   what, says, bytes, file_size);
}

static int parse_object(struct header_scan *s)
{
    if (*s->p != '{')
        return bad(s, "expected '{'");
    s->p++;
    int r = 0;
    for (bool more = !take(s, '}'); !r && more;) {
        r = entry(s);
        more = !r && take(s, ',');
        if (!r && !more)
            r = expect(s, '}');
    }
    skip_space(s);
    if (!r && s->p < s->end)
        r = bad(s, "data after the object");
    return r;
}

/* The length of the header, checked against the file's size and the limits. */
static int header_size(const uint8_t *bytes, size_t n, uint64_t file_size, const char *what,
                       size_t *ret, struct dr_error *err)
{
    if (n < PREFIX || file_size < PREFIX)
        return dr_fail(err, DR_EFORMAT,
                       "%s: %" PRIu64 " bytes are too few for a safetensors file "
                       "(incomplete download?)",
                       what, file_size);
    uint64_t size = 0;
    for (int i = PREFIX - 1; i >= 0; i--)
        size = size << 8 | bytes[i];
    if (size > ST_HEADER_MAX)
        return dr_fail(err, DR_ELIMIT,
                       "%s: header of %" PRIu64
                       " bytes, at most %d accepted: not a safetensors file, or a damaged one",
                       what, size, ST_HEADER_MAX);
    if (size > file_size - PREFIX || size > n - PREFIX)
        return fail_truncated(what, "the header has", size, file_size, err);
    if (size < 2)
        return dr_fail(err, DR_EFORMAT, "%s: header of %" PRIu64 " bytes, too short", what, size);
    *ret = (size_t)size;
    return 0;
}

int st_parse(const uint8_t *bytes, size_t n, uint64_t file_size, const char *what,
             struct st_header *ret, struct dr_error *err)
{
    size_t size = 0;
    int r = header_size(bytes, n, file_size, what, &size, err);
    if (r)
        return r;
    struct st_header h = { .data_at = PREFIX + size };
    const uint8_t *text = bytes + PREFIX;
    struct header_scan s = {
        .begin = text, .p = text, .end = text + size, .what = what, .err = err, .h = &h
    };
    size_t valid = utf8_valid_prefix((const char *)text, size);
    if (valid != size) {
        s.p += valid;
        return bad(&s, "not UTF-8");
    }
    h.strings = dr_malloc(DR_TAG_FILE, size);
    if (!h.strings)
        return dr_fail(err, DR_ENOMEM, "%s: out of memory for its header", what);
    r = parse_object(&s);
    if (!r)
        r = tensor_places_check(&h, file_size - h.data_at, 1, what, err);
    if (!r)
        r = tensor_names_sort(&h, what, err);
    if (r) {
        st_header_free(&h);
        return r;
    }
    sort_metadata(&h);
    *ret = h;
    return 0;
}
