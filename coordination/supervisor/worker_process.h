/* worker_process.h - a darkroom-worker as a child process: start, exchange lines, stop.
 *
 * It gets a process group of its own, so that a terminal's Ctrl-C reaches the parent only, which
 * then decides. Its stderr is the parent's.
 */
#ifndef DR_COORDINATION_SUPERVISOR_WORKER_PROCESS_H
#define DR_COORDINATION_SUPERVISOR_WORKER_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/json.h"
#include "core/communication/lines.h"

struct worker_process {
    pid_t pid;   /* 0: none */
    int in, out; /* our ends: its stdin, its stdout; -1: closed */
    struct line_reader reader;
    struct line_writer writer;
};

struct worker_options {
    const char *const *roots; /* folders for --root */
    int n_roots;
    const char *threads, *kernels;   /* as text; NULL: not given */
    const char *cache, *cache_limit; /* likewise */
};

/* Path of the worker program: $DARKROOM_WORKER, else darkroom-worker beside this binary. */
int worker_program(char *dst, size_t n, struct dr_error *err);

/* Starts it and waits for its ready line (borrowed until the next read; NULL to ignore it). */
int worker_start(struct worker_process *w, const struct worker_options *options, json_t **ret_ready,
                 struct dr_error *err);

int worker_send(struct worker_process *w, json_t *message,
                struct dr_error *err); /* takes it over */

/* The next event as a new reference. DR_ESTATE when timeout_ms pass without one, DR_EIO when the
 * worker is gone (says how it ended). */
int worker_receive(struct worker_process *w, int timeout_ms, json_t **ret_event,
                   struct dr_error *err);

/* Stops it: by end of input, then after two seconds by SIGKILL. Takes a zeroed or ended one. */
void worker_stop(struct worker_process *w);
void worker_kill(struct worker_process *w); /* SIGKILL at once */

#endif
