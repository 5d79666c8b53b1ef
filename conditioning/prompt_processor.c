/* prompt_processor.c - see prompt_processor.h. */
#include "conditioning/prompt_processor.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "conditioning/prompt_syntax.h"
#include "models/adapters/textual_inversions.h"
#include "models/clip_text.h"
#include "models/tokenizers/clip_tokenizer.h"

static bool given(const char *s)
{
    return s && *s;
}

/* The text that encoder `e` reads in row `row`. */
static const char *text_of(const struct prompt_request *q, int rows, int row, int e)
{
    if (row == rows - 1)
        return e && given(q->prompt_2) ? q->prompt_2 : q->prompt;
    if (!q->negative && q->zero_negative)
        return "";
    if (e && given(q->negative_2))
        return q->negative_2;
    return q->negative ? q->negative : "";
}

static DR_PRINTF(2, 3) void warn(struct prompt_embeds *m, const char *fmt, ...)
{
    if (m->n_warnings == PROMPT_WARNINGS)
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(m->warning[m->n_warnings++], sizeof m->warning[0], fmt, ap);
    va_end(ap);
}

/* What an encoder does not read of a text. */
struct cut {
    const char *text; /* NULL: nothing is cut */
    size_t at;        /* where it begins */
    int64_t tokens;   /* of the whole text */
};

enum { CUT_SHOWN = 40, WORD_LONG = 40 };

/* The last end of a word (or of a character) between `from` and *to up to which the text has at
 * most `most` tokens; *to becomes the next one. */
static int last_fitting(const struct tok *tokens, const char *text, int64_t most, bool words,
                        size_t *from, size_t *to, struct dr_error *err)
{
    for (;;) {
        size_t half = *from + (*to - *from) / 2, at = half;
        while (at < *to && (words ? text[at] != ' ' : (text[at] & 0xc0) == 0x80))
            at++;
        for (at = at < *to ? at : half; at > *from; at--)
            if (words ? text[at] == ' ' : (text[at] & 0xc0) != 0x80)
                break;
        if (at <= *from)
            return 0;
        int32_t *ids;
        int64_t n;
        int r = tok_encode(tokens, text, at, &ids, &n, err);
        if (r < 0)
            return r;
        dr_free(ids);
        *(n <= most ? from : to) = at;
    }
}

static int find_cut(const struct tok *tokens, int64_t most, struct cut *c, struct dr_error *err)
{
    size_t from = 0, to = strlen(c->text);
    int r = last_fitting(tokens, c->text, most, true, &from, &to, err);
    if (!r && to - from > WORD_LONG)
        r = last_fitting(tokens, c->text, most, false, &from, &to, err);
    c->at = from + strspn(c->text + from, " ");
    return r;
}

static void warn_cuts(struct prompt_embeds *m, int row, const struct cut cuts[PROMPT_ENCODERS])
{
    static const char *const names[PROMPT_ENCODERS] = { " for the first encoder",
                                                        " for the second encoder" };
    const struct cut *a = &cuts[0], *b = &cuts[1];
    bool same = a->text && b->text && !strcmp(a->text, b->text) && a->at == b->at &&
                a->tokens == b->tokens;
    bool alone = same || !m->ids[0] || !m->ids[1];
    for (int which = 0; which < (same ? 1 : PROMPT_ENCODERS); which++) {
        const struct cut *c = &cuts[which];
        if (!c->text)
            continue;
        const char *rest = c->text + c->at;
        size_t n = strlen(rest);
        size_t shown = n > CUT_SHOWN ? utf8_valid_prefix(rest, CUT_SHOWN) : n;
        warn(m, "the %sprompt has %" PRId64 " tokens%s; those after %" PRId64 " are cut: '%.*s%s'",
             row == m->rows - 1 ? "" : "negative ", c->tokens, alone ? "" : names[which],
             m->length - 2, (int)shown, rest, n > shown ? "..." : "");
    }
}

static int tokenize_row(const struct prompt_encoders *e, const struct prompt_request *q,
                        struct prompt_embeds *m, int row, int which, struct cut *ret_cut,
                        struct dr_error *err)
{
    const char *text = text_of(q, m->rows, row, which);
    const struct tok *tokens = q->embeddings ? q->embeddings->tokens[which]
                                             : e->encoder[which].tokens;
    bool cut;
    int64_t n;
    int r = tok_encode_padded(tokens, text, strlen(text), m->length,
                              m->ids[which] + row * m->length, &cut, &n, err);
    bool positive = row == m->rows - 1;
    if (r < 0)
        return dr_while(err, r, "reading the %s prompt", positive ? "" : "negative");
    *ret_cut = (struct cut){ cut ? text : NULL, 0, n };
    return cut ? find_cut(tokens, m->length - 2, ret_cut, err) : 0;
}

static void warn_unused_embeddings(struct prompt_embeds *m)
{
    for (int i = 0; m->embeddings && i < m->embeddings->n; i++) {
        bool used = false;
        for (int which = 0; which < PROMPT_ENCODERS; which++)
            used |= m->ids[which] &&
                    textual_inversions_used(m->embeddings, i, which, m->vocab[which], m->ids[which],
                                            m->rows * m->length);
        if (!used)
            warn(m, "embedding %.160s is not used: no prompt has '%.80s'",
                 m->embeddings->item[i].file.path, m->embeddings->item[i].name[0]);
    }
}

static void warn_syntax(const struct prompt_request *q, struct prompt_embeds *m)
{
    const char *texts[] = { q->prompt, q->prompt_2, q->guidance ? q->negative : NULL,
                            q->guidance ? q->negative_2 : NULL };
    if (m->n_warnings < PROMPT_WARNINGS &&
        prompt_syntax(texts, 4, m->warning[m->n_warnings], sizeof m->warning[0]))
        m->n_warnings++;
}

static void fill_time_ids(const struct prompt_request *q, struct prompt_embeds *m)
{
    const int64_t ids[PROMPT_TIME_IDS] = { q->original_height, q->original_width, q->crop_top,
                                           q->crop_left,       q->target_height,  q->target_width };
    for (int row = 0; row < m->rows; row++)
        for (int i = 0; i < m->n_time_ids; i++)
            m->time_ids[row * m->n_time_ids + i] = (float)ids[i];
}

int prompt_tokenize(const struct prompt_encoders *e, const struct prompt_request *q,
                    struct prompt_embeds *ret, struct dr_error *err)
{
    struct prompt_embeds m = {
        .rows = q->guidance ? 2 : 1,
        .chunks = 1,
        .length = e->chunk,
        .n_time_ids = e->n_time_ids,
        .embeddings = q->embeddings,
    };
    struct cut cuts[PROMPT_ROWS][PROMPT_ENCODERS] = { { { .text = NULL } } };
    int r = 0, own = 0;
    for (int i = 0; i < PROMPT_ENCODERS; i++) {
        const struct prompt_encoder *one = &e->encoder[i];
        if (one->text) {
            m.width += clip_text_arch(one->text)->width;
            own = one->layer;
        }
        if (one->text && one->pooled)
            m.pooled_width = clip_text_arch(one->text)->projection;
    }
    m.zero_negative = q->guidance && !q->negative && q->zero_negative;
    m.known[0] = m.zero_negative;
    for (int row = 0; row < m.rows; row++)
        m.skip[row] = (q->skip_both || row == m.rows - 1) && q->clip_skip ? q->clip_skip : own;
    warn_syntax(q, &m);
    if (!q->guidance && (given(q->negative) || given(q->negative_2)))
        warn(&m, "the negative prompt is ignored: guidance is off (guidance_scale is 1 or less)");
    if (m.zero_negative && given(q->negative_2))
        warn(&m, "negative_prompt_2 is ignored: without a negative_prompt this model takes zeros");
    size_t rows = (size_t)m.rows;
    m.text = dr_calloc(DR_TAG_JOB, rows * (size_t)(m.length * m.width), sizeof *m.text);
    m.pooled = dr_calloc(DR_TAG_JOB, rows * (size_t)m.pooled_width, sizeof *m.pooled);
    m.time_ids = dr_calloc(DR_TAG_JOB, rows * (size_t)m.n_time_ids, sizeof *m.time_ids);
    if (!m.text || !m.pooled || !m.time_ids)
        r = dr_fail(err, DR_ENOMEM, "out of memory for prompt embeddings");
    for (int i = 0; !r && i < PROMPT_ENCODERS; i++) {
        if (!e->encoder[i].text)
            continue;
        m.vocab[i] = clip_text_arch(e->encoder[i].text)->vocab;
        m.ids[i] = dr_calloc(DR_TAG_JOB, rows * (size_t)m.length, sizeof *m.ids[i]);
        if (!m.ids[i])
            r = dr_fail(err, DR_ENOMEM, "out of memory for tokens");
        for (int row = 0; !r && row < m.rows; row++)
            r = tokenize_row(e, q, &m, row, i, &cuts[row][i], err);
    }
    for (int row = 0; !r && row < m.rows; row++)
        warn_cuts(&m, row, cuts[row]);
    if (r < 0) {
        prompt_release(&m);
        return r;
    }
    warn_unused_embeddings(&m);
    fill_time_ids(q, &m);
    *ret = m;
    return 0;
}

/* One encoder on one row: its hidden states go to columns [column, column + its width) of the row's
 * text. Of the pooled embeddings, one for each chunk, the first counts. */
static int encode_row(const struct prompt_encoder *e, struct exec *x, struct prompt_embeds *m,
                      int row, int which, int64_t column, float *hidden, float *pooled,
                      struct dr_error *err)
{
    int64_t width = clip_text_arch(e->text)->width;
    const struct clip_state wanted = { m->skip[row], e->final_norm };
    struct exec own = *x;
    own.variant = m->variant[which];
    const struct clip_words *words = m->embeddings && m->embeddings->words[which].n
                                         ? &m->embeddings->words[which]
                                         : NULL;
    int r = clip_text_encode_words(e->text, &own, m->ids[which] + row * m->length, m->chunks,
                                   m->length / m->chunks, words, wanted, hidden,
                                   e->pooled ? pooled : NULL, err);
    if (r < 0)
        return r;
    if (e->pooled)
        memcpy(m->pooled + row * m->pooled_width, pooled, (size_t)m->pooled_width * sizeof *pooled);
    for (int64_t i = 0; i < m->length; i++)
        memcpy(m->text + (row * m->length + i) * m->width + column, hidden + i * width,
               (size_t)width * sizeof *hidden);
    return 0;
}

int prompt_encode(const struct prompt_encoders *e, struct exec *x, struct prompt_embeds *m,
                  struct dr_error *err)
{
    int64_t column = 0, states = m->length * m->width;
    int r = 0;
    float *hidden = dr_malloc(DR_TAG_JOB,
                              (size_t)(states + m->chunks * m->pooled_width) * sizeof *hidden);
    if (!hidden)
        return dr_fail(err, DR_ENOMEM, "out of memory for hidden states");
    for (int i = 0; !r && i < PROMPT_ENCODERS; i++) {
        const struct prompt_encoder *one = &e->encoder[i];
        if (!one->text)
            continue;
        for (int row = 0; !r && row < m->rows; row++)
            if (!m->known[row])
                r = encode_row(one, x, m, row, i, column, hidden, hidden + states, err);
        column += clip_text_arch(one->text)->width;
    }
    dr_free(hidden);
    return r;
}

void prompt_release(struct prompt_embeds *m)
{
    if (!m)
        return;
    for (int i = 0; i < PROMPT_ENCODERS; i++)
        dr_free(m->ids[i]);
    dr_free(m->text);
    dr_free(m->pooled);
    dr_free(m->time_ids);
    memset(m, 0, sizeof *m);
}
