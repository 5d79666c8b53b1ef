/* digest.h - the SHA-256 of a model, computed once.
 *
 * Of a file: of its bytes. Of a folder: of the text that has one line "PATH SIZE SHA256\n" for each
 * regular file in it, links to files followed, paths relative with '/', lines in byte order. So
 * `sha256sum` can check both.
 *
 * Digests of files are remembered in the user's cache folder by device, inode, size and times of
 * modification and change, so that gigabytes are read only when something changed. A damaged or
 * unwritable cache costs time, nothing else.
 */
#ifndef DR_MODELS_DIGEST_H
#define DR_MODELS_DIGEST_H

#include <stdbool.h>

#include "base/error.h"
#include "base/sha256.h"

struct digest_options {
    const atomic_int *stop;       /* polled about every 10 ms: DR_ECANCELED. NULL: never */
    sha256_progress_fn *progress; /* bytes done and in all, may be NULL */
    void *ctx;
    const char *cache; /* file to remember in; NULL: digests in the user's cache folder; "": none */
};

/* opt may be NULL. DR_EIO when a file changed while it was read. */
int digest_path(const char *path, const struct digest_options *opt, char ret_hex[SHA256_HEX],
                struct dr_error *err);

#endif
