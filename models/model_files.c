/* model_files.c - see model_files.h. */
#include "models/model_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/beneath.h"
#include "base/buf.h"
#include "base/fs.h"

struct model_files {
    int root; /* AT_FDCWD: anywhere */
    const char *folder;
    char *path;
    const char *below; /* the path as opened beneath the root */
    bool is_folder;
    struct model_file *file[MODEL_FILES_MAX];
    size_t n;
};

/* ---- the model ---- */

static int no_memory(const char *path, struct dr_error *err)
{
    return dr_fail(err, DR_ENOMEM, "out of memory to open %s", path);
}

/* An error of opening `path`, from errno. */
static int fail_open(const struct model_files *m, const char *path, struct dr_error *err)
{
    if (m->root != AT_FDCWD && (errno == EXDEV || errno == ELOOP))
        return dr_fail(err, DR_EINVAL, "%s: leads out of %s, the folder of models", path,
                       m->folder);
    return dr_fail_errno(err, path, "open");
}

/* Of a path that leads to the model: bytes of the folder that names are relative to. */
static size_t folder_bytes(const struct model_files *m, const char *path)
{
    return m->is_folder ? strlen(path) : (size_t)(dr_path_base(path) - path);
}

/* A descriptor of a relative name, "" being the model itself; -1 with errno. */
static int open_name(const struct model_files *m, const char *name, int flags)
{
    char path[DR_PATH_MAX], folder[DR_PATH_MAX];
    if (!*name)
        return dr_open_beneath(m->root, m->below, flags, 0);
    snprintf(folder, sizeof folder, "%.*s", (int)folder_bytes(m, m->below), m->below);
    if (dr_path_join(path, sizeof path, folder, name)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    return dr_open_beneath(m->root, path, flags, 0);
}

int model_files_open_other(const struct model_files *m, const char *name, int flags)
{
    return open_name(m, name, flags | O_NONBLOCK | O_NOCTTY);
}

static int open_model(struct model_files *m, const struct model_root *root, const char *path,
                      struct dr_error *err)
{
    struct stat st;
    m->path = dr_strdup(DR_TAG_FILE, path);
    if (!m->path)
        return no_memory(path, err);
    m->below = m->path;
    m->root = AT_FDCWD;
    if (root) {
        size_t n = strlen(root->folder);
        bool inside = !strncmp(path, root->folder, n) &&
                      (!path[n] || path[n] == '/' || root->folder[n - 1] == '/');
        if (!inside)
            return dr_fail(err, DR_EINVAL, "%s: is not in %s, the folder of models", path,
                           root->folder);
        m->root = root->fd;
        m->folder = root->folder;
        m->below += n;
        m->below += strspn(m->below, "/");
        m->below = *m->below ? m->below : ".";
    }
    int fd = open_name(m, "", O_PATH);
    if (fd < 0)
        return fail_open(m, path, err);
    int r = fstat(fd, &st) ? dr_fail_errno(err, path, "examine") : 0;
    m->is_folder = !r && S_ISDIR(st.st_mode);
    close(fd);
    return r;
}

int model_files_open(const struct model_root *root, const char *path, struct model_files **ret,
                     struct dr_error *err)
{
    struct model_files *m = dr_calloc(DR_TAG_FILE, 1, sizeof *m);
    if (!m)
        return no_memory(path, err);
    int r = open_model(m, root, path, err);
    if (r)
        model_files_close(m);
    else
        *ret = m;
    return r;
}

static void free_file(struct model_file *f)
{
    if (!f)
        return;
    if (f->fd >= 0)
        close(f->fd);
    dr_free((void *)f->text);
    dr_free(f);
}

void model_files_close(struct model_files *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < m->n; i++)
        free_file(m->file[i]);
    dr_free(m->path);
    dr_free(m);
}

const char *model_files_path(const struct model_files *m)
{
    return m->path;
}

bool model_files_is_folder(const struct model_files *m)
{
    return m->is_folder;
}

/* ---- its files ---- */

static struct model_file *find_known(const struct model_files *m, const char *name)
{
    for (size_t i = 0; i < m->n; i++)
        if (!strcmp(m->file[i]->name, name))
            return m->file[i];
    return NULL;
}

/* A new entry, not in the list yet; both names lie behind it. */
static struct model_file *new_file(const struct model_files *m, const char *name)
{
    size_t n = *name ? folder_bytes(m, m->path) : strlen(m->path);
    size_t size = n + 1 + strlen(name) + 1;
    struct model_file *f = dr_calloc(DR_TAG_FILE, 1, sizeof *f + size);
    if (!f)
        return NULL;
    char *path = (char *)(f + 1);
    bool slash = *name && n && m->path[n - 1] != '/';
    snprintf(path, size, "%.*s%s%s", (int)n, m->path, slash ? "/" : "", name);
    f->path = path;
    f->name = path + n + slash;
    f->fd = -1;
    return f;
}

static int add(struct model_files *m, struct model_file *f, struct dr_error *err)
{
    if (m->n == MODEL_FILES_MAX)
        return dr_fail(err, DR_ELIMIT, "%s: more than %d files", m->path, MODEL_FILES_MAX);
    m->file[m->n++] = f;
    return 0;
}

static bool is_absent(int error)
{
    return error == ENOENT || error == ENOTDIR;
}

/* Reads a text and hashes what was read, so that the two cannot differ. */
static int read_text(struct model_file *f, size_t maximum, struct dr_error *err)
{
    struct buf text;
    uint8_t digest[SHA256_BYTES] = { 0 };
    buf_init(&text, DR_TAG_FILE, 0);
    int r = dr_read_fd(f->fd, f->path, maximum, &text, err);
    if (!r && sha256_bytes(buf_text(&text), text.len, digest))
        r = dr_fail(err, DR_ENOMEM, "%s: out of memory", f->path);
    f->text = text.data ? text.data : dr_strdup(DR_TAG_FILE, "");
    if (!r && !f->text)
        r = no_memory(f->path, err);
    sha256_hex(digest, f->hex);
    f->bytes = text.len;
    return r;
}

static int open_file(struct model_files *m, struct model_file *f, size_t text_bytes,
                     struct dr_error *err)
{
    struct stat st;
    f->fd = open_name(m, f->name, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    if (f->fd < 0)
        return is_absent(errno) ? 0 : fail_open(m, f->path, err);
    if (fstat(f->fd, &st))
        return dr_fail_errno(err, f->path, "examine");
    if (!S_ISREG(st.st_mode))
        return dr_fail(err, DR_EINVAL, "%s: not a regular file", f->path);
    f->kind = MODEL_FILE_PRESENT;
    f->key = digest_key_of(&st);
    return text_bytes ? read_text(f, text_bytes, err) : 0;
}

int model_files_find(struct model_files *m, const char *name, size_t text_bytes,
                     const struct model_file **ret, struct dr_error *err)
{
    struct model_file *f = find_known(m, name);
    int r = 0;
    if (!f) {
        if (!(f = new_file(m, name)))
            return no_memory(name, err);
        r = open_file(m, f, text_bytes, err);
        if (!r)
            r = add(m, f, err);
    }
    if (r)
        free_file(f);
    else
        *ret = f->kind == MODEL_FILE_PRESENT ? f : NULL;
    return r;
}

int model_files_need(struct model_files *m, const char *name, size_t text_bytes,
                     const struct model_file **ret, struct dr_error *err)
{
    int r = model_files_find(m, name, text_bytes, ret, err);
    if (!r && !*ret)
        r = dr_fail(err, DR_ENOENT, "%s/%s: no such file", m->path, name);
    return r;
}

/* Whether a name leads to a folder; negative: an error. */
static int leads_to_folder(const struct model_files *m, const char *name)
{
    int fd = open_name(m, name, O_PATH | O_DIRECTORY);
    if (fd < 0)
        return is_absent(errno) ? 0 : -1;
    close(fd);
    return 1;
}

int model_files_has_folder(struct model_files *m, const char *name, bool *ret, struct dr_error *err)
{
    struct model_file *f = find_known(m, name);
    if (!f) {
        if (!(f = new_file(m, name)))
            return no_memory(name, err);
        int is = leads_to_folder(m, name);
        int r = is < 0 ? fail_open(m, f->path, err) : add(m, f, err);
        if (r) {
            free_file(f);
            return r;
        }
        f->of_folder = true;
        f->kind = is ? MODEL_FILE_FOLDER : MODEL_FILE_ABSENT;
    }
    *ret = f->kind == MODEL_FILE_FOLDER;
    return 0;
}

int model_files_json(struct model_files *m, const char *name, bool optional,
                     const struct jx_limits *limits, json_t **ret, struct dr_error *err)
{
    const struct model_file *f;
    json_t *value = NULL;
    struct jx_limits l = *limits;
    l.unquoted = true;
    int r = optional ? model_files_find(m, name, limits->bytes, &f, err)
                     : model_files_need(m, name, limits->bytes, &f, err);
    if (!r && f)
        r = f->text ? jx_parse(f->text, f->bytes, &l, f->path, &value, err)
                    : dr_fail(err, DR_EINTERNAL, "%s: its text was given back", f->path);
    if (!r && f && !json_is_object(value)) {
        r = dr_fail(err, DR_EFORMAT, "%s: got %s, expected an object", f->path, jx_kind(value));
        json_decref(value);
    }
    if (!r)
        *ret = value;
    return r;
}

void model_files_forget_texts(struct model_files *m)
{
    for (size_t i = 0; i < m->n; i++) {
        dr_free((void *)m->file[i]->text);
        m->file[i]->text = NULL;
    }
}

const struct model_file *model_files_at(const struct model_files *m, size_t i)
{
    return i < m->n ? m->file[i] : NULL;
}

static bool file_current(const struct model_files *m, const struct model_file *f)
{
    struct stat st;
    if (f->of_folder)
        return leads_to_folder(m, f->name) == (f->kind == MODEL_FILE_FOLDER);
    int fd = open_name(m, f->name, O_PATH);
    if (fd < 0)
        return f->kind == MODEL_FILE_ABSENT && is_absent(errno);
    bool known = !fstat(fd, &st);
    close(fd);
    if (!known || f->kind == MODEL_FILE_ABSENT)
        return false;
    struct digest_key key = digest_key_of(&st);
    return digest_key_equal(&key, &f->key);
}

bool model_files_current(const struct model_files *m)
{
    for (size_t i = 0; i < m->n; i++)
        if (!file_current(m, m->file[i]))
            return false;
    return true;
}
