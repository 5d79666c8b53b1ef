/* inspect_part.h - what a file with one part of a model fits; for inspect_model alone. */
#ifndef DR_MODELS_INSPECT_PART_H
#define DR_MODELS_INSPECT_PART_H

#include <jansson.h>

#include "models/formats/safetensors.h"

/* Adds what tells the part's family, "fits" and "option", to the description of a file that has the
 * tensors of a UNet, a text encoder or a VAE; nothing to that of another. 0 or DR_ENOMEM. */
int inspect_part(const struct st_header *h, json_t *o);

#endif
