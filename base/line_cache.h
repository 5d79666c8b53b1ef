/* line_cache.h - a small text file of what was found out once: a first line with the format's name
 * and number, then one fact a line.
 *
 * It is only a cache. The file is replaced whole, so two processes at once may forget each other's
 * news but never mix them. A file that is not such a cache counts as empty and is not replaced.
 */
#ifndef DR_BASE_LINE_CACHE_H
#define DR_BASE_LINE_CACHE_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/error.h"

struct line_cache {
    const char *path;
    const char *first; /* the first line, with its end */
    size_t largest;    /* bytes of the file */
};

/* The lines after the first, in `text`, which is empty; NULL when there is no sound file. */
const char *line_cache_read(const struct line_cache *c, struct buf *text);

/* The line after, or the text's end. */
const char *line_cache_next(const char *line);

/* Replaces the file by the first line and these; makes its folder. DR_EIO when another file is in
 * its place. */
int line_cache_write(const struct line_cache *c, const struct buf *lines);

/* Whether a file can be made in its folder, which is made; a full disk does not show. */
bool line_cache_writable(const struct line_cache *c);

#endif
