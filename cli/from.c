/* from.c - see from.h. */
#include "cli/from.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/path_text.h"
#include "cli/target.h"
#include "cli/report.h"
#include "cli/session.h"

enum { NAMED = 5 }; /* unknown fields that an error lists */

bool from_settles(enum field_id id)
{
    return id != FIELD_format && id != FIELD_quality && id != FIELD_metadata && id != FIELD_model;
}

static const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));
    return text ? text : "";
}

static int ask(const char *path, json_t **ret, struct dr_error *err)
{
    struct dr_error inner = { 0 };
    if (!dr_is_file(path))
        return option_fail(err, DR_ENOENT, "--from", "%s: %s", path,
                           access(path, F_OK) ? "no such file" : "not a file");
    if (!target_is_picture(path)) /* before a worker takes it for a model */
        return dr_fail_field(err, DR_EINVAL, "--from", path, "a PNG, JPEG or WebP picture", NULL);
    json_t *data = json_pack("{s:o}", "path", path_text_json(path));
    int r = session_ask(&(struct session_options){ .threads = "1" }, VERB_inspect, data, ret,
                        &inner);
    return r < 0 ? option_fail(err, r, "--from", "%s%s",
                               r == DR_ECANCELED ? "" : "cannot use it: ", inner.text)
                 : 0;
}

/* Fields that a receipt may set. A picture from elsewhere must not name files to read or write, nor
 * the format of the new file. */
static bool in_receipt(enum field_id id)
{
    static const enum field_id others[] = {
        FIELD_save_path, FIELD_return_base64, FIELD_dump_stages, FIELD_load_stage, FIELD_stream,
        FIELD_format,    FIELD_quality,       FIELD_metadata,    FIELD_batch_size
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (others[i] == id)
            return false;
    return true;
}

static bool is_field(const char *key)
{
    for (int i = 0; i < FIELD_COUNT; i++)
        if (!strcmp(field_info((enum field_id)i)->name, key))
            return in_receipt((enum field_id)i);
    return false;
}

/* All of them are named: a newer program knows them and this one does not. */
static int check_known(const char *path, const json_t *receipt, struct dr_error *err)
{
    char names[300] = "";
    const char *key;
    json_t *value;
    int n = 0;
    json_object_foreach((json_t *)receipt, key, value)
    {
        size_t used = strlen(names);
        if (is_field(key))
            continue;
        if (n++ < NAMED)
            snprintf(names + used, sizeof names - used, "%s%.40s", used ? ", " : "", key);
    }
    if (!n)
        return 0;
    const char *version = text_of(receipt, "version");
    return option_fail(err, DR_EINVAL, "--from",
                       "%s: its receipt has fields that this version (%s) does not know: %s%s; "
                       "it was written by darkroom %s",
                       path, DR_VERSION, names, n > NAMED ? " ..." : "",
                       *version ? version : "of an unknown version");
}

static int receipt_of(const char *path, const json_t *answer, const json_t **ret,
                      struct dr_error *err)
{
    const char *error = text_of(answer, "receipt_error");
    *ret = json_object_get(answer, "receipt");
    if (strcmp(text_of(answer, "kind"), "picture") != 0)
        return dr_fail_field(err, DR_EINVAL, "--from", path, "a PNG, JPEG or WebP picture", NULL);
    if (*error)
        return option_fail(err, DR_EFORMAT, "--from", "%s: its receipt is damaged: %s", path,
                           error);
    if (*ret)
        return check_known(path, *ret, err);
    bool infotext = json_object_get(answer, "parameters") != NULL;
    return option_fail(err, DR_EINVAL, "--from", "%s: this picture has no receipt of darkroom%s",
                       path, infotext ? " (its infotext can be read with darkroom inspect)" : "");
}

static bool same_size(const struct request *q, enum field_id id)
{
    return q->value[id].i == request_int(q, FIELD_width) &&
           q->value[id].j == request_int(q, FIELD_height);
}

/* Values of the receipt that only followed from one that is now typed. */
static void forget_consequences(const struct cli_call *call, struct request *q)
{
    bool size = cli_typed(call, FIELD_width) || cli_typed(call, FIELD_height);
    bool sampler = cli_typed(call, FIELD_sampler), scheduler = cli_typed(call, FIELD_scheduler);
    bool schedule = cli_typed(call, FIELD_schedule) || scheduler;
    bool original = same_size(q, FIELD_original_size), target = same_size(q, FIELD_target_size);
    if (cli_typed(call, FIELD_model)) {
        request_unset(q, FIELD_model_sha256);
        request_unset(q, FIELD_prediction);
    }
    if (size && original)
        request_unset(q, FIELD_original_size);
    if (size && target)
        request_unset(q, FIELD_target_size);
    if (sampler)
        request_unset(q, FIELD_eta);
    if (scheduler)
        request_unset(q, FIELD_schedule);
    if (sampler || schedule)
        request_unset(q, FIELD_spacing);
    if (cli_typed(call, FIELD_precision))
        request_unset(q, FIELD_kernels);
    if (cli_typed(call, FIELD_kernels))
        request_unset(q, FIELD_precision);
}

/* If the configuration's model has the name that the receipt gives, it says where to find it. */
static bool configured(const struct request *q, const char *name)
{
    const char *base = dr_path_base(request_text(q, FIELD_model));
    size_t n = strlen(name), extension = strlen(dr_path_extension(base));
    return n && !strncmp(base, name, n) && (!base[n] || strlen(base) - n == extension);
}

/* A picture from elsewhere must not name files to read: the names that it gives are looked for. */
static int check_names(const struct request *q, struct dr_error *err)
{
    const char *model = request_text(q, FIELD_model);
    if (strchr(model, '/'))
        return dr_fail_field(err, DR_EINVAL, "model", model, "a model name, not a path", NULL);
    for (int i = 0; i < request_count(q, FIELD_loras); i++) {
        const char *name = request_item_text(q, FIELD_loras, i, "path");
        if (strchr(name, '/'))
            return dr_fail_field(err, DR_EINVAL, "loras", name, "the name of a LoRA, not a path",
                                 NULL);
    }
    return 0;
}

static int take(struct cli_call *call, const char *path, const json_t *receipt,
                struct dr_error *err)
{
    struct request q;
    struct dr_error inner = { 0 };
    int r = request_parse(receipt, "", NULL, &q, &inner);
    if (!r && (r = check_names(&q, &inner)) < 0)
        request_free(&q);
    if (r < 0)
        return option_fail(err, r, "--from", "%s: its receipt: %s", path, inner.text);
    forget_consequences(call, &q);
    if (configured(&call->request, request_text(&q, FIELD_model)))
        request_unset(&q, FIELD_model);
    for (int i = 0; i < FIELD_COUNT; i++) {
        if (!q.value[i].set || cli_typed(call, (enum field_id)i))
            continue;
        request_unset(&call->request, (enum field_id)i);
        call->request.value[i] = q.value[i];
        q.value[i] = (struct field_value){ .set = false };
    }
    request_free(&q);
    return 0;
}

int from_apply(struct cli_call *call, struct from *ret, struct dr_error *err)
{
    const char *path = call->value[OPT_from];
    const json_t *receipt;
    json_t *answer;
    *ret = (struct from){ .model = "" };
    if (!path)
        return 0;
    int r = ask(path, &answer, err);
    if (r < 0)
        return r;
    r = receipt_of(path, answer, &receipt, err);
    if (!r) {
        snprintf(ret->model, sizeof ret->model, "%s", text_of(receipt, "model"));
        snprintf(ret->digest, sizeof ret->digest, "%s", text_of(receipt, "model_sha256"));
        r = take(call, path, receipt, err);
    }
    json_decref(answer);
    return r;
}

void from_explain(const struct cli_call *call, const struct from *from, int code,
                  struct dr_error *err)
{
    bool about_model = !strcmp(err->path, "model") || !strcmp(err->path, "data.model");
    if (code != DR_ENOENT || !about_model || !call->value[OPT_from] || cli_typed(call, FIELD_model))
        return;
    option_fail(err, code, "--from",
                "%s was drawn with the model '%s'%s%s%s, which is not found by that name; give "
                "its file with -m",
                call->value[OPT_from], from->model, *from->digest ? " (sha256 " : "", from->digest,
                *from->digest ? ")" : "");
}

void from_compare(const struct cli_call *call, const struct from *from, const json_t *receipt)
{
    const char *digest = text_of(receipt, "model_sha256");
    if (call->value[OPT_from] && *digest && *from->digest && strcasecmp(digest, from->digest))
        report_line("warning: %s was drawn with another model, '%s' (sha256 %s): this picture "
                    "differs from it",
                    call->value[OPT_from], from->model, from->digest);
}
