/* lora_file.h - a file of LoRA or one of its relatives, read for a model.
 *
 * What each tensor is follows from its name (adapters.def, adapter_keys.h), the family from the
 * names that are there, ranks and factors from the tensors; the file's own name says nothing. All
 * values are looked at once: a number that is not finite is an error here and not a black picture
 * later. Shapes are checked against the model when a variant is made of the deltas
 * (weight_variant.h), which read the mapped file.
 *
 *     r = lora_file_open(root, "style.safetensors", &model, stop, &f, err);
 *     n = lora_file_deltas(f, COMPONENT_UNET, &deltas);
 *     r = weight_variant_open(...);
 *     r = lora_file_check(f, err);         the file was not changed meanwhile
 *     lora_file_close(f);                  after the variant is made
 */
#ifndef DR_MODELS_ADAPTERS_LORA_FILE_H
#define DR_MODELS_ADAPTERS_LORA_FILE_H

#include "models/adapters/adapter_keys.h"
#include "models/formats/safetensors.h"
#include "models/model_files.h"

/* What it is read for. */
struct lora_model {
    const struct adapter_network *networks;
    int n;
    const struct unet_arch *unet;
    /* Only what names and shapes say: no digest, values by lora_file_values, a width of text that
     * no family has is no error. */
    bool survey;
};

struct lora_file;

/* DR_ENOENT; DR_EFORMAT for a file that is broken, has half of a change, or numbers that are not
 * finite; DR_EINVAL for one of which this model can use nothing, and says what it was made for
 * where that can be seen; DR_EUNSUPPORTED for a tensor that is known and cannot be applied. Errors
 * name file and tensor. No file outside of the root (NULL: anywhere). */
int lora_file_open(const struct model_root *root, const char *path, const struct lora_model *model,
                   const atomic_int *stop, struct lora_file **ret, struct dr_error *err);
void lora_file_close(struct lora_file *f);

const char *lora_file_digest(const struct lora_file *f); /* SHA-256 of the file, hexadecimal */
/* Tensors that this model has no use for, in one line; "" when there are none. */
const char *lora_file_warning(const struct lora_file *f);

/* The changes of a network, with strength 1. */
size_t lora_file_deltas(const struct lora_file *f, enum component component,
                        const struct weight_delta **ret);

const struct st_header *lora_file_header(const struct lora_file *f);
/* Tensors that the model uses; *ret_unused: the others. */
size_t lora_file_used(const struct lora_file *f, size_t *ret_unused);
/* The i-th that is not used, of the first few; NULL: none. */
const char *lora_file_unused(const struct lora_file *f, size_t i);
/* Of a survey: DR_EFORMAT for a number that is not finite, DR_EIO, DR_ECANCELED. */
int lora_file_values(const struct lora_file *f, const atomic_int *stop, struct dr_error *err);

/* DR_EIO when it was changed since it was opened. */
int lora_file_check(const struct lora_file *f, struct dr_error *err);

#endif
