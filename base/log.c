/* log.c - see log.h. A line is made in a local buffer and written by one write(2): no lock but a
 * sink's, no allocation. */
#include "base/log.h"

#include <inttypes.h>
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
#include "base/utf8.h"

enum {
    UNSET = -1,
    TEXT_MAX = 1024,
    ID_MAX = 256,
    VALUE_MAX = 512,
    LINE_MAX_BYTES = UTF8_SHOWN_MOST * (TEXT_MAX + ID_MAX) + sizeof(struct dr_log_fields) + 256
};

static const char *const names[] = {
    [DR_LOG_OFF] = "off",   [DR_LOG_ERROR] = "error", [DR_LOG_WARN] = "warn",
    [DR_LOG_INFO] = "info", [DR_LOG_DEBUG] = "debug",
};

static atomic_int current_level = UNSET;
static atomic_bool as_json;
static _Thread_local char job[ID_MAX];

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
        bool mine = atomic_compare_exchange_strong(&current_level, &unset,
                                                   asked < 0 ? DR_LOG_WARN : asked);
        now = atomic_load(&current_level);
        if (mine && name && *name && asked < 0)
            dr_log_line(DR_LOG_WARN, "log",
                        "DARKROOM_LOG: got %.80s, expected off, error, warn, info or debug; using "
                        "warn",
                        name);
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

void dr_log_sink(dr_log_fn fn, void *user)
{
    pthread_mutex_lock(&sink_lock);
    sink = fn;
    sink_user = user;
    atomic_store(&has_sink, fn != NULL);
    pthread_mutex_unlock(&sink_lock);
}

static void add(struct dr_log_fields *f, const char *name, const char *value, size_t n)
{
    bool json = atomic_load(&as_json);
    size_t room = sizeof f->bytes - f->n;
    if (strlen(name) + n + 5 > room)
        return;
    f->n += (size_t)snprintf(f->bytes + f->n, room, json ? ",\"%s\":" : " %s=", name);
    memcpy(f->bytes + f->n, value, n);
    f->n += n;
}

/* Quoted in JSON, and in a text line where a reader could not see where it ends. */
static size_t quote(char *dst, const char *value)
{
    bool json = atomic_load(&as_json), quoted = json || !*value || strpbrk(value, " \"=");
    size_t n = 0;
    if (quoted)
        dst[n++] = '"';
    n += utf8_show(value, strlen(value), quoted ? UTF8_STRING : UTF8_LINE, dst + n);
    if (quoted)
        dst[n++] = '"';
    return n;
}

void dr_log_text(struct dr_log_fields *f, const char *name, const char *value)
{
    char cut[VALUE_MAX], shown[UTF8_SHOWN_MOST * VALUE_MAX + 3];
    snprintf(cut, sizeof cut, "%s", value);
    add(f, name, shown, quote(shown, cut));
}

void dr_log_int(struct dr_log_fields *f, const char *name, int64_t value)
{
    char text[24];
    add(f, name, text, (size_t)snprintf(text, sizeof text, "%" PRId64, value));
}

void dr_log_real(struct dr_log_fields *f, const char *name, double value)
{
    char text[400];
    add(f, name, text, (size_t)snprintf(text, sizeof text, "%.3f", value));
}

void dr_log_job(const char *id)
{
    snprintf(job, sizeof job, "%s", id);
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

/* The job's id and the fields; how many bytes. */
static size_t put_facts(const struct dr_log_fields *f, bool json, char *line)
{
    size_t n = 0;
    if (*job) {
        n += (size_t)snprintf(line, 8, json ? ",\"id\":" : " id=");
        n += quote(line + n, job);
    }
    if (f) {
        memcpy(line + n, f->bytes, f->n);
        n += f->n;
    }
    return n;
}

/* The whole line without time, level and component; `line` is its memory. */
static bool to_sink(enum dr_log_level level, const char *component, const char *text,
                    const struct dr_log_fields *f, char *line)
{
    if (!atomic_load(&has_sink))
        return false;
    size_t n = utf8_show(text, strlen(text), UTF8_LINE, line);
    n += put_facts(f, false, line + n);
    line[n] = '\0';
    pthread_mutex_lock(&sink_lock);
    bool taken = sink != NULL;
    if (taken)
        sink(sink_user, level, component, line);
    pthread_mutex_unlock(&sink_lock);
    return taken;
}

static void log_line(enum dr_log_level level, const char *component, const struct dr_log_fields *f,
                     const char *fmt, va_list ap)
{
    char text[TEXT_MAX], line[LINE_MAX_BYTES];
    vsnprintf(text, sizeof text, fmt, ap);
    if (to_sink(level, component, text, f, line))
        return;
    bool json = atomic_load(&as_json);
    size_t n = json ? head_json(line, 256, level, component)
                    : head_text(line, 256, level, component);
    n += utf8_show(text, strlen(text), json ? UTF8_STRING : UTF8_LINE, line + n);
    if (json)
        line[n++] = '"';
    n += put_facts(f, json, line + n);
    if (json)
        line[n++] = '}';
    line[n++] = '\n';
    ssize_t written = write(STDERR_FILENO, line, n);
    (void)written; /* a log that cannot be written is not reported */
}

void dr_log_line(enum dr_log_level level, const char *component, const char *fmt, ...)
{
    if (!dr_log_on(level))
        return;
    va_list ap;
    va_start(ap, fmt);
    log_line(level, component, NULL, fmt, ap);
    va_end(ap);
}

void dr_log_event(enum dr_log_level level, const char *component, const struct dr_log_fields *f,
                  const char *fmt, ...)
{
    if (!dr_log_on(level))
        return;
    va_list ap;
    va_start(ap, fmt);
    log_line(level, component, f, fmt, ap);
    va_end(ap);
}
