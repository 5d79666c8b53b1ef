/* help_text.h - help from the tables, wrapped to a width. */
#ifndef DR_CLI_HELP_TEXT_H
#define DR_CLI_HELP_TEXT_H

#include <jansson.h>

#include "base/buf.h"
#include "cli/cli.h"
#include "cli/lists.h"

/* 0 or what appending gives. */
int help_overview(int width, struct buf *out);
int help_verb(const struct cli_verb *verb, int width, struct buf *out);

/* A row for each name of a list that the worker gave. */
int help_list(const struct list_info *list, const json_t *items, int width, struct buf *out);

/* The same without a word before them. */
int help_items(const struct list_info *list, const json_t *items, int width, struct buf *out);

/* Where models are looked for and which there are: the worker's answer to `models`. */
int help_models(const json_t *answer, int width, struct buf *out);

/* The keys of the configuration, and an example of it. */
int help_config(int width, struct buf *out);

/* One option with its bounds, its other names and its name in JSON. */
int help_field(const struct option_info *option, int width, struct buf *out);

/* "factor of its changes (0 to 1, default: 1). Also weight": a key of a list's values. */
int help_key(const struct field_info *key, struct buf *out);

/* " --guidance-scale --cfg-scale": the other long names of an option. */
int help_aliases(const struct option_info *option, struct buf *out);

/* The heading of an option of generate; "Other" if it has none. */
const char *help_group(const struct option_info *option);
/* The headings in order; NULL past the end. */
const char *help_group_at(int i);

/* "width, a multiple of 8 (default: 30)": an option's help with its choices and default. */
int help_option(const struct option_info *option, struct buf *out);

/* One line of files and variables at a time, for help and the man page; false at the end. */
struct help_place {
    const char *name, *what;
};
extern const struct help_place help_files[], help_variables[], help_statuses[],
    help_examples[]; /* end with NULL names; examples: a command and what it does */

extern const char help_configuration[];

#endif
