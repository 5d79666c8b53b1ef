/* quantize.h - a copy of a checkpoint with some weights in 8 bits.
 *
 * A chosen "X.weight" becomes I8, with "X.weight_scale" beside it: float32, one for each output
 * (backend/ops/int8.h says how they are rounded). Everything else of the files is copied, and of a
 * folder the files that belong to the model (models/model_files.h) and its licence; not its card,
 * which describes another model. Where a file is a link the copy has a file. The copy is made under
 * a temporary name beside its place and renamed when it is whole.
 */
#ifndef DR_MODELS_QUANTIZE_H
#define DR_MODELS_QUANTIZE_H

#include "base/fs.h"
#include "models/model_loader.h"

#define QUANTIZE_CARD "README.md"

/* The chosen ones: a predicate over where a tensor's data lie in memory. */
struct quantize_choice {
    bool (*chosen)(const void *ctx, const void *data);
    const void *ctx;
    const char *note; /* metadata "darkroom.int8" of the files */
};

/* Writes the copy for `path`, which must not exist, to a name of its own: ret_temporary. On failure
 * nothing is left. DR_EINVAL when there is something at `path`, DR_EIO when the disk is full,
 * DR_ECANCELED. */
int quantize_write(const struct checkpoint *c, const struct quantize_choice *choice,
                   const char *path, char ret_temporary[DR_PATH_MAX], const atomic_int *stop,
                   struct dr_error *err);
/* Gives it its name; takes it away. */
int quantize_commit(const char *temporary, const char *path, struct dr_error *err);
void quantize_abandon(const char *temporary);

#endif
