/* pack.h - a file of packed weights: what a kernel set makes of a model, made once.
 *
 * A pack holds named blobs. It is written whole or not at all: into a temporary file of its full
 * size beside its place, each blob read back and compared, then synced and renamed. Opened again it
 * is mapped read-only; its header, size, index and format are checked then. Nothing may be computed
 * from its blobs before pack_verify_mapped has compared each with its checksum, once a process, and
 * again when its file was written to since. A pack that is not exactly what is asked for is no
 * error of the model's: it is made again.
 *
 *     r = pack_open(path, key, &p, err);           DR_ENOENT, DR_EFORMAT: make it
 *     r = pack_verify_mapped(p, &how, err);        DR_EFORMAT: likewise
 *     blob = pack_find(p, "unet/conv_in", bytes);
 *     ...
 *     r = pack_check_after(p, &how, err);          results are to be trusted
 *
 *     r = pack_create(path, &spec, &p, err);
 *     memcpy(pack_stage(p), ...);
 *     r = pack_add(p, "unet/conv_in", bytes, &blob, err);    blob: where it lies from now on
 *     r = pack_finish(p, err);
 *
 * File, in the machine's byte order: a page of header, the blobs at multiples of 64 bytes in the
 * order of pack_add, the index. Every byte is covered by one of the XXH3 sums. The temporary file
 * begins like a pack from the first moment, and its maker holds a lock on it, which ends with the
 * process: a temporary file that begins so and is not locked was left by a killed process.
 */
#ifndef DR_BACKEND_CACHE_PACK_H
#define DR_BACKEND_CACHE_PACK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/error.h"

struct pack;

enum { PACK_NAME = 192, PACK_KEY = 512, PACK_ALIGN = 64 };

struct pack_spec {
    const char *key; /* what it is of: model, kernel set, layout */
    uint64_t blobs;  /* exactly so many will be added, of so many bytes together, each rounded up */
    uint64_t bytes;  /* to PACK_ALIGN; */
    uint64_t largest; /* the largest of them, likewise */
};

/* Of the whole file. */
uint64_t pack_file_bytes(const struct pack_spec *spec);

/* Marks the file as used now, to ten minutes. DR_ENOENT: no such file; DR_EFORMAT: damaged or of
 * another key; DR_EUNSUPPORTED: of another version. */
int pack_open(const char *path, const char *key, struct pack **ret, struct dr_error *err);

/* A file at `path` that is not a pack stays, and is DR_EIO. DR_EIO and its like (a full disk, a
 * folder that cannot be written) are no reason to do without the model. */
int pack_create(const char *path, const struct pack_spec *spec, struct pack **ret,
                struct dr_error *err);
bool pack_building(const struct pack *p);
void *pack_stage(struct pack *p); /* room for the next blob: spec.largest bytes */
int pack_add(struct pack *p, const char *name, size_t bytes, const void **ret,
             struct dr_error *err);
int pack_finish(struct pack *p, struct dr_error *err);

/* For planning: has a blob of any name, of up to `largest` bytes, that must not be read. */
int pack_promise(uint64_t largest, struct pack **ret, struct dr_error *err);
/* For planning where no pack can be kept: has no blobs, and what is made of the weights will be so
 * many bytes of private memory, of which nothing is there yet. */
int pack_promise_private(uint64_t bytes, struct pack **ret, struct dr_error *err);
bool pack_promised(const struct pack *p);          /* either of them */
uint64_t pack_private_bytes(const struct pack *p); /* of the second; else 0 */

/* NULL when it has no blob of that name and size. Quick in the order of pack_add. */
const void *pack_find(struct pack *p, const char *name, size_t bytes);

/* DR_EIO when the file was cut since it was opened, or could not be read: results since then are
 * not to be trusted. Cheap, and says nothing of bytes that changed. */
int pack_check(const struct pack *p, struct dr_error *err);

/* Called by the calling thread with bytes verified and in all. */
typedef void pack_progress_fn(void *ctx, uint64_t done, uint64_t total);
struct pack_verifying {
    int threads;
    const atomic_int *stop;     /* DR_ECANCELED; NULL: never */
    pack_progress_fn *progress; /* may be NULL */
    void *ctx;
};
/* Every blob against its checksum: DR_EFORMAT names one that is damaged. */
int pack_verify_mapped(struct pack *p, const struct pack_verifying *how, struct dr_error *err);
/* Whether its path leads to the file that was verified (or made), untouched since. Cheap. */
bool pack_current(const struct pack *p);
/* For results that were just computed: what pack_check says, and where the file was touched since
 * it was verified, all of it again. DR_EIO: it was damaged meanwhile, and is discarded. */
int pack_check_after(struct pack *p, const struct pack_verifying *how, struct dr_error *err);

/* Takes its name away, so that it will be made again; what is mapped stays. */
void pack_discard(const struct pack *p);

/* Whether a file begins like a pack, of whatever version, whole or not. */
bool pack_at(const char *path);

/* Unlinks a pack if it is still the file that was seen: not what another process made there since,
 * nor a file that does not begin like a pack. Nothing to unlink is no error. */
int pack_remove(const char *path, const struct stat *seen, struct dr_error *err);

/* Unlinks a temporary file that a killed process left; any other file stays. */
void pack_sweep(const char *path);

/* Unmaps it; one that is not finished leaves nothing behind. NULL does nothing. */
void pack_close(struct pack *p);

/* Every byte of a file against its sums: DR_EFORMAT says which blob is damaged; DR_EIO and
 * DR_EUNSUPPORTED say nothing of the kind. */
struct pack_facts {
    char key[PACK_KEY];
    uint64_t blobs, file_bytes;
};
int pack_verify(const char *path, const atomic_int *stop, struct pack_facts *ret,
                struct dr_error *err);

#endif
