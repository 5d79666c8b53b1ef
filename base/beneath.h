/* beneath.h - opening a path without leaving a folder.
 *
 * A path that is checked as text and opened afterwards may lead elsewhere by then: between the two
 * another process can replace it by a link. So a path from outside is opened once, with the
 * containment checked by the kernel while it resolves the path (openat2), and used by descriptor
 * from then on.
 */
#ifndef DR_BASE_BENEATH_H
#define DR_BASE_BENEATH_H

/* Opens `path`, relative to the folder with descriptor `root`, with the flags of open(2) plus
 * O_CLOEXEC; mode counts with O_CREAT only. Returns a descriptor, or -1 with errno: EXDEV when the
 * path leads out of the folder ("..", a link), ELOOP for links of /proc that stand for descriptors.
 *
 * Links inside the folder are followed when they lead inside it, absolute ones too. On kernels
 * without openat2 (before Linux 5.6, or where a sandbox denies it) links are not followed at all.
 * root AT_FDCWD: no containment, an ordinary open. */
int dr_open_beneath(int root, const char *path, int flags, unsigned mode);

#endif
