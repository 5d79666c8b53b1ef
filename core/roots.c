/* roots.c - see roots.h. */
#include "core/roots.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/beneath.h"

int roots_add(struct roots *r, const char *folder, struct dr_error *err)
{
    char real[DR_PATH_MAX];
    if (r->n == ROOTS_MAX)
        return dr_fail(err, DR_ELIMIT, "more than %d roots", ROOTS_MAX);
    int code = dr_realpath(real, sizeof real, folder, err);
    if (code < 0)
        return code;
    int fd = open(real, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == ENOTDIR)
        return dr_fail(err, DR_EINVAL, "%s is a file, expected a folder", folder);
    if (fd < 0)
        return dr_fail_errno(err, folder, "open");
    r->folder[r->n] = dr_strdup(DR_TAG_BASE, real);
    if (!r->folder[r->n]) {
        close(fd);
        return dr_fail(err, DR_ENOMEM, "out of memory for a root");
    }
    r->fd[r->n++] = fd;
    return 0;
}

void roots_free(struct roots *r)
{
    for (int i = 0; i < r->n; i++) {
        close(r->fd[i]);
        dr_free(r->folder[i]);
    }
    r->n = 0;
}

static bool inside(const char *root, const char *path)
{
    size_t n = strlen(root);
    return !strncmp(root, path, n) && (!path[n] || path[n] == '/' || (n && root[n - 1] == '/'));
}

/* Has the part of a path from `rest` on a component ".."? */
static bool climbs(const char *rest)
{
    for (const char *p = rest; *p;) {
        size_t n = strcspn(p, "/");
        if (n == 2 && p[0] == '.' && p[1] == '.')
            return true;
        p += n;
        p += *p == '/';
    }
    return false;
}

/* Cuts the path at its deepest part that exists; *ret_rest is what was cut off. */
static int deepest_existing(const char *path, char *real, size_t size, const char **ret_rest,
                            struct dr_error *err)
{
    char part[DR_PATH_MAX], resolved[PATH_MAX];
    struct stat link;
    size_t n = strlen(path);
    if (n >= sizeof part)
        return dr_fail(err, DR_ELIMIT, "a path is longer than %d bytes", DR_PATH_MAX - 1);
    for (;;) {
        memcpy(part, path, n);
        part[n] = '\0';
        if (realpath(n ? part : ".", resolved))
            break;
        if (errno != ENOENT || !n)
            return dr_fail_errno(err, path, "resolve");
        if (!lstat(part, &link)) /* a dangling link: writing would create its target */
            return dr_fail(err, DR_EINVAL, "%s: a dangling link", path);
        while (n && part[n - 1] == '/')
            n--;
        while (n && part[n - 1] != '/')
            n--;
    }
    snprintf(real, size, "%s", resolved);
    *ret_rest = path + n;
    return 0;
}

static int fail_outside(const struct roots *r, const char *field, const char *path,
                        struct dr_error *err)
{
    if (!r->n)
        return dr_fail_field(err, DR_EINVAL, field, path, "no path: this worker has no root",
                             "start it with --root DIR");
    bool models = !strcmp(field, "model");
    return dr_fail_field(err, DR_EINVAL, field, path,
                         models ? "a path inside a folder of models of this worker"
                                : "a path inside a root of this worker",
                         r->folder[0]);
}

int roots_locate(const struct roots *r, const char *field, const char *path, int *ret_root,
                 char ret_below[DR_PATH_MAX], struct dr_error *err)
{
    char real[DR_PATH_MAX];
    const char *rest = "";
    int code = r->n ? deepest_existing(path, real, sizeof real, &rest, err) : 0;
    if (code < 0)
        return code;
    for (int i = 0; i < r->n; i++) {
        if (!inside(r->folder[i], real) || climbs(rest))
            continue;
        const char *below = real + strlen(r->folder[i]);
        below += strspn(below, "/");
        bool both = *below && *rest;
        int n = snprintf(ret_below, DR_PATH_MAX, "%s%s%s", below, both ? "/" : "", rest);
        if (n >= DR_PATH_MAX)
            return dr_fail(err, DR_ELIMIT, "%s: a path is longer than %d bytes", field,
                           DR_PATH_MAX - 1);
        if (!n)
            memcpy(ret_below, ".", 2);
        *ret_root = i;
        return 0;
    }
    return fail_outside(r, field, path, err);
}

int roots_open(const struct roots *r, const char *field, const char *path, int flags, unsigned mode,
               int *ret_fd, struct dr_error *err)
{
    char below[DR_PATH_MAX];
    int root;
    int code = roots_locate(r, field, path, &root, below, err);
    if (code < 0)
        return code;
    int fd = dr_open_beneath(r->fd[root], below, flags, mode);
    if (fd < 0 && (errno == EXDEV || errno == ELOOP))
        return fail_outside(r, field, path, err);
    if (fd < 0)
        return dr_fail_errno(err, path, "open");
    *ret_fd = fd;
    return 0;
}

/* A folder could not be opened, errno says why. */
static int fail_folder(const struct roots *r, const char *field, const char *path,
                       struct dr_error *err)
{
    if (errno == EXDEV || errno == ELOOP)
        return fail_outside(r, field, path, err);
    if (errno == ENOTDIR)
        return dr_fail_field(err, DR_EINVAL, field, path, "a folder, not a file", NULL);
    return dr_fail_errno(err, path, "open");
}

/* Makes the folders of a path below `root` that are missing. */
static int make_below(int root, const char *path, const char *below, struct dr_error *err)
{
    char part[DR_PATH_MAX];
    int folder = dr_open_beneath(root, ".", O_PATH | O_DIRECTORY, 0), r = 0;
    for (const char *p = below; !r && folder >= 0 && *p; p += strspn(p, "/")) {
        size_t n = strcspn(p, "/");
        snprintf(part, sizeof part, "%.*s", (int)n, p);
        if (mkdirat(folder, part, 0777) && errno != EEXIST)
            r = dr_fail_errno(err, path, "make the folder");
        p += n;
        snprintf(part, sizeof part, "%.*s", (int)(p - below), below);
        close(folder);
        folder = dr_open_beneath(root, part, O_PATH | O_DIRECTORY, 0);
    }
    if (!r && folder < 0)
        r = dr_fail_errno(err, path, "open");
    if (folder >= 0)
        close(folder);
    return r;
}

/* The descriptor of the deepest part of `below` that exists, cutting it there. -1 with errno. */
static int open_deepest(int root, char below[DR_PATH_MAX])
{
    for (;;) {
        int fd = dr_open_beneath(root, below, O_PATH | O_DIRECTORY, 0);
        char *slash = strrchr(below, '/');
        if (fd >= 0 || errno != ENOENT || !strcmp(below, "."))
            return fd;
        if (slash)
            *slash = '\0';
        if (!slash || !*below)
            memcpy(below, ".", 2);
    }
}

int roots_try_folder(const struct roots *r, const char *field, const char *path,
                     struct dr_error *err)
{
    char below[DR_PATH_MAX];
    int root;
    int code = roots_locate(r, field, path, &root, below, err);
    if (code < 0)
        return code;
    int fd = open_deepest(r->fd[root], below);
    if (fd < 0)
        return fail_folder(r, field, path, err);
    if (faccessat(fd, ".", W_OK | X_OK, AT_EACCESS)) {
        char got[300];
        snprintf(got, sizeof got, "%.200s: %s", path, strerror(errno));
        code = dr_fail_field(err, DR_EINVAL, field, got, "a folder that can be written into", NULL);
    }
    close(fd);
    return code;
}

int roots_open_folder(const struct roots *r, const char *field, const char *path, bool make,
                      int *ret_fd, struct dr_error *err)
{
    char below[DR_PATH_MAX];
    int root;
    int code = roots_locate(r, field, path, &root, below, err);
    if (!code && make)
        code = make_below(r->fd[root], path, below, err);
    if (code < 0)
        return code;
    *ret_fd = dr_open_beneath(r->fd[root], below, O_RDONLY | O_DIRECTORY, 0);
    return *ret_fd < 0 ? fail_folder(r, field, path, err) : 0;
}
