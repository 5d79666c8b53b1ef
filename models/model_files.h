/* model_files.h - the files that a model consists of, each opened once.
 *
 * Whatever belongs to a model is opened here: model_index.json, configurations, weights, shard
 * indexes, tokenizer files. The list that grows from it (name, device, inode, size, times) is the
 * model's identity: its digest is computed over the list's descriptors, a copy is made of exactly
 * these files, and a model in memory is up to date while every name still leads to the file that
 * was opened. Names that were looked for and not found are part of the list, as a file that appears
 * later would have been used. Other files of the folder do not matter.
 *
 *     r = model_files_open(root, path, &files, err);
 *     r = model_files_find(files, "unet/config.json", CONFIG_BYTES, &file, err);    NULL: none
 *     r = model_files_json(files, "model_index.json", true, &limits, &object, err);
 *
 * With a root no name leads out of that folder, whatever links are there or change meanwhile
 * (base/beneath.h); links inside it are followed.
 */
#ifndef DR_MODELS_MODEL_FILES_H
#define DR_MODELS_MODEL_FILES_H

#include <jansson.h>

#include "base/json.h"
#include "base/sha256.h"
#include "models/digest_cache.h"

enum { MODEL_FILES_MAX = 512 };

/* A folder that files of models must lie in, and its descriptor, which must outlive them. */
struct model_root {
    int fd;
    const char *folder; /* absolute, without links */
};

struct model_file {
    enum { MODEL_FILE_ABSENT, MODEL_FILE_PRESENT, MODEL_FILE_FOLDER } kind;
    bool of_folder;        /* a folder was looked for */
    const char *name;      /* relative to the model's folder; "" of a single file, and of what is
                              looked for beside it the name alone */
    const char *path;      /* for errors */
    int fd;                /* PRESENT; else -1 */
    struct digest_key key; /* when it was opened */
    char hex[SHA256_HEX];  /* of a text; "" of weights */
    const char *text;      /* NULL: weights, or forgotten */
    size_t bytes;          /* of the text */
};

struct model_files;

/* The model at `path`, a file or a folder; with a root (NULL: none), a path that begins with the
 * root's. DR_ENOENT; DR_EINVAL when it leads out of the root. */
int model_files_open(const struct model_root *root, const char *path, struct model_files **ret,
                     struct dr_error *err);
void model_files_close(struct model_files *m);

const char *model_files_path(const struct model_files *m);
bool model_files_is_folder(const struct model_files *m);

/* A regular file by its relative name, the same for the same name. *ret is NULL when there is none.
 * text_bytes > 0: it is read whole and hashed, DR_ELIMIT when it is larger; 0: weights. */
int model_files_find(struct model_files *m, const char *name, size_t text_bytes,
                     const struct model_file **ret, struct dr_error *err);
/* The same where it must be there: DR_ENOENT. */
int model_files_need(struct model_files *m, const char *name, size_t text_bytes,
                     const struct model_file **ret, struct dr_error *err);
/* Whether there is a folder of that name. */
int model_files_has_folder(struct model_files *m, const char *name, bool *ret,
                           struct dr_error *err);

/* A JSON object, a new reference. *ret is NULL when it is `optional` and there is no such file. */
int model_files_json(struct model_files *m, const char *name, bool optional,
                     const struct jx_limits *limits, json_t **ret, struct dr_error *err);

/* Gives the memory of all texts back: they were parsed. */
void model_files_forget_texts(struct model_files *m);

/* The list, in the order of finding; NULL past its end. */
const struct model_file *model_files_at(const struct model_files *m, size_t i);

/* Whether every name still leads to the same file, unchanged, or to none. */
bool model_files_current(const struct model_files *m);

/* A descriptor of something in the folder that is no part of the model; -1 with errno. */
int model_files_open_other(const struct model_files *m, const char *name, int flags);

#endif
