/* log.c - see log.h. A line is made in a local buffer and written by one write(2): no lock, no
 * allocation. */
#include "base/log.h"

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

enum { UNSET = -1, TEXT_MAX = 1024, LINE_MAX_BYTES = UTF8_SHOWN_MOST * TEXT_MAX + 256 };

static const char *const names[] = {
    [DR_LOG_OFF] = "off",   [DR_LOG_ERROR] = "error", [DR_LOG_WARN] = "warn",
    [DR_LOG_INFO] = "info", [DR_LOG_DEBUG] = "debug",
};

static atomic_int current_level = UNSET;
static atomic_bool as_json;
static atomic_int target = STDERR_FILENO;

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

void dr_log_line(enum dr_log_level level, const char *component, const char *fmt, ...)
{
    int fd = atomic_load(&target);
    if (fd < 0 || !dr_log_on(level))
        return;
    char text[TEXT_MAX], line[LINE_MAX_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    bool json = atomic_load(&as_json);
    size_t n = json ? head_json(line, 256, level, component)
                    : head_text(line, 256, level, component);
    n += utf8_show(text, strlen(text), json ? UTF8_STRING : UTF8_LINE, line + n);
    if (json) {
        line[n++] = '"';
        line[n++] = '}';
    }
    line[n++] = '\n';
    ssize_t written = write(fd, line, n);
    (void)written; /* a log that cannot be written is nobody's error */
}
