/* report.c - see report.h. */
#include "cli/report.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"

enum { LINE_BYTES = 1024, LEAST_COLUMNS = 20 };

/* stderr is unbuffered: one write, so that lines of the worker do not come in between. */
static void write_line(char *line, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = '?';
    line[n] = '\n';
    fwrite(line, 1, n + 1, stderr);
}

void report_error(const char *text)
{
    char line[LINE_BYTES];
    int n = snprintf(line, sizeof line - 1, "darkroom: %s", text);
    write_line(line, n < (int)sizeof line - 1 ? (size_t)n : sizeof line - 2);
}

void report_line(const char *fmt, ...)
{
    char line[LINE_BYTES];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof line - 1, fmt, ap);
    va_end(ap);
    write_line(line, n < (int)sizeof line - 1 ? (size_t)n : sizeof line - 2);
}

void report_warnings(const json_t *answer)
{
    size_t i;
    json_t *text;
    json_array_foreach(json_object_get(answer, "warnings"), i, text)
        report_line("warning: %s", json_string_value(text));
}

static int stdout_failed; /* errno of the first write to stdout that failed */

/* 0 or errno. */
static int write_all(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t k = write(fd, p, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return errno;
        p += k;
        n -= (size_t)k;
    }
    return 0;
}

int report_bytes(int fd, const char *name, const void *bytes, size_t n, struct dr_error *err)
{
    int failed = write_all(fd, bytes, n);
    errno = failed;
    return failed ? dr_fail_errno(err, name, "write") : 0;
}

int report_text(const struct buf *text, struct dr_error *err)
{
    int failed = write_all(1, text->data, text->len);
    if (failed && failed != EPIPE && !stdout_failed)
        stdout_failed = failed;
    errno = failed;
    return failed && failed != EPIPE ? dr_fail_errno(err, "stdout", "write") : 0;
}

int report_check(struct dr_error *err)
{
    errno = stdout_failed;
    return stdout_failed ? dr_fail_errno(err, "stdout", "write") : 0;
}

static double began;

void report_begin(void)
{
    began = dr_now();
}

/* The object with `success` first and `seconds` last, where it has none of its own. */
static json_t *complete(const json_t *value)
{
    bool says = json_object_get(value, "success") != NULL;
    json_t *o = says ? json_object() : json_pack("{s:b}", "success", 1);
    double seconds = nearbyint((dr_now() - began) * 1e3) / 1e3;
    int r = o && !json_object_update(o, (json_t *)value) ? 0 : DR_ENOMEM;
    if (!r && !json_object_get(o, "seconds"))
        r = jx_set(o, "seconds", json_real(seconds));
    if (!r)
        return o;
    json_decref(o);
    return NULL;
}

int report_json(const json_t *value, struct dr_error *err)
{
    struct buf text;
    buf_init(&text, DR_TAG_BASE, 0);
    json_t *whole = value ? complete(value) : NULL;
    int r = whole ? jx_dump(whole, &text) : DR_ENOMEM;
    json_decref(whole);
    if (!r)
        r = buf_putc(&text, '\n');
    if (r < 0)
        dr_fail(err, r, "cannot write the result: %s", dr_code_meaning(r));
    else
        r = report_text(&text, err);
    buf_free(&text);
    return r;
}

const char *report_size(double bytes, char dst[32])
{
    static const char *const units[] = { "B", "kB", "MB", "GB", "TB" };
    int u = 0;
    while (bytes >= 999.5 && u < 4) {
        bytes /= 1000;
        u++;
    }
    snprintf(dst, 32, u && bytes < 99.95 ? "%.1f %s" : "%.0f %s", bytes, units[u]);
    return dst;
}

int report_columns(int fd, int otherwise)
{
    struct winsize size;
    if (ioctl(fd, TIOCGWINSZ, &size) || !size.ws_col)
        return otherwise;
    return size.ws_col < LEAST_COLUMNS ? LEAST_COLUMNS : size.ws_col;
}
