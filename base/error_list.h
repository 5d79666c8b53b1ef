/* error_list.h - all that is wrong with something, where the first error is not enough.
 *
 * A check that can go on after a failure takes a list, and asks it whether to:
 *
 *     if (r < 0 && (r = error_list_take(list, r, err)) < 0)
 *         return r;
 *
 * Without a list (NULL) the first failure ends the check, as everywhere. With one the check returns
 * 0, and what the list holds is the result.
 */
#ifndef DR_BASE_ERROR_LIST_H
#define DR_BASE_ERROR_LIST_H

#include "base/error.h"

enum { ERROR_LIST_MOST = 32 };

struct error_list {
    int n;    /* noted */
    int more; /* that came when it was full */
    struct dr_error error[ERROR_LIST_MOST];
};

/* 0: noted, go on. `code`, to end with: there is no list, it is full, or the failure says nothing
 * about what is checked (out of memory, cancelled). err is NULL only where there is no list. */
int error_list_take(struct error_list *list, int code, const struct dr_error *err);

/* The same, but a full list only counts what comes: for what is short and must be read to its end,
 * a command line. */
int error_list_go_on(struct error_list *list, int code, const struct dr_error *err);

/* Notes any failure while there is room; one of the same place in the same words counts once. */
void error_list_add(struct error_list *list, const struct dr_error *err);

/* Noted and counted, of a list or none. */
int error_list_count(const struct error_list *list);

#endif
