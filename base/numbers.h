/* numbers.h - a list of numbers as text: "999,749,499,249". Blanks around a number do not count. */
#ifndef DR_BASE_NUMBERS_H
#define DR_BASE_NUMBERS_H

#include "base/error.h"

/* At most `most` numbers; *ret_n is how many there are, at least one. DR_EINVAL names `path` and
 * the piece that is no finite number, DR_ELIMIT a longer list. */
int numbers_parse(const char *path, const char *text, double *ret, int most, int *ret_n,
                  struct dr_error *err);

#endif
