/* arena.h - many small texts, freed together.
 *
 * A chain of blocks under one tag with a maximum. Texts never move and live until arena_free. Not
 * thread-safe.
 */
#ifndef DR_BASE_ARENA_H
#define DR_BASE_ARENA_H

#include <stddef.h>

#include "base/alloc.h"
#include "base/error.h"

struct arena_block;

struct arena {
    enum dr_tag tag;
    size_t block;   /* usual size of a block */
    size_t maximum; /* bytes handed out at most */
    size_t used;    /* bytes handed out, rounding included */
    struct arena_block *blocks;
};

/* Allocates nothing yet. block 0 means 16 KiB; maximum 0 means none. */
void arena_init(struct arena *a, enum dr_tag tag, size_t block, size_t maximum);

/* NULL when memory is short or the maximum is reached. */
char *arena_strdup(struct arena *a, const char *s);
char *arena_strndup(struct arena *a, const char *s, size_t n); /* n bytes and a terminator */
char *arena_printf(struct arena *a, const char *fmt, ...) DR_PRINTF(2, 3);

/* Gives everything back; the arena can be used again. NULL is allowed. */
void arena_free(struct arena *a);

#endif
