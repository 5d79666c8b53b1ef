/* beneath.c - see beneath.h. */
#include "base/beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fs.h"

static int open_by_kernel(int root, const char *path, int flags, unsigned mode)
{
    struct open_how how = { .flags = (unsigned)flags,
                            .mode = flags & O_CREAT ? mode : 0,
                            .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS };
    long fd;
    int tries = 0;
    do /* EAGAIN: something was renamed meanwhile, and the kernel cannot tell where ".." leads */
        fd = syscall(SYS_openat2, root, path, &how, sizeof how);
    while (fd < 0 && errno == EAGAIN && ++tries < 100);
    return (int)fd;
}

/* One component after the other, none of them a link or "..". */
static int open_by_steps(int root, const char *path, int flags, unsigned mode)
{
    char name[NAME_MAX + 1];
    int folder = root, next;
    if (*path == '/') {
        errno = EXDEV;
        return -1;
    }
    for (;;) {
        size_t n = strcspn(path, "/");
        const char *rest = path + n + strspn(path + n, "/");
        bool last = !*rest;
        next = -1;
        if (n > NAME_MAX)
            errno = ENAMETOOLONG;
        else if (n == 2 && path[0] == '.' && path[1] == '.')
            errno = EXDEV;
        else {
            snprintf(name, sizeof name, "%.*s", (int)n, n ? path : ".");
            next = openat(folder, n ? name : ".",
                          last ? flags | O_NOFOLLOW : O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
                          mode);
        }
        int saved = errno;
        if (folder != root)
            close(folder);
        errno = saved;
        if (next < 0 || last)
            return next;
        folder = next;
        path = rest;
    }
}

/* The path below the folder `root` that `path` leads to after links are followed, as far as it
 * exists. Only a candidate: it is opened by openat2 like any other. */
static bool follow(int root, const char *path, char dst[PATH_MAX])
{
    char link[64], base[PATH_MAX], whole[2 * PATH_MAX], real[PATH_MAX], *rest;
    snprintf(link, sizeof link, "/proc/self/fd/%d", root);
    ssize_t n = readlink(link, base, sizeof base - 1);
    if (n <= 0)
        return false;
    base[n] = '\0';
    if (snprintf(whole, sizeof whole, "%s/%s", base, path) >= (int)sizeof whole)
        return false;
    size_t end = strlen(whole);
    while (!realpath(whole, real)) { /* the last component may not exist yet */
        rest = strrchr(whole, '/');
        if (errno != ENOENT || !rest || end != strlen(whole))
            return false;
        *rest = '\0';
        path = rest + 1;
    }
    bool cut = strlen(whole) != end;
    size_t k = strcmp(base, "/") ? strlen(base) : 0;
    if (strncmp(real, base, k) || (real[k] && real[k] != '/'))
        return false;
    return snprintf(dst, PATH_MAX, ".%s%s%s", real + k, cut ? "/" : "", cut ? path : "") < PATH_MAX;
}

int dr_open_beneath(int root, const char *path, int flags, unsigned mode)
{
    char inside[PATH_MAX];
    flags |= O_CLOEXEC;
    if (root == AT_FDCWD)
        return open(path, flags, mode);
    int fd = open_by_kernel(root, path, flags, mode);
    if (fd < 0 && (errno == ENOSYS || errno == EPERM))
        return open_by_steps(root, path, flags, mode);
    /* an absolute link is refused wherever it leads */
    if (fd < 0 && errno == EXDEV && *path != '/') {
        if (follow(root, path, inside))
            fd = open_by_kernel(root, inside, flags, mode);
        else
            errno = EXDEV;
    }
    return fd;
}
