/* arena.c - see arena.h. The newest block is first in the chain and the only one that pieces come
 * from; a piece larger than a quarter block gets a block of its own behind it, so that little is
 * wasted. */
#include "base/arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/checked.h"

enum { USUAL_BLOCK = 16 << 10, ALIGN = 16 };

struct arena_block {
    struct arena_block *next;
    size_t size, used; /* of `bytes` */
    uint8_t bytes[];
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

static void *take(struct arena *a, size_t size)
{
    size_t all;
    if (size > SIZE_MAX - ALIGN)
        return NULL;
    size = (size + ALIGN - 1) / ALIGN * ALIGN;
    if (!dr_add_size(a->used, size, &all) || all > a->maximum)
        return NULL;
    struct arena_block *b = a->blocks;
    if (b && size <= b->size - b->used) {
        void *piece = b->bytes + b->used;
        b->used += size;
        a->used = all;
        return piece;
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

char *arena_strndup(struct arena *a, const char *s, size_t n)
{
    if (n == SIZE_MAX)
        return NULL;
    char *p = take(a, n + 1);
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
    char *p = n < 0 ? NULL : take(a, (size_t)n + 1);
    if (!p)
        return NULL;
    va_start(ap, fmt);
    vsnprintf(p, (size_t)n + 1, fmt, ap);
    va_end(ap);
    return p;
}

void arena_free(struct arena *a)
{
    if (!a)
        return;
    for (struct arena_block *b = a->blocks, *next; b; b = next) {
        next = b->next;
        dr_free(b);
    }
    a->blocks = NULL;
    a->used = 0;
}
