/* quantize.c - see quantize.h. */
#include "models/quantize.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backend/ops/int8.h"
#include "base/alloc.h"
#include "models/checkpoint.h"
#include "models/formats/safetensors_write.h"

enum { CHUNK = 4 << 20, DEPTH = 4 };

struct job {
    const struct checkpoint *c;
    const struct quantize_choice *choice;
    const atomic_int *stop;
    struct dr_error *err;
};

static int stopped(const struct job *j)
{
    return j->stop && atomic_load(j->stop) ? dr_fail(j->err, DR_ECANCELED, "stopped") : 0;
}

static int no_memory(const struct job *j)
{
    return dr_fail(j->err, DR_ENOMEM, "out of memory for a conversion");
}

/* ---- one file of weights ---- */

/* A file under way: items are its tensors in their order, then the scales of the chosen ones. */
struct rewrite {
    const struct safetensors *st;
    struct st_item *items;
    size_t *scale_of; /* [tensors] item with the scales; 0: not chosen */
    size_t n;
    struct arena names;
    struct st_out out;
};

static bool chosen(const struct job *j, const struct safetensors *st, const struct st_tensor *t)
{
    return j->choice->chosen(j->choice->ctx, st_data(st, t));
}

static int list_items(const struct job *j, struct rewrite *w)
{
    const struct st_header *h = &w->st->header;
    w->items = dr_malloc(DR_TAG_FILE, (2 * h->n_tensors + 1) * sizeof *w->items);
    w->scale_of = dr_calloc(DR_TAG_FILE, h->n_tensors + 1, sizeof *w->scale_of);
    if (!w->items || !w->scale_of)
        return no_memory(j);
    for (size_t i = 0; i < h->n_tensors; i++) {
        const struct st_tensor *t = &h->tensors[i];
        enum dtype dtype = chosen(j, w->st, t) ? DTYPE_I8 : t->dtype;
        w->items[w->n++] = (struct st_item){ t->name, dtype, t->shape };
    }
    for (size_t i = 0; i < h->n_tensors; i++) {
        const struct st_tensor *t = &h->tensors[i];
        if (!chosen(j, w->st, t))
            continue;
        const char *name = arena_printf(&w->names, "%s_scale", t->name);
        if (!name)
            return no_memory(j);
        w->scale_of[i] = w->n;
        w->items[w->n++] = (struct st_item){ name, DTYPE_F32, SHAPE1(t->shape.d[0]) };
    }
    return 0;
}

static int open_out(const struct job *j, struct rewrite *w, const char *path)
{
    const struct st_header *h = &w->st->header;
    struct st_metadata *m = dr_malloc(DR_TAG_FILE, (h->n_metadata + 1) * sizeof *m);
    size_t n = 0;
    if (!m)
        return no_memory(j);
    for (size_t i = 0; i < h->n_metadata; i++)
        if (strcmp(h->metadata[i].key, "darkroom.int8"))
            m[n++] = h->metadata[i];
    if (w->n > h->n_tensors)
        m[n++] = (struct st_metadata){ "darkroom.int8", j->choice->note };
    int r = st_out_open(path, w->items, w->n, m, n, &w->out, j->err);
    dr_free(m);
    return r;
}

static int put_plain(const struct job *j, struct rewrite *w, size_t i)
{
    const struct st_tensor *t = &w->st->header.tensors[i];
    const char *bytes = st_data(w->st, t);
    uint64_t size = t->end - t->begin;
    int r = 0;
    for (uint64_t at = 0; at < size && !r; at += CHUNK) {
        size_t n = size - at < CHUNK ? (size_t)(size - at) : CHUNK;
        r = stopped(j);
        if (!r)
            r = st_out_put(&w->out, i, at, bytes + at, n, j->err);
    }
    return r;
}

static int put_int8(const struct job *j, struct rewrite *w, size_t i)
{
    const struct st_tensor *t = &w->st->header.tensors[i];
    struct weight_source src = checkpoint_source(w->st, t, 0, 1);
    int64_t count = 0, rows = t->shape.d[0];
    shape_count(&t->shape, &count);
    int8_t *numbers = dr_malloc(DR_TAG_WEIGHTS, (size_t)count);
    float *scales = dr_malloc(DR_TAG_WEIGHTS, (size_t)rows * sizeof *scales);
    int r = numbers && scales ? int8_source(&src, numbers, scales, j->stop, j->err) : no_memory(j);
    if (!r)
        r = st_out_put(&w->out, i, 0, numbers, (size_t)count, j->err);
    if (!r)
        r = st_out_put(&w->out, w->scale_of[i], 0, scales, (size_t)rows * sizeof *scales, j->err);
    dr_free(numbers);
    dr_free(scales);
    return r;
}

static int rewrite_file(const struct job *j, const struct safetensors *st, const char *path)
{
    struct rewrite w = { .st = st, .out = { .fd = -1 } };
    arena_init(&w.names, DR_TAG_FILE, 64 << 10, 0);
    int r = list_items(j, &w);
    if (!r)
        r = open_out(j, &w, path);
    for (size_t i = 0; i < st->header.n_tensors && !r; i++)
        r = w.scale_of[i] ? put_int8(j, &w, i) : put_plain(j, &w, i);
    if (!r)
        r = st_out_close(&w.out, j->err);
    st_out_release(&w.out);
    arena_free(&w.names);
    dr_free(w.items);
    dr_free(w.scale_of);
    return r;
}

/* ---- the other files of a folder ---- */

static int copy_file(const struct job *j, const char *from, const char *to)
{
    struct dr_map map;
    FILE *f = NULL;
    int r = dr_map_open(&map, from, j->err);
    if (!r && !(f = fopen(to, "wbxe")))
        r = dr_fail_errno(j->err, to, "create");
    for (size_t at = 0; !r && at < map.size; at += CHUNK) {
        size_t n = map.size - at < CHUNK ? map.size - at : CHUNK;
        r = stopped(j);
        if (!r && fwrite(map.data + at, 1, n, f) != n)
            r = dr_fail_errno(j->err, to, "write");
    }
    if (!r && (fflush(f) || fsync(fileno(f))))
        r = dr_fail_errno(j->err, to, "write");
    if (f && fclose(f) && !r)
        r = dr_fail_errno(j->err, to, "write");
    dr_map_close(&map);
    return r;
}

static const struct safetensors *used_file(const struct job *j, const char *relative)
{
    for (size_t i = 0; i < j->c->n_files; i++)
        if (!strcmp(j->c->file_names[i], relative))
            return j->c->files[i];
    return NULL;
}

/* Other variants and formats of the weights, which the checkpoint does not use. */
static bool is_weights(const char *name)
{
    static const char *const extensions[] = { ".safetensors", ".bin",  ".ckpt",
                                              ".pt",          ".onnx", ".msgpack" };
    for (size_t i = 0; i < sizeof extensions / sizeof *extensions; i++)
        if (!strcmp(dr_path_extension(name), extensions[i]))
            return true;
    return false;
}

static int copy_folder(const struct job *j, const char *relative, const char *to, int depth);

static int copy_entry(const struct job *j, const char *relative, const char *to, int depth)
{
    char from[DR_PATH_MAX], path[DR_PATH_MAX];
    int r = dr_path_join(from, sizeof from, j->c->path, relative);
    if (!r)
        r = dr_path_join(path, sizeof path, to, relative);
    if (r)
        return dr_fail(j->err, r, "%s: the path is too long", relative);
    const struct safetensors *st = used_file(j, relative);
    if (st)
        return rewrite_file(j, st, path);
    if (!strcasecmp(relative, QUANTIZE_CARD))
        return 0;
    if (dr_is_dir(from) && depth < DEPTH)
        return mkdir(path, 0777) ? dr_fail_errno(j->err, path, "make the folder")
                                 : copy_folder(j, relative, to, depth + 1);
    return dr_is_file(from) && !is_weights(relative) ? copy_file(j, from, path) : 0;
}

/* Hidden entries stay behind: they are some program's own. */
static int copy_folder(const struct job *j, const char *relative, const char *to, int depth)
{
    char from[DR_PATH_MAX], name[DR_PATH_MAX];
    int r = dr_path_join(from, sizeof from, j->c->path, relative);
    DIR *dir = r ? NULL : opendir(from);
    if (!dir)
        return dr_fail_errno(j->err, from, "read the folder");
    struct dirent *entry;
    while (!r && (entry = readdir(dir))) {
        if (entry->d_name[0] == '.')
            continue;
        r = dr_path_join(name, sizeof name, relative, entry->d_name);
        r = r ? dr_fail(j->err, r, "%s: the path is too long", entry->d_name)
              : copy_entry(j, name, to, depth);
    }
    closedir(dir);
    return r;
}

/* ---- the whole ---- */

static int make_temporary(const struct job *j, const char *path, char dst[DR_PATH_MAX])
{
    int n = snprintf(dst, DR_PATH_MAX, "%s.XXXXXX", path);
    if (n < 0 || n >= DR_PATH_MAX)
        return dr_fail(j->err, DR_ELIMIT, "%s: the path is too long", path);
    if (!mkdtemp(dst))
        return dr_fail_errno(j->err, path, "make a folder beside");
    if (chmod(dst, 0755))
        return dr_fail_errno(j->err, dst, "open to readers");
    if (j->c->folder)
        return 0;
    if (rmdir(dst)) /* only its name was wanted */
        return dr_fail_errno(j->err, dst, "remove");
    return 0;
}

int quantize_write(const struct checkpoint *c, const struct quantize_choice *choice,
                   const char *path, char ret_temporary[DR_PATH_MAX], const atomic_int *stop,
                   struct dr_error *err)
{
    struct job j = { c, choice, stop, err };
    struct stat st;
    if (!lstat(path, &st))
        return dr_fail(err, DR_EINVAL, "%s: exists already", path);
    int r = make_temporary(&j, path, ret_temporary);
    if (r)
        return r;
    r = c->folder ? copy_folder(&j, "", ret_temporary, 0)
                  : rewrite_file(&j, c->files[0], ret_temporary);
    if (!r)
        r = checkpoint_check(c, err);
    if (r)
        quantize_abandon(ret_temporary);
    return r;
}

int quantize_commit(const char *temporary, const char *path, struct dr_error *err)
{
    struct stat st;
    int r = renameat2(AT_FDCWD, temporary, AT_FDCWD, path, RENAME_NOREPLACE);
    if (r && (errno == EINVAL || errno == ENOSYS) && lstat(path, &st))
        r = rename(temporary, path);
    return r ? dr_fail_errno(err, path, "give the conversion the name") : 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    (void)remove(path);
    return 0;
}

void quantize_abandon(const char *temporary)
{
    nftw(temporary, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}
