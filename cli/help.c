/* help.c - `darkroom help`. */
#include "cli/cli.h"

#include "cli/help_text.h"
#include "cli/report.h"

enum { COLUMNS_ASSUMED = 80, COLUMNS_MOST = 100 };

static int help(struct cli_call *call, struct dr_error *err)
{
    const struct cli_verb *verb = NULL;
    struct buf out;
    int width = report_columns(1, COLUMNS_ASSUMED);
    width = width > COLUMNS_MOST ? COLUMNS_MOST : width;
    int r = call->arguments ? cli_find_verb(call->argument[0], &verb, err) : 0;
    if (r < 0) {
        call->usage = true;
        return r;
    }
    buf_init(&out, DR_TAG_BASE, 0);
    r = verb ? help_verb(verb, width, &out) : help_overview(width, &out);
    r = r < 0 ? dr_fail(err, r, "out of memory for the help") : report_text(&out, err);
    buf_free(&out);
    return r;
}

const struct cli_verb cli_help = {
    .name = "help",
    .synopsis = "[VERB]",
    .summary = "what the program, or one verb, does",
    .most = 1,
    .run = help,
};
