/* validate.c - `darkroom validate`: would this request be accepted? */
#include "cli/cli.h"

#include "cli/report.h"
#include "cli/request_call.h"

/* The first error of the answer, as the worker's own failure would have it. */
static int found_error(const json_t *answer, struct dr_error *err)
{
    const json_t *first = json_array_get(json_object_get(answer, "errors"), 0);
    json_t *failure = json_pack("{s:b,s:O?,s:O?,s:[{s:O?}]}", "success", 0, "error",
                                json_object_get(first, "error"), "error_code",
                                json_object_get(first, "error_code"), "details", "path",
                                json_object_get(first, "path"));
    json_t *data;
    int r = failure ? message_answer(failure, &data, err)
                    : dr_fail(err, DR_ENOMEM, "out of memory");
    json_decref(failure);
    return r;
}

static void report_warnings(const struct cli_call *call, const json_t *answer)
{
    size_t i;
    json_t *text;
    json_array_foreach(json_object_get(answer, "warnings"), i, text)
    {
        if (!call->value[OPT_quiet])
            report_line("warning: %s", json_string_value(text));
    }
}

static int validate(struct cli_call *call, struct dr_error *err)
{
    json_t *answer;
    struct buf out;
    int r = request_call(call, VERB_validate, &answer, err);
    if (r < 0)
        return r;
    buf_init(&out, DR_TAG_BASE, 0);
    bool valid = json_is_true(json_object_get(answer, "valid"));
    if (call->value[OPT_json]) {
        r = report_json(answer, err);
        call->status = valid ? 0 : 1;
    } else if (!valid) {
        r = found_error(answer, err);
    } else if ((r = buf_puts(&out, "valid\n")) == 0) {
        report_warnings(call, answer);
        r = report_text(&out, err);
    }
    buf_free(&out);
    json_decref(answer);
    return r;
}

const struct cli_verb cli_validate = {
    .name = "validate",
    .synopsis = "[OPTION]...",
    .summary = "check a request without running it",
    .notes = "Takes the options of generate. Exit status 0 when the request would be accepted.\n",
    .request = true,
    .takes = TAKES(threads) | TAKES(quiet) | TAKES(json),
    .run = validate,
};
