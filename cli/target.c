/* target.c - see target.h. */
#include "cli/target.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/path_text.h"
#include "cli/options.h"
#include "cli/report.h"

enum { TRIES = 100000, DIGITS_MOST = 9, FILE_BYTES = 512 << 20 };

static const char option[] = "--output";

const char *target_format_of(const char *path)
{
    static const struct {
        const char *extension, *format;
    } known[] = { { ".png", "png" }, { ".jpg", "jpeg" }, { ".jpeg", "jpeg" }, { ".webp", "webp" } };
    const char *extension = dr_path_extension(path);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcasecmp(extension, known[i].extension))
            return known[i].format;
    return "";
}

/* Formats that people ask for by name and that are not supported. */
static bool other_picture(const char *path)
{
    static const char *const others[] = { ".gif",  ".bmp",  ".tif", ".tiff",
                                          ".avif", ".heic", ".jxl", ".ppm" };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (!strcasecmp(dr_path_extension(path), others[i]))
            return true;
    return false;
}

static int set_format(struct target *o, const char *to, const char *format, bool agree,
                      struct dr_error *err)
{
    const char *by_name = target_format_of(to), *extension = dr_path_extension(to);
    bool named = o->kind == TARGET_FILE || o->kind == TARGET_PATTERN;
    if (named && agree && format && *by_name && strcmp(format, by_name)) {
        char expected[80];
        snprintf(expected, sizeof expected, "%s, as %s ends in %s", by_name, option, extension);
        return dr_fail_field(err, DR_EINVAL, "--format", format, expected, NULL);
    }
    if (!format && !*by_name && named && other_picture(to))
        return dr_fail_field(err, DR_EINVAL, option, to, "a name ending in .png, .jpg or .webp",
                             "or --format");
    snprintf(o->format, sizeof o->format, "%s", format ? format : *by_name ? by_name : "png");
    return 0;
}

/* Length of a %d, %3d or %03d at p, 0 when it is none; *ret_width is the least number of digits. */
static size_t conversion(const char *p, int *ret_width)
{
    size_t n = 1;
    if (*p != '%')
        return 0;
    *ret_width = 0;
    while (isdigit((unsigned char)p[n]) && *ret_width <= DIGITS_MOST)
        *ret_width = *ret_width * 10 + (p[n++] - '0');
    return p[n] == 'd' && *ret_width <= DIGITS_MOST ? n + 1 : 0;
}

static bool has_seed(const char *name)
{
    return strstr(name, "{seed}") != NULL;
}

static bool has_number(const char *name)
{
    int width;
    for (const char *p = name; *p; p++)
        if (conversion(p, &width))
            return true;
    return false;
}

static bool is_pattern(const char *name)
{
    return has_seed(name) || has_number(name);
}

/* {prompt}, {date} ...: refused, as the user expects them to be replaced. */
static int check_words(const char *name, struct dr_error *err)
{
    char got[64];
    for (const char *p = name; (p = strchr(p, '{')); p++) {
        size_t n = 1;
        while (isalnum((unsigned char)p[n]) || p[n] == '_')
            n++;
        if (n == 1 || p[n] != '}' || !strncmp(p, "{seed}", 6))
            continue;
        snprintf(got, sizeof got, "%.*s", (int)(n + 1 < sizeof got ? n + 1 : sizeof got - 1), p);
        return dr_fail_field(err, DR_EINVAL, option, got,
                             "{seed} for the seed or %d for the number", NULL);
    }
    return 0;
}

static int split(struct target *o, const char *path, struct dr_error *err)
{
    const char *base = dr_path_base(path);
    size_t n = (size_t)(base - path);
    if (n >= sizeof o->folder || strlen(base) >= sizeof o->name)
        return dr_fail_field(err, DR_EINVAL, option, "a path", "a shorter path", NULL);
    snprintf(o->folder, sizeof o->folder, "%.*s", (int)n, path);
    while (n > 1 && o->folder[n - 1] == '/')
        o->folder[--n] = '\0';
    if (!n)
        snprintf(o->folder, sizeof o->folder, ".");
    memcpy(o->name, base, strlen(base) + 1);
    return 0;
}

/* What exists of a folder's path must be folders; the rest is made later. */
static int check_above(const char *folder, struct dr_error *err)
{
    char path[DR_PATH_MAX];
    struct stat st;
    size_t n = (size_t)snprintf(path, sizeof path, "%s", folder);
    for (;;) {
        while (n > 1 && path[n - 1] == '/')
            path[--n] = '\0';
        if (!stat(path, &st))
            return S_ISDIR(st.st_mode)
                       ? 0
                       : option_fail(err, DR_EINVAL, option, "%s is a file, not a folder", path);
        while (n && path[n - 1] != '/')
            path[--n] = '\0';
        if (n < 2)
            return 0;
    }
}

static int plan_folder(struct target *o, const char *to, struct dr_error *err)
{
    o->kind = TARGET_FOLDER;
    if (strlen(to) >= sizeof o->folder)
        return dr_fail_field(err, DR_EINVAL, option, "a path", "a shorter path", NULL);
    memcpy(o->folder, to, strlen(to) + 1);
    return check_above(to, err);
}

static bool is_terminal(const char *to)
{
    bool standard = !strcmp(to, "-");
    int fd = standard ? 1 : open(to, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    bool yes = fd >= 0 && isatty(fd);
    if (!standard && fd >= 0)
        close(fd);
    return yes;
}

static int plan_stream(struct target *o, const char *to, bool device, struct dr_error *err)
{
    o->kind = TARGET_STREAM;
    if (device && is_terminal(to))
        return dr_fail_field(err, DR_EINVAL, option, to, "a file, a folder or a pipe",
                             "a terminal cannot show the bytes of a picture");
    if (o->batch > 1)
        return dr_fail_field(err, DR_EINVAL, option, to, "a file or folder",
                             "only one picture fits into a stream");
    snprintf(o->name, sizeof o->name, "%s", to);
    return 0;
}

/* A file without write permission is not replaced either, although its folder would permit it. */
static int check_writable(const char *path, struct dr_error *err)
{
    struct stat st;
    if (stat(path, &st))
        return 0;
    if (!(st.st_mode & 0222) || faccessat(AT_FDCWD, path, W_OK, AT_EACCESS))
        return option_fail(err, DR_EIO, option,
                           "%s is read-only: remove it first, or choose another name", path);
    return 0;
}

bool target_is_picture(const char *path)
{
    char head[12] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    bool whole = fd >= 0 && read(fd, head, sizeof head) == (ssize_t)sizeof head;
    if (fd >= 0)
        close(fd);
    return whole && (!memcmp(head, "\x89PNG", 4) || !memcmp(head, "\xff\xd8\xff", 3) ||
                     (!memcmp(head, "RIFF", 4) && !memcmp(head + 8, "WEBP", 4)));
}

/* Refuses to replace a model, a text or a configuration, whatever its name, which was most likely
 * not meant. */
static int check_replaced(const char *path, struct dr_error *err)
{
    struct stat st;
    if (stat(path, &st) || !st.st_size || target_is_picture(path))
        return 0;
    return option_fail(err, DR_EINVAL, option,
                       "%s exists and is not a picture; only pictures are replaced", path);
}

static int plan_file(struct target *o, const char *to, struct dr_error *err)
{
    char real[DR_PATH_MAX];
    struct stat st;
    /* a link is followed, so that the file itself is replaced */
    bool link = !lstat(to, &st) && S_ISLNK(st.st_mode);
    int r = check_words(dr_path_base(to), err);
    if (!r && link && dr_realpath(real, sizeof real, to, NULL) < 0)
        r = option_fail(err, DR_ENOENT, option, "%s is a link to a file that does not exist", to);
    if (!r)
        r = split(o, link ? real : to, err);
    if (r < 0)
        return r;
    o->kind = is_pattern(o->name) ? TARGET_PATTERN : TARGET_FILE;
    if (is_pattern(o->folder) && !dr_is_dir(o->folder))
        return dr_fail_field(err, DR_EINVAL, option, to, "a pattern in the file's name only", NULL);
    if (!dr_is_dir(o->folder))
        return dr_fail(err, DR_ENOENT, "%s: %s: no such folder", option, o->folder);
    if (o->kind != TARGET_FILE || o->batch > 1)
        return 0;
    o->replaces = !stat(to, &st);
    o->device = st.st_dev;
    o->inode = st.st_ino;
    r = check_writable(link ? real : to, err);
    return r ? r : check_replaced(to, err);
}

/* Checks before hours of work that the file system takes the longest name of all pictures. */
static int check_name(const struct target *o, struct dr_error *err)
{
    struct stat st;
    char path[DR_PATH_MAX];
    int r = target_path(o, o->batch - 1, INT64_MAX, path, sizeof path, err);
    if (!r && lstat(path, &st) && errno == ENAMETOOLONG)
        r = dr_fail_field(err, DR_EINVAL, option, "a long name", "a shorter name", NULL);
    return r;
}

int target_plan(const char *to, const char *format, bool agree, int batch, struct target *ret,
                struct dr_error *err)
{
    struct stat st;
    struct target o = { .batch = batch };
    int r;
    if (!to)
        to = "./";
    if (!*to)
        return dr_fail_field(err, DR_EINVAL, option, "nothing", "a file, a folder or -", NULL);
    bool exists = !stat(to, &st);
    if (to[strlen(to) - 1] == '/' || (exists && S_ISDIR(st.st_mode)))
        r = plan_folder(&o, to, err);
    else if (!strcmp(to, "-") || (exists && !S_ISREG(st.st_mode)))
        r = plan_stream(&o, to, !exists || S_ISCHR(st.st_mode), err);
    else
        r = plan_file(&o, to, err);
    if (!r)
        r = set_format(&o, to, format, agree, err);
    if (!r && o.kind != TARGET_STREAM)
        r = check_name(&o, err);
    if (!r)
        *ret = o;
    return r;
}

/* "name.png" and 2 become "name-2.png". */
static int numbered(const char *name, int number, char *dst, size_t n)
{
    const char *extension = dr_path_extension(name);
    return snprintf(dst, n, "%.*s-%d%s", (int)(extension - name), name, number, extension);
}

static int fill_pattern(const char *pattern, int index, uint64_t seed, char *dst, size_t n)
{
    size_t used = 0;
    int width;
    for (const char *p = pattern; *p && used < n;) {
        size_t len = conversion(p, &width);
        int k;
        if (len)
            k = snprintf(dst + used, n - used, "%0*d", width, index);
        else if (!strncmp(p, "{seed}", len = 6))
            k = snprintf(dst + used, n - used, "%" PRIu64, seed);
        else
            k = snprintf(dst + used, n - used, "%.*s", (int)(len = 1), p);
        used += (size_t)k;
        p += len;
    }
    return (int)used;
}

int target_path(const struct target *o, int index, uint64_t seed, char *dst, size_t n,
                struct dr_error *err)
{
    char name[DR_PATH_MAX];
    int len;
    switch (o->kind) {
    case TARGET_FOLDER:
        len = snprintf(name, sizeof name, "darkroom-%" PRIu64 ".%s", seed,
                       strcmp(o->format, "jpeg") ? o->format : "jpg");
        break;
    case TARGET_PATTERN:
        len = fill_pattern(o->name, index, seed, name, sizeof name);
        break;
    default:
        len = o->batch > 1 ? numbered(o->name, index, name, sizeof name)
                           : snprintf(name, sizeof name, "%s", o->name);
    }
    bool bare = !strcmp(o->folder, ".") && o->kind != TARGET_FOLDER;
    if (len >= (int)sizeof name || dr_path_join(dst, n, bare ? "" : o->folder, name) < 0)
        return dr_fail(err, DR_ELIMIT, "%s: the path is too long", option);
    return 0;
}

/* "a.png, b.png and 3 more", of names that exist. */
struct taken {
    char text[300];
    int n;
};

static void add_taken(struct taken *t, const char *path)
{
    size_t used = strlen(t->text);
    if (t->n++ < 3)
        snprintf(t->text + used, sizeof t->text - used, "%s%.80s", used ? ", " : "", path);
}

static int fail_taken(const struct taken *t, struct dr_error *err)
{
    char more[40] = "";
    if (t->n > 3)
        snprintf(more, sizeof more, " and %d more", t->n - 3);
    return option_fail(err, DR_EINVAL, option,
                       "%s%s exist%s already; numbered pictures replace nothing: remove %s or "
                       "choose another name",
                       t->text, more, t->n > 1 ? "" : "s", t->n > 1 ? "them" : "it");
}

int target_check(const struct target *o, const uint64_t *seed, int each, struct dr_error *err)
{
    struct taken taken = { .n = 0 };
    struct stat st;
    char path[DR_PATH_MAX];
    bool pattern = o->kind == TARGET_PATTERN;
    if (!pattern && !(o->kind == TARGET_FILE && o->batch > 1))
        return 0;
    if (pattern && o->batch > 1 && !has_number(o->name) && (!has_seed(o->name) || o->batch > each))
        return dr_fail_field(err, DR_EINVAL, option, o->name,
                             "%d or %03d in the name, since several pictures have the same seed",
                             NULL);
    if (pattern && has_seed(o->name) && !seed)
        return 0; /* random seeds: target_place looks */
    for (int i = 0; i < o->batch; i++) {
        int r = target_path(o, i, (seed ? *seed : 0) + (uint64_t)(i % each), path, sizeof path,
                            err);
        if (r < 0)
            return r;
        if (!lstat(path, &st))
            add_taken(&taken, path);
    }
    return taken.n ? fail_taken(&taken, err) : 0;
}

/* ---- what is finished ---- */

/* The mode that open(2) would have given a new file. */
static void set_new_mode(const char *path)
{
    mode_t mask = umask(0);
    umask(mask);
    (void)chmod(path, 0666 & ~mask);
}

/* Extended attributes, access control lists included, as far as they can be set. */
static void copy_attributes(const char *from, const char *to)
{
    char names[4096], value[4096];
    ssize_t n = llistxattr(from, names, sizeof names);
    for (ssize_t at = 0; at < n; at += (ssize_t)strlen(names + at) + 1) {
        ssize_t len = lgetxattr(from, names + at, value, sizeof value);
        if (len >= 0 && strncmp(names + at, "security.", 9))
            (void)lsetxattr(to, names + at, value, (size_t)len, 0);
    }
}

/* Into the file itself: it belongs to another user, which a new file could not. */
static int write_into(const char *from, const char *to, struct dr_error *err)
{
    struct buf bytes;
    buf_init(&bytes, DR_TAG_IMAGE, 0);
    int r = dr_read_file(from, FILE_BYTES, &bytes, err);
    int fd = r < 0 ? -1 : open(to, O_WRONLY | O_TRUNC | O_NOFOLLOW | O_CLOEXEC);
    if (!r && fd < 0)
        r = dr_fail_errno(err, to, "write");
    if (!r)
        r = report_bytes(fd, to, bytes.data, bytes.len, err);
    if (fd >= 0 && close(fd) && !r)
        r = dr_fail_errno(err, to, "write");
    if (!r)
        (void)unlink(from);
    buf_free(&bytes);
    return r;
}

/* The file named by the user: new bytes whole or not at all, with the old one's owner, mode and
 * attributes. Other names of a hard link keep the old bytes: the user did not name them. */
static int replace(const char *from, const char *to, struct dr_error *err)
{
    struct stat old, now;
    if (lstat(to, &old) || !S_ISREG(old.st_mode)) {
        set_new_mode(from);
    } else {
        if (stat(from, &now))
            return dr_fail_errno(err, to, "write");
        bool same = now.st_uid == old.st_uid && now.st_gid == old.st_gid;
        if (!same && chown(from, old.st_uid, old.st_gid))
            return write_into(from, to, err);
        copy_attributes(to, from);
        if (chmod(from, old.st_mode & 07777))
            return dr_fail_errno(err, to, "keep the mode of");
    }
    return rename(from, to) ? dr_fail_errno(err, to, "write") : 0;
}

/* Whether the name is free or still the file that existed at the start: a newer one must not be
 * replaced. */
static bool may_replace(const struct target *o, const char *path)
{
    struct stat st;
    return lstat(path, &st) ? errno == ENOENT && o->replaces
                            : o->replaces && st.st_dev == o->device && st.st_ino == o->inode;
}

int target_place(const struct target *o, const char *from, int index, uint64_t seed, char *dst,
                 size_t n, struct dr_error *err)
{
    char first[DR_PATH_MAX], file[DR_PATH_MAX];
    int r = path_text_read("the worker's file", from, file, err);
    if (!r)
        r = target_path(o, index, seed, first, sizeof first, err);
    if (!r && strlen(first) >= n)
        r = dr_fail(err, DR_ELIMIT, "%s: the path is too long", option);
    if (r < 0)
        return r;
    snprintf(dst, n, "%s", first);
    if (o->kind == TARGET_FOLDER && (r = dr_mkdirs(o->folder, err)) < 0)
        return r;
    if (o->kind == TARGET_FILE && o->batch == 1 && may_replace(o, dst))
        return replace(file, dst, err);
    set_new_mode(file);
    for (int i = 1; dr_rename_new(AT_FDCWD, file, AT_FDCWD, dst); i++) {
        if (errno != EEXIST || i == TRIES)
            return dr_fail_errno(err, dst, "write");
        numbered(first, i, dst, n);
    }
    return 0;
}
