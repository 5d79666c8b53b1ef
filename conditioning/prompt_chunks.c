/* prompt_chunks.c - see prompt_chunks.h. References: tokenize_line of AUTOMATIC1111's
 * modules/sd_hijack_clip.py, tokenize_with_weights of ComfyUI's comfy/sd1_clip.py. */
#include "conditioning/prompt_chunks.h"

#include <string.h>

#include "models/adapters/textual_inversions.h"
#include "models/tokenizers/clip_tokenizer.h"

/* How far back from a chunk's end a comma is looked for. */
enum { COMMA_REACH = 20 };
/* Tokens of a span that is cut rather than moved to the next chunk. */
enum { LONG_GROUP = 8 };

struct chunk_filling {
    const struct prompt_reader *reader;
    struct tok_info info;
    struct prompt_chunks out;
    int cap;
    int64_t room, used; /* words' tokens of a chunk; of the last one */
    int64_t comma;      /* where the last one is in it; -1: none */
    int32_t comma_id;
};

static int no_memory(struct dr_error *err)
{
    return dr_fail(err, DR_ENOMEM, "out of memory for tokens");
}

void prompt_chunk_empty(const struct prompt_reader *reader, int32_t *ids)
{
    struct tok_info info = tok_info(reader->tokens);
    for (int64_t i = 0; i < reader->chunk; i++)
        ids[i] = i == 0 ? info.bos : i == 1 ? info.eos : info.pad;
}

static int next_chunk(struct chunk_filling *f, struct dr_error *err)
{
    struct prompt_chunks *out = &f->out;
    size_t chunk = (size_t)f->reader->chunk;
    if (out->n == f->cap) {
        int cap = f->cap ? 2 * f->cap : 1;
        int32_t *ids = dr_realloc(DR_TAG_JOB, out->ids, (size_t)cap * chunk * sizeof *ids);
        out->ids = ids ? ids : out->ids;
        float *weight = dr_realloc(DR_TAG_JOB, out->weight, (size_t)cap * chunk * sizeof *weight);
        out->weight = weight ? weight : out->weight;
        if (!ids || !weight)
            return no_memory(err);
        f->cap = cap;
    }
    prompt_chunk_empty(f->reader, out->ids + (size_t)out->n * chunk);
    for (size_t i = 0; i < chunk; i++)
        out->weight[(size_t)out->n * chunk + i] = 1;
    out->n++;
    f->used = 0;
    f->comma = -1;
    return 0;
}

/* Begins the chunk that nothing was put into yet. */
static int begun(struct chunk_filling *f, struct dr_error *err)
{
    return f->out.n && f->used >= 0 ? 0 : next_chunk(f, err);
}

static void put(struct chunk_filling *f, int32_t id, double weight)
{
    size_t at = (size_t)((f->out.n - 1) * f->reader->chunk + 1 + f->used++);
    f->out.ids[at] = id;
    f->out.ids[at + 1] = f->info.eos;
    f->out.weight[at] = (float)weight;
    f->out.weighted |= (float)weight != 1;
}

/* How many ids from this one on stay together. */
static int64_t group_of(const struct chunk_filling *f, int32_t id)
{
    const struct prompt_reader *reader = f->reader;
    const struct textual_inversions *s = reader->embeddings;
    for (int i = 0; s && id >= reader->vocab && i < s->n; i++)
        if (s->item[i].count[reader->encoder] &&
            s->item[i].first[reader->encoder] == id - reader->vocab)
            return s->item[i].count[reader->encoder];
    return 1;
}

/* What follows the last comma moves to the next chunk. */
static int move_after_comma(struct chunk_filling *f, struct dr_error *err)
{
    int64_t from = f->comma + 1, n = f->used - from;
    int32_t ids[COMMA_REACH];
    float weight[COMMA_REACH];
    size_t at = (size_t)((f->out.n - 1) * f->reader->chunk + 1 + from);
    memcpy(ids, f->out.ids + at, (size_t)n * sizeof *ids);
    memcpy(weight, f->out.weight + at, (size_t)n * sizeof *weight);
    for (int64_t i = 0; i <= n; i++) {
        f->out.ids[at + (size_t)i] = i ? f->info.pad : f->info.eos;
        f->out.weight[at + (size_t)i] = 1;
    }
    int r = next_chunk(f, err);
    for (int64_t i = 0; !r && i < n; i++)
        put(f, ids[i], (double)weight[i]);
    return r;
}

static int fill_by_comma(struct chunk_filling *f, const int32_t *ids, int64_t n, double weight,
                         struct dr_error *err)
{
    int r = 0;
    for (int64_t i = 0; !r && i < n;) {
        bool full = f->used == f->room;
        r = begun(f, err);
        if (!r && ids[i] == f->comma_id)
            f->comma = f->used;
        else if (!r && full && f->comma >= 0 && f->used - f->comma <= COMMA_REACH)
            r = move_after_comma(f, err);
        if (!r && f->used == f->room)
            r = next_chunk(f, err);
        int64_t group = group_of(f, ids[i]);
        if (!r && f->used + group > f->room)
            r = next_chunk(f, err);
        for (int64_t k = 0; !r && k < group && i < n; k++)
            put(f, ids[i++], weight);
    }
    return r;
}

/* One group of tokens: moved to the next chunk if it is short, else cut. */
static int fill_group(struct chunk_filling *f, const int32_t *ids, int64_t n, double weight,
                      struct dr_error *err)
{
    bool cuts = n >= LONG_GROUP;
    int r = n ? begun(f, err) : 0;
    while (!r && n > 0) {
        int64_t left = f->room - f->used, now = n <= left ? n : cuts ? left : 0;
        for (int64_t i = 0; i < now; i++)
            put(f, *ids++, weight);
        n -= now;
        if (n > 0)
            r = next_chunk(f, err);
    }
    return r;
}

static int fill_by_group(struct chunk_filling *f, const int32_t *ids, int64_t n, double weight,
                         struct dr_error *err)
{
    int64_t from = 0;
    int r = 0;
    for (int64_t i = 0; !r && i < n;) {
        int64_t group = f->reader->embeddings && ids[i] >= f->reader->vocab ? group_of(f, ids[i])
                                                                            : 0;
        if (!group) {
            i++;
            continue;
        }
        group = group < n - i ? group : n - i;
        r = fill_group(f, ids + from, i - from, weight, err);
        if (!r)
            r = fill_group(f, ids + i, group, weight, err);
        i += group;
        from = i;
    }
    return r ? r : fill_group(f, ids + from, n - from, weight, err);
}

static int read_spans(struct chunk_filling *f, const struct prompt_spans *s, const char *field,
                      struct dr_error *err)
{
    int r = 0;
    for (int i = 0; !r && i < s->n; i++) {
        const struct prompt_span *span = &s->span[i];
        double weight = f->reader->weights ? span->weight : 1;
        int32_t *ids;
        int64_t n;
        if (span->ends_chunk) {
            r = begun(f, err);
            f->used = -1; /* the next token begins one */
            continue;
        }
        r = tok_encode(f->reader->tokens, buf_text(&s->text) + span->at, span->n, &ids, &n, err);
        if (r < 0)
            return dr_while(err, r, "reading %s", field);
        f->out.tokens += n;
        r = f->reader->language->chunking == PROMPT_CHUNKS_COMMA
                ? fill_by_comma(f, ids, n, weight, err)
                : fill_by_group(f, ids, n, weight, err);
        dr_free(ids);
    }
    return r;
}

static int comma_of(const struct tok *tokens, int32_t *ret, struct dr_error *err)
{
    int32_t *ids;
    int64_t n;
    int r = tok_encode(tokens, ",", 1, &ids, &n, err);
    if (r < 0)
        return r;
    *ret = n == 1 ? ids[0] : -1;
    dr_free(ids);
    return 0;
}

/* All that fits into one chunk. */
static int read_cut(struct chunk_filling *f, const char *field, const char *text,
                    struct dr_error *err)
{
    int r = next_chunk(f, err);
    if (r)
        return r;
    r = tok_encode_padded(f->reader->tokens, text, strlen(text), f->reader->chunk, f->out.ids,
                          &f->out.cut, &f->out.tokens, err);
    return r ? dr_while(err, r, "reading the %s",
                        !strncmp(field, "negative", 8) ? "negative prompt" : "prompt")
             : 0;
}

static int read_long(struct chunk_filling *f, const char *field, const char *text,
                     struct dr_error *err)
{
    struct prompt_spans spans;
    prompt_spans_init(&spans);
    int r = dr_check_utf8(text, strlen(text), field, err);
    if (!r)
        r = f->reader->language->split(field, text, &spans, err);
    if (!r)
        r = comma_of(f->reader->tokens, &f->comma_id, err);
    if (!r)
        r = read_spans(f, &spans, field, err);
    if (!r && !f->out.n)
        r = next_chunk(f, err);
    prompt_spans_release(&spans);
    return r;
}

int prompt_chunks_read(const struct prompt_reader *reader, const char *field, const char *text,
                       struct prompt_chunks *ret, struct dr_error *err)
{
    struct chunk_filling f = { .reader = reader,
                               .info = tok_info(reader->tokens),
                               .room = reader->chunk - 2,
                               .used = 0,
                               .comma = -1 };
    int r = reader->language->chunking == PROMPT_CUTS ? read_cut(&f, field, text, err)
                                                      : read_long(&f, field, text, err);
    if (r < 0)
        prompt_chunks_release(&f.out);
    else
        *ret = f.out;
    return r;
}

void prompt_chunks_release(struct prompt_chunks *c)
{
    dr_free(c->ids);
    dr_free(c->weight);
    memset(c, 0, sizeof *c);
}
