/* fs_write.c - see fs.h: files that become visible only when complete, replacing an older one or
 * under a free name. */
#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TEMPORARY_TRIES = 16 };

int dr_write_all(int fd, const void *bytes, size_t n)
{
    const uint8_t *p = bytes;
    while (n) {
        ssize_t w = write(fd, p, n);
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return -1;
        p += w;
        n -= (size_t)w;
    }
    return 0;
}

/* A new file beside `name`; what it is called in dst. -1 with errno. The umask applies, as for any
 * new file. */
static int open_temporary(int folder, const char *name, char *dst, size_t size)
{
    static atomic_uint turn;
    for (int i = 0; i < TEMPORARY_TRIES; i++) {
        unsigned k = atomic_fetch_add(&turn, 1);
        int n = snprintf(dst, size, "%s.%ld-%u.tmp", name, (long)getpid(), k);
        if (n < 0 || (size_t)n >= size) {
            errno = ENAMETOOLONG;
            break;
        }
        int fd = openat(folder, dst, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd >= 0)
            return fd;
        if (errno != EEXIST)
            break;
    }
    *dst = '\0';
    return -1;
}

/* Fills a file and closes it. */
static int fill(int fd, const char *path, const struct dr_piece *pieces, size_t count, bool durable,
                struct dr_error *err)
{
    int failed = 0, r = 0;
    for (size_t i = 0; i < count && !failed; i++)
        failed = dr_write_all(fd, pieces[i].bytes, pieces[i].n);
    if (failed || (durable && fsync(fd)))
        r = dr_fail_errno(err, path, "write");
    if (close(fd) && !r)
        r = dr_fail_errno(err, path, "write");
    return r;
}

int dr_open_temporary(int folder, const char *name, char ret_name[256])
{
    return open_temporary(folder, name, ret_name, 256);
}

int dr_open_beside(const char *path, char ret_path[DR_PATH_MAX])
{
    return open_temporary(AT_FDCWD, path, ret_path, DR_PATH_MAX);
}

int dr_make_temporary(int folder, const char *name, char ret_name[256])
{
    static atomic_uint turn;
    for (int i = 0; i < TEMPORARY_TRIES; i++) {
        unsigned k = atomic_fetch_add(&turn, 1);
        int n = snprintf(ret_name, 256, "%s.%ld-%u.tmp.d", name, (long)getpid(), k);
        if (n < 0 || n >= 256) {
            errno = ENAMETOOLONG;
            break;
        }
        if (!mkdirat(folder, ret_name, 0777)) {
            int fd = openat(folder, ret_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            int saved = errno;
            if (fd >= 0)
                return fd;
            unlinkat(folder, ret_name, AT_REMOVEDIR);
            errno = saved;
            break;
        }
        if (errno != EEXIST)
            break;
    }
    *ret_name = '\0';
    return -1;
}

void dr_unlink_same(int folder, const char *name, const struct stat *made)
{
    struct stat now;
    if (!fstatat(folder, name, &now, AT_SYMLINK_NOFOLLOW) && now.st_dev == made->st_dev &&
        now.st_ino == made->st_ino)
        unlinkat(folder, name, S_ISDIR(now.st_mode) ? AT_REMOVEDIR : 0);
}

/* ---- in place of an older file ---- */

void dr_sync_folder(const char *path)
{
    char dir[DR_PATH_MAX];
    snprintf(dir, sizeof dir, "%s", path);
    char *slash = strrchr(dir, '/');
    if (slash)
        slash[slash == dir] = '\0';
    int fd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    fsync(fd);
    close(fd);
}

static int write_pieces(const char *path, const struct dr_piece *pieces, size_t count, bool durable,
                        struct dr_error *err)
{
    char temporary[DR_PATH_MAX];
    int fd = open_temporary(AT_FDCWD, path, temporary, sizeof temporary);
    int r = fd < 0 ? dr_fail_errno(err, path, "create")
                   : fill(fd, path, pieces, count, durable, err);
    if (!r && rename(temporary, path))
        r = dr_fail_errno(err, path, "replace");
    if (r && *temporary)
        unlink(temporary);
    else if (!r && durable)
        dr_sync_folder(path);
    return r;
}

int dr_write_pieces(const char *path, const struct dr_piece *pieces, size_t count,
                    struct dr_error *err)
{
    return write_pieces(path, pieces, count, false, err);
}

int dr_write_file(const char *path, const void *bytes, size_t n, struct dr_error *err)
{
    struct dr_piece piece = { bytes, n };
    return write_pieces(path, &piece, 1, true, err);
}

/* ---- under a free name ---- */

/* Reserves the name with an empty file or folder of our own, which is then replaced. */
static int rename_over_claim(int from_folder, const char *from, int to_folder, const char *to)
{
    struct stat st;
    if (fstatat(from_folder, from, &st, AT_SYMLINK_NOFOLLOW))
        return -1;
    bool folder = S_ISDIR(st.st_mode);
    int fd = folder ? mkdirat(to_folder, to, 0700)
                    : openat(to_folder, to, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return -1;
    if (!folder)
        close(fd);
    int r = renameat(from_folder, from, to_folder, to), saved = errno;
    if (r)
        unlinkat(to_folder, to, folder ? AT_REMOVEDIR : 0);
    errno = saved;
    return r;
}

int dr_rename_new(int from_folder, const char *from, int to_folder, const char *to)
{
    if (!renameat2(from_folder, from, to_folder, to, RENAME_NOREPLACE))
        return 0;
    if (errno != EINVAL && errno != ENOSYS && errno != EPERM && errno != EOPNOTSUPP)
        return -1;
    if (!linkat(from_folder, from, to_folder, to, 0)) {
        unlinkat(from_folder, from, 0);
        return 0;
    }
    if (errno == EEXIST)
        return -1;
    return rename_over_claim(from_folder, from, to_folder, to);
}

int dr_draft_write(struct dr_draft *d, int folder, const char *path, const struct dr_piece *pieces,
                   size_t count, bool durable, struct dr_error *err)
{
    *d = (struct dr_draft){ .folder = folder, .durable = durable };
    int fd = open_temporary(folder, dr_path_base(path), d->temporary, sizeof d->temporary);
    if (fd < 0)
        return dr_fail_errno(err, path, "create");
    int r = fill(fd, path, pieces, count, durable, err);
    if (r)
        dr_draft_drop(d);
    return r;
}

int dr_draft_publish(struct dr_draft *d, const char *name)
{
    if (dr_rename_new(d->folder, d->temporary, d->folder, name))
        return -1;
    d->temporary[0] = '\0';
    if (d->durable)
        fsync(d->folder); /* not every file system can: no error */
    return 0;
}

void dr_draft_drop(struct dr_draft *d)
{
    if (*d->temporary)
        unlinkat(d->folder, d->temporary, 0);
    d->temporary[0] = '\0';
}

int dr_create_file(int folder, const char *path, const struct dr_piece *pieces, size_t count,
                   bool durable, struct dr_error *err)
{
    struct dr_draft d;
    int r = dr_draft_write(&d, folder, path, pieces, count, durable, err);
    if (r < 0)
        return r;
    if (dr_draft_publish(&d, dr_path_base(path)))
        r = errno == EEXIST ? dr_fail(err, DR_EINVAL, "%s: exists already", path)
                            : dr_fail_errno(err, path, "create");
    dr_draft_drop(&d);
    return r;
}
