/* model_folders.h - kinds of files that are looked for by name, and in which folders. */
#ifndef DR_CORE_COMMUNICATION_MODEL_FOLDERS_H
#define DR_CORE_COMMUNICATION_MODEL_FOLDERS_H

#include <stddef.h>

enum model_folder {
#define KIND(name, ...) FOLDER_##name,
#include "core/communication/model_folders.def"
#undef KIND
    MODEL_FOLDERS
};

struct model_folder_info {
    const char *name, *word, *variable, *others, *help;
};

const struct model_folder_info *model_folder(enum model_folder kind);
/* The kind whose folder has a name of these n bytes; MODEL_FOLDERS: none. */
enum model_folder model_folder_find(const char *name, size_t n);
/* The i-th name of its folder, 0 being the kind's own; its length in *ret_n, 0 past the last. */
const char *model_folder_name(enum model_folder kind, int i, size_t *ret_n);

/* A path of at most that many bytes out of texts like "a:b", with ':' or line feeds between;
 * *text moves on. Blanks around are left out. False: there are no more. */
enum { MODEL_FOLDER_BYTES = 4096 };
int model_folder_next(const char **text, char dst[MODEL_FOLDER_BYTES]);

#endif
