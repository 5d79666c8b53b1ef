/* help.c - `darkroom help`. */
#include "cli/cli.h"

#include <string.h>

#include "base/nearest.h"
#include "cli/help_text.h"
#include "cli/lists.h"
#include "cli/report.h"
#include "cli/session.h"

enum { COLUMNS_ASSUMED = 80, COLUMNS_MOST = 100, NAMES_MOST = 64 };

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

/* A list or, where there is none of that name, a verb; an error with the nearest of both. */
static int find_topic(const char *name, const struct list_info **ret_list,
                      const struct cli_verb **ret_verb, struct dr_error *err)
{
    const char *names[NAMES_MOST];
    const struct list_info *list;
    const struct cli_verb *verb;
    size_t n = 0;
    for (int i = 0; (list = list_at(i)) && n < NAMES_MOST; i++) {
        names[n++] = list->name;
        if (!strcmp(list->name, name)) {
            *ret_list = list;
            return 0;
        }
    }
    for (int i = 0; (verb = cli_verb_at(i)) && n < NAMES_MOST; i++) {
        names[n++] = verb->name;
        if (!strcmp(verb->name, name)) {
            *ret_verb = verb;
            return 0;
        }
    }
    const char *near = dr_nearest(name, names, n);
    return dr_fail(err, DR_EINVAL, "%s: no such verb or topic (%s%s)", name,
                   near ? "nearest: " : "see ", near ? near : "darkroom help");
}

static int help(struct cli_call *call, struct dr_error *err)
{
    const struct cli_verb *verb = NULL;
    const struct list_info *list = NULL;
    struct buf out;
    int width = report_columns(1, COLUMNS_ASSUMED);
    width = width > COLUMNS_MOST ? COLUMNS_MOST : width;
    int r = call->arguments ? find_topic(call->argument[0], &list, &verb, err) : 0;
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
    .synopsis = "[VERB|TOPIC]",
    .summary = "what the program, or one verb, does; the names a value may have",
    .most = 1,
    .settings = true,
    .run = help,
};
