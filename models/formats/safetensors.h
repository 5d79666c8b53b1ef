/* safetensors.h - the safetensors container, mapped and checked.
 *
 * Layout: 8 bytes, little-endian length N of the header; N bytes of JSON, one object of
 *     "name": {"dtype": "F16", "shape": [320, 4, 3, 3], "data_offsets": [begin, end]}
 * with an optional "__metadata__" object of strings; then the data. The header is untrusted input,
 * so it is read by a parser of its own that builds no tree, allocates in proportion to what it has
 * checked, and refuses duplicate names, holes, overlaps, and bytes that no tensor owns. What the
 * reference reads is read: "__metadata__": null, a metadata key that comes twice (the last holds),
 * fields of a tensor that nobody knows (passed over), NUL in names and texts (shown as U+FFFD).
 * Reference: the format's specification (huggingface/safetensors, README) and its Rust reader.
 */
#ifndef DR_MODELS_FORMATS_SAFETENSORS_H
#define DR_MODELS_FORMATS_SAFETENSORS_H

#include "base/error.h"
#include "base/fs.h"
#include "tensor/dtype.h"
#include "tensor/shape.h"

enum {
    ST_HEADER_MAX = 25 << 20, /* bytes */
    ST_TENSORS_MAX = 65536,
    ST_NAME_MAX = 512, /* bytes, UTF-8 */
};

struct st_tensor {
    const char *name;
    enum dtype dtype;
    struct shape shape;
    uint64_t begin, end; /* bytes from the start of the data */
};

struct st_metadata {
    const char *key, *value;
};

/* What the header says. Plain data; the strings are the struct's. */
struct st_header {
    struct st_tensor *tensors; /* sorted by name */
    size_t n_tensors;
    struct st_metadata *metadata; /* sorted by key */
    size_t n_metadata;
    size_t data_at; /* bytes from the start of the file to the data */
    char *strings;  /* owned: all names and texts */
};

/* Parses the first bytes of a file of file_size bytes; `bytes` holds at least min(n, header) of
 * them. `what` names the file in errors. DR_EFORMAT, DR_ELIMIT, DR_EUNSUPPORTED (a dtype Darkroom
 * does not know). */
int st_parse(const uint8_t *bytes, size_t n, uint64_t file_size, const char *what,
             struct st_header *ret, struct dr_error *err);
void st_header_free(struct st_header *h);

/* NULL when there is no tensor of this name. */
const struct st_tensor *st_find(const struct st_header *h, const char *name);

/* A mapped file of tensors. */
struct safetensors {
    struct st_header header;
    struct dr_map map;
    int guard; /* base/mapguard.h slot */
    char *path;
};

/* Of an open file, whose descriptor stays the caller's; `path` names it. A GGUF file (gguf.h),
 * known by its first bytes, is opened as the same table of tensors. Refuses files that are
 * something else by content and says what they are (a pickle, a ZIP archive ...). The struct must
 * not move while it is open. */
int st_open_fd(int fd, const char *path, struct safetensors *ret, struct dr_error *err);
void st_close(struct safetensors *st);
const void *st_data(const struct safetensors *st, const struct st_tensor *t);
/* DR_EIO when the file was changed since it was opened. */
int st_check(const struct safetensors *st, struct dr_error *err);

#endif
