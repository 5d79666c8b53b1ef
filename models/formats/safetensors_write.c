/* safetensors_write.c - see safetensors_write.h. */
#include "models/formats/safetensors_write.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/checked.h"
#include "base/json.h"

enum { PREFIX = 8, ALIGN = 8 };

static json_t *shape_json(const struct shape *s)
{
    json_t *list = json_array();
    for (int i = 0; list && i < s->n; i++)
        if (jx_add(list, json_integer(s->d[i])) < 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

/* Header as an object; at[i] is where the data of item i begin, counted from the first. */
static int header_json(const struct st_item *items, size_t n, const struct st_metadata *metadata,
                       size_t n_metadata, uint64_t *at, json_t *header, struct dr_error *err)
{
    json_t *texts = n_metadata ? json_object() : NULL;
    int r = 0;
    for (size_t i = 0; i < n_metadata && !r; i++)
        r = jx_set(texts, metadata[i].key, json_string(metadata[i].value));
    if (r)
        json_decref(texts);
    else if (n_metadata)
        r = jx_set(header, "__metadata__", texts);
    at[0] = 0;
    for (size_t i = 0; i < n && !r; i++) {
        int64_t count, bytes;
        if (!shape_count(&items[i].shape, &count) ||
            !dr_mul_i64(count, (int64_t)dtype_size(items[i].dtype), &bytes))
            return dr_fail(err, DR_EFORMAT, "'%s' is too large", items[i].name);
        at[i + 1] = at[i] + (uint64_t)bytes;
        r = jx_set(header, items[i].name,
                   json_pack("{s:s,s:o,s:[I,I]}", "dtype", dtype_name(items[i].dtype), "shape",
                             shape_json(&items[i].shape), "data_offsets", (json_int_t)at[i],
                             (json_int_t)at[i + 1]));
    }
    return r ? dr_fail(err, r, "out of memory for a header") : 0;
}

static int put_at(int fd, const char *path, uint64_t at, const void *bytes, size_t n,
                  struct dr_error *err)
{
    const char *p = bytes;
    while (n) {
        ssize_t done = pwrite(fd, p, n, (off_t)at);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return dr_fail_errno(err, path, "write");
        p += done;
        at += (uint64_t)done;
        n -= (size_t)done;
    }
    return 0;
}

/* Length and text of the header, padded with spaces; moves at[] by their size. */
static int write_header(const struct st_out *out, struct buf *text, size_t n, struct dr_error *err)
{
    unsigned char length[PREFIX];
    while ((PREFIX + text->len) % ALIGN)
        if (buf_putc(text, ' ') < 0)
            return dr_fail(err, DR_ENOMEM, "out of memory for a header");
    if (text->len > ST_HEADER_MAX)
        return dr_fail(err, DR_ELIMIT, "%s: a header of %zu bytes", out->path, text->len);
    for (int i = 0; i < PREFIX; i++)
        length[i] = (unsigned char)(text->len >> (8 * i));
    for (size_t i = 0; i <= n; i++)
        out->at[i] += PREFIX + text->len;
    int r = st_out_start(out, out->at[n], err);
    if (!r)
        r = put_at(out->fd, out->path, 0, length, sizeof length, err);
    return r ? r : put_at(out->fd, out->path, PREFIX, text->data, text->len, err);
}

int st_out_start(const struct st_out *out, uint64_t size, struct dr_error *err)
{
    int full = posix_fallocate(out->fd, 0, (off_t)size);
    if (full == ENOSPC || full == EFBIG || full == EDQUOT)
        return dr_fail(err, DR_EIO, "%s: %llu bytes do not fit on its disk", out->path,
                       (unsigned long long)size);
    return 0;
}

int st_out_open(int fd, const char *path, const struct st_item *items, size_t n,
                const struct st_metadata *metadata, size_t n_metadata, struct st_out *ret,
                struct dr_error *err)
{
    struct buf text;
    buf_init(&text, DR_TAG_FILE, 0);
    *ret = (struct st_out){ .fd = fd, .path = path };
    ret->at = dr_malloc(DR_TAG_FILE, (n + 1) * sizeof *ret->at);
    json_t *header = json_object();
    int r = ret->at && header ? 0 : dr_fail(err, DR_ENOMEM, "out of memory for a header");
    if (!r)
        r = header_json(items, n, metadata, n_metadata, ret->at, header, err);
    if (!r && jx_dump(header, &text) < 0)
        r = dr_fail(err, DR_ENOMEM, "out of memory for a header");
    if (!r)
        r = write_header(ret, &text, n, err);
    json_decref(header);
    buf_free(&text);
    if (r)
        st_out_release(ret);
    return r;
}

int st_out_put(struct st_out *out, size_t i, uint64_t offset, const void *bytes, size_t n,
               struct dr_error *err)
{
    return put_at(out->fd, out->path, out->at[i] + offset, bytes, n, err);
}

int st_out_close(struct st_out *out, struct dr_error *err)
{
    int r = fsync(out->fd) ? dr_fail_errno(err, out->path, "write") : 0;
    if (close(out->fd) && !r)
        r = dr_fail_errno(err, out->path, "write");
    out->fd = -1;
    st_out_release(out);
    return r;
}

void st_out_release(struct st_out *out)
{
    if (out->fd >= 0)
        close(out->fd);
    dr_free(out->at);
    *out = (struct st_out){ .fd = -1 };
}
