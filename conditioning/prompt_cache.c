/* prompt_cache.c - see prompt_cache.h. */
#include "conditioning/prompt_cache.h"

#include <string.h>

/* The row's ids of one encoder; NULL: the encoder is absent. */
static const int32_t *ids_of(const struct prompt_embeds *m, int row, int which)
{
    return m->ids[which] ? m->ids[which] + row * m->length : NULL;
}

static bool is_text_of(const struct prompt_entry *e, const struct prompt_embeds *m, int row)
{
    bool same = e->skip == m->skip[row];
    for (int i = 0; i < PROMPT_ENCODERS && same; i++) {
        const int32_t *ids = ids_of(m, row, i);
        same = !ids || !memcmp(e->ids + i * m->length, ids, (size_t)m->length * sizeof *ids);
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

static size_t entry_bytes(const struct prompt_embeds *m)
{
    return (size_t)(m->pooled_width + m->length * m->width) * sizeof(float) +
           (size_t)(PROMPT_ENCODERS * m->length) * sizeof(int32_t);
}

/* How many entries fit; all of a cache are of one size. */
static int capacity(const struct prompt_embeds *m)
{
    size_t n = PROMPT_CACHE_BYTES / entry_bytes(m);
    return n < PROMPT_CACHE_ENTRIES ? (int)n : PROMPT_CACHE_ENTRIES;
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
               (size_t)(m->length * m->width) * sizeof *m->text);
        m->known[row] = true;
    }
}

/* A new one, or the one that was not asked for longest; NULL when there is no memory. */
static struct prompt_entry *take_entry(struct prompt_cache *c, const struct prompt_embeds *m)
{
    struct prompt_entry *e = c->entry;
    if (c->n < capacity(m)) {
        e += c->n;
        e->pooled = dr_malloc(DR_TAG_PROMPT, entry_bytes(m));
        if (!e->pooled)
            return NULL;
        c->n++;
        e->text = e->pooled + m->pooled_width;
        e->ids = (int32_t *)(e->text + m->length * m->width);
        return e;
    }
    for (int i = 1; i < c->n; i++)
        if (c->entry[i].used < e->used)
            e = &c->entry[i];
    return c->n ? e : NULL;
}

void prompt_cache_keep(struct prompt_cache *c, const struct prompt_embeds *m)
{
    for (int row = 0; row < m->rows; row++) {
        struct prompt_entry *e = m->known[row] || entry_of(c, m, row) ? NULL : take_entry(c, m);
        if (!e)
            continue;
        e->used = c->calls;
        e->skip = m->skip[row];
        memcpy(e->pooled, m->pooled + row * m->pooled_width,
               (size_t)m->pooled_width * sizeof *e->pooled);
        memcpy(e->text, m->text + row * m->length * m->width,
               (size_t)(m->length * m->width) * sizeof *e->text);
        memset(e->ids, 0, (size_t)(PROMPT_ENCODERS * m->length) * sizeof *e->ids);
        for (int i = 0; i < PROMPT_ENCODERS; i++)
            if (ids_of(m, row, i))
                memcpy(e->ids + i * m->length, ids_of(m, row, i),
                       (size_t)m->length * sizeof *e->ids);
    }
}

size_t prompt_cache_growth(const struct prompt_cache *c, const struct prompt_embeds *m)
{
    int fresh = 0, room = capacity(m) - c->n;
    for (int row = 0; row < m->rows; row++)
        fresh += !m->known[row];
    return (size_t)(fresh < room ? fresh : room) * entry_bytes(m);
}
