/* prompt_editing.h - prompts that change while a picture is drawn: [from:to:when], [to:when],
 * [from::when], [a|b|c].
 *
 * `when` is a step (a whole number) or, with a point, a fraction of them. An alternative is another
 * one at each step. All nest in each other and in weights. What does not form such a thing is text,
 * and so is everything as soon as a | or a last backslash stands outside of them.
 * Reference: the grammar schedule_parser and get_learned_conditioning_prompt_schedules of
 * AUTOMATIC1111's modules/prompt_parser.py, here as one pass with a stack of open brackets: a
 * bracket whose inside is not of the grammar takes those around it along.
 */
#ifndef DR_CONDITIONING_PROMPT_EDITING_H
#define DR_CONDITIONING_PROMPT_EDITING_H

#include <stdbool.h>

#include "base/buf.h"

/* A pair of brackets that chooses: of its parts, each a range of the text, one is read. */
struct prompt_choice {
    size_t begin, end; /* of the whole, brackets included */
    size_t part;       /* its first part is bounds[part] to bounds[part + 1] - 1: */
    int parts;         /* bounds are the places of '[' and of the separators */
    bool alternates;   /* another part at each step; else the second from step when + 1 on */
    int when;
};

struct prompt_editing {
    const char *text;             /* borrowed */
    struct prompt_choice *choice; /* by where they begin */
    size_t n;
    size_t *bounds; /* [n_bounds] */
    size_t n_bounds;
    bool stray; /* choices were found, but they are text: see above */
};

/* For a run of that many steps. DR_ENOMEM, DR_ELIMIT for text whose brackets nest too deep, which
 * names the field. prompt_editing_release takes zeros. */
int prompt_editing_read(const char *field, const char *text, int steps, struct prompt_editing *ret,
                        struct dr_error *err);
void prompt_editing_release(struct prompt_editing *e);

/* Appends the text of a step, 1 or more. */
int prompt_editing_at(const struct prompt_editing *e, int step, struct buf *dst);

/* Sets change[s] for each step s of 1 .. steps after which the text may be another. */
void prompt_editing_changes(const struct prompt_editing *e, int steps, bool *change);

#endif
