/* remote_backend.h - a second backend, for tests: it computes as `scalar` does, the same bits, but
 * keeps everything the way a card of its own would.
 *
 * Its buffers are handles that host code cannot dereference, a transfer has happened only when it
 * was waited for, and its weights have a form that nobody else can read, brought to memory of its
 * own. Whatever runs on it reaches the device through the seam alone.
 */
#ifndef DR_TESTING_HELPERS_REMOTE_BACKEND_H
#define DR_TESTING_HELPERS_REMOTE_BACKEND_H

/* The name of its one kernel set. */
#define REMOTE_SET "remote"

/* Adds the device to the process's devices. */
void remote_device_add(void);

/* Transfers so far, of all backends of the device. */
long remote_transfers(void);

#endif
