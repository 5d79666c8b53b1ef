/* lora_merge.h - a copy of a checkpoint with LoRAs in its weights.
 *
 * The sums are those that a picture with these LoRAs is drawn with (weight_variant.h): base +
 * changes in float32, rounded once to the type that the checkpoint stores. Everything else of the
 * model is copied as copy.h says.
 */
#ifndef DR_QUANTIZE_LORA_MERGE_H
#define DR_QUANTIZE_LORA_MERGE_H

#include <jansson.h>

#include "inference/pipeline.h"
#include "quantize/copy.h"

enum { MERGE_LORAS = 32 };

struct merge_item {
    const char *path;
    const struct model_root *root; /* NULL: anywhere */
    double strength, text_strength;
    const char *blocks; /* strengths by block, as requests have them; "" */
};

/* Writes base (opened, on a float32 backend) with the LoRAs into the copy, which the caller commits
 * or ends. *ret: {"changed": tensors, "loras": [{"name", "strength", "text_strength", "sha256"}],
 * "warnings": [...]}. Errors are those of lora_file_open and quantize_write; DR_EUNSUPPORTED for
 * changes to weights that are not F32, F16 or BF16, and for a number that these cannot hold. */
int lora_merge(struct quantize_copy *copy, struct pipeline *base, const struct merge_item *items,
               int n, const atomic_int *stop, json_t **ret, struct dr_error *err);

#endif
