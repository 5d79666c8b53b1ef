/* target.h - where pictures go, and what they are called.
 *
 *     -o picture.png       that file; several pictures become picture-0.png, picture-1.png ...
 *     -o 'p-%03d.png'      a pattern: %d or %03d is the picture's number, {seed} its seed
 *     -o folder/           darkroom-SEED.png in it; made if missing; names in use get -1, -2 ...
 *     -o -                 the bytes on stdout (also a pipe or a device that exists)
 *     (none)               ./darkroom-SEED.png
 *
 * Only a file that the user named exactly is replaced; it keeps its owner, mode and attributes.
 * Names made up from a number or a seed replace nothing: they are refused before drawing if they
 * exist, and get -1, -2 ... if they turn up later.
 */
#ifndef DR_CLI_TARGET_H
#define DR_CLI_TARGET_H

#include <stdbool.h>
#include <sys/types.h>
#include <stdint.h>

#include "base/fs.h"

enum target_kind { TARGET_FILE, TARGET_PATTERN, TARGET_FOLDER, TARGET_STREAM };

struct target {
    enum target_kind kind;
    int batch;                /* pictures in all */
    char folder[DR_PATH_MAX]; /* where files go; "." */
    char name[DR_PATH_MAX];   /* the file or pattern in it; STREAM: the path, "-" for stdout */
    char format[8];           /* png, jpeg or webp */
    bool replaces;            /* FILE, one picture: it existed, and is this one: */
    dev_t device;
    ino_t inode;
};

/* Format of a file name's extension; "" when it has none that we know. */
const char *target_format_of(const char *path);

/* `to` is the option's value, NULL when it was not given; `format` likewise. A format other than
 * the file name's is an error if they must agree, else the format counts. Looks at the file system,
 * changes nothing. DR_EINVAL with path "--output" or "--format" for what makes no sense or must
 * agree and does not, DR_ENOENT for a missing folder. */
int target_plan(const char *to, const char *format, bool agree, int batch, struct target *ret,
                struct dr_error *err);

/* The path of picture `index` with that seed, before any -1, -2. */
int target_path(const struct target *o, int index, uint64_t seed, char *dst, size_t n,
                struct dr_error *err);

/* Before drawing: names of several pictures differ, and none exists. `seed` of the first picture
 * (NULL: not known yet), after `each` pictures the seeds begin again. DR_EINVAL lists the names. */
int target_check(const struct target *o, const uint64_t *seed, int each, struct dr_error *err);

/* Moves a finished file to its place (same file system) and says what it is called there. A folder
 * is made if missing. */
int target_place(const struct target *o, const char *from, int index, uint64_t seed, char *dst,
                 size_t n, struct dr_error *err);

/* By its first bytes: PNG, JPEG or WebP. */
bool target_is_picture(const char *path);

#endif
