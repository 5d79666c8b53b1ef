/* error_list.h - several errors of one check, where the first is not enough.
 *
 * A check that can continue after a failure takes a list, which decides whether it does:
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
    int more; /* counted when it was full */
    struct dr_error error[ERROR_LIST_MOST];
};

/* 0: noted, continue. `code`: return it, because there is no list, it is full, or the failure is
 * not about what is checked (out of memory, cancelled). err is NULL only without a list. */
int error_list_take(struct error_list *list, int code, const struct dr_error *err);

/* The same, but a full list only counts further errors: for a command line, which is short and must
 * be read to its end. */
int error_list_go_on(struct error_list *list, int code, const struct dr_error *err);

/* Notes any failure while there is room; the same text about the same field counts once. */
void error_list_add(struct error_list *list, const struct dr_error *err);

/* Errors noted and counted; 0 for NULL. */
int error_list_count(const struct error_list *list);

#endif
