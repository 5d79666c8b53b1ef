/* quantised.c - see quantised.h. */
#include "models/formats/quantised.h"

#include <stdio.h>
#include <string.h>

#include "models/formats/tensor_table.h"

/* A tensor whose last name, or a name between dots, is this. Those of one program stand together,
 * the telling ones first. */
static const struct {
    const char *name, *what;
} signs[] = {
    { "comfy_quant", "weights quantised by ComfyUI" },
    { "scaled_fp8", "fp8 weights with scales" },
    { "scale_weight", "fp8 weights with scales" },
    { "scale_input", "fp8 weights with scales" },
    { "input_scale", "fp8 weights with scales" },
    { "weight_scale_inv", "fp8 weights with scales by block" },
    { "weight_scale_2", "fp4 weights with two scales (NVFP4)" },
    { "wscales", "SVDQuant (nunchaku) weights" },
    { "wtscale", "SVDQuant (nunchaku) weights" },
    { "wzeros", "SVDQuant (nunchaku) weights" },
    { "absmax", "bitsandbytes weights (nf4, fp4 or int8)" },
    { "nested_absmax", "bitsandbytes weights (nf4, fp4 or int8)" },
    { "quant_map", "bitsandbytes weights (nf4, fp4 or int8)" },
    { "quant_state", "bitsandbytes weights (nf4, fp4 or int8)" },
    { "SCB", "bitsandbytes 8-bit weights (LLM.int8)" },
    { "g_idx", "GPTQ weights" },
    { "qzeros", "GPTQ or AWQ weights" },
    { "qweight", "GPTQ, AWQ or SVDQuant weights" },
    { "_data", "weights quantised by quanto" },
    { "weight_qtype", "weights quantised by quanto" },
    { "zero_point", "integer weights with zero points" },
    { "svd_up", "SDNQ weights" },
};

static const char *const networks[] = { "model.diffusion_model.", "conditioner.",
                                        "first_stage_model.", NULL };

static bool of_networks(const char *name)
{
    for (const char *const *prefix = networks; *prefix; prefix++)
        if (!strncmp(name, *prefix, strlen(*prefix)))
            return true;
    return !strcmp(name, "scaled_fp8");
}

/* Whether one of the names between the dots of `name` is `part`. */
static bool has_part(const char *name, const char *part)
{
    size_t n = strlen(part);
    for (const char *at = name; at; at = strchr(at, '.'), at = at ? at + 1 : NULL)
        if (!strncmp(at, part, n) && (!at[n] || at[n] == '.'))
            return true;
    return false;
}

/* A scale whose weight is not of our own 8-bit form, which is I8. */
static bool foreign_scale(const struct st_header *h, const char *name)
{
    char weight[ST_NAME_MAX + 1];
    if (!tensor_is_scale(name))
        return false;
    snprintf(weight, sizeof weight, "%.*s", (int)(strlen(name) - strlen("_scale")), name);
    const struct st_tensor *t = st_find(h, weight);
    return !t || t->dtype != DTYPE_I8;
}

bool quantised(const struct st_header *h, bool whole, char *ret_text, size_t n)
{
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++)
        for (size_t k = 0; k < h->n_tensors; k++) {
            const char *name = h->tensors[k].name;
            if (!has_part(name, signs[i].name) || (whole && !of_networks(name)))
                continue;
            snprintf(ret_text, n, "%s (tensor '%.200s')", signs[i].what, name);
            return true;
        }
    for (size_t k = 0; k < h->n_tensors; k++) {
        const char *name = h->tensors[k].name;
        if (!foreign_scale(h, name) || (whole && !of_networks(name)))
            continue;
        snprintf(ret_text, n, "fp8 weights with scales (tensor '%.200s')", name);
        return true;
    }
    return false;
}
