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
#include "core/communication/recipe.h"

enum { NAMED = 5 }; /* unknown fields that an error lists */

bool from_settles(enum field_id id)
{
    return id != FIELD_format && id != FIELD_quality && id != FIELD_metadata && id != FIELD_model &&
           !field_is_part(id);
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
    static const enum field_id others[] = { FIELD_save_path,        FIELD_return_base64,
                                            FIELD_dump_stages,      FIELD_load_stage,
                                            FIELD_stream,           FIELD_format,
                                            FIELD_quality,          FIELD_metadata,
                                            FIELD_batch_size,       FIELD_receipt_sampler,
                                            FIELD_receipt_schedule, FIELD_receipt_guidance_scale };
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

/* The model or a part of it: one of the two in a new place, or another. */
static bool typed_model(const struct cli_call *call)
{
    bool typed = cli_typed(call, FIELD_model);
    for (int i = 0; i < FIELD_COUNT; i++)
        typed |= field_is_part((enum field_id)i) && cli_typed(call, (enum field_id)i);
    return typed;
}

/* Values of the receipt that only followed from one that is now typed. */
static void forget_consequences(const struct cli_call *call, struct request *q)
{
    bool size = cli_typed(call, FIELD_width) || cli_typed(call, FIELD_height);
    bool sampler = cli_typed(call, FIELD_sampler), scheduler = cli_typed(call, FIELD_scheduler);
    bool schedule = cli_typed(call, FIELD_schedule) || scheduler;
    bool original = same_size(q, FIELD_original_size), target = same_size(q, FIELD_target_size);
    if (typed_model(call)) {
        request_unset(q, FIELD_model_sha256);
        if (strcmp(request_text(q, FIELD_prediction_from), "the request"))
            request_unset(q, FIELD_prediction);
    }
    if (cli_typed(call, FIELD_prompt_syntax) && !cli_typed(call, FIELD_emphasis))
        request_unset(q, FIELD_emphasis);
    if (size && original)
        request_unset(q, FIELD_original_size);
    if (size && target)
        request_unset(q, FIELD_target_size);
    bool listed = cli_typed(call, FIELD_timesteps) || cli_typed(call, FIELD_sigmas);
    if (listed || cli_typed(call, FIELD_steps) || schedule) {
        request_unset(q, FIELD_timesteps);
        request_unset(q, FIELD_sigmas);
    }
    if (listed) {
        request_unset(q, FIELD_steps);
        request_unset(q, FIELD_schedule);
    }
    for (int i = 0; cli_typed(call, FIELD_recipe) && i < FIELD_COUNT; i++)
        if (recipe_decides((enum field_id)i))
            request_unset(q, (enum field_id)i);
    if (sampler || schedule)
        request_unset(q, FIELD_spacing);
    if (cli_typed(call, FIELD_image))
        request_unset(q, FIELD_image_sha256);
    if (cli_typed(call, FIELD_precision))
        request_unset(q, FIELD_kernels);
    if (cli_typed(call, FIELD_kernels))
        request_unset(q, FIELD_precision);
}

/* Moves a value of the receipt to the field that says so. */
static int set_aside(struct request *q, enum field_id from, enum field_id to, const char *text,
                     struct dr_error *err)
{
    int r = request_has(q, from) ? request_set_text(q, to, text, err) : 0;
    request_unset(q, from);
    return r;
}

/* Where a sampler is typed, by either name, only the worker knows what comes with it: it gets the
 * receipt's values apart from those that are typed. */
static int set_sampler_aside(const struct cli_call *call, struct request *q, struct dr_error *err)
{
    char sampler[512], scale[40];
    bool eta = request_has(q, FIELD_eta) && !cli_typed(call, FIELD_eta);
    if (!cli_typed(call, FIELD_sampler) && !cli_typed(call, FIELD_scheduler))
        return 0;
    size_t n = (size_t)snprintf(sampler, sizeof sampler, "%.400s", request_text(q, FIELD_sampler));
    if (eta)
        snprintf(sampler + n, sizeof sampler - n, ",eta=%.17g", request_real(q, FIELD_eta));
    request_unset(q, FIELD_eta);
    snprintf(scale, sizeof scale, "%.17g", request_real(q, FIELD_guidance_scale));
    int r = set_aside(q, FIELD_sampler, FIELD_receipt_sampler, sampler, err);
    if (!r)
        r = set_aside(q, FIELD_schedule, FIELD_receipt_schedule, request_text(q, FIELD_schedule),
                      err);
    return r ? r : set_aside(q, FIELD_guidance_scale, FIELD_receipt_guidance_scale, scale, err);
}

/* If the configuration's model (or part) has the name that the receipt gives, it says where to find
 * it. */
static bool configured(const struct request *q, enum field_id id, const char *name)
{
    const char *base = dr_path_base(request_text(q, id));
    size_t n = strlen(name), extension = strlen(dr_path_extension(base));
    return n && !strncmp(base, name, n) && (!base[n] || strlen(base) - n == extension);
}

/* The configuration has no say in what the receipt's sampler brings. */
static void drop_configured(struct cli_call *call)
{
    static const enum field_id fields[] = { FIELD_sampler, FIELD_schedule, FIELD_eta,
                                            FIELD_guidance_scale };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (!cli_typed(call, fields[i]))
            request_unset(&call->request, fields[i]);
}

/* A picture to begin with is known by its digest, so that one from elsewhere cannot make use of any
 * other file; one that came in a request has no path. */
static int check_image(const struct cli_call *call, const struct request *q, struct dr_error *err)
{
    bool typed = cli_typed(call, FIELD_image);
    if (request_has(q, FIELD_image) && !request_has(q, FIELD_image_sha256))
        return dr_fail_field(err, DR_EINVAL, "image", "no digest", "image_sha256 beside it", NULL);
    if (request_count(q, FIELD_mask) && !request_item_has(q, FIELD_mask, 0, "sha256"))
        return dr_fail_field(err, DR_EINVAL, "mask", "no digest", "sha256 beside it", NULL);
    if (!typed && request_has(q, FIELD_image_sha256) && !request_has(q, FIELD_image))
        return dr_fail_field(err, DR_EINVAL, "image", "none, as it came in the request itself",
                             "its file", "give it with --image");
    return 0;
}

/* A picture from elsewhere must not name files by path. */
static int check_names(const struct request *q, struct dr_error *err)
{
    int r = 0;
    for (int i = 0; !r && i < FIELD_COUNT; i++) {
        enum field_id id = (enum field_id)i;
        if ((id == FIELD_model || field_is_part(id)) && strchr(request_text(q, id), '/'))
            r = dr_fail_field(err, DR_EINVAL, field_info(id)->name, request_text(q, id),
                              "a model name, not a path", NULL);
        bool files = field_key(id, 0) && !strcmp(field_key(id, 0)->unit, "path");
        for (int k = 0; !r && files && k < request_count(q, id); k++)
            if (strchr(request_item_text(q, id, k, "path"), '/'))
                r = dr_fail_field(err, DR_EINVAL, field_info(id)->name,
                                  request_item_text(q, id, k, "path"), "a name, not a path", NULL);
    }
    return r;
}

/* The configuration says where a name is; a part of it that the picture was drawn without counts no
 * more. */
static void settle_name(struct cli_call *call, struct request *q, enum field_id id)
{
    if (id != FIELD_model && !field_is_part(id))
        return;
    if (request_has(q, id) && configured(&call->request, id, request_text(q, id)))
        request_unset(q, id);
    else if (id != FIELD_model && !request_has(q, id) && !cli_typed(call, id))
        request_unset(&call->request, id);
}

static int take(struct cli_call *call, const char *path, const json_t *receipt,
                struct dr_error *err)
{
    struct request q;
    struct dr_error inner = { 0 };
    int r = request_parse(receipt, "", NULL, &q, &inner);
    if (!r && ((r = check_names(&q, &inner)) < 0 || (r = check_image(call, &q, &inner)) < 0))
        request_free(&q);
    if (r < 0)
        return option_fail(err, r, "--from", "%s: its receipt: %s", path, inner.text);
    forget_consequences(call, &q);
    drop_configured(call);
    r = set_sampler_aside(call, &q, err);
    for (int i = 0; i < FIELD_COUNT; i++)
        settle_name(call, &q, (enum field_id)i);
    for (int i = 0; !r && i < FIELD_COUNT; i++) {
        if (!q.value[i].set || cli_typed(call, (enum field_id)i))
            continue;
        request_unset(&call->request, (enum field_id)i);
        call->request.value[i] = q.value[i];
        q.value[i] = (struct field_value){ .set = false };
    }
    request_free(&q);
    return r;
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

/* The part that an error is about; FIELD_COUNT: none. */
static enum field_id part_of(const struct dr_error *err)
{
    const char *path = err->path + (strncmp(err->path, "data.", 5) ? 0 : 5);
    for (int i = 0; i < FIELD_COUNT; i++)
        if (field_is_part((enum field_id)i) && !strcmp(field_info((enum field_id)i)->name, path))
            return (enum field_id)i;
    return FIELD_COUNT;
}

void from_explain(const struct cli_call *call, const struct from *from, int code,
                  struct dr_error *err)
{
    bool about_model = !strcmp(err->path, "model") || !strcmp(err->path, "data.model");
    enum field_id part = part_of(err);
    if (code != DR_ENOENT || !call->value[OPT_from])
        return;
    if (part != FIELD_COUNT && !cli_typed(call, part))
        option_fail(err, code, "--from",
                    "%s was drawn with the %s '%s', which is not found by that name; give its file "
                    "with --%s",
                    call->value[OPT_from], field_info(part)->name,
                    request_text(&call->request, part), field_info(part)->option);
    if (!about_model || cli_typed(call, FIELD_model))
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
