/* arena.c - see arena.h. The newest block is first in the chain and the only one that pieces come
 * from; a piece larger than a quarter block gets a block of its own behind it, so that little is
 * wasted. */
#include "base/arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/checked.h"

enum { USUAL_BLOCK = 16 << 10, NARROW = 16, WIDE = 64 };

struct arena_block {
    struct arena_block *next;
    size_t size, used;            /* of `bytes` */
    _Alignas(64) uint8_t bytes[]; /* blocks come 64-byte aligned */
};

void arena_init(struct arena *a, enum dr_tag tag, size_t block, size_t maximum)
{
    *a = (struct arena){ .tag = tag,
                         .block = block ? block : USUAL_BLOCK,
                         .maximum = maximum ? maximum : SIZE_MAX };
}

static struct arena_block *new_block(const struct arena *a, size_t size)
{
    size_t whole;
    if (!dr_add_size(sizeof(struct arena_block), size, &whole))
        return NULL;
    struct arena_block *b = dr_malloc(a->tag, whole);
    if (!b)
        return NULL;
    b->next = NULL;
    b->size = size;
    b->used = 0;
    return b;
}

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

static void *take(struct arena *a, size_t size, size_t align)
{
    size_t all;
    if (size > SIZE_MAX - WIDE)
        return NULL;
    size = round_up(size ? size : 1, NARROW);
    if (!dr_add_size(a->used, size, &all) || all > a->maximum)
        return NULL;
    struct arena_block *b = a->blocks;
    if (b) {
        size_t at = round_up(b->used, align);
        if (at <= b->size && size <= b->size - at) {
            b->used = at + size;
            a->used = all;
            return b->bytes + at;
        }
    }
    bool own = size > a->block / 4;
    struct arena_block *fresh = new_block(a, own ? size : a->block);
    if (!fresh)
        return NULL;
    fresh->used = size;
    if (own && b) {
        fresh->next = b->next;
        b->next = fresh;
    } else {
        fresh->next = b;
        a->blocks = fresh;
    }
    a->used = all;
    return fresh->bytes;
}

void *arena_alloc(struct arena *a, size_t size)
{
    return take(a, size, NARROW);
}

void *arena_alloc_wide(struct arena *a, size_t size)
{
    return take(a, size, WIDE);
}

void *arena_calloc(struct arena *a, size_t n, size_t size)
{
    size_t bytes;
    if (!dr_mul_size(n, size, &bytes))
        return NULL;
    void *p = take(a, bytes, NARROW);
    if (p)
        memset(p, 0, bytes);
    return p;
}

char *arena_strndup(struct arena *a, const char *s, size_t n)
{
    if (n == SIZE_MAX)
        return NULL;
    char *p = take(a, n + 1, NARROW);
    if (!p)
        return NULL;
    memcpy(p, s, n);
    p[n] = '\0';
    return p;
}

char *arena_strdup(struct arena *a, const char *s)
{
    return arena_strndup(a, s, strlen(s));
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *p = n < 0 ? NULL : take(a, (size_t)n + 1, NARROW);
    if (!p)
        return NULL;
    va_start(ap, fmt);
    vsnprintf(p, (size_t)n + 1, fmt, ap);
    va_end(ap);
    return p;
}

static void free_chain(struct arena_block *b)
{
    while (b) {
        struct arena_block *next = b->next;
        dr_free(b);
        b = next;
    }
}

void arena_reset(struct arena *a)
{
    a->used = 0;
    if (!a->blocks)
        return;
    free_chain(a->blocks->next);
    a->blocks->next = NULL;
    a->blocks->used = 0;
}

void arena_free(struct arena *a)
{
    if (!a)
        return;
    free_chain(a->blocks);
    a->blocks = NULL;
    a->used = 0;
}
