/* json.h - jansson behind strict limits, with errors that say where.
 *
 * Parsing refuses duplicate keys, nesting deeper than the limit, too many members, invalid UTF-8,
 * bytes after the value; the error gives line and column. A json_t that these functions return is a
 * new reference of the caller's (json_decref); getters lend what the object owns. The `path` of a
 * getter names the object in errors: "data.width: got \"wide\", expected an integer". jx_init (done
 * by every entry point here) makes jansson allocate through base/alloc.
 */
#ifndef DR_BASE_JSON_H
#define DR_BASE_JSON_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/buf.h"
#include "base/error.h"

struct jx_limits {
    size_t bytes;   /* length of the text; 0: 16 MiB */
    size_t depth;   /* nesting; 0: 32 */
    size_t members; /* object members and array elements, all together; 0: 1,000,000 */
    bool python;    /* bare Infinity and -Infinity, which Python's json module writes, are null */
    bool unquoted;  /* errors quote nothing of the text: it may be a file that is no JSON at all */
    const atomic_int *stop; /* nonzero ends the parsing: DR_ECANCELED. NULL: never */
};

/* Must precede direct jansson calls in programs that use nothing else of this header.
 * Idempotent. */
void jx_init(void);

/* `what` names the text in errors ("request", "unet/config.json"). limits may be NULL. A number
 * that json_t cannot hold (an integer beyond 64 bits with sign, 1e999) parses too, see jx_literal:
 * only the code that reads that member refuses it. */
int jx_parse(const char *text, size_t n, const struct jx_limits *limits, const char *what,
             json_t **ret_value, struct dr_error *err);

/* A whole file; `limits->bytes` bounds its size. */
int jx_parse_file(const char *path, const struct jx_limits *limits, json_t **ret_value,
                  struct dr_error *err);

/* Appends compact JSON: one line, keys in insertion order, doubles in the shortest of 15 to 17
 * digits that reads back equal, so they round-trip. DR_EINVAL for NaN and infinities. */
int jx_dump(const json_t *value, struct buf *dst);

/* "an object", "a string", "true"…: what a value is, for messages. */
const char *jx_kind(const json_t *value);

/* Its text when the value is a number that json_t cannot hold, else NULL. To jansson it is an
 * object; the getters below know better and jx_dump writes the number. */
const char *jx_literal(const json_t *value);

/* Unsigned integers, exact to 2^64-1. jx_as_uint is false for any other value. */
json_t *jx_uint(uint64_t v);
bool jx_as_uint(const json_t *value, uint64_t *ret);
/* The same of a text of decimal digits. */
bool jx_digits(const char *text, uint64_t *ret);

/* Required members. DR_EINVAL naming "path.key" when absent or of another kind; path may be "" or
 * NULL. */
int jx_get(const json_t *object, const char *path, const char *key, json_t **ret_value,
           struct dr_error *err);
int jx_get_string(const json_t *object, const char *path, const char *key, const char **ret_text,
                  struct dr_error *err);
int jx_get_int(const json_t *object, const char *path, const char *key, int64_t min, int64_t max,
               int64_t *ret_value, struct dr_error *err);
int jx_get_object(const json_t *object, const char *path, const char *key, json_t **ret_value,
                  struct dr_error *err);
int jx_get_array(const json_t *object, const char *path, const char *key, json_t **ret_value,
                 struct dr_error *err);

/* Optional members: absent and null leave *ret_value untouched and are no error. */
int jx_opt_string(const json_t *object, const char *path, const char *key, const char **ret_text,
                  struct dr_error *err);
int jx_opt_int(const json_t *object, const char *path, const char *key, int64_t min, int64_t max,
               int64_t *ret_value, struct dr_error *err);
int jx_opt_number(const json_t *object, const char *path, const char *key, double *ret_value,
                  struct dr_error *err);
int jx_opt_bool(const json_t *object, const char *path, const char *key, bool *ret_value,
                struct dr_error *err);
int jx_opt_array(const json_t *object, const char *path, const char *key, json_t **ret_value,
                 struct dr_error *err);

/* Sets a member; takes over `value` (also on failure); a NULL value or object is DR_ENOMEM, so that
 * calls chain: jx_set(o, "seed", json_integer(seed)). Invalid UTF-8 strings make json_string return
 * NULL. */
int jx_set(json_t *object, const char *key, json_t *value) DR_MUST_USE;

/* Appends to an array; takes over `value` in the same way. */
int jx_add(json_t *array, json_t *value) DR_MUST_USE;

#endif
