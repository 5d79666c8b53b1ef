/* torch_file.c - see torch_file.h. The machine is pickle.c, the archive zip_stored.c. */
#include "models/formats/torch_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/checked.h"
#include "base/utf8.h"
#include "models/formats/pickle.h"
#include "models/formats/safetensors.h"
#include "models/formats/zip_stored.h"

enum { DICTIONARIES_DEEP = 4, ENOUGH_TIMES = 4 };

struct reading {
    const uint8_t *bytes;
    size_t n;
    const char *what;
    struct dr_error *err;
    struct zip_file *files;
    size_t n_files;
    char folder[ST_NAME_MAX]; /* of data.pkl in the archive, with its slash */
    struct pickle pickle;
    size_t visited;
    uint64_t total; /* bytes of all tensors */
    struct torch_file *f;
};

static const struct pickle_value *value_of(const struct reading *d, uint32_t i)
{
    return &d->pickle.values[i];
}

/* Member i of a tuple. */
static const struct pickle_value *member(const struct reading *d, const struct pickle_value *t,
                                         uint32_t i)
{
    return value_of(d, d->pickle.items[t->tuple.first + i]);
}

static bool is_text(const struct pickle_value *v, const char *text)
{
    return v->kind == PICKLE_TEXT && v->text.n == strlen(text) &&
           !memcmp(v->text.bytes, text, v->text.n);
}

/* ---- the archive ---- */

static const struct zip_file *find_file(const struct reading *d, const char *name, size_t n)
{
    size_t folder = strlen(d->folder);
    for (size_t i = 0; i < d->n_files; i++) {
        const struct zip_file *z = &d->files[i];
        if (z->name_n == folder + n && !memcmp(z->name, d->folder, folder) &&
            !memcmp(z->name + folder, name, n))
            return z;
    }
    return NULL;
}

/* The one "NAME/data.pkl", whose folder holds the rest. */
static int find_pickle(struct reading *d, const struct zip_file **ret)
{
    static const char name[] = "data.pkl";
    size_t tail = sizeof name - 1;
    *ret = NULL;
    for (size_t i = 0; i < d->n_files; i++) {
        const struct zip_file *z = &d->files[i];
        if (z->name_n < tail || memcmp(z->name + z->name_n - tail, name, tail) != 0 ||
            (z->name_n > tail && z->name[z->name_n - tail - 1] != '/'))
            continue;
        if (*ret || z->name_n - tail >= sizeof d->folder)
            return dr_fail(d->err, DR_EFORMAT, "%s: more than one data.pkl in it", d->what);
        memcpy(d->folder, z->name, z->name_n - tail);
        *ret = z;
    }
    if (!*ret)
        return dr_fail(d->err, DR_EUNSUPPORTED,
                       "%s: a ZIP archive without a data.pkl: not a file of torch.save", d->what);
    if ((*ret)->size > ST_HEADER_MAX)
        return dr_fail(d->err, DR_ELIMIT, "%s: a pickle of %llu bytes, at most %d accepted",
                       d->what, (unsigned long long)(*ret)->size, ST_HEADER_MAX);
    return 0;
}

static int check_byte_order(const struct reading *d)
{
    const struct zip_file *z = find_file(d, "byteorder", strlen("byteorder"));
    if (!z || (z->size == 6 && !memcmp(d->bytes + z->at, "little", 6)))
        return 0;
    return dr_fail(d->err, DR_EUNSUPPORTED, "%s: its numbers are not little-endian", d->what);
}

/* ---- tensors ---- */

static int bad(const struct reading *d, const char *name, const char *words)
{
    return dr_fail(d->err, DR_EFORMAT, "%s: tensor '%.100s': %s", d->what, name, words);
}

/* ("storage", type, key, device, elements): its bytes in the archive. */
static int find_storage(const struct reading *d, const char *name, const struct pickle_value *s,
                        enum dtype *ret_dtype, const struct zip_file **ret, int64_t *ret_count)
{
    char path[ST_NAME_MAX];
    const struct pickle_value *type = member(d, s, 1), *key = member(d, s, 2);
    const struct pickle_value *count = member(d, s, 4);
    int64_t bytes;
    if (!is_text(member(d, s, 0), "storage") || type->kind != PICKLE_STORAGE_TYPE ||
        key->kind != PICKLE_TEXT || key->text.n > 64 || count->kind != PICKLE_INT)
        return bad(d, name, "a storage that is not named by its type, key and size");
    int n = snprintf(path, sizeof path, "data/%.*s", (int)key->text.n, key->text.bytes);
    *ret = find_file(d, path, (size_t)n);
    *ret_dtype = type->dtype;
    *ret_count = count->integer;
    if (!*ret)
        return bad(d, name, "its storage is not in the archive");
    if (*ret_count < 0 || !dr_mul_i64(*ret_count, (int64_t)dtype_size(*ret_dtype), &bytes) ||
        (uint64_t)bytes != (*ret)->size)
        return bad(d, name, "its storage has another size than the pickle says");
    return 0;
}

static int read_dimensions(const struct reading *d, const struct pickle_value *t, int64_t *ret,
                           int *ret_n)
{
    if (t->kind != PICKLE_TUPLE || t->tuple.n > SHAPE_MAX)
        return -1;
    for (uint32_t i = 0; i < t->tuple.n; i++) {
        const struct pickle_value *v = member(d, t, i);
        if (v->kind != PICKLE_INT || v->integer < 0)
            return -1;
        ret[i] = v->integer;
    }
    *ret_n = (int)t->tuple.n;
    return 0;
}

/* The last element that the tensor reaches lies in its storage, and it has no more elements than
 * that, so that no small file describes a huge one. */
static int check_reach(const struct reading *d, const struct torch_tensor *t, int64_t offset,
                       int64_t stored)
{
    int64_t count, last = offset, step;
    if (!shape_count(&t->shape, &count))
        return bad(d, t->name, "its shape is larger than any file");
    if (offset < 0 || offset > stored)
        return bad(d, t->name, "begins outside of its storage");
    if (!count)
        return 0;
    for (int i = 0; i < t->shape.n; i++)
        if (!dr_mul_i64(t->shape.d[i] - 1, t->stride[i], &step) || !dr_add_i64(last, step, &last))
            return bad(d, t->name, "reaches outside of its storage");
    if (last >= stored)
        return bad(d, t->name, "reaches outside of its storage");
    if (count > stored - offset)
        return bad(d, t->name, "has more elements than its storage");
    return 0;
}

/* (storage, offset, shape, strides, ...) */
static int read_tensor(struct reading *d, const char *name, const struct pickle_value *v,
                       struct torch_tensor *t)
{
    const struct pickle_value *storage = member(d, v, 0), *offset = member(d, v, 1);
    const struct zip_file *z;
    int64_t stored, count = 0, bytes = 0;
    int n_strides = 0;
    *t = (struct torch_tensor){ .name = name };
    if (storage->kind != PICKLE_STORAGE || offset->kind != PICKLE_INT)
        return bad(d, name, "not made of a storage and a place in it");
    int r = find_storage(d, name, storage, &t->dtype, &z, &stored);
    if (r)
        return r;
    if (read_dimensions(d, member(d, v, 2), t->shape.d, &t->shape.n) ||
        read_dimensions(d, member(d, v, 3), t->stride, &n_strides) || n_strides != t->shape.n)
        return bad(d, name, "a shape or strides that are none");
    r = check_reach(d, t, offset->integer, stored);
    if (r)
        return r;
    t->data = d->bytes + z->at + (uint64_t)offset->integer * dtype_size(t->dtype);
    shape_count(&t->shape, &count);
    dtype_bytes(t->dtype, count, &bytes);
    d->total += (uint64_t)bytes;
    if (d->total / ENOUGH_TIMES > d->n)
        return dr_fail(d->err, DR_ELIMIT, "%s: its tensors share storages more than %d times over",
                       d->what, ENOUGH_TIMES);
    return 0;
}

static int add_tensor(struct reading *d, const char *name, const struct pickle_value *v)
{
    struct torch_file *f = d->f;
    if (f->n == ST_TENSORS_MAX)
        return dr_fail(d->err, DR_ELIMIT, "%s: more than %d tensors", d->what, ST_TENSORS_MAX);
    if (f->n == f->cap) {
        size_t cap = f->cap ? 2 * f->cap : 256;
        void *p = dr_realloc(DR_TAG_FILE, f->tensors, cap * sizeof *f->tensors);
        if (!p)
            return dr_fail(d->err, DR_ENOMEM, "%s: out of memory for its tensors", d->what);
        f->tensors = p;
        f->cap = cap;
    }
    int r = read_tensor(d, name, v, &f->tensors[f->n]);
    f->n += !r;
    return r;
}

/* ---- dictionaries ---- */

/* PREFIX.KEY, or KEY. */
static int full_name(struct reading *d, const char *prefix, const struct pickle_value *key,
                     const char **ret)
{
    bool plain = key->kind == PICKLE_TEXT && key->text.n <= ST_NAME_MAX &&
                 utf8_valid_prefix(key->text.bytes, key->text.n) == key->text.n &&
                 !memchr(key->text.bytes, 0, key->text.n);
    if (!plain)
        return dr_fail(d->err, DR_EFORMAT, "%s: a tensor whose name is no text of up to %d bytes",
                       d->what, ST_NAME_MAX);
    *ret = arena_printf(&d->f->names, "%s%s%.*s", prefix, *prefix ? "." : "", (int)key->text.n,
                        key->text.bytes);
    if (!*ret)
        return dr_fail(d->err, DR_ENOMEM, "%s: out of memory for names", d->what);
    return strlen(*ret) <= ST_NAME_MAX
               ? 0
               : dr_fail(d->err, DR_ELIMIT, "%s: a name of more than %d bytes", d->what,
                         ST_NAME_MAX);
}

/* Recurses no deeper than DICTIONARIES_DEEP, and looks at no more pairs than there may be values,
 * also where a dictionary contains itself. */
static int add_dictionary(struct reading *d, const char *prefix, const struct pickle_value *dict,
                          int deep)
{
    int r = 0;
    for (uint32_t at = dict->pair; !r && at; at = d->pickle.pairs[at].before) {
        const struct pickle_pair *pair = &d->pickle.pairs[at];
        const struct pickle_value *v = value_of(d, pair->value);
        const char *name = NULL;
        bool inner = v->kind == PICKLE_DICT, tensor = v->kind == PICKLE_TENSOR;
        if (++d->visited > PICKLE_VALUES || (inner && deep == DICTIONARIES_DEEP))
            return dr_fail(d->err, DR_ELIMIT, "%s: dictionaries in dictionaries beyond any need",
                           d->what);
        d->f->left_out += !inner && !tensor;
        if (!inner && !tensor)
            continue;
        r = full_name(d, prefix, value_of(d, pair->key), &name);
        if (!r)
            r = inner ? add_dictionary(d, name, v, deep + 1) : add_tensor(d, name, v);
    }
    return r;
}

/* "state_dict" in the dictionary that the file is, or that itself. */
static int add_all(struct reading *d)
{
    const struct pickle_value *root = value_of(d, d->pickle.root);
    if (root->kind != PICKLE_DICT)
        return dr_fail(d->err, DR_EUNSUPPORTED, "%s: not a dictionary of tensors", d->what);
    for (uint32_t at = root->pair; at; at = d->pickle.pairs[at].before) {
        const struct pickle_pair *pair = &d->pickle.pairs[at];
        if (is_text(value_of(d, pair->key), "state_dict") &&
            value_of(d, pair->value)->kind == PICKLE_DICT)
            return add_dictionary(d, "", value_of(d, pair->value), 1);
    }
    return add_dictionary(d, "", root, 1);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct torch_tensor *)a)->name, ((const struct torch_tensor *)b)->name);
}

static int sort(const struct reading *d)
{
    struct torch_file *f = d->f;
    if (!f->n)
        return dr_fail(d->err, DR_EUNSUPPORTED, "%s: has no tensors", d->what);
    qsort(f->tensors, f->n, sizeof *f->tensors, by_name);
    for (size_t i = 1; i < f->n; i++)
        if (!strcmp(f->tensors[i].name, f->tensors[i - 1].name))
            return bad(d, f->tensors[i].name, "the name appears twice");
    return 0;
}

/* ---- the whole ---- */

bool torch_begins(const uint8_t *bytes, size_t n)
{
    if (n < 9 || bytes[8] == '{') /* what may be a length before JSON */
        return false;
    return !memcmp(bytes, "PK\3\4", 4) || (bytes[0] == 0x80 && bytes[1] >= 2 && bytes[1] <= 5);
}

static int read_archive(struct reading *d)
{
    const struct zip_file *pickle;
    int r = zip_stored_parse(d->bytes, d->n, d->what, &d->files, &d->n_files, d->err);
    if (!r)
        r = find_pickle(d, &pickle);
    if (!r)
        r = check_byte_order(d);
    if (!r)
        r = pickle_run(d->bytes + pickle->at, (size_t)pickle->size, d->what, &d->pickle, d->err);
    if (!r)
        r = add_all(d);
    return r ? r : sort(d);
}

int torch_parse(const uint8_t *bytes, size_t n, const char *what, struct torch_file *ret,
                struct dr_error *err)
{
    if (n < 4 || memcmp(bytes, "PK\3\4", 4) != 0)
        return dr_fail(err, DR_EUNSUPPORTED,
                       "%s: a pickle in the form before PyTorch 1.6, which is not read; load it "
                       "where you trust it and save it again",
                       what);
    struct torch_file f = { 0 };
    struct reading d = { .bytes = bytes, .n = n, .what = what, .err = err, .f = &f };
    arena_init(&f.names, DR_TAG_FILE, 64 << 10, 0);
    int r = read_archive(&d);
    pickle_free(&d.pickle);
    dr_free(d.files);
    if (r)
        torch_file_free(&f);
    else
        *ret = f;
    return r;
}

void torch_file_free(struct torch_file *f)
{
    dr_free(f->tensors);
    arena_free(&f->names);
    *f = (struct torch_file){ 0 };
}

void torch_copy(const struct torch_tensor *t, int64_t first, int64_t n, void *dst)
{
    size_t size = dtype_size(t->dtype);
    char *to = dst;
    for (int64_t i = first; i < first + n; i++, to += size) {
        int64_t rest = i, at = 0;
        for (int k = t->shape.n - 1; k >= 0; k--) {
            at += rest % t->shape.d[k] * t->stride[k];
            rest /= t->shape.d[k];
        }
        memcpy(to, t->data + (size_t)at * size, size);
    }
}
