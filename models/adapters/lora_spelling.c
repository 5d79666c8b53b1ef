/* lora_spelling.c - see lora_spelling.h. */
#include "models/adapters/lora_spelling.h"

#include <stdio.h>
#include <string.h>

#include "base/nearest.h"
#include "models/adapters/unet_blocks.h"

static const char *const names[] = {
    [SPELLING_KOHYA_SINGLE] = "kohya-single",
    [SPELLING_KOHYA] = "kohya",
    [SPELLING_DIFFUSERS] = "diffusers",
};

int lora_spelling_find(const char *name, enum lora_spelling *ret, struct dr_error *err)
{
    const size_t n = sizeof names / sizeof *names;
    for (size_t i = 0; i < n; i++)
        if (!strcmp(name, names[i])) {
            *ret = (enum lora_spelling)i;
            return 0;
        }
    return dr_fail_choice(err, DR_EINVAL, "names", name, names, n);
}

static const char *prefix_of(const struct lora_namer *n, enum component c)
{
    bool dots = n->spelling == SPELLING_DIFFUSERS;
    switch (c) {
    case COMPONENT_UNET:
        return dots ? "unet." : "lora_unet_";
    case COMPONENT_TEXT_ENCODER:
        return dots ? "text_encoder." : n->one_encoder ? "lora_te_" : "lora_te1_";
    default:
        return dots ? "text_encoder_2." : "lora_te2_";
    }
}

int lora_spelling_name(const struct lora_namer *n, enum component component, const char *param,
                       const char *ending, const char **ret, struct dr_error *err)
{
    char single[PARAM_NAME + 64], module[PARAM_NAME + 64];
    const char *dot = strrchr(param, '.');
    const char *as = module;
    snprintf(module, sizeof module, "%.*s", dot ? (int)(dot - param) : PARAM_NAME, param);
    if (n->spelling == SPELLING_KOHYA_SINGLE && component == COMPONENT_UNET) {
        if (!unet_single_name(n->unet, module, single, sizeof single))
            return dr_fail_field(err, DR_EINVAL, module, "a layer that single files do not have",
                                 "another spelling of names", NULL);
        as = single;
    }
    size_t before = strlen(prefix_of(n, component));
    char *name = arena_printf(n->texts, "%s%s%s", prefix_of(n, component), as, ending);
    if (!name)
        return dr_fail(err, DR_ENOMEM, "out of memory for the names of a LoRA");
    for (char *p = name + before;
         n->spelling != SPELLING_DIFFUSERS && p < name + before + strlen(as); p++)
        *p = *p == '.' ? '_' : *p;
    *ret = name;
    return 0;
}
