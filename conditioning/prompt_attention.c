/* prompt_attention.c - weights of words as AUTOMATIC1111 reads them: (a), (a:1.2), [a], BREAK.
 *
 * Round brackets multiply by 1.1 or by the number before their end, square ones divide by 1.1; both
 * kinds are counted apart, so "(a [b) c]" overlaps. A bracket that is never closed holds to the
 * end, one that closes nothing is a character; a backslash makes the next bracket or backslash a
 * character, and vanishes before anything else. Reference: parse_prompt_attention of
 * AUTOMATIC1111's modules/prompt_parser.py. One difference: BREAK works inside brackets, where the
 * reference takes it for a word. */
#include "conditioning/prompt_language.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { ROUND, SQUARE, KINDS };

struct attention {
    const char *field, *text;
    size_t n;
    struct prompt_spans *out;
    int open[KINDS][PROMPT_DEPTH]; /* first spans of brackets that are open */
    int depth[KINDS];
};

static const char blanks[] = " \t\n\v\f\r";

/* Characters of brackets, numbers and escapes are spans like words: they join in the end. */
static int words(struct attention *a, const char *text, size_t n)
{
    return prompt_spans_add(a->out, text, n, 1);
}

static int open_bracket(struct attention *a, int kind, struct dr_error *err)
{
    if (a->depth[kind] == PROMPT_DEPTH)
        return dr_fail_field(err, DR_ELIMIT, a->field, "brackets inside more brackets",
                             "256 levels at most", NULL);
    a->open[kind][a->depth[kind]++] = a->out->n;
    return 0;
}

static void close_bracket(struct attention *a, int kind, double factor)
{
    for (int i = a->open[kind][--a->depth[kind]]; i < a->out->n; i++)
        a->out->span[i].weight *= factor;
}

/* ":1.2)" at `at`, blanks around the number: its length, 0 where it is none. Where the number is is
 * ret_at, ret_n. */
static size_t weight_at(const struct attention *a, size_t at, size_t *ret_at, size_t *ret_n)
{
    const char *s = a->text + at + 1;
    s += strspn(s, blanks);
    const char *number = s;
    s += *s == '+' || *s == '-';
    size_t digits = strspn(s, ".0123456789");
    s += digits;
    *ret_at = (size_t)(number - a->text);
    *ret_n = (size_t)(s - number);
    s += strspn(s, blanks);
    return digits && *s == ')' ? (size_t)(s + 1 - a->text) - at : 0;
}

/* A colon: the weight that ends a bracket, or a character. */
static int colon(struct attention *a, size_t *at, struct dr_error *err)
{
    size_t number, n, length = weight_at(a, *at, &number, &n);
    double factor;
    int r = 0;
    if (length && a->depth[ROUND]) {
        if (!prompt_number(a->text + number, n, &factor))
            return prompt_weight_refuse(a->field, a->text + number, n, err);
        close_bracket(a, ROUND, factor);
    } else {
        length = length ? length : 1;
        r = words(a, a->text + *at, length);
    }
    *at += length;
    return r;
}

/* Words up to the next character with a meaning, cut at BREAK. */
static int plain(struct attention *a, size_t *at)
{
    static const char word[] = "BREAK";
    const size_t length = sizeof word - 1;
    const char *s = a->text + *at;
    size_t n = strcspn(s, "\\()[]:"), from = 0;
    int r = 0;
    for (size_t i = 0; !r && i + length <= n; i++) {
        if (memcmp(s + i, word, length) != 0 || (i && prompt_is_word(s, i - 1)) ||
            (i + length < n && prompt_is_word(s, i + length)))
            continue;
        size_t end = i;
        while (end > from && strchr(blanks, s[end - 1]))
            end--;
        r = words(a, s + from, end - from);
        if (!r)
            r = prompt_spans_break(a->out);
        for (from = i + length; from < n && strchr(blanks, s[from]); from++)
            ;
        i = from - 1;
    }
    *at += n;
    return r ? r : words(a, s + from, n - from);
}

static int step(struct attention *a, size_t *at, struct dr_error *err)
{
    const char *s = a->text + *at;
    if (*s == ':')
        return colon(a, at, err);
    if (!strchr("\\()[]", *s))
        return plain(a, at);
    ++*at;
    if (*s == '\\') {
        bool escapes = s[1] && strchr("\\()[]", s[1]);
        *at += escapes;
        return escapes ? words(a, s + 1, 1) : 0;
    }
    if (*s == '(' || *s == '[')
        return open_bracket(a, *s == '(' ? ROUND : SQUARE, err);
    int kind = *s == ')' ? ROUND : SQUARE;
    if (!a->depth[kind])
        return words(a, s, 1);
    close_bracket(a, kind, kind == ROUND ? 1.1 : 1 / 1.1);
    return 0;
}

/* Neighbours of equal weight become one. */
static void join(struct prompt_spans *s)
{
    int kept = 0;
    for (int i = 0; i < s->n; i++) {
        struct prompt_span *last = kept ? &s->span[kept - 1] : NULL, *now = &s->span[i];
        if (now->ends_chunk)
            now->weight = 1;
        if (last && !last->ends_chunk && !now->ends_chunk && last->weight == now->weight)
            last->n += now->n;
        else
            s->span[kept++] = *now;
    }
    s->n = kept;
}

static int check_weights(const struct attention *a, struct dr_error *err)
{
    for (int i = 0; i < a->out->n; i++) {
        char got[32];
        double w = a->out->span[i].weight;
        if (fabs(w) <= PROMPT_WEIGHT)
            continue;
        int n = snprintf(got, sizeof got, "%g", w);
        return prompt_weight_refuse(a->field, got, (size_t)n, err);
    }
    return 0;
}

static int split(const char *field, const char *text, struct prompt_spans *ret,
                 struct dr_error *err)
{
    struct attention a = { .field = field, .text = text, .n = strlen(text), .out = ret };
    int r = 0;
    for (size_t at = 0; !r && at < a.n;)
        r = step(&a, &at, err);
    for (int kind = 0; kind < KINDS; kind++)
        while (!r && a.depth[kind])
            close_bracket(&a, kind, kind == ROUND ? 1.1 : 1 / 1.1);
    if (r == DR_ENOMEM)
        return dr_fail(err, r, "out of memory for the weights of a prompt");
    if (!r)
        r = check_weights(&a, err);
    if (!r)
        join(ret);
    return r;
}

const struct prompt_language prompt_a1111 = {
    .name = "a1111",
    .title = "AUTOMATIC1111's language",
    .split = split,
    .weighing = PROMPT_WEIGHS_SCALE,
    .chunking = PROMPT_CHUNKS_COMMA,
    .schedules = true,
    .tags = true,
};

/* stable-diffusion.cpp reads its weights and BREAK, and nothing that changes with the steps. */
const struct prompt_language prompt_sdcpp = {
    .name = "sdcpp",
    .title = "stable-diffusion.cpp's language",
    .split = split,
    .weighing = PROMPT_WEIGHS_SCALE,
    .chunking = PROMPT_CHUNKS_COMMA,
    .tags = true,
};
