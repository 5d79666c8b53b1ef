/* searched_folders.c - see searched_folders.h. */
#include "coordination/searched_folders.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"

static const char shipped[] = "models";

static int add(struct searched_folders *f, const char *text, bool general, bool is_shipped)
{
    char real[DR_PATH_MAX];
    const char *path = !dr_realpath(real, sizeof real, text, NULL) ? real : text;
    for (int i = 0; i < f->n; i++)
        if (!strcmp(f->folder[i].path, path))
            return 0;
    if (f->n == FOLDERS_MOST || !*path)
        return 0;
    char *copy = dr_strdup(DR_TAG_BASE, path);
    if (!copy)
        return DR_ENOMEM;
    f->folder[f->n].path = copy;
    f->folder[f->n].general = general;
    f->folder[f->n].shipped = is_shipped;
    f->n++;
    return 0;
}

/* A folder for files of any kind, and the folders of this kind in it. */
static int add_general(struct searched_folders *f, enum model_folder kind, const char *path)
{
    const char *name;
    size_t n;
    int r = add(f, path, true, false);
    for (int i = 0; !r && (name = model_folder_name(kind, i, &n)) && n; i++) {
        char below[DR_PATH_MAX];
        int len = snprintf(below, sizeof below, "%s/%.*s", path, (int)n, name);
        if (len < (int)sizeof below && dr_is_dir(below))
            r = add(f, below, false, false);
    }
    return r;
}

static int add_shipped(struct searched_folders *f)
{
    char path[DR_PATH_MAX], real[DR_PATH_MAX];
    bool there = !dr_share_path(path, sizeof path, shipped, NULL) &&
                 !dr_realpath(real, sizeof real, path, NULL);
    return there ? add(f, real, true, true) : 0;
}

static int add_own(struct searched_folders *f, enum model_folder kind)
{
    char below[64], path[DR_PATH_MAX];
    snprintf(below, sizeof below, "%s/%s", shipped, model_folder(kind)->name);
    return dr_data_path(path, sizeof path, below, NULL) ? 0 : add(f, path, false, false);
}

int searched_folders_open(const struct engine *e, enum model_folder kind,
                          struct searched_folders *ret, struct dr_error *err)
{
    char path[MODEL_FOLDER_BYTES];
    const char *own = getenv(model_folder(kind)->variable), *any = getenv("DARKROOM_MODELS");
    bool adapters = kind == FOLDER_loras || kind == FOLDER_embeddings;
    int r = 0;
    ret->n = 0;
    while (!r && own && model_folder_next(&own, path))
        r = add(ret, path, false, false);
    for (int i = 0; !r && i < e->models.n; i++)
        r = add_general(ret, kind, e->models.folder[i]);
    while (!r && any && model_folder_next(&any, path))
        r = add_general(ret, kind, path);
    if (!r)
        r = add_own(ret, kind);
    if (!r && !adapters)
        r = add_shipped(ret);
    if (!r)
        return 0;
    searched_folders_close(ret);
    return dr_fail(err, r, "out of memory for the folders of models");
}

void searched_folders_close(struct searched_folders *f)
{
    for (int i = 0; i < f->n; i++)
        dr_free(f->folder[i].path);
    f->n = 0;
}
