/* safetensors.c - see safetensors.h: opening and looking up. The header's parser is
 * safetensors_parse.c. */
#include "models/formats/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/mapguard.h"
#include "models/formats/gguf.h"

/* Other formats that people try. Checked only after the header proved invalid or absent: eight
 * bytes of length may look like anything by chance. */
static const struct {
    const char *magic;
    size_t n;
    const char *meaning;
} impostors[] = {
#define PICKLE                                                                                     \
    "pickles can run code when they are read, so Darkroom never does; `darkroom convert FILE -o "  \
    "NAME.safetensors` makes a safetensors file of its tensors"
    { "PK\3\4", 4, "a ZIP archive, most likely a PyTorch checkpoint; " PICKLE },
    { "\x80\2", 2, "a Python pickle; " PICKLE },
    { "\x80\3", 2, "a Python pickle; " PICKLE },
    { "\x80\4", 2, "a Python pickle; " PICKLE },
    { "\x80\5", 2, "a Python pickle; " PICKLE },
#undef PICKLE
    { "\x89HDF", 4, "an HDF5 file; Darkroom reads safetensors" },
    { "\x89PNG", 4, "a PNG picture" },
    { "\xff\xd8\xff", 3, "a JPEG picture" },
    { "version https://git-lfs", 23, "a Git LFS pointer; the file itself was not downloaded" },
    { "<!DOCTYPE", 9, "an HTML page; the download went wrong" },
    { "<html", 5, "an HTML page; the download went wrong" },
    { "{", 1, "JSON text" },
};

static const char *impostor(const uint8_t *bytes, size_t n)
{
    if (n > 8 && bytes[8] == '{')
        return NULL;
    for (size_t i = 0; i < sizeof impostors / sizeof *impostors; i++)
        if (n >= impostors[i].n && !memcmp(bytes, impostors[i].magic, impostors[i].n))
            return impostors[i].meaning;
    return NULL;
}

static int parse(const struct dr_map *map, const char *path, struct st_header *ret,
                 struct dr_error *err)
{
    if (gguf_begins(map->data, map->size))
        return gguf_parse(map->data, map->size, map->size, path, ret, err);
    int r = st_parse(map->data, map->size, map->size, path, ret, err);
    const char *other = r && r != DR_ENOMEM ? impostor(map->data, map->size) : NULL;
    return other ? dr_fail(err, DR_EFORMAT, "%s: not a safetensors file but %s", path, other) : r;
}

/* The map is guarded before the first byte is read: the file may be truncated at any moment. */
static int open_map(struct safetensors *st, const char *path, struct dr_error *err)
{
    int r = st->map.size ? mapguard_add(st->map.data, st->map.size, &st->guard, err) : 0;
    if (r)
        return r;
    r = parse(&st->map, path, &st->header, err);
    if (mapguard_damaged(st->guard))
        return dr_fail(err, DR_EIO, "%s: changed while it was read, or its disk failed", path);
    if (!r && !(st->path = dr_strdup(DR_TAG_FILE, path)))
        r = dr_fail(err, DR_ENOMEM, "%s: out of memory for its name", path);
    return r;
}

int st_open_fd(int fd, const char *path, struct safetensors *ret, struct dr_error *err)
{
    struct safetensors st = { .guard = -1 };
    int r = dr_map_fd(&st.map, fd, path, err);
    if (!r)
        r = open_map(&st, path, err);
    if (r)
        st_close(&st);
    else
        *ret = st;
    return r;
}

void st_close(struct safetensors *st)
{
    if (!st)
        return;
    mapguard_remove(st->guard);
    dr_map_close(&st->map);
    st_header_free(&st->header);
    dr_free(st->path);
    *st = (struct safetensors){ .guard = -1, .map.fd = -1 };
}

void st_header_free(struct st_header *h)
{
    if (!h)
        return;
    dr_free(h->tensors);
    dr_free(h->metadata);
    dr_free(h->strings);
    memset(h, 0, sizeof *h);
}

static int by_key(const void *key, const void *element)
{
    return strcmp(key, ((const struct st_tensor *)element)->name);
}

const struct st_tensor *st_find(const struct st_header *h, const char *name)
{
    if (!h->n_tensors)
        return NULL;
    return bsearch(name, h->tensors, h->n_tensors, sizeof *h->tensors, by_key);
}

const void *st_data(const struct safetensors *st, const struct st_tensor *t)
{
    return st->map.data + st->header.data_at + t->begin;
}

int st_check(const struct safetensors *st, struct dr_error *err)
{
    if (mapguard_damaged(st->guard))
        return dr_fail(err, DR_EIO, "%s: file changed while in use, or its disk failed", st->path);
    return dr_map_check(&st->map, st->path, err);
}
