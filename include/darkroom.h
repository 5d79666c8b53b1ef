/* darkroom.h - libdarkroom: the engine as a library. C99.
 *
 * An engine answers the messages of the worker protocol (docs/api_documentation.md): one JSON
 * object in, events out. The worker program is this header and a loop over stdin; a host that wants
 * no second process uses it directly.
 *
 *     static void on_event(void *user, const char *json) { puts(json); }
 *
 *     struct darkroom *engine;
 *     char error[512];
 *     if (darkroom_open("{\"threads\": 0}", on_event, NULL, &engine, error, sizeof error) < 0)
 *         die(error);
 *     darkroom_submit(engine, "{\"type\": \"generate\", \"request_id\": \"a\", \"data\":"
 *                             " {\"prompt\": \"a red circle\", \"save_path\": \"/tmp\"}}");
 *     darkroom_drain(engine); // wait for what was submitted
 *     darkroom_close(engine);
 *
 * Every submitted message gets exactly one answer with its request_id, after any number of progress
 * events. Jobs run one after another on the engine's own thread; health, status, capabilities and
 * cancel are answered at once, before darkroom_submit returns. All functions may be called from any
 * thread, but not from inside the event function (except darkroom_cancel).
 */
#ifndef DARKROOM_H
#define DARKROOM_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DARKROOM_API __attribute__((visibility("default")))

struct darkroom;

/* One event, a JSON object without newline, valid during the call. Calls never overlap. */
typedef void (*darkroom_event_fn)(void *user, const char *json);

/* `options` is a JSON object or NULL:
 *   "threads"       0: all cores this process may use
 *   "kernels"       name of a kernel set; default "auto"
 *   "roots"         folders in which save_path, dump_stages and load_stage files must lie; none: no
 *                   files are read or written for requests
 *   "models"        folders in which models must lie; none: anywhere
 *   "queue"         most jobs waiting; default 64
 *   "memory_limit"  bytes a job may be planned to use; 0: three quarters of what is free
 *   "cache"         folder in which packed weights are kept; default weights/ in the user's cache
 *                   folder
 *   "cache_limit"   bytes that they may take there, and half of what is free at most; default 32
 *                   GiB; 0: none are kept
 * The first event is `ready`. Returns 0, or a negative code and one line of text in `error`. */
DARKROOM_API int darkroom_open(const char *options, darkroom_event_fn on_event, void *user,
                               struct darkroom **ret_engine, char *error, size_t error_size);

/* A message of the protocol, UTF-8 JSON. Bad messages are answered too (an event with "success":
 * false). Returns 0 when taken, negative when it was refused (its answer has been sent). */
DARKROOM_API int darkroom_submit(struct darkroom *engine, const char *message);
DARKROOM_API int darkroom_submit_bytes(struct darkroom *engine, const char *message, size_t n);

/* Stops the job of that request_id, running or waiting; its answer is a CANCELED failure. 1: found,
 * 0: not. */
DARKROOM_API int darkroom_cancel(struct darkroom *engine, const char *request_id);

/* Takes no more jobs (they are refused with BAD_STATE) and cancels those that wait, each with its
 * answer; running not 0: also the one that runs. Other messages are still answered. */
DARKROOM_API void darkroom_stop(struct darkroom *engine, int running);

/* Waits until nothing is running or waiting. */
DARKROOM_API void darkroom_drain(struct darkroom *engine);

/* The same for timeout_ms at most. 1: nothing is left, 0: time is up. */
DARKROOM_API int darkroom_wait(struct darkroom *engine, int timeout_ms);

/* 1 after a shutdown message: take no more input, drain, close. */
DARKROOM_API int darkroom_shutting_down(const struct darkroom *engine);

/* Cancels what is left, waits for it, frees everything. NULL is allowed. */
DARKROOM_API void darkroom_close(struct darkroom *engine);

DARKROOM_API const char *darkroom_version(void);

#ifdef __cplusplus
}
#endif

#endif
