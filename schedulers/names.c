/* names.c - see names.h. */
#include "schedulers/names.h"

#include <string.h>

bool sched_fold_name(const char *name, char dst[SCHED_NAME_BYTES])
{
    size_t n = 0;
    for (const char *p = name; *p; p++) {
        if (*p == ' ' || *p == '-' || *p == '_')
            continue;
        if (n + 1 >= SCHED_NAME_BYTES)
            return false;
        dst[n++] = *p >= 'A' && *p <= 'Z' ? (char)(*p + 'a' - 'A') : *p;
    }
    dst[n] = '\0';
    return true;
}

bool sched_same_name(const char *a, const char *b)
{
    char fa[SCHED_NAME_BYTES], fb[SCHED_NAME_BYTES];
    return sched_fold_name(a, fa) && sched_fold_name(b, fb) && !strcmp(fa, fb);
}
