/* base64.h - RFC 4648 base64, the standard alphabet, padded. */
#ifndef DR_BASE_BASE64_H
#define DR_BASE_BASE64_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/error.h"

/* Characters that n bytes become, terminator not counted. n at most SIZE_MAX / 2. */
size_t base64_length(size_t n);

/* Appends the text. */
int base64_encode(const void *bytes, size_t n, struct buf *dst);

/* Appends the bytes. Strict: padding where it belongs and unused bits 0; with `spaces`, blanks,
 * tabs and line ends are skipped. DR_EFORMAT says at which character. */
int base64_decode(const char *text, size_t n, bool spaces, struct buf *dst, struct dr_error *err);

#endif
