/* path_text.c - see path_text.h. */
#include "base/path_text.h"

#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/json.h"
#include "base/utf8.h"

static const char scheme[] = "file://";

static int hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static bool is_url(const char *text)
{
    return !strncasecmp(text, scheme, strlen(scheme));
}

/* The path of a URL, still encoded; NULL where it names a host that is not this machine. */
static const char *local_part(const char *text)
{
    static const char host[] = "localhost";
    const char *rest = text + strlen(scheme);
    if (!strncasecmp(rest, host, strlen(host)))
        rest += strlen(host);
    return *rest == '/' ? rest : NULL;
}

static int fail_url(const char *field, const char *text, const char *expected, struct dr_error *err)
{
    return dr_fail_field(err, DR_EINVAL, field, text, expected, NULL);
}

static int fail_long(const char *field, struct dr_error *err)
{
    return dr_fail(err, DR_ELIMIT, "%s: a path of more than %d bytes", field, DR_PATH_MAX - 1);
}

int path_text_read(const char *field, const char *text, char *dst, struct dr_error *err)
{
    size_t n = 0;
    if (!*text)
        return dr_fail_field(err, DR_EINVAL, field, "an empty path", "a path", NULL);
    if (!is_url(text)) {
        if (strlen(text) >= DR_PATH_MAX)
            return fail_long(field, err);
        memcpy(dst, text, strlen(text) + 1);
        return 0;
    }
    const char *p = local_part(text);
    if (!p)
        return fail_url(field, text, "file:///PATH on this machine", err);
    for (; *p; p++) {
        int high = *p == '%' ? hex(p[1]) : 0, low = *p == '%' && high >= 0 ? hex(p[2]) : 0;
        if (high < 0 || low < 0)
            return fail_url(field, text, "two hexadecimal digits after each %", err);
        char c = *p == '%' ? (char)(high * 16 + low) : *p;
        if (!c)
            return fail_url(field, text, "a path without NUL (%00)", err);
        if (n + 1 >= DR_PATH_MAX)
            return fail_long(field, err);
        dst[n++] = c;
        p += *p == '%' ? 2 : 0;
    }
    dst[n] = '\0';
    return 0;
}

static int put_encoded(const char *path, struct buf *dst)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
                                "-._~/";
    int r = 0;
    for (const char *p = path; !r && *p; p++)
        r = strchr(plain, *p) ? buf_putc(dst, *p) : buf_printf(dst, "%%%02X", (unsigned char)*p);
    return r;
}

int path_text_write(const char *path, struct buf *dst)
{
    char folder[DR_PATH_MAX];
    size_t n = strlen(path);
    if (utf8_valid_prefix(path, n) == n && !is_url(path))
        return buf_puts(dst, path);
    int r = buf_puts(dst, scheme);
    if (!r && *path != '/') {
        if (!getcwd(folder, sizeof folder))
            folder[0] = '\0';
        r = put_encoded(folder, dst);
        if (!r)
            r = buf_putc(dst, '/');
    }
    return r ? r : put_encoded(path, dst);
}

json_t *path_text_json(const char *path)
{
    struct buf text;
    buf_init(&text, DR_TAG_BASE, 0);
    json_t *value = path_text_write(path, &text) < 0 ? NULL : json_string(buf_text(&text));
    buf_free(&text);
    return value;
}

json_t *path_text_typed(const char *path)
{
    json_t *url = is_url(path) ? json_string(path) : NULL;
    return url ? url : path_text_json(path);
}
