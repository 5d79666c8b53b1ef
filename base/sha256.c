/* sha256.c - see sha256.h. OpenSSL picks the processor's SHA instructions by itself. */
#include "base/sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"

enum { PIECE = 64 << 10 };

struct sha256 {
    EVP_MD_CTX *context;
};

struct sha256 *sha256_new(void)
{
    struct sha256 *s = dr_malloc(DR_TAG_BASE, sizeof *s);
    if (!s)
        return NULL;
    s->context = EVP_MD_CTX_new();
    if (!s->context || EVP_DigestInit_ex(s->context, EVP_sha256(), NULL) != 1) {
        sha256_free(s);
        return NULL;
    }
    return s;
}

int sha256_update(struct sha256 *s, const void *bytes, size_t n)
{
    return EVP_DigestUpdate(s->context, bytes, n) == 1 ? 0 : DR_EINTERNAL;
}

int sha256_finish(struct sha256 *s, uint8_t ret_digest[SHA256_BYTES])
{
    return EVP_DigestFinal_ex(s->context, ret_digest, NULL) == 1 ? 0 : DR_EINTERNAL;
}

void sha256_free(struct sha256 *s)
{
    if (!s)
        return;
    EVP_MD_CTX_free(s->context);
    dr_free(s);
}

int sha256_bytes(const void *bytes, size_t n, uint8_t ret_digest[SHA256_BYTES])
{
    struct sha256 *s = sha256_new();
    if (!s)
        return DR_ENOMEM;
    int r = sha256_update(s, bytes, n);
    if (!r)
        r = sha256_finish(s, ret_digest);
    sha256_free(s);
    return r;
}

void sha256_hex(const uint8_t digest[SHA256_BYTES], char ret_hex[SHA256_HEX])
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < SHA256_BYTES; i++) {
        ret_hex[2 * i] = digits[digest[i] >> 4];
        ret_hex[2 * i + 1] = digits[digest[i] & 15];
    }
    ret_hex[SHA256_HEX - 1] = '\0';
}

static int hash_open_file(struct sha256 *s, int fd, uint64_t total, uint8_t *piece,
                          const char *path, const atomic_int *stop, sha256_progress_fn *progress,
                          void *ctx, struct dr_error *err)
{
    uint64_t done = 0;
    for (;;) {
        if (stop && atomic_load(stop))
            return dr_fail(err, DR_ECANCELED, "%s: hashing stopped", path);
        ssize_t n = pread(fd, piece, PIECE, (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return dr_fail_errno(err, path, "read");
        if (!n)
            return 0;
        if (sha256_update(s, piece, (size_t)n))
            return dr_fail(err, DR_EINTERNAL, "%s: SHA-256 failed", path);
        done += (uint64_t)n;
        if (progress)
            progress(ctx, done, total);
    }
}

int sha256_fd(int fd, const char *path, const atomic_int *stop, sha256_progress_fn *progress,
              void *ctx, char ret_hex[SHA256_HEX], struct dr_error *err)
{
    uint8_t digest[SHA256_BYTES];
    struct stat st;
    struct sha256 *s = sha256_new();
    uint8_t *piece = dr_malloc(DR_TAG_FILE, PIECE);
    int r = 0;
    if (!s || !piece)
        r = dr_fail(err, DR_ENOMEM, "%s: out of memory", path);
    else if (fstat(fd, &st))
        r = dr_fail_errno(err, path, "examine");
    else if (!S_ISREG(st.st_mode))
        r = dr_fail(err, DR_EINVAL, "%s: not a regular file", path);
    if (!r)
        r = hash_open_file(s, fd, (uint64_t)st.st_size, piece, path, stop, progress, ctx, err);
    if (!r && sha256_finish(s, digest))
        r = dr_fail(err, DR_EINTERNAL, "%s: SHA-256 failed", path);
    if (!r)
        sha256_hex(digest, ret_hex);
    dr_free(piece);
    sha256_free(s);
    return r;
}
