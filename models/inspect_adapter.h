/* inspect_adapter.h - what a file of a LoRA or one of its relatives is; for inspect_model alone. */
#ifndef DR_MODELS_INSPECT_ADAPTER_H
#define DR_MODELS_INSPECT_ADAPTER_H

#include <jansson.h>

#include "models/formats/safetensors.h"
#include "models/model_files.h"

/* Fills `o`:
 *     {"kinds": {"LoRA": 192, "LoCon": 12}, "layers": {"unet": 192, "text_encoder": 12},
 *      "spelling": ["kohya (blocks of single files)"], "rank": 8 or "ranks": {"8": 192, "4": 12},
 *      "alpha": 4 or "alphas": {...}, "tensors_used", "tensors_unused", "unused": ["name"],
 *      "fits": "SDXL", "does_not_fit": "Stable Diffusion 1.x, ...", "problem": "..."}
 * `values`: "problem" also says of a number that is not finite. DR_ENOMEM, DR_ECANCELED, and what
 * keeps the file from being opened. */
int inspect_adapter(const struct model_root *root, const char *path, const struct st_header *h,
                    bool values, const atomic_int *stop, json_t *o, struct dr_error *err);

#endif
