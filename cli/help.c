/* help.c - `darkroom help`. */
#include "cli/cli.h"

#include <string.h>

#include "cli/help_text.h"
#include "cli/lists.h"
#include "cli/report.h"
#include "cli/session.h"

enum { COLUMNS_ASSUMED = 80, COLUMNS_MOST = 100 };

/* The worker is asked what it has. */
static int list_text(const struct list_info *list, int width, struct buf *out, struct dr_error *err)
{
    json_t *abilities;
    int r = session_ask(&(struct session_options){ .threads = "1" }, VERB_capabilities,
                        json_object(), &abilities, err);
    if (r < 0)
        return r;
    r = help_list(list_items(list, abilities), width, out);
    json_decref(abilities);
    return r < 0 ? dr_fail(err, r, "out of memory for the list") : 0;
}

static const struct list_info *find_list(const char *name)
{
    const struct list_info *list;
    for (int i = 0; (list = list_at(i)) && strcmp(list->name, name); i++) {}
    return list;
}

static int help(struct cli_call *call, struct dr_error *err)
{
    const struct cli_verb *verb = NULL;
    struct buf out;
    int width = report_columns(1, COLUMNS_ASSUMED);
    width = width > COLUMNS_MOST ? COLUMNS_MOST : width;
    const struct list_info *list = call->arguments ? find_list(call->argument[0]) : NULL;
    int r = call->arguments && !list ? cli_find_verb(call->argument[0], &verb, err) : 0;
    if (r < 0) {
        call->usage = true;
        return r;
    }
    buf_init(&out, DR_TAG_BASE, 0);
    if (list)
        r = list_text(list, width, &out, err);
    else if ((r = verb ? help_verb(verb, width, &out) : help_overview(width, &out)) < 0)
        dr_fail(err, r, "out of memory for the help");
    if (!r)
        r = report_text(&out, err);
    buf_free(&out);
    return r;
}

const struct cli_verb cli_help = {
    .name = "help",
    .synopsis = "[VERB|samplers|schedules|presets|kernels|cases]",
    .summary = "what the program, or one verb, does; the names a value may have",
    .most = 1,
    .run = help,
};
