/* session.h - a worker for the time of one verb, and the person's Ctrl-C.
 *
 *     session_open(&s, &options, err);
 *     session_call(&s, VERB_generate, data, on_progress, ctx, &answer, err);
 *     session_close(&s);                                  also after a failure of either
 *
 * The first interrupt (SIGINT, SIGTERM, SIGHUP) cancels the running call and waits for its answer,
 * for less than two seconds; then, and at the second, the worker is killed. The call returns
 * DR_ECANCELED, unless it was already done, and session_close leaves nothing behind. Ctrl-Z
 * (SIGTSTP) stops the worker too. One session a process: signal handlers know no other way.
 */
#ifndef DR_CLI_SESSION_H
#define DR_CLI_SESSION_H

#include <stdbool.h>

#include "cli/private_folder.h"
#include "coordination/supervisor/worker_process.h"
#include "core/communication/message.h"
#include "core/communication/request.h"

struct session {
    struct worker_process worker;
    struct private_folder pictures, stages; /* removed by session_close */
    json_t *ready;                          /* the worker's first line; owned */
    int calls;
    bool follow; /* on_progress gets the events of an interrupted call too, and NULL about 20 times
                    a second while there are none */
};

/* Zero is a session without files. */
struct session_options {
    const char *pictures, *stages;   /* folders that get them; NULL: none. The worker writes into
                                      private ones for them */
    const struct request *request;   /* folders of its files become roots; NULL: none */
    const char *threads;             /* as text; NULL: all */
    const char *cache, *cache_limit; /* of packed weights, as text; NULL: the worker's own */
    const char *root;                /* a folder that the worker may write to; NULL: none */
};

int session_open(struct session *s, const struct session_options *options, struct dr_error *err);
void session_close(struct session *s);

typedef void (*session_event_fn)(void *ctx, const json_t *data);

/* Sends a request and waits for its answer; *ret_data is a new reference. `data` is taken over;
 * NULL: memory is short. on_progress may be NULL. */
int session_call(struct session *s, enum verb verb, json_t *data, session_event_fn on_progress,
                 void *ctx, json_t **ret_data, struct dr_error *err);

/* The same with any message (taken over) that has `id` as its request_id. */
int session_exchange(struct session *s, json_t *message, const char *id,
                     session_event_fn on_progress, void *ctx, json_t **ret_data,
                     struct dr_error *err);

/* A session around one call without files. */
int session_ask(const struct session_options *options, enum verb verb, json_t *data,
                json_t **ret_data, struct dr_error *err);

#endif
