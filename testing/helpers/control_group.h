/* control_group.h - a real control group with a limit of memory, for tests; version 1 or 2.
 *
 *     if (!control_group_make(&g, 200000000))
 *         skip();                      // not permitted here
 *     pid = fork();
 *     if (!pid) {                      // a process does not come back out
 *         if (!control_group_enter(&g)) ...
 *     }
 *     waitpid(pid, ...);
 *     control_group_remove(&g);
 */
#ifndef DR_TESTING_HELPERS_CONTROL_GROUP_H
#define DR_TESTING_HELPERS_CONTROL_GROUP_H

#include <stdbool.h>
#include <stddef.h>

struct control_group {
    char folder[200], inner[220]; /* the limit is the outer one's, processes enter the inner one */
    const char *file;             /* of the limit */
};

/* Says on stdout why it cannot. */
bool control_group_make(struct control_group *g, size_t limit);
bool control_group_enter(const struct control_group *g);
void control_group_remove(const struct control_group *g);

#endif
