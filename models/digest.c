/* digest.c - see digest.h. */
#include "models/digest.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/fs.h"
#include "models/digest_cache.h"

enum { FILES_MAX = 20000, DEPTH_MAX = 16 };

struct member {
    const char *path; /* relative to the folder */
    uint64_t size;
    char hex[SHA256_HEX];
};

struct hashing {
    const struct digest_options *opt;
    char cache[DR_PATH_MAX]; /* "" for none */
    uint64_t before, total;  /* bytes of files done already, and of all */
    struct dr_error *err;
    struct arena names;
    struct member *members;
    size_t n, cap;
};

static int no_memory(const struct hashing *h)
{
    return dr_fail(h->err, DR_ENOMEM, "no memory to hash a folder");
}

/* ---- one file ---- */

static void report(void *ctx, uint64_t done, uint64_t total)
{
    const struct hashing *h = ctx;
    (void)total;
    if (h->opt->progress)
        h->opt->progress(h->opt->ctx, h->before + done, h->total);
}

static int examine(const char *path, struct stat *ret, struct dr_error *err)
{
    return stat(path, ret) ? dr_fail_errno(err, path, "examine") : 0;
}

static int hash_file(struct hashing *h, const char *path, char ret_hex[SHA256_HEX])
{
    struct stat st;
    int r = examine(path, &st, h->err);
    if (r)
        return r;
    struct digest_key key = digest_key_of(&st);
    if (h->cache[0] && digest_cache_find(h->cache, &key, ret_hex)) {
        report(h, key.size, key.size);
    } else {
        r = sha256_file(path, h->opt->stop, report, h, ret_hex, h->err);
        if (!r)
            r = examine(path, &st, h->err);
        if (r)
            return r;
        struct digest_key after = digest_key_of(&st);
        if (!digest_key_equal(&key, &after))
            return dr_fail(h->err, DR_EIO, "%s: changed while it was read", path);
        if (h->cache[0])
            digest_cache_add(h->cache, &key, ret_hex);
    }
    h->before += key.size;
    return 0;
}

/* ---- a folder ---- */

static int add_member(struct hashing *h, const char *relative, uint64_t size)
{
    if (h->n == FILES_MAX)
        return dr_fail(h->err, DR_ELIMIT, "more than %d files in a model's folder", FILES_MAX);
    if (strchr(relative, '\n'))
        return dr_fail(h->err, DR_EINVAL, "a file's name has a line break in it");
    if (h->n == h->cap) {
        size_t cap = h->cap ? h->cap * 2 : 64;
        void *p = dr_realloc(DR_TAG_FILE, h->members, cap * sizeof *h->members);
        if (!p)
            return no_memory(h);
        h->members = p;
        h->cap = cap;
    }
    const char *kept = arena_strdup(&h->names, relative);
    if (!kept)
        return no_memory(h);
    h->members[h->n++] = (struct member){ .path = kept, .size = size };
    h->total += size;
    return 0;
}

static int list_folder(struct hashing *h, const char *root, const char *relative, int depth);

static int list_entry(struct hashing *h, const char *root, const char *relative, int depth)
{
    char path[DR_PATH_MAX];
    struct stat st, link;
    int r = dr_path_join(path, sizeof path, root, relative);
    if (r)
        return dr_fail(h->err, r, "%s/%s: the path is too long", root, relative);
    if (lstat(path, &link))
        return dr_fail_errno(h->err, path, "examine");
    if (S_ISDIR(link.st_mode))
        return list_folder(h, root, relative, depth + 1);
    r = examine(path, &st, h->err);
    return r || !S_ISREG(st.st_mode) ? r : add_member(h, relative, (uint64_t)st.st_size);
}

static int list_folder(struct hashing *h, const char *root, const char *relative, int depth)
{
    char path[DR_PATH_MAX];
    if (depth > DEPTH_MAX)
        return dr_fail(h->err, DR_ELIMIT, "%s: folders nested deeper than %d", root, DEPTH_MAX);
    int r = dr_path_join(path, sizeof path, root, relative);
    if (r)
        return dr_fail(h->err, r, "%s/%s: the path is too long", root, relative);
    DIR *dir = opendir(path);
    if (!dir)
        return dr_fail_errno(h->err, path, "list");
    for (struct dirent *e; !r && (e = readdir(dir));) {
        char below[DR_PATH_MAX];
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        r = dr_path_join(below, sizeof below, relative, e->d_name);
        r = r ? dr_fail(h->err, r, "%s/%s: the path is too long", path, e->d_name)
              : list_entry(h, root, below, depth);
    }
    closedir(dir);
    return r;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct member *)a)->path, ((const struct member *)b)->path);
}

static int hash_members(struct hashing *h, const char *root, struct buf *lines)
{
    for (size_t i = 0; i < h->n; i++) {
        char path[DR_PATH_MAX];
        struct member *m = &h->members[i];
        int r = dr_path_join(path, sizeof path, root, m->path);
        if (!r)
            r = hash_file(h, path, m->hex);
        if (r)
            return r;
        r = buf_printf(lines, "%s %llu %s\n", m->path, (unsigned long long)m->size, m->hex);
        if (r)
            return no_memory(h);
    }
    return 0;
}

static int hash_folder(struct hashing *h, const char *root, char ret_hex[SHA256_HEX])
{
    struct buf lines;
    uint8_t digest[SHA256_BYTES];
    buf_init(&lines, DR_TAG_FILE, 0);
    arena_init(&h->names, DR_TAG_FILE, 0, 0);
    int r = list_folder(h, root, "", 0);
    if (!r && h->n)
        qsort(h->members, h->n, sizeof *h->members, by_path);
    if (!r)
        r = hash_members(h, root, &lines);
    if (!r) {
        r = sha256_bytes(buf_text(&lines), lines.len, digest);
        if (r)
            dr_fail(h->err, r, "%s: SHA-256 failed", root);
        else
            sha256_hex(digest, ret_hex);
    }
    buf_free(&lines);
    arena_free(&h->names);
    dr_free(h->members);
    return r;
}

int digest_path(const char *path, const struct digest_options *opt, char ret_hex[SHA256_HEX],
                struct dr_error *err)
{
    static const struct digest_options none;
    struct hashing h = { .opt = opt ? opt : &none, .err = err };
    struct stat st;
    int r = examine(path, &st, err);
    if (r)
        return r;
    /* Without a place for the cache nothing is remembered. */
    if (!h.opt->cache) {
        if (dr_cache_path(h.cache, sizeof h.cache, "digests", NULL))
            h.cache[0] = '\0';
    } else if (snprintf(h.cache, sizeof h.cache, "%s", h.opt->cache) >= (int)sizeof h.cache) {
        return dr_fail(err, DR_ELIMIT, "the cache's path is too long");
    }
    if (S_ISDIR(st.st_mode))
        return hash_folder(&h, path, ret_hex);
    h.total = (uint64_t)st.st_size;
    return hash_file(&h, path, ret_hex);
}
