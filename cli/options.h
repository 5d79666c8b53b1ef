/* options.h - a command line read by a table.
 *
 * --name=value, --name value, -xVALUE, -x VALUE, -abc for flags a, b and c (the last may take a
 * value), -- ends the options, a lone - is an argument; in long names '_' is '-'. An option that
 * takes a value takes whatever comes next, so `--seed -1` is what it looks like; elsewhere a
 * negative number is an argument.
 * getopt is not used since it knows neither tables with help in them nor nearest names.
 */
#ifndef DR_CLI_OPTIONS_H
#define DR_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error_list.h"

enum { OPTION_NAME_BYTES = 64 };

struct option_info {
    const char *name;    /* long, without dashes */
    const char *field;   /* another long name; NULL: none */
    const char *aliases; /* more of them, blanks between; NULL: none */
    char letter;         /* 0: none */
    const char *value;   /* what help calls its value; NULL: a flag */
    const char *choices; /* "a|b=alias|c"; "" when it is free */
    const char *dflt;    /* "" when there is none to tell */
    const char *help;
    int id;           /* the owner's */
    const char *more; /* of help, on the command line alone; NULL: nothing */
};

/* Called for each option and each argument (option NULL) in order; value is NULL for a flag and
 * lives as long as argv. A negative result ends the parsing and is returned. */
typedef int (*option_fn)(void *ctx, const struct option_info *option, const char *value,
                         struct dr_error *err);

/* Unknown option: DR_EINVAL with the nearest name. Two names of one option with different values:
 * DR_EINVAL with both; of one name the last counts. With a list it goes on after an error; what
 * follows an unknown option and is none is then taken for its value. */
int options_parse(const struct option_info *table, int n, int argc, char *const *argv, option_fn fn,
                  void *ctx, struct error_list *list, struct dr_error *err);

/* The next of an option's other long names: its length, 0 at the end; *state begins as NULL. Names
 * with a dot are none. */
int option_alias(const struct option_info *o, const char **state, const char **ret_name);

/* Whether that is one of its long names. */
bool option_has_name(const struct option_info *o, const char *name, size_t len);

/* The nearest of all long names, with '-' for '_'; false when none is near. */
bool option_nearest(const struct option_info *table, int n, const char *word,
                    char dst[OPTION_NAME_BYTES]);

/* An error about an option, "--from: ..." of that text; returns code. */
int option_fail(struct dr_error *err, int code, const char *option, const char *fmt, ...)
    DR_PRINTF(4, 5);

/* The next canonical name of a choices text: its length, 0 at the end; moves *text on. */
int option_choice(const char **text, const char **ret_name);

#endif
