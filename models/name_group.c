/* name_group.c - one warning about many names, see checkpoint_impl.h. A file may have tens of
 * thousands of unused tensors; a reader needs the first few and the count. */
#include "models/checkpoint_impl.h"

#include <stdio.h>
#include <string.h>

enum { NAME_BYTES = 120, LIST_BYTES = NAMES_SHOWN * (NAME_BYTES + 24) };

void name_group_add(struct name_group *g, const char *name)
{
    if (g->n < NAMES_SHOWN)
        g->first[g->n] = name;
    g->n++;
}

/* "'a', 'b', 'c', ..." */
static void list(const struct name_group *g, char dst[LIST_BYTES])
{
    size_t used = 0;
    dst[0] = '\0';
    for (size_t i = 0; i < g->n && i < NAMES_SHOWN; i++)
        used += (size_t)snprintf(dst + used, LIST_BYTES - used, "%s'%.20s%s%.*s'", i ? ", " : "",
                                 g->prefix ? g->prefix : "", g->prefix ? "." : "", NAME_BYTES - 24,
                                 g->first[i]);
    if (g->n > NAMES_SHOWN)
        snprintf(dst + used, LIST_BYTES - used, ", ...");
}

int checkpoint_warn_unused(struct checkpoint *c, const struct name_group *g, struct dr_error *err)
{
    char names[LIST_BYTES];
    int r = 0;
    list(g, names);
    if (g->n == 1)
        r = checkpoint_warn(c, "tensor %s is not used", names);
    else if (g->n)
        r = checkpoint_warn(c, "%zu tensors are not used: %s", g->n, names);
    return r ? dr_fail(err, r, "out of memory for a warning") : 0;
}

int checkpoint_warn_keys(struct checkpoint *c, const char *file, const struct name_group *g,
                         struct dr_error *err)
{
    char names[LIST_BYTES];
    int r = 0;
    list(g, names);
    if (g->n == 1)
        r = checkpoint_warn(c, "%s: key %s is unknown and has no effect", file, names);
    else if (g->n)
        r = checkpoint_warn(c, "%s: %zu keys are unknown and have no effect: %s", file, g->n,
                            names);
    return r ? dr_fail(err, r, "out of memory for a warning") : 0;
}
