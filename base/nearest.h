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

#endif
