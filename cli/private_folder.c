/* private_folder.c - see private_folder.h. */
#include "cli/private_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/report.h"
#include "core/communication/stage_names.h"

#define PREFIX ".darkroom-"
#define MARKER ".owner"

enum { RANDOM_LETTERS = 6, TRIES = 100, MARKER_MOST = 128, TAKEN = -1, NO_LOCKS = -2 };

int private_place(const char *place, char dst[DR_PATH_MAX], struct dr_error *err)
{
    struct stat st;
    size_t n = strlen(place);
    if (!n || n >= DR_PATH_MAX)
        return dr_fail(err, DR_EINVAL, "'%.100s': not usable as a folder's name", place);
    memcpy(dst, place, n + 1);
    while (stat(dst, &st)) {
        if (errno != ENOENT)
            return dr_fail_errno(err, dst, "look into");
        while (n && dst[n - 1] == '/')
            n--;
        while (n && dst[n - 1] != '/')
            n--;
        if (!n)
            memcpy(dst, ".", 2);
        else
            dst[n] = '\0';
    }
    return S_ISDIR(st.st_mode) ? 0 : dr_fail(err, DR_EIO, "%s: exists and is not a folder", dst);
}

/* A descriptor of the folder, locked; TAKEN if another process holds the lock or the path is no
 * folder of this user. */
static int lock_folder(const char *path)
{
    struct stat held, named;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), r = TAKEN;
    if (fd < 0)
        return TAKEN;
    if (flock(fd, LOCK_EX | LOCK_NB))
        r = errno == EWOULDBLOCK ? TAKEN : NO_LOCKS;
    else if (!fstat(fd, &held) && !lstat(path, &named) && held.st_ino == named.st_ino &&
             held.st_dev == named.st_dev && held.st_uid == geteuid())
        return fd;
    close(fd);
    return r;
}

/* The text of the marker: it names the folder itself, so that a copy of a folder, or one restored
 * from a backup, carries a marker that is not its own. Below 0 on failure. */
static int marker_text(int folder, char dst[MARKER_MOST])
{
    struct stat st;
    if (fstat(folder, &st))
        return -1;
    return snprintf(dst, MARKER_MOST, "darkroom: private folder of a run, device %llu inode %llu\n",
                    (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
}

static int write_marker(int folder, const char *path, struct dr_error *err)
{
    char text[MARKER_MOST];
    int n = marker_text(folder, text);
    int fd = openat(folder, MARKER, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool written = n > 0 && fd >= 0 && write(fd, text, (size_t)n) == n;
    int r = written ? 0 : dr_fail_errno(err, path, "write into");
    if (fd >= 0)
        close(fd);
    return r;
}

static bool has_marker(int folder)
{
    char ours[MARKER_MOST], found[MARKER_MOST];
    struct stat st;
    int n = marker_text(folder, ours);
    int fd = openat(folder, MARKER, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    bool same = n > 0 && fd >= 0 && !fstat(fd, &st) && S_ISREG(st.st_mode) &&
                st.st_uid == geteuid() && read(fd, found, sizeof found) == n &&
                !memcmp(ours, found, (size_t)n);
    if (fd >= 0)
        close(fd);
    return same;
}

/* The end of CHARACTER and a number at p ("-7", "_000"), NULL when p does not begin so. */
static const char *skip_number(const char *p, char character)
{
    size_t n = p && *p == character ? strspn(p + 1, "0123456789") : 0;
    return n ? p + 1 + n : NULL;
}

static const char *skip_text(const char *p, const char *text)
{
    size_t n = strlen(text);
    return p && !strncmp(p, text, n) ? p + n : NULL;
}

/* The end of "darkroom-CALL_INDEX.EXTENSION" */
static const char *skip_picture(const char *name)
{
    static const char *const extensions[] = { ".png", ".jpg", ".webp" };
    const char *p = skip_number(skip_number(skip_text(name, "darkroom"), '-'), '_'), *end = NULL;
    for (size_t i = 0; !end && i < sizeof extensions / sizeof *extensions; i++)
        end = skip_text(p, extensions[i]);
    return end;
}

/* The end of "STAGE.npy" */
static const char *skip_stage(const char *name)
{
    char file[64];
    const char *end = strstr(name, ".npy");
    size_t n = end ? (size_t)(end + 4 - name) : sizeof file;
    if (n >= sizeof file)
        return NULL;
    snprintf(file, sizeof file, "%.*s", (int)n, name);
    return stage_is_file(file) ? name + n : NULL;
}

/* Whether the worker gives files such a name; ".PID-N.tmp" follows it while they are written. */
static bool is_result(const char *name)
{
    const char *end = skip_picture(name);
    if (!end)
        end = skip_stage(name);
    if (!end || !*end)
        return end != NULL;
    end = skip_text(skip_number(skip_number(end, '.'), '-'), ".tmp");
    return end && !*end;
}

static bool is_finished_picture(const char *name)
{
    const char *end = skip_picture(name);
    return end && !*end;
}

/* Removes the results, the marker and, when nothing else is in it, the folder. Files of
 * other programs stay, and so do finished pictures of a killed run, which its user has not seen. */
static void remove_folder(int folder, const char *path, bool killed)
{
    struct stat held, named;
    int copy = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    struct dirent *entry;
    bool foreign = !dir;
    while (dir && (entry = readdir(dir))) {
        const char *name = entry->d_name;
        if (!strcmp(name, ".") || !strcmp(name, "..") || !strcmp(name, MARKER))
            continue;
        bool picture = killed && is_finished_picture(name);
        if (picture)
            report_line("a run that was killed left a finished picture: %s/%s", path, name);
        if (picture || !is_result(name) || unlinkat(folder, name, 0))
            foreign = true;
    }
    if (dir)
        closedir(dir);
    else if (copy >= 0)
        close(copy);
    if (foreign || fstat(folder, &held) || lstat(path, &named) || held.st_ino != named.st_ino ||
        held.st_dev != named.st_dev)
        return;
    unlinkat(folder, MARKER, 0);
    rmdir(path);
}

static bool has_our_shape(const char *name)
{
    size_t n = sizeof PREFIX - 1;
    return !strncmp(name, PREFIX, n) && strlen(name) == n + RANDOM_LETTERS;
}

/* Removes what killed runs left behind. The name only selects candidates: a folder is ours if its
 * lock is free, this user owns it and the marker inside names it. */
static void remove_abandoned(const char *folder)
{
    char path[DR_PATH_MAX];
    DIR *dir = opendir(folder);
    struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        if (!has_our_shape(entry->d_name) || dr_path_join(path, sizeof path, folder, entry->d_name))
            continue;
        int fd = lock_folder(path);
        if (fd < 0)
            continue;
        if (has_marker(fd))
            remove_folder(fd, path, true);
        close(fd);
    }
    if (dir)
        closedir(dir);
}

/* TAKEN in p->lock if another run took the new folder before it was locked: try again. */
static int make_one(struct private_folder *p, const char *folder, struct dr_error *err)
{
    if (dr_path_join(p->path, sizeof p->path, folder, PREFIX "XXXXXX") < 0) {
        p->path[0] = '\0';
        return dr_fail(err, DR_ELIMIT, "%s: path too long", folder);
    }
    if (!mkdtemp(p->path)) {
        p->path[0] = '\0';
        return dr_fail(err, DR_EIO, "%s: cannot create a temporary folder here: %s", folder,
                       strerror(errno));
    }
    p->lock = lock_folder(p->path);
    if (p->lock >= 0)
        return write_marker(p->lock, p->path, err);
    if (p->lock == TAKEN)
        (void)rmdir(p->path); /* another run has just looked into it */
    return 0;
}

int private_make(struct private_folder *p, const char *place, struct dr_error *err)
{
    char folder[DR_PATH_MAX];
    *p = (struct private_folder){ .lock = TAKEN };
    int r = private_place(place, folder, err);
    if (!r)
        remove_abandoned(folder);
    /* between making and locking a folder another run may hold it for a moment */
    for (int i = 0; !r && i < TRIES && p->lock == TAKEN; i++)
        r = make_one(p, folder, err);
    return r;
}

static int keep_one(int from, int to, const char *name, const char *place, struct dr_error *err)
{
    char path[DR_PATH_MAX];
    if (!dr_rename_new(from, name, to, name))
        return 0;
    int saved = errno;
    if (dr_path_join(path, sizeof path, place, name) < 0)
        return dr_fail(err, DR_ELIMIT, "%s: path too long", place);
    errno = saved;
    return saved == EEXIST ? dr_fail(err, DR_EINVAL, "%s: exists already", path)
                           : dr_fail_errno(err, path, "write");
}

int private_keep(const struct private_folder *p, const char *place, struct dr_error *err)
{
    DIR *dir = *p->path ? opendir(p->path) : NULL;
    struct dirent *entry;
    int r = 0, to = -1;
    while (!r && dir && (entry = readdir(dir))) {
        const char *name = entry->d_name;
        if (name[0] == '.' || !strcmp(dr_path_extension(name), ".tmp"))
            continue;
        if (to < 0) {
            r = dr_mkdirs(place, err);
            to = r ? -1 : open(place, O_PATH | O_DIRECTORY | O_CLOEXEC);
        }
        if (!r)
            r = to < 0 ? dr_fail_errno(err, place, "open")
                       : keep_one(dirfd(dir), to, name, place, err);
    }
    if (dir)
        closedir(dir);
    if (to >= 0)
        close(to);
    return r;
}

bool private_find_stage(const char *place, char ret_name[256])
{
    DIR *dir = opendir(place);
    struct dirent *entry;
    bool found = false;
    while (dir && !found && (entry = readdir(dir))) {
        found = stage_is_file(entry->d_name);
        if (found)
            snprintf(ret_name, 256, "%s", entry->d_name);
    }
    if (dir)
        closedir(dir);
    return found;
}

void private_remove(struct private_folder *p)
{
    if (!*p->path)
        return;
    /* where folders cannot be locked it is opened only now */
    int fd = p->lock >= 0 ? p->lock
                          : open(p->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && p->given)
        (void)unlinkat(fd, MARKER, 0);
    else if (fd >= 0)
        remove_folder(fd, p->path, false);
    if (fd >= 0)
        close(fd);
    p->path[0] = '\0';
    p->lock = TAKEN;
}
