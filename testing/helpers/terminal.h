/* terminal.h - the program on a terminal: what a person sees, escapes and all.
 *
 *     struct terminal t;
 *     terminal_run(&t, 1 << 2, argv);          stderr is the terminal, stdout is not
 *     ... t.status, terminal_text(&t) ...
 *     terminal_free(&t);
 */
#ifndef DR_TESTING_HELPERS_TERMINAL_H
#define DR_TESTING_HELPERS_TERMINAL_H

#include "testing/helpers/test.h"

#include "base/buf.h"

struct terminal {
    int status; /* as of program.h */
    struct buf text;
};

/* Runs $DARKROOM_BIN (arguments end with NULL) with those descriptors, 1 << 1 and 1 << 2, on a
 * terminal of 100 columns; the others lead nowhere. */
void terminal_run(struct terminal *t, int descriptors, const char *const *argv);
const char *terminal_text(const struct terminal *t);
void terminal_free(struct terminal *t);

#endif
