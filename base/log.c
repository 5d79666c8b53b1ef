/* log.c - see log.h. A line is made in a local buffer and written by one write(2): no lock but a
 * sink's, no allocation. */
#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

enum { UNSET = -1, TEXT_MAX = 1024, LINE_MAX_BYTES = 6 * TEXT_MAX + 256 };

static const char *const names[] = {
    [DR_LOG_OFF] = "off",   [DR_LOG_ERROR] = "error", [DR_LOG_WARN] = "warn",
    [DR_LOG_INFO] = "info", [DR_LOG_DEBUG] = "debug",
};

static atomic_int current_level = UNSET;
static atomic_bool as_json;
static atomic_int target = STDERR_FILENO;

static pthread_mutex_t sink_lock = PTHREAD_MUTEX_INITIALIZER; /* held during a call of it */
static dr_log_fn sink;                                        /* under the lock */
static void *sink_user;
static atomic_bool has_sink;

int dr_log_level_of(const char *name)
{
    for (int i = 0; i <= DR_LOG_DEBUG; i++) {
        if (!strcasecmp(name, names[i]))
            return i;
    }
    return -1;
}

bool dr_log_on(enum dr_log_level level)
{
    int now = atomic_load_explicit(&current_level, memory_order_relaxed);
    if (now == UNSET) {
        const char *name = getenv("DARKROOM_LOG");
        int asked = name ? dr_log_level_of(name) : -1;
        int unset = UNSET;
        atomic_compare_exchange_strong(&current_level, &unset, asked < 0 ? DR_LOG_WARN : asked);
        now = atomic_load(&current_level);
    }
    return level != DR_LOG_OFF && (int)level <= now;
}

void dr_log_set_level(enum dr_log_level level)
{
    atomic_store(&current_level, (int)level);
}

void dr_log_json(bool on)
{
    atomic_store(&as_json, on);
}

void dr_log_to(int fd)
{
    atomic_store(&target, fd);
}

void dr_log_sink(dr_log_fn fn, void *user)
{
    pthread_mutex_lock(&sink_lock);
    sink = fn;
    sink_user = user;
    atomic_store(&has_sink, fn != NULL);
    pthread_mutex_unlock(&sink_lock);
}

/* Copies text with control characters, and for JSON quotes and backslashes, escaped. dst has room
 * for 6 bytes per byte of text. Returns the bytes written. */
static size_t escape(char *dst, const char *text, bool json)
{
    size_t n = 0;
    for (const unsigned char *s = (const unsigned char *)text; *s; s++) {
        if (*s == '\n' || *s == '\t') {
            dst[n++] = '\\';
            dst[n++] = *s == '\n' ? 'n' : 't';
        } else if (*s < 0x20 || *s == 0x7f) {
            n += (size_t)snprintf(dst + n, 7, json ? "\\u%04x" : "\\x%02x", *s);
        } else if (json && (*s == '"' || *s == '\\')) {
            dst[n++] = '\\';
            dst[n++] = (char)*s;
        } else {
            dst[n++] = (char)*s;
        }
    }
    return n;
}

static size_t head_text(char *line, size_t size, enum dr_log_level level, const char *component)
{
    time_t now = time(NULL);
    struct tm tm;
    memset(&tm, 0, sizeof tm);
    localtime_r(&now, &tm);
    return (size_t)snprintf(line, size, "%02d:%02d:%02d %s %.32s: ", tm.tm_hour, tm.tm_min,
                            tm.tm_sec, names[level], component);
}

static size_t head_json(char *line, size_t size, enum dr_log_level level, const char *component)
{
    char when[32];
    dr_timestamp(when, sizeof when);
    return (size_t)snprintf(line, size,
                            "{\"time\":\"%s\",\"level\":\"%s\",\"component\":\"%.32s\",\"text\":\"",
                            when, names[level], component);
}

static bool to_sink(enum dr_log_level level, const char *component, const char *text, char *line)
{
    if (!atomic_load(&has_sink))
        return false;
    line[escape(line, text, false)] = '\0';
    pthread_mutex_lock(&sink_lock);
    bool taken = sink != NULL;
    if (taken)
        sink(sink_user, level, component, line);
    pthread_mutex_unlock(&sink_lock);
    return taken;
}

void dr_log_line(enum dr_log_level level, const char *component, const char *fmt, ...)
{
    int fd = atomic_load(&target);
    if ((fd < 0 && !atomic_load(&has_sink)) || !dr_log_on(level))
        return;
    char text[TEXT_MAX], line[LINE_MAX_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (to_sink(level, component, text, line) || fd < 0)
        return;
    bool json = atomic_load(&as_json);
    size_t n = json ? head_json(line, 256, level, component)
                    : head_text(line, 256, level, component);
    n += escape(line + n, text, json);
    if (json) {
        line[n++] = '"';
        line[n++] = '}';
    }
    line[n++] = '\n';
    ssize_t written = write(fd, line, n);
    (void)written; /* a log that cannot be written is nobody's error */
}
