/* quantised.c - see quantised.h. */
#include "models/formats/quantised.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"

/* A tensor whose last name, or a name between dots, is this. Those of one program stand together,
 * the telling ones first. */
static const struct {
    const char *name, *what;
} signs[] = {
    { "weight_scale_inv", "fp8 weights with scales by block" },
    { "weight_scale_2", "fp4 weights with two scales (NVFP4)" },
    { "pre_quant_scale", "weights whose inputs are scaled (SmoothQuant or AWQ)" },
    { "weight_zeros", "4-bit weights with zero points" },
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
                                        "first_stage_model.", "cond_stage_model.", NULL };

static bool of_networks(const char *name)
{
    for (const char *const *prefix = networks; *prefix; prefix++)
        if (!strncmp(name, *prefix, strlen(*prefix)))
            return true;
    return false;
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

/* Length of what stands before ".last" in `name`; 0: nothing, or it ends otherwise. */
static size_t stem(const char *name, const char *last)
{
    size_t n = strlen(name), tail = strlen(last);
    return n > tail + 1 && name[n - tail - 1] == '.' && !strcmp(name + n - tail, last)
               ? n - tail - 1
               : 0;
}

size_t scale_of_layer(const char *name)
{
    size_t n = stem(name, "weight_scale");
    return n ? n : stem(name, "scale_weight");
}

bool quantised_mark(const char *name)
{
    return stem(name, "scale_input") || stem(name, "input_scale") || stem(name, "comfy_quant") ||
           stem(name, "scaled_fp8") || !strcmp(name, "scaled_fp8");
}

/* "X.weight" of a layer that one of its tensors names; NULL: none. */
static const struct st_tensor *weight_of(const struct st_header *h, const char *name, size_t n)
{
    char weight[ST_NAME_MAX + sizeof ".weight"];
    snprintf(weight, sizeof weight, "%.*s.weight", (int)n, name);
    return st_find(h, weight);
}

/* A scale that no weight beside it explains: of a stacked matrix, of another spelling. */
static bool stray_scale(const struct st_header *h, const char *name)
{
    const char *last = strrchr(name, '.');
    last = last ? last + 1 : name;
    size_t n = scale_of_layer(name);
    if (n)
        return !weight_of(h, name, n);
    return strstr(last, "weight_scale") || strstr(last, "scale_weight");
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
        if (!stray_scale(h, name) || (whole && !of_networks(name)))
            continue;
        snprintf(ret_text, n,
                 "weights with a scale whose weight is not beside it (tensor '%.200s')", name);
        return true;
    }
    return false;
}

/* ---- ComfyUI's descriptions ---- */

enum { DESCRIPTION = 4096, METADATA = 16 << 20 };

static const struct {
    const char *format;
    enum dtype dtype;
} formats[] = {
    { "float8_e4m3fn", DTYPE_F8_E4M3 },
    { "float8_e5m2", DTYPE_F8_E5M2 },
    { "int8_tensorwise", DTYPE_I8 },
};

/* Keys that say how it is computed, not what a number means. */
static bool harmless(const char *key)
{
    static const char *const keys[] = { "format", "full_precision_matrix_mult", "orig_dtype",
                                        "convrot_groupsize" };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!strcmp(key, keys[i]))
            return true;
    return false;
}

/* `layer` of n bytes is quantised as `config` says. */
static int check_layer(const struct safetensors *st, const char *layer, size_t n,
                       const json_t *config, struct dr_error *err)
{
    const char *format = json_string_value(json_object_get(config, "format"));
    const struct st_tensor *t = weight_of(&st->header, layer, n);
    const char *key;
    json_t *value;
    if (!format)
        return dr_fail(err, DR_EFORMAT, "%s: comfy_quant of layer '%.*s': has no format", st->path,
                       (int)n, layer);
    size_t i = 0;
    while (i < sizeof formats / sizeof *formats && strcmp(formats[i].format, format))
        i++;
    if (i == sizeof formats / sizeof *formats)
        return dr_fail(err, DR_EUNSUPPORTED,
                       "%s: weights quantised by ComfyUI as '%.60s' (layer '%.*s'), which Darkroom "
                       "does not read; it reads float8_e4m3fn, float8_e5m2 and int8_tensorwise",
                       st->path, format, (int)n, layer);
    json_object_foreach((json_t *)config, key, value)
    {
        if (harmless(key) || json_is_false(value) || json_is_null(value))
            continue;
        return dr_fail(
            err, DR_EUNSUPPORTED,
            "%s: weights quantised by ComfyUI with '%.60s' (layer '%.*s'), which Darkroom "
            "does not read",
            st->path, key, (int)n, layer);
    }
    if (t && t->dtype != formats[i].dtype)
        return dr_fail(
            err, DR_EUNSUPPORTED,
            "%s: layer '%.*s' is quantised as %s and its weight is of dtype %s, expected "
            "%s",
            st->path, (int)n, layer, format, dtype_name(t->dtype), dtype_name(formats[i].dtype));
    return 0;
}

static int check_tensor(const struct safetensors *st, const struct st_tensor *t,
                        struct dr_error *err)
{
    static const struct jx_limits limits = { .bytes = DESCRIPTION, .depth = 4, .unquoted = true };
    size_t n = stem(t->name, "comfy_quant");
    json_t *config = NULL;
    if (!n)
        return 0;
    int r = jx_parse(st_data(st, t), (size_t)(t->end - t->begin), &limits, t->name, &config, err);
    r = r ? dr_while(err, r, "reading %s", st->path) : check_layer(st, t->name, n, config, err);
    json_decref(config);
    return r;
}

static int check_metadata(const struct safetensors *st, const char *text, struct dr_error *err)
{
    static const struct jx_limits limits = { .bytes = METADATA };
    json_t *all = NULL, *layers = NULL, *config;
    const char *layer;
    int r = jx_parse(text, strlen(text), &limits, "_quantization_metadata", &all, err);
    if (!r)
        r = jx_get_object(all, "_quantization_metadata", "layers", &layers, err);
    if (r)
        r = dr_while(err, r, "reading %s", st->path);
    json_object_foreach(layers, layer, config)
    {
        if (!r)
            r = check_layer(st, layer, strlen(layer), config, err);
    }
    json_decref(all);
    return r;
}

int comfy_quant_check(const struct safetensors *st, struct dr_error *err)
{
    const struct st_header *h = &st->header;
    int r = 0;
    for (size_t i = 0; !r && i < h->n_metadata; i++)
        if (!strcmp(h->metadata[i].key, "_quantization_metadata"))
            r = check_metadata(st, h->metadata[i].value, err);
    for (size_t i = 0; !r && i < h->n_tensors; i++)
        r = check_tensor(st, &h->tensors[i], err);
    return r;
}
