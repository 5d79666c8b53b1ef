/* system.h - the memory and processors that this process may use.
 *
 * Limits come from the machine (MemAvailable), from control groups (version 1 and 2, each ancestor
 * of the process's own group that is visible here) and from resource limits (RLIMIT_AS,
 * RLIMIT_DATA). Every function reads /proc and /sys below `root`: "" for the system's own, a
 * folder with made ones in tests.
 */
#ifndef DR_BASE_SYSTEM_H
#define DR_BASE_SYSTEM_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/* A limit and what is left under it. */
struct system_bound {
    size_t limit;     /* bytes */
    size_t left;      /* bytes that can still be allocated; 0 when over the limit */
    char source[192]; /* "cgroup memory.max of /a/b", "RLIMIT_AS"; "": there is no limit */
};

struct system_memory {
    struct system_bound machine; /* what can be allocated without swapping */
    struct system_bound group;   /* the control group with the least left */
    struct system_bound data;    /* RLIMIT_DATA: private memory */
    struct system_bound address; /* RLIMIT_AS: address space, mapped files included */
};

/* Pages of files that a group's memory holds count as left: the kernel takes them back before it
 * kills. Limits at or above the machine's memory are ignored, and so are those that cannot be read,
 * except the machine's own. */
void system_memory(const char *root, struct system_memory *ret);

/* The one with the least left. */
const struct system_bound *system_memory_least(const struct system_memory *m);

/* Adds the limit that has the least left to an error that memory ran out, unless its text speaks of
 * a limit. Other errors stay as they are. */
void system_memory_explain(struct dr_error *err);

/* Resident bytes of this process now, and their high-water mark (VmRSS, VmHWM). */
size_t system_resident(void);
size_t system_resident_peak(void);

/* `cpus`, cut by the quotas of control groups; at least 1. */
int system_cpu_quota(const char *root, int cpus);

#endif
