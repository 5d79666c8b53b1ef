/* numbers.c - see numbers.h. */
#include "base/numbers.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail_piece(const char *path, const char *text, struct dr_error *err)
{
    char got[64];
    size_t n = strcspn(text, ",");
    snprintf(got, sizeof got, "'%.*s'", n < 40 ? (int)n : 40, text);
    return dr_fail_field(err, DR_EINVAL, path, got, "numbers with commas between them", NULL);
}

int numbers_parse(const char *path, const char *text, double *ret, int most, int *ret_n,
                  struct dr_error *err)
{
    int n = 0;
    for (const char *at = text;; at++) {
        at += strspn(at, " ");
        size_t length = strspn(at, "0123456789+-.eE"); /* not the hexadecimal that strtod knows */
        char *end;
        errno = 0;
        double v = strtod(at, &end);
        if (!length || end != at + length || errno == ERANGE || !isfinite(v))
            return fail_piece(path, at, err);
        if (n >= most) {
            char expected[48];
            snprintf(expected, sizeof expected, "at most %d numbers", most);
            return dr_fail_field(err, DR_ELIMIT, path, "more", expected, NULL);
        }
        ret[n++] = v;
        const char *after = end + strspn(end, " ");
        if (*after && *after != ',')
            return fail_piece(path, at, err);
        if (!*after)
            break;
        at = after;
    }
    *ret_n = n;
    return 0;
}
