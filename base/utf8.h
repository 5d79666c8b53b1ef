/* utf8.h - UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef DR_BASE_UTF8_H
#define DR_BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* The scalar value at s; its length in bytes (1 to 4), or 0 when these n bytes do not begin with
 * one. */
size_t utf8_decode(const char *s, size_t n, uint32_t *ret_scalar);

/* Writes 1 to 4 bytes; 0 for a surrogate or a value above U+10FFFF. */
size_t utf8_encode(uint32_t scalar, char dst[4]);

/* Bytes of the longest valid prefix: n when all are. */
size_t utf8_valid_prefix(const char *s, size_t n);

/* Text made harmless for a terminal or a log: control characters (C0, DEL, C1), line and paragraph
 * separators, and what turns the direction of writing become escapes, as do bytes that are no
 * UTF-8. */
enum utf8_shown {
    UTF8_LINE,   /* one line of text: \n, \x1b, \u202e */
    UTF8_LINES,  /* the same, but line feeds and tabs stay */
    UTF8_STRING, /* inside the quotes of a JSON string: quotes and backslashes are escaped too */
    UTF8_JSON,   /* JSON as it was printed, to equal JSON */
};

enum { UTF8_SHOWN_MOST = 6 }; /* bytes written for a byte read */

/* dst has room for UTF8_SHOWN_MOST * n + 1 bytes. Returns the bytes written, NUL not counted. */
size_t utf8_show(const char *s, size_t n, enum utf8_shown how, char *dst);

#endif
