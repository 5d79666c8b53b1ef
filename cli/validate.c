/* validate.c - `darkroom validate`: would this request be accepted? */
#include "cli/cli.h"

#include "cli/report.h"
#include "cli/request_call.h"
#include "cli/session.h"

/* Wrong files are reported here; the worker then checks the rest of the request. */
static int check_files(struct cli_call *call, struct dr_error *err)
{
    int before = error_list_count(call->errors);
    int r = session_check(&call->request, call->errors, err);
    if (error_list_count(call->errors) > before) {
        request_unset(&call->request, FIELD_dump_stages);
        request_unset(&call->request, FIELD_load_stage);
    }
    return r;
}

/* The answer, or the error that prevents asking. */
static int ask(struct cli_call *call, json_t **ret_answer, struct dr_error *err)
{
    int r = check_files(call, err);
    if (!r)
        r = request_call(call, VERB_validate, ret_answer, err);
    if (r >= 0 || r == DR_ECANCELED || !call->errors->n)
        return r;
    error_list_add(call->errors, err);
    *ret_answer = json_pack("{s:b,s:[],s:[]}", "valid", 0, "errors", "warnings");
    return *ret_answer ? 0 : dr_fail(err, DR_ENOMEM, "out of memory");
}

/* Prints each on its line. Returns the exit status: usage's if one of the errors alone would give
 * it. The first `mistakes` are of the command line and the configuration. */
static int report_errors(const struct cli_call *call, int mistakes, const json_t *answer,
                         bool quiet)
{
    size_t i;
    json_t *item;
    int status = 1;
    struct dr_error e;
    for (int k = 0; k < call->errors->n; k++) {
        e = call->errors->error[k];
        int own = k < mistakes ? cli_mistake_status(e.code) : cli_failure_status(call, e.code, &e);
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

/* Those of the command line first, by the names of the fields as the worker's are. Takes over
 * nothing. */
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
    int mistakes = call->errors->n;
    int r = ask(call, &answer, err);
    if (r < 0)
        return r;
    bool json = call->value[OPT_json] != NULL;
    bool valid = !call->errors->n && json_is_true(json_object_get(answer, "valid"));
    buf_init(&out, DR_TAG_BASE, 0);
    if (!json && !call->value[OPT_quiet])
        report_warnings(answer);
    call->status = valid ? 0 : report_errors(call, mistakes, answer, json);
    if (json)
        r = print_answer(call, answer, valid, err);
    else if (valid && (r = buf_puts(&out, "valid\n")) == 0)
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
        "Takes the options of generate, which stops at the first error; validate lists all of "
        "them, one on a line. Checks that depend on a wrong value are skipped; memory, the model "
        "of a "
        "receipt and the names of stages are checked only if everything else is right. Exit status "
        "0 if generate would accept the request.\n",
    .request = true,
    .all = true,
    .takes = TAKES(threads) | TAKES(from) | TAKES(quiet) | TAKES(json),
    .run = validate,
};
