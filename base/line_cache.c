/* line_cache.c - see line_cache.h. */
#include "base/line_cache.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"

const char *line_cache_read(const struct line_cache *c, struct buf *text)
{
    size_t n = strlen(c->first);
    if (dr_read_file(c->path, c->largest, text, NULL) || text->len != strlen(buf_text(text)) ||
        strncmp(buf_text(text), c->first, n))
        return NULL;
    return buf_text(text) + n;
}

const char *line_cache_next(const char *line)
{
    const char *end = strchr(line, '\n');
    return end ? end + 1 : line + strlen(line);
}

static int make_folder(const struct line_cache *c, char dst[DR_PATH_MAX])
{
    size_t n = (size_t)(dr_path_base(c->path) - c->path);
    if (n >= DR_PATH_MAX)
        return DR_ELIMIT;
    snprintf(dst, DR_PATH_MAX, "%.*s", (int)n, n ? c->path : "");
    return n ? dr_mkdirs(dst, NULL) : 0;
}

/* Whether the path is free or holds such a file of any version: its first line begins with the same
 * two words, or it is empty, as a power cut leaves it. */
static bool is_ours(const struct line_cache *c)
{
    const char *space = strchr(c->first, ' ');
    size_t n = strcspn(space ? space + 1 : c->first, " \n");
    struct buf text;
    struct stat st;
    n += space ? (size_t)(space + 1 - c->first) : 0;
    if (lstat(c->path, &st))
        return errno == ENOENT;
    buf_init(&text, DR_TAG_FILE, 0);
    bool ours = !dr_read_file(c->path, c->largest, &text, NULL) &&
                (!text.len || (text.len > n && !memcmp(text.data, c->first, n)));
    buf_free(&text);
    return ours;
}

int line_cache_write(const struct line_cache *c, const struct buf *lines)
{
    char folder[DR_PATH_MAX];
    struct buf text;
    buf_init(&text, DR_TAG_FILE, c->largest);
    int r = is_ours(c) ? make_folder(c, folder) : DR_EIO;
    if (!r)
        r = buf_puts(&text, c->first);
    if (!r && lines->len)
        r = buf_append(&text, lines->data, lines->len);
    if (!r)
        r = dr_write_file(c->path, buf_text(&text), text.len, NULL);
    buf_free(&text);
    return r;
}

bool line_cache_writable(const struct line_cache *c)
{
    char folder[DR_PATH_MAX];
    return !make_folder(c, folder) && !access(*folder ? folder : ".", W_OK);
}
