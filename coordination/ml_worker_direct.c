/* ml_worker_direct.c - see ml_worker_direct.h. Uses the public header only, as any host program
 * would.
 *
 * stdout is protocol only: its descriptor is duplicated and 1 pointed at stderr, so that nothing a
 * library prints can come between two lines.
 */
#include "coordination/ml_worker_direct.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"
#include "core/communication/lines.h"
#include "core/communication/message.h"
#include "include/darkroom.h"

enum { POLL_MS = 200 };

struct output {
    int fd;
    pthread_mutex_t lock; /* whole lines */
    atomic_bool broken;   /* the host is gone */
};

static void write_line(struct output *out, const char *json)
{
    size_t left = strlen(json);
    char end = '\n';
    const char *p = json;
    pthread_mutex_lock(&out->lock);
    while (left && !atomic_load(&out->broken)) {
        ssize_t n = write(out->fd, p, left);
        if (n < 0 && errno != EINTR)
            atomic_store(&out->broken, true);
        else if (n > 0) {
            p += n;
            left -= (size_t)n;
        }
    }
    while (!atomic_load(&out->broken) && write(out->fd, &end, 1) < 0)
        if (errno != EINTR)
            atomic_store(&out->broken, true);
    pthread_mutex_unlock(&out->lock);
}

static void on_event(void *user, const char *json)
{
    write_line(user, json);
}

/* The engine could not be opened: said in the protocol, since that is what the host reads. */
static void report_failure(struct output *out, const char *text)
{
    struct message_ids ids = { "", "" };
    struct dr_error error;
    struct buf line;
    dr_fail(&error, DR_EINVAL, "%s", text);
    json_t *event = message_failure(&ids, &error);
    buf_init(&line, DR_TAG_BASE, 0);
    if (event && !jx_dump(event, &line))
        write_line(out, line.data);
    json_decref(event);
    buf_free(&line);
    dr_log_line(DR_LOG_ERROR, "worker", "%s", text);
}

/* Whether nobody reads the output any more: a pipe whose reading end is closed says so. */
static bool host_gone(struct output *out)
{
    struct pollfd p = { .fd = out->fd };
    if (poll(&p, 1, 0) > 0 && (p.revents & (POLLERR | POLLNVAL)))
        atomic_store(&out->broken, true);
    return atomic_load(&out->broken);
}

/* Input until it ends, the host goes or a shutdown message comes. True when what is left should be
 * finished. */
static bool read_messages(struct darkroom *engine, struct output *out)
{
    struct line_reader reader;
    struct dr_error error;
    bool drain = true;
    line_reader_init(&reader, 0, MESSAGE_LINE_BYTES);
    while (!darkroom_shutting_down(engine)) {
        const char *line;
        size_t n;
        int r = line_read(&reader, POLL_MS, &line, &n, &error);
        if (host_gone(out)) {
            drain = false;
            break;
        }
        if (r == 1) {
            (void)darkroom_submit_bytes(engine, line, n);
        } else if (r == DR_ELIMIT) {
            struct message_ids ids = { "", "" };
            json_t *event = message_failure(&ids, &error);
            char *text = event ? json_dumps(event, JSON_COMPACT) : NULL;
            if (text)
                write_line(out, text);
            dr_free(text);
            json_decref(event);
        } else if (r != DR_ESTATE) {
            break; /* the end, or a broken pipe */
        }
    }
    line_reader_free(&reader);
    return drain;
}

int ml_worker_direct(const char *options)
{
    struct output out = { .fd = dup(1), .lock = PTHREAD_MUTEX_INITIALIZER };
    struct darkroom *engine;
    char error[512];
    signal(SIGPIPE, SIG_IGN);
    if (out.fd < 0 || dup2(2, 1) < 0)
        return 1;
    if (darkroom_open(options, on_event, &out, &engine, error, sizeof error) < 0) {
        report_failure(&out, error);
        close(out.fd);
        return 1;
    }
    if (read_messages(engine, &out))
        while (!darkroom_wait(engine, POLL_MS) && !host_gone(&out)) {}
    darkroom_close(engine);
    close(out.fd);
    return 0;
}
