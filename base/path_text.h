/* path_text.h - file paths as text of JSON.
 *
 * JSON carries UTF-8 and a path may be any bytes. A path that is valid UTF-8 stands for itself; any
 * other is written as a file URL (RFC 8089) with its bytes percent-encoded. Where a path is read,
 * text that begins with "file://" is such a URL.
 */
#ifndef DR_BASE_PATH_TEXT_H
#define DR_BASE_PATH_TEXT_H

#include <jansson.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/fs.h"

enum { PATH_TEXT_BYTES = 3 * DR_PATH_MAX + 32 }; /* the longest URL of a path */

/* The path that `text` spells, into room for DR_PATH_MAX bytes. DR_EINVAL names `field`: an empty
 * path, a URL of another host, an escape that is none or stands for NUL. */
int path_text_read(const char *field, const char *text, char *dst, struct dr_error *err);

/* Appends the text of a path; a relative one that needs a URL is made absolute. 0, or as
 * buf_append. */
int path_text_write(const char *path, struct buf *dst);

/* The same as a JSON string; NULL when memory is short. */
json_t *path_text_json(const char *path);

/* The same of what a person typed, which may be a URL already. */
json_t *path_text_typed(const char *path);

#endif
