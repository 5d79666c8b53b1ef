/* validate.c - `darkroom validate`: would this request be accepted? */
#include "cli/cli.h"

#include "cli/report.h"
#include "cli/request_call.h"

/* The worker's answer, or one that says that the command line is wrong: then it is not asked. */
static int ask(struct cli_call *call, json_t **ret_answer, struct dr_error *err)
{
    int r = call->errors->n ? 0 : request_call(call, VERB_validate, ret_answer, err);
    if (r < 0 || !call->errors->n)
        return r;
    *ret_answer = json_pack("{s:b,s:[],s:[]}", "valid", 0, "errors", "warnings");
    return *ret_answer ? 0 : dr_fail(err, DR_ENOMEM, "out of memory");
}

/* Each on its line; the exit status, which is usage's where an error alone would give that. */
static int report_errors(const struct cli_call *call, const json_t *answer, bool quiet)
{
    size_t i;
    json_t *item;
    int status = 1;
    struct dr_error e;
    for (int k = 0; k < call->errors->n; k++) {
        e = call->errors->error[k];
        int own = cli_mistake_status(e.code);
        status = own == CLI_EXIT_USAGE ? own : status;
        if (!quiet)
            report_error(e.text);
    }
    json_array_foreach(json_object_get(answer, "errors"), i, item)
    {
        message_error_of(item, &e);
        int own = cli_failure_status(call, e.code, &e);
        status = own == CLI_EXIT_USAGE ? own : status;
        if (!quiet)
            report_error(e.text);
    }
    return status;
}

/* Errors of the command line have the names of fields, as the worker's. Takes over nothing. */
static int print_answer(const struct cli_call *call, json_t *answer, bool valid,
                        struct dr_error *err)
{
    for (int i = 0; i < call->errors->n; i++)
        cli_name_field(call->verb, &call->errors->error[i]);
    json_t *all = message_errors(call->errors);
    int r = all && json_array_extend(all, json_object_get(answer, "errors")) == 0 ? 0 : DR_ENOMEM;
    if (r < 0)
        json_decref(all);
    else
        r = jx_set(answer, "errors", all);
    if (!r)
        r = jx_set(answer, "valid", json_boolean(valid));
    if (!r)
        r = jx_set(answer, "success", json_boolean(valid));
    return r < 0 ? dr_fail(err, r, "out of memory for the answer") : report_json(answer, err);
}

static int validate(struct cli_call *call, struct dr_error *err)
{
    json_t *answer;
    struct buf out;
    int r = ask(call, &answer, err);
    if (r < 0)
        return r;
    bool json = call->value[OPT_json] != NULL, quiet = call->value[OPT_quiet] != NULL;
    bool valid = !call->errors->n && json_is_true(json_object_get(answer, "valid"));
    buf_init(&out, DR_TAG_BASE, 0);
    if (!json && !quiet)
        report_warnings(answer);
    call->status = valid ? 0 : report_errors(call, answer, json);
    if (json)
        r = print_answer(call, answer, valid, err);
    else if (valid && !quiet && (r = buf_puts(&out, "valid\n")) == 0)
        r = report_text(&out, err);
    buf_free(&out);
    json_decref(answer);
    return r;
}

const struct cli_verb cli_validate = {
    .name = "validate",
    .synopsis = "[OPTION]...",
    .summary = "check a request without running it",
    .notes =
        "Takes the options of generate. All mistakes on the command line, in the configuration and "
        "in the form of values are listed, one on a line. If there are none, what remains is "
        "checked as generate does it, up to the first error. Exit status 0 if generate would "
        "accept the request. -o and --count are checked as generate does it, and nothing is "
        "written; of several prompts the last is checked.\n",
    .request = true,
    .all = true,
    .takes = TAKES(threads) | TAKES(output) | TAKES(quiet) | TAKES(json) | TAKES(count) |
             TAKES(from),
    .run = validate,
};
