/* prompt_script.c - see prompt_script.h. */
#include "conditioning/prompt_script.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "conditioning/prompt_editing.h"
#include "conditioning/prompt_language.h"

/* One text for each encoder, of a prompt's part or the negative prompt, as it changes. */
struct voice {
    const char *field[PROMPT_ENCODERS];
    char *text[PROMPT_ENCODERS]; /* owned; [1] NULL: that of the first encoder */
    struct prompt_editing editing[PROMPT_ENCODERS];
    bool *change; /* [steps + 1] after which steps */
    int row;      /* now */
};

struct script_writing {
    const struct prompt_request *q;
    int steps;
    struct voice voice[1 + PROMPT_PARTS]; /* the negative one first, if there is one */
    int n, phase_cap;
    struct prompt_script s;
};

static int no_memory(struct dr_error *err)
{
    return dr_fail(err, DR_ENOMEM, "out of memory for the texts of a prompt");
}

static char *copy(const char *text, size_t n)
{
    char *own = dr_malloc(DR_TAG_JOB, n + 1);
    if (own) {
        memcpy(own, text, n);
        own[n] = '\0';
    }
    return own;
}

/* ---- parts ---- */

/* Where the next AND of [from, end of text) is, as a word; NULL: none. */
static const char *next_and(const char *text, const char *from)
{
    for (const char *at = from; (at = strstr(at, "AND")); at++)
        if ((at == text || !prompt_is_word(text, (size_t)(at - text) - 1)) &&
            !prompt_is_word(text, (size_t)(at - text) + 3))
            return at;
    return NULL;
}

static bool blank(char c)
{
    return isspace((unsigned char)c) != 0;
}

/* The weight after the last colon of [text, text + *n): it and blanks are cut off. False: it has
 * none. */
static bool part_weight(const char *text, size_t *n, double *ret)
{
    size_t end = *n;
    while (end && blank(text[end - 1]))
        end--;
    *n = end;
    size_t at = end;
    while (at && strchr("0123456789.", text[at - 1]))
        at--;
    const char *point = memchr(text + at, '.', end - at);
    bool digits = at < end && (!point || end - at > 1) &&
                  (!point || !memchr(point + 1, '.', (size_t)(text + end - point - 1)));
    size_t number = at;
    if (digits && number && (text[number - 1] == '-' || text[number - 1] == '+'))
        number--;
    size_t colon = number;
    while (colon && blank(text[colon - 1]))
        colon--;
    if (!digits || !colon || text[colon - 1] != ':' ||
        !prompt_number(text + number, end - number, ret))
        return false;
    for (colon--; colon && blank(text[colon - 1]); colon--)
        ;
    *n = colon;
    return true;
}

bool prompt_is_composed(const struct prompt_language *language, const char *prompt)
{
    size_t n = strlen(prompt);
    double weight = 1;
    return language && language->schedules &&
           (next_and(prompt, prompt) || (part_weight(prompt, &n, &weight) && weight != 1));
}

static int add_part(struct script_writing *w, const char *text, size_t n, struct dr_error *err)
{
    struct prompt_script *s = &w->s;
    double weight = 1;
    if (s->n_parts == PROMPT_PARTS) {
        char expected[48];
        snprintf(expected, sizeof expected, "%d parts joined by AND at most", PROMPT_PARTS);
        return dr_fail_field(err, DR_ELIMIT, "prompt", "more parts", expected, NULL);
    }
    part_weight(text, &n, &weight);
    if (fabs(weight) > PROMPT_WEIGHT)
        return prompt_weight_refuse("prompt", text + n, strlen(text + n), err);
    s->weight[s->n_parts++] = weight;
    w->voice[w->n].field[0] = "prompt";
    w->voice[w->n].text[0] = copy(text, n);
    return w->voice[w->n++].text[0] ? 0 : no_memory(err);
}

static int split_parts(struct script_writing *w, struct dr_error *err)
{
    const char *text = w->q->prompt, *from = text, *at;
    int r = 0;
    while (!r && (at = next_and(text, from))) {
        r = add_part(w, from, (size_t)(at - from), err);
        from = at + 3;
    }
    return r ? r : add_part(w, from, strlen(from), err);
}

static bool given(const char *s)
{
    return s && *s;
}

/* What the second encoder reads of its own. */
static int second(struct script_writing *w, int first, const char *field, const char *text,
                  struct dr_error *err)
{
    const struct prompt_language *language = w->q->language;
    if (!given(text))
        return 0;
    if (language && language->schedules && next_and(text, text))
        return dr_fail_field(err, DR_EINVAL, field, "AND", "parts joined by AND in prompt alone",
                             "the text of the second encoder is that of all parts");
    for (int i = first; i < w->n; i++) {
        w->voice[i].field[1] = field;
        w->voice[i].text[1] = copy(text, strlen(text));
        if (!w->voice[i].text[1])
            return no_memory(err);
    }
    return 0;
}

static int split_voices(struct script_writing *w, struct dr_error *err)
{
    const struct prompt_request *q = w->q;
    bool zeros = !q->negative && q->zero_negative;
    int r = 0;
    if (q->guidance) {
        const char *text = q->negative ? q->negative : "";
        w->voice[0].field[0] = "negative_prompt";
        w->voice[0].text[0] = copy(text, strlen(text));
        w->n = 1;
        r = w->voice[0].text[0] ? 0 : no_memory(err);
        if (!r && !zeros)
            r = second(w, 0, "negative_prompt_2", q->negative_2, err);
    }
    int first = w->n;
    if (!r && q->language && q->language->schedules) {
        r = split_parts(w, err);
    } else if (!r) {
        w->s.weight[w->s.n_parts++] = 1;
        w->voice[w->n].field[0] = "prompt";
        w->voice[w->n].text[0] = copy(q->prompt, strlen(q->prompt));
        r = w->voice[w->n++].text[0] ? 0 : no_memory(err);
    }
    return r ? r : second(w, first, "prompt_2", q->prompt_2, err);
}

/* ---- phases ---- */

static int read_editing(struct script_writing *w, int which, struct dr_error *err)
{
    struct voice *v = &w->voice[which];
    int r = 0;
    v->change = dr_calloc(DR_TAG_JOB, (size_t)w->steps + 1, sizeof *v->change);
    if (!v->change)
        return no_memory(err);
    for (int e = 0; !r && e < PROMPT_ENCODERS && w->steps; e++) {
        if (!v->text[e] || !w->q->language || !w->q->language->schedules)
            continue;
        r = prompt_editing_read(v->field[e], v->text[e], w->steps, &v->editing[e], err);
        if (r)
            break;
        w->s.stray[w->q->guidance && !which] |= v->editing[e].stray;
        prompt_editing_changes(&v->editing[e], w->steps, v->change);
    }
    return r;
}

/* The step whose texts are read at an evaluation. */
static int step_at(const struct voice *v, int steps, int evaluation)
{
    for (int s = evaluation > 1 ? evaluation : 1; s < steps; s++)
        if (v->change[s])
            return s;
    return steps > 1 ? steps : 1;
}

static int find_row(struct script_writing *w, int which, char *text[PROMPT_ENCODERS],
                    struct dr_error *err)
{
    struct prompt_script *s = &w->s;
    struct prompt_row row = { .group = which, .hash = HASH_START };
    for (int e = 0; e < PROMPT_ENCODERS; e++) {
        row.text[e] = text[e];
        row.hash = dr_hash(row.hash, text[e], strlen(text[e]) + 1);
    }
    int at = 0;
    for (; at < s->n_rows; at++)
        if (s->row[at].group == which && s->row[at].hash == row.hash &&
            !strcmp(s->row[at].text[0], text[0]) && !strcmp(s->row[at].text[1], text[1]))
            break;
    if (at == PROMPT_TEXTS) {
        char expected[64];
        snprintf(expected, sizeof expected, "%d different texts at most", PROMPT_TEXTS);
        return dr_fail_field(err, DR_ELIMIT, w->voice[which].field[0],
                             "editing that makes more texts", expected, NULL);
    }
    w->voice[which].row = at;
    if (at < s->n_rows)
        return 0;
    s->row[s->n_rows++] = row;
    text[0] = text[1] = NULL; /* the row's now */
    return 0;
}

/* The voice's row at an evaluation, made if it is new. */
static int speak(struct script_writing *w, int which, int evaluation, struct dr_error *err)
{
    const struct voice *v = &w->voice[which];
    char *text[PROMPT_ENCODERS] = { NULL };
    int step = step_at(v, w->steps, evaluation), r = 0;
    for (int e = 0; !r && e < PROMPT_ENCODERS; e++) {
        int own = v->text[e] ? e : 0;
        struct buf b;
        buf_init(&b, DR_TAG_JOB, 0);
        r = v->editing[own].n ? prompt_editing_at(&v->editing[own], step, &b)
                              : buf_puts(&b, v->text[own]);
        text[e] = r ? NULL : copy(buf_text(&b), b.len);
        r = text[e] ? 0 : no_memory(err);
        buf_free(&b);
    }
    if (!r)
        r = find_row(w, which, text, err);
    for (int e = 0; e < PROMPT_ENCODERS; e++)
        dr_free(text[e]);
    return r;
}

static int add_phase(struct script_writing *w, int evaluation, struct dr_error *err)
{
    struct prompt_script *s = &w->s;
    struct prompt_phase phase = { .first = evaluation, .negative = -1, .n_parts = s->n_parts };
    if (w->q->guidance)
        phase.negative = w->voice[0].row;
    for (int i = 0; i < s->n_parts; i++)
        phase.part[i] = w->voice[w->n - s->n_parts + i].row;
    const struct prompt_phase *last = s->n_phases ? &s->phase[s->n_phases - 1] : NULL;
    if (last && last->negative == phase.negative &&
        !memcmp(last->part, phase.part, sizeof phase.part))
        return 0;
    if (s->n_phases == w->phase_cap) {
        int cap = w->phase_cap ? 2 * w->phase_cap : 4;
        struct prompt_phase *more = dr_realloc(DR_TAG_JOB, s->phase, (size_t)cap * sizeof *more);
        if (!more)
            return no_memory(err);
        s->phase = more;
        w->phase_cap = cap;
    }
    s->phase[s->n_phases++] = phase;
    return 0;
}

/* All rows of the negative prompt come first: the voices speak one after another, then together. */
static int write_all(struct script_writing *w, struct dr_error *err)
{
    int r = 0, last = w->steps ? w->steps : 1;
    for (int i = 0; !r && i < w->n; i++) {
        r = read_editing(w, i, err);
        for (int e = 0; !r && e < last; e++)
            if (!e || w->voice[i].change[e - 1])
                r = speak(w, i, e, err);
        if (!r && i == 0 && w->q->guidance)
            w->s.negatives = w->s.n_rows;
    }
    for (int e = 0; !r && e < last; e++) {
        bool changes = !e;
        for (int i = 0; !r && i < w->n; i++) {
            if (e && !w->voice[i].change[e - 1])
                continue;
            changes = true;
            r = speak(w, i, e, err);
        }
        if (!r && changes)
            r = add_phase(w, e, err);
    }
    return r;
}

int prompt_script_read(const struct prompt_request *q, int steps, struct prompt_script *ret,
                       struct dr_error *err)
{
    struct script_writing *w = dr_calloc(DR_TAG_JOB, 1, sizeof *w);
    if (!w)
        return no_memory(err);
    w->q = q;
    w->steps = steps;
    int r = split_voices(w, err);
    if (!r)
        r = write_all(w, err);
    for (int i = 0; i < w->n; i++) {
        for (int e = 0; e < PROMPT_ENCODERS; e++) {
            dr_free(w->voice[i].text[e]);
            prompt_editing_release(&w->voice[i].editing[e]);
        }
        dr_free(w->voice[i].change);
    }
    if (r < 0)
        prompt_script_release(&w->s);
    else
        *ret = w->s;
    dr_free(w);
    return r;
}

void prompt_script_release(struct prompt_script *s)
{
    for (int i = 0; i < s->n_rows; i++)
        for (int e = 0; e < PROMPT_ENCODERS; e++)
            dr_free(s->row[i].text[e]);
    dr_free(s->phase);
    memset(s, 0, sizeof *s);
}
