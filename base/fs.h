/* fs.h - files: mapping, reading, replacing, creating; and where Darkroom's own files are. */
#ifndef DR_BASE_FS_H
#define DR_BASE_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/error.h"

enum { DR_PATH_MAX = 4096 };

/* A whole file, mapped read-only. Reading a page past the end of a file that was truncated
 * meanwhile raises SIGBUS: hot paths that cannot afford it call dr_map_check before a long use. */
struct dr_map {
    const uint8_t *data; /* NULL for an empty file */
    size_t size;
    int fd; /* kept open, for dr_map_check; -1: not mapped */
    uint64_t device, inode;
    int64_t mtime_ns, ctime_ns;
};

/* Regular files only; the descriptor stays the caller's, `path` names it in errors. On failure
 * *ret_map is {.fd = -1}, which dr_map_close takes. */
int dr_map_fd(struct dr_map *ret_map, int fd, const char *path, struct dr_error *err);
void dr_map_close(struct dr_map *m);

/* DR_EIO when the file's size or modification time is no longer what it was. */
int dr_map_check(const struct dr_map *m, const char *path, struct dr_error *err);

/* Appends a whole regular file; DR_ELIMIT when it is larger than `maximum`. */
int dr_read_file(const char *path, size_t maximum, struct buf *dst, struct dr_error *err);
/* The same of a file that is open, from its start whatever its position. */
int dr_read_fd(int fd, const char *path, size_t maximum, struct buf *dst, struct dr_error *err);

/* Replaces a file whole or not at all: temporary file beside it, fsync, rename. Mode 0666 less the
 * umask. */
int dr_write_file(const char *path, const void *bytes, size_t n, struct dr_error *err);

/* The same with the bytes in pieces, written one after another, and without the fsync: for files
 * that can be recomputed (stages by the dozen), as a power cut may then leave an empty file. */
struct dr_piece {
    const void *bytes;
    size_t n;
};
int dr_write_pieces(const char *path, const struct dr_piece *pieces, size_t count,
                    struct dr_error *err);

/* A file that is written under a temporary name beside its place and gets its own name when it is
 * whole. Nothing that exists is ever replaced. `folder` is the descriptor of the folder it lies in,
 * which stays the caller's; `path` is what errors call the file.
 *
 *     r = dr_draft_write(&d, folder, "/srv/pictures/a.png", pieces, 1, true, err);
 *     if (!r && dr_draft_publish(&d, "a.png"))        errno EEXIST: another name may be tried
 *         r = dr_fail_errno(err, path, "create");
 *     dr_draft_drop(&d);                              in any case
 */
struct dr_draft {
    int folder;
    bool durable;        /* is on the disk before it gets its name */
    char temporary[256]; /* "": none */
};
int dr_draft_write(struct dr_draft *d, int folder, const char *path, const struct dr_piece *pieces,
                   size_t count, bool durable, struct dr_error *err);
int dr_draft_publish(struct dr_draft *d, const char *name); /* -1 with errno */
void dr_draft_drop(struct dr_draft *d);

/* The three together, for a name that is known: the last part of `path`, in the open folder.
 * DR_EINVAL "exists already" when it is taken. */
int dr_create_file(int folder, const char *path, const struct dr_piece *pieces, size_t count,
                   bool durable, struct dr_error *err);

/* A new file for writing, or a new folder, beside `name` in an open folder: its descriptor, and its
 * name. -1 with errno. */
int dr_open_temporary(int folder, const char *name, char ret_name[256]);
int dr_make_temporary(int folder, const char *name, char ret_name[256]);

/* A new file for reading and writing beside the file that a path names. -1 with errno. */
int dr_open_beside(const char *path, char ret_path[DR_PATH_MAX]);
/* So that a rename in the folder of `path` survives a power cut. Not every file system can: no
 * error. */
void dr_sync_folder(const char *path);

/* Removes a file or an empty folder if it is this very one. */
void dr_unlink_same(int folder, const char *name, const struct stat *made);

/* Renames a file or folder to a name that is free: -1 with errno EEXIST when it is not. On file
 * systems that cannot do it in one step the name is taken first, by a link or by an empty entry. */
int dr_rename_new(int from_folder, const char *from, int to_folder, const char *to);

/* mkdir -p; 0 when it is there already. */
int dr_mkdirs(const char *path, struct dr_error *err);

bool dr_is_file(const char *path); /* regular, links followed */
bool dr_is_dir(const char *path);

/* "DIR/NAME" into dst; NAME alone when it is absolute or DIR is empty. DR_ELIMIT when it does not
 * fit. */
int dr_path_join(char *dst, size_t n, const char *dir, const char *name);

/* Bytes of the path without '/' at its end, but for the root's own. */
size_t dr_path_trimmed(const char *path);

/* The part after the last '/', never NULL; the extension with its dot, "" if none. Point into
 * path. */
const char *dr_path_base(const char *path);
const char *dr_path_extension(const char *path);

/* $XDG_CACHE_HOME/darkroom/RELATIVE or ~/.cache/darkroom/RELATIVE; likewise for the configuration.
 * Nothing is created. DR_ENOENT when neither the variable nor HOME is set. */
int dr_cache_path(char *dst, size_t n, const char *relative, struct dr_error *err);
int dr_config_path(char *dst, size_t n, const char *relative, struct dr_error *err);
int dr_data_path(char *dst, size_t n, const char *relative, struct dr_error *err);

/* A shipped file: under the folder of dr_share_use, else of $DARKROOM_SHARE if set, else the first
 * that exists of ../share/darkroom, ../../share/darkroom, ../share, ../../share, ../../../share
 * from the folder of libdarkroom.so or the program, and share/darkroom of the prefix that was
 * built for. DR_ENOENT names every place tried. */
int dr_share_path(char *dst, size_t n, const char *relative, struct dr_error *err);

/* Has shipped files looked for in that folder only, until as many dr_share_release. One folder for
 * the process: DR_ESTATE when another is in use. */
int dr_share_use(const char *folder, struct dr_error *err);
void dr_share_release(void);

/* Folder of the running binary, without a final '/'. */
int dr_binary_dir(char *dst, size_t n, struct dr_error *err);

/* Absolute path with links and dots resolved; the file must exist. */
int dr_realpath(char *dst, size_t n, const char *path, struct dr_error *err);

/* All bytes, whatever interrupts it; -1 with errno. */
int dr_write_all(int fd, const void *bytes, size_t n);

#endif
