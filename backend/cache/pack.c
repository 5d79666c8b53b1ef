/* pack.c - see pack.h: the file. */
#include "backend/cache/pack.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "backend/cache/pack_internal.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/mapguard.h"

enum {
    FORMAT = 1,
    BLOBS_MOST = 1 << 20,
    MARKED = 600,       /* seconds for which a mark of use is good enough */
    PIECE = 1 << 20,    /* read back at once */
    BEHIND = 128 << 20, /* bytes that may wait for the disk: what a stop or the end waits for */
};

static const char magic[16] = "darkroom weights";

uint64_t pack_file_bytes(const struct pack_spec *spec)
{
    return PACK_HEADER + spec->bytes + spec->blobs * sizeof(struct entry);
}

/* ---- reading and writing ---- */

static int read_at(const struct pack *p, void *dst, size_t n, uint64_t at, struct dr_error *err)
{
    for (char *to = dst; n;) {
        ssize_t got = pread(p->fd, to, n, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return dr_fail_errno(err, p->path, "read");
        if (!got)
            return dr_fail(err, DR_EFORMAT, "%s: is truncated", p->path);
        to += got;
        n -= (size_t)got;
        at += (uint64_t)got;
    }
    return 0;
}

static int write_at(const struct pack *p, const void *src, size_t n, uint64_t at,
                    struct dr_error *err)
{
    for (const char *from = src; n;) {
        ssize_t put = pwrite(p->fd, from, n, (off_t)at);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return dr_fail_errno(err, p->path, "write");
        from += put;
        n -= (size_t)put;
        at += (uint64_t)put;
    }
    return 0;
}

static int map_file(struct pack *p, struct dr_error *err)
{
    size_t bytes = (size_t)p->header.file_bytes;
    void *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, p->fd, 0);
    if (map == MAP_FAILED)
        return dr_fail_errno(err, p->path, "map");
    p->map = map;
    return mapguard_add(map, bytes, &p->slot, err);
}

static int pack_new(const char *path, struct pack **ret, struct dr_error *err)
{
    struct pack *p = dr_calloc(DR_TAG_FILE, 1, sizeof *p);
    if (!p)
        return dr_fail(err, DR_ENOMEM, "out of memory for a file of packed weights");
    p->fd = p->slot = -1;
    if (snprintf(p->path, sizeof p->path, "%s", path) >= (int)sizeof p->path) {
        dr_free(p);
        return dr_fail(err, DR_ELIMIT, "%.100s...: the path is too long", path);
    }
    *ret = p;
    return 0;
}

void pack_close(struct pack *p)
{
    if (!p)
        return;
    mapguard_remove(p->slot);
    if (p->map)
        munmap((void *)p->map, (size_t)p->header.file_bytes);
    if (p->temporary[0])
        unlink(p->temporary);
    if (p->fd >= 0)
        close(p->fd);
    dr_free(p->index);
    dr_free(p->stage);
    dr_free(p->piece);
    dr_free(p);
}

/* The end of opening and of making: mapped and handed over, or, when something failed, closed. */
static int hand_over(struct pack *p, int r, struct pack **ret, struct dr_error *err)
{
    if (!r)
        r = map_file(p, err);
    if (r)
        pack_close(p);
    else
        *ret = p;
    return r;
}

/* ---- opening ---- */

static int damaged(const struct pack *p, const char *what, struct dr_error *err)
{
    return dr_fail(err, DR_EFORMAT, "%s: %s", p->path, what);
}

static int read_header(struct pack *p, uint64_t size, struct dr_error *err)
{
    struct header *h = &p->header;
    if (size < PACK_HEADER)
        return damaged(p, "is truncated", err);
    int r = read_at(p, h, sizeof *h, 0, err);
    if (r)
        return r;
    if (memcmp(h->magic, magic, sizeof magic))
        return damaged(p, "is not a file of packed weights", err);
    if (h->format != FORMAT || h->entry_bytes != sizeof(struct entry))
        return dr_fail(err, DR_EUNSUPPORTED, "%s: written by another version", p->path);
    if (h->sum != XXH3_64bits(h, offsetof(struct header, sum)))
        return damaged(p, "the header is damaged", err);
    if (h->file_bytes != size)
        return damaged(p, "its size does not match its header", err);
    if (h->blobs > BLOBS_MOST || h->index_at < PACK_HEADER || h->index_at > size ||
        size - h->index_at != h->blobs * sizeof(struct entry) ||
        !memchr(h->key, '\0', sizeof h->key))
        return damaged(p, "the header is invalid", err);
    return 0;
}

/* The blobs fill the file from the header to the index. */
static int read_index(struct pack *p, struct dr_error *err)
{
    const struct header *h = &p->header;
    size_t bytes = (size_t)h->blobs * sizeof *p->index;
    uint64_t at = PACK_HEADER;
    p->index = dr_malloc(DR_TAG_FILE, bytes);
    if (!p->index)
        return dr_fail(err, DR_ENOMEM, "%s: out of memory for its index", p->path);
    int r = read_at(p, p->index, bytes, h->index_at, err);
    if (r)
        return r;
    if (h->index_sum != XXH3_64bits(p->index, bytes))
        return damaged(p, "the index is damaged", err);
    for (uint64_t i = 0; i < h->blobs; i++) {
        const struct entry *e = &p->index[i];
        if (!memchr(e->name, '\0', sizeof e->name) || e->at != at || e->bytes > h->index_at ||
            pack_padded(e->bytes) > h->index_at - at)
            return damaged(p, "the index is invalid", err);
        at += pack_padded(e->bytes);
    }
    return at == h->index_at ? 0 : damaged(p, "the index is invalid", err);
}

int pack_open_any(const char *path, struct pack **ret, struct dr_error *err)
{
    struct stat st;
    struct pack *p;
    int r = pack_new(path, &p, err);
    if (r)
        return r;
    p->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (p->fd < 0 || fstat(p->fd, &st))
        r = dr_fail_errno(err, path, "open");
    else if (!S_ISREG(st.st_mode))
        r = damaged(p, "not a regular file", err);
    else
        r = read_header(p, (uint64_t)st.st_size, err);
    if (!r)
        r = read_index(p, err);
    return hand_over(p, r, ret, err);
}

/* Seldom, as every change of its times makes processes that use it verify it again. In a folder of
 * another user's it fails, and the owner decides what goes. */
static void mark_used(const struct pack *p)
{
    static const struct timespec now[2] = { { 0, UTIME_NOW }, { 0, UTIME_NOW } };
    struct stat st;
    if (!fstat(p->fd, &st) && llabs((long long)dr_epoch() - (long long)st.st_mtim.tv_sec) > MARKED)
        futimens(p->fd, now);
}

int pack_open(const char *path, const char *key, struct pack **ret, struct dr_error *err)
{
    struct pack *p;
    int r = pack_open_any(path, &p, err);
    if (r)
        return r;
    if (strcmp(p->header.key, key)) {
        r = damaged(p, "belongs to another model or kernel set", err);
        pack_close(p);
        return r;
    }
    mark_used(p);
    *ret = p;
    return 0;
}

const void *pack_find(struct pack *p, const char *name, size_t bytes)
{
    uint64_t blobs = p->building ? 0 : p->header.blobs;
    for (uint64_t i = 0; i < blobs; i++) {
        const struct entry *e = &p->index[(p->next + i) % blobs];
        if (strcmp(e->name, name))
            continue;
        p->next += i + 1;
        return e->bytes == bytes ? p->map + e->at : NULL;
    }
    return NULL;
}

int pack_check(const struct pack *p, struct dr_error *err)
{
    struct stat st;
    if (fstat(p->fd, &st))
        return dr_fail_errno(err, p->path, "examine");
    if ((uint64_t)st.st_size != p->header.file_bytes || mapguard_damaged(p->slot))
        return dr_fail(err, DR_EIO, "%s: was changed or could not be read", p->path);
    return 0;
}

void pack_discard(const struct pack *p)
{
    struct stat ours;
    if (!fstat(p->fd, &ours))
        pack_remove(p->path, &ours, NULL);
}

static bool begins_like_a_pack(int fd)
{
    char begins[sizeof magic];
    return pread(fd, begins, sizeof begins, 0) == (ssize_t)sizeof begins &&
           !memcmp(begins, magic, sizeof magic);
}

bool pack_at(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW);
    if (fd < 0)
        return false;
    bool is = begins_like_a_pack(fd);
    close(fd);
    return is;
}

void pack_sweep(const char *path)
{
    struct stat held, named;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
    if (fd < 0)
        return;
    if (!flock(fd, LOCK_EX | LOCK_NB) && begins_like_a_pack(fd) && !fstat(fd, &held) &&
        !lstat(path, &named) && held.st_ino == named.st_ino && held.st_dev == named.st_dev)
        unlink(path);
    close(fd);
}

int pack_remove(const char *path, const struct stat *seen, struct dr_error *err)
{
    struct stat now;
    bool same = !lstat(path, &now) && now.st_dev == seen->st_dev && now.st_ino == seen->st_ino;
    if (!same || !pack_at(path) || !unlink(path) || errno == ENOENT)
        return 0;
    return dr_fail_errno(err, path, "remove");
}

/* ---- making ---- */

bool pack_building(const struct pack *p)
{
    return p->building;
}

void *pack_stage(struct pack *p)
{
    return p->stage;
}

/* A new file beside the path. Its first bytes and the lock distinguish it from files of others and
 * from what a killed process left. A concurrent sweep may unlink it before it is locked: then its
 * link count is 0. */
static int open_temporary(struct pack *p, struct dr_error *err)
{
    for (int tries = 0; tries < 16; tries++) {
        struct stat st;
        p->fd = dr_open_beside(p->path, p->temporary);
        if (p->fd < 0 && errno == ENAMETOOLONG)
            return dr_fail(err, DR_ELIMIT, "%s: the path is too long", p->path);
        if (p->fd < 0)
            return dr_fail_errno(err, p->path, "create");
        /* a file system without locks has no sweep either */
        if ((!flock(p->fd, LOCK_EX | LOCK_NB) || errno != EWOULDBLOCK) && !fstat(p->fd, &st) &&
            st.st_nlink)
            return write_at(p, magic, sizeof magic, 0, err);
        close(p->fd);
        p->fd = -1;
        p->temporary[0] = '\0';
    }
    return dr_fail(err, DR_EIO, "%s: no free name for a temporary file", p->path);
}

/* Its whole size at once, so that a disk which is too full says so now. */
static int reserve(const struct pack *p, struct dr_error *err)
{
    struct rlimit most;
    off_t bytes = (off_t)p->header.file_bytes;
    if (!getrlimit(RLIMIT_FSIZE, &most) && most.rlim_cur != RLIM_INFINITY &&
        p->header.file_bytes > most.rlim_cur)
        return dr_fail(err, DR_ELIMIT, "%s: files may have %llu bytes, it needs %llu", p->path,
                       (unsigned long long)most.rlim_cur, (unsigned long long)p->header.file_bytes);
    int failed;
    while ((failed = fallocate(p->fd, 0, 0, bytes)) && errno == EINTR) {}
    if (failed && (errno == EOPNOTSUPP || errno == ENOSYS))
        failed = ftruncate(p->fd, bytes);
    return failed ? dr_fail_errno(err, p->path, "reserve room for") : 0;
}

/* Only a pack, or the empty file that a power cut leaves, is replaced, whatever its name is. */
static int check_place(const char *path, struct dr_error *err)
{
    struct stat st;
    if (lstat(path, &st) || (S_ISREG(st.st_mode) && (!st.st_size || pack_at(path))))
        return 0;
    return dr_fail(err, DR_EIO, "%s: exists and is not a file of packed weights", path);
}

int pack_create(const char *path, const struct pack_spec *spec, struct pack **ret,
                struct dr_error *err)
{
    struct pack *p;
    if (spec->blobs > BLOBS_MOST || strlen(spec->key) >= PACK_KEY)
        return dr_fail(err, DR_ELIMIT, "%s: too many blobs, or too long a key", path);
    int r = check_place(path, err);
    if (!r)
        r = pack_new(path, &p, err);
    if (r)
        return r;
    struct header *h = &p->header;
    memcpy(h->magic, magic, sizeof magic);
    h->format = FORMAT;
    h->entry_bytes = sizeof(struct entry);
    h->file_bytes = pack_file_bytes(spec);
    h->index_at = PACK_HEADER + spec->bytes;
    h->blobs = spec->blobs;
    snprintf(h->key, sizeof h->key, "%s", spec->key);
    p->at = p->synced = PACK_HEADER;
    p->largest = spec->largest;
    p->building = true;
    p->index = dr_calloc(DR_TAG_FILE, (size_t)spec->blobs, sizeof *p->index);
    p->stage = dr_malloc(DR_TAG_WEIGHTS, (size_t)spec->largest);
    p->piece = dr_malloc(DR_TAG_WEIGHTS, PIECE);
    if (!p->index || !p->stage || !p->piece)
        r = dr_fail(err, DR_ENOMEM, "%s: out of memory", path);
    if (!r)
        r = open_temporary(p, err);
    if (!r)
        r = reserve(p, err);
    return hand_over(p, r, ret, err);
}

/* Starts writing out what was added, and waits for what was added long before: so the end has
 * little to wait for. */
static int write_behind(struct pack *p, struct dr_error *err)
{
    const unsigned all = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                         SYNC_FILE_RANGE_WAIT_AFTER;
    uint64_t until = p->at > BEHIND ? p->at - BEHIND : 0;
    sync_file_range(p->fd, (off_t)p->synced, (off_t)(p->at - p->synced), SYNC_FILE_RANGE_WRITE);
    if (until <= p->synced)
        return 0;
    if (sync_file_range(p->fd, (off_t)p->synced, (off_t)(until - p->synced), all) && errno == EIO)
        return dr_fail_errno(err, p->path, "write");
    p->synced = until;
    return 0;
}

static int read_back(const struct pack *p, uint64_t bytes, struct dr_error *err)
{
    for (uint64_t done = 0; done < bytes; done += PIECE) {
        size_t n = bytes - done < PIECE ? (size_t)(bytes - done) : PIECE;
        int r = read_at(p, p->piece, n, p->at + done, err);
        if (r)
            return r;
        if (memcmp(p->piece, p->stage + done, n))
            return dr_fail(err, DR_EIO, "%s: reading it back gives other bytes than were written",
                           p->path);
    }
    return 0;
}

int pack_add(struct pack *p, const char *name, size_t bytes, const void **ret, struct dr_error *err)
{
    uint64_t whole = pack_padded(bytes);
    if (!p->building || p->next == p->header.blobs || whole > p->largest ||
        whole > p->header.index_at - p->at || strlen(name) >= PACK_NAME)
        return dr_fail(err, DR_EINTERNAL, "%s: '%s' is more than pack_create was asked for",
                       p->path, name);
    struct entry *e = &p->index[p->next];
    memset(p->stage + bytes, 0, (size_t)(whole - bytes));
    snprintf(e->name, sizeof e->name, "%s", name);
    e->at = p->at;
    e->bytes = bytes;
    e->sum = XXH3_64bits(p->stage, (size_t)whole);
    int r = write_at(p, p->stage, (size_t)whole, p->at, err);
    if (!r)
        r = read_back(p, whole, err);
    if (r)
        return r;
    *ret = p->map + p->at;
    p->at += whole;
    p->next++;
    return write_behind(p, err);
}

int pack_finish(struct pack *p, struct dr_error *err)
{
    struct header *h = &p->header;
    size_t bytes = (size_t)h->blobs * sizeof *p->index;
    if (!p->building || p->next != h->blobs || p->at != h->index_at)
        return dr_fail(err, DR_EINTERNAL, "%s: not all blobs were added", p->path);
    h->index_sum = XXH3_64bits(p->index, bytes);
    h->sum = XXH3_64bits(h, offsetof(struct header, sum));
    int r = write_at(p, p->index, bytes, h->index_at, err);
    if (!r)
        r = write_at(p, h, sizeof *h, 0, err);
    if (!r && (fsync(p->fd) || fchmod(p->fd, 0444)))
        r = dr_fail_errno(err, p->path, "write");
    if (!r)
        r = check_place(p->path, err);
    if (!r && rename(p->temporary, p->path))
        r = dr_fail_errno(err, p->path, "replace");
    if (r)
        return r;
    p->temporary[0] = '\0';
    dr_sync_folder(p->path);
    if (fstat(p->fd, &p->verified)) /* each blob was read back */
        memset(&p->verified, 0, sizeof p->verified);
    p->building = false;
    p->next = 0;
    dr_free(p->stage);
    dr_free(p->piece);
    p->stage = p->piece = NULL;
    return 0;
}
