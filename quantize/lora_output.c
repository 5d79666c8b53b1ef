/* lora_output.c - see lora_output.h. */
#include "quantize/lora_output.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"

struct lora_tensor {
    struct st_item item;
    const void *data;
    void *own; /* NULL: borrowed */
};

void lora_output_init(struct lora_output *o)
{
    *o = (struct lora_output){ .type = DTYPE_F32 };
    arena_init(&o->texts, DR_TAG_FILE, 64 << 10, 0);
    o->namer.texts = &o->texts;
}

void lora_output_release(struct lora_output *o)
{
    for (size_t i = 0; i < o->n; i++)
        dr_free(o->list[i].own);
    dr_free(o->list);
    arena_free(&o->texts);
}

static int no_memory(struct dr_error *err)
{
    return dr_fail(err, DR_ENOMEM, "out of memory for a LoRA");
}

static int add(struct lora_output *o, enum component c, const char *param, const char *ending,
               const struct lora_tensor *t, struct dr_error *err)
{
    const char *name = NULL;
    int r = lora_spelling_name(&o->namer, c, param, ending, &name, err);
    if (r)
        return r;
    if (o->n == o->cap) {
        size_t cap = 2 * o->cap + 64;
        struct lora_tensor *more = dr_realloc(DR_TAG_FILE, o->list, cap * sizeof *more);
        if (!more)
            return no_memory(err);
        o->list = more;
        o->cap = cap;
    }
    o->list[o->n] = *t;
    o->list[o->n++].item.name = name;
    return 0;
}

int lora_output_copy(struct lora_output *o, enum component c, const char *param, const char *ending,
                     const struct weight_source *from, struct dr_error *err)
{
    const struct lora_tensor t = { .item = { NULL, from->dtype, from->shape }, .data = from->data };
    return add(o, c, param, ending, &t, err);
}

/* The first number that is none in that type; -1: all are. */
static int64_t lost(const void *bytes, enum dtype type, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        float back;
        dtype_read(&back, bytes, type, i, 1);
        if (!isfinite(back))
            return i;
    }
    return -1;
}

int lora_output_make(struct lora_output *o, enum component c, const char *param, const char *ending,
                     const struct shape *shape, float *values, struct dr_error *err)
{
    int64_t count = 0, bad;
    (void)shape_count(shape, &count);
    void *bytes = values ? dr_malloc(DR_TAG_FILE, (size_t)count * dtype_size(o->type)) : NULL;
    int r = bytes ? 0 : no_memory(err);
    if (!r) {
        dtype_from_f32(bytes, o->type, values, count);
        bad = lost(bytes, o->type, count);
        if (bad >= 0)
            r = dr_fail(err, DR_EUNSUPPORTED, "%s%s would have the value %g, which %s cannot hold",
                        param, ending, (double)values[bad], dtype_name(o->type));
    }
    const struct lora_tensor t = { .item = { NULL, o->type, *shape }, .data = bytes, .own = bytes };
    if (!r)
        r = add(o, c, param, ending, &t, err);
    if (r)
        dr_free(bytes);
    dr_free(values);
    return r;
}

int lora_output_number(struct lora_output *o, enum component c, const char *param,
                       const char *ending, double value, struct dr_error *err)
{
    float *bytes = dr_malloc(DR_TAG_FILE, sizeof *bytes);
    if (!bytes)
        return no_memory(err);
    *bytes = (float)value;
    const struct lora_tensor t = { .item = { NULL, DTYPE_F32, { .n = 0 } },
                                   .data = bytes,
                                   .own = bytes };
    int r = add(o, c, param, ending, &t, err);
    if (r)
        dr_free(bytes);
    return r;
}

/* ---- writing ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct lora_tensor *)a)->item.name,
                  ((const struct lora_tensor *)b)->item.name);
}

static int put(struct lora_output *o, struct st_out *out, size_t i, const atomic_int *stop,
               struct dr_error *err)
{
    int64_t count = 0;
    (void)shape_count(&o->list[i].item.shape, &count);
    if (stop && atomic_load(stop))
        return dr_fail(err, DR_ECANCELED, "stopped");
    return st_out_put(out, i, 0, o->list[i].data, (size_t)count * dtype_size(o->list[i].item.dtype),
                      err);
}

int lora_output_write(struct lora_output *o, int fd, const char *path,
                      const struct st_metadata *metadata, size_t n_metadata, const atomic_int *stop,
                      struct dr_error *err)
{
    struct st_out out = { .fd = -1 };
    struct st_item *items = dr_malloc(DR_TAG_FILE, (o->n + 1) * sizeof *items);
    int r = items ? 0 : no_memory(err);
    if (!r && !o->n)
        r = dr_fail_field(err, DR_EINVAL, path, "no change", "a LoRA that changes something", NULL);
    if (r) {
        dr_free(items);
        close(fd);
        return r;
    }
    qsort(o->list, o->n, sizeof *o->list, by_name);
    for (size_t i = 0; i < o->n; i++) {
        items[i] = o->list[i].item;
        if (!r && i && !strcmp(items[i].name, items[i - 1].name))
            r = dr_fail(err, DR_EUNSUPPORTED, "%s: two tensors would be called '%s'", path,
                        items[i].name);
    }
    if (r) {
        dr_free(items);
        close(fd);
        return r;
    }
    r = st_out_open(fd, path, items, o->n, metadata, n_metadata, &out, err);
    for (size_t i = 0; !r && i < o->n; i++)
        r = put(o, &out, i, stop, err);
    if (!r)
        r = st_out_close(&out, err);
    st_out_release(&out);
    dr_free(items);
    return r;
}
