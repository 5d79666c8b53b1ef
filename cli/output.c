/* output.c - see output.h. */
#include "cli/output.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/path_text.h"

enum { TRIES = 100000, DIGITS_MOST = 9 };

static const char option[] = "--output";

const char *output_format_of(const char *path)
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

/* Formats that people ask for by name and would not get. */
static bool other_picture(const char *path)
{
    static const char *const others[] = { ".gif",  ".bmp",  ".tif", ".tiff",
                                          ".avif", ".heic", ".jxl", ".ppm" };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (!strcasecmp(dr_path_extension(path), others[i]))
            return true;
    return false;
}

static int set_format(struct output *o, const char *to, const char *format, bool agree,
                      struct dr_error *err)
{
    const char *by_name = output_format_of(to), *extension = dr_path_extension(to);
    bool named = o->kind == OUTPUT_FILE || o->kind == OUTPUT_PATTERN;
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

static bool is_pattern(const char *name)
{
    int width;
    for (const char *p = name; *p; p++)
        if (conversion(p, &width) || !strncmp(p, "{seed}", 6))
            return true;
    return false;
}

static int split(struct output *o, const char *path, struct dr_error *err)
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

static int plan_folder(struct output *o, const char *to, struct dr_error *err)
{
    o->kind = OUTPUT_FOLDER;
    if (strlen(to) >= sizeof o->folder)
        return dr_fail_field(err, DR_EINVAL, option, "a path", "a shorter path", NULL);
    memcpy(o->folder, to, strlen(to) + 1);
    return 0;
}

static int plan_stream(struct output *o, const char *to, struct dr_error *err)
{
    o->kind = OUTPUT_STREAM;
    if (o->batch > 1)
        return dr_fail_field(err, DR_EINVAL, option, to, "a file or folder",
                             "only one picture fits into a stream");
    snprintf(o->name, sizeof o->name, "%s", to);
    return 0;
}

static int plan_file(struct output *o, const char *to, struct dr_error *err)
{
    char real[DR_PATH_MAX];
    struct stat st;
    /* a link is written through, so that what is replaced is the file */
    bool link = !lstat(to, &st) && S_ISLNK(st.st_mode) && dr_is_file(to) &&
                !dr_realpath(real, sizeof real, to, NULL);
    int r = split(o, link ? real : to, err);
    if (r < 0)
        return r;
    o->kind = is_pattern(o->name) ? OUTPUT_PATTERN : OUTPUT_FILE;
    if (is_pattern(o->folder) && !dr_is_dir(o->folder))
        return dr_fail_field(err, DR_EINVAL, option, to, "a pattern in the file's name only", NULL);
    if (!dr_is_dir(o->folder))
        return dr_fail(err, DR_ENOENT, "%s: %s: no such folder", option, o->folder);
    return 0;
}

/* The longest name of all pictures is one the file system takes, before hours go into them. */
static int check_name(const struct output *o, struct dr_error *err)
{
    struct stat st;
    char path[DR_PATH_MAX];
    int r = output_path(o, o->batch - 1, INT64_MAX, path, sizeof path, err);
    if (!r && lstat(path, &st) && errno == ENAMETOOLONG)
        r = dr_fail_field(err, DR_EINVAL, option, "a long name", "a shorter name", NULL);
    return r;
}

int output_plan(const char *to, const char *format, bool agree, int batch, struct output *ret,
                struct dr_error *err)
{
    struct stat st;
    struct output o = { .batch = batch };
    int r;
    if (!to)
        to = "./";
    if (!*to)
        return dr_fail_field(err, DR_EINVAL, option, "nothing", "a file, a folder or -", NULL);
    bool exists = !stat(to, &st);
    if (to[strlen(to) - 1] == '/' || (exists && S_ISDIR(st.st_mode)))
        r = plan_folder(&o, to, err);
    else if (!strcmp(to, "-") || (exists && !S_ISREG(st.st_mode)))
        r = plan_stream(&o, to, err);
    else
        r = plan_file(&o, to, err);
    if (!r)
        r = set_format(&o, to, format, agree, err);
    if (!r && o.kind != OUTPUT_STREAM)
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

int output_path(const struct output *o, int index, uint64_t seed, char *dst, size_t n,
                struct dr_error *err)
{
    char name[DR_PATH_MAX];
    int len;
    switch (o->kind) {
    case OUTPUT_FOLDER:
        len = snprintf(name, sizeof name, "darkroom-%" PRIu64 ".%s", seed,
                       strcmp(o->format, "jpeg") ? o->format : "jpg");
        break;
    case OUTPUT_PATTERN:
        len = fill_pattern(o->name, index, seed, name, sizeof name);
        break;
    default:
        len = o->batch > 1 ? numbered(o->name, index, name, sizeof name)
                           : snprintf(name, sizeof name, "%s", o->name);
    }
    bool bare = !strcmp(o->folder, ".") && o->kind != OUTPUT_FOLDER;
    if (len >= (int)sizeof name || dr_path_join(dst, n, bare ? "" : o->folder, name) < 0)
        return dr_fail(err, DR_ELIMIT, "%s: the path is too long", option);
    return 0;
}

/* Renames, unless the name is taken (EEXIST). */
static int rename_new(const char *from, const char *to)
{
    if (!renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE))
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -1;
    /* a file system without that flag */
    if (link(from, to))
        return -1;
    return unlink(from);
}

int output_place(const struct output *o, const char *from, int index, uint64_t seed, char *dst,
                 size_t n, struct dr_error *err)
{
    char first[DR_PATH_MAX], file[DR_PATH_MAX];
    int r = path_text_read("the worker's file", from, file, err);
    if (!r)
        r = output_path(o, index, seed, first, sizeof first, err);
    if (!r && strlen(first) >= n)
        r = dr_fail(err, DR_ELIMIT, "%s: the path is too long", option);
    if (r < 0)
        return r;
    snprintf(dst, n, "%s", first);
    if (o->kind == OUTPUT_FOLDER && (r = dr_mkdirs(o->folder, err)) < 0)
        return r;
    if (o->kind != OUTPUT_FOLDER)
        return rename(file, dst) ? dr_fail_errno(err, dst, "write") : 0;
    for (int i = 1; rename_new(file, dst); i++) {
        if (errno != EEXIST || i == TRIES)
            return dr_fail_errno(err, dst, "write");
        numbered(first, i, dst, n);
    }
    return 0;
}
