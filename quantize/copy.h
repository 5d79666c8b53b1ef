/* copy.h - a copy of a checkpoint with some weights in 8 bits.
 *
 * A chosen "X.weight" becomes I8, with "X.weight_scale" beside it: float32, one for each output
 * (backend/ops/int8.h says how they are rounded). Everything else of the files is copied, and of a
 * folder the files that belong to the model (models/model_files.h) and its licence, where that
 * really lies in the folder or beside the weights (as in the cache of the Hugging Face hub); not
 * its card, which describes another model. Where a file is a link the copy has a file.
 *
 * The copy is made under a temporary name beside its place, in a folder that stays open, and gets
 * its name when it is whole. It remembers what it has made, and removes nothing else.
 *
 *     quantize_begin(&copy, folder, "/models/copy");
 *     r = quantize_write(&copy, c, &choice, stop, err);
 *     if (!r)
 *         r = quantize_commit(&copy, err);
 *     quantize_end(&copy);                               without a commit: removes it
 */
#ifndef DR_QUANTIZE_COPY_H
#define DR_QUANTIZE_COPY_H

#include "base/fs.h"
#include "models/formats/safetensors_write.h"
#include "models/model_loader.h"

#define QUANTIZE_CARD "README.md"
#define QUANTIZE_REPORT "int8_report.json"

/* The chosen ones: a predicate over where a tensor's data lie in memory. */
struct quantize_choice {
    bool (*chosen)(const void *ctx, const void *data);
    const void *ctx;
    const char *note; /* metadata "darkroom.int8" of the files */
    /* Of a copy with other changes: nothing is chosen, and after a file's tensors were copied this
     * puts other bytes into `out`, whose items are the file's tensors. NULL: none. */
    int (*amend)(void *ctx, const struct safetensors *st, struct st_out *out, struct dr_error *err);
    void *amend_ctx;
    const char *amend_note; /* metadata "darkroom.merge" of the files */
};

struct quantize_made;

struct quantize_copy {
    int folder;          /* that the copy lies in; the caller's */
    const char *path;    /* of the copy, for errors; its last part is the name */
    char temporary[256]; /* its name in the folder until it is whole; "": none */
    int own;             /* a copy that is a folder: its descriptor, else -1 */
    struct quantize_made *made;
    size_t n_made, cap_made;
};

void quantize_begin(struct quantize_copy *k, int folder, const char *path);
/* DR_EINVAL for a place inside the model's folder: the copy would be a part of the model. */
int quantize_check(const struct quantize_copy *k, const char *model, struct dr_error *err);
/* DR_EIO when the disk is full or a file changes while it is copied, DR_ECANCELED. */
int quantize_write(struct quantize_copy *k, const struct checkpoint *c,
                   const struct quantize_choice *choice, const atomic_int *stop,
                   struct dr_error *err);
/* The copy as an empty file, *ret_fd, or folder, which others fill. */
int quantize_start(struct quantize_copy *k, bool folder, int *ret_fd, struct dr_error *err);
/* A new file of that folder, by its name below it, with folders as needed; to be closed. */
int quantize_new(struct quantize_copy *k, const char *name, int *ret_fd, struct dr_error *err);
/* The licences of a model that is a folder, into such a copy. */
int quantize_licences(struct quantize_copy *k, const struct checkpoint *c, const atomic_int *stop,
                      struct dr_error *err);
/* One more file of a copy that is a folder. */
int quantize_add(struct quantize_copy *k, const char *name, const struct buf *text,
                 struct dr_error *err);
/* DR_EINVAL when something of its name exists by now: nothing is replaced. */
int quantize_commit(struct quantize_copy *k, struct dr_error *err);
void quantize_end(struct quantize_copy *k);

#endif
