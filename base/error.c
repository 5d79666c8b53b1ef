/* error.c - see error.h. */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

/* Errors are UTF-8, though they quote files and paths of any bytes: bytes that are not become '?'.
 * A text that filled its array may end inside a character, which is then dropped. */
static void clean(char *text, size_t size)
{
    size_t n = strlen(text), valid = utf8_valid_prefix(text, n);
    if (n + 1 == size && n - valid < 4)
        text[n = valid] = '\0';
    for (; valid < n; valid += utf8_valid_prefix(text + valid, n - valid))
        text[valid++] = '?';
}

static void copy(char *dst, size_t size, const char *src)
{
    snprintf(dst, size, "%s", src ? src : "");
    clean(dst, size);
}

int dr_fail(struct dr_error *err, int code, const char *fmt, ...)
{
    if (!err)
        return code;
    memset(err, 0, sizeof *err);
    err->code = code;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    clean(err->text, sizeof err->text);
    return code;
}

int dr_fail_field(struct dr_error *err, int code, const char *path, const char *got,
                  const char *expected, const char *hint)
{
    if (!err)
        return code;
    dr_fail(err, code, "%s: %s%s%sexpected %s%s%s%s", path, got ? "got " : "", got ? got : "",
            got ? ", " : "", expected, hint ? " (" : "", hint ? hint : "", hint ? ")" : "");
    copy(err->path, sizeof err->path, path);
    copy(err->got, sizeof err->got, got);
    copy(err->expected, sizeof err->expected, expected);
    copy(err->hint, sizeof err->hint, hint);
    return code;
}

int dr_while(struct dr_error *err, int code, const char *fmt, ...)
{
    if (!err)
        return code;
    if (!err->code)
        dr_fail(err, code, "%s", dr_code_meaning(code));
    size_t used = strlen(err->text);
    int n = snprintf(err->text + used, sizeof err->text - used, " (while ");
    if (n < 0 || used + (size_t)n >= sizeof err->text)
        return err->code; /* ASCII: may be cut anywhere */
    used += (size_t)n;
    va_list ap;
    va_start(ap, fmt);
    n = vsnprintf(err->text + used, sizeof err->text - used, fmt, ap);
    va_end(ap);
    if (n >= 0 && used + (size_t)n < sizeof err->text - 1)
        snprintf(err->text + used + (size_t)n, sizeof err->text - used - (size_t)n, ")");
    clean(err->text, sizeof err->text);
    return err->code;
}

int dr_fail_errno(struct dr_error *err, const char *path, const char *what)
{
    int saved = errno;
    int code = saved == ENOENT ? DR_ENOENT : saved == ENOMEM ? DR_ENOMEM : DR_EIO;
    dr_fail(err, code, "%s: cannot %s: %s", path, what, strerror(saved));
    if (err)
        copy(err->path, sizeof err->path, path);
    return code;
}

int dr_check_utf8(const char *text, size_t n, const char *what, struct dr_error *err)
{
    size_t good = utf8_valid_prefix(text, n);
    return good == n ? 0
                     : dr_fail(err, DR_EINVAL, "%s: not valid UTF-8 at byte %zu (0x%02x)", what,
                               good, (unsigned char)text[good]);
}

const char *dr_code_wire(int code)
{
    switch (code) {
#define X(name, value, wire, meaning)                                                              \
    case value:                                                                                    \
        return wire;
#include "base/errors.def"
#undef X
    }
    return code ? "INTERNAL_ERROR" : "OK";
}

const char *dr_code_meaning(int code)
{
    switch (code) {
#define X(name, value, wire, meaning)                                                              \
    case value:                                                                                    \
        return meaning;
#include "base/errors.def"
#undef X
    }
    return code ? "unknown error" : "no error";
}
