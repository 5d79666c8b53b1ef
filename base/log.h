/* log.h - levelled log on stderr, whole lines from any thread.
 *
 *     dr_log_line(DR_LOG_WARN, "loader", "%s: %d tensors were never used", path, n);
 *
 * gives "12:34:56 warn loader: unet.safetensors: 3 tensors were never used", or one JSON object a
 * line after dr_log_json(true). Control characters of the text are escaped, so that a line stays a
 * line. The level starts from the variable DARKROOM_LOG (error, warn, info, debug, off), else warn.
 */
#ifndef DR_BASE_LOG_H
#define DR_BASE_LOG_H

#include <stdbool.h>

#include "base/error.h"

enum dr_log_level {
    DR_LOG_OFF,
    DR_LOG_ERROR,
    DR_LOG_WARN,
    DR_LOG_INFO,
    DR_LOG_DEBUG,
};

void dr_log_line(enum dr_log_level level, const char *component, const char *fmt, ...)
    DR_PRINTF(3, 4);

/* True when a line of this level would be written: spares the work of making its arguments. */
bool dr_log_on(enum dr_log_level level);

void dr_log_set_level(enum dr_log_level level);
void dr_log_json(bool on);
void dr_log_to(int fd); /* 2 at the start; -1 discards */

/* Lines go to `fn` instead, escaped, one call at a time; NULL ends that. When it returns, the
 * function that was set before is no longer running. `fn` must not log. */
typedef void (*dr_log_fn)(void *user, enum dr_log_level level, const char *component,
                          const char *text);
void dr_log_sink(dr_log_fn fn, void *user);

/* The level of a name; -1 when there is none such. */
int dr_log_level_of(const char *name);

#endif
