/* inversion_file.h - a file of a textual inversion: vectors that stand for a new word (Gal et al.
 * 2022), in the forms that programs write.
 *
 *     AUTOMATIC1111       "emb_params", or "string_to_param..." converted from its .pt: [n, width]
 *     diffusers, kohya    one tensor, often named as its token, "<cat>": [n, width] or [width]
 *     SDXL                "clip_l" [n, width] and "clip_g" [n, width], for its two text encoders
 *
 * What the tensors hold decides, never the file's name. The file is read whole and at once; it is
 * untrusted input.
 */
#ifndef DR_MODELS_ADAPTERS_INVERSION_FILE_H
#define DR_MODELS_ADAPTERS_INVERSION_FILE_H

#include "base/sha256.h"
#include "models/formats/safetensors.h"

enum { INVERSION_PARTS = 2, INVERSION_VECTORS = 4096 /* of a part */ };

/* Which text encoder a part is for: its width decides, or its name does. */
enum inversion_role { INVERSION_ANY, INVERSION_FIRST, INVERSION_SECOND };

struct inversion_part {
    const struct st_tensor *tensor;
    enum inversion_role role;
    int64_t n, width; /* vectors, floats of each */
};

/* The parts of an open file, in the order of their roles. DR_EFORMAT names `path` and the tensor
 * that does not belong or has another shape. */
int inversion_parts(const struct st_header *h, const char *path,
                    struct inversion_part ret_parts[INVERSION_PARTS], int *ret_n,
                    struct dr_error *err);

/* Whether these are the tensors of a textual inversion and of nothing else, for files that nobody
 * has called one. */
bool inversion_likely(const struct st_header *h);

/* "text_encoder_2": the one that a part is for, in the models that inversion_fits names. */
const char *inversion_encoder(const struct inversion_part *part);

/* "SDXL": the models that have text encoders of these widths. */
const char *inversion_fits(const struct inversion_part *parts, int n);

/* A file that was read. */
struct inversion_file {
    char *path;           /* as errors name it */
    char *token;          /* "<cat>" where the tensor has such a name; NULL: none */
    char hex[SHA256_HEX]; /* of the file */
    int n_parts;
    struct {
        char name[ST_NAME_MAX + 1];
        enum inversion_role role;
        int64_t n, width;
        float *vectors; /* [n, width], finite */
    } part[INVERSION_PARTS];
};

/* `fd` stays the caller's. DR_EFORMAT also for a value that is not finite, DR_ELIMIT for a part of
 * more than `most` vectors, before any is read. */
int inversion_read(int fd, const char *path, int64_t most, struct inversion_file *ret,
                   struct dr_error *err);
void inversion_release(struct inversion_file *f);

#endif
