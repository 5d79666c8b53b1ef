/* json_dump.c - printing JSON; see json.h. */
#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEEPEST = 64 };

static int dump(const json_t *value, int depth, struct buf *dst);

static int dump_string(const char *s, size_t n, struct buf *dst)
{
    int r = buf_putc(dst, '"');
    size_t from = 0; /* bytes before it are written */
    for (size_t i = 0; i < n && !r; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f)
            continue;
        r = buf_append(dst, s + from, i - from);
        from = i + 1;
        if (r)
            break;
        if (c == '"' || c == '\\')
            r = buf_printf(dst, "\\%c", c);
        else if (c == '\n' || c == '\t' || c == '\r')
            r = buf_printf(dst, "\\%c", c == '\n' ? 'n' : c == '\t' ? 't' : 'r');
        else
            r = buf_printf(dst, "\\u%04x", c);
    }
    r = r ? r : buf_append(dst, s + from, n - from);
    return r ? r : buf_putc(dst, '"');
}

/* The fewest of 15 to 17 digits that read back equal; always with a point or an exponent, so that
 * it stays a real number. The decimal sign of a foreign locale becomes a point. */
static int dump_real(double v, struct buf *dst)
{
    if (!isfinite(v))
        return DR_EINVAL;
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text - 2, "%.*g", digits, v);
        if (strtod(text, NULL) == v)
            break;
    }
    bool real = false;
    for (char *c = text; *c; c++) {
        if (*c != '-' && *c != '+' && *c != 'e' && (*c < '0' || *c > '9'))
            *c = '.';
        real = real || *c == '.' || *c == 'e';
    }
    if (!real)
        memcpy(text + strlen(text), ".0", 3);
    return buf_puts(dst, text);
}

static int dump_object(const json_t *object, int depth, struct buf *dst)
{
    const char *key, *comma = "";
    json_t *value;
    int r = buf_putc(dst, '{');
    json_object_foreach((json_t *)object, key, value)
    {
        r = r ? r : buf_puts(dst, comma);
        r = r ? r : dump_string(key, strlen(key), dst);
        r = r ? r : buf_putc(dst, ':');
        r = r ? r : dump(value, depth + 1, dst);
        comma = ",";
        if (r)
            return r;
    }
    return r ? r : buf_putc(dst, '}');
}

static int dump_array(const json_t *array, int depth, struct buf *dst)
{
    size_t n = json_array_size(array);
    int r = buf_putc(dst, '[');
    for (size_t i = 0; i < n && !r; i++) {
        r = i ? buf_putc(dst, ',') : 0;
        r = r ? r : dump(json_array_get(array, i), depth + 1, dst);
    }
    return r ? r : buf_putc(dst, ']');
}

static int dump(const json_t *value, int depth, struct buf *dst)
{
    if (depth > DEEPEST)
        return DR_ELIMIT;
    if (!value)
        return DR_ENOMEM; /* a constructor failed upstream */
    const char *literal = jx_literal(value);
    if (literal)
        return buf_puts(dst, literal);
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return dump_object(value, depth, dst);
    case JSON_ARRAY:
        return dump_array(value, depth, dst);
    case JSON_STRING:
        return dump_string(json_string_value(value), json_string_length(value), dst);
    case JSON_INTEGER:
        return buf_printf(dst, "%lld", (long long)json_integer_value(value));
    case JSON_REAL:
        return dump_real(json_real_value(value), dst);
    case JSON_TRUE:
        return buf_puts(dst, "true");
    case JSON_FALSE:
        return buf_puts(dst, "false");
    case JSON_NULL:
        return buf_puts(dst, "null");
    }
    return DR_EINVAL;
}

int jx_dump(const json_t *value, struct buf *dst)
{
    return dump(value, 0, dst);
}
