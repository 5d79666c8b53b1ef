/* classify.h - what a safetensors file holds, by the names and shapes of its tensors. */
#ifndef DR_MODELS_FORMATS_CLASSIFY_H
#define DR_MODELS_FORMATS_CLASSIFY_H

#include <stdbool.h>

#include "models/formats/safetensors.h"

struct file_kind {
    const char *id;   /* "sdxl", "sd1", "lora" ... */
    const char *text; /* "a Stable Diffusion 1.x checkpoint" */
};

/* Never NULL: id "unknown" when nothing fits. id "sdxl" means a single file of the SDXL family. */
const struct file_kind *classify(const struct st_header *h);

#endif
