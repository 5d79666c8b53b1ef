/* npy.c - see npy.h. Reference: numpy's NEP 1 ("A Simple File Format for NumPy Arrays"). */
#include "base/npy.h"

#include <limits.h>
#include <stdbool.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/checked.h"
#include "base/fs.h"

enum { PREFIX = 10, ALIGN = 64 }; /* magic, version, header length; the data begins at a multiple */

static const char magic[8] = { '\x93', 'N', 'U', 'M', 'P', 'Y', 1, 0 };
static const int64_t largest = (int64_t)8 << 30;

static const struct {
    enum npy_dtype dtype;
    const char *descr;
    size_t size;
} dtypes[] = {
    { NPY_F32, "<f4", 4 }, { NPY_F64, "<f8", 8 }, { NPY_I64, "<i8", 8 },
    { NPY_I32, "<i4", 4 }, { NPY_U8, "|u1", 1 },
};

enum { DTYPES = sizeof dtypes / sizeof *dtypes };

size_t npy_size_of(enum npy_dtype dtype)
{
    for (int i = 0; i < DTYPES; i++) {
        if (dtypes[i].dtype == dtype)
            return dtypes[i].size;
    }
    return 0;
}

/* Reading the header: a cursor over its text. Each function returns false when the text is
 * another. */
struct cursor {
    const char *at, *end;
};

static void skip_blanks(struct cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\n'))
        c->at++;
}

static bool take(struct cursor *c, char expected)
{
    skip_blanks(c);
    if (c->at >= c->end || *c->at != expected)
        return false;
    c->at++;
    return true;
}

static bool take_word(struct cursor *c, const char *word)
{
    skip_blanks(c);
    size_t n = strlen(word);
    if ((size_t)(c->end - c->at) < n || memcmp(c->at, word, n))
        return false;
    c->at += n;
    return true;
}

/* A string in either quote, without escapes, of at most 31 characters. */
static bool take_string(struct cursor *c, char ret_text[32])
{
    skip_blanks(c);
    if (c->at >= c->end || (*c->at != '\'' && *c->at != '"'))
        return false;
    char quote = *c->at++;
    for (size_t n = 0; n < 32 && c->at < c->end; n++, c->at++) {
        if (*c->at == quote) {
            ret_text[n] = '\0';
            c->at++;
            return true;
        }
        ret_text[n] = *c->at;
    }
    return false;
}

static bool take_number(struct cursor *c, int64_t *ret_value)
{
    skip_blanks(c);
    int64_t v = 0;
    const char *start = c->at;
    for (; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++) {
        if (!dr_mul_i64(v, 10, &v) || !dr_add_i64(v, *c->at - '0', &v))
            return false;
    }
    *ret_value = v;
    return c->at > start;
}

/* "(2, 3)", "(2,)", "()". */
static bool take_shape(struct cursor *c, struct npy *a)
{
    if (!take(c, '('))
        return false;
    a->ndim = 0;
    while (!take(c, ')')) {
        if (a->ndim == NPY_MAX_DIMS || !take_number(c, &a->shape[a->ndim++]))
            return false;
        if (!take(c, ',')) {
            if (a->ndim == 1) /* "(2)" is a number, not a shape */
                return false;
            return take(c, ')');
        }
    }
    return true;
}

/* NULL, or what is wrong with the header. */
static const char *parse_header(struct cursor *c, struct npy *a)
{
    bool have_dtype = false, have_order = false, have_shape = false;
    char word[32];
    if (!take(c, '{'))
        return "the header is not a dictionary";
    while (!take(c, '}')) {
        if (!take_string(c, word) || !take(c, ':'))
            return "the header is damaged";
        if (!strcmp(word, "descr") && !have_dtype) {
            if (!take_string(c, word))
                return "structured types are not supported";
            for (int i = 0; i < DTYPES; i++) {
                if (strcmp(word, dtypes[i].descr))
                    continue;
                a->dtype = dtypes[i].dtype;
                have_dtype = true;
            }
            if (!have_dtype)
                return "the element type is none of <f4 <f8 <i8 <i4 |u1";
        } else if (!strcmp(word, "fortran_order") && !have_order) {
            if (take_word(c, "True"))
                return "Fortran order is not supported; save a C-ordered copy";
            if (!take_word(c, "False"))
                return "fortran_order is neither True nor False";
            have_order = true;
        } else if (!strcmp(word, "shape") && !have_shape) {
            if (!take_shape(c, a))
                return "the shape is not a tuple of at most 8 sizes";
            have_shape = true;
        } else {
            return "the header has an unknown or repeated key";
        }
        if (!take(c, ',')) {
            if (!take(c, '}'))
                return "the header is damaged";
            break;
        }
    }
    skip_blanks(c);
    if (c->at != c->end)
        return "something follows the header's dictionary";
    return have_dtype && have_order && have_shape ? NULL : "the header lacks a key";
}

/* Checks prefix, header and length. *ret_start is where the data begins. */
static int examine(const struct dr_map *m, const char *path, struct npy *a, size_t *ret_start,
                   struct dr_error *err)
{
    if (m->size < PREFIX || memcmp(m->data, magic, 6))
        return dr_fail(err, DR_EFORMAT, "%s: not a .npy file", path);
    if (memcmp(m->data, magic, sizeof magic))
        return dr_fail(err, DR_EUNSUPPORTED, "%s: .npy version %d.%d, expected 1.0", path,
                       m->data[6], m->data[7]);
    size_t header = (size_t)m->data[8] | (size_t)m->data[9] << 8;
    if (header > m->size - PREFIX)
        return dr_fail(err, DR_EFORMAT, "%s: ends inside its header", path);
    struct cursor c = { (const char *)m->data + PREFIX, (const char *)m->data + PREFIX + header };
    const char *wrong = parse_header(&c, a);
    if (wrong)
        return dr_fail(err, DR_EFORMAT, "%s: %s", path, wrong);
    a->count = 1;
    int64_t bytes = 0;
    bool fits = true;
    for (int i = 0; i < a->ndim && fits; i++)
        fits = dr_mul_i64(a->count, a->shape[i], &a->count);
    fits = fits && dr_mul_i64(a->count, (int64_t)npy_size_of(a->dtype), &bytes);
    if (!fits || bytes > largest)
        return dr_fail(err, DR_ELIMIT, "%s: the header announces more than 8 GiB", path);
    size_t have = m->size - PREFIX - header;
    if ((size_t)bytes != have)
        return dr_fail(err, DR_EFORMAT, "%s: %zu bytes of data, the header announces %lld", path,
                       have, (long long)bytes);
    *ret_start = PREFIX + header;
    return 0;
}

int npy_load(const char *path, struct npy *ret_array, struct dr_error *err)
{
    struct dr_map m;
    struct npy a;
    memset(&a, 0, sizeof a);
    size_t start = 0;
    int r = dr_map_open(&m, path, err);
    if (r)
        return r;
    r = examine(&m, path, &a, &start, err);
    if (r)
        goto out;
    a.data = dr_malloc(DR_TAG_FILE, m.size - start);
    if (!a.data) {
        r = dr_fail(err, DR_ENOMEM, "%s: no memory for %zu bytes", path, m.size - start);
        goto out;
    }
    memcpy(a.data, m.data + start, m.size - start);
    *ret_array = a;
out:
    dr_map_close(&m);
    return r;
}

void npy_free(struct npy *a)
{
    if (!a)
        return;
    dr_free(a->data);
    a->data = NULL;
}

/* The prefix and the header, padded with blanks and closed by a line end. */
static int make_header(enum npy_dtype dtype, const int64_t *shape, int ndim, struct buf *head)
{
    const char *descr = "";
    for (int i = 0; i < DTYPES; i++) {
        if (dtypes[i].dtype == dtype)
            descr = dtypes[i].descr;
    }
    int r = buf_append(head, magic, sizeof magic);
    r = r ? r : buf_append(head, "\0\0", 2);
    r = r ? r : buf_printf(head, "{'descr': '%s', 'fortran_order': False, 'shape': (", descr);
    for (int i = 0; i < ndim && !r; i++)
        r = buf_printf(head,
                       i + 1 < ndim ? "%lld, "
                       : ndim == 1  ? "%lld,"
                                    : "%lld",
                       (long long)shape[i]);
    r = r ? r : buf_puts(head, "), }");
    while (!r && (head->len + 1) % ALIGN)
        r = buf_putc(head, ' ');
    r = r ? r : buf_putc(head, '\n');
    if (r)
        return r;
    size_t n = head->len - PREFIX;
    head->data[8] = (char)(n & 0xff);
    head->data[9] = (char)(n >> 8);
    return 0;
}

int npy_save(const char *path, enum npy_dtype dtype, const int64_t *shape, int ndim,
             const void *data, struct dr_error *err)
{
    if (!npy_size_of(dtype) || ndim < 0 || ndim > NPY_MAX_DIMS)
        return dr_fail(err, DR_EINVAL, "%s: cannot save %d dimensions of type '%c'", path, ndim,
                       dtype);
    int64_t bytes = (int64_t)npy_size_of(dtype);
    for (int i = 0; i < ndim; i++) {
        if (shape[i] < 0 || !dr_mul_i64(bytes, shape[i], &bytes))
            return dr_fail(err, DR_EINVAL, "%s: bad size %lld of dimension %d", path,
                           (long long)shape[i], i);
    }
    struct buf head;
    buf_init(&head, DR_TAG_FILE, 4096);
    int r = make_header(dtype, shape, ndim, &head);
    if (r) {
        dr_fail(err, r, "%s: no memory for the header", path);
    } else {
        struct dr_piece pieces[] = { { head.data, head.len }, { data, (size_t)bytes } };
        r = dr_write_pieces(path, pieces, 2, err);
    }
    buf_free(&head);
    return r;
}
