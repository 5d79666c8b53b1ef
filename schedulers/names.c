/* names.c - see names.h. */
#include "schedulers/names.h"

#include <stdio.h>
#include <string.h>

#include "base/words.h"

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

/* Folded. A sampler's name may end in that of a schedule. */
static const char elsewhere[] = "dpmfast plms pndm ddpm sasolver sasolverpece restart";

int sched_tell_elsewhere(const char *name, int code, struct dr_error *err)
{
    static const char *const endings[] = { "karras", "exponential", "" };
    char folded[SCHED_NAME_BYTES];
    bool known = false;
    if (!err || !sched_fold_name(name, folded))
        return code;
    for (size_t i = 0; !known && i < sizeof endings / sizeof *endings; i++) {
        size_t n = strlen(folded), m = strlen(endings[i]);
        if (n > m && !strcmp(folded + n - m, endings[i])) {
            char without[SCHED_NAME_BYTES];
            snprintf(without, sizeof without, "%.*s", (int)(n - m), folded);
            known = word_in(elsewhere, ' ', without);
        }
    }
    size_t used = strlen(err->text);
    if (known)
        snprintf(err->text + used, sizeof err->text - used,
                 "; %.60s is not supported by darkroom "
                 "yet",
                 name);
    return code;
}
