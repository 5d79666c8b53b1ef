/* npy.c - see npy.h. Reference: numpy's NEP 1 ("A Simple File Format for NumPy Arrays"). */
#include "base/npy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/checked.h"
#include "base/fs.h"

/* magic, version, header length; the data begins at a multiple; bytes read at a time */
enum { PREFIX = 10, ALIGN = 64, PIECE = 1 << 20 };

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
                return "the element type is not one of <f4 <f8 <i8 <i4 |u1";
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
        return "data after the header's dictionary";
    return have_dtype && have_order && have_shape ? NULL : "the header lacks a key";
}

/* Reads exactly n bytes from `at` on. A file that ends before them was cut. */
static int read_at(const struct npy_file *f, void *dst, size_t n, int64_t at, struct dr_error *err)
{
    for (size_t done = 0; done < n;) {
        ssize_t got = pread(f->fd, (char *)dst + done, n - done, (off_t)(at + (int64_t)done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return dr_fail_errno(err, f->path, "read");
        if (!got)
            return dr_fail(err, DR_EIO, "%s: truncated while it was read", f->path);
        done += (size_t)got;
    }
    return 0;
}

/* Element count and bytes of the data, which must be what the file has behind its header. */
static int check_length(struct npy_file *f, struct dr_error *err)
{
    struct npy *a = &f->array;
    int64_t have = f->state.st_size - f->start, bytes = (int64_t)npy_size_of(a->dtype);
    bool fits = true;
    a->count = 1;
    for (int i = 0; i < a->ndim && fits; i++) /* as npy_save does: a 0 does not save a huge size */
        fits = dr_mul_i64(a->count, a->shape[i], &a->count) &&
               dr_mul_i64(bytes, a->shape[i], &bytes);
    if (!fits || bytes > largest)
        return dr_fail(err, DR_ELIMIT, "%s: the header announces more than 8 GiB", f->path);
    if (bytes != have)
        return dr_fail(err, DR_EFORMAT, "%s: %lld bytes of data, the header announces %lld",
                       f->path, (long long)have, (long long)bytes);
    return 0;
}

static int read_header(struct npy_file *f, struct dr_error *err)
{
    uint8_t prefix[PREFIX];
    int64_t size = f->state.st_size;
    if (size < PREFIX)
        return dr_fail(err, DR_EFORMAT, "%s: not a .npy file", f->path);
    int r = read_at(f, prefix, sizeof prefix, 0, err);
    if (r)
        return r;
    if (memcmp(prefix, magic, 6))
        return dr_fail(err, DR_EFORMAT, "%s: not a .npy file", f->path);
    if (memcmp(prefix, magic, sizeof magic))
        return dr_fail(err, DR_EUNSUPPORTED, "%s: .npy version %d.%d, expected 1.0", f->path,
                       prefix[6], prefix[7]);
    size_t header = (size_t)prefix[8] | (size_t)prefix[9] << 8;
    if ((int64_t)header > size - PREFIX)
        return dr_fail(err, DR_EFORMAT, "%s: ends inside its header", f->path);
    char *text = dr_malloc(DR_TAG_FILE, header + 1);
    if (!text)
        return dr_fail(err, DR_ENOMEM, "%s: out of memory for its header", f->path);
    r = read_at(f, text, header, PREFIX, err);
    struct cursor c = { text, text + header };
    const char *wrong = r ? NULL : parse_header(&c, &f->array);
    if (wrong)
        r = dr_fail(err, DR_EFORMAT, "%s: %s", f->path, wrong);
    dr_free(text);
    f->start = PREFIX + (int64_t)header;
    return r;
}

int npy_open(int fd, const char *path, struct npy_file *ret, struct dr_error *err)
{
    struct npy_file f = { .fd = fd, .path = path };
    int r = 0;
    if (fstat(fd, &f.state))
        r = dr_fail_errno(err, path, "examine");
    else if (!S_ISREG(f.state.st_mode))
        r = dr_fail(err, DR_EINVAL, "%s: %s, expected a file", path,
                    S_ISDIR(f.state.st_mode) ? "a folder" : "not a regular file");
    if (!r)
        r = read_header(&f, err);
    if (!r)
        r = check_length(&f, err);
    if (r)
        npy_close(&f);
    *ret = f;
    return r;
}

void npy_close(struct npy_file *f)
{
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
}

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

int npy_read(const struct npy_file *f, void *data, const atomic_int *stop, struct dr_error *err)
{
    int64_t bytes = f->array.count * (int64_t)npy_size_of(f->array.dtype);
    struct stat now;
    int r = 0;
    for (int64_t at = 0; at < bytes && !r; at += PIECE) {
        size_t n = bytes - at < PIECE ? (size_t)(bytes - at) : PIECE;
        r = stop && atomic_load(stop) ? dr_fail(err, DR_ECANCELED, "cancelled")
                                      : read_at(f, (char *)data + at, n, f->start + at, err);
    }
    if (!r && fstat(f->fd, &now))
        r = dr_fail_errno(err, f->path, "examine");
    if (!r && (now.st_size != f->state.st_size || !same_time(now.st_mtim, f->state.st_mtim)))
        r = dr_fail(err, DR_EIO, "%s: changed while it was read", f->path);
    return r;
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

/* Header and bytes of an array. The caller frees `head` in any case. */
static int make_array(const char *path, enum npy_dtype dtype, const int64_t *shape, int ndim,
                      const void *data, struct buf *head, struct dr_piece ret_pieces[2],
                      struct dr_error *err)
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
    int r = make_header(dtype, shape, ndim, head);
    if (r)
        return dr_fail(err, r, "%s: out of memory for the header", path);
    ret_pieces[0] = (struct dr_piece){ head->data, head->len };
    ret_pieces[1] = (struct dr_piece){ data, (size_t)bytes };
    return 0;
}

int npy_create(int folder, const char *path, enum npy_dtype dtype, const int64_t *shape, int ndim,
               const void *data, struct dr_error *err)
{
    struct dr_piece pieces[2];
    struct buf head;
    buf_init(&head, DR_TAG_FILE, 4096);
    int r = make_array(path, dtype, shape, ndim, data, &head, pieces, err);
    if (!r)
        r = dr_create_file(folder, path, pieces, 2, false, err);
    buf_free(&head);
    return r;
}
