/* prompt_language.h - what a prompt's characters mean: the languages of prompts, by name.
 *
 * A language cuts a text into spans, runs of words with one weight. docs/prompts.md has the
 * grammars. The parsers are linear in the text's length: brackets nest PROMPT_DEPTH deep at most.
 *
 *     struct prompt_spans s;
 *     prompt_spans_init(&s);
 *     r = language->split("prompt", "a (red:1.3) ball", &s, err);   "a ", 1; "red", 1.3; " ball", 1
 *     prompt_spans_release(&s);
 */
#ifndef DR_CONDITIONING_PROMPT_LANGUAGE_H
#define DR_CONDITIONING_PROMPT_LANGUAGE_H

#include <stdbool.h>

#include "base/buf.h"

enum { PROMPT_DEPTH = 256 };
/* Of a word. What is beyond it is noise, and further beyond infinite. */
enum { PROMPT_WEIGHT = 100 };

struct prompt_span {
    size_t at, n; /* in the text of prompt_spans, without escapes */
    double weight;
    bool ends_chunk; /* BREAK: what follows begins in a new chunk; no text */
};

struct prompt_spans {
    struct buf text;
    struct prompt_span *span;
    int n, cap;
};

void prompt_spans_init(struct prompt_spans *s);
void prompt_spans_release(struct prompt_spans *s);
/* A new span with n bytes of text. */
int prompt_spans_add(struct prompt_spans *s, const char *text, size_t n, double weight);
int prompt_spans_break(struct prompt_spans *s);

/* How a weighted word's hidden state follows from the encoder's. */
enum prompt_weighing {
    PROMPT_WEIGHS_NOT,       /* there are no weights */
    PROMPT_WEIGHS_SCALE,     /* state * weight (AUTOMATIC1111) */
    PROMPT_WEIGHS_FROM_EMPTY /* empty + (state - empty) * weight, empty: of the text "" (ComfyUI) */
};

/* How a text that is longer than a chunk is cut. */
enum prompt_chunking {
    PROMPT_CUTS,         /* what does not fit is not read */
    PROMPT_CHUNKS_COMMA, /* after a comma among the last tokens, if there is one (AUTOMATIC1111) */
    PROMPT_CHUNKS_GROUP  /* before a span of few tokens that does not fit (ComfyUI) */
};

struct prompt_language {
    const char *name, *title;
    /* Appends the spans of a text. DR_EINVAL, DR_ELIMIT name `field`. NULL: one span, as it is. */
    int (*split)(const char *field, const char *text, struct prompt_spans *ret,
                 struct dr_error *err);
    enum prompt_weighing weighing;
    enum prompt_chunking chunking;
    bool schedules; /* [from:to:when], [a|b] and AND (prompt_script.h) */
    bool tags;      /* <lora:NAME:1>, which is no text (inference/lora_tags.h) */
};

/* NULL: there is none of that name. */
const struct prompt_language *prompt_language_find(const char *name);

extern const struct prompt_language prompt_plain, prompt_a1111, prompt_sdcpp, prompt_comfyui;

/* A decimal number, [at, at + n), such as "1.2", "-.5", "3.": false where it is none. */
bool prompt_number(const char *at, size_t n, double *ret);
/* DR_EINVAL: a weight that is no number or not within PROMPT_WEIGHT. */
int prompt_weight_refuse(const char *field, const char *got, size_t n, struct dr_error *err);

/* Whether a word of letters, digits or _ goes on at a byte, or ended before it: \b of regular
 * expressions. The end of the text is no word. */
bool prompt_is_word(const char *text, size_t at);

#endif
