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

#define PREFIX ".darkroom-"

enum { RANDOM_LETTERS = 6, TRIES = 100, TAKEN = -1, NO_LOCKS = -2 };

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

/* A descriptor of the folder with its lock; TAKEN when somebody else has it, or it is gone, a link
 * or another user's. */
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

static void remove_files(const char *folder)
{
    char path[DR_PATH_MAX];
    DIR *dir = opendir(folder);
    struct dirent *entry;
    while (dir && (entry = readdir(dir)))
        if (!dr_path_join(path, sizeof path, folder, entry->d_name))
            unlink(path); /* fails for . and .. */
    if (dir)
        closedir(dir);
    rmdir(folder);
}

static bool is_ours(const char *name)
{
    size_t n = sizeof PREFIX - 1;
    return !strncmp(name, PREFIX, n) && strlen(name) == n + RANDOM_LETTERS;
}

/* Those that nobody holds any more. */
static void remove_abandoned(const char *folder)
{
    char path[DR_PATH_MAX];
    DIR *dir = opendir(folder);
    struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        if (!is_ours(entry->d_name) || dr_path_join(path, sizeof path, folder, entry->d_name))
            continue;
        int fd = lock_folder(path);
        if (fd < 0)
            continue;
        remove_files(path);
        close(fd);
    }
    if (dir)
        closedir(dir);
}

static int make_one(struct private_folder *p, const char *folder, struct dr_error *err)
{
    if (dr_path_join(p->path, sizeof p->path, folder, PREFIX "XXXXXX") < 0) {
        p->path[0] = '\0';
        return dr_fail(err, DR_ELIMIT, "%s: path too long", folder);
    }
    if (!mkdtemp(p->path)) {
        p->path[0] = '\0';
        return dr_fail_errno(err, folder, "create a temporary folder in");
    }
    p->lock = lock_folder(p->path);
    return 0;
}

int private_make(struct private_folder *p, const char *place, struct dr_error *err)
{
    char folder[DR_PATH_MAX];
    *p = (struct private_folder){ .lock = TAKEN };
    int r = private_place(place, folder, err);
    if (!r)
        remove_abandoned(folder);
    /* between making and locking it another run may take it for abandoned */
    for (int i = 0; !r && i < TRIES && p->lock == TAKEN; i++)
        r = make_one(p, folder, err);
    return r;
}

int private_keep(const struct private_folder *p, const char *place, struct dr_error *err)
{
    char from[DR_PATH_MAX], to[DR_PATH_MAX];
    DIR *dir = *p->path ? opendir(p->path) : NULL;
    struct dirent *entry;
    int r = 0;
    while (!r && dir && (entry = readdir(dir))) {
        const char *name = entry->d_name;
        if (name[0] == '.' || !strcmp(dr_path_extension(name), ".tmp"))
            continue;
        r = dr_mkdirs(place, err);
        if (!r && (dr_path_join(from, sizeof from, p->path, name) < 0 ||
                   dr_path_join(to, sizeof to, place, name) < 0))
            r = dr_fail(err, DR_ELIMIT, "%s: path too long", place);
        if (!r && rename(from, to))
            r = dr_fail_errno(err, to, "write");
    }
    if (dir)
        closedir(dir);
    return r;
}

void private_remove(struct private_folder *p)
{
    if (!*p->path)
        return;
    remove_files(p->path);
    if (p->lock >= 0)
        close(p->lock);
    p->path[0] = '\0';
}
