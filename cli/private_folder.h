/* private_folder.h - where a worker writes before the results go to their place by renaming.
 *
 * It lies in the folder that the results will lie in, or, while that one is still to be made, in
 * the nearest one above: the same file system, and nothing is made for a run that fails. Its name
 * begins with a dot. While the run lives it holds a lock on the folder, which the kernel releases
 * however the run ends. A killed run leaves its folder behind, and the next run there removes it:
 * only a folder that is not locked, belongs to this user and holds the marker (.owner) that a run
 * wrote for this very folder, and in it only files called as a worker calls its results.
 */
#ifndef DR_CLI_PRIVATE_FOLDER_H
#define DR_CLI_PRIVATE_FOLDER_H

#include <stdbool.h>

#include "base/fs.h"

struct private_folder {
    char path[DR_PATH_MAX]; /* "": none */
    int lock;               /* descriptor of the folder that holds the lock; below 0: none */
    bool given;             /* what is in it belongs to the user now: private_remove leaves it */
};

/* `place`, or the nearest folder above it that exists. */
int private_place(const char *place, char dst[DR_PATH_MAX], struct dr_error *err);

/* For results in `place`, which need not exist. private_remove also after a failure; on zeroed
 * memory it does nothing. */
int private_make(struct private_folder *p, const char *place, struct dr_error *err);

/* Moves finished files to `place`, which is made if missing. DR_EINVAL when a name is in use there:
 * nothing is replaced. */
int private_keep(const struct private_folder *p, const char *place, struct dr_error *err);

/* Whether a stage of an earlier run lies in the folder, and its name: known before a run. */
bool private_find_stage(const char *place, char ret_name[256]);

/* Unless it was given away: removes the folder and the results in it. Anything else in it stays,
 * and so does the folder then. */
void private_remove(struct private_folder *p);

#endif
