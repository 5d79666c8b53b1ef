/* generate.c - `darkroom generate`: a request from options, pictures to files.
 *
 * The worker writes into a private folder beside the output; a finished picture is renamed to its
 * place as soon as the worker reports it, so that an interrupted run leaves nothing half-written
 * and loses nothing that is done. A stream gets its bytes over the pipe instead. Several prompts
 * and --count are requests one after another to one worker.
 */
#include "cli/cli.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/clock.h"
#include "base/path_text.h"
#include "cli/from.h"
#include "cli/request_call.h"
#include "cli/target.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "cli/session.h"

enum { PICTURE_BYTES = 512 << 20, COUNT_MOST = 10000, TOTAL_MOST = 100000 };

static const char notes[] =
    "-o names where the picture goes (default: ./darkroom-SEED.png): a file (several pictures "
    "become name-0.png, name-1.png ...), a pattern with %d or %03d for the picture's number or "
    "{seed} for its seed, a folder (FOLDER/ is made if missing), or - for the bytes of one picture "
    "on stdout. Only a file named exactly is replaced, if it is a picture, keeping its mode and "
    "owner; numbered names that exist are refused before drawing, and nothing in a folder is "
    "overwritten. The format is that of the file's extension, else --format, else png; if both "
    "are given they must agree.\n"
    "\n"
    "-p may be given several times; -p @FILE and -p - read prompts from a file or stdin, one a "
    "line (blank lines and lines that begin with # are skipped; @@ begins a prompt with @). Each "
    "prompt is drawn --count times; the seeds of a prompt are seed, seed+1 and so on, and every "
    "prompt begins with the same seed.\n"
    "\n"
    "A picture carries its parameters as infotext (key parameters) and a receipt in JSON (key "
    "darkroom; in JPEG and WebP both are in the EXIF block). --from PICTURE draws it again: the "
    "same receipt, seed and kernel set give the same bits. Options beside --from win.\n"
    "\n"
    "Each picture is written when it is finished. Ctrl-C cancels and keeps what is written; a "
    "second one ends the worker by force.\n";

/* Pictures on their way. */
struct drawing {
    struct cli_call *call;
    struct target output;
    struct session session;
    struct progress progress;
    struct from from;
    bool quiet;
    int prompts, count, batch, total;
    int done;       /* pictures of the requests before this one */
    int written;    /* pictures in their place */
    double started; /* the request, by dr_now */
    json_t *images; /* the result's list: {"path", "seed", "receipt"}; no path for a stream */
    json_t *answer; /* the first request's */
    int code;       /* of a picture that could not be put in its place */
    struct dr_error error;
};

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

static int write_stream(const struct target *o, const json_t *answer, struct dr_error *err)
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

static int add_entry(struct drawing *d, uint64_t seed, const char *path)
{
    json_t *entry = json_object();
    int r = path ? jx_set(entry, "path", path_text_json(path)) : 0;
    if (!r)
        r = jx_set(entry, "seed", jx_uint(seed));
    if (r < 0) {
        json_decref(entry);
        return r;
    }
    return jx_add(d->images, entry);
}

/* The worker has finished a picture: it goes to its place at once. */
static int place(struct drawing *d, const json_t *data, struct dr_error *err)
{
    char path[DR_PATH_MAX], which[64] = "";
    const char *from = json_string_value(json_object_get(data, "path"));
    int index = d->done + (int)json_integer_value(json_object_get(data, "picture"));
    uint64_t seed = 0;
    (void)jx_as_uint(json_object_get(data, "seed"), &seed);
    if (!from) /* a stream's is in the answer */
        return 0;
    int r = target_place(&d->output, from, index, seed, path, sizeof path, err);
    if (r < 0 && dr_is_file(from)) { /* a finished picture is kept */
        size_t used = strlen(err->text);
        d->session.pictures.given = true;
        snprintf(err->text + used, sizeof err->text - used, "; the picture is kept as %s", from);
    }
    if (r < 0)
        return r;
    d->written++;
    if (d->total > 1)
        snprintf(which, sizeof which, "picture %d of %d, ", index + 1, d->total);
    progress_clear(&d->progress);
    if (!d->quiet)
        report_line("wrote %s (%sseed %" PRIu64 ", %.1f s)", path, which, seed,
                    dr_now() - d->started);
    return add_entry(d, seed, path) < 0 ? dr_fail(err, DR_ENOMEM, "out of memory for the result")
                                        : 0;
}

static void on_event(void *ctx, const json_t *data)
{
    struct drawing *d = ctx;
    const char *stage = json_string_value(json_object_get(data, "stage"));
    if (!stage || strcmp(stage, "write") != 0)
        progress_event(&d->progress, data);
    else if (!d->code)
        d->code = place(d, data, &d->error);
}

/* What only the final answer has: receipts, and the bytes of a stream. */
static int take_answer(struct drawing *d, const json_t *answer, struct dr_error *err)
{
    const json_t *receipts = json_object_get(answer, "receipts");
    int r = 0;
    if (d->output.kind == TARGET_STREAM) {
        r = write_stream(&d->output, answer, err);
        if (!r && add_entry(d, seed_of(answer, 0), NULL) < 0)
            r = dr_fail(err, DR_ENOMEM, "out of memory for the result");
    }
    if (!r && json_array_size(d->images) != (size_t)(d->done + d->batch))
        r = dr_fail(err, DR_EPROTO, "the worker did not report every picture");
    for (int i = 0; !r && i < d->batch; i++) {
        json_t *entry = json_array_get(d->images, (size_t)(d->done + i));
        if (jx_set(entry, "receipt", json_incref(json_array_get(receipts, (size_t)i))) < 0)
            r = dr_fail(err, DR_ENOMEM, "out of memory for the result");
    }
    if (!r && !d->done && !d->quiet)
        from_compare(d->call, &d->from, json_array_get(receipts, 0));
    if (!d->answer)
        d->answer = json_incref((json_t *)answer);
    return r;
}

/* ---- one request after another ---- */

static int set_seed(struct drawing *d, uint64_t seed, struct dr_error *err)
{
    char text[32];
    snprintf(text, sizeof text, "%" PRIu64, seed);
    return request_set_text(&d->call->request, FIELD_seed, text, err);
}

static int draw_request(struct drawing *d, struct dr_error *err)
{
    json_t *answer = NULL;
    int last = d->done + d->batch;
    progress_pictures(&d->progress, d->done + 1, last, d->total);
    d->started = dr_now();
    int r = session_call(&d->session, VERB_generate, request_data(&d->call->request, &d->session),
                         on_event, d, &answer, err);
    progress_clear(&d->progress);
    if (d->code) {
        r = d->code;
        *err = d->error;
    }
    if (!r)
        r = take_answer(d, answer, err);
    json_decref(answer);
    d->done = last;
    return r;
}

/* A random seed is drawn for the first request; later requests count on from it. */
static int draw_all(struct drawing *d, struct dr_error *err)
{
    struct request *q = &d->call->request;
    uint64_t seed = 0;
    bool known = request_seed(q, &seed);
    for (int i = 0; i < d->prompts * d->count; i++) {
        int r = d->call->prompts.n
                    ? request_set_text(q, FIELD_prompt, d->call->prompts.text[i / d->count], err)
                    : 0;
        if (!r && known)
            r = set_seed(d, seed + (uint64_t)(i % d->count) * (uint64_t)d->batch, err);
        if (!r)
            r = draw_request(d, err);
        if (r < 0)
            return r;
        if (!known)
            (void)jx_as_uint(json_object_get(d->answer, "seed"), &seed);
        known = true;
    }
    return 0;
}

/* The one object of --json; what is the same for all requests is the first one's. */
static int print_result(const struct drawing *d, struct dr_error *err)
{
    static const char *const kept[] = { "seed",           "model_used", "inference_steps",
                                        "scheduler",      "dimensions", "format",
                                        "guidance_scale", "peak_bytes", "processing_time",
                                        "warnings" };
    json_t *result = json_object(), *value;
    int r = jx_set(result, "images", json_incref(d->images));
    for (size_t i = 0; !r && i < sizeof kept / sizeof *kept; i++) {
        value = json_object_get(d->answer, kept[i]);
        r = value ? jx_set(result, kept[i], json_incref(value)) : 0;
    }
    value = json_object_get(d->answer, "seconds");
    if (!r && value)
        r = jx_set(result, "stage_seconds", json_incref(value));
    r = r < 0 ? dr_fail(err, r, "out of memory for the result") : report_json(result, err);
    json_decref(result);
    return r;
}

/* ---- before the first is drawn ---- */

static bool same_file(const struct target *o, const char *path)
{
    struct stat st;
    return !stat(path, &st) && st.st_dev == o->device && st.st_ino == o->inode;
}

/* A picture that is read is not replaced by what is made of it. */
static int check_inputs(const struct cli_call *call, const struct target *o, struct dr_error *err)
{
    const struct request *q = &call->request;
    char path[DR_PATH_MAX];
    const char *from = call->value[OPT_from], *image = request_text(q, FIELD_image);
    if (from && same_file(o, from))
        return option_fail(err, DR_EINVAL, "--output",
                           "is the picture of --from; choose another name");
    if (*image && !path_text_read("image", image, path, NULL) && same_file(o, path))
        return option_fail(err, DR_EINVAL, "--output",
                           "is the picture of --image; choose another name");
    for (int i = 0; i < request_count(q, FIELD_mask); i++)
        if (!path_text_read("mask", request_item_text(q, FIELD_mask, i, "path"), path, NULL) &&
            same_file(o, path))
            return option_fail(err, DR_EINVAL, "--output",
                               "is the picture of --mask; choose another name");
    return 0;
}

static int plan_output(struct drawing *d, struct dr_error *err)
{
    struct cli_call *call = d->call;
    struct request *q = &call->request;
    const char *format = request_has(q, FIELD_format) ? request_text(q, FIELD_format) : NULL;
    const char *to = call->value[OPT_output];
    uint64_t seed;
    bool known = request_seed(q, &seed);
    struct target *o = &d->output;
    /* an output name from the configuration is a default: a format beside it or on the command line
     * wins */
    bool agree = to != call->output;
    int r = target_plan(to, format, agree, d->total, o, err);
    if (!r && o->kind == TARGET_STREAM && !strcmp(o->name, "-") && call->value[OPT_json])
        r = dr_fail_field(err, DR_EINVAL, "--output", "-",
                          "a file: with --json stdout has the JSON", NULL);
    if (!r && cli_typed(call, FIELD_quality) && !strcmp(o->format, "png"))
        r = option_fail(err, DR_EINVAL, "--quality",
                        "applies to jpeg and webp, and this picture is a png");
    if (!r && o->replaces)
        r = check_inputs(call, o, err);
    if (!r)
        r = target_check(o, known ? &seed : NULL, d->count * d->batch, err);
    return r < 0 ? r : request_set_text(q, FIELD_format, o->format, err);
}

static int count_pictures(struct drawing *d, struct dr_error *err)
{
    struct cli_call *call = d->call;
    const char *text = call->value[OPT_count];
    char *end = NULL;
    long count = text ? strtol(text, &end, 10) : 1;
    if (text && (end == text || *end || count < 1 || count > COUNT_MOST))
        return dr_fail_field(err, DR_EINVAL, "--count", text, "an integer from 1 to 10000", NULL);
    d->prompts = call->prompts.n ? call->prompts.n : 1;
    d->count = (int)count;
    d->batch = (int)request_int(&call->request, FIELD_batch_size);
    int64_t total = (int64_t)d->prompts * d->count * d->batch;
    if (total > TOTAL_MOST)
        return dr_fail(err, DR_ELIMIT, "%lld pictures at once, at most %d", (long long)total,
                       TOTAL_MOST);
    d->total = (int)total;
    return 0;
}

/* How many pictures, with which seeds, and where they go. */
static int plan_pictures(struct drawing *d, struct dr_error *err)
{
    struct request *q = &d->call->request;
    int r = count_pictures(d, err);
    if (!r && d->prompts * d->count > 1 && request_has(q, FIELD_dump_stages))
        r = option_fail(
            err, DR_EINVAL, "--dump-stages",
            "needs a single request (one prompt, no --count): the next would overwrite its "
            "files");
    uint64_t seed;
    uint64_t more = (uint64_t)(d->count * d->batch - 1);
    /* the worker checks a single batch */
    if (!r && d->count > 1 && request_seed(q, &seed) && seed > UINT64_MAX - more)
        r = option_fail(err, DR_EINVAL, "--seed",
                        "got %" PRIu64 ", expected seed + %" PRIu64 " to be at most 2^64-1", seed,
                        more);
    return r < 0 ? r : plan_output(d, err);
}

int generate_check(struct cli_call *call, struct dr_error *err)
{
    struct drawing d = { .call = call };
    return plan_pictures(&d, err);
}

static int prepare(struct drawing *d, struct dr_error *err)
{
    struct cli_call *call = d->call;
    int r = from_apply(call, &d->from, err);
    if (!r && !request_has(&call->request, FIELD_prompt)) {
        r = dr_fail_field(err, DR_EINVAL, "--prompt", "nothing", "a text", NULL);
        snprintf(err->text, sizeof err->text,
                 "--prompt is missing: darkroom generate -p \"a red circle\"");
    }
    return r < 0 ? r : plan_pictures(d, err);
}

/* What was finished before the failure, for people and for --json. */
static int fail_partly(struct drawing *d, int r, struct dr_error *err)
{
    size_t used = strlen(err->text);
    if (d->written)
        snprintf(err->text + used, sizeof err->text - used, "; %d of %d picture%s written",
                 d->written, d->total, d->total > 1 ? "s were" : " was");
    d->call->partial = json_incref(d->images);
    return r;
}

static int run(struct drawing *d, struct dr_error *err)
{
    struct cli_call *call = d->call;
    const char *stages = request_has(&call->request, FIELD_dump_stages)
                             ? request_text(&call->request, FIELD_dump_stages)
                             : NULL;
    struct session_options options = { .pictures = d->output.kind == TARGET_STREAM
                                                       ? NULL
                                                       : d->output.folder,
                                       .stages = stages,
                                       .request = &call->request,
                                       .threads = call->value[OPT_threads],
                                       .cache = call->cache,
                                       .cache_limit = call->cache_limit };
    if (!d->quiet && !*request_text(&call->request, FIELD_model))
        report_line("using the small model shipped with darkroom, which draws coloured shapes only "
                    "(-m PATH for another)");
    progress_init(&d->progress, d->quiet);
    int r = session_open(&d->session, &options, err);
    d->session.follow = true;
    if (!r) {
        progress_say(&d->progress, "loading the model");
        r = draw_all(d, err);
    }
    progress_clear(&d->progress);
    if (r < 0)
        from_explain(call, &d->from, r, err);
    /* the stages of a failed run help to find out why; those of a cancelled one do not */
    if (stages && r != DR_ECANCELED) {
        int kept = private_keep(&d->session.stages, stages, r < 0 ? NULL : err);
        r = r < 0 ? r : kept;
    }
    if (!r && call->value[OPT_json])
        r = print_result(d, err);
    session_close(&d->session);
    return r < 0 ? fail_partly(d, r, err) : 0;
}

static int generate(struct cli_call *call, struct dr_error *err)
{
    struct drawing d = { .call = call, .quiet = call->value[OPT_quiet] != NULL };
    int r = prepare(&d, err);
    if (r < 0)
        return r;
    d.images = json_array();
    r = d.images ? run(&d, err) : dr_fail(err, DR_ENOMEM, "out of memory for the result");
    json_decref(d.images);
    json_decref(d.answer);
    return r;
}

const struct cli_verb cli_generate = {
    .name = "generate",
    .synopsis = "-p TEXT [OPTION]...",
    .summary = "draw pictures",
    .notes = notes,
    .request = true,
    .takes = TAKES(threads) | TAKES(output) | TAKES(quiet) | TAKES(json) | TAKES(count) |
             TAKES(from),
    .run = generate,
};
