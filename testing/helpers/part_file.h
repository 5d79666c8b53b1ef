/* part_file.h - a file with some of another's tensors, renamed and changed, for tests of parts. */
#ifndef DR_TESTING_HELPERS_PART_FILE_H
#define DR_TESTING_HELPERS_PART_FILE_H

#include <stddef.h>

/* Writes the tensors of `from` whose names begin with `cut`, with `put` in its place; in each value
 * these bits of this byte are inverted. Returns how many tensors. */
size_t part_file(const char *from, const char *cut, const char *put, size_t byte,
                 unsigned char bits, const char *to);

#endif
