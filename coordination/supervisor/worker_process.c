/* worker_process.c - see worker_process.h. */
#include "coordination/supervisor/worker_process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "core/communication/message.h"

enum { ARGUMENTS = 160, READY_MS = 60000, POLITE_MS = 2000, TICK_US = 5000 };

int worker_program(char *dst, size_t n, struct dr_error *err)
{
    char folder[DR_PATH_MAX];
    const char *named = getenv("DARKROOM_WORKER");
    if (named && *named) {
        snprintf(dst, n, "%s", named);
        return 0;
    }
    int r = dr_binary_dir(folder, sizeof folder, err);
    if (!r && dr_path_join(dst, n, folder, "darkroom-worker") < 0)
        r = dr_fail(err, DR_ELIMIT, "the path of darkroom-worker is too long");
    if (!r && access(dst, X_OK))
        r = dr_fail_errno(err, dst, "run");
    return r;
}

/* Both pipes, closed on exec on our side; the child's ends are given to it as 0 and 1. */
static int make_pipes(int to[2], int from[2], struct dr_error *err)
{
    if (pipe2(to, O_CLOEXEC))
        return dr_fail_errno(err, "worker", "make a pipe");
    if (!pipe2(from, O_CLOEXEC))
        return 0;
    int r = dr_fail_errno(err, "worker", "make a pipe");
    close(to[0]);
    close(to[1]);
    return r;
}

static int spawn(const char *program, char *const *argv, int in, int out, pid_t *ret_pid)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t how;
    sigset_t none, defaults;
    sigemptyset(&none);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    sigaddset(&defaults, SIGINT);
    sigaddset(&defaults, SIGTERM);
    sigaddset(&defaults, SIGXFSZ);
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&how);
    posix_spawn_file_actions_adddup2(&files, in, 0);
    posix_spawn_file_actions_adddup2(&files, out, 1);
    posix_spawnattr_setflags(&how, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                       POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setpgroup(&how, 0);
    posix_spawnattr_setsigmask(&how, &none);
    posix_spawnattr_setsigdefault(&how, &defaults);
    int r = posix_spawn(ret_pid, program, &files, &how, argv, environ);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&how);
    return r;
}

static int fill_arguments(const struct worker_options *o, const char *program, const char **argv,
                          struct dr_error *err)
{
    int n = 0;
    if (2 * o->n_roots + 12 > ARGUMENTS)
        return dr_fail(err, DR_ELIMIT, "too many roots: %d", o->n_roots);
    argv[n++] = program;
    for (int i = 0; i < o->n_roots; i++) {
        argv[n++] = "--root";
        argv[n++] = o->roots[i];
    }
    if (o->threads) {
        argv[n++] = "--threads";
        argv[n++] = o->threads;
    }
    if (o->kernels) {
        argv[n++] = "--kernels";
        argv[n++] = o->kernels;
    }
    if (o->cache) {
        argv[n++] = "--cache";
        argv[n++] = o->cache;
    }
    if (o->cache_limit) {
        argv[n++] = "--cache-limit";
        argv[n++] = o->cache_limit;
    }
    argv[n] = NULL;
    return 0;
}

static int start_child(struct worker_process *w, const struct worker_options *o,
                       struct dr_error *err)
{
    char program[DR_PATH_MAX];
    const char *argv[ARGUMENTS];
    int to[2], from[2];
    int r = worker_program(program, sizeof program, err);
    if (!r)
        r = fill_arguments(o, program, argv, err);
    if (!r)
        r = make_pipes(to, from, err);
    if (r < 0)
        return r;
    int failed = spawn(program, (char *const *)argv, to[0], from[1], &w->pid);
    close(to[0]);
    close(from[1]);
    w->in = to[1];
    w->out = from[0];
    if (failed) {
        errno = failed;
        w->pid = 0;
        return dr_fail_errno(err, program, "start");
    }
    return 0;
}

int worker_start(struct worker_process *w, const struct worker_options *options, json_t **ret_ready,
                 struct dr_error *err)
{
    json_t *ready = NULL;
    memset(w, 0, sizeof *w);
    w->in = w->out = -1;
    jx_init();
    int r = start_child(w, options, err);
    line_reader_init(&w->reader, w->out, MESSAGE_LINE_BYTES * (size_t)8);
    line_writer_init(&w->writer, w->in);
    if (!r)
        r = worker_receive(w, READY_MS, &ready, err);
    if (!r) {
        json_t *data;
        r = message_answer(ready, &data, err);
    }
    if (!r && json_integer_value(json_object_get(ready, "protocol")) != MESSAGE_PROTOCOL)
        r = dr_fail(err, DR_EPROTO, "the worker speaks protocol %lld, expected %d",
                    (long long)json_integer_value(json_object_get(ready, "protocol")),
                    MESSAGE_PROTOCOL);
    if (r < 0)
        worker_stop(w);
    if (r < 0 || !ret_ready)
        json_decref(ready);
    else
        *ret_ready = ready;
    return r;
}

int worker_send(struct worker_process *w, json_t *message, struct dr_error *err)
{
    int r = message ? line_write(&w->writer, message, err)
                    : dr_fail(err, DR_ENOMEM, "out of memory for a message");
    json_decref(message);
    return r;
}

/* How it ended, as text; it is known to have closed its end. */
static int fail_gone(struct worker_process *w, struct dr_error *err)
{
    int status = 0;
    double deadline = dr_now() + 1;
    pid_t got = 0;
    while (w->pid && !(got = waitpid(w->pid, &status, WNOHANG)) && dr_now() < deadline)
        usleep(TICK_US);
    if (got == w->pid && w->pid) {
        w->pid = 0;
        if (WIFSIGNALED(status))
            return dr_fail(err, DR_EIO, "the worker was ended by signal %d (%s)%s",
                           WTERMSIG(status), strsignal(WTERMSIG(status)),
                           WTERMSIG(status) == SIGKILL
                               ? "; often the system ran out of memory (see darkroom plan)"
                               : "");
        return dr_fail(err, DR_EIO, "the worker ended with status %d", WEXITSTATUS(status));
    }
    return dr_fail(err, DR_EIO, "the worker closed its output");
}

int worker_receive(struct worker_process *w, int timeout_ms, json_t **ret_event,
                   struct dr_error *err)
{
    static const struct jx_limits limits = { .bytes = MESSAGE_LINE_BYTES * (size_t)8, .depth = 32 };
    const char *line;
    size_t n;
    int r = line_read(&w->reader, timeout_ms, &line, &n, err);
    if (r == 0)
        return fail_gone(w, err);
    return r < 0 ? r : jx_parse(line, n, &limits, "the worker's message", ret_event, err);
}

static void close_ends(struct worker_process *w)
{
    if (w->in >= 0)
        close(w->in);
    w->in = -1;
}

static void release(struct worker_process *w)
{
    close_ends(w);
    if (w->out >= 0)
        close(w->out);
    line_reader_free(&w->reader);
    line_writer_free(&w->writer);
    memset(w, 0, sizeof *w);
    w->in = w->out = -1;
}

void worker_kill(struct worker_process *w)
{
    if (w->pid > 0) {
        kill(-w->pid, SIGKILL);
        while (waitpid(w->pid, NULL, 0) < 0 && errno == EINTR) {}
        w->pid = 0;
    }
    release(w);
}

void worker_stop(struct worker_process *w)
{
    double deadline = dr_now() + POLITE_MS / 1e3;
    close_ends(w);
    while (w->pid > 0 && dr_now() < deadline) {
        pid_t got = waitpid(w->pid, NULL, WNOHANG);
        if (got == w->pid || (got < 0 && errno != EINTR))
            w->pid = 0;
        else
            usleep(TICK_US);
    }
    worker_kill(w);
}
