/* engine_lora.c - the verb about LoRAs themselves: which there are, and merging them into a copy of
 * a model. `action` says which; each action is a line of the table below. */
#include <stdio.h>
#include <string.h>

#include "base/nearest.h"
#include "base/path_text.h"
#include "coordination/new_output.h"
#include "coordination/searched_folders.h"
#include "core/communication/request.h"
#include "inference/job_loras.h"
#include "models/inspect_model.h"
#include "quantize/lora_merge.h"

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

static int open_base(struct lora_call *k, struct pipeline **ret, struct dr_error *err)
{
    const char *text = "";
    char path[DR_PATH_MAX] = "";
    struct engine_model model;
    struct backend *be;
    int r = jx_opt_string(k->job->data, "data", "model", &text, err);
    if (!r && *text)
        r = path_text_read("model", text, path, err);
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
        r = open_base(k, &base, err);
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

static int merge(struct lora_call *k, json_t **ret_data, struct dr_error *err)
{
    static const char *const keys[] = { "action", "loras", "model", "output", "stream", NULL };
    struct new_output out = { .folder = -1 };
    const char *output = "";
    int r = message_only(k->job->data, keys, err);
    if (!r)
        r = jx_get_string(k->job->data, "data", "output", &output, err);
    if (!r)
        r = new_output_open(k->engine, output, &out, err);
    if (!r)
        r = merge_into(k, &out, ret_data, err);
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
