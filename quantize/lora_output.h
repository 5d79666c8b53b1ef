/* lora_output.h - a LoRA's file in the making: tensors that are copied from others, or are made.
 */
#ifndef DR_QUANTIZE_LORA_OUTPUT_H
#define DR_QUANTIZE_LORA_OUTPUT_H

#include "models/adapters/lora_spelling.h"
#include "models/formats/safetensors_write.h"

struct lora_output {
    struct lora_namer namer; /* .texts is its own */
    enum dtype type;         /* of tensors that are made: F32, F16 or BF16 */
    struct arena texts;
    struct lora_tensor *list;
    size_t n, cap;
};

void lora_output_init(struct lora_output *o);
void lora_output_release(struct lora_output *o);

/* A tensor of another file, as it is. */
int lora_output_copy(struct lora_output *o, enum component c, const char *param, const char *ending,
                     const struct weight_source *from, struct dr_error *err);
/* One with these float32 values, which are taken over (malloc's, also after a failure).
 * DR_EUNSUPPORTED for a value that the type cannot hold. */
int lora_output_make(struct lora_output *o, enum component c, const char *param, const char *ending,
                     const struct shape *shape, float *values, struct dr_error *err);
/* One number, in float32. */
int lora_output_number(struct lora_output *o, enum component c, const char *param,
                       const char *ending, double value, struct dr_error *err);

/* Writes the new file, which is taken over; `path` names it. DR_EINVAL when there is no tensor. */
int lora_output_write(struct lora_output *o, int fd, const char *path,
                      const struct st_metadata *metadata, size_t n_metadata, const atomic_int *stop,
                      struct dr_error *err);

#endif
