/* roots.c - see roots.h. */
#include "core/roots.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/fs.h"

int roots_add(struct roots *r, const char *folder, struct dr_error *err)
{
    char real[DR_PATH_MAX];
    if (r->n == ROOTS_MAX)
        return dr_fail(err, DR_ELIMIT, "more than %d roots", ROOTS_MAX);
    int code = dr_realpath(real, sizeof real, folder, err);
    if (code < 0)
        return code;
    if (!dr_is_dir(real))
        return dr_fail_field(err, DR_EINVAL, "root", folder, "a folder", NULL);
    r->folder[r->n] = dr_strdup(DR_TAG_BASE, real);
    if (!r->folder[r->n])
        return dr_fail(err, DR_ENOMEM, "out of memory for a root");
    r->n++;
    return 0;
}

void roots_free(struct roots *r)
{
    for (int i = 0; i < r->n; i++)
        dr_free(r->folder[i]);
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
        if (!lstat(part, &link)) /* a link to nowhere: writing would make its target */
            return dr_fail(err, DR_EINVAL, "%s: a link that leads nowhere", path);
        while (n && part[n - 1] == '/')
            n--;
        while (n && part[n - 1] != '/')
            n--;
    }
    snprintf(real, size, "%s", resolved);
    *ret_rest = path + n;
    return 0;
}

int roots_check(const struct roots *r, const char *field, const char *path, struct dr_error *err)
{
    char real[DR_PATH_MAX];
    const char *rest = "";
    if (!r->n)
        return dr_fail_field(err, DR_EINVAL, field, path, "no path: this worker has no root",
                             "start it with --root DIR");
    int code = deepest_existing(path, real, sizeof real, &rest, err);
    if (code < 0)
        return code;
    for (int i = 0; i < r->n; i++)
        if (inside(r->folder[i], real) && !climbs(rest))
            return 0;
    return dr_fail_field(err, DR_EINVAL, field, path, "a path inside a root of this worker",
                         r->folder[0]);
}
