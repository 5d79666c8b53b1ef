/* prompt_processor.c - see prompt_processor.h. */
#include "conditioning/prompt_processor.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "conditioning/prompt_chunks.h"
#include "conditioning/prompt_language.h"
#include "conditioning/prompt_script.h"
#include "conditioning/prompt_syntax.h"
#include "models/adapters/textual_inversions.h"
#include "models/clip_text.h"
#include "models/tokenizers/clip_tokenizer.h"

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
    bool alone = same || !m->columns[0] || !m->columns[1];
    for (int which = 0; which < (same ? 1 : PROMPT_ENCODERS); which++) {
        const struct cut *c = &cuts[which];
        if (!c->text)
            continue;
        const char *rest = c->text + c->at;
        size_t n = strlen(rest);
        size_t shown = n > CUT_SHOWN ? utf8_valid_prefix(rest, CUT_SHOWN) : n;
        warn(m, "the %sprompt has %" PRId64 " tokens%s; those after %" PRId64 " are cut: '%.*s%s'",
             row < m->negatives ? "negative " : "", c->tokens, alone ? "" : names[which],
             m->chunk - 2, (int)shown, rest, n > shown ? "..." : "");
    }
}

/* ---- rows ---- */

/* A row's text in chunks, for each encoder, until all rows are read. */
struct row_reading {
    const struct prompt_encoders *e;
    const struct prompt_request *q;
    const struct prompt_script *script;
    struct prompt_reader reader[PROMPT_ENCODERS];
    struct prompt_chunks chunks[PROMPT_ROWS][PROMPT_ENCODERS];
};

static bool given(const char *s)
{
    return s && *s;
}

static const char *field_of(const struct row_reading *k, int row, int which)
{
    static const char *const names[2][PROMPT_ENCODERS] = {
        { "prompt", "prompt_2" }, { "negative_prompt", "negative_prompt_2" }
    };
    bool negative = row < k->script->negatives;
    return names[negative][which && given(negative ? k->q->negative_2 : k->q->prompt_2)];
}

static int read_row(struct row_reading *k, struct prompt_embeds *m, int row, struct dr_error *err)
{
    struct cut cuts[PROMPT_ENCODERS] = { { .text = NULL } };
    int r = 0;
    for (int e = 0; !r && e < PROMPT_ENCODERS; e++) {
        const char *text = k->script->row[row].text[e];
        struct prompt_chunks *c = &k->chunks[row][e];
        if (!k->e->encoder[e].text)
            continue;
        r = prompt_chunks_read(&k->reader[e], field_of(k, row, e), text, c, err);
        if (r || !c->cut)
            continue;
        cuts[e] = (struct cut){ text, 0, c->tokens };
        r = find_cut(k->reader[e].tokens, m->chunk - 2, &cuts[e], err);
    }
    if (!r)
        warn_cuts(m, row, cuts);
    return r;
}

/* Rows that take turns, and what both encoders read of one, have equally many chunks. The
 * conditional rows go through the network as one: shorter ones are filled. */
static void count_chunks(const struct row_reading *k, struct prompt_embeds *m)
{
    int of_group[PROMPT_TEXTS] = { 0 };
    bool weighted = false;
    int64_t longest = 0;
    for (int row = 0; row < k->script->n_rows; row++)
        for (int e = 0; e < PROMPT_ENCODERS; e++) {
            int *n = &of_group[k->script->row[row].group];
            *n = k->chunks[row][e].n > *n ? k->chunks[row][e].n : *n;
            weighted |= k->chunks[row][e].weighted;
        }
    m->rows = k->script->n_rows;
    for (int row = 0; row < m->rows; row++) {
        m->chunks[row] = of_group[k->script->row[row].group];
        m->tokens[row] = prompt_read(m, row);
        if (row >= m->negatives && m->tokens[row] > longest)
            longest = m->tokens[row];
    }
    for (int row = m->negatives; row < m->rows; row++)
        m->tokens[row] = longest;
    m->empty = weighted && m->language->weighing == PROMPT_WEIGHS_FROM_EMPTY ? m->rows : -1;
    if (m->empty >= 0) {
        m->chunks[m->rows] = 1;
        m->tokens[m->rows++] = m->chunk;
    }
    m->weighted = weighted;
    for (int row = 0; row < m->rows; row++)
        m->length = m->tokens[row] > m->length ? m->tokens[row] : m->length;
}

/* Ids and weights of one encoder, all rows. */
static int fill_ids(const struct row_reading *k, struct prompt_embeds *m, int e,
                    struct dr_error *err)
{
    size_t all = (size_t)(m->rows * m->length);
    m->ids[e] = dr_calloc(DR_TAG_JOB, all, sizeof *m->ids[e]);
    if (m->weighted)
        m->weight[e] = dr_malloc(DR_TAG_JOB, all * sizeof *m->weight[e]);
    if (!m->ids[e] || (m->weighted && !m->weight[e]))
        return dr_fail(err, DR_ENOMEM, "out of memory for tokens");
    for (size_t i = 0; m->weighted && i < all; i++)
        m->weight[e][i] = 1;
    for (int row = 0; row < m->rows; row++) {
        const struct prompt_chunks *c = row < k->script->n_rows ? &k->chunks[row][e] : NULL;
        int32_t *ids = m->ids[e] + row * m->length;
        int64_t own = c ? c->n * m->chunk : 0;
        if (c)
            memcpy(ids, c->ids, (size_t)own * sizeof *ids);
        if (c && m->weighted)
            memcpy(m->weight[e] + row * m->length, c->weight, (size_t)own * sizeof *c->weight);
        for (; own < prompt_read(m, row); own += m->chunk)
            prompt_chunk_empty(&k->reader[e], ids + own);
    }
    return 0;
}

static void begin_reading(struct row_reading *k, struct prompt_embeds *m)
{
    const struct prompt_request *q = k->q;
    for (int e = 0; e < PROMPT_ENCODERS; e++) {
        const struct prompt_encoder *one = &k->e->encoder[e];
        if (!one->text)
            continue;
        m->vocab[e] = clip_text_arch(one->text)->vocab;
        m->columns[e] = clip_text_arch(one->text)->width;
        m->width += m->columns[e];
        if (one->pooled)
            m->pooled_width = clip_text_arch(one->text)->projection;
        k->reader[e] = (struct prompt_reader){
            .language = m->language,
            .weights = q->emphasis != PROMPT_EMPHASIS_IGNORE,
            .chunk = m->chunk,
            .tokens = q->embeddings ? q->embeddings->tokens[e] : one->tokens,
            .embeddings = q->embeddings,
            .encoder = e,
            .vocab = m->vocab[e],
        };
    }
}

static int read_rows(struct row_reading *k, struct prompt_embeds *m, struct dr_error *err)
{
    int r = 0, own = 0;
    begin_reading(k, m);
    for (int row = 0; !r && row < k->script->n_rows; row++)
        r = read_row(k, m, row, err);
    if (r < 0)
        return r;
    count_chunks(k, m);
    for (int e = 0; e < PROMPT_ENCODERS; e++)
        own = k->e->encoder[e].text ? k->e->encoder[e].layer : own;
    for (int row = 0; row < m->rows; row++)
        m->skip[row] = (k->q->skip_both || row >= m->negatives) && k->q->clip_skip ? k->q->clip_skip
                                                                                   : own;
    for (int e = 0; !r && e < PROMPT_ENCODERS; e++)
        if (k->e->encoder[e].text)
            r = fill_ids(k, m, e, err);
    for (int row = 0; row < k->script->n_rows; row++)
        for (int e = 0; e < PROMPT_ENCODERS; e++)
            prompt_chunks_release(&k->chunks[row][e]);
    return r;
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
        prompt_syntax(m->language, texts, 4, m->warning[m->n_warnings], sizeof m->warning[0]))
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

static void warn_ignored(const struct prompt_request *q, const struct prompt_script *script,
                         struct prompt_embeds *m)
{
    static const char *const names[2] = { "prompt", "negative_prompt" };
    if (!m->language->schedules)
        warn_syntax(q, m);
    if (!q->guidance && (given(q->negative) || given(q->negative_2)))
        warn(m, "the negative prompt is ignored: guidance is off (guidance_scale is 1 or less)");
    if (m->zero_negative && given(q->negative_2))
        warn(m, "negative_prompt_2 is ignored: without a negative_prompt this model takes zeros");
    if (script->n_parts == 1 && script->weight[0] != 1)
        warn(m, "prompt: the number after its last colon, %g, is the weight of the whole prompt",
             script->weight[0]);
    for (int i = 0; i < 2; i++)
        if (script->stray[i])
            warn(m,
                 "%s: a '|' or a last '\\' stands outside of [ ], so its brackets with : and | "
                 "are words",
                 names[i]);
}

static int allocate(struct prompt_embeds *m, struct dr_error *err)
{
    size_t rows = (size_t)m->rows;
    m->text = dr_calloc(DR_TAG_JOB, rows * (size_t)(m->length * m->width), sizeof *m->text);
    m->pooled = dr_calloc(DR_TAG_JOB, rows * (size_t)m->pooled_width, sizeof *m->pooled);
    m->time_ids = dr_calloc(DR_TAG_JOB, rows * (size_t)m->n_time_ids, sizeof *m->time_ids);
    return m->text && m->pooled && m->time_ids
               ? 0
               : dr_fail(err, DR_ENOMEM, "out of memory for prompt embeddings");
}

static int tokenize(struct row_reading *k, struct prompt_embeds *m, struct dr_error *err)
{
    m->negatives = k->script->negatives;
    m->zero_negative = k->q->guidance && !k->q->negative && k->q->zero_negative;
    m->known[0] = m->zero_negative;
    warn_ignored(k->q, k->script, m);
    int r = read_rows(k, m, err);
    if (!r)
        r = allocate(m, err);
    if (r < 0)
        return r;
    warn_unused_embeddings(m);
    fill_time_ids(k->q, m);
    return 0;
}

int prompt_tokenize(const struct prompt_encoders *e, const struct prompt_request *q,
                    struct prompt_embeds *ret, struct dr_error *err)
{
    struct prompt_script own = { .n_rows = 0 };
    struct prompt_embeds *m = dr_calloc(DR_TAG_JOB, 1, sizeof *m);
    struct row_reading *k = dr_calloc(DR_TAG_JOB, 1, sizeof *k);
    int r = m && k ? 0 : dr_fail(err, DR_ENOMEM, "out of memory for prompt embeddings");
    if (!r && !q->script)
        r = prompt_script_read(q, 0, &own, err);
    if (!r) {
        *k = (struct row_reading){ .e = e, .q = q, .script = q->script ? q->script : &own };
        m->chunk = e->chunk;
        m->n_time_ids = e->n_time_ids;
        m->embeddings = q->embeddings;
        m->language = q->language ? q->language : &prompt_plain;
        m->emphasis = q->emphasis;
        r = tokenize(k, m, err);
    }
    for (int row = 0; k && row < PROMPT_ROWS; row++)
        for (int i = 0; i < PROMPT_ENCODERS; i++)
            prompt_chunks_release(&k->chunks[row][i]);
    if (r < 0)
        prompt_release(m);
    else
        *ret = *m;
    dr_free(m);
    dr_free(k);
    prompt_script_release(&own);
    return r;
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
    int r = clip_text_encode_words(e->text, &own, m->ids[which] + row * m->length, m->chunks[row],
                                   m->chunk, words, wanted, hidden, e->pooled ? pooled : NULL, err);
    if (r < 0)
        return r;
    if (e->pooled)
        memcpy(m->pooled + row * m->pooled_width, pooled, (size_t)m->pooled_width * sizeof *pooled);
    for (int64_t i = 0; i < prompt_read(m, row); i++)
        memcpy(m->text + (row * m->length + i) * m->width + column, hidden + i * width,
               (size_t)width * sizeof *hidden);
    return 0;
}

int prompt_encode(const struct prompt_encoders *e, struct exec *x, struct prompt_embeds *m,
                  struct dr_error *err)
{
    int64_t column = 0, states = m->length * m->width, chunks = m->length / m->chunk;
    int r = 0;
    float *hidden = dr_malloc(DR_TAG_JOB,
                              (size_t)(states + chunks * m->pooled_width) * sizeof *hidden);
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
    for (int i = 0; i < PROMPT_ENCODERS; i++) {
        dr_free(m->ids[i]);
        dr_free(m->weight[i]);
    }
    dr_free(m->text);
    dr_free(m->pooled);
    dr_free(m->time_ids);
    memset(m, 0, sizeof *m);
}
