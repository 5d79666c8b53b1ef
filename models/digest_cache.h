/* digest_cache.h - remembered digests of files, for digest.c.
 *
 * A line cache (base/line_cache.h) with one line for each file, newest last.
 */
#ifndef DR_MODELS_DIGEST_CACHE_H
#define DR_MODELS_DIGEST_CACHE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/sha256.h"

/* What tells a file from what it was before. */
struct digest_key {
    uint64_t device, inode, size;
    int64_t mtime_ns, ctime_ns;
};

struct digest_key digest_key_of(const struct stat *st);
bool digest_key_equal(const struct digest_key *a, const struct digest_key *b);

bool digest_cache_find(const char *cache, const struct digest_key *key, char ret_hex[SHA256_HEX]);
/* Failure to write is nobody's concern. Files changed within the last moments are not remembered:
 * their next change might carry the same times. */
void digest_cache_add(const char *cache, const struct digest_key *key, const char hex[SHA256_HEX]);

#endif
