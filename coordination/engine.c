/* engine.c - models for requests, and the verbs about them. See engine.h. */
#include "coordination/engine.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/nearest.h"
#include "base/path_text.h"
#include "coordination/inspect_picture.h"
#include "coordination/model_hints.h"
#include "core/communication/request.h"
#include "models/inspect_model.h"
#include "models/tokenizers/clip_tokenizer.h"

static const char small_model[] = "models/tiny";

static void in_root(const struct engine *e, int root, struct engine_model *ret)
{
    ret->root = (struct model_root){ e->models.fd[root], e->models.folder[root] };
}

/* A path inside a folder of models, as it is now: where links change meanwhile the kernel refuses
 * what leads out. */
int engine_find_in_roots(const struct engine *e, const char *field, const char *path,
                         struct engine_model *ret, struct dr_error *err)
{
    char below[DR_PATH_MAX];
    int root;
    int r = roots_locate(&e->models, field, path, &root, below, err);
    if (r)
        return r;
    in_root(e, root, ret);
    r = strcmp(below, ".") ? dr_path_join(ret->path, sizeof ret->path, ret->root.folder, below)
                           : dr_path_join(ret->path, sizeof ret->path, "", ret->root.folder);
    if (r)
        return dr_fail(err, r, "%s: the path is too long", field);
    int fd = dr_open_beneath(ret->root.fd, below, O_PATH, 0);
    if (fd < 0)
        return dr_fail_errno(err, path, "open");
    close(fd);
    return 0;
}

/* A file or folder that a request's field gives by path or name. */
static int find_file(const struct engine *e, const char *field, const char *text,
                     struct engine_model *ret, struct dr_error *err)
{
    struct dr_error found = { 0 };
    ret->root.fd = -1;
    int r = e->models.n ? engine_find_in_roots(e, field, text, ret, &found)
                        : dr_realpath(ret->path, sizeof ret->path, text, &found);
    if (r == DR_ENOENT || r == DR_EINVAL) {
        int named = engine_find_name(e, field, text, ret, err);
        if (named != DR_ENOENT)
            return named;
    }
    if (r == DR_ENOENT || (r == DR_EINVAL && model_names_are(text)))
        return model_names_fail(field, text, err);
    if (r < 0 && err)
        *err = found;
    return r;
}

int engine_find_model(const struct engine *e, const char *model, struct engine_model *ret,
                      struct dr_error *err)
{
    ret->root.fd = -1;
    return *model ? find_file(e, "model", model, ret, err)
                  : dr_share_path(ret->path, sizeof ret->path, small_model, err);
}

int engine_find_spec(const struct engine *e, const struct engine_names *names,
                     struct engine_spec *ret, struct dr_error *err)
{
    int r = engine_find_model(e, names->model, &ret->model, err);
    ret->spec = (struct model_spec){ .zero_snr = names->zero_snr };
    ret->spec.model = (struct model_place){ ret->model.path, engine_model_root(&ret->model) };
    if (!r && names->prediction && *names->prediction) {
        ret->spec.prediction = model_prediction(names->prediction);
        if (!ret->spec.prediction)
            r = dr_fail_field(err, DR_EINVAL, "prediction", names->prediction,
                              "epsilon, v_prediction, sample, edm or edm_v", NULL);
    }
    for (int i = 0; !r && i < COMPONENT_COUNT; i++) {
        struct engine_model *part = &ret->part[i];
        if (!names->part[i] || !*names->part[i])
            continue;
        r = find_file(e, component_name((enum component)i), names->part[i], part, err);
        ret->spec.part[i] = (struct model_place){ part->path, engine_model_root(part) };
    }
    return r;
}

const struct model_root *engine_model_root(const struct engine_model *m)
{
    return m->root.fd < 0 ? NULL : &m->root;
}

int engine_backend(struct engine *e, const struct model_spec *spec, const char *kernels,
                   enum precision precision, const atomic_int *stop, struct backend **ret,
                   struct dr_error *err)
{
    static const char expected[] = "a model with 8-bit weights (darkroom convert --int8)";
    static const char leave[] = "auto selects the set that suits the model";
    const char *set = device_manager_int8_set(e->devices, kernels);
    enum checkpoint_weights weights = CHECKPOINT_FLOAT;
    int r = 0;
    if (precision == PRECISION_AUTO || precision == PRECISION_INT8)
        r = pipeline_manager_weights(e->pipelines, spec, stop, &weights, err);
    bool int8 = weights == CHECKPOINT_INT8;
    if (!r && precision == PRECISION_INT8 && !int8)
        r = dr_fail_field(err, DR_EINVAL, "precision", "int8", expected, leave);
    if (!r && precision == PRECISION_AUTO && set && !int8)
        r = dr_fail_field(err, DR_EINVAL, "kernels", set, expected, leave);
    if (!r && precision == PRECISION_AUTO && int8 && !strcmp(kernels, "auto") &&
        device_manager_computes(e->devices, PRECISION_INT8))
        precision = PRECISION_INT8;
    return r < 0 ? r : device_manager_backend(e->devices, kernels, precision, ret, err);
}

int engine_pipeline(struct engine *e, const struct model_spec *spec, const char *kernels,
                    enum precision precision, const atomic_int *stop, struct pipeline **ret,
                    struct dr_error *err)
{
    struct backend *be;
    struct pipeline_options options = { .stop = stop, .store = &e->store };
    int r = engine_backend(e, spec, kernels, precision, stop, &be, err);
    if (r < 0)
        return r;
    r = pipeline_manager_get(e->pipelines, spec, be, &options, ret, err);
    if (r != DR_ENOMEM || !pipeline_manager_idle(e->pipelines, NULL, NULL))
        return r;
    pipeline_manager_trim(e->pipelines, NULL, 0); /* no address space: without those nobody uses */
    return pipeline_manager_get(e->pipelines, spec, be, &options, ret, err);
}

struct memory_budget engine_budget(const struct engine *e, const struct pipeline *p)
{
    struct memory_budget b = { .limit = e->memory_limit };
    b.baseline = e->baseline + pipeline_manager_busy(e->pipelines, p);
    pipeline_manager_idle(e->pipelines, p, &b.idle);
    return b;
}

/* A model that is loaded for no job yet counts with its weights. */
static struct memory_plan plan_model(const struct engine *e, const struct pipeline *p)
{
    struct memory_budget budget = engine_budget(e, p);
    struct memory_plan plan;
    memset(&plan, 0, sizeof plan);
    plan.baseline = budget.baseline;
    plan.asked = budget.limit;
    plan.held = budget.idle + pipeline_private_bytes(p);
    plan.tagged[DR_TAG_WEIGHTS] = pipeline_private_bytes(p) + pipeline_unmade_bytes(p);
    plan.stage[STAGE_DENOISE].mapped = p->in_pack ? p->made_bytes : 0;
    system_memory("", &plan.system);
    memory_decide(&plan);
    return plan;
}

int engine_load(struct engine *e, struct pipeline *p, const struct memory_plan *plan,
                const struct pipeline_options *how, struct dr_error *err)
{
    struct pipeline_options options = *how;
    dr_alloc_keep(plan && plan->keep ? memory_block(plan) : 0);
    struct memory_plan model = plan ? *plan : plan_model(e, p);
    options.store = &e->store;
    pipeline_manager_trim(e->pipelines, p, memory_spare(&model));
    int r = pipeline_load(p, &options, err);
    if (r < 0)
        pipeline_manager_forget(e->pipelines, p);
    return r;
}

void engine_loading(void *progress, const char *what, double fraction)
{
    struct load_progress *l = progress;
    double now = dr_now();
    if (!l->stream || now - l->last < 0.2)
        return;
    l->last = now;
    const char *message = !strcmp(what, "hashing")     ? "hashing the model"
                          : !strcmp(what, "verifying") ? "verifying packed weights"
                                                       : "packing weights";
    worker_progress(
        l->job, 0, 0, true,
        json_pack("{s:s,s:s,s:f}", "message", message, "stage", "load", "fraction", fraction));
}

/* A path or a model's name, into room for DR_PATH_MAX bytes; "" when it is absent. The first n keys
 * are spellings of one member; two that differ are an error. */
static int one_path(const json_t *data, const char *const *keys, int n, char *dst,
                    struct dr_error *err)
{
    const char *found = NULL;
    dst[0] = '\0';
    for (int i = 0; i < n; i++) {
        const char *text = NULL;
        int r = jx_opt_string(data, "data", keys[i], &text, err);
        if (!r && text && found && strcmp(text, found))
            r = dr_fail_field(err, DR_EINVAL, keys[i], text, "the same as under its other name",
                              found);
        if (!r && text)
            r = path_text_read(keys[i], text, dst, err);
        if (r < 0)
            return r;
        found = text ? text : found;
    }
    return 0;
}

int engine_read_spec(const struct engine *e, const json_t *data, const char *const *keys, int n,
                     struct engine_spec *ret, bool *ret_given, struct dr_error *err)
{
    struct engine_names names = { .prediction = NULL };
    char text[1 + COMPONENT_COUNT][DR_PATH_MAX];
    int r = one_path(data, keys, n, text[COMPONENT_COUNT], err);
    *ret_given = !r && *text[COMPONENT_COUNT];
    names.model = text[COMPONENT_COUNT];
    for (int i = 0; !r && i < COMPONENT_COUNT; i++) {
        const char *key = component_name((enum component)i);
        r = one_path(data, &key, 1, text[i], err);
        *ret_given |= !r && *text[i];
        names.part[i] = text[i];
    }
    const json_t *zero = json_object_get(data, "zsnr");
    bool zsnr = false;
    if (!r)
        r = jx_opt_string(data, "data", "prediction", &names.prediction, err);
    if (!r)
        r = jx_opt_bool(data, "data", "zsnr", &zsnr, err);
    if (zero && !json_is_null(zero))
        names.zero_snr = zsnr ? MODEL_HAS : MODEL_HAS_NOT;
    return r ? r : engine_find_spec(e, &names, ret, err);
}

static int loaded_json(const struct pipeline *p, json_t **ret, struct dr_error *err)
{
    json_t *warnings = json_array();
    if (p->warning[0] && jx_add(warnings, json_string(p->warning)) < 0) {
        json_decref(warnings);
        warnings = NULL;
    }
    *ret = json_pack(
        "{s:o,s:s,s:s,s:o}", "model_name", path_text_json(checkpoint_path(p->checkpoint)), "kind",
        checkpoint_kind(p->checkpoint), "message", "model loaded", "warnings", warnings);
    return *ret ? 0 : dr_fail(err, DR_ENOMEM, "out of memory for the answer");
}

int engine_load_model(void *engine, struct worker_job *job, json_t **ret_data, struct dr_error *err)
{
    static const char *const keys[] = { "model",     "model_path", "model_name", "kernels",
                                        "precision", "stream",     ENGINE_PARTS, NULL };
    struct engine_spec spec;
    bool given;
    const char *kernels = "auto", *precision = "auto";
    struct load_progress loading = { .job = job, .last = dr_now() };
    struct pipeline_options how = { .stop = job->stop,
                                    .progress = engine_loading,
                                    .ctx = &loading };
    enum precision wanted;
    struct pipeline *p = NULL;
    int r = message_only(job->data, keys, err);
    if (!r)
        r = engine_read_spec(engine, job->data, keys, 3, &spec, &given, err);
    if (!r)
        r = jx_opt_string(job->data, "data", "kernels", &kernels, err);
    if (!r)
        r = jx_opt_string(job->data, "data", "precision", &precision, err);
    if (!r)
        r = jx_opt_bool(job->data, "data", "stream", &loading.stream, err);
    if (!r)
        r = precision_find(precision, &wanted, err);
    if (!r)
        r = engine_pipeline(engine, &spec.spec, kernels, wanted, job->stop, &p, err);
    if (!r)
        r = engine_load(engine, p, NULL, &how, err);
    if (!r)
        r = loaded_json(p, ret_data, err);
    pipeline_unref(p);
    return r;
}

int engine_unload_model(void *engine, struct worker_job *job, json_t **ret_data,
                        struct dr_error *err)
{
    static const char *const none[] = { NULL };
    struct engine *e = engine;
    int r = message_only(job->data, none, err);
    if (r < 0)
        return r;
    pipeline_manager_clear(e->pipelines);
    *ret_data = json_pack("{s:s}", "message", "model unloaded");
    return *ret_data ? 0 : dr_fail(err, DR_ENOMEM, "out of memory for the answer");
}

/* A descriptor of a path that may be read, in a root or where models may lie; -1: none. */
static int open_readable(const struct engine *e, const char *path)
{
    const int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    int fd;
    if (e->roots.n && !roots_open(&e->roots, "path", path, flags, 0, &fd, NULL))
        return fd;
    if (!e->models.n)
        return open(path, flags);
    return roots_open(&e->models, "model", path, flags, 0, &fd, NULL) ? -1 : fd;
}

/* An error about "model" is one about the member `path`. */
static void name_path(struct dr_error *err)
{
    static const char model[] = "model: ";
    size_t n = sizeof model - 1;
    if (!err || strcmp(err->path, "model"))
        return;
    snprintf(err->path, sizeof err->path, "path");
    if (!strncmp(err->text, model, n))
        memmove(err->text, err->text + n, strlen(err->text + n) + 1);
}

int engine_inspect(void *engine, struct worker_job *job, json_t **ret_data, struct dr_error *err)
{
    static const char *const keys[] = { "path", "model", ENGINE_PARTS, NULL };
    char model[DR_PATH_MAX];
    struct engine_spec spec;
    bool given;
    int r = message_only(job->data, keys, err);
    if (!r)
        r = one_path(job->data, keys, 2, model, err);
    int fd = r < 0 || !*model ? -1 : open_readable(engine, model);
    bool picture = fd >= 0 && is_picture(fd);
    if (picture)
        r = inspect_picture(fd, model, ret_data, err);
    if (fd >= 0)
        close(fd);
    if (picture)
        return r;
    if (!r)
        r = engine_read_spec(engine, job->data, keys, 2, &spec, &given, err);
    if (r < 0)
        name_path(err);
    if (!r && !given)
        r = dr_fail_field(err, DR_EINVAL, "data.path", "nothing",
                          "a model file, a model folder or a picture", NULL);
    struct digest_options digest = { .stop = job->stop };
    if (!r)
        r = inspect_model_spec(&spec.spec, &digest, ret_data, err);
    if (!r && (r = model_hints_describe(&spec.model, *ret_data, err)))
        json_decref(*ret_data);
    return r;
}

static int ids_json(const struct tok *tok, const char *text, size_t len, json_t **ret,
                    struct dr_error *err)
{
    int32_t *ids;
    int64_t n;
    int r = tok_encode(tok, text, len, &ids, &n, err);
    if (r < 0)
        return r;
    json_t *list = json_array();
    for (int64_t i = 0; list && i < n; i++) {
        if (jx_add(list, json_integer(ids[i])) < 0) {
            json_decref(list);
            list = NULL;
        }
    }
    dr_free(ids);
    *ret = list;
    return list ? 0 : dr_fail(err, DR_ENOMEM, "out of memory for token ids");
}

/* A tokenizer of the model, or CLIP's table. */
static int open_tokenizer(struct engine *e, const char *model, bool clip, int which,
                          const atomic_int *stop, struct tok **ret, struct dr_error *err)
{
    struct engine_model found;
    struct checkpoint *c;
    if (clip)
        return tok_open_builtin(which ? TOK_CLIP_BIGG : TOK_CLIP_L, ret, err);
    int r = engine_find_model(e, model, &found, err);
    if (!r)
        r = checkpoint_open_in(engine_model_root(&found), found.path, stop, &c, err);
    if (r < 0)
        return r;
    r = checkpoint_tokenizer(c, which, stop, ret, err);
    checkpoint_close(c);
    return r;
}

/* The answer takes about a hundred bytes of memory for each token. */
static int fail_long_text(size_t bytes, struct dr_error *err)
{
    char got[40], expected[60];
    snprintf(got, sizeof got, "%zu bytes", bytes);
    snprintf(expected, sizeof expected, "at most %d, as of a prompt", REQUEST_PROMPT_BYTES);
    return dr_fail_field(err, DR_ELIMIT, "data.text", got, expected, NULL);
}

int engine_tokens(void *engine, struct worker_job *job, json_t **ret_data, struct dr_error *err)
{
    static const char *const keys[] = { "model", "text", "encoder", "clip", NULL };
    json_t *text, *ids;
    char model[DR_PATH_MAX];
    int64_t encoder = 1;
    bool clip = false;
    struct tok *tok;
    int r = message_only(job->data, keys, err);
    if (!r)
        r = jx_get(job->data, "data", "text", &text, err);
    if (!r && !json_is_string(text))
        r = dr_fail_field(err, DR_EINVAL, "data.text", jx_kind(text), "a string", NULL);
    if (!r && json_string_length(text) > REQUEST_PROMPT_BYTES)
        r = fail_long_text(json_string_length(text), err);
    if (!r)
        r = one_path(job->data, keys, 1, model, err);
    if (!r)
        r = jx_opt_bool(job->data, "data", "clip", &clip, err);
    if (!r && clip && *model)
        r = dr_fail_field(err, DR_EINVAL, "clip", "true", "either clip or a model", NULL);
    if (!r)
        r = jx_opt_int(job->data, "data", "encoder", 1, PROMPT_ENCODERS, &encoder, err);
    if (!r)
        r = open_tokenizer(engine, model, clip, (int)encoder - 1, job->stop, &tok, err);
    if (r < 0)
        return r;
    r = ids_json(tok, json_string_value(text), json_string_length(text), &ids, err);
    tok_free(tok);
    if (r < 0)
        return r;
    *ret_data = json_pack("{s:o}", "ids", ids);
    return *ret_data ? 0 : dr_fail(err, DR_ENOMEM, "out of memory for the answer");
}

int engine_devices(void *engine, struct worker_job *job, json_t **ret_data, struct dr_error *err)
{
    struct engine *e = engine;
    (void)job;
    *ret_data = device_manager_json(e->devices);
    if (*ret_data && jx_set(*ret_data, "cache", engine_cache_json(e)) < 0) {
        json_decref(*ret_data);
        *ret_data = NULL;
    }
    return *ret_data ? 0 : dr_fail(err, DR_ENOMEM, "out of memory for the answer");
}
