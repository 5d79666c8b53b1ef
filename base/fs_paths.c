/* fs_paths.c - see fs.h: names of files and the places where Darkroom's own lie. */
#include "base/fs.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int dr_path_join(char *dst, size_t n, const char *dir, const char *name)
{
    bool alone = name[0] == '/' || !dir[0];
    bool slash = !alone && dir[strlen(dir) - 1] != '/';
    int len = snprintf(dst, n, "%s%s%s", alone ? "" : dir, slash ? "/" : "", name);
    return len < 0 || (size_t)len >= n ? DR_ELIMIT : 0;
}

size_t dr_path_trimmed(const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    return n;
}

const char *dr_path_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

const char *dr_path_extension(const char *path)
{
    const char *base = dr_path_base(path);
    const char *dot = strrchr(base, '.');
    return dot && dot != base ? dot : base + strlen(base);
}

/* $VARIABLE/darkroom/RELATIVE, else $HOME/FALLBACK/darkroom/RELATIVE. By the XDG base directory
 * specification a relative $VARIABLE does not count. */
static int xdg_path(char *dst, size_t n, const char *variable, const char *fallback,
                    const char *relative, struct dr_error *err)
{
    const char *root = getenv(variable);
    const char *home = getenv("HOME");
    int len;
    if (root && root[0] == '/')
        len = snprintf(dst, n, "%s/darkroom/%s", root, relative);
    else if (home && home[0])
        len = snprintf(dst, n, "%s/%s/darkroom/%s", home, fallback, relative);
    else
        return dr_fail(err, DR_ENOENT, "neither %s nor HOME is set", variable);
    if (len < 0 || (size_t)len >= n)
        return dr_fail(err, DR_ELIMIT, "%s: path too long", relative);
    return 0;
}

int dr_cache_path(char *dst, size_t n, const char *relative, struct dr_error *err)
{
    return xdg_path(dst, n, "XDG_CACHE_HOME", ".cache", relative, err);
}

int dr_config_path(char *dst, size_t n, const char *relative, struct dr_error *err)
{
    return xdg_path(dst, n, "XDG_CONFIG_HOME", ".config", relative, err);
}

int dr_binary_dir(char *dst, size_t n, struct dr_error *err)
{
    ssize_t len = n ? readlink("/proc/self/exe", dst, n) : 0;
    if (len < 0)
        return dr_fail_errno(err, "/proc/self/exe", "read");
    if ((size_t)len >= n)
        return dr_fail(err, DR_ELIMIT, "the binary's path is too long");
    dst[len] = '\0';
    char *slash = strrchr(dst, '/');
    if (!slash)
        return dr_fail(err, DR_EINTERNAL, "the binary's path is '%s'", dst);
    slash[slash == dst] = '\0';
    return 0;
}

int dr_share_path(char *dst, size_t n, const char *relative, struct dr_error *err)
{
    const char *share = getenv("DARKROOM_SHARE");
    if (share && share[0]) {
        if (dr_path_join(dst, n, share, relative))
            return dr_fail(err, DR_ELIMIT, "%s: path too long", relative);
        if (!access(dst, F_OK))
            return 0;
        return dr_fail(err, DR_ENOENT, "%s: no such file (DARKROOM_SHARE is set to %s)", dst,
                       share);
    }
    static const char *const places[] = { "../share/darkroom", "../share", "../../share",
                                          "../../../share", DR_SHARE_DIR };
    char dir[DR_PATH_MAX], tried[400] = "";
    int r = dr_binary_dir(dir, sizeof dir, err);
    if (r)
        return r;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        bool absolute = places[i][0] == '/';
        int len = snprintf(dst, n, "%s%s%s/%s", absolute ? "" : dir, absolute ? "" : "/", places[i],
                           relative);
        if (len < 0 || (size_t)len >= n)
            return dr_fail(err, DR_ELIMIT, "%s: path too long", relative);
        if (!access(dst, F_OK))
            return 0;
        size_t used = strlen(tried);
        snprintf(tried + used, sizeof tried - used, "%s%s", used ? ", " : "", places[i]);
    }
    return dr_fail(err, DR_ENOENT, "%s: not found in %s of %s; set DARKROOM_SHARE", relative, tried,
                   dir);
}

int dr_realpath(char *dst, size_t n, const char *path, struct dr_error *err)
{
    char whole[PATH_MAX];
    if (!realpath(path, whole))
        return dr_fail_errno(err, path, "resolve");
    size_t len = strlen(whole);
    if (len >= n)
        return dr_fail(err, DR_ELIMIT, "%s: path too long", path);
    memcpy(dst, whole, len + 1);
    return 0;
}
