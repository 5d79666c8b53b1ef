/* members.c - see members.h. */
#include "base/members.h"

#include <string.h>

int dr_members_check(const char *kind, const char *descriptor, const struct dr_member *members,
                     size_t n, struct dr_error *err)
{
    for (size_t i = 0; i < n; i++) {
        if (!members[i].there)
            return dr_fail(err, DR_EINTERNAL, "%s %s: member %s is missing", kind, descriptor,
                           members[i].name);
    }
    return 0;
}

int dr_members_check_name(const char *kind, const char *line, const char *name,
                          struct dr_error *err)
{
    struct dr_member member = { "name", name != NULL };
    int r = dr_members_check(kind, line, &member, 1, err);
    if (!r && strcmp(name, line))
        r = dr_fail(err, DR_EINTERNAL, "%s %s: member name is \"%s\", expected \"%s\"", kind, line,
                    name, line);
    return r;
}
