/* fs.c - see fs.h: mapping and reading. Writing is in fs_write.c, places are in fs_paths.c. */
#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int64_t nanoseconds(struct timespec t)
{
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int examine_regular(int fd, const char *path, struct stat *ret_stat, struct dr_error *err)
{
    if (fstat(fd, ret_stat))
        return dr_fail_errno(err, path, "examine");
    if (S_ISDIR(ret_stat->st_mode))
        return dr_fail(err, DR_EINVAL, "%s: is a directory, expected a file", path);
    if (!S_ISREG(ret_stat->st_mode))
        return dr_fail(err, DR_EINVAL, "%s: not a regular file", path);
    return 0;
}

/* Opens a regular file for reading. O_NONBLOCK so that a FIFO is refused instead of waited for. */
static int open_regular(const char *path, int *ret_fd, struct stat *ret_stat, struct dr_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return dr_fail_errno(err, path, "open");
    int r = examine_regular(fd, path, ret_stat, err);
    if (r) {
        close(fd);
        return r;
    }
    *ret_fd = fd;
    return 0;
}

/* Takes the descriptor over, also on failure. */
static int map_open_file(struct dr_map *ret_map, int fd, const struct stat *st, const char *path,
                         struct dr_error *err)
{
    void *data = NULL;
    if (st->st_size > 0) {
        data = mmap(NULL, (size_t)st->st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED) {
            int r = dr_fail_errno(err, path, "map");
            close(fd);
            return r;
        }
    }
    *ret_map = (struct dr_map){ .data = data,
                                .size = (size_t)st->st_size,
                                .fd = fd,
                                .device = st->st_dev,
                                .inode = st->st_ino,
                                .mtime_ns = nanoseconds(st->st_mtim),
                                .ctime_ns = nanoseconds(st->st_ctim) };
    return 0;
}

int dr_map_fd(struct dr_map *ret_map, int fd, const char *path, struct dr_error *err)
{
    struct stat st;
    *ret_map = (struct dr_map){ .fd = -1 };
    int r = examine_regular(fd, path, &st, err);
    if (r)
        return r;
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return own < 0 ? dr_fail_errno(err, path, "open") : map_open_file(ret_map, own, &st, path, err);
}

void dr_map_close(struct dr_map *m)
{
    if (!m)
        return;
    if (m->data)
        munmap((void *)m->data, m->size);
    if (m->fd >= 0)
        close(m->fd);
    *m = (struct dr_map){ .fd = -1 };
}

int dr_map_check(const struct dr_map *m, const char *path, struct dr_error *err)
{
    struct stat st;
    if (fstat(m->fd, &st))
        return dr_fail_errno(err, path, "examine");
    if ((size_t)st.st_size != m->size)
        return dr_fail(err, DR_EIO, "%s: changed while in use: %zu bytes became %lld", path,
                       m->size, (long long)st.st_size);
    if (nanoseconds(st.st_mtim) != m->mtime_ns)
        return dr_fail(err, DR_EIO, "%s: changed while in use", path);
    return 0;
}

static int read_all(int fd, const char *path, size_t maximum, struct buf *dst, struct dr_error *err)
{
    char piece[16 << 10];
    for (size_t done = 0;;) {
        ssize_t n = pread(fd, piece, sizeof piece, (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return dr_fail_errno(err, path, "read");
        if (!n)
            return 0;
        if ((size_t)n > maximum - done) /* it grew since it was measured */
            return dr_fail(err, DR_ELIMIT, "%s: larger than %zu bytes", path, maximum);
        int r = buf_append(dst, piece, (size_t)n);
        if (r)
            return dr_fail(err, r, "%s: out of memory", path);
        done += (size_t)n;
    }
}

int dr_read_fd(int fd, const char *path, size_t maximum, struct buf *dst, struct dr_error *err)
{
    struct stat st;
    size_t before = dst->len;
    int r = examine_regular(fd, path, &st, err);
    if (!r && (uint64_t)st.st_size > maximum)
        r = dr_fail(err, DR_ELIMIT, "%s: %lld bytes, at most %zu accepted", path,
                    (long long)st.st_size, maximum);
    if (!r)
        r = read_all(fd, path, maximum, dst, err);
    if (r && dst->data) {
        dst->len = before;
        dst->data[before] = '\0';
    }
    return r;
}

int dr_read_file(const char *path, size_t maximum, struct buf *dst, struct dr_error *err)
{
    struct stat st;
    int fd;
    int r = open_regular(path, &fd, &st, err);
    if (r)
        return r;
    r = dr_read_fd(fd, path, maximum, dst, err);
    close(fd);
    return r;
}

int dr_mkdirs(const char *path, struct dr_error *err)
{
    char part[DR_PATH_MAX];
    size_t n = strlen(path);
    if (!n || n >= sizeof part)
        return dr_fail(err, DR_EINVAL, "'%.100s': not usable as a folder's name", path);
    memcpy(part, path, n + 1);
    for (size_t i = 1; i <= n; i++) {
        if (part[i] && part[i] != '/')
            continue;
        char was = part[i];
        part[i] = '\0';
        if (mkdir(part, 0777) && errno != EEXIST)
            return dr_fail_errno(err, part, "make the folder");
        part[i] = was;
    }
    if (!dr_is_dir(path))
        return dr_fail(err, DR_EIO, "%s: exists and is not a folder", path);
    return 0;
}

bool dr_is_file(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISREG(st.st_mode);
}

bool dr_is_dir(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISDIR(st.st_mode);
}
