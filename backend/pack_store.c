/* pack_store.c - see pack_store.h. */
#include "backend/pack_store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static const char suffix[] = ".weights", unfinished[] = ".tmp";

int pack_store_init(struct pack_store *s, const char *folder, uint64_t limit, struct dr_error *err)
{
    s->folder[0] = '\0';
    s->limit = limit;
    if (!folder || !*folder) {
        if (dr_cache_path(s->folder, sizeof s->folder, "weights", NULL))
            s->limit = 0;
        return 0;
    }
    if (snprintf(s->folder, sizeof s->folder, "%s", folder) >= (int)sizeof s->folder)
        return dr_fail(err, DR_ELIMIT, "the path of the cache folder is too long");
    return 0;
}

int pack_store_path(const struct pack_store *s, const char *name, char *dst, size_t n,
                    struct dr_error *err)
{
    char file[256];
    int len = snprintf(file, sizeof file, "%s%s", name, suffix);
    if (len < 0 || len >= (int)sizeof file || dr_path_join(dst, n, s->folder, file))
        return dr_fail(err, DR_ELIMIT, "%s: the path is too long", s->folder);
    return 0;
}

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n > m && !strcmp(name + n - m, end);
}

/* Calls fn for the regular files whose name ends so; returns what a call returned that ended the
 * walk. */
typedef int (*file_fn)(void *ctx, const char *path, const struct stat *st);

static int each_file(const struct pack_store *s, const char *end, file_fn fn, void *ctx,
                     struct dr_error *err)
{
    DIR *dir = opendir(s->folder);
    int r = 0;
    if (!dir)
        return errno == ENOENT ? 0 : dr_fail_errno(err, s->folder, "list");
    for (struct dirent *e; !r && (e = readdir(dir));) {
        char path[DR_PATH_MAX];
        struct stat st;
        if (ends_with(e->d_name, end) && !dr_path_join(path, sizeof path, s->folder, e->d_name) &&
            !lstat(path, &st) && S_ISREG(st.st_mode))
            r = fn(ctx, path, &st);
    }
    closedir(dir);
    return r;
}

struct walk {
    pack_store_fn fn;
    void *ctx;
};

static int tell(void *ctx, const char *path, const struct stat *st)
{
    const struct walk *w = ctx;
    return w->fn(w->ctx, path, (uint64_t)st->st_size);
}

int pack_store_each(const struct pack_store *s, pack_store_fn fn, void *ctx, struct dr_error *err)
{
    struct walk w = { fn, ctx };
    return each_file(s, suffix, tell, &w, err);
}

/* Who makes a pack holds a lock on its temporary file; the lock ends with the process. */
static int sweep(void *ctx, const char *path, const struct stat *st)
{
    (void)ctx;
    (void)st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
    if (fd < 0)
        return 0;
    if (!flock(fd, LOCK_EX | LOCK_NB))
        unlink(path);
    close(fd);
    return 0;
}

void pack_store_sweep(const struct pack_store *s)
{
    each_file(s, unfinished, sweep, NULL, NULL);
}

struct census {
    uint64_t bytes;
    struct timespec oldest;
    char path[DR_PATH_MAX]; /* of the one used longest ago; "": none */
};

static int count(void *ctx, const char *path, const struct stat *st)
{
    struct census *c = ctx;
    c->bytes += (uint64_t)st->st_size;
    bool older = st->st_mtim.tv_sec < c->oldest.tv_sec || (st->st_mtim.tv_sec == c->oldest.tv_sec &&
                                                           st->st_mtim.tv_nsec < c->oldest.tv_nsec);
    if (c->path[0] && !older)
        return 0;
    c->oldest = st->st_mtim;
    snprintf(c->path, sizeof c->path, "%s", path);
    return 0;
}

/* What the packs may take at most, `used` being what they take now. */
static int most_bytes(const struct pack_store *s, uint64_t used, uint64_t *ret,
                      struct dr_error *err)
{
    struct statvfs disk;
    if (statvfs(s->folder, &disk))
        return dr_fail_errno(err, s->folder, "examine");
    uint64_t half = (disk.f_bavail * disk.f_frsize + used) / 2;
    *ret = half < s->limit ? half : s->limit;
    return 0;
}

bool pack_store_fits(const struct pack_store *s, uint64_t bytes)
{
    struct census c = { .bytes = 0 };
    uint64_t most = s->limit; /* a folder that is yet to be made */
    if (dr_is_dir(s->folder) &&
        (each_file(s, suffix, count, &c, NULL) || most_bytes(s, c.bytes, &most, NULL)))
        return false;
    return bytes <= most;
}

static int fail_room(const struct pack_store *s, uint64_t bytes, uint64_t most,
                     struct dr_error *err)
{
    return dr_fail(err, DR_ELIMIT, "%s: %.2f GB are needed and it may take %.2f GB", s->folder,
                   (double)bytes / 1e9, (double)most / 1e9);
}

int pack_store_room(const struct pack_store *s, uint64_t bytes, struct dr_error *err)
{
    int r = dr_mkdirs(s->folder, err);
    if (!r && access(s->folder, W_OK))
        r = dr_fail_errno(err, s->folder, "write to");
    if (!r)
        pack_store_sweep(s);
    for (;;) {
        struct census c = { .bytes = 0 };
        uint64_t most = 0;
        if (!r)
            r = each_file(s, suffix, count, &c, err);
        if (!r)
            r = most_bytes(s, c.bytes, &most, err);
        if (r)
            return r;
        if (bytes <= most && c.bytes <= most - bytes)
            return 0;
        if (bytes > most || !c.path[0])
            return fail_room(s, bytes, most, err);
        if (unlink(c.path))
            return dr_fail_errno(err, c.path, "remove");
    }
}
