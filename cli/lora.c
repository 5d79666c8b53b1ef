/* lora.c - `darkroom lora`: LoRAs that there are, and merging them into a copy of a model. */
#include "cli/cli.h"

#include <string.h>

#include "base/nearest.h"
#include "base/path_text.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "cli/session.h"

static const char example[] = "darkroom lora merge a.safetensors,strength=0.8 -m MODEL -o COPY";

/* ---- what is printed ---- */

/* "LoRA 192, LoCon 12" */
static int put_kinds(const json_t *kinds, struct buf *out)
{
    const char *kind;
    json_t *n;
    int r = 0, i = 0;
    json_object_foreach((json_t *)kinds, kind, n)
    {
        if (!r)
            r = buf_printf(out, "%s%s %.0f", i++ ? ", " : "", kind, json_number_value(n));
    }
    return r;
}

static int put_words(const json_t *words, struct buf *out)
{
    enum { SHOWN = 5 };
    size_t i;
    json_t *word;
    int r = 0;
    json_array_foreach(words, i, word)
    {
        if (i >= SHOWN)
            break;
        if (!r)
            r = buf_puts(out, i ? ", " : "\n    words: ");
        if (!r)
            r = report_put(out, jx_text(word, "word"));
    }
    return r;
}

static int put_member(const json_t *line, const char *key, const char *before, struct buf *out)
{
    const json_t *value = json_object_get(line, key);
    int r = value ? buf_puts(out, before) : 0;
    if (!r && json_is_string(value))
        r = report_put(out, json_string_value(value));
    else if (!r && json_is_number(value))
        r = buf_printf(out, "%g", json_number_value(value));
    return r;
}

static int put_lora(const json_t *line, struct buf *out)
{
    int r = report_put(out, jx_text(line, "name"));
    if (!r)
        r = put_member(line, "path", "\n    ", out);
    if (!r && json_object_size(json_object_get(line, "kinds")))
        r = buf_puts(out, "\n    ");
    if (!r)
        r = put_kinds(json_object_get(line, "kinds"), out);
    if (!r)
        r = put_member(line, "rank", "; rank ", out);
    if (!r)
        r = put_member(line, "fits", "; for ", out);
    if (!r)
        r = put_member(line, "problem", "\n    cannot be used: ", out);
    if (!r)
        r = put_member(line, "trigger_phrase", "\n    phrase: ", out);
    if (!r)
        r = put_words(json_object_get(line, "trigger_words"), out);
    return r ? r : buf_putc(out, '\n');
}

static int put_list(const json_t *answer, struct buf *out)
{
    size_t i;
    json_t *line;
    int r = 0;
    json_array_foreach(json_object_get(answer, "loras"), i, line)
    {
        if (!r)
            r = put_lora(line, out);
    }
    return r || i ? r : buf_puts(out, "no LoRAs in the folders of `darkroom models`\n");
}

static int put_merged(const json_t *answer, struct buf *out)
{
    size_t i;
    json_t *warning;
    json_array_foreach(json_object_get(answer, "warnings"), i, warning)
    {
        report_line("warning: %s", json_string_value(warning));
    }
    int r = buf_printf(out, "changed: %.0f tensors\nwritten: ",
                       json_number_value(json_object_get(answer, "changed")));
    if (!r)
        r = report_put(out, jx_text(answer, "output"));
    return r ? r : buf_putc(out, '\n');
}

/* ---- calls ---- */

static void on_progress(void *ctx, const json_t *data)
{
    progress_say(ctx, jx_text(data, "message"));
}

static int call_worker(struct cli_call *call, const struct session_options *options, json_t *data,
                       json_t **ret, struct dr_error *err)
{
    struct session s;
    struct progress progress;
    if (!data)
        return dr_fail(err, DR_ENOMEM, "out of memory");
    int r = session_open(&s, options, err);
    progress_init(&progress, call->value[OPT_quiet] != NULL);
    if (!r)
        r = session_call(&s, VERB_lora, data, on_progress, &progress, ret, err);
    else
        json_decref(data);
    progress_clear(&progress);
    session_close(&s);
    return r;
}

static int list(struct cli_call *call, json_t **ret, struct dr_error *err)
{
    call->usage = call->arguments > 1 || call->value[OPT_output] || call->value[OPT_model];
    if (call->usage)
        return dr_fail_field(err, DR_EINVAL, "lora list", "more", "nothing beside it", NULL);
    return call_worker(call, &(struct session_options){ .threads = "1" },
                       json_pack("{s:s,s:b}", "action", "list", "stream", 0), ret, err);
}

/* The files as they were typed, with their options. */
static json_t *files_of(const struct cli_call *call)
{
    json_t *files = json_array();
    for (int i = 1; files && i < call->arguments; i++)
        if (jx_add(files, path_text_typed(call->argument[i]))) {
            json_decref(files);
            files = NULL;
        }
    return files;
}

static int check_merge(struct cli_call *call, struct dr_error *err)
{
    const char *output = call->value[OPT_output];
    call->usage = true;
    if (call->arguments < 2)
        return dr_fail_field(err, DR_EINVAL, "lora merge", "no file", "one LoRA or more", example);
    if (!output || !*output)
        return dr_fail_field(err, DR_EINVAL, "--output", "nothing",
                             "a path for the copy that does not exist yet", example);
    call->usage = false;
    return 0;
}

static int merge(struct cli_call *call, json_t **ret, struct dr_error *err)
{
    int r = check_merge(call, err);
    if (r)
        return r;
    const char *given = call->value[OPT_output], *model = call->value[OPT_model];
    char *output = dr_strndup(DR_TAG_BASE, given, dr_path_trimmed(given));
    size_t folder = output ? (size_t)(dr_path_base(output) - output) : 0;
    char *root = output ? dr_strndup(DR_TAG_BASE, folder ? output : ".", folder ? folder : 1)
                        : NULL;
    struct session_options options = { .threads = call->value[OPT_threads], .root = root };
    if (!root)
        r = dr_fail(err, DR_ENOMEM, "out of memory");
    else if (!dr_is_dir(root))
        r = dr_fail(err, DR_ENOENT, "%s: no such folder", root);
    if (!r)
        r = call_worker(call, &options,
                        json_pack("{s:s,s:o,s:o*,s:o,s:b}", "action", "merge", "loras",
                                  files_of(call), "model", model ? path_text_typed(model) : NULL,
                                  "output", path_text_json(output), "stream", 1),
                        ret, err);
    dr_free(output);
    dr_free(root);
    return r;
}

static const struct {
    const char *name;
    int (*call)(struct cli_call *call, json_t **ret, struct dr_error *err);
    int (*put)(const json_t *answer, struct buf *out);
} actions[] = {
    { "list", list, put_list },
    { "merge", merge, put_merged },
};

enum { ACTIONS = sizeof actions / sizeof *actions };

static int lora(struct cli_call *call, struct dr_error *err)
{
    const char *names[ACTIONS];
    json_t *answer = NULL;
    struct buf out;
    int at = -1;
    for (int i = 0; i < ACTIONS; i++) {
        names[i] = actions[i].name;
        if (!strcmp(call->argument[0], names[i]))
            at = i;
    }
    call->usage = at < 0;
    if (at < 0)
        return dr_fail_choice(err, DR_EINVAL, "lora", call->argument[0], names, ACTIONS);
    int r = actions[at].call(call, &answer, err);
    if (r < 0)
        return r;
    buf_init(&out, DR_TAG_BASE, 0);
    if (actions[at].put(answer, &out) < 0)
        r = dr_fail(err, DR_ENOMEM, "out of memory for the report");
    else
        r = call->value[OPT_json] ? report_json(answer, err) : report_text(&out, err);
    buf_free(&out);
    json_decref(answer);
    return r;
}

const struct cli_verb cli_lora = {
    .name = "lora",
    .synopsis = "list | merge FILE[,KEY=X]... [-m MODEL] -o COPY",
    .summary = "list LoRAs, or merge some into a copy of a model",
    .notes =
        "list shows the LoRAs in the folders of `darkroom models`: kind, rank, the models they "
        "fit, and trigger words; inspect FILE says more of one.\n"
        "merge writes a copy of the model that draws what the model draws with these LoRAs: base "
        "+ changes in float32, rounded once to the type that the model stores. Each FILE is a path "
        "or name with the keys strength, text_strength and blocks, as --lora takes them (see help "
        "lora of generate). Nothing that exists is replaced.\n",
    .help = { [OPT_model] = "checkpoint or diffusers folder; it is not changed (default: the "
                            "shipped small model)",
              [OPT_output] = "where the copy goes: a folder for a folder, a file for a file; must "
                             "not exist yet" },
    .least = 1,
    .most = CLI_ARGUMENTS,
    .takes = TAKES(model) | TAKES(output) | TAKES(threads) | TAKES(quiet) | TAKES(json),
    .settings = true,
    .run = lora,
};
