/* ml_worker_direct.c - see ml_worker_direct.h. Uses the public header only, as any host program
 * would.
 *
 * stdout is protocol only: its descriptor is duplicated and 1 pointed at stderr, so that nothing a
 * library prints can come between two lines.
 */
#include "coordination/ml_worker_direct.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "coordination/signals.h"
#include "core/communication/id_scan.h"
#include "core/communication/lines.h"
#include "core/communication/message.h"
#include "include/darkroom.h"

enum { POLL_MS = 200, REST_SECONDS = 1 };

struct line_output {
    int fd;
    pthread_mutex_t lock; /* whole lines */
    atomic_int broken;    /* errno: nothing can be written any more */
};

static void fail_output(struct line_output *out, int code)
{
    int none = 0;
    atomic_compare_exchange_strong(&out->broken, &none, code);
}

/* Waits until a page can be written without blocking, or the reader is gone. */
static void await_room(struct line_output *out)
{
    struct pollfd p = { .fd = out->fd, .events = POLLOUT };
    int r;
    while ((r = poll(&p, 1, POLL_MS)) == 0 || (r < 0 && errno == EINTR)) {
        if (signals_overdue()) {
            fail_output(out, ETIMEDOUT);
            return;
        }
    }
}

static void write_waiting(struct line_output *out, const char *p, size_t n)
{
    while (n && !atomic_load(&out->broken)) {
        await_room(out);
        if (atomic_load(&out->broken))
            return;
        ssize_t k = write(out->fd, p, n < PIPE_BUF ? n : PIPE_BUF);
        if (k < 0 && errno != EINTR && errno != EAGAIN)
            fail_output(out, errno);
        if (k > 0) {
            p += k;
            n -= (size_t)k;
        }
    }
}

static void write_line(struct line_output *out, const char *json)
{
    pthread_mutex_lock(&out->lock);
    write_waiting(out, json, strlen(json));
    write_waiting(out, "\n", 1);
    pthread_mutex_unlock(&out->lock);
}

static void on_event(void *user, const char *json)
{
    write_line(user, json);
}

/* Reports a failure outside the engine. */
static void write_failure(struct line_output *out, const struct message_ids *ids,
                          const struct dr_error *error)
{
    struct buf line;
    json_t *event = message_failure(ids, error);
    buf_init(&line, DR_TAG_BASE, 0);
    if (event && !jx_dump(event, &line))
        write_line(out, line.data);
    json_decref(event);
    buf_free(&line);
}

/* Reports in the protocol, which the host reads, that the engine could not be opened. */
static void report_failure(struct line_output *out, int code, const char *text)
{
    struct message_ids ids = { "", "" };
    struct dr_error error;
    dr_fail(&error, code, "%s", text);
    write_failure(out, &ids, &error);
    dr_log_line(DR_LOG_ERROR, "worker", "%s", text);
}

/* Whether nobody reads the output any more: a pipe whose reading end is closed says so. */
static bool host_gone(struct line_output *out)
{
    struct pollfd p = { .fd = out->fd };
    if (poll(&p, 1, 0) > 0 && (p.revents & (POLLERR | POLLHUP | POLLNVAL)))
        fail_output(out, EPIPE);
    return atomic_load(&out->broken) != 0;
}

struct input {
    struct line_reader reader;
    bool open;
    bool failed; /* a read error, not the end of input */
};

/* Reads a line and has it answered. False: there was none. */
static bool read_message(struct darkroom *engine, struct line_output *out, struct input *in,
                         int timeout_ms)
{
    struct dr_error error = { 0 };
    const char *line;
    size_t n;
    int r = line_read(&in->reader, timeout_ms, &line, &n, &error);
    if (r == 1) {
        (void)darkroom_submit_bytes(engine, line, n);
        return true;
    }
    if (line) { /* too long: what was kept of it may hold its id */
        struct message_ids ids;
        id_scan(line, n, &ids);
        write_failure(out, &ids, &error);
        return true;
    }
    if (r == DR_ENOMEM) { /* out of memory even for a first byte: try again later */
        nanosleep(&(struct timespec){ .tv_nsec = POLL_MS * 1000000L }, NULL);
    } else if (r != DR_ESTATE) {
        in->open = false;
        in->failed = r < 0;
    }
    if (in->failed)
        dr_log_line(DR_LOG_ERROR, "worker", "cannot read requests: %s", error.text);
    return false;
}

/* At the end: lines that are still in the pipe or partly read are answered as well. */
static void answer_rest(struct darkroom *engine, struct line_output *out, struct input *in)
{
    double until = dr_now() + REST_SECONDS;
    const char *line;
    size_t n;
    while (in->open && dr_now() < until && read_message(engine, out, in, 0)) {}
    if (in->open && line_rest(&in->reader, &line, &n))
        (void)darkroom_submit_bytes(engine, line, n);
}

/* Acts on a new signal, once. */
static void follow_signals(struct darkroom *engine, enum signals_wish *done)
{
    enum signals_wish wish = signals_wish();
    if (wish <= *done)
        return;
    dr_log_line(DR_LOG_INFO, "worker", "%s: %s", signals_name(),
                wish == SIGNALS_FINISH ? "finishing the running job"
                                       : "cancelling the running job");
    darkroom_stop(engine, wish == SIGNALS_CANCEL);
    *done = wish;
}

/* Until the input ends, the host is gone, or a signal or shutdown message has been handled. */
static void serve(struct darkroom *engine, struct line_output *out, struct input *in)
{
    enum signals_wish followed = SIGNALS_NONE;
    while (!host_gone(out)) {
        follow_signals(engine, &followed);
        bool ending = followed || !in->open || darkroom_shutting_down(engine);
        if (ending && darkroom_wait(engine, in->open ? 0 : POLL_MS)) {
            answer_rest(engine, out, in);
            return;
        }
        if (in->open)
            (void)read_message(engine, out, in, POLL_MS);
    }
}

static int end_status(const struct line_output *out, const struct input *in)
{
    int broken = atomic_load(&out->broken);
    if (broken && broken != EPIPE)
        dr_log_line(DR_LOG_ERROR, "worker", "cannot write answers: %s", strerror(broken));
    else
        dr_log_line(DR_LOG_INFO, "worker", broken ? "ended: nobody reads the answers" : "ended");
    return (broken && broken != EPIPE) || in->failed;
}

int ml_worker_direct(const char *options, double grace)
{
    struct line_output out = { .fd = dup(1), .lock = PTHREAD_MUTEX_INITIALIZER };
    struct input in = { .open = true };
    struct darkroom *engine;
    char error[512];
    signals_grace(grace);
    if (out.fd < 0 || dup2(2, 1) < 0)
        return 1;
    int r = darkroom_open(options, on_event, &out, &engine, error, sizeof error);
    if (r < 0) {
        report_failure(&out, r, error);
        close(out.fd);
        return 1;
    }
    line_reader_init(&in.reader, 0, MESSAGE_LINE_BYTES);
    serve(engine, &out, &in);
    line_reader_free(&in.reader);
    darkroom_close(engine);
    int status = end_status(&out, &in);
    close(out.fd);
    return status;
}
