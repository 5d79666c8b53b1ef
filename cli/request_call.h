/* request_call.h - verbs that send a generation request and only look at the answer: plan,
 * validate. */
#ifndef DR_CLI_REQUEST_CALL_H
#define DR_CLI_REQUEST_CALL_H

#include "cli/cli.h"
#include "core/communication/message.h"

/* Starts a worker, sends the call's request under `verb`; *ret_answer is a new reference. A request
 * without a prompt gets an empty one, as the cost does not depend on it. */
int request_call(struct cli_call *call, enum verb verb, json_t **ret_answer, struct dr_error *err);

#endif
