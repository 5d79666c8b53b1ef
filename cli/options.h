/* options.h - a command line read by a table.
 *
 * --name=value, --name value, -xVALUE, -x VALUE, -abc for flags a, b and c (the last may take a
 * value), -- ends the options, a lone - is an argument. An option that takes a value takes whatever
 * comes next, so `--seed -1` is what it looks like; elsewhere a negative number is an argument.
 * getopt is not used since it knows neither tables with help in them nor nearest names.
 */
#ifndef DR_CLI_OPTIONS_H
#define DR_CLI_OPTIONS_H

#include "base/error_list.h"

struct option_info {
    const char *name;    /* long, without dashes */
    char letter;         /* 0: none */
    const char *value;   /* what help calls its value; NULL: a flag */
    const char *choices; /* "a|b=alias|c"; "" when it is free */
    const char *dflt;    /* "" when there is none to tell */
    const char *help;
    int id; /* the owner's */
};

/* Called for each option and each argument (option NULL) in order; value is NULL for a flag and
 * lives as long as argv. A negative result ends the parsing and is returned. */
typedef int (*option_fn)(void *ctx, const struct option_info *option, const char *value,
                         struct dr_error *err);

/* Unknown option: DR_EINVAL with the nearest name. With a list it goes on after an error; what
 * follows an unknown option and is none is then taken for its value. */
int options_parse(const struct option_info *table, int n, int argc, char *const *argv, option_fn fn,
                  void *ctx, struct error_list *list, struct dr_error *err);

/* An error about an option, "--from: ..." of that text; returns code. */
int option_fail(struct dr_error *err, int code, const char *option, const char *fmt, ...)
    DR_PRINTF(4, 5);

/* The next canonical name of a choices text: its length, 0 at the end; moves *text on. */
int option_choice(const char **text, const char **ret_name);

#endif
