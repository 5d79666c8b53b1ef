/* lora_names.c - LoRAs and embeddings by path or by name.
 *
 * A name is that of a file, with or without .safetensors, in one of the folders of the variable
 * DARKROOM_LORAS (DARKROOM_EMBEDDINGS), in the folders of models, or in the user's own folder of
 * them. Two files of one name are an error that lists both: which is meant is not for the order of
 * folders to say. A receipt says it: of files of one name, also where one lies in the current
 * folder, the one with the receipt's digest is taken.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/sha256.h"
#include "coordination/engine.h"
#include "inference/job_loras.h"

struct kind {
    const char *word, *variable, *folder; /* the folder in the user's own data */
};

static const struct kind lora = { "LoRA", "DARKROOM_LORAS", "models/loras" };
static const struct kind embedding = { "embedding", "DARKROOM_EMBEDDINGS", "models/embeddings" };

static const int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;

/* What a search has found. */
struct finding {
    const struct engine *e;
    const struct engine_wanted *wanted;
    struct lora_place *ret;
    int n;
    bool exact;              /* ret has the digest that is wanted */
    char other[DR_PATH_MAX]; /* the second one */
};

/* A file that is there; with --models it must be inside of those folders. */
static bool locate(const struct engine *e, const char *path, struct lora_place *ret)
{
    struct engine_model at = { .root = { .fd = -1 } };
    bool there = e->models.n ? !engine_find_in_roots(e, "loras", path, &at, NULL)
                             : !dr_realpath(at.path, sizeof at.path, path, NULL);
    if (!there || !dr_is_file(at.path))
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

static void try_folder(struct finding *f, const char *folder)
{
    static const char *const extensions[] = { "", ".safetensors" };
    for (int i = 0; i < 2 && !f->exact; i++) {
        char path[DR_PATH_MAX];
        struct lora_place found;
        int n = snprintf(path, sizeof path, "%s/%s%s", folder, f->wanted->name, extensions[i]);
        if (n >= (int)sizeof path || !locate(f->e, path, &found))
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

/* Folders with ':' between. */
static void try_list(struct finding *f, const char *list)
{
    for (const char *p = list; p && *p;) {
        char folder[DR_PATH_MAX];
        size_t n = strcspn(p, ":");
        if (n && n < sizeof folder) {
            snprintf(folder, sizeof folder, "%.*s", (int)n, p);
            try_folder(f, folder);
        }
        p += n;
        p += *p == ':';
    }
}

static void try_own(struct finding *f, const struct kind *kind)
{
    char folder[DR_PATH_MAX];
    if (!dr_data_path(folder, sizeof folder, kind->folder, NULL))
        try_folder(f, folder);
}

static int fail_missing(const struct engine *e, const struct kind *kind, const char *field,
                        const char *name, struct dr_error *err)
{
    char expected[120], hint[120];
    snprintf(expected, sizeof expected,
             e->models.n ? "a file inside the folders of models, or its name"
                         : "a file, or the name of one in a folder of %ss",
             kind->word);
    snprintf(hint, sizeof hint, "folders are those of %s and of models", kind->variable);
    return dr_fail_field(err, DR_ENOENT, field, name, expected, hint);
}

static void try_folders(struct finding *f, const struct kind *kind)
{
    const struct engine *e = f->e;
    if (strchr(f->wanted->name, '/') || *f->wanted->name == '.')
        return;
    try_list(f, getenv(kind->variable));
    for (int i = 0; i < e->models.n; i++)
        try_folder(f, e->models.folder[i]);
    if (!e->models.n)
        try_list(f, getenv("DARKROOM_MODELS"));
    try_own(f, kind);
}

static int find(const struct engine *e, const struct kind *kind, const struct engine_wanted *wanted,
                struct lora_place *ret, struct dr_error *err)
{
    struct lora_place here;
    struct finding f = { .e = e, .wanted = wanted, .ret = ret };
    char both[2 * DR_PATH_MAX + 8];
    bool is_here = locate(e, wanted->name, &here);
    if (!is_here || (*wanted->sha256 && !is_exact(&f, &here)))
        try_folders(&f, kind);
    if (f.exact)
        return 0;
    if (is_here) {
        *ret = here;
        return 0;
    }
    if (f.n == 1)
        return 0;
    snprintf(both, sizeof both, "%s and %s", ret->path, f.other);
    return f.n ? dr_fail_field(err, DR_EINVAL, wanted->field, both, "one file of that name",
                               "give the path of the one that is meant")
               : fail_missing(e, kind, wanted->field, wanted->name, err);
}

int engine_find_lora(const struct engine *e, const struct engine_wanted *wanted,
                     struct lora_place *ret, struct dr_error *err)
{
    return find(e, &lora, wanted, ret, err);
}

int engine_open_embedding(const struct engine *e, const struct engine_wanted *wanted, int *ret_fd,
                          struct dr_error *err)
{
    struct lora_place place;
    int r = find(e, &embedding, wanted, &place, err);
    return r < 0 ? r : open_place(e, wanted->field, &place, ret_fd, err);
}
