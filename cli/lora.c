/* lora.c - `darkroom lora`: LoRAs that there are, merging them into a copy of a model or into one,
 * and other names. */
#include "cli/cli.h"

#include <stdlib.h>
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
    const json_t *changed = json_object_get(answer, "changed");
    int r = buf_printf(out, "%s: %.0f tensors\nwritten: ", changed ? "changed" : "made",
                       json_number_value(changed ? changed : json_object_get(answer, "tensors")));
    if (!r)
        r = report_put(out, jx_text(answer, "output"));
    return r ? r : buf_putc(out, '\n');
}

static int put_extracted(const json_t *answer, struct buf *out)
{
    size_t i;
    json_t *name;
    json_array_foreach(json_object_get(answer, "left_out"), i, name)
    {
        report_line("warning: %s differs and is not in the LoRA", json_string_value(name));
    }
    int r = buf_printf(out,
                       "layers: %.0f, ranks %.0f to %.0f, %.4g %% of the differences' squares\n",
                       json_number_value(json_object_get(answer, "layers")),
                       json_number_value(json_object_get(answer, "rank_least")),
                       json_number_value(json_object_get(answer, "rank_most")),
                       100 * json_number_value(json_object_get(answer, "energy")));
    return r ? r : put_merged(answer, out);
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

static int check_output(struct cli_call *call, const char *what, struct dr_error *err)
{
    const char *output = call->value[OPT_output];
    call->usage = true;
    if (call->arguments < 2)
        return dr_fail_field(err, DR_EINVAL, what, "no file", "one LoRA or more", example);
    if (!output || !*output)
        return dr_fail_field(err, DR_EINVAL, "--output", "nothing",
                             "a path for the result that does not exist yet", example);
    call->usage = false;
    return 0;
}

/* Takes `data` over, to which the output is added. */
static int call_writer(struct cli_call *call, json_t *data, json_t **ret, struct dr_error *err)
{
    const char *given = call->value[OPT_output];
    char *output = dr_strndup(DR_TAG_BASE, given, dr_path_trimmed(given));
    size_t folder = output ? (size_t)(dr_path_base(output) - output) : 0;
    char *root = output ? dr_strndup(DR_TAG_BASE, folder ? output : ".", folder ? folder : 1)
                        : NULL;
    struct session_options options = { .threads = call->value[OPT_threads], .root = root };
    int r = 0;
    if (!root || jx_set(data, "output", path_text_json(output)))
        r = dr_fail(err, DR_ENOMEM, "out of memory");
    else if (!dr_is_dir(root))
        r = dr_fail(err, DR_ENOENT, "%s: no such folder", root);
    if (!r)
        r = call_worker(call, &options, data, ret, err);
    else
        json_decref(data);
    dr_free(output);
    dr_free(root);
    return r;
}

/* "8" of --rank as a number; NULL: out of memory, or not given. */
static int add_rank(struct cli_call *call, json_t *data, struct dr_error *err)
{
    const char *text = call->value[OPT_rank];
    uint64_t rank;
    if (!text)
        return 0;
    call->usage = !jx_digits(text, &rank) || rank < 1 || rank > 4096;
    if (call->usage)
        return dr_fail_field(err, DR_EINVAL, "--rank", text, "1 to 4096", NULL);
    return jx_set(data, "rank", json_integer((json_int_t)rank))
               ? dr_fail(err, DR_ENOMEM, "out of memory")
               : 0;
}

static int merge(struct cli_call *call, json_t **ret, struct dr_error *err)
{
    const char *model = call->value[OPT_model];
    int r = check_output(call, "lora merge", err);
    if (!r && call->value[OPT_energy]) {
        call->usage = true;
        r = dr_fail_field(err, DR_EINVAL, "--energy", call->value[OPT_energy], "--rank",
                          "energy is for lora extract");
    }
    if (r)
        return r;
    json_t *data = json_pack("{s:s,s:o,s:o*,s:s*,s:s*,s:b}", "action", "merge", "loras",
                             files_of(call), "model", model ? path_text_typed(model) : NULL, "type",
                             call->value[OPT_type], "names", call->value[OPT_names], "stream", 1);
    r = data ? add_rank(call, data, err) : dr_fail(err, DR_ENOMEM, "out of memory");
    if (!r)
        return call_writer(call, data, ret, err);
    json_decref(data);
    return r;
}

static int add_energy(struct cli_call *call, json_t *data, struct dr_error *err)
{
    const char *text = call->value[OPT_energy];
    char *end;
    if (!text)
        return 0;
    double energy = strtod(text, &end);
    call->usage = !*text || *end || !(energy > 0 && energy <= 1);
    if (call->usage)
        return dr_fail_field(err, DR_EINVAL, "--energy", text, "a number above 0, at most 1", NULL);
    return jx_set(data, "energy", json_real(energy)) ? dr_fail(err, DR_ENOMEM, "out of memory") : 0;
}

static int extract(struct cli_call *call, json_t **ret, struct dr_error *err)
{
    int r = check_output(call, "lora extract", err);
    call->usage = true;
    if (!r && call->arguments != 3)
        r = dr_fail_field(err, DR_EINVAL, "lora extract", "not two models",
                          "the base and the tuned one",
                          "darkroom lora extract BASE TUNED --rank 32 -o LORA");
    if (!r && !call->value[OPT_rank] && !call->value[OPT_energy])
        r = dr_fail_field(err, DR_EINVAL, "--rank", "nothing", "--rank, --energy or both", NULL);
    if (!r && call->value[OPT_model])
        r = dr_fail_field(err, DR_EINVAL, "--model", call->value[OPT_model],
                          "the models as arguments", NULL);
    if (r)
        return r;
    call->usage = false;
    json_t *data = json_pack("{s:s,s:o,s:o,s:s*,s:s*,s:b}", "action", "extract", "base",
                             path_text_typed(call->argument[1]), "tuned",
                             path_text_typed(call->argument[2]), "type", call->value[OPT_type],
                             "names", call->value[OPT_names], "stream", 1);
    r = data ? add_rank(call, data, err) : dr_fail(err, DR_ENOMEM, "out of memory");
    if (!r)
        r = add_energy(call, data, err);
    if (!r)
        return call_writer(call, data, ret, err);
    json_decref(data);
    return r;
}

static int convert(struct cli_call *call, json_t **ret, struct dr_error *err)
{
    int r = check_output(call, "lora convert", err);
    call->usage = true;
    if (!r && call->arguments > 2)
        r = dr_fail_field(err, DR_EINVAL, "lora convert", "more files", "one", NULL);
    if (!r && !call->value[OPT_names])
        r = dr_fail_field(err, DR_EINVAL, "--names", "nothing", "kohya-single, kohya or diffusers",
                          NULL);
    if (!r && (call->value[OPT_model] || call->value[OPT_rank] || call->value[OPT_type] ||
               call->value[OPT_energy]))
        r = dr_fail_field(err, DR_EINVAL, "lora convert", "--model, --rank, --energy or --type",
                          "--names alone", NULL);
    if (r)
        return r;
    call->usage = false;
    json_t *data = json_pack("{s:s,s:o,s:s,s:b}", "action", "convert", "lora",
                             path_text_typed(call->argument[1]), "names", call->value[OPT_names],
                             "stream", 1);
    return data ? call_writer(call, data, ret, err) : dr_fail(err, DR_ENOMEM, "out of memory");
}

/* What `darkroom inspect` says of a file. */
static int inspect(struct cli_call *call, json_t **ret, struct dr_error *err)
{
    (void)ret;
    if (call->arguments != 2)
        return dr_fail(err, DR_EINVAL, "lora inspect: expected one FILE");
    call->argument[0] = call->argument[1];
    return cli_inspect.run(call, err);
}

static const struct {
    const char *name;
    /* *ret stays NULL where everything has been said. */
    int (*call)(struct cli_call *call, json_t **ret, struct dr_error *err);
    int (*put)(const json_t *answer, struct buf *out);
} actions[] = {
    { "list", list, put_list },         { "inspect", inspect, NULL },
    { "merge", merge, put_merged },     { "extract", extract, put_extracted },
    { "convert", convert, put_merged },
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
    if (r < 0 || !answer)
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
    .synopsis = "list|inspect|merge|extract|convert [FILE]...",
    .summary = "list, merge, extract and convert LoRAs",
    .notes =
        "list shows the LoRAs in the folders of `darkroom models`: kind, rank, the models they "
        "fit, and trigger words; inspect FILE says more of one.\n"
        "merge FILE[,KEY=X]... [-m MODEL] -o OUT: with -m it writes a copy of the model that "
        "draws what the model draws with these LoRAs: base + changes in float32, rounded once to "
        "the type that the model stores. "
        "Without it the LoRAs become one, whose rank is the sum of theirs, or --rank: then each "
        "layer's product is the best one of that rank. Each FILE is a path or name with the keys "
        "strength, text_strength and, with -m, blocks, as --lora takes them.\n"
        "extract BASE TUNED -o OUT writes the LoRA that leads from the model BASE to the model "
        "TUNED: the best product of --rank for each layer that differs, or of the smallest rank "
        "that holds "
        "--energy; what differs in biases and norms is kept as it is.\n"
        "convert FILE --names NAME -o OUT writes the tensors of a LoRA under other names: of "
        "kohya's scripts with the blocks of single files (kohya-single) or of diffusers (kohya), "
        "or of diffusers.\n"
        "Nothing that exists is replaced.\n",
    .help = { [OPT_model] = "checkpoint or diffusers folder to merge into; it is not changed",
              [OPT_output] = "the result: a folder for a folder, else a file; must not exist yet",
              [OPT_type] = "f32, f16 or bf16, of the tensors of merged LoRAs (default: f32)" },
    .least = 1,
    .most = CLI_ARGUMENTS,
    .takes = TAKES(model) | TAKES(output) | TAKES(threads) | TAKES(quiet) | TAKES(json) |
             TAKES(rank) | TAKES(energy) | TAKES(type) | TAKES(names),
    .run = lora,
};
