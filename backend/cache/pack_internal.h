/* pack_internal.h - the inside of a pack, for pack.c and pack_verify.c. */
#ifndef DR_BACKEND_CACHE_PACK_INTERNAL_H
#define DR_BACKEND_CACHE_PACK_INTERNAL_H

#include <sys/stat.h>

#include "backend/cache/pack.h"
#include "base/fs.h"

enum { PACK_HEADER = 4096 };

struct header {
    char magic[16];
    uint32_t format, entry_bytes;
    uint64_t file_bytes, index_at, blobs, index_sum;
    char key[PACK_KEY];
    char rest[PACK_HEADER - 64 - PACK_KEY];
    uint64_t sum; /* of all before it */
};

struct entry {
    char name[PACK_NAME];
    uint64_t at, bytes, sum; /* the sum also covers the zeros up to PACK_ALIGN */
};

_Static_assert(sizeof(struct header) == PACK_HEADER, "the header is a page");

struct pack {
    char path[DR_PATH_MAX], temporary[DR_PATH_MAX]; /* temporary: "" once it has its name */
    int fd, slot;
    const char *map;
    struct header header;
    struct entry *index;
    struct stat verified; /* the file when its bytes were last known to be right; zero: never */
    uint64_t next;        /* building: blobs so far; else where the next look begins */
    uint64_t at;          /* building: of the next blob */
    uint64_t synced;      /* building: bytes known to be on the disk */
    uint64_t largest;
    uint64_t private_bytes; /* promised; 0: kept in a file, or nothing was promised */
    char *stage, *piece;
    bool building, promised;
};

static inline uint64_t pack_padded(uint64_t bytes)
{
    return (bytes + PACK_ALIGN - 1) / PACK_ALIGN * PACK_ALIGN;
}

/* Opens and maps a finished pack of any key. */
int pack_open_any(const char *path, struct pack **ret, struct dr_error *err);

#endif
