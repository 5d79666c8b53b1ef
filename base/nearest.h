/* nearest.h - "did you mean". */
#ifndef DR_BASE_NEAREST_H
#define DR_BASE_NEAREST_H

#include <stddef.h>

/* The name with the least edit distance (insertion, deletion, substitution, swap of neighbours;
 * case and the choice of '-', '_' or ' ' do not count), or one that begins with `word`; NULL when
 * none is near: distance over a third of the longer length. The first of equals. */
const char *dr_nearest(const char *word, const char *const *names, size_t n);

#endif
