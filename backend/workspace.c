/* workspace.c - first fit over one block.
 *
 * Live blocks are kept sorted by offset in a table made with the workspace. The gap searched from
 * the bottom makes the layout a function of the calls alone, so a plan run and a real one have the
 * same peak.
 */
#include <string.h>

#include "backend/vtable.h"
#include "base/alloc.h"
#include "base/checked.h"

enum { BLOCKS_MAX = 4096 };

struct block {
    size_t offset, size;
};

struct workspace {
    struct buffer buf;
    size_t peak, used;
    int n;
    struct block blocks[BLOCKS_MAX];
};

size_t backend_align(size_t bytes)
{
    size_t sum;
    if (!dr_add_size(bytes, BACKEND_ALIGN - 1, &sum))
        return SIZE_MAX;
    return sum / BACKEND_ALIGN * BACKEND_ALIGN;
}

int workspace_new(struct backend *be, size_t capacity, struct workspace **ret, struct dr_error *err)
{
    struct workspace *ws = dr_malloc(DR_TAG_ACTIVATION, sizeof *ws);
    if (!ws)
        return dr_fail(err, DR_ENOMEM, "out of memory for a workspace");
    memset(ws, 0, offsetof(struct workspace, blocks));
    ws->buf.be = be;
    ws->buf.size = capacity;
    int r = be->v->buffer_init(be, &ws->buf, err);
    if (r) {
        dr_free(ws);
        return r;
    }
    *ret = ws;
    return 0;
}

void workspace_free(struct workspace *ws)
{
    if (!ws)
        return;
    ws->buf.be->v->buffer_release(&ws->buf);
    dr_free(ws);
}

size_t workspace_peak(const struct workspace *ws)
{
    return ws->peak;
}

size_t workspace_used(const struct workspace *ws)
{
    return ws->used;
}

void workspace_reset(struct workspace *ws)
{
    ws->peak = 0;
    ws->used = 0;
    ws->n = 0;
}

struct buffer *workspace_buffer(struct workspace *ws)
{
    return &ws->buf;
}

int workspace_take(struct workspace *ws, size_t bytes, const char *what, size_t *ret_offset,
                   struct dr_error *err)
{
    size_t size = backend_align(bytes ? bytes : 1);
    if (ws->n == BLOCKS_MAX)
        return dr_fail(err, DR_ELIMIT, "more than %d activations in a workspace", BLOCKS_MAX);
    size_t at = 0;
    int i = 0;
    for (; i < ws->n && ws->blocks[i].offset - at < size; i++)
        at = ws->blocks[i].offset + ws->blocks[i].size;
    if (size > ws->buf.size || at > ws->buf.size - size)
        return dr_fail(err, DR_ENOMEM,
                       "workspace of %zu bytes: no room for %s of %zu bytes (%zu in use)",
                       ws->buf.size, what, size, ws->used);
    memmove(&ws->blocks[i + 1], &ws->blocks[i], (size_t)(ws->n - i) * sizeof ws->blocks[0]);
    ws->blocks[i] = (struct block){ at, size };
    ws->n++;
    ws->used += size;
    if (at + size > ws->peak)
        ws->peak = at + size;
    *ret_offset = at;
    return 0;
}

void workspace_give(struct workspace *ws, size_t offset)
{
    int low = 0, high = ws->n;
    while (low < high) {
        int middle = (low + high) / 2;
        if (ws->blocks[middle].offset < offset)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == ws->n || ws->blocks[low].offset != offset)
        return;
    ws->used -= ws->blocks[low].size;
    ws->n--;
    memmove(&ws->blocks[low], &ws->blocks[low + 1], (size_t)(ws->n - low) * sizeof ws->blocks[0]);
}
