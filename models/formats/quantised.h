/* quantised.h - quantisations of other programs, recognised by the names of tensors.
 *
 * Such weights mean something only together with scales, tables or rotations that lie beside them;
 * the numbers alone would give another model. What is read: floating-point and I8 weights with a
 * scale for the tensor or for each output, "X.weight_scale" or "X.scale_weight" beside "X.weight"
 * (ComfyUI's scaled fp8 and int8_tensorwise, and our own 8-bit copies, quantize/copy.h). All others
 * are refused by name. Plain casts to 8-bit floating point are no quantisation: their values are
 * the weights.
 *
 * ComfyUI says how a layer is quantised in a tensor "X.comfy_quant" (JSON as bytes) or in the
 * metadata "_quantization_metadata". Reference: QUANTIZATION.md and comfy/quant_ops.py of ComfyUI.
 */
#ifndef DR_MODELS_FORMATS_QUANTISED_H
#define DR_MODELS_FORMATS_QUANTISED_H

#include "models/formats/safetensors.h"

/* "NVFP4 weights (tensor 'X.weight_scale_2')" in text; false when nothing is quantised in a way
 * that is not read. `whole`: a checkpoint in one file, where only tensors of its networks count;
 * else all do. */
bool quantised(const struct st_header *h, bool whole, char *ret_text, size_t n);

/* What ComfyUI says of each layer: DR_EUNSUPPORTED names a format that is not read, DR_EFORMAT what
 * contradicts the weight's type. */
int comfy_quant_check(const struct safetensors *st, struct dr_error *err);

/* "X" of "X.weight_scale" and "X.scale_weight": its length, 0 for another name. */
size_t scale_of_layer(const char *name);
/* Tensors of quantised layers that no product needs: scales of inputs, marks, descriptions. */
bool quantised_mark(const char *name);

#endif
