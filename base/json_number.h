/* json_number.h - numbers that json_t cannot hold, between json.c and json_number.c.
 *
 * jansson refuses integers beyond 64 bits with sign and reals beyond double. Such a literal is
 * parsed as an object of one member, JX_LITERAL, whose value is the literal's text; jx_literal
 * recognises it and jx_dump writes the text again.
 */
#ifndef DR_BASE_JSON_NUMBER_H
#define DR_BASE_JSON_NUMBER_H

#include "base/json.h"

#define JX_LITERAL "\001number"

/* Appends the text with each such literal wrapped into its object. Strings and what is no JSON
 * number are copied as they are. */
int json_number_wrap(const char *text, size_t n, struct buf *dst);

/* Bytes that it inserted into the line of its result that `at` is in, before that place. */
int json_number_inserted(const char *wrapped, size_t at);

#endif
