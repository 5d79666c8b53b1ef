/* progress.c - see progress.h. */
#include "cli/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "cli/report.h"

enum { COLUMNS_ASSUMED = 80, COLUMNS_MOST = 100, NARROW = 40 };

static bool set(const char *variable)
{
    const char *value = getenv(variable);
    return value && *value;
}

void progress_init(struct progress *p, bool quiet)
{
    const char *term = getenv("TERM");
    memset(p, 0, sizeof *p);
    p->quiet = quiet;
    p->terminal = isatty(2) && term && strcmp(term, "dumb") != 0;
    p->colour = p->terminal && !set("NO_COLOR");
    p->began = dr_now();
}

/* "0:07", "12:34", "3:02:01" */
static void duration(double seconds, char *dst, size_t n)
{
    int64_t s = seconds < 3.6e6 ? (int64_t)(seconds + 0.5) : 3600000;
    if (s < 3600)
        snprintf(dst, n, "%d:%02d", (int)(s / 60), (int)(s % 60));
    else
        snprintf(dst, n, "%d:%02d:%02d", (int)(s / 3600), (int)(s / 60 % 60), (int)(s % 60));
}

/* "1.52 it/s, 0:12 left"; "" while the rate is not known. */
static void pace(const struct progress_state *at, char *dst, size_t n)
{
    char left[32];
    *dst = '\0';
    if (at->rate <= 0)
        return;
    duration((at->total - at->step) / at->rate, left, sizeof left);
    bool fast = at->rate >= 1, done = at->step >= at->total;
    snprintf(dst, n, "%.2f %s%s%s%s", fast ? at->rate : 1 / at->rate, fast ? "it/s" : "s/it",
             done ? "" : ", ", done ? "" : left, done ? "" : " left");
}

void progress_line(const struct progress_state *at, char *dst, size_t n)
{
    char speed[64];
    pace(at, speed, sizeof speed);
    snprintf(dst, n, "step %d/%d%s%s", at->step, at->total, *speed ? ", " : "", speed);
}

void progress_bar(const struct progress_state *at, int width, char *dst, size_t n)
{
    char speed[64], count[32], bar[COLUMNS_MOST + 1];
    pace(at, speed, sizeof speed);
    snprintf(count, sizeof count, "%*d/%d",
             at->total > 99  ? 3
             : at->total > 9 ? 2
                             : 1,
             at->step, at->total);
    width = width > COLUMNS_MOST ? COLUMNS_MOST : width;
    int room = width - (int)strlen(count) - (int)sizeof "1234.56 it/s, 1:23:45 left" - 4;
    if (width < NARROW || room < 8) {
        snprintf(dst, n, "%.*s", width, count);
        return;
    }
    int full = at->total > 0 ? (int)((int64_t)room * at->step / at->total) : 0;
    full = full < 0 ? 0 : full > room ? room : full;
    memset(bar, ' ', (size_t)room);
    memset(bar, '=', (size_t)full);
    if (full && full < room)
        bar[full - 1] = '>';
    bar[room] = '\0';
    int used = snprintf(dst, n, "%s [%s] ", count, bar);
    snprintf(dst + used, n - (size_t)used, "%.*s", width - used, speed);
}

/* Replaces the line that the cursor is on. */
static void draw(struct progress *p, const char *text)
{
    char shown[UTF8_SHOWN_MOST * 2 * COLUMNS_MOST + 1];
    utf8_show(text, strnlen(text, 2 * COLUMNS_MOST), UTF8_LINE, shown);
    if (p->colour)
        fprintf(stderr, "\r\033[32m%s\033[0m\033[K", shown);
    else
        fprintf(stderr, "\r%s\033[K", shown);
    p->drawn = true;
}

void progress_clear(struct progress *p)
{
    if (p->drawn)
        fputs("\r\033[K", stderr);
    p->drawn = false;
}

void progress_say(struct progress *p, const char *what)
{
    char text[COLUMNS_ASSUMED];
    if (p->quiet || !p->terminal)
        return;
    snprintf(text, sizeof text, "%.*s", report_columns(2, COLUMNS_ASSUMED) - 1, what);
    draw(p, text);
}

static void show(struct progress *p, double now)
{
    char text[2 * COLUMNS_MOST];
    bool last = p->at.step == p->at.total;
    if (p->terminal && last) {
        progress_say(p, "decoding");
    } else if (p->terminal) {
        progress_bar(&p->at, report_columns(2, COLUMNS_ASSUMED) - 1, text, sizeof text);
        draw(p, text);
    } else if (last || now - p->last >= 1) {
        progress_line(&p->at, text, sizeof text);
        report_line("%s", text);
        p->last = now;
    }
}

/* "packing weights 40 %", of what comes before the steps. */
static void show_loading(struct progress *p, const char *what, double fraction, double now)
{
    char text[COLUMNS_MOST];
    int percent = (int)(100 * (fraction < 0 ? 0 : fraction > 1 ? 1 : fraction));
    snprintf(text, sizeof text, "%.60s %d %%", what ? what : "loading", percent);
    if (p->terminal) {
        progress_say(p, text);
    } else if (now - p->last >= 1) {
        report_line("%s", text);
        p->last = now;
    }
}

void progress_event(void *progress, const json_t *data)
{
    struct progress *p = progress;
    const json_t *seed = json_object_get(data, "seed");
    const json_t *fraction = json_object_get(data, "fraction");
    const char *warning = json_string_value(json_object_get(data, "warning"));
    double now = dr_now();
    if (p->quiet)
        return;
    if (warning) {
        progress_clear(p);
        report_line("warning: %s", warning);
        return;
    }
    if (json_is_number(fraction)) {
        show_loading(p, json_string_value(json_object_get(data, "message")),
                     json_number_value(fraction), now);
        return;
    }
    if (json_is_integer(seed)) {
        progress_clear(p);
        report_line("seed %" JSON_INTEGER_FORMAT, json_integer_value(seed));
    }
    p->at.step = (int)json_integer_value(json_object_get(data, "step"));
    p->at.total = (int)json_integer_value(json_object_get(data, "total_steps"));
    if (p->at.total <= 0)
        return;
    if (p->at.step <= 1)
        p->first = now;
    p->at.rate = p->at.step > 1 && now > p->first ? (p->at.step - 1) / (now - p->first) : 0;
    show(p, now);
}
