/* searched_folders.h - the folders in which files of a kind are looked for. Internal to
 * coordination/. */
#ifndef DR_COORDINATION_SEARCHED_FOLDERS_H
#define DR_COORDINATION_SEARCHED_FOLDERS_H

#include "coordination/engine.h"
#include "core/communication/model_folders.h"

enum { FOLDERS_MOST = 512 };

struct searched_folders {
    struct {
        char *path;
        bool general; /* for files of any kind */
        bool shipped; /* the program's own; counts only where nothing else has the name */
    } folder[FOLDERS_MOST];
    int n;
};

/* In the order of the search: those of the kind's variable, those of --models and DARKROOM_MODELS
 * with the folders of that kind in them, the user's own, the shipped one. They need not exist.
 * DR_ENOMEM. */
int searched_folders_open(const struct engine *e, enum model_folder kind,
                          struct searched_folders *ret, struct dr_error *err);
void searched_folders_close(struct searched_folders *f);

#endif
