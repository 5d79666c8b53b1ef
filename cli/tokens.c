/* tokens.c - `darkroom tokens`: the ids of a text. */
#include "cli/cli.h"

#include <inttypes.h>
#include <stdlib.h>

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
    json_t *answer, *data = json_object();
    json_t *text = json_string(call->argument[0]);
    if (!text) {
        json_decref(data);
        call->usage = true;
        return dr_fail_field(err, DR_EINVAL, call->verb->synopsis, "invalid UTF-8",
                             "a text in UTF-8", NULL);
    }
    int r = jx_set(data, "text", text);
    if (!r && model)
        r = jx_set(data, "model", json_string(model));
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
    .summary = "token ids of a text",
    .notes = "Without the begin and end tokens, uncut. --json prints {\"ids\": [...]}.\n",
    .least = 1,
    .most = 1,
    .help = { [OPT_model] = "folder whose tokenizer is used (default: the built-in CLIP table)" },
    .takes = TAKES(model) | TAKES(encoder) | TAKES(json),
    .run = tokens,
};
