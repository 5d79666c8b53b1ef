/* generate.c - `darkroom generate`: a request from options, pictures to files.
 *
 * The worker writes into a private folder beside the output; a finished picture is renamed to its
 * place, so that an interrupted run leaves nothing half-written. A stream gets its bytes over the
 * pipe instead.
 */
#include "cli/cli.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/path_text.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "cli/session.h"

enum { PICTURE_BYTES = 512 << 20 };

static const char notes[] =
    "The picture goes to ./darkroom-SEED.png unless -o says otherwise: a file (replaced if it "
    "exists; a batch "
    "becomes name-0.png, name-1.png ...), a pattern in which %d or %03d is the picture's number "
    "and {seed} its seed, a "
    "folder (FOLDER/ is made if missing; nothing in it is overwritten), or - for the bytes of one "
    "picture on "
    "stdout. The format is that of the file's extension, else --format's, else png; the two may "
    "not differ.\n"
    "\n"
    "A png carries the parameters as infotext (key parameters) and a receipt in JSON (key "
    "darkroom). The same receipt, "
    "seed and kernel set give the same bits again.\n"
    "\n"
    "Ctrl-C cancels and leaves nothing half-written; a second one ends the worker by force.\n";

/* The request for the worker: ours, where to write, and with progress. */
static json_t *request_data(const struct request *q, const struct session *s)
{
    json_t *data = request_json(q);
    int r = jx_set(data, "stream", json_true());
    if (!r && *s->pictures.path)
        r = jx_set(data, "save_path", path_text_json(s->pictures.path));
    if (!r && *s->stages.path)
        r = jx_set(data, "dump_stages", path_text_json(s->stages.path));
    if (r < 0) {
        json_decref(data);
        return NULL;
    }
    return data;
}

static uint64_t seed_of(const json_t *answer, size_t i)
{
    uint64_t seed = 0;
    (void)jx_as_uint(json_array_get(json_object_get(answer, "seed_used"), i), &seed);
    return seed;
}

static int write_stream(const struct output *o, const json_t *answer, struct dr_error *err)
{
    const json_t *text = json_array_get(json_object_get(answer, "images"), 0);
    bool standard = !strcmp(o->name, "-");
    const char *name = standard ? "stdout" : o->name;
    struct buf bytes;
    buf_init(&bytes, DR_TAG_IMAGE, PICTURE_BYTES);
    int r = json_is_string(text) ? base64_decode(json_string_value(text), json_string_length(text),
                                                 false, &bytes, err)
                                 : dr_fail(err, DR_EPROTO, "the worker's answer has no picture");
    int fd = r < 0 || standard ? 1 : open(o->name, O_WRONLY | O_CLOEXEC | O_NOCTTY);
    if (!r && fd < 0)
        r = dr_fail_errno(err, name, "open");
    if (!r)
        r = report_bytes(fd, name, bytes.data, bytes.len, err);
    if (fd > 1)
        close(fd);
    buf_free(&bytes);
    return r;
}

/* One entry of the result's list: {"path", "seed", "receipt"}; path is absent for a stream. */
static int add_entry(json_t *list, const json_t *answer, size_t i, const char *path)
{
    json_t *receipt = json_array_get(json_object_get(answer, "receipts"), i);
    json_t *entry = json_object();
    int r = path ? jx_set(entry, "path", path_text_json(path)) : 0;
    if (!r)
        r = jx_set(entry, "seed", jx_uint(seed_of(answer, i)));
    if (!r)
        r = jx_set(entry, "receipt", json_incref(receipt));
    if (r < 0) {
        json_decref(entry);
        return r;
    }
    return jx_add(list, entry);
}

static int place_files(const struct output *o, const json_t *answer, bool quiet, json_t *list,
                       struct dr_error *err)
{
    const json_t *files = json_object_get(answer, "images");
    char path[DR_PATH_MAX];
    for (size_t i = 0; i < json_array_size(files); i++) {
        const char *from = json_string_value(json_array_get(files, i));
        if (!from)
            return dr_fail(err, DR_EPROTO, "the worker's answer names no file");
        int r = output_place(o, from, (int)i, seed_of(answer, i), path, sizeof path, err);
        if (r < 0)
            return r;
        if (!quiet)
            report_line("wrote %s (seed %" PRIu64 ")", path, seed_of(answer, i));
        if (add_entry(list, answer, i, path) < 0)
            return dr_fail(err, DR_ENOMEM, "out of memory for the result");
    }
    return 0;
}

/* The one object of --json. Takes over `images`. */
static int print_result(const json_t *answer, json_t *images, struct dr_error *err)
{
    static const char *const kept[] = { "seed",       "model_used",      "inference_steps",
                                        "scheduler",  "guidance_scale",  "dimensions",
                                        "format",     "processing_time", "seconds",
                                        "peak_bytes", "warnings" };
    json_t *result = json_object();
    int r = jx_set(result, "images", images);
    for (size_t i = 0; !r && i < sizeof kept / sizeof *kept; i++) {
        json_t *value = json_object_get(answer, kept[i]);
        r = value ? jx_set(result, kept[i], json_incref(value)) : 0;
    }
    r = r < 0 ? dr_fail(err, r, "out of memory for the result") : report_json(result, err);
    json_decref(result);
    return r;
}

static int deliver(const struct cli_call *call, const struct output *o, const json_t *answer,
                   struct dr_error *err)
{
    bool quiet = call->value[OPT_quiet] != NULL;
    json_t *list = json_array();
    int r = list ? 0 : dr_fail(err, DR_ENOMEM, "out of memory for the result");
    if (!r && o->kind == OUTPUT_STREAM)
        r = write_stream(o, answer, err);
    else if (!r)
        r = place_files(o, answer, quiet, list, err);
    if (!r && o->kind == OUTPUT_STREAM && add_entry(list, answer, 0, NULL) < 0)
        r = dr_fail(err, DR_ENOMEM, "out of memory for the result");
    if (!r && call->value[OPT_json])
        return print_result(answer, list, err);
    json_decref(list);
    return r;
}

static int plan_output(struct cli_call *call, struct output *o, struct dr_error *err)
{
    struct request *q = &call->request;
    const char *format = request_has(q, FIELD_format) ? request_text(q, FIELD_format) : NULL;
    const char *to = call->value[OPT_output];
    /* a name of the configuration is a habit: a format beside it or on the command line counts */
    bool agree = to != call->output;
    int r = output_plan(to, format, agree, (int)request_int(q, FIELD_batch_size), o, err);
    if (!r && o->kind == OUTPUT_STREAM && !strcmp(o->name, "-") && call->value[OPT_json])
        r = dr_fail_field(err, DR_EINVAL, "--output", "-", "a file, since --json has stdout", NULL);
    return r < 0 ? r : request_set_text(q, FIELD_format, o->format, err);
}

static int fail_missing_prompt(struct dr_error *err)
{
    int r = dr_fail_field(err, DR_EINVAL, "--prompt", "nothing", "a text", NULL);
    snprintf(err->text, sizeof err->text,
             "--prompt is missing: darkroom generate -p \"a red circle\"");
    return r;
}

static int generate(struct cli_call *call, struct dr_error *err)
{
    struct session s;
    struct output o;
    struct progress progress;
    json_t *answer = NULL;
    bool quiet = call->value[OPT_quiet] != NULL;
    if (!request_has(&call->request, FIELD_prompt))
        return fail_missing_prompt(err);
    int r = plan_output(call, &o, err);
    if (r < 0)
        return r;
    if (!quiet && !*request_text(&call->request, FIELD_model))
        report_line("using the small model shipped with darkroom (-m PATH for another)");
    const char *stages = request_has(&call->request, FIELD_dump_stages)
                             ? request_text(&call->request, FIELD_dump_stages)
                             : NULL;
    struct session_options options = { .pictures = o.kind == OUTPUT_STREAM ? NULL : o.folder,
                                       .stages = stages,
                                       .request = &call->request,
                                       .threads = call->value[OPT_threads],
                                       .cache = call->cache,
                                       .cache_limit = call->cache_limit };
    progress_init(&progress, quiet);
    r = session_open(&s, &options, err);
    if (!r) {
        progress_say(&progress, "loading the model");
        r = session_call(&s, VERB_generate, request_data(&call->request, &s), progress_event,
                         &progress, &answer, err);
    }
    progress_clear(&progress);
    /* how far a run that failed has come is worth looking at; one that was called off is not */
    if (stages && r != DR_ECANCELED) {
        int kept = private_keep(&s.stages, stages, r < 0 ? NULL : err);
        r = r < 0 ? r : kept;
    }
    if (!r)
        r = deliver(call, &o, answer, err);
    json_decref(answer);
    session_close(&s);
    return r;
}

const struct cli_verb cli_generate = {
    .name = "generate",
    .synopsis = "-p TEXT [OPTION]...",
    .summary = "draw pictures",
    .notes = notes,
    .request = true,
    .takes = TAKES(threads) | TAKES(output) | TAKES(quiet) | TAKES(json),
    .run = generate,
};
