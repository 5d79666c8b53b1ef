/* nearest.h - "did you mean". */
#ifndef DR_BASE_NEAREST_H
#define DR_BASE_NEAREST_H

#include <stddef.h>

#include "base/error.h"

/* The name with the least edit distance (insertion, deletion, substitution, swap of neighbours;
 * case and the choice of '-', '_' or ' ' do not count), or one that begins with `word`; NULL when
 * none is near: distance over a third of the longer length. The first of equals. */
const char *dr_nearest(const char *word, const char *const *names, size_t n);

/* DR_EINVAL, "PATH: unknown WHAT (nearest: X)", where `name` is none of the names. */
int dr_fail_unknown(struct dr_error *err, const char *path, const char *what, const char *name,
                    const char *const *names, size_t n);

/* A value that is none of `names`: "FIELD: got GOT, expected one of a, b, c (nearest: b)". */
int dr_fail_choice(struct dr_error *err, int code, const char *field, const char *got,
                   const char *const *names, size_t n);

/* The same where the nearest name was found elsewhere, among other spellings; NULL: none is. */
int dr_fail_choice_near(struct dr_error *err, int code, const char *field, const char *got,
                        const char *const *names, size_t n, const char *near);

/* "FIELD: got GOT, expected EXPECTED (nearest: b)": where the names are too many to list. */
int dr_fail_nearest(struct dr_error *err, int code, const char *field, const char *got,
                    const char *expected, const char *const *names, size_t n);

#endif
