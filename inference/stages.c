/* stages.c - see stages.h. */
#include "inference/stages.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"

static int check_name(const char *name, int evaluations, struct dr_error *err)
{
    int at;
    char expected[80];
    bool known = stage_is_name(name, &at);
    if (known && at < evaluations)
        return 0;
    if (known) {
        snprintf(expected, sizeof expected, "an evaluation from 000 to %03d", evaluations - 1);
        return dr_fail_field(err, DR_EINVAL, "load_stage", name, expected, NULL);
    }
    return stage_fail_unknown("load_stage", name, err);
}

/* ---- the dump folder ---- */

static bool dumps(const struct stages *s)
{
    return s->dump && *s->dump;
}

static int open_folder(const struct stages *s, bool make, int *ret_fd, struct dr_error *err)
{
    if (s->roots)
        return roots_open_folder(s->roots, "dump_stages", s->dump, make, ret_fd, err);
    int r = make ? dr_mkdirs(s->dump, err) : 0;
    *ret_fd = r ? -1 : open(s->dump, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return r || *ret_fd >= 0 ? r : dr_fail_errno(err, s->dump, "open");
}

/* The stages of two jobs in one folder could not be distinguished, so the folder must have none. */
static int check_folder(const struct stages *s, struct dr_error *err)
{
    int fd, r = open_folder(s, false, &fd, err);
    if (r == DR_ENOENT)
        return 0;
    if (r < 0)
        return r;
    DIR *dir = fdopendir(fd);
    struct dirent *entry;
    if (!dir) {
        r = dr_fail_errno(err, s->dump, "read the folder");
        close(fd);
        return r;
    }
    while (!r && (entry = readdir(dir)))
        if (stage_is_file(entry->d_name)) {
            char got[200];
            snprintf(got, sizeof got, "%.100s, which has %s", s->dump, entry->d_name);
            r = dr_fail_field(err, DR_EINVAL, "dump_stages", got,
                              "a folder without stages of an earlier run", NULL);
        }
    closedir(dir);
    return r;
}

int stages_check(const struct stages *s, int evaluations, struct dr_error *err)
{
    const char *name;
    json_t *file;
    json_object_foreach((json_t *)s->load, name, file)
    {
        int r = check_name(name, evaluations, err);
        if (r < 0)
            return r;
    }
    return dumps(s) && !s->open ? check_folder(s, err) : 0;
}

int stages_open(struct stages *s, struct dr_error *err)
{
    s->folder = -1;
    s->open = true;
    return dumps(s) ? open_folder(s, true, &s->folder, err) : 0;
}

void stages_close(struct stages *s)
{
    if (s->open && s->folder >= 0)
        close(s->folder);
    s->open = false;
    s->folder = -1;
}

int stage_dump(const struct stages *s, const char *name, enum npy_dtype dtype, const int64_t *shape,
               int ndim, const void *data, struct dr_error *err)
{
    char path[DR_PATH_MAX], file[64];
    if (!dumps(s))
        return 0;
    if (!s->open)
        return dr_fail(err, DR_EINTERNAL, "stages are dumped before their folder is open");
    snprintf(file, sizeof file, "%s.npy", name);
    if (dr_path_join(path, sizeof path, s->dump, file) < 0)
        return dr_fail_field(err, DR_ELIMIT, "dump_stages", s->dump, "a shorter path", NULL);
    int r = npy_create(s->folder, path, dtype, shape, ndim, data, err);
    return r < 0 ? dr_while(err, r, "dumping stage %s", name) : 0;
}

/* ---- files that replace stages ---- */

bool stage_loads(const struct stages *s, const char *name)
{
    return json_object_get(s->load, name) != NULL;
}

static void shape_words(enum npy_dtype dtype, const int64_t *shape, int ndim, char *dst, size_t n)
{
    const char *type = dtype == NPY_F32   ? "float32"
                       : dtype == NPY_F64 ? "float64"
                       : dtype == NPY_I64 ? "int64"
                       : dtype == NPY_I32 ? "int32"
                                          : "uint8";
    size_t used = (size_t)snprintf(dst, n, "%s [", type);
    for (int i = 0; i < ndim && used < n; i++)
        used += (size_t)snprintf(dst + used, n - used, "%s%" PRId64, i ? ", " : "", shape[i]);
    if (used < n)
        snprintf(dst + used, n - used, "]");
}

int stage_refuse(const struct stages *s, const char *name, const char *got, const char *expected,
                 struct dr_error *err)
{
    char field[64];
    snprintf(field, sizeof field, "load_stage.%s", name);
    return dr_fail_field(err, DR_EINVAL, field, got, expected,
                         json_string_value(json_object_get(s->load, name)));
}

/* The stage's file, its header read; f->fd is -1 when the request names none. */
static int open_file(const struct stages *s, const char *name, struct npy_file *f,
                     struct dr_error *err)
{
    static const int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY; /* no wait for a FIFO */
    const char *path = json_string_value(json_object_get(s->load, name));
    int fd = -1, r = 0;
    f->fd = -1;
    if (!path)
        return 0;
    if (s->roots)
        r = roots_open(s->roots, "load_stage", path, flags, 0, &fd, err);
    else if ((fd = open(path, flags)) < 0)
        r = dr_fail_errno(err, path, "open");
    if (!r)
        r = npy_open(fd, path, f, err);
    return r < 0 ? dr_while(err, r, "loading stage %s", name) : 0;
}

static int check_shape(const struct stages *s, const char *name, const struct npy *a,
                       enum npy_dtype dtype, const int64_t *shape, int ndim, struct dr_error *err)
{
    char got[120], expected[120];
    if (a->dtype == dtype && a->ndim == ndim &&
        !memcmp(a->shape, shape, (size_t)ndim * sizeof *shape))
        return 0;
    shape_words(a->dtype, a->shape, a->ndim, got, sizeof got);
    shape_words(dtype, shape, ndim, expected, sizeof expected);
    return stage_refuse(s, name, got, expected, err);
}

int stage_load(const struct stages *s, const char *name, enum npy_dtype dtype, const int64_t *shape,
               int ndim, void *data, bool *ret_loaded, struct dr_error *err)
{
    struct npy_file f;
    int r = open_file(s, name, &f, err);
    *ret_loaded = false;
    if (r < 0 || f.fd < 0)
        return r;
    r = check_shape(s, name, &f.array, dtype, shape, ndim, err);
    if (!r && data) {
        r = npy_read(&f, data, s->stop, err);
        *ret_loaded = !r;
    }
    npy_close(&f);
    return r;
}

int stage_probe(const struct stages *s, const char *name, struct dr_error *err)
{
    struct npy_file f = { .fd = -1 };
    int r = check_name(name, INT_MAX, err);
    if (!r)
        r = open_file(s, name, &f, err);
    npy_close(&f);
    return r;
}
