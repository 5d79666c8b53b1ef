/* file_names.c - models, parts of models, LoRAs and embeddings by path or by name.
 *
 * A name is that of a file, with or without its extension, or of a folder of a model, in one of the
 * folders of its kind (searched_folders.h); "style/lamp" is one in a folder below these. Two files
 * of one name are an error that lists both: which is meant is not for the order of folders to say;
 * a shipped model only counts where there is no other. A receipt says it: of files of one name,
 * also where one lies in the current folder, the one with the receipt's digest is taken.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/sha256.h"
#include "coordination/searched_folders.h"
#include "inference/job_loras.h"

static const int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;

/* What a search has found. */
struct finding {
    const struct engine *e;
    const struct engine_wanted *wanted;
    bool folders; /* a folder is one, too: of a model */
    struct lora_place *ret;
    int n;
    bool exact;              /* ret has the digest that is wanted */
    char other[DR_PATH_MAX]; /* the second one */
};

/* A file that is there; with --models it must be inside of those folders, or shipped. */
static bool locate(const struct engine *e, const char *path, bool folders, bool shipped,
                   struct lora_place *ret)
{
    struct engine_model at = { .root = { .fd = -1 } };
    bool there = e->models.n && !shipped ? !engine_find_in_roots(e, "loras", path, &at, NULL)
                                         : !dr_realpath(at.path, sizeof at.path, path, NULL);
    if (!there || !(dr_is_file(at.path) || (folders && dr_is_dir(at.path))))
        return false;
    memcpy(ret->path, at.path, sizeof ret->path);
    ret->root = at.root;
    return true;
}

static int open_place(const struct engine *e, const char *field, const struct lora_place *place,
                      int *ret_fd, struct dr_error *err)
{
    if (e->models.n)
        return roots_open(&e->models, field, place->path, flags, 0, ret_fd, err);
    *ret_fd = open(place->path, flags);
    return *ret_fd < 0 ? dr_fail_errno(err, place->path, "open") : 0;
}

/* Whether it is the file of a receipt. */
static bool is_exact(const struct finding *f, const struct lora_place *found)
{
    char hex[SHA256_HEX];
    int fd;
    if (!*f->wanted->sha256 || open_place(f->e, f->wanted->field, found, &fd, NULL) < 0)
        return false;
    bool same = !sha256_fd(fd, found->path, f->wanted->stop, NULL, NULL, hex, NULL) &&
                !strcasecmp(hex, f->wanted->sha256);
    close(fd);
    return same;
}

static void try_folder(struct finding *f, const char *folder, bool shipped)
{
    static const char *const extensions[] = { "", ".safetensors", ".gguf" };
    for (int i = 0; i < 3 && !f->exact; i++) {
        char path[DR_PATH_MAX];
        struct lora_place found;
        int n = snprintf(path, sizeof path, "%s/%s%s", folder, f->wanted->name, extensions[i]);
        if (n >= (int)sizeof path || !locate(f->e, path, f->folders, shipped, &found))
            continue;
        f->exact = is_exact(f, &found);
        if (!f->n || f->exact)
            *f->ret = found;
        else if (!strcmp(found.path, f->ret->path))
            continue;
        else
            memcpy(f->other, found.path, sizeof f->other);
        f->n++;
    }
}

/* Whether it can be a name below a folder: nothing in it leads out. */
static bool is_name(const char *name)
{
    size_t n;
    for (const char *p = name; *p; p += n + (p[n] == '/')) {
        n = strcspn(p, "/");
        if (!n || *p == '.')
            return false;
    }
    return *name != '\0' && !strstr(name, "://");
}

static int try_folders(struct finding *f, enum model_folder kind, struct dr_error *err)
{
    struct searched_folders folders;
    if (!is_name(f->wanted->name))
        return 0;
    int r = searched_folders_open(f->e, kind, &folders, err);
    for (int i = 0; !r && i < folders.n; i++)
        if (!folders.folder[i].shipped || !f->n)
            try_folder(f, folders.folder[i].path, folders.folder[i].shipped);
    if (!r)
        searched_folders_close(&folders);
    return r;
}

static int fail_missing(const struct engine *e, enum model_folder kind, const char *field,
                        const char *name, struct dr_error *err)
{
    char expected[120], hint[120];
    snprintf(expected, sizeof expected,
             e->models.n ? "a file inside the folders of models, or its name"
                         : "a file, or the name of one in a folder of %ss",
             model_folder(kind)->word);
    snprintf(hint, sizeof hint, "folders are those of %s and of models",
             model_folder(kind)->variable);
    return dr_fail_field(err, DR_ENOENT, field, name, expected, hint);
}

static int fail_several(const struct finding *f, struct dr_error *err)
{
    char both[2 * DR_PATH_MAX + 8];
    snprintf(both, sizeof both, "%s and %s", f->ret->path, f->other);
    return dr_fail_field(err, DR_EINVAL, f->wanted->field, both, "one file of that name",
                         "give the path of the one that is meant");
}

static int find(const struct engine *e, enum model_folder kind, const struct engine_wanted *wanted,
                struct lora_place *ret, struct dr_error *err)
{
    struct lora_place here;
    struct finding f = { .e = e, .wanted = wanted, .ret = ret };
    bool is_here = locate(e, wanted->name, false, false, &here);
    if (!is_here || (*wanted->sha256 && !is_exact(&f, &here))) {
        int r = try_folders(&f, kind, err);
        if (r)
            return r;
    }
    if (f.exact)
        return 0;
    if (is_here) {
        *ret = here;
        return 0;
    }
    return f.n == 1  ? 0
           : f.n > 1 ? fail_several(&f, err)
                     : fail_missing(e, kind, wanted->field, wanted->name, err);
}

int engine_find_lora(const struct engine *e, const struct engine_wanted *wanted,
                     struct lora_place *ret, struct dr_error *err)
{
    return find(e, FOLDER_loras, wanted, ret, err);
}

int engine_open_embedding(const struct engine *e, const struct engine_wanted *wanted, int *ret_fd,
                          struct dr_error *err)
{
    struct lora_place place;
    int r = find(e, FOLDER_embeddings, wanted, &place, err);
    return r < 0 ? r : open_place(e, wanted->field, &place, ret_fd, err);
}

int engine_find_name(const struct engine *e, const char *field, const char *name,
                     struct engine_model *ret, struct dr_error *err)
{
    static const struct {
        const char *field;
        enum model_folder kind;
    } kinds[] = {
        { "unet", FOLDER_unet },
        { "vae", FOLDER_vae },
        { "text_encoder", FOLDER_text_encoders },
        { "text_encoder_2", FOLDER_text_encoders },
    };
    const struct engine_wanted wanted = { .field = field, .name = name, .sha256 = "" };
    struct lora_place place;
    struct finding f = { .e = e, .wanted = &wanted, .folders = true, .ret = &place };
    enum model_folder kind = FOLDER_checkpoints;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(kinds[i].field, field))
            kind = kinds[i].kind;
    int r = try_folders(&f, kind, err);
    if (!r && f.n > 1)
        r = fail_several(&f, err);
    if (r || !f.n)
        return r ? r : DR_ENOENT;
    memcpy(ret->path, place.path, sizeof ret->path);
    ret->root = place.root;
    return 0;
}
