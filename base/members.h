/* members.h - whether a descriptor of a table has what it must have.
 *
 * Tables here are lists of `const struct` descriptors filled by member name, so the compiler says
 * nothing about one that is left out. Each program checks its tables at its start, and the error
 * names the descriptor and the member.
 */
#ifndef DR_BASE_MEMBERS_H
#define DR_BASE_MEMBERS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct dr_member {
    const char *name;
    bool there;
};

/* DR_EINTERNAL about the first that is not there: "sampler euler: member feed is missing". */
int dr_members_check(const char *kind, const char *descriptor, const struct dr_member *members,
                     size_t n, struct dr_error *err);

/* The same for a name that must be that of the descriptor's line in its table. */
int dr_members_check_name(const char *kind, const char *line, const char *name,
                          struct dr_error *err);

#endif
