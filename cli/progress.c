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
static void duration(double seconds, char dst[32])
{
    int64_t s = seconds < 3.6e6 ? (int64_t)(seconds + 0.5) : 3600000;
    if (s < 3600)
        snprintf(dst, 32, "%d:%02d", (int)(s / 60), (int)(s % 60));
    else
        snprintf(dst, 32, "%d:%02d:%02d", (int)(s / 3600), (int)(s / 60 % 60), (int)(s % 60));
}

/* "1.52 it/s, 0:12 left"; before there is a rate "about 0:40 left" or "0:03 elapsed". */
static void pace(const struct progress_state *at, char *dst, size_t n)
{
    char time[32];
    bool fast = at->rate >= 1, done = at->open || at->step >= at->total;
    double left = at->left > 0                ? at->left
                  : at->rate > 0 && !at->open ? (at->total - at->step) / at->rate
                                              : 0;
    *dst = '\0';
    duration(left > 0 ? left : at->elapsed, time);
    if (at->rate > 0)
        snprintf(dst, n, "%.2f %s%s%s%s", fast ? at->rate : 1 / at->rate, fast ? "it/s" : "s/it",
                 done ? "" : ", ", done ? "" : time, done ? "" : " left");
    else if (left > 0)
        snprintf(dst, n, "about %s left", time);
    else if (at->elapsed > 0)
        snprintf(dst, n, "%s elapsed", time);
}

void progress_line(const struct progress_state *at, char *dst, size_t n)
{
    char speed[64], all[16];
    pace(at, speed, sizeof speed);
    snprintf(all, sizeof all, "/%d", at->total);
    snprintf(dst, n, "step %d%s%s%s", at->step, at->open ? "" : all, *speed ? ", " : "", speed);
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
    double done = at->total > 0 ? (at->step + at->part) / at->total : 0;
    int full = (int)(room * done);
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

/* ---- events of the worker ---- */

/* Seconds until the stage is over; 0: unknown. */
static double time_left(const struct progress *p, double now)
{
    const struct progress_state *at = &p->at;
    double left = 0, since = 0;
    if (at->rate > 0 && !at->open) {
        left = (at->total - at->step) / at->rate;
        since = now - p->stepped;
    } else if (p->estimate > 0) {
        left = p->estimate;
        since = now - p->began;
    } else if (p->fraction > 0.01 && p->counted > p->began) {
        left = (p->counted - p->began) * (1 - p->fraction) / p->fraction;
        since = now - p->counted;
    }
    /* an estimate that has run out only means "soon" */
    return left < 1 ? 0 : left - since > 1 ? left - since : 1;
}

static void show_bar(struct progress *p, double now)
{
    char bar[2 * COLUMNS_MOST], text[3 * COLUMNS_MOST];
    int columns = report_columns(2, COLUMNS_ASSUMED) - 1;
    const char *label = p->label;
    int used = (int)strlen(label) + 2;
    if (!*label || columns - used < 2 * NARROW)
        used = 0;
    p->at.left = p->at.step < p->at.total ? time_left(p, now) : 0;
    p->at.elapsed = now - p->began;
    if (p->at.open) /* a bar needs an end */
        progress_line(&p->at, bar, sizeof bar);
    else
        progress_bar(&p->at, columns - used, bar, sizeof bar);
    snprintf(text, sizeof text, "%s%s%s", used ? label : "", used ? ": " : "", bar);
    draw(p, text);
}

/* "picture 3 of 16: decoding 0:04 of about 0:13" */
static void show_stage(struct progress *p, double now)
{
    char text[2 * COLUMNS_MOST], spent[32], all[32];
    double elapsed = now - p->began, whole = p->estimate;
    if (whole <= 0 && p->fraction > 0.05)
        whole = (p->counted - p->began) / p->fraction;
    bool longer = whole >= 1 && whole > elapsed;
    duration(elapsed, spent);
    duration(whole, all);
    snprintf(text, sizeof text, "%s%s%s %s%s%s", p->label, *p->label ? ": " : "", p->message, spent,
             longer ? " of about " : "", longer ? all : "");
    progress_say(p, text);
}

static void show(struct progress *p, double now)
{
    bool steps = !*p->stage || !strcmp(p->stage, "denoise");
    if (!p->terminal)
        return;
    if (steps && (p->at.total > 0 || p->at.open))
        show_bar(p, now);
    else if (*p->message)
        show_stage(p, now);
    p->last = now;
}

/* "packing weights 40 %": stages before the steps. */
static void show_loading(struct progress *p, const char *what, double fraction, double now)
{
    char text[COLUMNS_MOST];
    int percent = (int)(100 * (fraction < 0 ? 0 : fraction > 1 ? 1 : fraction));
    snprintf(text, sizeof text, "%.60s %d %%", what ? what : "loading", percent);
    p->message[0] = '\0';
    if (p->terminal) {
        progress_say(p, text);
    } else if (now - p->last >= 1) {
        report_line("%s", text);
        p->last = now;
    }
}

static const char *text_of(const json_t *data, const char *key)
{
    const char *text = json_string_value(json_object_get(data, key));
    return text ? text : "";
}

static double number_of(const json_t *data, const char *key)
{
    return json_number_value(json_object_get(data, key));
}

/* "tiny: 1024x1024, 30 steps, euler, schedule karras, cfg 5, kernels avx2, seed 7" */
static void announce(struct progress *p, const json_t *data)
{
    char time[32], about[64] = "", pictures[32] = "";
    double seconds = number_of(data, "estimated_seconds");
    uint64_t seed = 0;
    (void)jx_as_uint(json_object_get(data, "seed"), &seed);
    progress_clear(p);
    if (p->announced)
        return;
    duration(seconds, time);
    if (seconds >= 1)
        snprintf(about, sizeof about, ", about %s", time);
    if (p->total > 1)
        snprintf(pictures, sizeof pictures, "%d pictures, ", p->total);
    report_line("%s: %s%.0fx%.0f, %.0f steps, %s, schedule %s, cfg %g, kernels %s%s, seed %" PRIu64,
                text_of(data, "model"), pictures, number_of(data, "width"),
                number_of(data, "height"), number_of(data, "steps"), text_of(data, "sampler"),
                text_of(data, "schedule"), number_of(data, "guidance_scale"),
                text_of(data, "kernels"), about, seed);
    p->announced = true;
}

/* Without a terminal: at most a line a second, and the last step of a single request. */
static void show_line(struct progress *p, double now)
{
    char text[COLUMNS_MOST];
    bool last = p->at.step == p->at.total && !*p->label && !p->at.open;
    p->unshown = p->at.open && p->at.step > 0;
    if (p->terminal || (!last && now - p->last < 1))
        return;
    progress_line(&p->at, text, sizeof text);
    report_line("%s%s%s", p->label, *p->label ? ": " : "", text);
    p->last = now;
    p->unshown = false;
}

/* An open number of steps is known to have ended when another stage begins. */
static void show_last(struct progress *p)
{
    char text[COLUMNS_MOST];
    if (!p->unshown || p->terminal || *p->label)
        return;
    progress_line(&p->at, text, sizeof text);
    report_line("%s", text);
    p->unshown = false;
}

static void begin_stage(struct progress *p, const json_t *data, double now)
{
    show_last(p);
    snprintf(p->stage, sizeof p->stage, "%s", text_of(data, "stage"));
    snprintf(p->message, sizeof p->message, "%s", text_of(data, "message"));
    p->began = now;
    p->estimate = number_of(data, "estimated_seconds");
    p->fraction = 0;
    if (!strcmp(p->stage, "denoise")) {
        p->at.left = p->estimate >= 1 ? p->estimate : 0;
        show_line(p, now);
    }
}

static void take_step(struct progress *p, double now)
{
    if (p->at.step <= 1)
        p->first = now;
    p->stepped = now;
    p->at.part = p->at.left = p->at.elapsed = 0;
    p->at.rate = p->at.step > 1 && now > p->first ? (p->at.step - 1) / (now - p->first) : 0;
    if (p->at.rate <= 0 && p->at.step == 1 && now > p->began) /* the first one's own */
        p->at.rate = 1 / (now - p->began);
    show_line(p, now);
}

static void take_fraction(struct progress *p, double fraction, double now)
{
    p->fraction = fraction;
    p->counted = now;
    double part = fraction * p->at.total - p->at.step;
    if (!strcmp(p->stage, "denoise"))
        p->at.part = part < 0 ? 0 : part > 1 ? 1 : part;
}

void progress_pictures(struct progress *p, int first, int last, int total)
{
    p->label[0] = p->stage[0] = p->message[0] = '\0';
    p->at = (struct progress_state){ .step = 0 };
    p->began = dr_now();
    p->total = total;
    if (first == 1 && last == total)
        return; /* one request for all of them */
    if (first == last)
        snprintf(p->label, sizeof p->label, "picture %d of %d", first, total);
    else
        snprintf(p->label, sizeof p->label, "pictures %d to %d of %d", first, last, total);
}

static void take_event(struct progress *p, const json_t *data, double now)
{
    const json_t *fraction = json_object_get(data, "fraction");
    const char *stage = text_of(data, "stage");
    p->at.step = (int)number_of(data, "step");
    p->at.total = (int)number_of(data, "total_steps");
    p->at.open = json_is_null(json_object_get(data, "total_steps"));
    if (json_object_get(data, "seed") && json_object_get(data, "model"))
        announce(p, data);
    else if (!strcmp(stage, "load"))
        show_loading(p, text_of(data, "message"), json_number_value(fraction), now);
    else if (json_is_number(fraction))
        take_fraction(p, json_number_value(fraction), now);
    else if (*stage && *text_of(data, "message"))
        begin_stage(p, data, now);
    else if (p->at.total > 0 || p->at.open)
        take_step(p, now);
    show(p, now);
}

void progress_event(void *progress, const json_t *data)
{
    struct progress *p = progress;
    const char *warning = text_of(data, "warning");
    double now = dr_now();
    if (p->quiet)
        return;
    if (*warning) {
        progress_clear(p);
        report_line("warning: %s", warning);
    } else if (data) {
        take_event(p, data, now);
    } else if (now - p->last >= 0.5) {
        show(p, now);
    }
}
