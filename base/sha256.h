/* sha256.h - SHA-256 of bytes and of files that may be large (OpenSSL's EVP underneath). */
#ifndef DR_BASE_SHA256_H
#define DR_BASE_SHA256_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { SHA256_BYTES = 32, SHA256_HEX = 65 }; /* HEX includes the terminator */

struct sha256; /* a digest under way */

/* NULL when memory is short. */
struct sha256 *sha256_new(void);
int sha256_update(struct sha256 *s, const void *bytes, size_t n);
int sha256_finish(struct sha256 *s, uint8_t ret_digest[SHA256_BYTES]);
void sha256_free(struct sha256 *s);

int sha256_bytes(const void *bytes, size_t n, uint8_t ret_digest[SHA256_BYTES]);
void sha256_hex(const uint8_t digest[SHA256_BYTES], char ret_hex[SHA256_HEX]);

/* Called after each piece of 64 KiB with bytes done and in all. */
typedef void sha256_progress_fn(void *ctx, uint64_t done, uint64_t total);

/* Digest of an open file, from its start whatever its position, as lower-case hex. Polls *stop
 * (may be NULL) every 64 KiB: DR_ECANCELED when it is not 0. progress may be NULL. */
int sha256_fd(int fd, const char *path, const atomic_int *stop, sha256_progress_fn *progress,
              void *ctx, char ret_hex[SHA256_HEX], struct dr_error *err);

#endif
