/* zst.h - a shipped data file, decompressed whole. */
#ifndef DR_MODELS_TOKENIZERS_ZST_H
#define DR_MODELS_TOKENIZERS_ZST_H

#include <stddef.h>

#include "base/error.h"

/* share/RELATIVE, one zstd frame that states its size, of at most `maximum` bytes. *ret_data
 * (dr_free it) is followed by a NUL that *ret_size does not count. */
int zst_read_share(const char *relative, size_t maximum, char **ret_data, size_t *ret_size,
                   struct dr_error *err);

#endif
