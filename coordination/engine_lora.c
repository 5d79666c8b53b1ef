/* engine_lora.c - the verb about LoRAs themselves: which there are, merging them into a copy of a
 * model or into one, extracting one from two models, and other names. `action` says which; each
 * action is a line of the table below. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/nearest.h"
#include "base/path_text.h"
#include "coordination/new_output.h"
#include "coordination/searched_folders.h"
#include "core/communication/request.h"
#include "inference/job_loras.h"
#include "models/inspect_model.h"
#include "quantize/lora_combine.h"
#include "quantize/lora_extract.h"
#include "quantize/lora_merge.h"
#include "quantize/tensor_copy.h"

enum { RANK_MOST = 4096, RANK_OF_ENERGY = 512 /* where energy alone is given */ };

struct lora_call {
    struct engine *engine;
    struct worker_job *job;
    struct request request; /* its field loras */
    bool stream;
};

static void say(const struct lora_call *k, const char *what)
{
    worker_progress(k->job, 0, 0, k->stream,
                    k->stream ? json_pack("{s:s}", "message", what) : NULL);
}

/* ---- files of the request ---- */

/* The member `loras` as generate takes it. */
static int read_loras(struct lora_call *k, struct dr_error *err)
{
    json_t *loras = json_object_get(k->job->data, "loras");
    if (!loras)
        return dr_fail_field(err, DR_EINVAL, "loras", "nothing", "one LoRA or more", NULL);
    json_t *o = json_pack("{s:O}", "loras", loras);
    int r = o ? request_parse(o, "data", NULL, &k->request, err)
              : dr_fail(err, DR_ENOMEM, "out of memory");
    json_decref(o);
    return r;
}

/* What acts in a part of a picture cannot be in the weights of all of it. */
static int check_span(const struct request *q, int i, struct dr_error *err)
{
    static const char *const keys[] = { "start", "end" };
    for (int k = 0; k < 2; k++) {
        char field[40], got[32];
        double value = request_item_real(q, FIELD_loras, i, keys[k]);
        snprintf(field, sizeof field, "loras[%d].%s", i, keys[k]);
        snprintf(got, sizeof got, "%g", value);
        if (value != k)
            return dr_fail_field(err, DR_EINVAL, field, got, k ? "1" : "0",
                                 "merged weights act from the first step to the last");
    }
    return 0;
}

static int find_items(const struct lora_call *k, struct lora_place *places,
                      struct merge_item *items, struct dr_error *err)
{
    const struct request *q = &k->request;
    int n = request_count(q, FIELD_loras), r = 0;
    if (n < 1 || n > MERGE_LORAS)
        return dr_fail_field(err, DR_EINVAL, "loras", n ? "more" : "none", "1 to 32 of them", NULL);
    for (int i = 0; !r && i < n; i++) {
        char field[32];
        snprintf(field, sizeof field, "loras[%d]", i);
        const struct engine_wanted wanted = { field, request_item_text(q, FIELD_loras, i, "path"),
                                              request_item_text(q, FIELD_loras, i, "sha256"),
                                              k->job->stop };
        r = check_span(q, i, err);
        if (!r)
            r = engine_find_lora(k->engine, &wanted, &places[i], err);
        double strength = request_item_real(q, FIELD_loras, i, "strength");
        bool apart = request_item_has(q, FIELD_loras, i, "text_strength");
        items[i] = (struct merge_item){
            .path = places[i].path,
            .root = places[i].root.fd < 0 ? NULL : &places[i].root,
            .strength = strength,
            .text_strength = apart ? request_item_real(q, FIELD_loras, i, "text_strength")
                                   : strength,
            .blocks = request_item_text(q, FIELD_loras, i, "blocks"),
        };
    }
    return r;
}

/* ---- merge ---- */

/* The model of a member, on a backend that computes in float32. */
static int open_model(struct lora_call *k, const char *field, struct pipeline **ret,
                      struct dr_error *err)
{
    const char *text = "";
    char path[DR_PATH_MAX] = "";
    struct engine_model model;
    struct backend *be;
    int r = jx_get_string(k->job->data, "data", field, &text, err);
    if (!r && *text)
        r = path_text_read(field, text, path, err);
    if (!r)
        r = engine_find_model(k->engine, path, &model, err);
    if (!r)
        r = device_manager_backend(k->engine->devices, "auto", PRECISION_F32, &be, err);
    struct pipeline_options how = { .root = engine_model_root(&model), .stop = k->job->stop };
    return r ? r : pipeline_open(model.path, be, &how, ret, err);
}

static int merge_into(struct lora_call *k, struct new_output *out, json_t **ret_data,
                      struct dr_error *err)
{
    struct lora_place places[MERGE_LORAS];
    struct merge_item items[MERGE_LORAS];
    struct pipeline *base = NULL;
    int r = read_loras(k, err);
    if (!r)
        r = find_items(k, places, items, err);
    say(k, "opening the model");
    if (!r)
        r = open_model(k, "model", &base, err);
    if (!r)
        r = quantize_check(&out->copy, checkpoint_path(base->checkpoint), err);
    say(k, "merging");
    if (!r)
        r = lora_merge(&out->copy, base, items, request_count(&k->request, FIELD_loras),
                       k->job->stop, ret_data, err);
    if (!r && jx_set(*ret_data, "output", path_text_json(out->path)))
        r = dr_fail(err, DR_ENOMEM, "out of memory for the answer");
    if (!r)
        r = quantize_commit(&out->copy, err);
    pipeline_unref(base);
    return r;
}

/* ---- into one LoRA ---- */

static int read_how(const struct lora_call *k, struct combine_how *how, struct dr_error *err)
{
    const json_t *data = k->job->data;
    const char *type = NULL, *names = NULL;
    int r = jx_opt_string(data, "data", "type", &type, err);
    if (!r)
        r = jx_opt_string(data, "data", "names", &names, err);
    if (!r)
        r = jx_opt_int(data, "data", "rank", 1, RANK_MOST, &how->rank, err);
    if (!r && names)
        r = lora_spelling_find(names, &how->spelling, err);
    how->spelling_given = names != NULL;
    if (!r && type)
        r = tensor_copy_type(type, &how->type, err);
    if (!r && how->type != DTYPE_F32 && how->type != DTYPE_F16 && how->type != DTYPE_BF16)
        r = dr_fail_field(err, DR_EINVAL, "type", type, "f32, f16 or bf16", NULL);
    return r;
}

/* A LoRA's strengths alone: blocks are those of a model. */
static int without_blocks(const struct merge_item *items, int n, struct combine_item *ret,
                          struct dr_error *err)
{
    for (int i = 0; i < n; i++) {
        char field[40];
        snprintf(field, sizeof field, "loras[%d].blocks", i);
        if (*items[i].blocks)
            return dr_fail_field(err, DR_EINVAL, field, items[i].blocks, "nothing",
                                 "strengths by block can be merged into a model only");
        ret[i] = (struct combine_item){ items[i].path, items[i].root, items[i].strength,
                                        items[i].text_strength };
    }
    return 0;
}

/* The file has its name when it is whole. */
static int write_lora(struct lora_call *k, struct new_output *out, const struct combine_item *items,
                      int n, struct combine_how *how, bool names, json_t **ret_data,
                      struct dr_error *err)
{
    how->path = out->path;
    how->stop = k->job->stop;
    int fd = dr_open_temporary(out->folder, dr_path_base(out->path), out->copy.temporary);
    if (fd < 0)
        return dr_fail_errno(err, out->path, "create");
    say(k, "writing");
    int r = names ? lora_respell(items, how, fd, ret_data, err)
                  : lora_combine(items, n, how, fd, ret_data, err);
    if (!r && jx_set(*ret_data, "output", path_text_json(out->path)))
        r = dr_fail(err, DR_ENOMEM, "out of memory for the answer");
    if (!r)
        r = quantize_commit(&out->copy, err);
    if (r)
        unlinkat(out->folder, out->copy.temporary, 0);
    out->copy.temporary[0] = '\0';
    return r;
}

static int merge_loras(struct lora_call *k, struct new_output *out, json_t **ret_data,
                       struct dr_error *err)
{
    struct lora_place places[MERGE_LORAS];
    struct merge_item items[MERGE_LORAS];
    struct combine_item as[MERGE_LORAS];
    struct combine_how how = { .type = DTYPE_F32 };
    int r = read_loras(k, err);
    int n = request_count(&k->request, FIELD_loras);
    if (!r)
        r = find_items(k, places, items, err);
    if (!r)
        r = without_blocks(items, n, as, err);
    if (!r)
        r = read_how(k, &how, err);
    return r ? r : write_lora(k, out, as, n, &how, false, ret_data, err);
}

/* A model's copy has the model's types and names. */
static int check_into_model(const struct lora_call *k, struct dr_error *err)
{
    static const char *const keys[] = { "rank", "type", "names" };
    for (int i = 0; i < 3; i++)
        if (json_object_get(k->job->data, keys[i]))
            return dr_fail_field(err, DR_EINVAL, keys[i], "a value", "nothing beside a model",
                                 "it is for merging LoRAs into one");
    return 0;
}

static int merge(struct lora_call *k, json_t **ret_data, struct dr_error *err)
{
    static const char *const keys[] = { "action", "loras", "model",  "output", "rank",
                                        "type",   "names", "stream", NULL };
    struct new_output out = { .folder = -1 };
    const char *output = "";
    bool into_model = json_object_get(k->job->data, "model");
    int r = message_only(k->job->data, keys, err);
    if (!r && into_model)
        r = check_into_model(k, err);
    if (!r)
        r = jx_get_string(k->job->data, "data", "output", &output, err);
    if (!r)
        r = new_output_open(k->engine, output, &out, err);
    if (!r)
        r = (into_model ? merge_into : merge_loras)(k, &out, ret_data, err);
    new_output_close(&out);
    return r;
}

/* ---- other names ---- */

static int rename_tensors(struct lora_call *k, json_t **ret_data, struct dr_error *err)
{
    static const char *const keys[] = { "action", "lora", "output", "names", "stream", NULL };
    struct new_output out = { .folder = -1 };
    struct lora_place place;
    struct combine_how how = { .type = DTYPE_F32 };
    const char *output = "", *file = "", *names;
    int r = message_only(k->job->data, keys, err);
    if (!r)
        r = jx_get_string(k->job->data, "data", "lora", &file, err);
    if (!r)
        r = jx_get_string(k->job->data, "data", "output", &output, err);
    if (!r)
        r = jx_get_string(k->job->data, "data", "names", &names, err);
    if (!r)
        r = read_how(k, &how, err);
    char path[DR_PATH_MAX];
    if (!r)
        r = path_text_read("lora", file, path, err);
    const struct engine_wanted wanted = { "lora", path, "", k->job->stop };
    if (!r)
        r = engine_find_lora(k->engine, &wanted, &place, err);
    if (!r)
        r = new_output_open(k->engine, output, &out, err);
    const struct combine_item item = { place.path, place.root.fd < 0 ? NULL : &place.root, 1, 1 };
    if (!r)
        r = write_lora(k, &out, &item, 1, &how, true, ret_data, err);
    new_output_close(&out);
    return r;
}

/* ---- out of two models ---- */

static void on_extracted(void *ctx, double fraction)
{
    const struct lora_call *k = ctx;
    char text[40];
    snprintf(text, sizeof text, "extracting, %d %%", (int)(100 * fraction));
    say(k, text);
}

static int read_extraction(struct lora_call *k, struct extract_how *how, struct dr_error *err)
{
    struct combine_how same = { .type = DTYPE_F32 };
    char got[32];
    int r = read_how(k, &same, err);
    if (!r)
        r = jx_opt_number(k->job->data, "data", "energy", &how->energy, err);
    snprintf(got, sizeof got, "%g", how->energy);
    if (!r && json_object_get(k->job->data, "energy") && !(how->energy > 0 && how->energy <= 1))
        r = dr_fail_field(err, DR_EINVAL, "energy", got, "above 0, at most 1", NULL);
    if (!r && !same.rank && how->energy <= 0)
        r = dr_fail_field(err, DR_EINVAL, "rank", "nothing", "rank, energy or both", NULL);
    how->spelling = same.spelling;
    how->spelling_given = same.spelling_given;
    how->type = same.type;
    how->rank = same.rank ? same.rank : RANK_OF_ENERGY;
    how->stop = k->job->stop;
    how->progress = on_extracted;
    how->ctx = k;
    return r;
}

static int write_extracted(struct lora_call *k, struct new_output *out, struct extract_how *how,
                           json_t **ret_data, struct dr_error *err)
{
    struct pipeline *base = NULL, *tuned = NULL;
    say(k, "opening the models");
    int r = open_model(k, "base", &base, err);
    if (!r)
        r = open_model(k, "tuned", &tuned, err);
    int fd = r ? -1 : dr_open_temporary(out->folder, dr_path_base(out->path), out->copy.temporary);
    if (!r && fd < 0)
        r = dr_fail_errno(err, out->path, "create");
    how->path = out->path;
    if (!r)
        r = lora_extract(base, tuned, how, fd, ret_data, err);
    if (!r && jx_set(*ret_data, "output", path_text_json(out->path)))
        r = dr_fail(err, DR_ENOMEM, "out of memory for the answer");
    if (!r)
        r = quantize_commit(&out->copy, err);
    if (r && *out->copy.temporary)
        unlinkat(out->folder, out->copy.temporary, 0);
    out->copy.temporary[0] = '\0';
    pipeline_unref(base);
    pipeline_unref(tuned);
    return r;
}

static int extract(struct lora_call *k, json_t **ret_data, struct dr_error *err)
{
    static const char *const keys[] = { "action", "base", "tuned", "output", "rank",
                                        "energy", "type", "names", "stream", NULL };
    struct new_output out = { .folder = -1 };
    struct extract_how how = { .energy = 0 };
    const char *output = "";
    int r = message_only(k->job->data, keys, err);
    if (!r)
        r = jx_get_string(k->job->data, "data", "output", &output, err);
    if (!r)
        r = read_extraction(k, &how, err);
    if (!r)
        r = new_output_open(k->engine, output, &out, err);
    if (!r)
        r = write_extracted(k, &out, &how, ret_data, err);
    new_output_close(&out);
    return r;
}

/* ---- list ---- */

/* What a line of the list needs of a file's description. */
static json_t *summary_of(const json_t *file, const json_t *described)
{
    static const char *const of_adapter[] = { "kinds", "fits",    "rank",          "ranks",
                                              "alpha", "problem", "tensors_unused" };
    static const char *const of_training[] = { "base_model", "trigger_phrase", "trigger_words" };
    const json_t *adapter = json_object_get(described, "adapter");
    const json_t *training = json_object_get(described, "training");
    json_t *o = json_copy((json_t *)file), *size = json_object_get(described, "size");
    int r = o ? jx_set(o, "size", json_incref(size)) : DR_ENOMEM;
    for (size_t i = 0; i < sizeof of_adapter / sizeof *of_adapter; i++)
        if (!r && json_object_get(adapter, of_adapter[i]))
            r = jx_set(o, of_adapter[i], json_incref(json_object_get(adapter, of_adapter[i])));
    for (size_t i = 0; i < sizeof of_training / sizeof *of_training; i++)
        if (!r && json_object_get(training, of_training[i]))
            r = jx_set(o, of_training[i], json_incref(json_object_get(training, of_training[i])));
    if (!r)
        return o;
    json_decref(o);
    return NULL;
}

/* Adds the file if it is an adapter; in a folder of LoRAs also what cannot be read. */
static int list_file(struct lora_call *k, const json_t *file, bool all, json_t *list,
                     struct dr_error *err)
{
    char path[DR_PATH_MAX];
    struct engine_model at = { .root = { .fd = -1 } };
    struct dr_error why = { 0 };
    json_t *described = NULL;
    int r = path_text_read("path", jx_text(file, "path"), path, err);
    if (!r && k->engine->models.n)
        r = engine_find_in_roots(k->engine, "path", path, &at, &why);
    else if (!r)
        snprintf(at.path, sizeof at.path, "%s", path);
    struct model_spec spec = { .model = { at.path, engine_model_root(&at) } };
    if (!r)
        r = inspect_model_spec(&spec, NULL, &described, &why);
    if (r == DR_ENOMEM || r == DR_ECANCELED)
        return dr_fail(err, r, "%s", why.text);
    json_t *line = NULL;
    if (!r && json_object_get(described, "adapter"))
        line = summary_of(file, described);
    else if (all)
        line = json_pack("{s:O,s:O,s:s}", "name", json_object_get(file, "name"), "path",
                         json_object_get(file, "path"), "problem",
                         r ? why.text : jx_text(described, "description"));
    bool skipped = !all && (r || !json_object_get(described, "adapter"));
    json_decref(described);
    return skipped || !jx_add(list, line) ? 0 : dr_fail(err, DR_ENOMEM, "out of memory for a list");
}

static int list(struct lora_call *k, json_t **ret_data, struct dr_error *err)
{
    static const char *const keys[] = { "action", "stream", NULL };
    json_t *lines = json_array(), *all = NULL, *file;
    int r = lines ? message_only(k->job->data, keys, err)
                  : dr_fail(err, DR_ENOMEM, "out of memory for a list");
    if (!r)
        r = engine_names_json(k->engine, &all, err);
    for (int kind = 0; !r && kind < 2; kind++) {
        size_t i;
        json_array_foreach(json_object_get(all, kind ? "models" : "loras"), i, file)
        {
            if (!r && atomic_load(k->job->stop))
                r = dr_fail(err, DR_ECANCELED, "stopped");
            if (!r)
                r = list_file(k, file, !kind, lines, err);
        }
    }
    json_decref(all);
    *ret_data = r ? NULL : json_pack("{s:O}", "loras", lines);
    json_decref(lines);
    return r || *ret_data ? r : dr_fail(err, DR_ENOMEM, "out of memory for the answer");
}

/* ---- the verb ---- */

static const struct {
    const char *name;
    int (*run)(struct lora_call *k, json_t **ret_data, struct dr_error *err);
} actions[] = {
    { "list", list },
    { "merge", merge },
    { "extract", extract },
    { "convert", rename_tensors },
};

enum { ACTIONS = sizeof actions / sizeof *actions };

int engine_lora(void *engine, struct worker_job *job, json_t **ret_data, struct dr_error *err)
{
    struct lora_call k = { .engine = engine, .job = job };
    const char *names[ACTIONS], *action;
    int r = jx_get_string(job->data, "data", "action", &action, err);
    if (!r)
        r = jx_opt_bool(job->data, "data", "stream", &k.stream, err);
    if (r)
        return r;
    request_init(&k.request);
    r = 1;
    for (int i = 0; i < ACTIONS; i++) {
        names[i] = actions[i].name;
        if (!strcmp(action, names[i]))
            r = actions[i].run(&k, ret_data, err);
    }
    request_free(&k.request);
    if (r < 0 && *ret_data) {
        json_decref(*ret_data);
        *ret_data = NULL;
    }
    return r > 0 ? dr_fail_choice(err, DR_EINVAL, "action", action, names, ACTIONS) : r;
}
