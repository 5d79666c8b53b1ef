/* model_names.c - models by name: where they are looked for, and which there are.
 *
 * A name is that of a file, with or without .safetensors, or of a diffusers folder, in one of the
 * folders of --models, of the variable DARKROOM_MODELS, or among the shipped models. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/path_text.h"
#include "coordination/engine.h"

static const char extension[] = ".safetensors", shipped[] = "models";

enum { FOLDERS = ROOTS_MAX + 65 };

/* Folders that exist, in the order of the search. */
struct search {
    char *folder[FOLDERS];
    int n, shipped; /* that of the shipped models; -1: not found */
};

static int add_folder(struct search *s, const char *path, size_t len)
{
    if (s->n == FOLDERS || !len)
        return 0;
    s->folder[s->n] = dr_strndup(DR_TAG_BASE, path, len);
    if (!s->folder[s->n])
        return DR_ENOMEM;
    s->n++;
    return 0;
}

static int search_open(const struct engine *e, struct search *s)
{
    const char *variable = getenv("DARKROOM_MODELS");
    char path[DR_PATH_MAX], real[DR_PATH_MAX] = "";
    int r = 0;
    s->n = 0;
    s->shipped = -1;
    for (int i = 0; !r && i < e->models.n; i++)
        r = add_folder(s, e->models.folder[i], strlen(e->models.folder[i]));
    for (const char *p = variable; !r && p && *p;) {
        size_t n = strcspn(p, ":");
        r = add_folder(s, p, n);
        p += n;
        p += *p == ':';
    }
    if (!r && !dr_share_path(path, sizeof path, shipped, NULL) &&
        !dr_realpath(real, sizeof real, path, NULL))
        r = add_folder(s, real, strlen(real));
    if (!r && s->n && !strcmp(s->folder[s->n - 1], real))
        s->shipped = s->n - 1;
    return r;
}

static void search_close(struct search *s)
{
    for (int i = 0; i < s->n; i++)
        dr_free(s->folder[i]);
}

/* Shipped models are always allowed; others must be inside the models folders. */
static bool find_file(const struct engine *e, const struct search *s, int i, const char *file,
                      struct engine_model *ret)
{
    if (e->models.n && i != s->shipped)
        return !engine_find_in_roots(e, "model", file, ret, NULL);
    ret->root.fd = -1;
    return !dr_realpath(ret->path, sizeof ret->path, file, NULL);
}

bool model_names_find(const struct engine *e, const char *name, struct engine_model *ret)
{
    static const char *const extensions[] = { "", extension };
    struct search s;
    bool found = false;
    if (!*name || strchr(name, '/') || *name == '.')
        return false;
    if (search_open(e, &s) == 0)
        for (int i = 0; !found && i < s.n; i++)
            for (int k = 0; !found && k < 2; k++) {
                char file[DR_PATH_MAX];
                int len = snprintf(file, sizeof file, "%s/%s%s", s.folder[i], name, extensions[k]);
                found = len < (int)sizeof file && find_file(e, &s, i, file, ret);
            }
    search_close(&s);
    return found;
}

/* "model" of "model.safetensors" or of a folder with a model_index.json; 0: it is no model. */
static size_t name_length(const char *path)
{
    char index[DR_PATH_MAX];
    const char *name = dr_path_base(path);
    size_t n = strlen(name), m = strlen(extension);
    if (*name == '.')
        return 0;
    if (n > m && !strcmp(name + n - m, extension))
        return dr_is_file(path) ? n - m : 0;
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

int engine_models(void *engine, struct worker_job *job, json_t **ret_data, struct dr_error *err)
{
    static const char *const keys[] = { NULL };
    struct search s = { .n = 0 };
    int r = message_only(job->data, keys, err);
    if (r < 0)
        return r;
    json_t *folders = json_array(), *models = json_array();
    r = folders && models ? search_open(engine, &s) : DR_ENOMEM;
    for (int i = 0; !r && i < s.n; i++) {
        r = jx_add(folders, json_pack("{s:o,s:b}", "path", path_text_json(s.folder[i]), "exists",
                                      dr_is_dir(s.folder[i])));
        if (!r)
            r = add_models(models, s.folder[i]);
    }
    search_close(&s);
    *ret_data = r ? NULL : json_pack("{s:O,s:O}", "folders", folders, "models", models);
    json_decref(folders);
    json_decref(models);
    return *ret_data ? 0 : dr_fail(err, DR_ENOMEM, "out of memory for the answer");
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
           strcmp(dr_path_extension(model), extension) != 0;
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
