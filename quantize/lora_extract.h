/* lora_extract.h - the LoRA that leads from one checkpoint to another.
 *
 * Of each layer whose weights differ the difference becomes the best product of a rank
 * (models/adapters/truncated_svd.h); of biases and norms it is kept as it is, where names have room
 * for that. The other way of lora_merge.h.
 */
#ifndef DR_QUANTIZE_LORA_EXTRACT_H
#define DR_QUANTIZE_LORA_EXTRACT_H

#include <jansson.h>

#include "inference/pipeline.h"
#include "models/adapters/lora_spelling.h"

struct extract_how {
    enum lora_spelling spelling;
    bool spelling_given; /* else as kohya's scripts write for such a model */
    int64_t rank;        /* of each layer at most */
    double energy; /* of each layer's sum of squares, what its rank must hold; 0: the rank alone */
    enum dtype type;
    const char *path; /* of the result, for errors */
    const atomic_int *stop;
    void (*progress)(void *ctx, double fraction); /* may be NULL */
    void *ctx;
};

/* Both are opened (weights need not be loaded); neither is changed. Writes the new file fd, which
 * is taken over. *ret: {"tensors", "layers", "vectors", "rank_least", "rank_most", "energy",
 * "left_out"}: energy is what the products hold of the sum of squares of all layers, left_out the
 * names of what differs and is in no LoRA (tables of embeddings). DR_EINVAL where the two have
 * different layers, or do not differ. */
int lora_extract(struct pipeline *base, struct pipeline *tuned, const struct extract_how *how,
                 int fd, json_t **ret, struct dr_error *err);

#endif
