/* extra_model_paths.c - see extra_model_paths.h. Reference: ComfyUI, utils/extra_config.py. */
#include "cli/extra_model_paths.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/fs.h"
#include "cli/config.h"
#include "core/communication/model_folders.h"

/* Whether a list with ':' between has it. */
static bool has(const char *list, const char *folder)
{
    char one[MODEL_FOLDER_BYTES];
    while (list && model_folder_next(&list, one))
        if (!strcmp(one, folder))
            return true;
    return false;
}

int extra_model_paths_add(const char *variable, const char *folder, struct dr_error *err)
{
    const char *before = getenv(variable);
    struct buf all;
    if (has(before, folder))
        return 0;
    buf_init(&all, DR_TAG_BASE, 0);
    int r = buf_printf(&all, "%s%s%s", before ? before : "", before && *before ? ":" : "", folder);
    if (!r && setenv(variable, buf_text(&all), 1))
        r = DR_ENOMEM;
    buf_free(&all);
    return r ? dr_fail(err, r, "out of memory for the folders of models") : 0;
}

/* `path` as it is, or from `folder` on; "~/" is the home folder. */
static int path_below(const char *folder, const char *path, char *dst)
{
    const char *home = getenv("HOME");
    return !strncmp(path, "~/", 2) && home ? dr_path_join(dst, DR_PATH_MAX, home, path + 2)
                                           : dr_path_join(dst, DR_PATH_MAX, folder, path);
}

/* Where the paths of an entry's section begin. */
static int base_of(const struct config *c, const struct config_entry *e, char *dst)
{
    char key[300], folder[DR_PATH_MAX];
    int section = (int)strcspn(e->key, ".");
    size_t n = (size_t)(dr_path_base(c->path) - c->path);
    snprintf(folder, sizeof folder, "%.*s", n ? (int)n : 1, n ? c->path : ".");
    snprintf(key, sizeof key, "%.*s.base_path", section, e->key);
    const struct config_entry *base = config_find(c, key);
    return path_below(folder, base && !base->null ? base->value : "", dst);
}

static int take_entry(const struct config *c, const struct config_entry *e, struct dr_error *err)
{
    char base[DR_PATH_MAX], one[MODEL_FOLDER_BYTES], path[DR_PATH_MAX];
    const char *dot = strchr(e->key, '.'), *value = e->value;
    enum model_folder kind = dot ? model_folder_find(dot + 1, strlen(dot + 1)) : MODEL_FOLDERS;
    int r = 0;
    if (kind == MODEL_FOLDERS)
        return 0;
    if (base_of(c, e, base))
        return config_fail(c, e, err, "a path is too long");
    while (!r && model_folder_next(&value, one)) {
        if (path_below(base, one, path))
            return config_fail(c, e, err, "a path is too long");
        r = extra_model_paths_add(model_folder(kind)->variable, path, err);
    }
    return r;
}

int extra_model_paths_read(const char *path, struct dr_error *err)
{
    struct config c;
    int r = config_load(path, &c, err);
    if (r)
        return r;
    for (size_t i = 0; !r && i < c.count; i++)
        r = take_entry(&c, &c.entries[i], err);
    config_free(&c);
    return r;
}
