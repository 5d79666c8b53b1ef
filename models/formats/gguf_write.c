/* gguf_write.c - see gguf_write.h. */
#include "models/formats/gguf_write.h"

#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "models/formats/gguf.h"

enum { ALIGNMENT = 32, VERSION = 3, TEXT = 8, UINT32 = 4, DIMENSIONS_MAX = 4 };

#define QUANTIZATION_VERSION "general.quantization_version"

static int put(struct buf *b, uint64_t v, int n)
{
    int r = 0;
    for (int i = 0; !r && i < n; i++, v >>= 8)
        r = buf_putc(b, (char)(v & 0xff));
    return r;
}

static int put_text(struct buf *b, const char *text)
{
    size_t n = strlen(text);
    int r = put(b, n, 8);
    return r ? r : buf_append(b, text, n);
}

/* Entries of the same name as one that is always written, or that the format itself reads. */
static bool own_key(const char *key)
{
    return !strcmp(key, QUANTIZATION_VERSION) || !strcmp(key, "general.alignment") ||
           !strcmp(key, "general.file_type");
}

static int put_entries(struct buf *b, const struct st_metadata *m, size_t n)
{
    int r = put_text(b, QUANTIZATION_VERSION);
    if (!r)
        r = put(b, UINT32, 4);
    if (!r)
        r = put(b, 2, 4);
    for (size_t i = 0; !r && i < n; i++) {
        if (own_key(m[i].key) || !*m[i].key)
            continue;
        r = put_text(b, m[i].key);
        if (!r)
            r = put(b, TEXT, 4);
        if (!r)
            r = put_text(b, m[i].value);
    }
    return r;
}

static int put_tensor(struct buf *b, const struct st_item *item, uint64_t at)
{
    int r = put_text(b, item->name);
    if (!r)
        r = put(b, (uint64_t)item->shape.n, 4);
    for (int i = item->shape.n - 1; !r && i >= 0; i--)
        r = put(b, (uint64_t)item->shape.d[i], 8);
    if (!r)
        r = put(b, (uint64_t)gguf_type_of(item->dtype), 4);
    return r ? r : put(b, at, 8);
}

/* Where the data of each begin, counted from the first. */
static int find_places(const struct st_item *items, size_t n, uint64_t *at, struct dr_error *err)
{
    at[0] = 0;
    for (size_t i = 0; i < n; i++) {
        int64_t count, bytes;
        const struct st_item *t = &items[i];
        if (gguf_type_of(t->dtype) < 0 || t->shape.n > DIMENSIONS_MAX)
            return dr_fail(err, DR_EUNSUPPORTED,
                           "tensor '%.200s': %s of %d dimensions, which GGUF does not have",
                           t->name, dtype_name(t->dtype), t->shape.n);
        if (!shape_count(&t->shape, &count) || !dtype_bytes(t->dtype, count, &bytes))
            return dr_fail(err, DR_EFORMAT, "'%s' is too large", t->name);
        at[i + 1] = (at[i] + (uint64_t)bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
    return 0;
}

static int put_header(struct buf *b, const struct st_item *items, size_t n,
                      const struct st_metadata *m, size_t n_metadata, const uint64_t *at)
{
    uint64_t entries = 1;
    for (size_t i = 0; i < n_metadata; i++)
        entries += !own_key(m[i].key) && *m[i].key;
    int r = buf_append(b, GGUF_MAGIC, 4);
    if (!r)
        r = put(b, VERSION, 4);
    if (!r)
        r = put(b, n, 8);
    if (!r)
        r = put(b, entries, 8);
    if (!r)
        r = put_entries(b, m, n_metadata);
    for (size_t i = 0; !r && i < n; i++)
        r = put_tensor(b, &items[i], at[i]);
    while (!r && b->len % ALIGNMENT)
        r = buf_putc(b, '\0');
    return r;
}

/* Moves the places behind the header and writes this, as if it were a tensor before the first. */
static int start(struct st_out *out, const struct buf *header, size_t n, struct dr_error *err)
{
    int r = st_out_start(out, out->at[n] + header->len, err);
    uint64_t first = out->at[0];
    out->at[0] = 0;
    if (!r)
        r = st_out_put(out, 0, 0, header->data, header->len, err);
    out->at[0] = first;
    for (size_t i = 0; i <= n; i++)
        out->at[i] += header->len;
    return r;
}

int gguf_out_open(int fd, const char *path, const struct st_item *items, size_t n,
                  const struct st_metadata *metadata, size_t n_metadata, struct st_out *ret,
                  struct dr_error *err)
{
    struct buf header;
    buf_init(&header, DR_TAG_FILE, 0);
    *ret = (struct st_out){ .fd = fd, .path = path };
    ret->at = dr_malloc(DR_TAG_FILE, (n + 1) * sizeof *ret->at);
    int r = ret->at ? find_places(items, n, ret->at, err)
                    : dr_fail(err, DR_ENOMEM, "out of memory for a header");
    if (!r && put_header(&header, items, n, metadata, n_metadata, ret->at) < 0)
        r = dr_fail(err, DR_ENOMEM, "out of memory for a header");
    if (!r)
        r = start(ret, &header, n, err);
    buf_free(&header);
    if (r)
        st_out_release(ret);
    return r;
}
