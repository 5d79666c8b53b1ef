/* prompt_parentheses.c - weights of words as ComfyUI reads them: (a), (a:1.2), \( and \).
 *
 * The number of a bracket replaces the weight around it, "(a (b:0.5):2)" gives b 0.5; without one
 * it multiplies by 1.1. Square brackets are characters. Brackets that do not match are characters.
 * Reference: token_weights and parse_parentheses of ComfyUI's comfy/sd1_clip.py. */
#include "conditioning/prompt_language.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

struct parentheses {
    const char *field, *text;
    struct prompt_spans *out;
    int depth;
};

/* Whether an escaped bracket is at `at`. */
static bool escaped(const char *text, size_t at, size_t end)
{
    return at + 1 < end && text[at] == '\\' && (text[at + 1] == '(' || text[at + 1] == ')');
}

/* [from, to) as a span, without its escapes. */
static int emit(struct parentheses *p, size_t from, size_t to, double weight)
{
    struct prompt_spans *out = p->out;
    int r = prompt_spans_add(out, "", 0, weight);
    for (size_t i = from; !r && i < to; i++) {
        i += escaped(p->text, i, to);
        r = buf_append(&out->text, p->text + i, 1);
        if (!r)
            out->span[out->n - 1].n++;
    }
    return r;
}

/* The number after the last colon of [from, *to): *to becomes where the colon is. */
static int take_weight(const struct parentheses *p, size_t from, size_t *to, double *weight,
                       struct dr_error *err)
{
    size_t at = *to, n, end = *to;
    double number;
    while (at > from && p->text[at - 1] != ':')
        at--;
    if (at <= from + 1) /* none, or the first character */
        return 0;
    size_t colon = at - 1;
    while (at < end && p->text[at] == ' ')
        at++;
    while (end > at && p->text[end - 1] == ' ')
        end--;
    n = end - at;
    if (!prompt_number(p->text + at, n, &number))
        return 0;
    if (fabs(number) > PROMPT_WEIGHT)
        return prompt_weight_refuse(p->field, p->text + at, n, err);
    *weight = number;
    *to = colon;
    return 0;
}

static int read_range(struct parentheses *p, size_t from, size_t to, double weight,
                      struct dr_error *err);

/* [from, to): a bracket with its contents, or words. */
static int item(struct parentheses *p, size_t from, size_t to, double weight, struct dr_error *err)
{
    if (to - from < 2 || p->text[from] != '(' || p->text[to - 1] != ')' ||
        escaped(p->text, to - 2, to))
        return from < to ? emit(p, from, to, weight) : 0;
    if (p->depth == PROMPT_DEPTH)
        return dr_fail_field(err, DR_ELIMIT, p->field, "brackets inside more brackets",
                             "256 levels at most", NULL);
    double own = weight * 1.1;
    size_t end = to - 1;
    int r = take_weight(p, from + 1, &end, &own, err);
    if (!r && fabs(own) > PROMPT_WEIGHT) {
        char got[32];
        int n = snprintf(got, sizeof got, "%g", own);
        r = prompt_weight_refuse(p->field, got, (size_t)n, err);
    }
    p->depth++;
    if (!r)
        r = read_range(p, from + 1, end, own, err);
    p->depth--;
    return r;
}

static int read_range(struct parentheses *p, size_t from, size_t to, double weight,
                      struct dr_error *err)
{
    size_t begin = from;
    int level = 0, r = 0;
    for (size_t i = from; !r && i < to; i++) {
        if (escaped(p->text, i, to)) {
            i++;
        } else if (p->text[i] == '(') {
            if (!level) {
                r = item(p, begin, i, weight, err);
                begin = i;
            }
            level++;
        } else if (p->text[i] == ')' && !--level) {
            r = item(p, begin, i + 1, weight, err);
            begin = i + 1;
        }
    }
    return r ? r : item(p, begin, to, weight, err);
}

static int split(const char *field, const char *text, struct prompt_spans *ret,
                 struct dr_error *err)
{
    struct parentheses p = { .field = field, .text = text, .out = ret };
    int r = read_range(&p, 0, strlen(text), 1, err);
    return r == DR_ENOMEM ? dr_fail(err, r, "out of memory for the weights of a prompt") : r;
}

const struct prompt_language prompt_comfyui = {
    .name = "comfyui",
    .title = "ComfyUI's language",
    .split = split,
    .weighing = PROMPT_WEIGHS_FROM_EMPTY,
    .chunking = PROMPT_CHUNKS_GROUP,
};
