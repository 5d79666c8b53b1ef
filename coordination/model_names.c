/* model_names.c - which files there are to be called by name (file_names.c), and what to say where
 * there is none. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/path_text.h"
#include "coordination/searched_folders.h"

static const char *const extensions[] = { ".safetensors", ".gguf" };

enum { EXTENSIONS = sizeof extensions / sizeof *extensions };

/* "model" of "model.safetensors" or of a folder with a model_index.json; 0: it is no model. */
static size_t name_length(const char *path)
{
    char index[DR_PATH_MAX];
    const char *name = dr_path_base(path);
    size_t n = strlen(name);
    if (*name == '.')
        return 0;
    for (int i = 0; i < EXTENSIONS; i++) {
        size_t m = strlen(extensions[i]);
        if (n > m && !strcmp(name + n - m, extensions[i]))
            return dr_is_file(path) ? n - m : 0;
    }
    return !dr_path_join(index, sizeof index, path, "model_index.json") && dr_is_file(index) ? n
                                                                                             : 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The paths of a folder's models in a definite order; frees with dr_free each. */
static int list_folder(const char *folder, char ***ret_paths, size_t *ret_n)
{
    DIR *dir = opendir(folder);
    char **paths = NULL;
    size_t n = 0, room = 0;
    int r = 0;
    for (struct dirent *e; dir && !r && (e = readdir(dir));) {
        char path[DR_PATH_MAX];
        if (dr_path_join(path, sizeof path, folder, e->d_name) || !name_length(path))
            continue;
        if (n == room) {
            room = room ? 2 * room : 16;
            char **more = dr_realloc(DR_TAG_BASE, paths, room * sizeof *paths);
            r = more ? 0 : DR_ENOMEM;
            paths = more ? more : paths;
        }
        if (!r && (paths[n] = dr_strdup(DR_TAG_BASE, path)))
            n++;
        else
            r = DR_ENOMEM;
    }
    if (dir)
        closedir(dir);
    if (n)
        qsort(paths, n, sizeof *paths, by_name);
    *ret_paths = paths;
    *ret_n = n;
    return r;
}

/* "mod%FFel" if a name is not UTF-8: for display, since a request could not spell it. */
static json_t *name_json(const char *path)
{
    size_t n = name_length(path);
    json_t *plain = json_stringn(dr_path_base(path), n);
    return plain ? plain : path_text_json(path);
}

static int add_models(json_t *list, const char *folder)
{
    char **paths;
    size_t n;
    int r = list_folder(folder, &paths, &n);
    for (size_t i = 0; i < n; i++) {
        if (!r)
            r = jx_add(list, json_pack("{s:o,s:o}", "name", name_json(paths[i]), "path",
                                       path_text_json(paths[i])));
        dr_free(paths[i]);
    }
    dr_free(paths);
    return r;
}

/* The files of a kind under `key`, and its folders in `folders`. General folders, whose files may
 * be of any kind, are those of models. */
static int add_kind(const struct engine *e, enum model_folder kind, json_t *o, json_t *folders)
{
    bool models = kind == FOLDER_checkpoints;
    struct searched_folders f;
    json_t *list = json_array();
    int r = jx_set(o, models ? "models" : model_folder(kind)->name, list);
    if (r)
        return r;
    r = searched_folders_open(e, kind, &f, NULL);
    if (r)
        return r;
    for (int i = 0; !r && i < f.n; i++) {
        const char *path = f.folder[i].path, *of = model_folder(kind)->name;
        if (f.folder[i].general && !models)
            continue;
        r = jx_add(folders, json_pack("{s:o,s:b,s:o}", "path", path_text_json(path), "exists",
                                      dr_is_dir(path), "kind",
                                      f.folder[i].general ? json_null() : json_string(of)));
        if (!r)
            r = add_models(list, path);
    }
    searched_folders_close(&f);
    return r;
}

int engine_names_json(const struct engine *e, json_t **ret, struct dr_error *err)
{
    json_t *o = json_object(), *folders = json_array();
    int r = jx_set(o, "folders", folders);
    for (int i = 0; !r && i < MODEL_FOLDERS; i++)
        r = add_kind(e, (enum model_folder)i, o, folders);
    if (r)
        json_decref(o);
    else
        *ret = o;
    return r ? dr_fail(err, DR_ENOMEM, "out of memory for the answer") : 0;
}

int engine_models(void *engine, struct worker_job *job, json_t **ret_data, struct dr_error *err)
{
    static const char *const keys[] = { NULL };
    int r = message_only(job->data, keys, err);
    return r < 0 ? r : engine_names_json(engine, ret_data, err);
}

static int fail(const char *field, const char *model, int code, struct dr_error *err)
{
    if (!err)
        return code;
    snprintf(err->path, sizeof err->path, "%s", field);
    snprintf(err->got, sizeof err->got, "%s", model);
    snprintf(err->expected, sizeof err->expected, "a model's file, folder or name");
    return code;
}

/* "organization/model", as Hugging Face calls its models. */
static bool is_hub_id(const char *model)
{
    static const char word[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
                               "-._";
    size_t n = strspn(model, word), m = model[n] == '/' ? strspn(model + n + 1, word) : 0;
    return n && m && !model[n + 1 + m] && *model != '.' &&
           strcmp(dr_path_extension(model), extensions[0]) != 0;
}

bool model_names_are(const char *model)
{
    return strstr(model, "://") || (*model != '.' && !strchr(model, '/'));
}

int model_names_fail(const char *field, const char *model, struct dr_error *err)
{
    if (strstr(model, "://"))
        return fail(field, model,
                    dr_fail(err, DR_ENOENT,
                            "%s: %.300s is a URL; download the file and give its path", field,
                            model),
                    err);
    if (is_hub_id(model))
        return fail(field, model,
                    dr_fail(err, DR_ENOENT,
                            "%s: no such file or folder: %.200s (if this is a Hugging Face id: "
                            "it is not downloaded; give the path of a .safetensors file or "
                            "diffusers folder)",
                            field, model),
                    err);
    return fail(field, model,
                dr_fail(err, DR_ENOENT,
                        "%s: no such file, folder or model name: %.300s (see darkroom help "
                        "models)",
                        field, model),
                err);
}
