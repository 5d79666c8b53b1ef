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

enum { CHUNK = 4 << 20, PIECE = 256 << 10 };

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

static int copy_bytes(const struct job *j, int fd, const char *from, const char *to, FILE *f)
{
    char *piece = dr_malloc(DR_TAG_FILE, PIECE);
    int r = piece ? 0 : no_memory(j);
    for (off_t at = 0; !r;) {
        ssize_t n = pread(fd, piece, PIECE, at);
        if (n < 0 && errno == EINTR)
            continue;
        r = n < 0 ? dr_fail_errno(j->err, from, "read") : stopped(j);
        if (r || !n)
            break;
        if (fwrite(piece, 1, (size_t)n, f) != (size_t)n)
            r = dr_fail_errno(j->err, to, "write");
        at += n;
    }
    dr_free(piece);
    return r;
}

/* What is read from a descriptor, which nobody can cut under a map. */
static int copy_file(const struct job *j, int fd, const char *from, const char *to)
{
    FILE *f = fopen(to, "wbxe");
    if (!f)
        return dr_fail_errno(j->err, to, "create");
    int r = copy_bytes(j, fd, from, to, f);
    if (!r && (fflush(f) || fsync(fileno(f))))
        r = dr_fail_errno(j->err, to, "write");
    if (fclose(f) && !r)
        r = dr_fail_errno(j->err, to, "write");
    return r;
}

static const struct safetensors *used_file(const struct job *j, const char *relative)
{
    for (size_t i = 0; i < j->c->n_files; i++)
        if (!strcmp(j->c->file_names[i], relative))
            return j->c->files[i];
    return NULL;
}

/* "TO/RELATIVE", its folder made. */
static int place_of(const struct job *j, const char *to, const char *relative,
                    char dst[DR_PATH_MAX])
{
    int r = dr_path_join(dst, DR_PATH_MAX, to, relative);
    if (r)
        return dr_fail(j->err, r, "%s: the path is too long", relative);
    char *slash = strrchr(dst, '/');
    *slash = '\0';
    r = dr_mkdirs(dst, j->err);
    *slash = '/';
    return r;
}

static int copy_member(const struct job *j, const struct model_file *m, const char *to)
{
    char path[DR_PATH_MAX];
    int r = place_of(j, to, m->name, path);
    const struct safetensors *st = used_file(j, m->name);
    if (r)
        return r;
    return st ? rewrite_file(j, st, path) : copy_file(j, m->fd, m->path, path);
}

static bool is_licence(const char *name)
{
    static const char *const names[] = { "LICENSE", "LICENCE", "COPYING", "NOTICE" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strncasecmp(name, names[i], strlen(names[i])))
            return true;
    return false;
}

static int copy_licence(const struct job *j, const char *name, const char *to)
{
    char path[DR_PATH_MAX];
    struct stat st;
    int r = place_of(j, to, name, path);
    if (r)
        return r;
    int fd = model_files_open_other(j->c->model, name, O_RDONLY);
    if (fd < 0)
        return model_files_fail_open(j->c->model, name, j->err);
    if (!fstat(fd, &st) && S_ISREG(st.st_mode))
        r = copy_file(j, fd, name, path);
    close(fd);
    return r;
}

/* A licence goes with every copy. It lies beside model_index.json. */
static int copy_licences(const struct job *j, const char *to)
{
    int fd = model_files_open_other(j->c->model, ".", O_RDONLY | O_DIRECTORY), r = 0;
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        r = dr_fail_errno(j->err, j->c->path, "read the folder");
        if (fd >= 0)
            close(fd);
        return r;
    }
    for (struct dirent *entry; !r && (entry = readdir(dir));)
        if (is_licence(entry->d_name))
            r = copy_licence(j, entry->d_name, to);
    closedir(dir);
    return r;
}

static int copy_folder(const struct job *j, const char *to)
{
    const struct model_file *m;
    int r = 0;
    for (size_t i = 0; !r && (m = model_files_at(j->c->model, i)); i++)
        if (m->kind == MODEL_FILE_PRESENT)
            r = copy_member(j, m, to);
    return r ? r : copy_licences(j, to);
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
    r = c->folder ? copy_folder(&j, ret_temporary) : rewrite_file(&j, c->files[0], ret_temporary);
    if (!r && !checkpoint_current(c))
        r = dr_fail(err, DR_EIO, "%s: was changed while it was copied", c->path);
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
