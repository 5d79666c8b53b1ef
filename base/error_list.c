/* error_list.c - see error_list.h. */
#include "base/error_list.h"

#include <string.h>

int error_list_take(struct error_list *list, int code, const struct dr_error *err)
{
    return list && list->n == ERROR_LIST_MOST ? code : error_list_go_on(list, code, err);
}

int error_list_go_on(struct error_list *list, int code, const struct dr_error *err)
{
    if (!list || code == DR_ENOMEM || code == DR_ECANCELED)
        return code;
    error_list_add(list, err);
    return 0;
}

void error_list_add(struct error_list *list, const struct dr_error *err)
{
    for (int i = 0; i < list->n; i++)
        if (!strcmp(list->error[i].text, err->text) && !strcmp(list->error[i].path, err->path))
            return;
    if (list->n < ERROR_LIST_MOST)
        list->error[list->n++] = *err;
    else
        list->more++;
}

int error_list_count(const struct error_list *list)
{
    return list ? list->n + list->more : 0;
}
