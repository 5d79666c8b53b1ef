/* utf8.c - see utf8.h. */
#include "base/utf8.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

size_t utf8_decode(const char *s, size_t n, uint32_t *ret_scalar)
{
    if (!n)
        return 0;
    const unsigned char *u = (const unsigned char *)s;
    if (u[0] < 0x80) {
        *ret_scalar = u[0];
        return 1;
    }
    size_t len = u[0] >= 0xf0 ? 4 : u[0] >= 0xe0 ? 3 : 2;
    if (u[0] < 0xc2 || u[0] > 0xf4 || n < len)
        return 0;
    static const uint32_t least[5] = { 0, 0, 0x80, 0x800, 0x10000 };
    uint32_t c = u[0] & (0xffu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        if ((u[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (u[i] & 0x3f);
    }
    if (c < least[len] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return 0;
    *ret_scalar = c;
    return len;
}

size_t utf8_encode(uint32_t c, char dst[4])
{
    if (c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return 0;
    if (c < 0x80) {
        dst[0] = (char)c;
        return 1;
    }
    size_t len = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = len - 1; i > 0; i--, c >>= 6)
        dst[i] = (char)(0x80 | (c & 0x3f));
    static const unsigned char lead[5] = { 0, 0, 0xc0, 0xe0, 0xf0 };
    dst[0] = (char)(lead[len] | c);
    return len;
}

size_t utf8_valid_prefix(const char *s, size_t n)
{
    size_t i = 0;
    while (i < n) {
        uint32_t c;
        size_t len = utf8_decode(s + i, n - i, &c);
        if (!len)
            break;
        i += len;
    }
    return i;
}

/* Whether a terminal would act on it instead of showing it. */
static bool commands(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c <= 0x9f) || c == 0x61c || c == 0x200e || c == 0x200f ||
           (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

/* The escape of a character, or of one byte that is none. */
static size_t show_escape(uint32_t c, bool byte, enum utf8_shown how, char *dst)
{
    enum { room = UTF8_SHOWN_MOST + 1 };
    bool json = how == UTF8_STRING || how == UTF8_JSON;
    if (!byte && (c == '\n' || c == '\t'))
        return (size_t)snprintf(dst, room, c == '\n' ? "\\n" : "\\t");
    if (byte && json)
        return (size_t)snprintf(dst, room, "\\ufffd");
    bool wide = json || (!byte && c > 0x7f);
    return (size_t)snprintf(dst, room, wide ? "\\u%04x" : "\\x%02x", (unsigned)c);
}

size_t utf8_show(const char *s, size_t n, enum utf8_shown how, char *dst)
{
    size_t used = 0;
    for (size_t i = 0; i < n;) {
        uint32_t c = 0;
        size_t len = utf8_decode(s + i, n - i, &c);
        bool stays = (c == '\n' || c == '\t') && (how == UTF8_LINES || how == UTF8_JSON);
        if (!len) {
            used += show_escape((unsigned char)s[i], true, how, dst + used);
        } else if (commands(c) && !stays) {
            used += show_escape(c, false, how, dst + used);
        } else {
            if (how == UTF8_STRING && (c == '"' || c == '\\'))
                dst[used++] = '\\';
            memcpy(dst + used, s + i, len);
            used += len;
        }
        i += len ? len : 1;
    }
    dst[used] = '\0';
    return used;
}
