/* log.h - levelled log on stderr, whole lines from any thread.
 *
 *     dr_log_line(DR_LOG_WARN, "loader", "%s: %d tensors were never used", path, n);
 *
 * gives "12:34:56 warn loader: unet.safetensors: 3 tensors were never used", or one JSON object a
 * line after dr_log_json(true). Control characters of the text are escaped (utf8_show), so that a
 * line stays a line. The level starts from the variable DARKROOM_LOG (off, error, warn, info,
 * debug), else warn.
 *
 * Facts of a line are fields: " seconds=1.5" behind the text, or members of the JSON object.
 */
#ifndef DR_BASE_LOG_H
#define DR_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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

/* Facts for a line, in the order they are added. Starts zeroed; one that does not fit is left out.
 */
struct dr_log_fields {
    size_t n;
    char bytes[2048];
};

void dr_log_text(struct dr_log_fields *f, const char *name, const char *value);
void dr_log_int(struct dr_log_fields *f, const char *name, int64_t value);
void dr_log_real(struct dr_log_fields *f, const char *name, double value); /* to three places */

/* dr_log_line with fields; NULL: none. */
void dr_log_event(enum dr_log_level level, const char *component, const struct dr_log_fields *f,
                  const char *fmt, ...) DR_PRINTF(4, 5);

/* The job that this thread works on: lines of the thread carry it as the field `id`. "": none. */
void dr_log_job(const char *id);

/* True when a line of this level would be written: spares the work of making its arguments. */
bool dr_log_on(enum dr_log_level level);

void dr_log_set_level(enum dr_log_level level);
void dr_log_json(bool on);

/* Lines go to `fn` instead, escaped, one call at a time; NULL ends that. When it returns, the
 * function that was set before is no longer running. `fn` must not log. */
typedef void (*dr_log_fn)(void *user, enum dr_log_level level, const char *component,
                          const char *text);
void dr_log_sink(dr_log_fn fn, void *user);

/* The level of a name; -1 when there is none such. */
int dr_log_level_of(const char *name);

#endif
