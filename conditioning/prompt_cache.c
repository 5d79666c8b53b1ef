/* prompt_cache.c - see prompt_cache.h. */
#include "conditioning/prompt_cache.h"

#include <string.h>

#include "models/adapters/textual_inversions.h"

/* The row's ids of one encoder; NULL: the encoder is absent. */
static const int32_t *ids_of(const struct prompt_embeds *m, int row, int which)
{
    return m->ids[which] ? m->ids[which] + row * m->length : NULL;
}

/* The row's embeddings, which are words of its text: their ids say which ones, this in what set. */
static const uint8_t *embeddings_of(const struct prompt_embeds *m, int row)
{
    static const uint8_t none[SHA256_BYTES];
    for (int i = 0; m->embeddings && i < PROMPT_ENCODERS; i++) {
        const int32_t *ids = ids_of(m, row, i);
        for (int64_t k = 0; ids && k < prompt_read(m, row); k++)
            if (ids[k] >= m->vocab[i])
                return m->embeddings->identity;
    }
    return none;
}

static bool is_text_of(const struct prompt_entry *e, const struct prompt_embeds *m, int row)
{
    int64_t n = prompt_read(m, row);
    bool same = e->skip == m->skip[row] && e->length == n &&
                !memcmp(e->variant_key, m->variant_key, sizeof e->variant_key) &&
                !memcmp(e->embeddings, embeddings_of(m, row), sizeof e->embeddings);
    for (int i = 0; i < PROMPT_ENCODERS && same; i++) {
        const int32_t *ids = ids_of(m, row, i);
        same = !ids || !memcmp(e->ids + i * n, ids, (size_t)n * sizeof *ids);
    }
    return same;
}

static struct prompt_entry *entry_of(struct prompt_cache *c, const struct prompt_embeds *m, int row)
{
    for (int i = 0; i < c->n; i++)
        if (is_text_of(&c->entry[i], m, row))
            return &c->entry[i];
    return NULL;
}

static size_t entry_bytes(const struct prompt_embeds *m, int row)
{
    return (size_t)(m->pooled_width + prompt_read(m, row) * m->width) * sizeof(float) +
           (size_t)(PROMPT_ENCODERS * prompt_read(m, row)) * sizeof(int32_t);
}

void prompt_cache_release(struct prompt_cache *c)
{
    for (int i = 0; i < c->n; i++)
        dr_free(c->entry[i].pooled);
    memset(c, 0, sizeof *c);
}

void prompt_cache_find(struct prompt_cache *c, struct prompt_embeds *m)
{
    c->calls++;
    for (int row = 0; row < m->rows; row++) {
        struct prompt_entry *e = m->known[row] ? NULL : entry_of(c, m, row);
        if (!e)
            continue;
        e->used = c->calls;
        memcpy(m->pooled + row * m->pooled_width, e->pooled,
               (size_t)m->pooled_width * sizeof *m->pooled);
        memcpy(m->text + row * m->length * m->width, e->text,
               (size_t)(prompt_read(m, row) * m->width) * sizeof *m->text);
        m->known[row] = true;
    }
}

/* Makes room for one more of `bytes` bytes; what goes is freed, unless this is only counted. */
static void make_room(struct prompt_cache *c, size_t bytes, bool count_only)
{
    while (c->n && (c->n == PROMPT_CACHE_ENTRIES || c->bytes + bytes > PROMPT_CACHE_BYTES)) {
        struct prompt_entry *oldest = c->entry;
        for (int i = 1; i < c->n; i++)
            if (c->entry[i].used < oldest->used)
                oldest = &c->entry[i];
        c->bytes -= oldest->bytes;
        if (!count_only)
            dr_free(oldest->pooled);
        *oldest = c->entry[--c->n];
    }
}

/* A new one; NULL where it does not fit or there is no memory. */
static struct prompt_entry *new_entry(struct prompt_cache *c, const struct prompt_embeds *m,
                                      int row)
{
    size_t bytes = entry_bytes(m, row);
    if (bytes > PROMPT_CACHE_BYTES)
        return NULL;
    make_room(c, bytes, false);
    struct prompt_entry *e = &c->entry[c->n];
    *e = (struct prompt_entry){ .bytes = bytes, .length = prompt_read(m, row) };
    e->pooled = dr_malloc(DR_TAG_PROMPT, bytes);
    if (!e->pooled)
        return NULL;
    e->text = e->pooled + m->pooled_width;
    e->ids = (int32_t *)(e->text + e->length * m->width);
    c->bytes += bytes;
    c->n++;
    return e;
}

void prompt_cache_keep(struct prompt_cache *c, const struct prompt_embeds *m)
{
    for (int row = 0; row < m->rows; row++) {
        bool kept = m->known[row] || entry_of(c, m, row);
        struct prompt_entry *e = kept ? NULL : new_entry(c, m, row);
        if (!e)
            continue;
        e->used = c->calls;
        e->skip = m->skip[row];
        memcpy(e->variant_key, m->variant_key, sizeof e->variant_key);
        memcpy(e->embeddings, embeddings_of(m, row), sizeof e->embeddings);
        memcpy(e->pooled, m->pooled + row * m->pooled_width,
               (size_t)m->pooled_width * sizeof *e->pooled);
        memcpy(e->text, m->text + row * m->length * m->width,
               (size_t)(e->length * m->width) * sizeof *e->text);
        memset(e->ids, 0, (size_t)(PROMPT_ENCODERS * e->length) * sizeof *e->ids);
        for (int i = 0; i < PROMPT_ENCODERS; i++)
            if (ids_of(m, row, i))
                memcpy(e->ids + i * e->length, ids_of(m, row, i),
                       (size_t)e->length * sizeof *e->ids);
    }
}

size_t prompt_cache_growth(const struct prompt_cache *c, const struct prompt_embeds *m)
{
    struct prompt_cache after = *c;
    size_t most = c->bytes;
    for (int row = 0; row < m->rows; row++) {
        size_t bytes = entry_bytes(m, row);
        if (m->known[row] || bytes > PROMPT_CACHE_BYTES)
            continue;
        make_room(&after, bytes, true);
        after.entry[after.n++] = (struct prompt_entry){ .used = c->calls, .bytes = bytes };
        after.bytes += bytes;
        most = after.bytes > most ? after.bytes : most;
    }
    return most - c->bytes;
}
