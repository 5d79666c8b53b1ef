/* copy.c - see copy.h. */
#include "quantize/copy.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backend/ops/int8.h"
#include "base/alloc.h"
#include "base/beneath.h"
#include "models/checkpoint_impl.h"
#include "models/formats/safetensors_write.h"

enum { CHUNK = 1 << 20, LEVELS = 256 };

/* A file or folder of the copy. */
struct quantize_made {
    char *name; /* below the copy; "" is the copy itself */
    struct stat st;
};

struct copying {
    struct quantize_copy *k;
    const struct checkpoint *c;
    const struct quantize_choice *choice;
    const atomic_int *stop;
    struct dr_error *err;
};

static int stopped(const struct copying *j)
{
    return j->stop && atomic_load(j->stop) ? dr_fail(j->err, DR_ECANCELED, "stopped") : 0;
}

static int no_memory(const struct copying *j)
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

static bool chosen(const struct copying *j, const struct safetensors *st, const struct st_tensor *t)
{
    return j->choice->chosen && j->choice->chosen(j->choice->ctx, st_data(st, t));
}

static int list_items(const struct copying *j, struct rewrite *w)
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

/* Takes fd over. */
static int open_out(const struct copying *j, struct rewrite *w, int fd, const char *path)
{
    const struct st_header *h = &w->st->header;
    struct st_metadata *m = dr_malloc(DR_TAG_FILE, (h->n_metadata + 1) * sizeof *m);
    size_t n = 0;
    if (!m) {
        close(fd);
        return no_memory(j);
    }
    for (size_t i = 0; i < h->n_metadata; i++)
        if (strcmp(h->metadata[i].key, j->choice->amend ? "darkroom.merge" : "darkroom.int8"))
            m[n++] = h->metadata[i];
    if (j->choice->amend)
        m[n++] = (struct st_metadata){ "darkroom.merge", j->choice->amend_note };
    if (w->n > h->n_tensors)
        m[n++] = (struct st_metadata){ "darkroom.int8", j->choice->note };
    int r = st_out_open(fd, path, w->items, w->n, m, n, &w->out, j->err);
    dr_free(m);
    return r;
}

static int put_plain(const struct copying *j, struct rewrite *w, size_t i)
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

static int put_int8(const struct copying *j, struct rewrite *w, size_t i)
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

/* Takes fd over, a new file. */
static int rewrite_file(const struct copying *j, const struct safetensors *st, int fd,
                        const char *path)
{
    struct rewrite w = { .st = st, .out = { .fd = -1 } };
    arena_init(&w.names, DR_TAG_FILE, 64 << 10, 0);
    int r = list_items(j, &w);
    if (!r)
        r = open_out(j, &w, fd, path);
    else
        close(fd);
    for (size_t i = 0; i < st->header.n_tensors && !r; i++)
        r = w.scale_of[i] ? put_int8(j, &w, i) : put_plain(j, &w, i);
    if (!r && j->choice->amend)
        r = j->choice->amend(j->choice->amend_ctx, st, &w.out, j->err);
    if (!r)
        r = st_out_close(&w.out, j->err);
    st_out_release(&w.out);
    arena_free(&w.names);
    dr_free(w.items);
    dr_free(w.scale_of);
    return r;
}

/* ---- what the copy has made ---- */

static int remember(const struct copying *j, int fd, const char *name)
{
    struct quantize_copy *k = j->k;
    if (k->n_made == k->cap_made) {
        size_t cap = 2 * k->cap_made + 32;
        struct quantize_made *more = dr_realloc(DR_TAG_FILE, k->made, cap * sizeof *more);
        if (!more)
            return no_memory(j);
        k->made = more;
        k->cap_made = cap;
    }
    struct quantize_made *m = &k->made[k->n_made];
    m->name = dr_strdup(DR_TAG_FILE, name);
    if (!m->name)
        return no_memory(j);
    if (fstat(fd, &m->st)) {
        dr_free(m->name);
        return dr_fail_errno(j->err, name, "examine");
    }
    k->n_made++;
    return 0;
}

/* A new file `name` of the open folder `to`; relative is its name below the copy. */
static int make_file(const struct copying *j, int to, const char *name, const char *relative,
                     int *ret_fd)
{
    int fd = openat(to, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        return dr_fail_errno(j->err, relative, "create");
    int r = remember(j, fd, relative);
    if (r) {
        close(fd);
        unlinkat(to, name, 0);
    }
    *ret_fd = fd;
    return r;
}

static int make_folder(const struct copying *j, int to, const char *name, const char *relative,
                       int *ret_fd)
{
    if (mkdirat(to, name, 0777))
        return dr_fail_errno(j->err, relative, "make the folder");
    int fd = openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int r = fd < 0 ? dr_fail_errno(j->err, relative, "open") : remember(j, fd, relative);
    if (r && fd >= 0)
        close(fd);
    if (r)
        unlinkat(to, name, AT_REMOVEDIR);
    *ret_fd = fd;
    return r;
}

/* The folder that `name`, below the copy, lies in; -1: gone. */
static int open_parent(const struct quantize_copy *k, const char *name)
{
    char parent[DR_PATH_MAX];
    size_t n = (size_t)(dr_path_base(name) - name);
    snprintf(parent, sizeof parent, "%.*s", (int)n, name);
    return dr_open_beneath(k->own, n ? parent : ".", O_PATH | O_DIRECTORY, 0);
}

static void remove_made(struct quantize_copy *k)
{
    for (size_t i = k->n_made; i-- > 0;) {
        const struct quantize_made *m = &k->made[i];
        int folder = *m->name ? open_parent(k, m->name) : k->folder;
        if (folder >= 0)
            dr_unlink_same(folder, *m->name ? dr_path_base(m->name) : k->temporary, &m->st);
        if (*m->name && folder >= 0)
            close(folder);
    }
}

/* ---- the other files of a folder ---- */

/* The folder of the copy that `name` will lie in, made if it is missing; to be closed. */
static int place_of(const struct copying *j, const char *name, int *ret_fd)
{
    char part[DR_PATH_MAX];
    int to = openat(j->k->own, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
    if (to < 0)
        return dr_fail_errno(j->err, j->k->path, "open");
    for (const char *slash = name; !r && (slash = strchr(slash, '/')); slash++) {
        snprintf(part, sizeof part, "%.*s", (int)(slash - name), name);
        const char *base = dr_path_base(part);
        int next = openat(to, base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (next < 0 && errno == ENOENT)
            r = make_folder(j, to, base, part, &next);
        else if (next < 0)
            r = dr_fail_errno(j->err, part, "open");
        close(to);
        to = next;
    }
    *ret_fd = to;
    return r;
}

/* Where an open file or folder really lies. */
static int real_path(const struct copying *j, int fd, char dst[DR_PATH_MAX])
{
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, dst, DR_PATH_MAX - 1);
    if (n < 0)
        return dr_fail_errno(j->err, link, "read");
    dst[n] = '\0';
    return 0;
}

/* Does `path` lie directly in the folder? */
static bool lies_in(const char *path, const char *folder)
{
    size_t n = strlen(folder), base = (size_t)(dr_path_base(path) - path);
    bool top = n == 1; /* "/" */
    return !strncmp(path, folder, n) && base == n + !top && path[base - 1] == '/';
}

static bool lies_below(const char *path, const char *folder)
{
    size_t n = strlen(folder);
    return !strncmp(path, folder, n) && (n == 1 || path[n] == '/');
}

/* Is it a file beside the weights that the checkpoint uses, wherever they really lie? */
static int beside_weights(const struct copying *j, const char *path, bool *ret)
{
    char used[DR_PATH_MAX];
    *ret = false;
    for (size_t i = 0; !*ret && i < j->c->n_files; i++) {
        int r = real_path(j, j->c->files[i]->map.fd, used);
        if (r)
            return r;
        size_t n = (size_t)(dr_path_base(used) - used);
        used[n > 1 ? n - 1 : n] = '\0';
        *ret = lies_in(path, used);
    }
    return 0;
}

static int copy_bytes(const struct copying *j, int from, int to, const char *relative, int64_t size)
{
    char *piece = dr_malloc(DR_TAG_FILE, CHUNK);
    int r = piece ? 0 : no_memory(j);
    for (int64_t at = 0; !r;) {
        ssize_t n = pread(from, piece, CHUNK, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            r = dr_fail_errno(j->err, relative, "read");
        else if (at + n > size || (!n && at < size))
            r = dr_fail(j->err, DR_EIO, "%s: changed while it was copied", relative);
        if (r || !n)
            break;
        at += n;
        for (ssize_t done = 0, w; !r && done < n; done += w) {
            w = write(to, piece + done, (size_t)(n - done));
            if (w < 0 && errno == EINTR)
                w = 0;
            else if (w < 0)
                r = dr_fail_errno(j->err, relative, "write");
        }
        r = r ? r : stopped(j);
    }
    dr_free(piece);
    return r;
}

/* `from` stays the caller's, whatever its position. */
static int copy_file(const struct copying *j, int from, int fd, const char *relative)
{
    struct stat st;
    int r = fstat(from, &st) ? dr_fail_errno(j->err, relative, "examine")
                             : copy_bytes(j, from, fd, relative, st.st_size);
    if (!r && fsync(fd))
        r = dr_fail_errno(j->err, relative, "write");
    if (close(fd) && !r)
        r = dr_fail_errno(j->err, relative, "write");
    return r;
}

static const struct safetensors *used_file(const struct copying *j, const char *relative)
{
    for (size_t i = 0; i < j->c->n_files; i++)
        if (!strcmp(j->c->file_names[i], relative))
            return j->c->files[i];
    return NULL;
}

/* A new file of the copy with what `from` has, or with what becomes of weights. */
static int copy_to(const struct copying *j, int from, const char *name)
{
    const struct safetensors *st = used_file(j, name);
    int to, fd;
    int r = place_of(j, name, &to);
    if (r)
        return r;
    r = make_file(j, to, dr_path_base(name), name, &fd);
    close(to);
    if (r)
        return r;
    return st ? rewrite_file(j, st, fd, name) : copy_file(j, from, fd, name);
}

static bool is_licence(const char *name)
{
    static const char *const names[] = { "LICENSE", "LICENCE", "COPYING", "NOTICE" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strncasecmp(name, names[i], strlen(names[i])))
            return true;
    return false;
}

/* Nobody has read it, so a link may have brought anything: it must lie in the model's folder `top`
 * or beside its weights. Opened first without reading, then by that descriptor. */
static int copy_licence(const struct copying *j, int top, const char *name)
{
    char link[40], path[DR_PATH_MAX], folder[DR_PATH_MAX];
    struct stat st;
    bool ours = false;
    int at = model_files_open_other(j->c->model, name, O_PATH), r = 0;
    if (at < 0) /* a link to nowhere, or out of the models' folder */
        return 0;
    if (!fstat(at, &st) && S_ISREG(st.st_mode)) {
        r = real_path(j, at, path);
        if (!r)
            r = real_path(j, top, folder);
        ours = !r && lies_below(path, folder);
        if (!r && !ours)
            r = beside_weights(j, path, &ours);
    }
    if (!r && ours) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", at);
        int fd = open(link, O_RDONLY | O_CLOEXEC);
        r = fd < 0 ? dr_fail_errno(j->err, name, "open") : copy_to(j, fd, name);
        if (fd >= 0)
            close(fd);
    }
    close(at);
    return r;
}

/* A licence goes with every copy. It lies beside model_index.json. */
static int copy_licences(const struct copying *j)
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
            r = copy_licence(j, dirfd(dir), entry->d_name);
    closedir(dir);
    return r;
}

static int copy_folder(const struct copying *j)
{
    const struct model_file *m;
    int r = 0;
    for (size_t i = 0; !r && (m = model_files_at(j->c->model, i)); i++)
        if (m->kind == MODEL_FILE_PRESENT)
            r = copy_to(j, m->fd, m->name);
    return r ? r : copy_licences(j);
}

/* ---- the whole ---- */

static bool same(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_dev == b->st_dev;
}

/* Compares the folders above the copy's place with the model's. */
static int check_apart(const struct quantize_copy *k, int source, const char *model,
                       struct dr_error *err)
{
    struct stat own, at, below = { .st_ino = 0 };
    int fd = openat(k->folder, ".", O_PATH | O_DIRECTORY | O_CLOEXEC), r = 0;
    if (fstat(source, &own))
        r = dr_fail_errno(err, model, "examine");
    for (int i = 0; !r && i < LEVELS && fd >= 0; i++) {
        if (fstat(fd, &at))
            r = dr_fail_errno(err, k->path, "examine the folder of");
        else if (same(&at, &own))
            r = dr_fail_field(err, DR_EINVAL, "output", k->path,
                              "a path outside of the model's own folder", NULL);
        else if (same(&at, &below)) /* the top is above itself */
            break;
        below = at;
        int up = openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
        close(fd);
        fd = up;
    }
    if (fd >= 0)
        close(fd);
    return r;
}

int quantize_check(const struct quantize_copy *k, const char *model, struct dr_error *err)
{
    int fd = open(model, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOTDIR ? 0 : dr_fail_errno(err, model, "open");
    int r = check_apart(k, fd, model, err);
    close(fd);
    return r;
}

static int start_folder(const struct copying *j)
{
    struct quantize_copy *k = j->k;
    k->own = dr_make_temporary(k->folder, dr_path_base(k->path), k->temporary);
    int r = k->own < 0 ? dr_fail_errno(j->err, k->path, "make a folder beside")
                       : remember(j, k->own, "");
    if (r && *k->temporary)
        unlinkat(k->folder, k->temporary, AT_REMOVEDIR);
    return r;
}

static int start_single(const struct copying *j, int *ret_fd)
{
    struct quantize_copy *k = j->k;
    int fd = dr_open_temporary(k->folder, dr_path_base(k->path), k->temporary);
    if (fd < 0)
        return dr_fail_errno(j->err, k->path, "create");
    int r = remember(j, fd, "");
    *ret_fd = fd;
    if (!r)
        return 0;
    close(fd);
    unlinkat(k->folder, k->temporary, 0);
    return r;
}

static int write_folder(const struct copying *j)
{
    int r = start_folder(j);
    return r ? r : copy_folder(j);
}

static int write_single(const struct copying *j)
{
    int fd = -1, r = start_single(j, &fd);
    return r ? r : rewrite_file(j, j->c->files[0], fd, j->k->path);
}

int quantize_start(struct quantize_copy *k, bool folder, int *ret_fd, struct dr_error *err)
{
    struct copying j = { .k = k, .err = err };
    *ret_fd = -1;
    return folder ? start_folder(&j) : start_single(&j, ret_fd);
}

int quantize_new(struct quantize_copy *k, const char *name, int *ret_fd, struct dr_error *err)
{
    struct copying j = { .k = k, .err = err };
    int to = -1, r = place_of(&j, name, &to);
    if (!r)
        r = make_file(&j, to, dr_path_base(name), name, ret_fd);
    if (to >= 0)
        close(to);
    return r;
}

void quantize_begin(struct quantize_copy *k, int folder, const char *path)
{
    *k = (struct quantize_copy){ .folder = folder, .path = path, .own = -1 };
}

int quantize_write(struct quantize_copy *k, const struct checkpoint *c,
                   const struct quantize_choice *choice, const atomic_int *stop,
                   struct dr_error *err)
{
    struct copying j = { .k = k, .c = c, .choice = choice, .stop = stop, .err = err };
    int r = c->folder ? write_folder(&j) : write_single(&j);
    if (!r && !checkpoint_current(c))
        r = dr_fail(err, DR_EIO, "%s: was changed while it was copied", c->path);
    return r;
}

int quantize_licences(struct quantize_copy *k, const struct checkpoint *c, const atomic_int *stop,
                      struct dr_error *err)
{
    struct copying j = { .k = k, .c = c, .stop = stop, .err = err };
    return c->folder ? copy_licences(&j) : 0;
}

int quantize_add(struct quantize_copy *k, const char *name, const struct buf *text,
                 struct dr_error *err)
{
    struct copying j = { .k = k, .err = err };
    struct dr_piece piece = { text->data, text->len };
    int r = dr_create_file(k->own, name, &piece, 1, true, err);
    int fd = r ? -1 : openat(k->own, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (!r)
        r = fd < 0 ? dr_fail_errno(err, name, "open") : remember(&j, fd, name);
    if (fd >= 0)
        close(fd);
    return r;
}

int quantize_commit(struct quantize_copy *k, struct dr_error *err)
{
    if (dr_rename_new(k->folder, k->temporary, k->folder, dr_path_base(k->path)))
        return errno == EEXIST ? dr_fail_field(err, DR_EINVAL, "output", k->path,
                                               "a path that does not exist yet", NULL)
                               : dr_fail_errno(err, k->path, "give the conversion the name");
    fsync(k->folder); /* not every file system can: no error */
    k->temporary[0] = '\0';
    return 0;
}

void quantize_end(struct quantize_copy *k)
{
    if (*k->temporary)
        remove_made(k);
    for (size_t i = 0; i < k->n_made; i++)
        dr_free(k->made[i].name);
    dr_free(k->made);
    if (k->own >= 0)
        close(k->own);
    *k = (struct quantize_copy){ .own = -1 };
}
