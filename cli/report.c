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
#include "base/alloc.h"
#include "base/utf8.h"

enum { LINE_BYTES = 1024, LEAST_COLUMNS = 20 };

/* Drops a character that was cut in two at the end. */
static size_t whole(const char *text, size_t n)
{
    size_t valid = utf8_valid_prefix(text, n);
    return n - valid < 4 ? valid : n;
}

/* stderr is unbuffered: one write, so that lines of the worker do not come in between. */
static void write_line(const char *text, int wanted)
{
    char line[UTF8_SHOWN_MOST * LINE_BYTES + 2];
    size_t n = strlen(text);
    n = utf8_show(text, wanted < 0 || (size_t)wanted > n ? whole(text, n) : n, UTF8_LINE, line);
    line[n] = '\n';
    fwrite(line, 1, n + 1, stderr);
}

void report_error(const char *text)
{
    report_line("darkroom: %s", text);
}

void report_line(const char *fmt, ...)
{
    char text[LINE_BYTES];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    write_line(text, n);
}

int report_put(struct buf *dst, const char *text)
{
    size_t n = strlen(text);
    char *shown = dr_malloc(DR_TAG_BASE, UTF8_SHOWN_MOST * n + 1);
    int r = shown ? buf_append(dst, shown, utf8_show(text, n, UTF8_LINE, shown)) : DR_ENOMEM;
    dr_free(shown);
    return r;
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

/* To stdout, shown as `how` says. */
static int write_shown(const struct buf *text, enum utf8_shown how, struct dr_error *err)
{
    char *shown = dr_malloc(DR_TAG_BASE, UTF8_SHOWN_MOST * text->len + 1);
    if (!shown)
        return dr_fail(err, DR_ENOMEM, "out of memory for the result");
    int failed = write_all(1, shown, utf8_show(text->data, text->len, how, shown));
    dr_free(shown);
    if (failed && failed != EPIPE && !stdout_failed)
        stdout_failed = failed;
    errno = failed;
    return failed && failed != EPIPE ? dr_fail_errno(err, "stdout", "write") : 0;
}

int report_text(const struct buf *text, struct dr_error *err)
{
    return write_shown(text, UTF8_LINES, err);
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
        r = write_shown(&text, UTF8_JSON, err);
    buf_free(&text);
    return r;
}

/* Three digits and a prefix of 1000s; a unit without one is written whole. */
static const char *scaled(double n, const char *unit, char dst[32])
{
    static const char *const prefixes[] = { "", "k", "M", "G", "T", "P" };
    int u = 0;
    while (n >= 999.5 && u < 5) {
        n /= 1000;
        u++;
    }
    bool bare = !u && !*unit;
    snprintf(dst, 32, u && n < 99.95 ? "%.1f%s%s%s" : "%.0f%s%s%s", n, bare ? "" : " ", prefixes[u],
             unit);
    return dst;
}

const char *report_size(double bytes, char dst[32])
{
    return scaled(bytes, "B", dst);
}

const char *report_flops(double flops, char dst[32])
{
    return scaled(flops, "FLOP", dst);
}

const char *report_count(double count, char dst[32])
{
    return scaled(count, "", dst);
}

int report_columns(int fd, int otherwise)
{
    struct winsize size;
    if (ioctl(fd, TIOCGWINSZ, &size) || !size.ws_col)
        return otherwise;
    return size.ws_col < LEAST_COLUMNS ? LEAST_COLUMNS : size.ws_col;
}
