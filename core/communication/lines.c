/* lines.c - see lines.h. */
#include "core/communication/lines.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"

enum { CHUNK = 65536 };

/* UTF-8's byte order mark, which some writers begin a stream or a line with. */
static const unsigned char mark[] = { 0xef, 0xbb, 0xbf };

void line_reader_init(struct line_reader *r, int fd, size_t longest)
{
    memset(r, 0, sizeof *r);
    r->fd = fd;
    buf_init(&r->buf, DR_TAG_BASE, longest + CHUNK);
}

void line_reader_free(struct line_reader *r)
{
    if (r)
        buf_free(&r->buf);
}

/* Takes the next complete line out of the buffer; false when there is none yet. */
static bool take_line(struct line_reader *r, bool at_end, const char **ret_line, size_t *ret_n)
{
    for (;;) {
        const char *from = r->buf.data ? r->buf.data + r->start : NULL;
        size_t left = r->buf.len - r->start;
        const char *end = left > r->scanned ? memchr(from + r->scanned, '\n', left - r->scanned)
                                            : NULL;
        if (!end && !(at_end && left)) {
            r->scanned = left;
            return false;
        }
        size_t n = end ? (size_t)(end - from) : left;
        r->start += n + (end != NULL);
        r->scanned = 0;
        if (r->skipping) {
            r->skipping = false;
            continue;
        }
        if (n >= sizeof mark && !memcmp(from, mark, sizeof mark)) {
            from += sizeof mark;
            n -= sizeof mark;
        }
        if (n && from[n - 1] == '\r')
            n--;
        if (!n)
            continue;
        *ret_line = from;
        *ret_n = n;
        return true;
    }
}

/* Waits until `deadline` (0: for ever) for input. 1 ready, 0 time is up, negative an error. */
static int wait_input(int fd, double deadline, struct dr_error *err)
{
    for (;;) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        double left = deadline - dr_now();
        int ms = deadline > 0 ? (left > 0 ? (int)(left * 1e3) + 1 : 0) : -1;
        int r = poll(&p, 1, ms);
        if (r >= 0)
            return r;
        if (errno != EINTR)
            return dr_fail_errno(err, "pipe", "poll");
    }
}

/* Drops what was handed out, then reads a chunk. Bytes read, 0 at the end, negative an error. */
static int64_t fill(struct line_reader *r, struct dr_error *err)
{
    void *room;
    buf_drop(&r->buf, r->start);
    r->start = 0;
    if (r->skipping) {
        buf_clear(&r->buf);
        r->scanned = 0;
    }
    if (buf_reserve(&r->buf, CHUNK, &room) < 0)
        return dr_fail(err, DR_ENOMEM, "out of memory for a line of %zu bytes", r->buf.len);
    for (;;) {
        ssize_t n = read(r->fd, room, CHUNK);
        if (n >= 0) {
            buf_grew(&r->buf, (size_t)n);
            return n;
        }
        if (errno != EINTR)
            return dr_fail_errno(err, "pipe", "read");
    }
}

/* Gives up the line in the buffer, of which the beginning is shown to the caller. */
static int skip_line(struct line_reader *r, const char **ret_line, size_t *ret_n, int code)
{
    *ret_line = r->buf.data ? r->buf.data + r->start : "";
    *ret_n = r->buf.len - r->start;
    r->skipping = true;
    r->start = r->buf.len;
    r->scanned = 0;
    return code;
}

int line_read(struct line_reader *r, int timeout_ms, const char **ret_line, size_t *ret_n,
              struct dr_error *err)
{
    double deadline = timeout_ms >= 0 ? dr_now() + timeout_ms / 1e3 : 0;
    size_t longest = r->buf.maximum - CHUNK;
    *ret_line = NULL;
    *ret_n = 0;
    for (;;) {
        if (take_line(r, false, ret_line, ret_n))
            return 1;
        if (r->buf.len - r->start > longest && !r->skipping) {
            dr_fail(err, DR_ELIMIT, "a line is longer than %zu bytes", longest);
            return skip_line(r, ret_line, ret_n, DR_ELIMIT);
        }
        int ready = wait_input(r->fd, deadline, err);
        if (ready < 0)
            return ready;
        if (!ready)
            return dr_fail(err, DR_ESTATE, "no line within %d ms", timeout_ms);
        int64_t n = fill(r, err);
        if (n == DR_ENOMEM && r->buf.len > r->start && !r->skipping)
            return skip_line(r, ret_line, ret_n, DR_ENOMEM);
        if (n < 0)
            return (int)n;
        if (!n)
            return take_line(r, true, ret_line, ret_n) ? 1 : 0;
    }
}

bool line_rest(struct line_reader *r, const char **ret_line, size_t *ret_n)
{
    return take_line(r, true, ret_line, ret_n);
}

int line_writer_init(struct line_writer *w, int fd)
{
    w->fd = fd;
    buf_init(&w->buf, DR_TAG_BASE, 0);
    return pthread_mutex_init(&w->lock, NULL) ? DR_EINTERNAL : 0;
}

void line_writer_free(struct line_writer *w)
{
    if (!w)
        return;
    pthread_mutex_destroy(&w->lock);
    buf_free(&w->buf);
}

int line_write(struct line_writer *w, const json_t *value, struct dr_error *err)
{
    pthread_mutex_lock(&w->lock);
    buf_clear(&w->buf);
    int r = value ? jx_dump(value, &w->buf) : DR_ENOMEM;
    if (!r)
        r = buf_putc(&w->buf, '\n');
    if (r < 0)
        dr_fail(err, r, "cannot write a message: %s", dr_code_meaning(r));
    else
        r = dr_write_all(w->fd, w->buf.data, w->buf.len) ? dr_fail_errno(err, "pipe", "write") : 0;
    pthread_mutex_unlock(&w->lock);
    return r;
}
