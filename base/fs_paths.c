/* fs_paths.c - see fs.h: names of files, and where Darkroom's own files are. */
#include "base/fs.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
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

int dr_data_path(char *dst, size_t n, const char *relative, struct dr_error *err)
{
    return xdg_path(dst, n, "XDG_DATA_HOME", ".local/share", relative, err);
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

/* Folder of the file that holds this code, without a final '/': libdarkroom.so wherever the host
 * found it, else the program. */
static int module_dir(char *dst, size_t n, struct dr_error *err)
{
    /* not dladdr: its path is relative where the host loaded a relative one, and changed folder */
    char line[DR_PATH_MAX + 128];
    unsigned long from, to, here = (unsigned long)(uintptr_t)&module_dir;
    const char *path = NULL;
    FILE *f = fopen("/proc/self/maps", "re");
    if (!f)
        return dr_binary_dir(dst, n, err);
    while (!path && fgets(line, sizeof line, f))
        if (sscanf(line, "%lx-%lx", &from, &to) == 2 && from <= here && here < to)
            path = strchr(line, '/');
    fclose(f);
    if (!path)
        return dr_binary_dir(dst, n, err);
    size_t len = (size_t)(strrchr(path, '/') - path);
    if (len >= n)
        return dr_fail(err, DR_ELIMIT, "the path of the program or library is too long");
    memcpy(dst, path, len);
    dst[len] = '\0';
    return 0;
}

static struct {
    pthread_mutex_t lock;
    int uses;
    char folder[DR_PATH_MAX];
} shared = { .lock = PTHREAD_MUTEX_INITIALIZER };

int dr_share_use(const char *folder, struct dr_error *err)
{
    char whole[DR_PATH_MAX];
    struct dr_error why = { 0 };
    int r = dr_realpath(whole, sizeof whole, folder, &why);
    if (r < 0 || !dr_is_dir(whole))
        return dr_fail_field(err, r < 0 ? r : DR_EINVAL, "share", folder, "a folder", NULL);
    pthread_mutex_lock(&shared.lock);
    if (shared.uses && strcmp(shared.folder, whole))
        r = dr_fail_field(err, DR_ESTATE, "share", whole, shared.folder,
                          "one folder for all engines of a process");
    else
        memcpy(shared.folder, whole, strlen(whole) + 1);
    shared.uses += !r;
    pthread_mutex_unlock(&shared.lock);
    return r;
}

void dr_share_release(void)
{
    pthread_mutex_lock(&shared.lock);
    shared.uses--;
    pthread_mutex_unlock(&shared.lock);
}

/* The folder that was set, and by what; false: none. */
static bool share_folder(char dst[DR_PATH_MAX], const char **ret_by)
{
    const char *variable = getenv("DARKROOM_SHARE");
    pthread_mutex_lock(&shared.lock);
    bool used = shared.uses > 0;
    if (used)
        memcpy(dst, shared.folder, sizeof shared.folder);
    pthread_mutex_unlock(&shared.lock);
    *ret_by = used ? "share" : "DARKROOM_SHARE";
    if (!used)
        snprintf(dst, DR_PATH_MAX, "%s", variable ? variable : "");
    return *dst;
}

int dr_share_path(char *dst, size_t n, const char *relative, struct dr_error *err)
{
    static const char *const places[] = {
        "../share/darkroom", "../../share/darkroom", "../share",
        "../../share",       "../../../share",       DR_SHARE_DIR
    };
    char dir[DR_PATH_MAX], tried[400] = "";
    const char *by;
    if (share_folder(dir, &by)) {
        if (dr_path_join(dst, n, dir, relative))
            return dr_fail(err, DR_ELIMIT, "%s: path too long", relative);
        if (!access(dst, F_OK))
            return 0;
        return dr_fail(err, DR_ENOENT, "%s: no such file (%s is set to %s)", dst, by, dir);
    }
    int r = module_dir(dir, sizeof dir, err);
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
        return errno == ENOENT ? dr_fail(err, DR_ENOENT, "%s: no such file or folder", path)
                               : dr_fail_errno(err, path, "resolve");
    size_t len = strlen(whole);
    if (len >= n)
        return dr_fail(err, DR_ELIMIT, "%s: path too long", path);
    memcpy(dst, whole, len + 1);
    return 0;
}
