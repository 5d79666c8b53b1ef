/* size_text.h - sizes in bytes as people write them: 64G, 1.5G, 500M, 20GB, 20GiB, 1048576. */
#ifndef DR_BASE_SIZE_TEXT_H
#define DR_BASE_SIZE_TEXT_H

#include <stdbool.h>
#include <stdint.h>

/* What an error expects. */
#define SIZE_TEXT_EXPECTED                                                                         \
    "a size such as 64G, 1.5G, 500M, 20GB or plain bytes (G is 2^30 bytes, GB 10^9)"

/* K, M, G, T and KiB, MiB, GiB, TiB are powers of 1024; kB, MB, GB, TB powers of 1000; no unit or
 * B: bytes. Upper or lower case; a fraction takes '.'; at most 2^63-1. False when the text is
 * none of these. */
bool size_text_read(const char *text, int64_t *ret_bytes);

#endif
