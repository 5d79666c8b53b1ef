/* base64.c - see base64.h. */
#include "base/base64.h"

#include <string.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t base64_length(size_t n)
{
    return (n + 2) / 3 * 4;
}

int base64_encode(const void *bytes, size_t n, struct buf *dst)
{
    if (n > SIZE_MAX / 2)
        return DR_ELIMIT;
    void *room;
    int r = buf_reserve(dst, base64_length(n), &room);
    if (r)
        return r;
    const uint8_t *s = bytes;
    char *d = room;
    for (size_t i = 0; i < n; i += 3, d += 4) {
        size_t left = n - i;
        uint32_t v = (uint32_t)s[i] << 16;
        v |= left > 1 ? (uint32_t)s[i + 1] << 8 : 0;
        v |= left > 2 ? s[i + 2] : 0;
        d[0] = alphabet[v >> 18];
        d[1] = alphabet[v >> 12 & 63];
        d[2] = left > 1 ? alphabet[v >> 6 & 63] : '=';
        d[3] = left > 2 ? alphabet[v & 63] : '=';
    }
    buf_grew(dst, base64_length(n));
    return 0;
}

/* 0..63; -1 other. */
static int value_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

int base64_decode(const char *text, size_t n, bool spaces, struct buf *dst, struct dr_error *err)
{
    void *room;
    int r = buf_reserve(dst, n / 4 * 3 + 3, &room);
    if (r == DR_ELIMIT)
        return dr_fail(err, r, "base64: more than %zu bytes", dst->maximum);
    if (r)
        return dr_fail(err, r, "base64: out of memory for %zu bytes", n / 4 * 3);
    uint8_t *d = room;
    size_t out = 0;
    uint32_t v = 0;
    int have = 0, pad = 0; /* characters of the present group of four, '=' included */
    for (size_t i = 0; i < n; i++) {
        if (spaces && is_space(text[i]))
            continue;
        int c = value_of(text[i]);
        bool filler = text[i] == '=' && have >= 2;
        if ((c < 0 && !filler) || (pad && !filler) || (pad && !have))
            return dr_fail(err, DR_EFORMAT, "base64: unexpected byte 0x%02x at character %zu",
                           (unsigned char)text[i], i);
        pad += filler;
        v = v << 6 | (filler ? 0 : (uint32_t)c);
        if (++have < 4)
            continue;
        if ((pad == 1 && v & 0xff) || (pad == 2 && v & 0xffff))
            return dr_fail(err, DR_EFORMAT, "base64: unused bits are not 0 before character %zu",
                           i);
        d[out++] = (uint8_t)(v >> 16);
        if (pad < 2)
            d[out++] = (uint8_t)(v >> 8);
        if (pad < 1)
            d[out++] = (uint8_t)v;
        have = 0;
        v = 0;
    }
    if (have)
        return dr_fail(err, DR_EFORMAT, "base64: ends in the middle of a group of four (at %zu)",
                       n);
    buf_grew(dst, out);
    return 0;
}
