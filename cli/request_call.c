/* request_call.c - see request_call.h. */
#include "cli/request_call.h"

#include "cli/from.h"
#include "cli/session.h"

int request_call(struct cli_call *call, enum verb verb, json_t **ret_answer, struct dr_error *err)
{
    struct session s;
    struct session_options options = { .request = &call->request,
                                       .threads = call->value[OPT_threads],
                                       .cache = call->cache,
                                       .cache_limit = call->cache_limit };
    struct from from;
    int r = from_apply(call, &from, err);
    *ret_answer = NULL;
    if (r < 0)
        return r;
    r = generate_check(call, err);
    if (r < 0)
        return error_list_go_on(call->errors, r, err);
    r = session_open(&s, &options, err);
    if (!r)
        r = session_call(&s, verb, request_json(&call->request), NULL, NULL, ret_answer, err);
    session_close(&s);
    if (r < 0)
        from_explain(call, &from, r, err);
    return r;
}
