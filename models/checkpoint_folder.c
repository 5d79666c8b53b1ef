/* checkpoint_folder.c - opening a diffusers folder, see checkpoint_impl.h.
 *
 * model_index.json says what the pipeline is; unet/, vae/, text_encoder/ and text_encoder_2/ hold a
 * config.json and weights each: NAME.safetensors, or shards listed in NAME.safetensors.index.json,
 * and the same with a half precision variant. Names that an index gives are taken as names of files
 * in that folder, nothing else.
 */
#include "models/checkpoint_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"
#include "models/formats/classify.h"
#include "models/formats/config_arch.h"
#include "models/formats/key_map.h"
#include "models/formats/quantised.h"
#include "models/formulation.h"

static const struct jx_limits config_limits = { .bytes = 1 << 20, .python = true };
static const struct jx_limits index_limits = { .bytes = 16 << 20 };

/* The name of a component's file, relative to the model or to the part that replaces it: a part's
 * folder is the component's own, or that of a whole pipeline. */
static int place(const struct checkpoint *c, enum component component, const char *name, char *dst,
                 size_t n, struct dr_error *err)
{
    bool inside = !c->own[component] || c->pipeline[component];
    int len = snprintf(dst, n, "%s%s%s", inside ? component_name(component) : "", inside ? "/" : "",
                       name);
    return len < 0 || (size_t)len >= n ? dr_fail(err, DR_ELIMIT, "%s: a file name is too long",
                                                 checkpoint_source_path(c, component))
                                       : 0;
}

/* ---- weights ---- */

static int add_file_tensors(struct checkpoint *c, enum component component,
                            const struct safetensors *st, struct dr_error *err)
{
    char what[320];
    if (quantised(&st->header, false, what, sizeof what))
        return dr_fail(err, DR_EUNSUPPORTED, "%s: %s, which Darkroom does not read", st->path,
                       what);
    int r = comfy_quant_check(st, err);
    for (size_t i = 0; !r && i < st->header.n_tensors; i++) {
        const struct st_tensor *t = &st->header.tensors[i];
        struct weight_source src = checkpoint_source(st, t, 0, 1);
        struct key_target target;
        enum key_answer answer = key_map_folder(component, t->name, &target);
        if (answer == KEY_KNOWN)
            r = tensor_table_add(&c->tables[component], &c->texts, target.name, &src, false, err);
        else if (answer == KEY_UNKNOWN)
            name_group_add(&c->unused, t->name);
    }
    return r;
}

static int add_weights(struct checkpoint *c, enum component component, const char *name,
                       struct dr_error *err)
{
    char relative[DR_PATH_MAX];
    struct safetensors *st;
    int r = place(c, component, name, relative, sizeof relative, err);
    if (!r)
        r = checkpoint_add_file(c, component, relative, &st, err);
    return r ? r : add_file_tensors(c, component, st, err);
}

/* ---- shards ---- */

/* What an index says of one tensor. */
struct placed {
    const char *tensor, *shard;
};

static int by_shard(const void *a, const void *b)
{
    const struct placed *x = a, *y = b;
    int order = strcmp(x->shard, y->shard);
    return order ? order : strcmp(x->tensor, y->tensor);
}

/* The name of a file in the same folder. */
static bool is_shard_name(const char *name)
{
    if (!name || !*name || !strcmp(name, ".") || !strcmp(name, ".."))
        return false;
    for (const char *p = name; *p; p++)
        if (*p == '/' || (unsigned char)*p < 0x20 || *p == 0x7f)
            return false;
    return true;
}

/* The map's entries, those of a shard together; dr_free them. */
static int sort_map(const char *path, const json_t *map, const char *index, struct placed **ret,
                    struct dr_error *err)
{
    size_t n = json_object_size(map), i = 0;
    const char *key;
    json_t *value;
    if (n > ST_TENSORS_MAX)
        return dr_fail(err, DR_ELIMIT, "%s/%s: weight_map: %zu tensors, at most %d accepted", path,
                       index, n, ST_TENSORS_MAX);
    struct placed *list = dr_malloc(DR_TAG_FILE, (n + 1) * sizeof *list);
    if (!list)
        return dr_fail(err, DR_ENOMEM, "%s/%s: out of memory for its tensors", path, index);
    json_object_foreach((json_t *)map, key, value)
    {
        const char *shard = json_string_value(value);
        if (!is_shard_name(shard)) {
            dr_free(list);
            return dr_fail(err, DR_EFORMAT, "%s/%s: weight_map: expected names of files beside it",
                           path, index);
        }
        list[i++] = (struct placed){ key, shard };
    }
    if (n)
        qsort(list, n, sizeof *list, by_shard);
    *ret = list;
    return 0;
}

/* Opens each shard once and looks there for the tensors that it should hold. */
static int open_shards(struct checkpoint *c, enum component component, const char *index,
                       const struct placed *list, size_t n, struct dr_error *err)
{
    for (size_t i = 0; i < n;) {
        const char *shard = list[i].shard;
        int r = add_weights(c, component, shard, err);
        if (r)
            return r;
        const struct st_header *h = &c->files[c->n_files - 1]->header;
        for (; i < n && !strcmp(list[i].shard, shard); i++)
            if (!st_find(h, list[i].tensor))
                return dr_fail(err, DR_EFORMAT, "%s/%s: tensor '%.200s' is not in '%.200s'",
                               checkpoint_source_path(c, component), index, list[i].tensor, shard);
    }
    return 0;
}

static int add_shards(struct checkpoint *c, enum component component, const char *index_name,
                      struct dr_error *err)
{
    char relative[512];
    json_t *index = NULL, *map;
    struct placed *list = NULL;
    struct jx_limits limits = index_limits;
    limits.stop = c->stop;
    int r = place(c, component, index_name, relative, sizeof relative, err);
    if (!r)
        r = model_files_json(checkpoint_files(c, component), relative, false, &limits, &index, err);
    if (!r)
        r = jx_get_object(index, relative, "weight_map", &map, err);
    if (!r)
        r = sort_map(checkpoint_source_path(c, component), map, relative, &list, err);
    if (!r)
        r = open_shards(c, component, relative, list, json_object_size(map), err);
    dr_free(list);
    json_decref(index);
    return r;
}

/* ---- the weights of a component ---- */

/* Finds the weights by the names that diffusers and transformers write. */
static int open_weights(struct checkpoint *c, enum component component, struct dr_error *err)
{
    static const char *const names[] = {
        "%s.safetensors",
        "%s.safetensors.index.json",
        "%s.fp16.safetensors",
        "%s.safetensors.index.fp16.json",
        "%s.fp16.safetensors.index.json",
        "%s.bf16.safetensors",
    };
    static const char *const pickles[] = { "%s.bin", "%s.fp16.bin", "%s.bin.index.json",
                                           "%s.ckpt" };
    bool text = component == COMPONENT_TEXT_ENCODER || component == COMPONENT_TEXT_ENCODER_2;
    struct model_files *files = checkpoint_files(c, component);
    const char *stem = text ? "model" : "diffusion_pytorch_model";
    char name[128], relative[256];
    const struct model_file *f;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        bool index = strstr(names[i], ".json") != NULL;
        snprintf(name, sizeof name, names[i], stem);
        int r = place(c, component, name, relative, sizeof relative, err);
        if (!r)
            r = model_files_find(files, relative, index ? index_limits.bytes : 0, &f, err);
        if (r)
            return r;
        if (f)
            return index ? add_shards(c, component, name, err)
                         : add_weights(c, component, name, err);
    }
    for (size_t i = 0; i < sizeof pickles / sizeof *pickles; i++) {
        snprintf(name, sizeof name, pickles[i], text ? "pytorch_model" : stem);
        int r = place(c, component, name, relative, sizeof relative, err);
        if (!r)
            r = model_files_find(files, relative, 0, &f, err);
        if (r)
            return r;
        if (f)
            return dr_fail(
                err, DR_EUNSUPPORTED,
                "%s: a Python pickle; pickles can run code when they are read, so "
                "Darkroom never does; `darkroom convert FILE -o NAME.safetensors` makes a "
                "safetensors file of its tensors",
                f->path);
    }
    bool inside = !c->own[component] || c->pipeline[component];
    return dr_fail(err, DR_ENOENT, "%s%s%s: no %s.safetensors in it", model_files_path(files),
                   inside ? "/" : "", inside ? component_name(component) : "", stem);
}

/* ---- configuration ---- */

static int note_unknown(void *ctx, const char *file, const char *key)
{
    (void)file;
    name_group_add(ctx, key);
    return 0;
}

static int read_clip(struct checkpoint *c, const json_t *config, const char *file,
                     enum component component, const struct config_unknown *unknown,
                     struct dr_error *err)
{
    int projects = -1;
    int r = config_clip(config, file, unknown, checkpoint_clip(c, component), &projects, err);
    if (r)
        return r;
    if (projects < 0)
        projects = tensor_table_find(&c->tables[component], "text_projection.weight") != NULL;
    if (!projects)
        checkpoint_clip(c, component)->projection = 0;
    return 0;
}

int checkpoint_split_added(struct checkpoint *c, int64_t added, const char *file,
                           struct dr_error *err)
{
    const struct family_encoder *e = family_pooled(c->family);
    int64_t pooled = checkpoint_clip(c, e->component)->projection;
    int64_t width = c->unet.addition_time_dim;
    if (added <= pooled || (added - pooled) % width || (added - pooled) / width > 64)
        return dr_fail(err, DR_EFORMAT,
                       "%s: projection_class_embeddings_input_dim: got %lld, expected "
                       "%s's projection_dim (%lld) plus a multiple of "
                       "addition_time_embed_dim (%lld)",
                       file, (long long)added, component_name(e->component), (long long)pooled,
                       (long long)width);
    c->unet.pooled = pooled;
    c->unet.n_time_ids = (int)((added - pooled) / width);
    return 0;
}

/* The class that the configuration of a part names; "" where it names none. */
static int check_class(const struct checkpoint *c, enum component component, const json_t *config,
                       struct dr_error *err)
{
    static const char *const classes[COMPONENT_COUNT] = {
        [COMPONENT_UNET] = "UNet2DConditionModel", [COMPONENT_VAE] = "AutoencoderKL"
    };
    const char *expected = classes[component], *name;
    name = json_string_value(json_object_get(config, "_class_name"));
    if (!c->own[component] || !expected || !name || !strcmp(name, expected) ||
        (component == COMPONENT_VAE && !strcmp(name, "AutoencoderTiny")))
        return 0;
    return dr_fail(err, DR_EUNSUPPORTED, "%s: this is a folder for %.80s, expected one for %s",
                   checkpoint_part_path(c, component), name, expected);
}

int checkpoint_open_component(struct checkpoint *c, enum component component, struct dr_error *err)
{
    char file[64];
    json_t *config = NULL;
    struct name_group keys = { 0 };
    struct config_unknown unknown = { note_unknown, &keys };
    const char *path = checkpoint_source_path(c, component);
    c->unused = (struct name_group){ .prefix = component_name(component) };
    int r = place(c, component, "config.json", file, sizeof file, err);
    if (!r)
        r = open_weights(c, component, err);
    if (!r)
        r = checkpoint_warn_unused(c, &c->unused, err);
    if (!r)
        r = tensor_table_sort(&c->tables[component], path, err);
    if (!r)
        r = model_files_json(checkpoint_files(c, component), file, false, &config_limits, &config,
                             err);
    if (!r && (r = check_class(c, component, config, err)))
        json_decref(config);
    if (r)
        return r;
    int64_t added = 0;
    switch (component) {
    case COMPONENT_UNET:
        r = config_unet(config, file, c->family->added, &unknown, &c->unet, &added, err);
        if (!r && c->family->added)
            r = checkpoint_split_added(c, added, file, err);
        break;
    case COMPONENT_VAE:
        r = config_vae(config, file, &unknown, &c->vae, err);
        break;
    default:
        r = read_clip(c, config, file, component, &unknown, err);
        break;
    }
    if (!r)
        r = checkpoint_warn_keys(c, file, &keys, err);
    json_decref(config);
    if (r)
        return dr_while(err, r, "reading %s", path);
    c->has[component] = true;
    return 0;
}

/* ---- the folder ---- */

/* The option that takes the folder of a component; NULL: none does. */
static const char *option_of_class(const char *name)
{
    static const char *const options[][2] = {
        { "UNet2DConditionModel", "--unet" },
        { "AutoencoderKL", "--vae" },
        { "AutoencoderTiny", "--vae" },
        { "CLIPTextModel", "--text-encoder" },
        { "CLIPTextModelWithProjection", "--text-encoder-2" },
    };
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (!strcmp(options[i][0], name))
            return options[i][1];
    return NULL;
}

/* What a folder without model_index.json is. */
static int no_index(struct checkpoint *c, struct dr_error *err)
{
    json_t *config = NULL;
    int r = model_files_json(c->model, "config.json", true, &config_limits, &config, err);
    if (r)
        return r;
    const char *name = json_string_value(json_object_get(config, "_class_name"));
    if (!name)
        name = json_string_value(json_array_get(json_object_get(config, "architectures"), 0));
    const char *option = name ? option_of_class(name) : NULL;
    r = name ? dr_fail(err, DR_EUNSUPPORTED,
                       "%s: this is the folder of one component (%.80s), expected the one above "
                       "it, with model_index.json%s%s",
                       c->path, name, option ? ", or that this one is given with " : "",
                       option ? option : "")
             : dr_fail(err, DR_EUNSUPPORTED,
                       "%s: not a diffusers folder: it has no model_index.json", c->path);
    json_decref(config);
    return r;
}

static int check_index(struct checkpoint *c, const json_t *index, struct dr_error *err)
{
    const char *name = NULL;
    int r = jx_get_string(index, "model_index.json", "_class_name", &name, err);
    if (r)
        return dr_while(err, r, "reading %s", c->path);
    c->family = family_of_pipeline(name);
    if (!c->family)
        return dr_fail(err, DR_EUNSUPPORTED,
                       "%s: this is a folder for %.80s, expected one for a StableDiffusion or "
                       "StableDiffusionXL pipeline",
                       c->path, name);
    c->force_zeros = c->family->zero_negative;
    if (c->force_zeros) /* a key of the pipelines that have it */
        r = jx_opt_bool(index, "model_index.json", "force_zeros_for_empty_prompt", &c->force_zeros,
                        err);
    return r ? dr_while(err, r, "reading %s", c->path) : 0;
}

/* ["library", "Class"] means present, [null, null] absent. */
static bool listed(const json_t *index, const char *component)
{
    const json_t *entry = json_object_get(index, component);
    return json_is_string(json_array_get(entry, 1));
}

static int need_component(struct checkpoint *c, const json_t *index, enum component component,
                          struct dr_error *err)
{
    if (c->own[component])
        return checkpoint_open_part(c, component, err);
    if (listed(index, component_name(component)))
        return checkpoint_open_component(c, component, err);
    return dr_fail(err, DR_EFORMAT, "%s/model_index.json: has no %s", c->path,
                   component_name(component));
}

static int open_components(struct checkpoint *c, const json_t *index, struct dr_error *err)
{
    int r = 0;
    enum component first = c->family->encoders[0].component;
    c->family = family_member(c->family, listed(index, component_name(first)) || c->own[first]);
    for (int i = 0; !r && i < c->family->n_encoders; i++)
        r = need_component(c, index, c->family->encoders[i].component, err);
    if (!r)
        r = need_component(c, index, COMPONENT_VAE, err);
    /* The last: what its added conditioning consists of depends on the encoders. */
    return r ? r : need_component(c, index, COMPONENT_UNET, err);
}

static int find_tokenizers(struct checkpoint *c, struct dr_error *err)
{
    int r = 0;
    for (int i = 0; !r && i < 2; i++) {
        const char *folder = i ? "tokenizer_2" : "tokenizer";
        r = model_files_has_folder(c->model, folder, &c->tokenizer[i], err);
        if (!r && c->tokenizer[i])
            r = tok_find_files(c->model, folder, err);
    }
    return r;
}

int checkpoint_open_folder(struct checkpoint *c, struct dr_error *err)
{
    json_t *index = NULL;
    int r = model_files_json(c->model, "model_index.json", true, &config_limits, &index, err);
    if (!r)
        r = index ? check_index(c, index, err) : no_index(c, err);
    if (!r)
        r = open_components(c, index, err);
    if (!r)
        r = model_files_json(c->model, "scheduler/scheduler_config.json", true, &config_limits,
                             &c->scheduler, err);
    if (!r)
        c->family = family_of_context(c->family, c->unet.context);
    if (!r)
        r = formulation_of_folder(c, index, err);
    if (!r && c->own[COMPONENT_UNET])
        r = formulation_of_unet(c, err);
    json_decref(index);
    return r ? r : find_tokenizers(c, err);
}
