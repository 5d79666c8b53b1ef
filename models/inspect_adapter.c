/* inspect_adapter.c - see inspect_adapter.h. */
#include "models/inspect_adapter.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "models/adapters/lora_survey.h"

enum { MOST_KEYS = 16 }; /* different ranks that are listed */

/* ---- spelling ---- */

/* Of the names of tensors: how they begin, and what is in them. The first that fits counts. */
static const struct spelling {
    const char *begins, *has, *text;
} spellings[] = {
    { "", ".processor.", "diffusers before peft" },
    { "", "_lora.down.", "diffusers before peft" },
    { "", ".lora_linear_layer.", "diffusers before peft" },
    { "lora_unet_input_blocks", "", "kohya (blocks of single files)" },
    { "lora_unet_middle_block", "", "kohya (blocks of single files)" },
    { "lora_unet_output_blocks", "", "kohya (blocks of single files)" },
    { "lora_unet_down_blocks", "", "kohya (blocks of diffusers)" },
    { "lora_unet_mid_block", "", "kohya (blocks of diffusers)" },
    { "lora_unet_up_blocks", "", "kohya (blocks of diffusers)" },
    { "lora_unet_", "", "kohya" },
    { "lora_te", "_text_model_", "kohya (text encoders)" },
    { "lora_te2_text_projection", "", "kohya (text encoders)" },
    { "lora_unet.", "", "dots throughout (OneTrainer)" },
    { "lora_te", ".", "dots throughout (OneTrainer)" },
    { "lycoris_", "", "LyCORIS" },
    { "base_model.model.", "", "peft" },
    { "", ".lora_A.", "peft" },
    { "", ".lora_B.", "peft" },
    { "", ".lora_magnitude_vector", "peft" },
    { "model.diffusion_model.", "", "names of single files" },
    { "diffusion_model.", "", "names of single files" },
    { "clip_l.", "", "names of ComfyUI" },
    { "clip_g.", "", "names of ComfyUI" },
};

enum { SPELLINGS = sizeof spellings / sizeof *spellings };

static const struct spelling *spelling_of(const char *name)
{
    for (int i = 0; i < SPELLINGS; i++)
        if (!strncmp(name, spellings[i].begins, strlen(spellings[i].begins)) &&
            strstr(name, spellings[i].has))
            return &spellings[i];
    return NULL;
}

static bool listed(const json_t *list, const char *text)
{
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item)
    {
        if (!strcmp(json_string_value(item), text))
            return true;
    }
    return false;
}

static int add_spellings(const struct st_header *h, json_t *o)
{
    json_t *list = json_array();
    int r = jx_set(o, "spelling", list);
    for (size_t i = 0; !r && i < h->n_tensors; i++) {
        const struct spelling *s = spelling_of(h->tensors[i].name);
        if (s && !listed(list, s->text))
            r = jx_add(list, json_string(s->text));
    }
    return r;
}

/* ---- counts ---- */

/* One more of `key`; beyond MOST_KEYS keys it is one more of "others". */
static int count(json_t *counts, const char *key)
{
    if (json_object_size(counts) >= MOST_KEYS && !json_object_get(counts, key))
        key = "others";
    json_int_t n = json_integer_value(json_object_get(counts, key));
    return jx_set(counts, key, json_integer(n + 1));
}

struct tables {
    json_t *kinds, *layers, *ranks, *alphas;
};

static int count_change(const struct weight_delta *d, enum component component,
                        const struct tables *t)
{
    char key[40];
    int64_t rank = lora_survey_rank(d);
    int r = count(t->kinds, lora_survey_kind(d));
    if (!r)
        r = count(t->layers, component_name(component));
    snprintf(key, sizeof key, "%lld", (long long)rank);
    if (!r && rank)
        r = count(t->ranks, key);
    snprintf(key, sizeof key, "%g", d->alpha);
    if (!r && rank && d->alpha != 0)
        r = count(t->alphas, key);
    return r;
}

/* {"8": 264} as the one number that it is. */
static int put_counts(json_t *o, const char *one, const char *several, json_t *counts)
{
    double value = 0;
    const char *key = json_object_iter_key(json_object_iter(counts));
    if (!json_object_size(counts))
        return 0;
    if (json_object_size(counts) > 1)
        return jx_set(o, several, json_incref(counts));
    if (sscanf(key, "%lf", &value) != 1)
        return 0;
    bool whole = value > -1e15 && value < 1e15 && value == (double)(long long)value;
    return jx_set(o, one, whole ? json_integer((json_int_t)value) : json_real(value));
}

static int count_file(const struct lora_file *f, const struct tables *t)
{
    int r = 0;
    for (int i = 0; !r && i < COMPONENT_COUNT; i++) {
        const struct weight_delta *deltas;
        size_t n = lora_file_deltas(f, (enum component)i, &deltas);
        for (size_t k = 0; !r && k < n; k++)
            r = count_change(&deltas[k], (enum component)i, t);
    }
    return r;
}

static int add_changes(const struct lora_file *f, json_t *o)
{
    struct tables t = { json_object(), json_object(), json_object(), json_object() };
    size_t unused, used = lora_file_used(f, &unused);
    int r = t.ranks && t.alphas ? jx_set(o, "kinds", json_incref(t.kinds)) : DR_ENOMEM;
    if (!r)
        r = jx_set(o, "layers", json_incref(t.layers));
    if (!r)
        r = count_file(f, &t);
    if (!r)
        r = put_counts(o, "rank", "ranks", t.ranks);
    if (!r)
        r = put_counts(o, "alpha", "alphas", t.alphas);
    if (!r)
        r = jx_set(o, "tensors_used", json_integer((json_int_t)used));
    if (!r)
        r = jx_set(o, "tensors_unused", json_integer((json_int_t)unused));
    json_t *names = r || !unused ? NULL : json_array();
    if (!r && unused)
        r = jx_set(o, "unused", names);
    for (size_t i = 0; !r && lora_file_unused(f, i); i++)
        r = jx_add(names, json_string(lora_file_unused(f, i)));
    json_decref(t.kinds);
    json_decref(t.layers);
    json_decref(t.ranks);
    json_decref(t.alphas);
    return r;
}

/* ---- families ---- */

static int add_families(const struct lora_survey *s, json_t *o)
{
    char others[200] = "";
    size_t at = 0;
    const char *fits = s->best < 0 ? "no family that is known here: layers of other widths"
                                   : s->family[s->best].name;
    int r = jx_set(o, "fits", json_string(fits));
    if (!r && s->best >= 0 && s->family[s->best].fits < s->changes)
        r = jx_set(o, "of_other_shape",
                   json_integer((json_int_t)(s->changes - s->family[s->best].fits)));
    for (int i = 0; i < SURVEY_FAMILIES; i++)
        if (i != s->best && (s->best < 0 || s->family[i].fits < s->family[s->best].fits))
            at += (size_t)snprintf(others + at, sizeof others - at, "%s%s", at ? ", " : "",
                                   s->family[i].name);
    return r || !at ? r : jx_set(o, "does_not_fit", json_string(others));
}

int inspect_adapter(const struct model_root *root, const char *path, const struct st_header *h,
                    bool values, const atomic_int *stop, json_t *o, struct dr_error *err)
{
    struct lora_survey s;
    int r = lora_survey_open(root, path, values, stop, &s, err);
    if (r)
        return r;
    if (s.file)
        r = add_changes(s.file, o);
    if (!r)
        r = add_spellings(h, o);
    if (!r && s.file)
        r = add_families(&s, o);
    if (!r && *s.problem)
        r = jx_set(o, "problem", json_string(s.problem));
    lora_survey_close(&s);
    return r ? dr_fail(err, DR_ENOMEM, "%s: out of memory to describe it", path) : 0;
}
