/* lora_combine.h - LoRAs out of LoRAs: several as one, at another rank, under other names.
 *
 * Products are put side by side, up beside up and down above down, so that one file of the ranks'
 * sum does to the bit of rounding what several do. With a rank, each such product becomes the best
 * one of that rank (truncated_svd.h). Under other names alone tensors stay as they are, byte by
 * byte; names of diffusers have no alpha, so there it is multiplied into one side.
 */
#ifndef DR_QUANTIZE_LORA_COMBINE_H
#define DR_QUANTIZE_LORA_COMBINE_H

#include <jansson.h>

#include "models/adapters/lora_spelling.h"
#include "models/model_files.h"

enum { COMBINE_LORAS = 32 };

struct combine_item {
    const char *path;
    const struct model_root *root; /* NULL: anywhere */
    double strength, text_strength;
};

struct combine_how {
    enum lora_spelling spelling;
    bool spelling_given; /* else as kohya's scripts write for that family */
    int64_t rank;        /* 0: the sum of ranks */
    enum dtype type;     /* F32, F16 or BF16 */
    const char *path;    /* of the result, for errors */
    const atomic_int *stop;
};

/* Writes the new file fd, which is taken over. *ret: {"tensors", "ranks", "fits"}. DR_EUNSUPPORTED
 * names a change that is no plain product or sum; DR_EINVAL for files of different families, and
 * for tensors that nothing can use: nothing is lost in silence. */
int lora_combine(const struct combine_item *items, int n, const struct combine_how *how, int fd,
                 json_t **ret, struct dr_error *err);

/* One file under other names, its metadata kept. */
int lora_respell(const struct combine_item *item, const struct combine_how *how, int fd,
                 json_t **ret, struct dr_error *err);

#endif
