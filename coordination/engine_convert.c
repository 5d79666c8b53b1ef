/* engine_convert.c - the verb that makes a model with 8-bit weights: measure, choose, write,
 * compare. Without int8: a file with its numbers in another type (quantize/tensor_copy.h).
 *
 * The model is opened in float32 for the measuring. The copy gets its name only when it is whole
 * and has been opened: its own predictions, and those of the 16-bit set for comparison, are part of
 * the report, where this machine has such sets. */
#include "coordination/engine_layout.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/path_text.h"
#include "base/fs.h"
#include "quantize/choice.h"
#include "quantize/tensor_copy.h"
#include "models/digest.h"

enum { PARTS = 5, NOTE = 1024 };

struct conversion {
    struct engine *engine;
    struct worker_job *job;
    struct engine_model model;
    char output[DR_PATH_MAX], report[DR_PATH_MAX]; /* as the request has them */
    int folder; /* descriptor of the one that output and report lie in, or -1 */
    bool stream, int8;
    enum dtype type; /* DTYPE_COUNT: as they are */
    struct quantize_copy copy;
    struct pipeline *pipeline; /* float32 */
    struct int8_samples samples;
    struct int8_choice choice;
    double int8_error, error_16; /* of predictions; negative: not measured */
    char int8_set[32], set_16[32];
    char digest[SHA256_HEX]; /* of the source */
};

static void say(struct conversion *k, int part, const char *what)
{
    worker_progress(k->job, part, PARTS, k->stream,
                    k->stream ? json_pack("{s:s}", "message", what) : NULL);
}

static const atomic_int *stop_of(const struct conversion *k)
{
    return k->job->stop;
}

static int measure(struct conversion *k, struct dr_error *err)
{
    struct backend *be;
    say(k, 0, "opening the model");
    struct pipeline_options how = { .root = engine_model_root(&k->model), .stop = stop_of(k) };
    int r = device_manager_backend(k->engine->devices, "auto", PRECISION_F32, &be, err);
    if (!r)
        r = pipeline_open(k->model.path, be, &how, &k->pipeline, err);
    if (!r)
        r = pipeline_load(k->pipeline, &how, err);
    if (r < 0)
        return r;
    say(k, 1, "drawing samples");
    r = int8_samples_make(k->pipeline, stop_of(k), &k->samples, err);
    if (r < 0)
        return r;
    say(k, 2, "measuring its layers");
    return int8_choose(k->pipeline, &k->samples, INT8_BUDGET, stop_of(k), &k->choice, err);
}

static int write_copy(struct conversion *k, struct dr_error *err)
{
    char note[NOTE];
    struct digest_options digest = { .stop = stop_of(k) };
    say(k, 3, "writing");
    int r = checkpoint_digest(k->pipeline->checkpoint, &digest, k->digest, err);
    if (r < 0)
        return r;
    snprintf(note, sizeof note,
             "W8A8: X.weight of type I8 = numbers, X.weight_scale = float32 by output; made by "
             "darkroom %s from sha256 %s; relative error of predictions %.3g (emulated)",
             DR_VERSION, k->digest, k->choice.error);
    struct quantize_choice how = { .chosen = int8_chosen, .ctx = &k->choice, .note = note };
    return quantize_write(&k->copy, k->pipeline->checkpoint, &how, stop_of(k), err);
}

/* The distance of a model's predictions from float32's in the best set of that precision; a machine
 * without one is no failure. */
static int compare(struct conversion *k, const struct model_root *root, const char *path,
                   enum precision precision, double *ret, char set[32], struct dr_error *err)
{
    struct backend *be;
    struct pipeline *p;
    size_t values = (size_t)k->samples.n * k->samples.values;
    struct dr_error lacking = { 0 };
    *ret = -1;
    if (device_manager_backend(k->engine->devices, "auto", precision, &be, &lacking) < 0)
        return 0;
    snprintf(set, 32, "%s", backend_kernel_set(be));
    float *preds = dr_malloc(DR_TAG_JOB, values * sizeof *preds);
    if (!preds)
        return dr_fail(err, DR_ENOMEM, "out of memory for predictions");
    struct pipeline_options how = { .root = root, .stop = stop_of(k) };
    int r = pipeline_open(path, be, &how, &p, err);
    if (!r) {
        r = pipeline_load(p, &how, err);
        if (!r)
            r = int8_predict(p, &k->samples, (struct int8_watch){ NULL, NULL }, stop_of(k), preds,
                             err);
        if (!r)
            *ret = int8_distance(preds, k->choice.preds, values);
        pipeline_unref(p);
    }
    dr_free(preds);
    return r;
}

/* ---- the report ---- */

static json_t *layers_json(const struct int8_choice *c)
{
    json_t *list = json_array();
    for (int i = 0; list && i < c->n; i++) {
        const struct int8_layer *l = &c->layers[i];
        /* null: never measured, a layer that is float32 whatever is asked for */
        json_t *error = l->result > 0 ? json_real(l->error) : json_null();
        if (jx_add(list, json_pack("{s:s,s:i,s:I,s:o,s:b,s:s}", "name", l->name, "parts", l->parts,
                                   "parameters", (json_int_t)l->parameters, "error", error, "int8",
                                   l->fate == INT8_CHOSEN, "why", int8_fate_name(l->fate))) < 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *measured(double error, const char *set)
{
    return error < 0 ? json_null() : json_pack("{s:s,s:f}", "kernels", set, "error", error);
}

static json_t *report_of(const struct conversion *k)
{
    const struct int8_choice *c = &k->choice;
    return json_pack("{s:o,s:o,s:o,s:i,s:I,s:I,s:f,s:f,s:f,s:f,s:o,s:o,s:I,s:I,s:o}", "model",
                     path_text_json(k->model.path), "output", path_text_json(k->output), "report",
                     path_text_json(k->report), "samples", k->samples.n, "latent_width",
                     (json_int_t)k->samples.w, "latent_height", (json_int_t)k->samples.h,
                     "layer_limit", INT8_LAYER_LIMIT, "budget", c->budget, "mean_layer_error",
                     c->mean, "emulated_error", c->error, "int8",
                     measured(k->int8_error, k->int8_set), "16_bit",
                     measured(k->error_16, k->set_16), "parameters_int8", (json_int_t)c->parameters,
                     "parameters", (json_int_t)c->total, "layers", layers_json(c));
}

/* "OUT/" QUANTIZE_REPORT, or "NAME.int8.json" beside a single file. */
static int report_path(const char *base, bool folder, char *dst, struct dr_error *err)
{
    int n = folder ? snprintf(dst, DR_PATH_MAX, "%s/" QUANTIZE_REPORT, base)
                   : snprintf(dst, DR_PATH_MAX, "%.*s.int8.json",
                              (int)(strlen(base) - strlen(dr_path_extension(base))), base);
    return n > 0 && n < DR_PATH_MAX ? 0 : dr_fail(err, DR_ELIMIT, "%s: too long", base);
}

/* The report as text; the caller frees it in any case. */
static int put_report(const json_t *report, struct buf *text, struct dr_error *err)
{
    buf_init(text, DR_TAG_JOB, 0);
    if (jx_dump(report, text) < 0 || buf_putc(text, '\n') < 0)
        return dr_fail(err, DR_ENOMEM, "out of memory for the report");
    return 0;
}

/* The page of a copy that is a folder. */
static int write_card(struct conversion *k, struct dr_error *err)
{
    const struct int8_choice *c = &k->choice;
    struct buf text;
    int chosen = 0;
    for (int i = 0; i < c->n; i++)
        chosen += c->layers[i].fate == INT8_CHOSEN;
    buf_init(&text, DR_TAG_JOB, 0);
    int r = buf_printf(&text,
                       "# %s, 8-bit weights\n\n"
                       "Made by darkroom %s (`darkroom convert --int8`) from a model with sha256 "
                       "%s.\n\n"
                       "- In 8 bits: %d of %d layers of the UNet, %.1f of %.1f million parameters; "
                       "a float32 scale an output.\n"
                       "- Relative error of its predictions against float32: %.3g (emulated).\n"
                       "- Every layer: int8_report.json.\n\n"
                       "The page of that model is not copied, as it describes other weights. Its "
                       "licence holds for this copy too.\n",
                       dr_path_base(k->model.path), DR_VERSION, k->digest, chosen, c->n,
                       (double)c->parameters / 1e6, (double)c->total / 1e6, c->error);
    if (r < 0)
        r = dr_fail(err, r, "out of memory for the copy's page");
    if (!r)
        r = quantize_add(&k->copy, QUANTIZE_CARD, &text, err);
    buf_free(&text);
    return r;
}

/* The report beside a single file gets its name before the copy does; if the copy fails it is
 * removed. */
static int commit_single(struct conversion *k, const struct buf *text, struct dr_error *err)
{
    struct dr_piece piece = { text->data, text->len };
    struct stat made;
    const char *name = dr_path_base(k->report);
    int r = dr_create_file(k->folder, k->report, &piece, 1, true, err);
    if (!r && fstatat(k->folder, name, &made, AT_SYMLINK_NOFOLLOW))
        return dr_fail_errno(err, k->report, "examine");
    if (r < 0)
        return r;
    r = quantize_commit(&k->copy, err);
    if (r < 0)
        dr_unlink_same(k->folder, name, &made);
    return r;
}

/* A report in a copy that is a folder comes with it. */
static int put_in_place(struct conversion *k, const json_t *report, struct dr_error *err)
{
    struct buf text;
    int r = put_report(report, &text, err);
    if (!r && checkpoint_is_folder(k->pipeline->checkpoint)) {
        r = quantize_add(&k->copy, QUANTIZE_REPORT, &text, err);
        if (!r)
            r = write_card(k, err);
        if (!r)
            r = quantize_commit(&k->copy, err);
    } else if (!r) {
        r = commit_single(k, &text, err);
    }
    buf_free(&text);
    return r;
}

/* ---- checks before measuring ---- */

static int read_fields(struct conversion *k, char *ret_model, char *ret_output,
                       struct dr_error *err)
{
    const char *model = NULL, *output = "", *type = NULL;
    static const char *const keys[] = { "model", "output", "int8", "type", "stream", NULL };
    const json_t *data = k->job->data;
    int r = message_only(data, keys, err);
    if (!r)
        r = jx_opt_string(data, "data", "model", &model, err);
    if (!r && model)
        r = path_text_read("model", model, ret_model, err);
    if (!r)
        r = jx_get_string(data, "data", "output", &output, err);
    if (!r)
        r = path_text_read("output", output, ret_output, err);
    if (!r)
        r = jx_opt_bool(data, "data", "int8", &k->int8, err);
    if (!r)
        r = jx_opt_string(data, "data", "type", &type, err);
    if (!r && type)
        r = tensor_copy_type(type, &k->type, err);
    if (!r)
        r = jx_opt_bool(data, "data", "stream", &k->stream, err);
    if (!r && k->int8 && type)
        r = dr_fail_field(err, DR_EINVAL, "type", type, "nothing beside int8", NULL);
    return r;
}

static int check_free(const struct conversion *k, const char *path, struct dr_error *err)
{
    struct stat st;
    if (fstatat(k->folder, dr_path_base(path), &st, AT_SYMLINK_NOFOLLOW))
        return 0;
    return dr_fail_field(err, DR_EINVAL, "output", path, "a path that does not exist yet", NULL);
}

/* Opens the folder that will hold the copy; checks that the name is free and the folder writable.
 */
static int check_output(struct conversion *k, const char *output, struct dr_error *err)
{
    char folder[DR_PATH_MAX], probe[256];
    size_t n = dr_path_trimmed(output);
    if (n >= sizeof k->output)
        return dr_fail(err, DR_ELIMIT, "output: the path is too long");
    snprintf(k->output, sizeof k->output, "%.*s", (int)n, output);
    const char *name = dr_path_base(k->output);
    n = (size_t)(name - k->output);
    snprintf(folder, sizeof folder, "%.*s", (int)n, k->output);
    if (!*name)
        return dr_fail_field(err, DR_EINVAL, "output", output, "a path that does not exist yet",
                             NULL);
    int r = roots_open_folder(&k->engine->roots, "output", n ? folder : ".", false, &k->folder,
                              err);
    if (!r)
        r = check_free(k, k->output, err);
    if (r < 0)
        return r;
    int fd = dr_make_temporary(k->folder, name, probe);
    if (fd < 0)
        return dr_fail_errno(err, k->output, "make a folder beside");
    close(fd);
    unlinkat(k->folder, probe, AT_REMOVEDIR);
    quantize_begin(&k->copy, k->folder, k->output);
    return 0;
}

static int check_model(struct conversion *k, struct dr_error *err)
{
    enum checkpoint_weights weights;
    bool folder = dr_is_dir(k->model.path);
    struct model_spec spec = { .model = { k->model.path, engine_model_root(&k->model) } };
    int r = quantize_check(&k->copy, k->model.path, err);
    if (!r)
        r = pipeline_manager_weights(k->engine->pipelines, &spec, stop_of(k), &weights, err);
    if (!r && weights != CHECKPOINT_FLOAT)
        r = dr_fail_field(err, DR_EINVAL, "model", k->model.path,
                          "a model whose weights are not quantised", NULL);
    if (!r)
        r = report_path(k->output, folder, k->report, err);
    return r || folder ? r : check_free(k, k->report, err);
}

/* ---- the verb ---- */

static int convert(struct conversion *k, json_t **ret_data, struct dr_error *err)
{
    char path[40 + sizeof k->copy.temporary];
    int r = measure(k, err);
    if (!r)
        r = write_copy(k, err);
    if (r < 0)
        return r;
    say(k, 4, "comparing predictions");
    /* the folder that was written, even if another has its name by now */
    snprintf(path, sizeof path, "/proc/self/fd/%d/%s", k->folder, k->copy.temporary);
    r = compare(k, NULL, path, PRECISION_INT8, &k->int8_error, k->int8_set, err);
    if (!r)
        r = compare(k, engine_model_root(&k->model), k->model.path, PRECISION_BF16, &k->error_16,
                    k->set_16, err);
    if (r < 0)
        return r;
    json_t *report = report_of(k);
    r = report ? put_in_place(k, report, err)
               : dr_fail(err, DR_ENOMEM, "out of memory for the report");
    if (r < 0)
        json_decref(report);
    else
        *ret_data = report;
    return r;
}

/* ---- another type ---- */

/* Takes the model's file to the new one, which has its name when it is whole. */
static int copy_tensors(struct conversion *k, const struct model_file *from, json_t **ret_data,
                        struct dr_error *err)
{
    int fd = dr_open_temporary(k->folder, dr_path_base(k->output), k->copy.temporary);
    if (fd < 0)
        return dr_fail_errno(err, k->output, "create");
    int r = tensor_copy(from->fd, from->path, fd, k->output, k->type, stop_of(k), ret_data, err);
    if (!r && jx_set(*ret_data, "output", path_text_json(k->output)))
        r = dr_fail(err, DR_ENOMEM, "out of memory for the answer");
    if (!r)
        r = quantize_commit(&k->copy, err);
    if (r)
        unlinkat(k->folder, k->copy.temporary, 0);
    k->copy.temporary[0] = '\0';
    return r;
}

/* A single file with its numbers in another type, or a pickle's tensors as safetensors. */
static int convert_type(struct conversion *k, json_t **ret_data, struct dr_error *err)
{
    struct model_files *m;
    const struct model_file *f;
    say(k, 3, "writing");
    int r = model_files_open(engine_model_root(&k->model), k->model.path, &m, err);
    if (r)
        return r;
    if (model_files_is_folder(m))
        r = dr_fail_field(err, DR_EINVAL, "model", k->model.path,
                          "a single file: folders are converted to 8 bits only (int8)", NULL);
    if (!r)
        r = model_files_need(m, "", 0, &f, err);
    if (!r)
        r = copy_tensors(k, f, ret_data, err);
    if (r && *ret_data) {
        json_decref(*ret_data);
        *ret_data = NULL;
    }
    model_files_close(m);
    return r;
}

int engine_convert(void *engine, struct worker_job *job, json_t **ret_data, struct dr_error *err)
{
    if (json_object_get(job->data, "layout"))
        return engine_layout(engine, job, ret_data, err);
    struct conversion k = {
        .engine = engine,
        .job = job,
        .folder = -1,
        .type = DTYPE_COUNT,
        .int8_error = -1,
        .error_16 = -1,
    };
    quantize_begin(&k.copy, -1, "");
    char model[DR_PATH_MAX] = "", output[DR_PATH_MAX];
    int r = read_fields(&k, model, output, err);
    if (!r)
        r = check_output(&k, output, err);
    if (!r)
        r = engine_find_model(engine, model, &k.model, err);
    if (!r && k.int8)
        r = check_model(&k, err);
    if (!r && k.int8)
        pipeline_manager_clear(k.engine->pipelines);
    if (!r)
        r = k.int8 ? convert(&k, ret_data, err) : convert_type(&k, ret_data, err);
    quantize_end(&k.copy);
    if (k.folder >= 0)
        close(k.folder);
    int8_choice_release(&k.choice);
    int8_samples_release(&k.samples);
    pipeline_unref(k.pipeline);
    return r;
}
