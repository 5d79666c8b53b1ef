/* help.c - `darkroom help`. */
#include "cli/cli.h"

#include <string.h>
#include <strings.h>

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
    json_t *answer; /* capabilities, where the name is that of items in lists; owned */
};

/* An option of any verb, generate's first, by its name or letter. */
static bool find_option(const char *name, struct topic *ret)
{
    const struct cli_verb *verb;
    for (int v = 0; !ret->field && (verb = cli_verb_at(v)); v++) {
        struct option_info options[CLI_OPTIONS];
        int n = verb->raw ? 0 : cli_options(verb, options);
        for (int i = 0; i < n && !ret->field; i++)
            if (option_has_name(&options[i], name, strlen(name)) ||
                (options[i].letter && name[0] == options[i].letter && !name[1])) {
                ret->option = options[i];
                ret->field = true;
            }
    }
    return ret->field;
}

/* The next list after *at that has items of this name, by any spelling; their new array. NULL:
 * none. */
static json_t *items_named(const json_t *capabilities, const char *name, int *at,
                           const struct list_info **ret_list)
{
    size_t i, k;
    json_t *item, *alias;
    while ((*ret_list = list_at((*at)++))) {
        json_t *found = json_array();
        json_array_foreach(list_items(*ret_list, capabilities), i, item)
        {
            const char *own = list_item_name(item), *title = jx_text(item, "title");
            bool same = (own && !strcasecmp(own, name)) || !strcasecmp(title, name);
            json_array_foreach(json_object_get(item, "aliases"), k, alias)
                same = same || !strcasecmp(json_string_value(alias), name);
            if (same && json_array_append(found, item))
                break; /* out of memory: not found */
        }
        if (json_array_size(found))
            return found;
        json_decref(found);
    }
    return NULL;
}

static bool find_item(const char *name, struct topic *ret)
{
    const struct list_info *list;
    int at = 0;
    if (ask(VERB_capabilities, &ret->answer, NULL) < 0)
        return false;
    json_t *items = items_named(ret->answer, name, &at, &list);
    bool found = items != NULL;
    json_decref(items);
    if (!found) {
        json_decref(ret->answer);
        ret->answer = NULL;
    }
    return found;
}

/* Its row of each list that has it. */
static int put_items(const json_t *capabilities, const char *name, int width, struct buf *out)
{
    const struct list_info *list;
    json_t *items;
    int r = 0, at = 0;
    for (int n = 0; !r && (items = items_named(capabilities, name, &at, &list)); n++) {
        r = buf_printf(out, "%s%s:\n", n ? "\n" : "", list->name);
        if (!r)
            r = help_items(list, items, width, out);
        json_decref(items);
    }
    return r;
}

/* A list, a verb, an option or an item of a list; an error with the nearest of the first two. */
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
    if (find_option(name, ret) || find_item(name, ret))
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
    else if ((r = topic.answer  ? put_items(topic.answer, call->argument[0], width, &out)
                  : topic.verb  ? help_verb(topic.verb, width, &out)
                  : topic.field ? help_field(&topic.option, width, &out)
                                : help_overview(width, &out)) < 0)
        dr_fail(err, r, "out of memory for the help");
    if (!r)
        r = report_text(&out, err);
    buf_free(&out);
    json_decref(topic.answer);
    return r;
}

const struct cli_verb cli_help = {
    .name = "help",
    .synopsis = "[VERB|TOPIC|OPTION|NAME]",
    .summary = "help on the program, a verb, a topic, an option or the name of a sampler",
    .dashes = true,
    .most = 1,
    .settings = true,
    .run = help,
};
