/* digest_cache.c - see digest_cache.h. */
#include "models/digest_cache.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/line_cache.h"

enum { LARGEST = 1 << 20, REMEMBERED = 1000 };

static const double settled =
    0.1; /* seconds; times of files are kept in steps of a few milliseconds */

static int64_t nanoseconds(struct timespec t)
{
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

struct digest_key digest_key_of(const struct stat *st)
{
    return (struct digest_key){ .device = st->st_dev,
                                .inode = st->st_ino,
                                .size = (uint64_t)st->st_size,
                                .mtime_ns = nanoseconds(st->st_mtim),
                                .ctime_ns = nanoseconds(st->st_ctim) };
}

bool digest_key_equal(const struct digest_key *a, const struct digest_key *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           a->mtime_ns == b->mtime_ns && a->ctime_ns == b->ctime_ns;
}

static bool parse_line(const char *line, struct digest_key *ret_key, char ret_hex[SHA256_HEX])
{
    int end = 0;
    return sscanf(line, "%" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNd64 " %" SCNd64 " %64[0-9a-f]%n",
                  &ret_key->device, &ret_key->inode, &ret_key->size, &ret_key->mtime_ns,
                  &ret_key->ctime_ns, ret_hex, &end) == 6 &&
           strlen(ret_hex) == SHA256_HEX - 1 && line[end] == '\n';
}

static struct line_cache file_of(const char *path)
{
    return (struct line_cache){ path, "darkroom digests 1\n", LARGEST };
}

bool digest_cache_find(const char *cache, const struct digest_key *key, char ret_hex[SHA256_HEX])
{
    struct line_cache file = file_of(cache);
    struct buf text;
    bool found = false;
    buf_init(&text, DR_TAG_FILE, LARGEST);
    const char *line = line_cache_read(&file, &text);
    for (; line && *line && !found; line = line_cache_next(line)) {
        struct digest_key k;
        char hex[SHA256_HEX];
        found = parse_line(line, &k, hex) && digest_key_equal(&k, key);
        if (found)
            memcpy(ret_hex, hex, SHA256_HEX);
    }
    buf_free(&text);
    return found;
}

/* Copies the lines worth keeping: sound ones, of other files, the last REMEMBERED - 1. */
static int keep_lines(const char *line, const struct digest_key *key, struct buf *dst)
{
    int lines = 0, r = 0;
    for (const char *at = line; *at; at = line_cache_next(at))
        lines++;
    for (; *line && !r; line = line_cache_next(line), lines--) {
        struct digest_key k;
        char hex[SHA256_HEX];
        if (lines < REMEMBERED && parse_line(line, &k, hex) &&
            (k.device != key->device || k.inode != key->inode))
            r = buf_append(dst, line, (size_t)(line_cache_next(line) - line));
    }
    return r;
}

void digest_cache_add(const char *cache, const struct digest_key *key, const char hex[SHA256_HEX])
{
    int64_t limit = (int64_t)((dr_epoch() - settled) * 1e9);
    if (key->mtime_ns > limit || key->ctime_ns > limit)
        return;
    struct line_cache file = file_of(cache);
    struct buf old, text;
    buf_init(&old, DR_TAG_FILE, LARGEST);
    buf_init(&text, DR_TAG_FILE, LARGEST);
    const char *lines = line_cache_read(&file, &old);
    int r = lines ? keep_lines(lines, key, &text) : 0;
    if (!r)
        r = buf_printf(&text, "%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRId64 " %" PRId64 " %s\n",
                       key->device, key->inode, key->size, key->mtime_ns, key->ctime_ns, hex);
    if (!r)
        (void)line_cache_write(&file, &text); /* it is only a cache */
    buf_free(&old);
    buf_free(&text);
}
