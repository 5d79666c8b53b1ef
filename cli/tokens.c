/* tokens.c - `darkroom tokens`: the ids of a text. */
#include "cli/cli.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/path_text.h"
#include "cli/report.h"
#include "cli/session.h"

static int print_ids(const json_t *answer, struct dr_error *err)
{
    size_t i;
    json_t *id;
    struct buf out;
    buf_init(&out, DR_TAG_BASE, 0);
    int r = 0;
    json_array_foreach(json_object_get(answer, "ids"), i, id)
    {
        if (!r)
            r = buf_printf(&out, "%s%" JSON_INTEGER_FORMAT, i ? " " : "", json_integer_value(id));
    }
    if (!r)
        r = buf_putc(&out, '\n');
    r = r < 0 ? dr_fail(err, r, "out of memory for the ids") : report_text(&out, err);
    buf_free(&out);
    return r;
}

static int tokens(struct cli_call *call, struct dr_error *err)
{
    const char *model = call->value[OPT_model], *encoder = call->value[OPT_encoder];
    const char *prompt = call->value[OPT_prompt];
    call->usage = call->arguments + (prompt != NULL) != 1;
    if (call->usage)
        return dr_fail(err, DR_EINVAL, "tokens: expected one text, as an argument or after -p%s",
                       prompt ? ", not both" : "");
    json_t *answer, *data = json_object();
    json_t *text = json_string(prompt ? prompt : call->argument[0]);
    if (!text) {
        json_decref(data);
        call->usage = true;
        return dr_fail(err, DR_EINVAL, "tokens: the text is not valid UTF-8");
    }
    int r = jx_set(data, "text", text);
    if (!r && model)
        r = jx_set(data, "model", path_text_typed(model));
    if (!r && call->value[OPT_clip])
        r = jx_set(data, "clip", json_true());
    if (!r && encoder)
        r = jx_set(data, "encoder", json_integer(encoder[0] - '0'));
    if (r < 0) {
        json_decref(data);
        return dr_fail(err, r, "out of memory for a request");
    }
    r = session_ask(&(struct session_options){ .threads = "1" }, VERB_tokens, data, &answer, err);
    if (r < 0)
        return r;
    r = call->value[OPT_json] ? report_json(answer, err) : print_ids(answer, err);
    json_decref(answer);
    return r;
}

const struct cli_verb cli_tokens = {
    .name = "tokens",
    .synopsis = "TEXT",
    .summary = "print the token ids of a text",
    .notes = "By the tokenizer of the model that generate would use (-m, the configuration's, else "
             "the shipped small model), without the start and end tokens and not truncated. --json "
             "prints {\"ids\": [...]}.\n",
    .most = 1,
    .help = { [OPT_model] = "model whose tokenizer is used (default: as for generate)" },
    .takes = TAKES(model) | TAKES(prompt) | TAKES(clip) | TAKES(encoder) | TAKES(json),
    .settings = true,
    .run = tokens,
};
