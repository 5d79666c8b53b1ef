/* base_files.c - see base_files.h. */
#include "testing/helpers/base_files.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"

static int open_file(const char *path, struct dr_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    return fd < 0 ? dr_fail_errno(err, path, "open") : fd;
}

int npy_load(const char *path, struct npy *ret_array, struct dr_error *err)
{
    struct npy_file f;
    int fd = open_file(path, err);
    int r = fd < 0 ? fd : npy_open(fd, path, &f, err);
    if (r)
        return r;
    struct npy a = f.array;
    a.data = dr_malloc(DR_TAG_FILE, (size_t)a.count * npy_size_of(a.dtype));
    r = a.data ? npy_read(&f, a.data, NULL, err) : dr_fail(err, DR_ENOMEM, "%s: no memory", path);
    npy_close(&f);
    if (r)
        npy_free(&a);
    else
        *ret_array = a;
    return r;
}

void npy_free(struct npy *a)
{
    if (!a)
        return;
    dr_free(a->data);
    a->data = NULL;
}

int npy_save(const char *path, enum npy_dtype dtype, const int64_t *shape, int ndim,
             const void *data, struct dr_error *err)
{
    char folder[DR_PATH_MAX];
    snprintf(folder, sizeof folder, "%.*s", (int)(dr_path_base(path) - path), path);
    int fd = open(*folder ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return dr_fail_errno(err, path, "open the folder of");
    unlink(path);
    int r = npy_create(fd, path, dtype, shape, ndim, data, err);
    close(fd);
    return r;
}

int dr_map_open(struct dr_map *ret_map, const char *path, struct dr_error *err)
{
    *ret_map = (struct dr_map){ .fd = -1 };
    int fd = open_file(path, err);
    if (fd < 0)
        return fd;
    int r = dr_map_fd(ret_map, fd, path, err);
    close(fd);
    return r;
}

int sha256_file(const char *path, const atomic_int *stop, sha256_progress_fn *progress, void *ctx,
                char ret_hex[SHA256_HEX], struct dr_error *err)
{
    int fd = open_file(path, err);
    if (fd < 0)
        return fd;
    int r = sha256_fd(fd, path, stop, progress, ctx, ret_hex, err);
    close(fd);
    return r;
}
