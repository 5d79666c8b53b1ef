/* roots.h - which files a worker may touch: those inside folders it was started with. */
#ifndef DR_CORE_ROOTS_H
#define DR_CORE_ROOTS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/fs.h"

enum { ROOTS_MAX = 64 };

/* Resolved folders and their descriptors, owned. Zero is empty. */
struct roots {
    char *folder[ROOTS_MAX];
    int fd[ROOTS_MAX];
    int n;
};

/* The folder must exist. */
int roots_add(struct roots *r, const char *folder, struct dr_error *err);
void roots_free(struct roots *r);

/* Where `path`, after links are followed as far as it exists, would lie: the number of a root, and
 * the path below it ("." for the root itself). A candidate only, as links may change at any moment:
 * open it with dr_open_beneath. For a path that does not exist yet the deepest existing folder
 * decides; ".." past that point is refused. DR_EINVAL when it is in no root; `field` names the
 * request's field in errors. */
int roots_locate(const struct roots *r, const char *field, const char *path, int *ret_root,
                 char ret_below[DR_PATH_MAX], struct dr_error *err);

/* A descriptor of `path`, which is inside one of the roots even if links change meanwhile. Flags
 * and mode as of open(2). DR_EINVAL when it leads out of the roots. */
int roots_open(const struct roots *r, const char *field, const char *path, int flags, unsigned mode,
               int *ret_fd, struct dr_error *err);

/* Whether roots_open_folder with `make` can be expected to work: the deepest part of the path that
 * exists is a folder in a root, and something can be made in it. Makes nothing. */
int roots_try_folder(const struct roots *r, const char *field, const char *path,
                     struct dr_error *err);

/* The same for a folder, which with `make` is made, with those above it, if it is missing. */
int roots_open_folder(const struct roots *r, const char *field, const char *path, bool make,
                      int *ret_fd, struct dr_error *err);

#endif
