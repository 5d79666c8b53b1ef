/* safetensors_write.h - a safetensors file written piece by piece, of any size, with its room on
 * the disk taken first. The caller gives the path of a temporary file and renames it when all is
 * well. */
#ifndef DR_MODELS_FORMATS_SAFETENSORS_WRITE_H
#define DR_MODELS_FORMATS_SAFETENSORS_WRITE_H

#include "models/formats/safetensors.h"

/* A tensor to be: name and shape borrowed by st_out_open only. */
struct st_item {
    const char *name;
    enum dtype dtype;
    struct shape shape;
};

struct st_out {
    int fd;           /* -1: not open */
    const char *path; /* borrowed */
    uint64_t *at;     /* [items + 1] bytes from the start of the file; owned */
};

/* Writes the header into the new file `fd`, which is taken over, also after a failure; `path` is
 * what errors call it. Tensors lie in the order of the items. DR_EIO when the disk is too small. */
int st_out_open(int fd, const char *path, const struct st_item *items, size_t n,
                const struct st_metadata *metadata, size_t n_metadata, struct st_out *ret,
                struct dr_error *err);
/* Takes the room of a file of `size` bytes on its disk. */
int st_out_start(const struct st_out *out, uint64_t size, struct dr_error *err);
/* Bytes of item i from `offset` of it on; pieces in any order. */
int st_out_put(struct st_out *out, size_t i, uint64_t offset, const void *bytes, size_t n,
               struct dr_error *err);
/* Syncs to disk and closes; after a failure the file is unusable. */
int st_out_close(struct st_out *out, struct dr_error *err);
/* Closes after a failure; does nothing if already closed. */
void st_out_release(struct st_out *out);

#endif
