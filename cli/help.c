/* help.c - `darkroom help`. */
#include "cli/cli.h"

#include <string.h>

#include "base/nearest.h"
#include "cli/help_text.h"
#include "cli/lists.h"
#include "cli/report.h"
#include "cli/session.h"

enum { COLUMNS_ASSUMED = 80, COLUMNS_MOST = 100, NAMES_MOST = 64 };

/* Asks the worker. */
static int ask(enum verb verb, json_t **ret_answer, struct dr_error *err)
{
    return session_ask(&(struct session_options){ .threads = "1" }, verb, json_object(), ret_answer,
                       err);
}

static int list_text(const struct list_info *list, int width, struct buf *out, struct dr_error *err)
{
    json_t *answer = NULL;
    bool models = !strcmp(list->name, "models"), config = !strcmp(list->name, "config");
    int r = config ? 0 : ask(models ? VERB_models : VERB_capabilities, &answer, err);
    if (r < 0)
        return r;
    r = config   ? help_config(width, out)
        : models ? help_models(answer, width, out)
                 : help_list(list, list_items(list, answer), width, out);
    json_decref(answer);
    return r < 0 ? dr_fail(err, r, "out of memory for the list") : 0;
}

/* Exactly one member is set. */
struct topic {
    const struct list_info *list;
    const struct cli_verb *verb;
    bool field;
    struct option_info option;
};

static bool find_option(const char *name, struct topic *ret)
{
    struct option_info options[CLI_OPTIONS];
    int n = cli_options(&cli_generate, options);
    for (int i = 0; i < n && !ret->field; i++)
        if (option_has_name(&options[i], name, strlen(name))) {
            ret->option = options[i];
            ret->field = true;
        }
    return ret->field;
}

/* A list, a verb or an option of generate; an error with the nearest of the first two. */
static int find_topic(const char *name, struct topic *ret, struct dr_error *err)
{
    const char *names[NAMES_MOST];
    const struct list_info *list;
    const struct cli_verb *verb;
    size_t n = 0;
    for (int i = 0; (list = list_at(i)) && n < NAMES_MOST; i++) {
        names[n++] = list->name;
        if (!strcmp(list->name, name)) {
            ret->list = list;
            return 0;
        }
    }
    for (int i = 0; (verb = cli_verb_at(i)) && n < NAMES_MOST; i++) {
        names[n++] = verb->name;
        if (!strcmp(verb->name, name)) {
            ret->verb = verb;
            return 0;
        }
    }
    if (find_option(name, ret))
        return 0;
    const char *near = dr_nearest(name, names, n);
    return dr_fail(err, DR_EINVAL, "%s: no such verb or topic (%s%s)", name,
                   near ? "nearest: " : "see ", near ? near : "darkroom help");
}

static int help(struct cli_call *call, struct dr_error *err)
{
    struct topic topic = { .list = NULL };
    struct buf out;
    int width = report_columns(1, COLUMNS_ASSUMED);
    width = width > COLUMNS_MOST ? COLUMNS_MOST : width;
    int r = call->arguments ? find_topic(call->argument[0], &topic, err) : 0;
    if (r < 0) {
        call->usage = true;
        return r;
    }
    buf_init(&out, DR_TAG_BASE, 0);
    if (topic.list)
        r = list_text(topic.list, width, &out, err);
    else if ((r = topic.verb    ? help_verb(topic.verb, width, &out)
                  : topic.field ? help_field(&topic.option, width, &out)
                                : help_overview(width, &out)) < 0)
        dr_fail(err, r, "out of memory for the help");
    if (!r)
        r = report_text(&out, err);
    buf_free(&out);
    return r;
}

const struct cli_verb cli_help = {
    .name = "help",
    .synopsis = "[VERB|TOPIC|OPTION]",
    .summary = "help on the program, a verb, a topic or an option",
    .most = 1,
    .settings = true,
    .run = help,
};
