/* hash.h - 64-bit FNV-1a (Fowler, Noll and Vo), for tables and fingerprints; never against an
 * adversary who knows the start. */
#ifndef DR_BASE_HASH_H
#define DR_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#define HASH_START UINT64_C(0xcbf29ce484222325)

/* `hash` of more bytes; the first call takes HASH_START or a seed. */
static inline uint64_t dr_hash(uint64_t hash, const void *bytes, size_t n)
{
    const uint8_t *p = bytes;
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ p[i]) * UINT64_C(0x100000001b3);
    return hash;
}

#endif
