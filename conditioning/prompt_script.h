/* prompt_script.h - which texts condition a picture, and from which evaluation on.
 *
 * A language with schedules lets a prompt be several: parts joined by AND, each with a weight
 * (composable diffusion, Liu et al. 2022), and texts that change while the picture is drawn
 * (prompt_editing.h). Each text that comes up is a row, encoded once; a phase says which rows hold
 * from an evaluation on. Reference: get_multicond_prompt_list and reconstruct_multicond_batch of
 * AUTOMATIC1111's modules/prompt_parser.py. Steps are evaluations there: a sampler with two a step
 * has twice as many. And a text that ends after step s, counted from 1, is read up to evaluation s,
 * counted from 0: the first one is read once more than its number says.
 */
#ifndef DR_CONDITIONING_PROMPT_SCRIPT_H
#define DR_CONDITIONING_PROMPT_SCRIPT_H

#include <stdbool.h>

#include "conditioning/prompt_processor.h"

enum { PROMPT_PARTS = 8 };

/* What every encoder reads in a row. */
struct prompt_row {
    char *text[PROMPT_ENCODERS]; /* owned */
    int group; /* rows of a group take turns: they are encoded with equally many chunks */
    uint64_t hash;
};

struct prompt_phase {
    int first;    /* evaluation */
    int negative; /* row; -1: none */
    int n_parts;
    int part[PROMPT_PARTS]; /* rows */
};

struct prompt_script {
    int n_rows, negatives; /* negative rows come first */
    struct prompt_row row[PROMPT_TEXTS];
    int n_parts;
    double weight[PROMPT_PARTS]; /* of the parts, the same in all phases */
    int n_phases;
    struct prompt_phase *phase;
    bool stray[2]; /* of the prompt, of the negative one: editing that is text (prompt_editing.h) */
};

/* Whether a prompt has parts, or a weight of its own: the negative row is needed then. */
bool prompt_is_composed(const struct prompt_language *language, const char *prompt);

/* The rows and phases of a run of that many steps (0: one phase). q->language is that of all texts.
 * DR_EINVAL, DR_ELIMIT name the field. prompt_script_release takes zeros. */
int prompt_script_read(const struct prompt_request *q, int steps, struct prompt_script *ret,
                       struct dr_error *err);
void prompt_script_release(struct prompt_script *s);

#endif
