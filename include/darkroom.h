/* darkroom.h - libdarkroom: the engine as a library. C99, usable from C++.
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
 * cancel are answered at once, before darkroom_submit returns. Functions may be called from any
 * thread, but not from inside a callback (except darkroom_cancel from the event and the image
 * callback).
 *
 * Stability. Four things have versions:
 *   - the source interface, DARKROOM_VERSION_*: MAJOR grows when a host must be changed (while it
 *     is 0, MINOR does), MINOR when something is added, PATCH when neither;
 *   - the binary interface, libdarkroom.so.N with symbols of version DARKROOM_N: within one N
 *     functions are added, none is removed or changed, and enumerators keep their values. Another
 *     N is another file, and both can be installed;
 *   - the protocol, the number `protocol` of the ready event: within one number members and
 *     verbs are added and defaults kept; hosts ignore members that they do not know. It is 1;
 *   - the pictures: `layout` of a receipt. Equal layouts give equal bits.
 */
#ifndef DARKROOM_H
#define DARKROOM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DARKROOM_VERSION_MAJOR 0
#define DARKROOM_VERSION_MINOR 1
#define DARKROOM_VERSION_PATCH 0

/* For #if: 102 is 0.1.2, 10203 is 1.2.3. */
#define DARKROOM_VERSION_NUMBER                                                                    \
    (DARKROOM_VERSION_MAJOR * 10000 + DARKROOM_VERSION_MINOR * 100 + DARKROOM_VERSION_PATCH)

#define DARKROOM_API __attribute__((visibility("default")))

/* What functions return when they fail; darkroom_code_name gives the `error_code` of answers. */
enum darkroom_code {
    DARKROOM_OK = 0,
    DARKROOM_EINVAL = -1,       /* INVALID_VALUE: a value is not valid */
    DARKROOM_ENOMEM = -2,       /* OUT_OF_MEMORY: not enough memory */
    DARKROOM_EIO = -3,          /* IO_ERROR: the operating system reported an error */
    DARKROOM_ENOENT = -4,       /* NOT_FOUND: no such file, name or id */
    DARKROOM_EFORMAT = -5,      /* BAD_FORMAT: a file does not conform to its format */
    DARKROOM_EUNSUPPORTED = -6, /* UNSUPPORTED: valid, but not supported by this build */
    DARKROOM_ECANCELED = -7,    /* CANCELED: stopped by request */
    DARKROOM_ELIMIT = -8,       /* LIMIT_EXCEEDED: a stated limit is exceeded */
    DARKROOM_EPROTO = -9,       /* PROTOCOL_ERROR: a message breaks the worker protocol */
    DARKROOM_ESTATE = -10,      /* BAD_STATE: not possible in the present state */
    DARKROOM_EINTERNAL = -11    /* INTERNAL_ERROR: a bug in Darkroom */
};

struct darkroom;

/* One event, a JSON object without newline, valid during the call. Calls never overlap. */
typedef void (*darkroom_event_fn)(void *user, const char *json);

/* `options` is a JSON object or NULL:
 *   "threads"       0: all cores this process may use
 *   "kernels"       name of a kernel set; default "auto"
 *   "roots"         folders in which save_path, dump_stages and load_stage files must be; none: no
 *                   files are read or written for requests
 *   "models"        folders in which models must be; none: anywhere
 *   "queue"         most jobs waiting; default 64
 *   "memory_limit"  bytes a job may be planned to use, at most what control groups and resource
 *                   limits leave; 0: three quarters of what the machine and they leave
 *   "cache"         folder of cached packed weights; default weights/ in the user's cache
 *                   folder
 *   "cache_limit"   bytes that they may take there, at most half of what is free; default 32
 *                   GiB; 0: no cache
 *   "share"         folder of the data that Darkroom ships: share/darkroom of an installation. One
 *                   for all engines of a process. Default: the environment variable DARKROOM_SHARE,
 *                   else share/darkroom beside the folder of libdarkroom.so (of the program, when
 *                   linked statically), else of the prefix that Darkroom was built for
 * The first event is `ready`. Returns 0, or a negative code and one line of text in `error`. */
DARKROOM_API int darkroom_open(const char *options, darkroom_event_fn on_event, void *user,
                               struct darkroom **ret_engine, char *error, size_t error_size);

/* A finished picture: `height` rows of `width` pixels of `channels` bytes (3: red, green, blue, as
 * in the PNG file), a row every `stride` bytes. The pixels and the id belong to the engine and are
 * valid during the call. Returns 0; anything else cancels the job. */
typedef int (*darkroom_image_fn)(void *user, const char *request_id, int index, int width,
                                 int height, size_t stride, int channels, const uint8_t *pixels);

/* Has pictures delivered to `on_image` (NULL: no more) instead of as base64: those of requests
 * with neither save_path nor return_base64. It is called on the engine's thread, once a picture in
 * the order of their indices, after the request's progress events and before its answer, which has
 * "encoding": "callback" and the indices as "images". Takes no memory of its own. If the answer is
 * a failure (cancelled, out of memory), discard pictures that were delivered before it; none
 * comes after the answer. A change applies to requests that start after it. */
DARKROOM_API void darkroom_set_image_callback(struct darkroom *engine, darkroom_image_fn on_image,
                                              void *user);

/* A message of the protocol, UTF-8 JSON. Bad messages are answered too (an event with "success":
 * false). Returns 0 when taken, negative when it was refused (its answer has been sent). */
DARKROOM_API int darkroom_submit(struct darkroom *engine, const char *message);
DARKROOM_API int darkroom_submit_bytes(struct darkroom *engine, const char *message, size_t n);

/* Stops the job of that request_id, running or waiting; its answer is a CANCELED failure. 1: found,
 * 0: not. */
DARKROOM_API int darkroom_cancel(struct darkroom *engine, const char *request_id);

/* Takes no more jobs (they are refused with BAD_STATE) and cancels those that wait, each with its
 * answer; if running is not 0, also the running one. Other messages are still answered. */
DARKROOM_API void darkroom_stop(struct darkroom *engine, int running);

/* Waits until nothing is running or waiting. */
DARKROOM_API void darkroom_drain(struct darkroom *engine);

/* The same for timeout_ms at most. 1: nothing is left, 0: time is up. */
DARKROOM_API int darkroom_wait(struct darkroom *engine, int timeout_ms);

/* 1 after a shutdown message: take no more input, drain, close. */
DARKROOM_API int darkroom_shutting_down(const struct darkroom *engine);

/* Cancels what is left, waits for it, frees everything. NULL is allowed. */
DARKROOM_API void darkroom_close(struct darkroom *engine);

/* "0.1.0": the library's, which may be a later one than the header's. */
DARKROOM_API const char *darkroom_version(void);

/* "INVALID_VALUE" for DARKROOM_EINVAL and so on, "OK" for 0, "INTERNAL_ERROR" for unknown codes.
 * Never NULL. */
DARKROOM_API const char *darkroom_code_name(int code);

enum darkroom_log_level {
    DARKROOM_LOG_OFF = 0,
    DARKROOM_LOG_ERROR = 1,
    DARKROOM_LOG_WARN = 2,
    DARKROOM_LOG_INFO = 3,
    DARKROOM_LOG_DEBUG = 4
};

/* One line of the log, without newline, valid during the call; `component` is a word such as
 * "engine". Called from any thread, one call at a time. It must not call Darkroom. */
typedef void (*darkroom_log_fn)(void *user, enum darkroom_log_level level, const char *component,
                                const char *text);

/* Sends log lines up to `level` to `on_line`, of all engines of the process; NULL: to stderr, as at
 * the start. When it returns, the function that was set before is no longer running. May be called
 * before darkroom_open. */
DARKROOM_API void darkroom_set_log(enum darkroom_log_level level, darkroom_log_fn on_line,
                                   void *user);

#ifdef __cplusplus
}
#endif

#endif
