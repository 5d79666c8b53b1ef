/* new_output.c - see new_output.h. */
#include "coordination/new_output.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/path_text.h"

static const char expected[] = "a path that does not exist yet";

int new_output_open(const struct engine *e, const char *text, struct new_output *ret,
                    struct dr_error *err)
{
    char folder[DR_PATH_MAX], given[DR_PATH_MAX];
    struct stat st;
    ret->folder = -1;
    quantize_begin(&ret->copy, -1, "");
    int r = path_text_read("output", text, given, err);
    if (r)
        return r;
    snprintf(ret->path, sizeof ret->path, "%.*s", (int)dr_path_trimmed(given), given);
    const char *name = dr_path_base(ret->path);
    size_t n = (size_t)(name - ret->path);
    snprintf(folder, sizeof folder, "%.*s", (int)n, ret->path);
    if (!*name)
        return dr_fail_field(err, DR_EINVAL, "output", given, expected, NULL);
    r = roots_open_folder(&e->roots, "output", n ? folder : ".", false, &ret->folder, err);
    if (!r && !fstatat(ret->folder, name, &st, AT_SYMLINK_NOFOLLOW))
        r = dr_fail_field(err, DR_EINVAL, "output", ret->path, expected, NULL);
    if (!r)
        quantize_begin(&ret->copy, ret->folder, ret->path);
    return r;
}

void new_output_close(struct new_output *o)
{
    quantize_end(&o->copy);
    if (o->folder >= 0)
        close(o->folder);
    o->folder = -1;
}
