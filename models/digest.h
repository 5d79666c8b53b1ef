/* digest.h - the SHA-256 of a model, computed once.
 *
 * Of a model that is a file: of its bytes. Of a folder: of the text "darkroom model 2\n" with a
 * line "NAME SIZE SHA256\n" for each file that belongs to the model (models/model_files.h), names
 * relative with '/', lines in byte order; other files of the folder do not matter. So `sha256sum`
 * can check both. Of a model with parts that replace its own: of the text "darkroom parts 1\n" with
 * a line "model SHA256\n" and one "PART SHA256\n" for each, in the order of enum component.
 *
 * Digests of weights are remembered in the user's cache folder by device, inode, size and times of
 * modification and change, so that gigabytes are read only when something changed. A damaged or
 * unwritable cache costs time, nothing else.
 */
#ifndef DR_MODELS_DIGEST_H
#define DR_MODELS_DIGEST_H

#include <stdbool.h>

#include "models/model_files.h"

struct digest_options {
    const atomic_int *stop;       /* polled about every 10 ms: DR_ECANCELED. NULL: never */
    sha256_progress_fn *progress; /* bytes done and in all, may be NULL */
    void *ctx;
    const char *cache; /* file to remember in; NULL: digests in the user's cache folder; "": none */
};

/* Of the files as they were opened; opt may be NULL. DR_EIO when one was changed since. Any number
 * of threads at once, while nothing is added to the list. */
int digest_files(const struct model_files *m, const struct digest_options *opt,
                 char ret_hex[SHA256_HEX], struct dr_error *err);

/* The same of a model and parts that replace its own, with the names of their lines; of one alone
 * it is digest_files. */
struct digest_part {
    const char *name;
    const struct model_files *files;
};
int digest_parts(const struct digest_part *parts, int n, const struct digest_options *opt,
                 char ret_hex[SHA256_HEX], struct dr_error *err);

#endif
