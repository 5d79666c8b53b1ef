/* check_matrix.h - `darkroom check --matrix`. */
#ifndef DR_CLI_CHECK_MATRIX_H
#define DR_CLI_CHECK_MATRIX_H

#include "cli/cli.h"
#include "cli/session.h"

/* Every sampler with every schedule, or what --only names; call->status is 1 if a pair failed. */
int check_matrix(struct cli_call *call, const struct session_options *options,
                 struct dr_error *err);

#endif
