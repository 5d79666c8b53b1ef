/* lora_spelling.h - names of tensors in adapters' files, as programs write them; the other way of
 * adapter_keys.h. */
#ifndef DR_MODELS_ADAPTERS_LORA_SPELLING_H
#define DR_MODELS_ADAPTERS_LORA_SPELLING_H

#include "base/arena.h"
#include "models/adapters/weight_delta.h"
#include "models/arch.h"
#include "models/component.h"
#include "models/params.h"

enum lora_spelling {
    SPELLING_KOHYA_SINGLE, /* lora_unet_input_blocks_4_1_...: kohya's scripts for SDXL */
    SPELLING_KOHYA,        /* lora_unet_down_blocks_1_attentions_0_...: the same for 1.x */
    SPELLING_DIFFUSERS,    /* unet.down_blocks.1.attentions.0... with lora_A and lora_B: peft */
};

struct lora_namer {
    enum lora_spelling spelling;
    const struct unet_arch *unet; /* for the blocks of single files */
    bool one_encoder;             /* kohya calls the only one lora_te, not lora_te1 */
    struct arena *texts;          /* where names are made */
};

/* "kohya-single", "kohya", "diffusers"; DR_EINVAL lists them. */
int lora_spelling_find(const char *name, enum lora_spelling *ret, struct dr_error *err);

/* The name of the tensor with that ending (".lora_up.weight") of a parameter's module. DR_ENOMEM;
 * DR_EINVAL where single files have no such block. */
int lora_spelling_name(const struct lora_namer *n, enum component component, const char *param,
                       const char *ending, const char **ret, struct dr_error *err);

#endif
