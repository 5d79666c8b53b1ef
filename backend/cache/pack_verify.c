/* pack_verify.c - see pack.h: the bytes of a pack against their checksums.
 *
 * XXH3 runs at the speed of memory, so a few threads keep up with any disk. A blob's pages are
 * given back when it is done: verifying takes no more memory than its largest blobs.
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <xxhash.h>

#include "backend/cache/pack_internal.h"

enum { THREADS_MOST = 8 };

struct verifying {
    const struct pack *p;
    const atomic_int *stop;
    pack_progress_fn *progress; /* called by the first thread only */
    void *ctx;
    atomic_ullong next, done; /* blob to take; bytes that are right */
    atomic_ullong damaged;    /* number of a blob plus 1; 0: none */
};

static bool is_stopped(const struct verifying *v)
{
    return v->stop && atomic_load(v->stop);
}

static bool verify_blob(const struct pack *p, const struct entry *e)
{
    const char *blob = p->map + e->at;
    size_t n = (size_t)pack_padded(e->bytes);
    uintptr_t first = (uintptr_t)blob / PACK_HEADER * PACK_HEADER;
    bool right = XXH3_64bits(blob, n) == e->sum;
    madvise((void *)first, (uintptr_t)blob + n - first, MADV_DONTNEED);
    return right;
}

static void verify_share(struct verifying *v, bool tells)
{
    const struct pack *p = v->p;
    uint64_t i;
    while (!is_stopped(v) && !atomic_load(&v->damaged) &&
           (i = atomic_fetch_add(&v->next, 1)) < p->header.blobs) {
        if (!verify_blob(p, &p->index[i])) {
            atomic_store(&v->damaged, i + 1);
            return;
        }
        uint64_t done = atomic_fetch_add(&v->done, p->index[i].bytes) + p->index[i].bytes;
        if (tells && v->progress)
            v->progress(v->ctx, done, p->header.file_bytes);
    }
}

static void *verify_thread(void *arg)
{
    verify_share(arg, false);
    return NULL;
}

/* DR_EFORMAT names a damaged blob; DR_EIO: the file was cut or cannot be read. */
static int verify_blobs(struct verifying *v, int threads, struct dr_error *err)
{
    pthread_t thread[THREADS_MOST];
    int n = 0;
    threads = threads < THREADS_MOST ? threads : THREADS_MOST;
    while (n < threads - 1 && !pthread_create(&thread[n], NULL, verify_thread, v))
        n++;
    verify_share(v, true);
    while (n)
        pthread_join(thread[--n], NULL);
    uint64_t damaged = atomic_load(&v->damaged);
    int r = pack_check(v->p, err);
    if (!r && damaged)
        r = dr_fail(err, DR_EFORMAT, "%s: %s is damaged", v->p->path,
                    v->p->index[damaged - 1].name);
    if (!r && is_stopped(v))
        r = dr_fail(err, DR_ECANCELED, "%s: verifying stopped", v->p->path);
    if (!r && v->progress) /* the last blob may have been another thread's */
        v->progress(v->ctx, v->p->header.file_bytes, v->p->header.file_bytes);
    return r;
}

int pack_verify(const char *path, const atomic_int *stop, struct pack_facts *ret,
                struct dr_error *err)
{
    struct pack *p;
    int r = pack_open_any(path, &p, err);
    if (r)
        return r;
    struct verifying v = { .p = p, .stop = stop };
    snprintf(ret->key, sizeof ret->key, "%s", p->header.key);
    ret->blobs = p->header.blobs;
    ret->file_bytes = p->header.file_bytes;
    r = verify_blobs(&v, 1, err);
    pack_close(p);
    return r;
}

/* ---- of one that is in use ---- */

static bool same_times(const struct stat *a, const struct stat *b)
{
    return a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec && a->st_ctim.tv_sec == b->st_ctim.tv_sec &&
           a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

int pack_verify_mapped(struct pack *p, const struct pack_verifying *how, struct dr_error *err)
{
    struct stat before;
    struct verifying v = { .p = p, .stop = how->stop, .progress = how->progress, .ctx = how->ctx };
    if (p->promised || p->building)
        return 0;
    if (fstat(p->fd, &before)) /* what is written while it is verified shows later */
        return dr_fail_errno(err, p->path, "examine");
    memset(&p->verified, 0, sizeof p->verified);
    int r = verify_blobs(&v, how->threads, err);
    if (!r)
        p->verified = before;
    return r;
}

bool pack_current(const struct pack *p)
{
    struct stat now;
    return p->promised || p->building ||
           (!stat(p->path, &now) && now.st_dev == p->verified.st_dev &&
            now.st_ino == p->verified.st_ino && same_times(&now, &p->verified));
}

int pack_check_after(struct pack *p, const struct pack_verifying *how, struct dr_error *err)
{
    struct stat now;
    if (p->promised)
        return 0;
    int r = pack_check(p, err);
    if (!r && (fstat(p->fd, &now) || !same_times(&now, &p->verified)))
        r = pack_verify_mapped(p, how, err);
    if (r == DR_EFORMAT)
        r = dr_fail(err, DR_EIO, "%s: was damaged while it was in use", p->path);
    if (r == DR_EIO)
        pack_discard(p);
    return r;
}
