/* size_text.c - see size_text.h. */
#include "base/size_text.h"

#include <stddef.h>
#include <string.h>
#include <strings.h>

/* Bytes of a unit; 0: no such unit. */
static int64_t unit_bytes(const char *unit)
{
    static const char letters[] = "kmgt";
    if (!*unit || !strcasecmp(unit, "b"))
        return 1;
    char lower = *unit >= 'A' && *unit <= 'Z' ? (char)(*unit + 'a' - 'A') : *unit;
    const char *letter = strchr(letters, lower);
    if (!letter)
        return 0;
    bool decimal = !strcasecmp(unit + 1, "b");
    if (!decimal && unit[1] && strcasecmp(unit + 1, "ib"))
        return 0;
    int64_t bytes = 1;
    for (ptrdiff_t i = 0; i <= letter - letters; i++)
        bytes *= decimal ? 1000 : 1024;
    return bytes;
}

bool size_text_read(const char *text, int64_t *ret_bytes)
{
    size_t whole = strspn(text, "0123456789");
    const char *unit = text + whole;
    size_t part = *unit == '.' ? strspn(unit + 1, "0123456789") : 0;
    if (!whole || (*unit == '.' && !part))
        return false;
    const char *fraction = unit + 1;
    unit += part ? part + 1 : 0;
    int64_t bytes = unit_bytes(unit), total = 0;
    if (!bytes || (part && bytes == 1))
        return false;
    for (size_t i = 0; i < whole; i++)
        if (__builtin_mul_overflow(total, 10, &total) ||
            __builtin_add_overflow(total, text[i] - '0', &total))
            return false;
    if (__builtin_mul_overflow(total, bytes, &total))
        return false;
    /* what is less than a byte is dropped, and digits past the 15th cannot make one */
    double scale = (double)bytes, rest = 0;
    for (size_t i = 0; i < part && i < 15; i++)
        rest += (fraction[i] - '0') * (scale /= 10);
    if (__builtin_add_overflow(total, (int64_t)(rest + 1e-6), &total))
        return false;
    *ret_bytes = total;
    return true;
}
