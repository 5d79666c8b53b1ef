/* roots.h - which files a worker may touch: those inside folders it was started with. */
#ifndef DR_CORE_ROOTS_H
#define DR_CORE_ROOTS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

enum { ROOTS_MAX = 64 };

/* Resolved folders, owned. Zero is empty. */
struct roots {
    char *folder[ROOTS_MAX];
    int n;
};

/* The folder must exist. */
int roots_add(struct roots *r, const char *folder, struct dr_error *err);
void roots_free(struct roots *r);

/* 0 when `path`, after all links are followed, lies in one of the roots. What does not exist yet is
 * judged by the deepest folder that does; ".." past that point is refused. `field` names the
 * request's field in errors. */
int roots_check(const struct roots *r, const char *field, const char *path, struct dr_error *err);

#endif
