/* pack_store.c - see pack_store.h. */
#include "backend/cache/pack_store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "backend/cache/pack.h"
#include "base/log.h"

static const char suffix[] = ".weights";

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

static const char digits[] = "0123456789", hex_digits[] = "0123456789abcdef";

/* "digest-set-layout-contents", the first and the last 16 hex digits: `n` bytes of the name. */
static bool is_stem(const char *name, size_t n)
{
    if (n < 16 + 1 || strspn(name, hex_digits) != 16 || name[16] != '-')
        return false;
    const char *set = name + 17, *end = name + n - 17; /* the last '-' */
    if (end <= set || *end != '-' || strspn(end + 1, hex_digits) != 16)
        return false;
    const char *layout = end;
    while (layout > set && strchr(digits, layout[-1]))
        layout--;
    return layout < end && layout > set + 1 && layout[-1] == '-';
}

static bool is_pack(const char *name)
{
    size_t n = strlen(name), m = strlen(suffix);
    return n > m && !strcmp(name + n - m, suffix) && is_stem(name, n - m);
}

/* A pack's name and ".PID-N.tmp", as pack_create has it. */
static bool is_temporary(const char *name)
{
    const char *end = strstr(name, suffix);
    if (!end || !is_stem(name, (size_t)(end - name)))
        return false;
    end += strlen(suffix);
    size_t pid = *end == '.' ? strspn(end + 1, digits) : 0;
    const char *turn = end + 1 + pid;
    size_t n = pid && *turn == '-' ? strspn(turn + 1, digits) : 0;
    return n && !strcmp(turn + 1 + n, ".tmp");
}

/* Calls fn for the regular files of such a name: other files in the folder are left alone. Returns
 * what a call returned that ended the walk. */
typedef int (*file_fn)(void *ctx, const char *path, const struct stat *st);

static int each_file(const struct pack_store *s, bool (*is)(const char *name), file_fn fn,
                     void *ctx, struct dr_error *err)
{
    DIR *dir = opendir(s->folder);
    int r = 0;
    if (!dir)
        return errno == ENOENT ? 0 : dr_fail_errno(err, s->folder, "list");
    for (struct dirent *e; !r && (e = readdir(dir));) {
        char path[DR_PATH_MAX];
        struct stat st;
        if (is(e->d_name) && !dr_path_join(path, sizeof path, s->folder, e->d_name) &&
            !lstat(path, &st) && S_ISREG(st.st_mode))
            r = fn(ctx, path, &st);
    }
    closedir(dir);
    return r;
}

struct store_walk {
    pack_store_fn fn;
    void *ctx;
};

static int tell(void *ctx, const char *path, const struct stat *st)
{
    const struct store_walk *w = ctx;
    return w->fn(w->ctx, path, st);
}

int pack_store_each(const struct pack_store *s, pack_store_fn fn, void *ctx, struct dr_error *err)
{
    struct store_walk w = { fn, ctx };
    return each_file(s, is_pack, tell, &w, err);
}

static int ends_so(void *ctx, const char *path, const struct stat *st)
{
    const char *end = ctx, *name = dr_path_base(path) + 17; /* after "digest-" */
    (void)st;
    size_t n = strlen(end);
    return !strncmp(name, end, n) && !strcmp(name + n, suffix);
}

bool pack_store_has(const struct pack_store *s, const char *end)
{
    return each_file(s, is_pack, ends_so, (void *)end, NULL) == 1;
}

static int sweep(void *ctx, const char *path, const struct stat *st)
{
    (void)ctx;
    (void)st;
    pack_sweep(path);
    return 0;
}

void pack_store_sweep(const struct pack_store *s)
{
    each_file(s, is_temporary, sweep, NULL, NULL);
}

struct census {
    uint64_t bytes;
    struct stat oldest;
    char path[DR_PATH_MAX]; /* of the one used longest ago; "": none */
};

static int count(void *ctx, const char *path, const struct stat *st)
{
    struct census *c = ctx;
    const struct timespec *used = &st->st_mtim, *least = &c->oldest.st_mtim;
    if (!pack_at(path))
        return 0;
    c->bytes += (uint64_t)st->st_size;
    bool older = used->tv_sec < least->tv_sec ||
                 (used->tv_sec == least->tv_sec && used->tv_nsec < least->tv_nsec);
    if (c->path[0] && !older)
        return 0;
    c->oldest = *st;
    snprintf(c->path, sizeof c->path, "%s", path);
    return 0;
}

/* What the packs may take at most on the disk of `folder`, `used` being what they take now. */
static int most_bytes(const struct pack_store *s, const char *folder, uint64_t used, uint64_t *ret,
                      struct dr_error *err)
{
    struct statvfs disk;
    if (statvfs(folder, &disk))
        return dr_fail_errno(err, folder, "examine");
    uint64_t half = (disk.f_bavail * disk.f_frsize + used) / 2;
    *ret = half < s->limit ? half : s->limit;
    return 0;
}

/* The folder, or the nearest above it that is there, if it can be written to. */
static bool nearest_folder(const struct pack_store *s, char ret[DR_PATH_MAX])
{
    struct stat st;
    snprintf(ret, DR_PATH_MAX, "%s", s->folder);
    for (;;) {
        size_t n = dr_path_trimmed(ret);
        ret[n] = '\0';
        if (!lstat(ret, &st))
            return dr_is_dir(ret) && !access(ret, W_OK | X_OK);
        if (errno != ENOENT)
            return false;
        while (n && ret[n - 1] != '/')
            n--;
        snprintf(ret + n, DR_PATH_MAX - n, "%s", n ? "" : ".");
    }
}

bool pack_store_fits(const struct pack_store *s, uint64_t bytes)
{
    struct census c = { .bytes = 0 };
    char folder[DR_PATH_MAX];
    uint64_t most = 0;
    return nearest_folder(s, folder) && !each_file(s, is_pack, count, &c, NULL) &&
           !most_bytes(s, folder, c.bytes, &most, NULL) && bytes <= most;
}

static int fail_room(const struct pack_store *s, uint64_t bytes, uint64_t most,
                     struct dr_error *err)
{
    return dr_fail(err, DR_ELIMIT, "%s: %.2f GB are needed and it may take %.2f GB", s->folder,
                   (double)bytes / 1e9, (double)most / 1e9);
}

static void log_evicted(const struct census *c)
{
    struct dr_log_fields f = { .n = 0 };
    dr_log_text(&f, "path", c->path);
    dr_log_int(&f, "bytes", (int64_t)c->oldest.st_size);
    dr_log_event(DR_LOG_INFO, "engine", &f, "packed weights evicted");
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
            r = each_file(s, is_pack, count, &c, err);
        if (!r)
            r = most_bytes(s, s->folder, c.bytes, &most, err);
        if (r)
            return r;
        if (bytes <= most && c.bytes <= most - bytes)
            return 0;
        if (bytes > most || !c.path[0])
            return fail_room(s, bytes, most, err);
        r = pack_remove(c.path, &c.oldest, err);
        if (!r)
            log_evicted(&c);
    }
}
