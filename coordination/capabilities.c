/* capabilities.c - what this worker can do, from the tables; the only source for the service side.
 */
#include "coordination/engine.h"

#include <stdlib.h>

#include "base/words.h"
#include "core/communication/recipe.h"
#include "core/communication/request.h"
#include "inference/guiders/guiders.h"
#include "models/tokenizers/clip_tokenizer.h"
#include "inference/preset.h"
#include "schedulers/scheduler_factory.h"
#include "schedulers/scheduler_options.h"
#include "schedulers/schedules.h"

static json_t *names(const char *const *list)
{
    json_t *array = json_array();
    for (; array && list && *list; list++) {
        if (jx_add(array, json_string(*list)) < 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

/* The words of "a|b". */
static json_t *words(const char *list)
{
    json_t *array = json_array();
    struct dr_word rest = word_all(list), word;
    while (array && word_next(&rest, '|', &word)) {
        if (jx_add(array, json_stringn(word.at, word.n)) < 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

/* What a sampler or a schedule can be given: "NAME,key=value". */
static json_t *options_json(const struct sched_option *o)
{
    json_t *array = json_array();
    for (; array && o && o->name; o++) {
        if (jx_add(array, json_pack("{s:s,s:f,s:f,s:f,s:b,s:s,s:o}", "name", o->name, "minimum",
                                    o->lo, "maximum", o->hi, "default", o->dflt, "integer",
                                    o->whole, "help", o->help, "choices", names(o->names))) < 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

/* What lists of levels a sampler takes: fields of a request. */
static json_t *lists_json(const struct sched_info *info)
{
    const char *list[3];
    int n = 0;
    if (info->lists & SCHED_LISTS_TIMESTEPS)
        list[n++] = "timesteps";
    if (info->lists & SCHED_LISTS_SIGMAS)
        list[n++] = "sigmas";
    list[n] = NULL;
    return names(list);
}

static json_t *samplers_json(void)
{
    size_t n;
    const struct sched_info *const *all = sched_all(&n);
    json_t *array = json_array();
    for (size_t i = 0; array && i < n; i++) {
        json_t *one = json_pack("{s:s,s:s,s:s?,s:o,s:b,s:b,s:o,s:o}", "name", all[i]->name, "title",
                                sched_title(all[i]), "diffusers", all[i]->diffusers, "aliases",
                                names(all[i]->aliases), "takes_eta",
                                sched_option_row(all[i], "eta") >= 0, "adaptive",
                                all[i]->layout.next != NULL, "lists", lists_json(all[i]), "options",
                                options_json(all[i]->options));
        if (jx_add(array, one) < 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

static json_t *schedules_json(void)
{
    size_t n;
    const struct schedule_info *const *all = schedule_all(&n);
    json_t *array = json_array();
    for (size_t i = 0; array && i < n; i++) {
        json_t *one = json_pack("{s:s,s:s,s:o,s:o}", "name", all[i]->name, "title",
                                schedule_title(all[i]), "aliases", names(all[i]->aliases),
                                "options", options_json(all[i]->options));
        if (jx_add(array, one) < 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

/* NULL for "". */
static const char *given(const char *text)
{
    return *text ? text : NULL;
}

static json_t *recipe_json(const struct recipe *r)
{
    return json_pack("{s:s,s:s,s:o,s:o,s:s,s:s?,s:s?,s:i,s:f,s:o,s:b,s:o,s:s}", "name", r->name,
                     "title", r->title, "files", words(r->files), "families", words(r->families),
                     "sampler", r->sampler, "spacing", given(r->spacing), "timesteps",
                     given(r->timesteps), "steps", (int)strtol(r->steps, NULL, 10),
                     "guidance_scale", strtod(r->cfg, NULL), "eta",
                     *r->eta ? json_real(strtod(r->eta, NULL)) : json_null(), "negative_prompt",
                     strtod(r->cfg, NULL) > 1, "size",
                     r->size ? json_integer(r->size) : json_null(), "licence", r->licence);
}

static json_t *recipes_json(void)
{
    const struct recipe *recipe;
    json_t *array = json_array();
    for (int i = 0; array && (recipe = recipe_at(i)); i++) {
        if (jx_add(array, recipe_json(recipe)) < 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

static json_t *verbs_json(void)
{
    json_t *array = json_array();
    for (int v = 0; array && v < VERB_COUNT; v++) {
        if (jx_add(array, json_string(verb_name((enum verb)v))) < 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

static json_t *limits_json(const struct engine *e)
{
    return json_pack("{s:i,s:i,s:i,s:I,s:I,s:I,s:I,s:i}", "line_bytes", MESSAGE_LINE_BYTES,
                     "prompt_bytes", REQUEST_PROMPT_BYTES, "prompt_tokens", TOK_CLIP_LENGTH - 2,
                     "width", (json_int_t)field_info(FIELD_width)->hi, "height",
                     (json_int_t)field_info(FIELD_height)->hi, "steps",
                     (json_int_t)field_info(FIELD_steps)->hi, "batch_size",
                     (json_int_t)field_info(FIELD_batch_size)->hi, "queue", e->queue);
}

/* The precisions of this machine's kernel sets. */
static json_t *precisions_json(void)
{
    json_t *list = json_pack("[s]", precision_name(PRECISION_AUTO));
    for (int p = PRECISION_F32; list && p < PRECISION_COUNT; p++) {
        bool found = false, usable;
        for (int i = 0; backend_kernel_set_name(i, &usable); i++)
            found |= usable && backend_kernel_set_precision(i) == (enum precision)p;
        if (found && jx_add(list, json_string(precision_name((enum precision)p))) < 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *presets_json(void)
{
    const struct preset *preset;
    json_t *array = json_array();
    for (int i = 0; array && (preset = preset_at(i)); i++) {
        if (jx_add(array, json_string(preset->name)) < 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

json_t *engine_capabilities_json(const struct engine *e)
{
    struct {
        const char *name;
        json_t *value;
    } parts[] = {
        { "worker_types", json_pack("[s]", "sdxl_worker") },
        { "capabilities", json_pack("[s]", "text2img") },
        { "supported_inference_types", json_pack("[s]", "text2img") },
        { "supported_precisions", precisions_json() },
        { "presets", presets_json() },
        { "verbs", verbs_json() },
        { "samplers", samplers_json() },
        { "schedules", schedules_json() },
        { "guidance", guiders_list_json() },
        { "recipes", recipes_json() },
        { "cases", engine_bench_cases_json() },
        { "request", request_schema() },
        { "limits", limits_json(e) },
        { "device_info", device_manager_json(e->devices) },
    };
    json_t *o = json_object();
    bool ok = o != NULL;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        ok &= jx_set(o, parts[i].name, parts[i].value) == 0;
    if (!ok) {
        json_decref(o);
        return NULL;
    }
    return o;
}

int engine_capabilities(void *engine, struct worker_job *job, json_t **ret_data,
                        struct dr_error *err)
{
    (void)job;
    *ret_data = engine_capabilities_json(engine);
    return *ret_data ? 0 : dr_fail(err, DR_ENOMEM, "out of memory for the answer");
}
