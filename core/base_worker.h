/* base_worker.h - the part of every worker that does not depend on its work: messages, queue,
 * answers, cancelling.
 *
 * One engine thread runs queued jobs in the order they came; messages that can be answered at once
 * are answered by the thread that submits them, while a job runs. Each message gets exactly one
 * answer. cancel, health, status and shutdown are handled here; all other verbs by the handlers of
 * the worker's owner (coordination).
 *
 * Threads: submit, cancel, drain from any thread. `emit` is called by one thread at a time. Lock
 * order: queue lock, never held while a handler or emit runs.
 */
#ifndef DR_CORE_BASE_WORKER_H
#define DR_CORE_BASE_WORKER_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/log.h"
#include "core/communication/message.h"

struct base_worker;

/* A job as its handler sees it. */
struct worker_job {
    enum verb verb;
    const struct message_ids *ids;
    json_t *data;           /* borrowed */
    const atomic_int *stop; /* nonzero: end soon with DR_ECANCELED */
    struct base_worker *worker;
    struct dr_log_fields log; /* fields that the handler adds to the log line of its end */
};

/* Returns 0 and a new object for the answer's data, or a negative code with err filled. */
typedef int (*worker_handler)(void *ctx, struct worker_job *job, json_t **ret_data,
                              struct dr_error *err);

struct worker_config {
    worker_handler handler[VERB_COUNT]; /* NULL: UNSUPPORTED; NOW ones may run beside a job */
    void *ctx;
    int queue; /* most jobs waiting; 0: 64 */
    /* One event; takes no ownership; calls never overlap. */
    void (*emit)(void *user, const json_t *event);
    void *user;
    /* Adds to the answer of `health` (borrowed object); may be NULL. */
    int (*health)(void *ctx, json_t *data);
};

int base_worker_new(const struct worker_config *config, struct base_worker **ret,
                    struct dr_error *err);
/* Cancels and waits for what is left. */
void base_worker_free(struct base_worker *w);

/* 0 when taken; negative when refused, in which case the failure has been emitted. */
int base_worker_submit(struct base_worker *w, const char *line, size_t n);
bool base_worker_cancel(struct base_worker *w, const char *id);
/* Takes no more jobs, cancels and answers those that wait, and with `running` cancels the one that
 * runs. */
void base_worker_stop(struct base_worker *w, bool running);
void base_worker_drain(struct base_worker *w);
/* The same for timeout_ms at most; whether nothing is left. */
bool base_worker_wait(struct base_worker *w, int timeout_ms);
bool base_worker_shutting_down(const struct base_worker *w);

/* For handlers: a progress event of the running job. `stream` decides whether it is emitted; status
 * always learns of it. `data` (taken over; may be NULL when stream is false) gets step,
 * total_steps, percentage. */
void worker_progress(struct worker_job *job, int step, int total, bool stream, json_t *data);

/* For the owner: an event that answers nothing (the ready line). Takes over the value; NULL:
 * DR_ENOMEM. */
int base_worker_emit(struct base_worker *w, json_t *event);

#endif
