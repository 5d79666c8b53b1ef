/* lines.h - whole lines over file descriptors: a reader with a longest line, a writer that never
 * interleaves. */
#ifndef DR_CORE_COMMUNICATION_LINES_H
#define DR_CORE_COMMUNICATION_LINES_H

#include <pthread.h>
#include <stdbool.h>

#include "base/buf.h"
#include "base/json.h"

struct line_reader {
    int fd; /* borrowed */
    struct buf buf;
    size_t start;   /* first unread byte of buf */
    size_t scanned; /* bytes after start known to hold no newline */
    bool skipping;  /* inside a line that was too long */
};

void line_reader_init(struct line_reader *r, int fd, size_t longest);
void line_reader_free(struct line_reader *r);

/* 1 and a line (without newline, carriage return and byte order mark; valid until the next call;
 * empty lines are skipped); 0 at the end of input; DR_EIO. A last line without newline counts.
 * DR_ELIMIT for a line that is too long, DR_ENOMEM when out of memory: once per line, with its
 * beginning in *ret_line; the rest of it is skipped and reading may continue. timeout_ms -1: wait;
 * DR_ESTATE when it passes without a line. EINTR is retried. */
int line_read(struct line_reader *r, int timeout_ms, const char **ret_line, size_t *ret_n,
              struct dr_error *err);
/* The part of an unfinished line that was read already, as line_read gives it; false: nothing. */
bool line_rest(struct line_reader *r, const char **ret_line, size_t *ret_n);

struct line_writer {
    int fd; /* borrowed */
    pthread_mutex_t lock;
    struct buf buf;
};

int line_writer_init(struct line_writer *w, int fd);
void line_writer_free(struct line_writer *w);

/* Writes the value on one line, whole, whichever thread calls. DR_EIO when the other side is gone.
 */
int line_write(struct line_writer *w, const json_t *value, struct dr_error *err);

#endif
