/* quantised.h - quantisations of other programs, recognised by the names of tensors.
 *
 * Such weights mean something only together with scales, tables or rotations that lie beside them.
 * The numbers alone would give another model, so such files are recognised and refused by name.
 * Plain casts to 8-bit floating point are no quantisation: their values are the weights.
 */
#ifndef DR_MODELS_FORMATS_QUANTISED_H
#define DR_MODELS_FORMATS_QUANTISED_H

#include "models/formats/safetensors.h"

/* "fp8 weights with scales (tensor 'X.scale_weight')" in text; false when nothing is quantised but
 * by quantize/copy.h. `whole`: a checkpoint in one file, where only tensors of its networks
 * count; else all do. */
bool quantised(const struct st_header *h, bool whole, char *ret_text, size_t n);

#endif
