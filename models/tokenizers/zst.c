/* zst.c - see zst.h. One-shot decompression into a block sized by the frame header, so that
 * nothing grows with a hostile file. zstd's own context comes from malloc: it is of fixed size
 * and lives only during the call.
 */
#include "models/tokenizers/zst.h"

#include <zstd.h>

#include "base/alloc.h"
#include "base/fs.h"

enum { LARGEST = 16 << 20 }; /* of a shipped file, compressed */

static int decompress(const struct buf *file, const char *path, size_t maximum, char **ret_data,
                      size_t *ret_size, struct dr_error *err)
{
    unsigned long long size = ZSTD_getFrameContentSize(file->data, file->len);
    if (!file->len || size == ZSTD_CONTENTSIZE_ERROR || size == ZSTD_CONTENTSIZE_UNKNOWN)
        return dr_fail(err, DR_EFORMAT, "%s: not a zstd frame of known size", path);
    if (size > maximum)
        return dr_fail(err, DR_ELIMIT, "%s: %llu bytes when decompressed, at most %zu expected",
                       path, size, maximum);
    char *data = dr_malloc(DR_TAG_TOKENIZER, (size_t)size + 1);
    if (!data)
        return dr_fail(err, DR_ENOMEM, "%s: out of memory for %llu bytes", path, size);
    size_t got = ZSTD_decompress(data, (size_t)size, file->data, file->len);
    if (ZSTD_isError(got) || got != size) {
        dr_free(data);
        return dr_fail(err, DR_EFORMAT, "%s: %s", path,
                       ZSTD_isError(got) ? ZSTD_getErrorName(got) : "truncated");
    }
    data[size] = 0;
    *ret_data = data;
    *ret_size = (size_t)size;
    return 0;
}

int zst_read_share(const char *relative, size_t maximum, char **ret_data, size_t *ret_size,
                   struct dr_error *err)
{
    char path[DR_PATH_MAX];
    struct buf file;
    int r = dr_share_path(path, sizeof path, relative, err);
    if (r)
        return r;
    buf_init(&file, DR_TAG_TOKENIZER, 0);
    r = dr_read_file(path, LARGEST, &file, err);
    if (!r)
        r = decompress(&file, path, maximum, ret_data, ret_size, err);
    buf_free(&file);
    return r;
}
