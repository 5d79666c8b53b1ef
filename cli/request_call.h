/* request_call.h - verbs that send a generation request and only look at the answer: plan,
 * validate. */
#ifndef DR_CLI_REQUEST_CALL_H
#define DR_CLI_REQUEST_CALL_H

#include "cli/cli.h"
#include "core/communication/message.h"

/* What generate checks of a call before it asks the worker: how many pictures, and where they go.
 * Sets the request's format. */
int generate_check(struct cli_call *call, struct dr_error *err);

/* Starts a worker, sends the call's request under `verb`; *ret_answer is a new reference. With
 * call->errors a failure of generate_check is noted there; then *ret_answer is NULL. */
int request_call(struct cli_call *call, enum verb verb, json_t **ret_answer, struct dr_error *err);

#endif
