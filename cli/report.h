/* report.h - output of the program: errors and notes on stderr, results on stdout. Texts may quote
 * hostile files: what would command a terminal is escaped (utf8_show). */
#ifndef DR_CLI_REPORT_H
#define DR_CLI_REPORT_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/json.h"

/* "darkroom: TEXT" */
void report_error(const char *text);

/* One line on stderr. */
void report_line(const char *fmt, ...) DR_PRINTF(1, 2);

/* The warnings of a worker's answer, a line each. */
void report_warnings(const json_t *answer);

/* Appends text as a part of one line of what report_text will write: line feeds are escaped too. */
int report_put(struct buf *dst, const char *text) DR_MUST_USE;

/* Writes all of it to stdout. A reader that went away (`| head`) is no error. */
int report_text(const struct buf *text, struct dr_error *err);

/* Whether all of it was written, for verbs that print as they go: DR_EIO when a write failed. */
int report_check(struct dr_error *err);

/* When the program began, for `seconds`. */
void report_begin(void);

/* An object as one line of JSON on stdout, with `success` (true) and `seconds` where it has none.
 */
int report_json(const json_t *value, struct dr_error *err);

/* Writes bytes to a descriptor; a reader that went away is DR_EIO. `name` is for the error. */
int report_bytes(int fd, const char *name, const void *bytes, size_t n, struct dr_error *err);

/* "12.3 MB" and the like (powers of 1000); "272 TFLOP"; "8.1 M". */
const char *report_size(double bytes, char dst[32]);
const char *report_flops(double flops, char dst[32]);
const char *report_count(double count, char dst[32]);

/* Columns of the terminal on `fd`, at least 20; `otherwise` when it is none. */
int report_columns(int fd, int otherwise);

#endif
