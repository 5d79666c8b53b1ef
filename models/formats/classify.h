/* classify.h - what a safetensors file holds, by the names and shapes of its tensors. */
#ifndef DR_MODELS_FORMATS_CLASSIFY_H
#define DR_MODELS_FORMATS_CLASSIFY_H

#include <stdbool.h>

#include "models/family.h"
#include "models/formats/safetensors.h"

struct file_kind {
    const char *id;              /* "sdxl", "sd1", "lora" ... */
    const char *text;            /* "a Stable Diffusion 1.x checkpoint" */
    const struct family *family; /* of a whole checkpoint that says no more of itself; else NULL */
    bool quantised;
    bool adapter;       /* of those that --lora takes */
    const char *option; /* of a part of a model: the option that takes it, else NULL */
};

/* Never NULL: id "unknown" when nothing fits. Nothing but words may depend on id and text. */
const struct file_kind *classify(const struct st_header *h);

#endif
