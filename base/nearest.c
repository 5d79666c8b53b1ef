/* nearest.c - see nearest.h. Optimal string alignment distance (Damerau 1964, Wagner and Fischer
 * 1974). */
#include "base/nearest.h"

#include <stdio.h>
#include <string.h>

enum { LONGEST = 64 }; /* longer words have no neighbours */

static char fold(char c)
{
    if (c >= 'A' && c <= 'Z')
        return (char)(c - 'A' + 'a');
    return c == '-' || c == ' ' ? '_' : c;
}

static int least(int a, int b)
{
    return a < b ? a : b;
}

static int distance(const char *a, size_t n, const char *b, size_t m)
{
    int rows[3][LONGEST + 1];
    int *before = rows[0], *above = rows[1], *row = rows[2];
    for (size_t j = 0; j <= m; j++)
        above[j] = before[j] = (int)j;
    for (size_t i = 1; i <= n; i++) {
        row[0] = (int)i;
        for (size_t j = 1; j <= m; j++) {
            char x = fold(a[i - 1]), y = fold(b[j - 1]);
            row[j] = least(above[j - 1] + (x != y), 1 + least(above[j], row[j - 1]));
            if (i > 1 && j > 1 && x == fold(b[j - 2]) && fold(a[i - 2]) == y)
                row[j] = least(row[j], before[j - 2] + 1);
        }
        int *spare = before;
        before = above;
        above = row;
        row = spare;
    }
    return above[m];
}

static int begins(const char *word, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (fold(word[i]) != fold(name[i]))
            return 0;
    }
    return 1;
}

const char *dr_nearest(const char *word, const char *const *names, size_t n)
{
    size_t len = strlen(word);
    if (!len || len > LONGEST)
        return NULL;
    const char *best = NULL, *longer = NULL;
    int best_distance = LONGEST;
    for (size_t i = 0; i < n; i++) {
        size_t m = strlen(names[i]);
        if (m > LONGEST)
            continue;
        int d = distance(word, len, names[i], m);
        size_t larger = len > m ? len : m;
        if ((size_t)d * 3 <= larger && d < best_distance) {
            best = names[i];
            best_distance = d;
        }
        if (!longer && len >= 2 && m > len && begins(word, len, names[i]))
            longer = names[i];
    }
    return best ? best : longer;
}

int dr_fail_unknown(struct dr_error *err, const char *path, const char *what, const char *name,
                    const char *const *names, size_t n)
{
    const char *near = dr_nearest(name, names, n);
    int r = dr_fail(err, DR_EINVAL, "%s: unknown %s%s%s%s", path, what, near ? " (nearest: " : "",
                    near ? near : "", near ? ")" : "");
    if (!err)
        return r;
    snprintf(err->path, sizeof err->path, "%s", path);
    snprintf(err->expected, sizeof err->expected, "a known %s", what);
    if (near)
        snprintf(err->hint, sizeof err->hint, "nearest: %s", near);
    return r;
}

static int fail_near(struct dr_error *err, int code, const char *field, const char *got,
                     const char *expected, const char *near)
{
    char hint[160] = "";
    if (near)
        snprintf(hint, sizeof hint, "nearest: %s", near);
    return dr_fail_field(err, code, field, got, expected, near ? hint : NULL);
}

int dr_fail_choice_near(struct dr_error *err, int code, const char *field, const char *got,
                        const char *const *names, size_t n, const char *near)
{
    static const char more[] = ", ...";
    char expected[sizeof err->expected] = "";
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        const char *before = i ? ", " : "one of ";
        if (used + strlen(before) + strlen(names[i]) + sizeof more > sizeof expected) {
            snprintf(expected + used, sizeof expected - used, "%s", more);
            break;
        }
        used += (size_t)snprintf(expected + used, sizeof expected - used, "%s%s", before, names[i]);
    }
    return fail_near(err, code, field, got, expected, near);
}

int dr_fail_choice(struct dr_error *err, int code, const char *field, const char *got,
                   const char *const *names, size_t n)
{
    return dr_fail_choice_near(err, code, field, got, names, n, dr_nearest(got, names, n));
}

int dr_fail_nearest(struct dr_error *err, int code, const char *field, const char *got,
                    const char *expected, const char *const *names, size_t n)
{
    return fail_near(err, code, field, got, expected, dr_nearest(got, names, n));
}
