/* buf.h - a growable run of bytes that knows its maximum.
 *
 * Input from outside ends up in one of these; the maximum keeps untrusted input from filling the
 * memory. The bytes are always followed by a terminator that is not counted, so that text can be
 * read in place.
 */
#ifndef DR_BASE_BUF_H
#define DR_BASE_BUF_H

#include <stdint.h>
#include <stddef.h>

#include "base/alloc.h"
#include "base/error.h"

struct buf {
    char *data; /* NULL until the first append; then terminated */
    size_t len;
    size_t cap;
    size_t maximum; /* largest len */
    enum dr_tag tag;
};

/* Allocates nothing. maximum 0 means none. */
void buf_init(struct buf *b, enum dr_tag tag, size_t maximum);
void buf_free(struct buf *b);  /* contents go; can be used again. NULL is allowed */
void buf_clear(struct buf *b); /* len 0, memory kept */

/* 0, DR_ENOMEM or DR_ELIMIT; on failure the contents are as they were. */
int buf_append(struct buf *b, const void *bytes, size_t n) DR_MUST_USE;
int buf_puts(struct buf *b, const char *s) DR_MUST_USE;
int buf_putc(struct buf *b, char c) DR_MUST_USE;
int buf_printf(struct buf *b, const char *fmt, ...) DR_PRINTF(2, 3) DR_MUST_USE;

/* Makes room for n more bytes; *ret_room is where they go. buf_grew then says how many were written
 * there. */
int buf_reserve(struct buf *b, size_t n, void **ret_room) DR_MUST_USE;
void buf_grew(struct buf *b, size_t n);

/* Removes the first n bytes (at most len). */
void buf_drop(struct buf *b, size_t n);

/* The text so far, "" when nothing was ever appended. Owned by the buffer. */
const char *buf_text(const struct buf *b);

#endif
