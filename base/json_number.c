/* json_number.c - see json_number.h; also the unsigned integers of json.h. */
#include "base/json_number.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

static const char before[] = "{\"\\u0001number\":\"", after[] = "\"}";

static size_t digits(const char *s, size_t n)
{
    size_t i = 0;
    while (i < n && s[i] >= '0' && s[i] <= '9')
        i++;
    return i;
}

/* Whether the whole of it is a JSON number; *ret_integer: without point and exponent. */
static bool is_number(const char *s, size_t n, bool *ret_integer)
{
    size_t i = n && *s == '-', whole = digits(s + i, n - i);
    if (!whole || (whole > 1 && s[i] == '0'))
        return false;
    i += whole;
    *ret_integer = i == n;
    if (i < n && s[i] == '.') {
        size_t part = digits(s + i + 1, n - i - 1);
        if (!part)
            return false;
        i += 1 + part;
    }
    if (i < n && (s[i] == 'e' || s[i] == 'E')) {
        i++;
        i += i < n && (s[i] == '+' || s[i] == '-');
        size_t exponent = digits(s + i, n - i);
        if (!exponent)
            return false;
        i += exponent;
    }
    return i == n;
}

static bool fits_int64(const char *s, size_t n)
{
    static const char most[] = "9223372036854775807", least[] = "9223372036854775808";
    bool negative = *s == '-';
    s += negative;
    n -= negative;
    return n < 19 || (n == 19 && memcmp(s, negative ? least : most, 19) <= 0);
}

/* 1, 0, or DR_ENOMEM. */
static int fits_double(const char *s, size_t n)
{
    char *copy = dr_strndup(DR_TAG_BASE, s, n);
    if (!copy)
        return DR_ENOMEM;
    bool fits = isfinite(strtod(copy, NULL));
    dr_free(copy);
    return fits;
}

static int put_number(const char *s, size_t n, struct buf *dst)
{
    bool integer;
    int fits = !is_number(s, n, &integer) ? 1 : integer ? fits_int64(s, n) : fits_double(s, n);
    if (fits < 0)
        return fits;
    int r = fits ? 0 : buf_puts(dst, before);
    if (!r)
        r = buf_append(dst, s, n);
    return r || fits ? r : buf_puts(dst, after);
}

static size_t string_end(const char *text, size_t i, size_t n)
{
    for (i++; i < n && text[i] != '"'; i++)
        i += text[i] == '\\';
    return i < n ? i + 1 : n;
}

int json_number_wrap(const char *text, size_t n, struct buf *dst)
{
    static const char ends[] = "{}[]:,\" \t\r\n";
    int r = 0;
    for (size_t i = 0; i < n && !r;) {
        size_t from = i++;
        char c = text[from];
        if (c == '"')
            i = string_end(text, from, n);
        else if (!memchr(ends, c, sizeof ends - 1))
            while (i < n && !memchr(ends, text[i], sizeof ends - 1))
                i++;
        r = c == '-' || (c >= '0' && c <= '9') ? put_number(text + from, i - from, dst)
                                               : buf_append(dst, text + from, i - from);
    }
    return r;
}

int json_number_inserted(const char *wrapped, size_t at)
{
    size_t from = at, inserted = 0;
    while (from && wrapped[from - 1] != '\n')
        from--;
    for (size_t i = from; i + sizeof before - 1 <= at; i++)
        if (!memcmp(wrapped + i, before, sizeof before - 1))
            inserted += sizeof before - 1 + sizeof after - 1;
    return (int)inserted;
}

const char *jx_literal(const json_t *value)
{
    bool integer;
    if (json_object_size(value) != 1)
        return NULL;
    const json_t *text = json_object_get(value, JX_LITERAL);
    const char *s = json_string_value(text);
    return s && is_number(s, json_string_length(text), &integer) ? s : NULL;
}

json_t *jx_uint(uint64_t v)
{
    return v <= INT64_MAX ? json_integer((json_int_t)v)
                          : json_pack("{s:o}", JX_LITERAL, json_sprintf("%" PRIu64, v));
}

bool jx_digits(const char *text, uint64_t *ret)
{
    uint64_t v = 0;
    const char *s = text;
    for (; *s >= '0' && *s <= '9'; s++) {
        unsigned digit = (unsigned)(*s - '0');
        if (v > (UINT64_MAX - digit) / 10)
            return false;
        v = 10 * v + digit;
    }
    *ret = v;
    return !*s && s > text;
}

bool jx_as_uint(const json_t *value, uint64_t *ret)
{
    const char *literal = jx_literal(value);
    if (literal)
        return jx_digits(literal, ret);
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *ret = (uint64_t)json_integer_value(value);
    return true;
}
