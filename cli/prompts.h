/* prompts.h - the prompts of a command line: each -p is one, or names a file of them.
 *
 *     -p "a red circle"    this text
 *     -p @FILE             one prompt a line; blank lines and lines that begin with # are skipped
 *     -p -                 the same from stdin (also -p @-)
 *     -p @@name            the text "@name"
 */
#ifndef DR_CLI_PROMPTS_H
#define DR_CLI_PROMPTS_H

#include "base/error.h"

enum { PROMPTS_MOST = 10000 };

struct prompts {
    char **text; /* owned */
    int n;
    int read_stdin;    /* how often */
    char warning[300]; /* of a file whose lines look like something else than prompts; "": none */
};

/* Adds what one -p says; zeroed memory holds none. Each is checked as a request's prompt is. */
int prompts_add(struct prompts *p, const char *value, struct dr_error *err);
void prompts_free(struct prompts *p);

#endif
