/* utf8.h - UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef DR_BASE_UTF8_H
#define DR_BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* The scalar value at s; its length in bytes (1 to 4), or 0 when these n bytes do not begin with
 * one. */
size_t utf8_decode(const char *s, size_t n, uint32_t *ret_scalar);

/* Writes 1 to 4 bytes; 0 for a surrogate or a value above U+10FFFF. */
size_t utf8_encode(uint32_t scalar, char dst[4]);

/* Bytes of the longest valid prefix: n when all are. */
size_t utf8_valid_prefix(const char *s, size_t n);

/* Scalar values in valid text. */
size_t utf8_count(const char *s, size_t n);

/* DR_EINVAL naming `what` and the byte's place and value. */
int utf8_check(const char *s, size_t n, const char *what, struct dr_error *err);

#endif
