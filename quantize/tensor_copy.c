/* tensor_copy.c - see tensor_copy.h. */
#include "quantize/tensor_copy.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/mapguard.h"
#include "models/formats/gguf_write.h"
#include "models/formats/quantised.h"
#include "models/formats/torch_file.h"

enum { RUN = 1 << 16 }; /* elements at a time: whole blocks of every type */

struct retyping {
    enum dtype type;
    const char *path; /* of the source */
    const atomic_int *stop;
    struct dr_error *err;
    struct tensor_origin *origins;
    struct st_item *items; /* what becomes of them */
    size_t n;
    const struct st_metadata *metadata;
    size_t n_metadata, left_out;
    struct st_out out;
    float *values; /* [RUN] */
    char *bytes;   /* [8 * RUN] */
};

static const enum dtype types[] = { DTYPE_F32,     DTYPE_F16,  DTYPE_BF16, DTYPE_F8_E4M3,
                                    DTYPE_F8_E5M2, DTYPE_Q8_0, DTYPE_Q4_K };

int tensor_copy_type(const char *name, enum dtype *ret, struct dr_error *err)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcasecmp(name, dtype_name(types[i]))) {
            *ret = types[i];
            return 0;
        }
    return dr_fail_field(err, DR_EINVAL, "type", name,
                         "f32, f16, bf16, f8_e4m3, f8_e5m2, q8_0 or q4_k", NULL);
}

static int no_memory(const struct retyping *c)
{
    return dr_fail(c->err, DR_ENOMEM, "out of memory for a conversion");
}

/* ---- what becomes of a tensor ---- */

static enum dtype target_of(const struct retyping *c, const struct tensor_origin *o)
{
    enum dtype plain = o->scale ? DTYPE_F32 : o->dtype;
    bool real = dtype_is_real(o->dtype) || o->scale;
    int64_t row = o->shape.n > 1 ? o->shape.d[o->shape.n - 1] : 1;
    if (c->type == DTYPE_COUNT || !real)
        return o->dtype;
    if (c->type == DTYPE_F32 || c->type == DTYPE_F16 || c->type == DTYPE_BF16)
        return c->type;
    if (o->shape.n > 1 && row % dtype_block(c->type) == 0)
        return c->type;
    if (o->shape.n > 1 && c->type == DTYPE_Q4_K && row % dtype_block(DTYPE_Q8_0) == 0)
        return DTYPE_Q8_0;
    bool writable = dtype_block(plain) == 1 &&
                    (dtype_block(c->type) == 1 || gguf_type_of(plain) >= 0);
    return writable ? plain : DTYPE_F32;
}

static int plan(struct retyping *c)
{
    c->items = dr_malloc(DR_TAG_FILE, (c->n + 1) * sizeof *c->items);
    if (!c->items)
        return no_memory(c);
    for (size_t i = 0; i < c->n; i++) {
        const struct tensor_origin *o = &c->origins[i];
        c->items[i] = (struct st_item){ o->name, target_of(c, o), o->shape };
        for (const struct tensor_origin *below = o->below; below; below = below->below)
            c->items[i].shape.d[0] += below->shape.d[0];
        if (c->type == DTYPE_COUNT && dtype_block(o->dtype) > 1)
            return dr_fail_field(c->err, DR_EINVAL, "type", "nothing",
                                 "a type for the copy of a GGUF file", NULL);
    }
    return 0;
}

/* ---- numbers ---- */

/* Element i of the turned matrix is this one of the stored. */
static int64_t turned(const struct tensor_origin *o, int64_t i)
{
    return i % o->shape.d[1] * o->shape.d[0] + i / o->shape.d[1];
}

/* n elements from `first` on as they are stored. */
static void read_bytes(const struct retyping *c, const struct tensor_origin *o, int64_t first,
                       int64_t n)
{
    int64_t size = 0, skip = 0;
    if (o->torch) {
        torch_copy(o->torch, first, n, c->bytes);
        return;
    }
    dtype_bytes(o->dtype, 1, &size);
    for (int64_t i = 0; o->turned && i < n; i++)
        memcpy(c->bytes + i * size, (const char *)o->data + turned(o, first + i) * size,
               (size_t)size);
    if (o->turned)
        return;
    dtype_bytes(o->dtype, first, &skip);
    dtype_bytes(o->dtype, n, &size);
    memcpy(c->bytes, (const char *)o->data + skip, (size_t)size);
}

/* As float32, with the scale. F64 is rounded to it. */
static void read_values(const struct retyping *c, const struct tensor_origin *o, int64_t first,
                        int64_t n)
{
    int64_t count = 1;
    if (o->torch || o->turned) {
        read_bytes(c, o, first, n);
        dtype_read(c->values, c->bytes, o->dtype, 0, n);
    } else {
        dtype_read(c->values, o->data, o->dtype, first, n);
    }
    for (int i = 1; i < o->shape.n; i++)
        count *= o->shape.d[i];
    for (int64_t i = 0; o->scale && i < n; i++) {
        float scale;
        dtype_read(&scale, o->scale, o->scale_dtype, o->scale_by_row ? (first + i) / count : 0, 1);
        c->values[i] *= scale;
    }
}

/* Whether a number is not what it was but for rounding: an infinity, NaN, or no longer one. */
static bool is_lost(float was, float is)
{
    if (isnan(was))
        return !isnan(is);
    return isfinite(was) ? !isfinite(is) : is != was;
}

static int check_range(const struct retyping *c, const struct tensor_origin *o, enum dtype to,
                       int64_t n, float *back)
{
    dtype_to_f32(back, c->bytes, to, n);
    for (int64_t i = 0; i < n; i++)
        if (is_lost(c->values[i], back[i]))
            return dr_fail(c->err, DR_EUNSUPPORTED,
                           "%s: tensor '%.200s' has the value %g, which %s cannot hold", c->path,
                           o->name, (double)c->values[i], dtype_name(to));
    return 0;
}

/* One origin, from element `at` of item i on; *at moves past it. */
static int put_origin(struct retyping *c, size_t i, const struct tensor_origin *o, int64_t *at,
                      float *back)
{
    enum dtype to = c->items[i].dtype;
    bool same = to == o->dtype && !o->scale;
    int64_t count = 0, done = 0, bytes = 0;
    int r = 0;
    shape_count(&o->shape, &count);
    for (int64_t n; !r && done < count; done += n, *at += n) {
        n = count - done < RUN ? count - done : RUN;
        if (c->stop && atomic_load(c->stop))
            return dr_fail(c->err, DR_ECANCELED, "stopped");
        uint64_t offset = dtype_bytes(to, *at, &bytes) ? (uint64_t)bytes : 0;
        dtype_bytes(to, n, &bytes);
        if (same) {
            read_bytes(c, o, done, n);
        } else {
            read_values(c, o, done, n);
            dtype_from_f32(c->bytes, to, c->values, n);
            r = check_range(c, o, to, n, back);
        }
        if (!r)
            r = st_out_put(&c->out, i, offset, c->bytes, (size_t)bytes, c->err);
    }
    return r;
}

static int put_tensor(struct retyping *c, size_t i, float *back)
{
    int64_t at = 0;
    int r = 0;
    for (const struct tensor_origin *o = &c->origins[i]; !r && o; o = o->below)
        r = put_origin(c, i, o, &at, back);
    return r;
}

static int put_all(struct retyping *c)
{
    float *back = dr_malloc(DR_TAG_FILE, RUN * sizeof *back);
    c->values = dr_malloc(DR_TAG_FILE, RUN * sizeof *c->values);
    c->bytes = dr_malloc(DR_TAG_FILE, (size_t)RUN * 8);
    int r = back && c->values && c->bytes ? 0 : no_memory(c);
    for (size_t i = 0; !r && i < c->n; i++)
        r = put_tensor(c, i, back);
    dr_free(back);
    dr_free(c->values);
    dr_free(c->bytes);
    return r;
}

/* ---- the answer ---- */

static json_t *answer(const struct retyping *c, bool gguf)
{
    size_t counts[DTYPE_COUNT] = { 0 };
    json_t *o = json_object(), *dtypes = json_object();
    int r = jx_set(o, "dtypes", dtypes);
    for (size_t i = 0; i < c->n; i++)
        counts[c->items[i].dtype]++;
    for (int t = 0; !r && t < DTYPE_COUNT; t++)
        if (counts[t])
            r = jx_set(dtypes, dtype_name((enum dtype)t), json_integer((json_int_t)counts[t]));
    if (!r)
        r = jx_set(o, "tensors", json_integer((json_int_t)c->n));
    if (!r)
        r = jx_set(o, "format", json_string(gguf ? "gguf" : "safetensors"));
    if (!r)
        r = jx_set(o, "left_out", json_integer((json_int_t)c->left_out));
    if (!r)
        return o;
    json_decref(o);
    return NULL;
}

/* Takes fd over. */
static int write_file(struct retyping *c, int fd, const char *path, json_t **ret)
{
    bool gguf = c->type != DTYPE_COUNT && dtype_block(c->type) > 1;
    int r = plan(c);
    if (r) {
        close(fd);
        return r;
    }
    r = gguf ? gguf_out_open(fd, path, c->items, c->n, c->metadata, c->n_metadata, &c->out, c->err)
             : st_out_open(fd, path, c->items, c->n, c->metadata, c->n_metadata, &c->out, c->err);
    if (!r)
        r = put_all(c);
    if (!r)
        r = st_out_close(&c->out, c->err);
    if (!r && !(*ret = answer(c, gguf)))
        r = no_memory(c);
    return r;
}

/* ---- sources ---- */

static int take_scale(struct retyping *c, const struct safetensors *st, const struct st_tensor *s,
                      const struct st_tensor *weight, struct tensor_origin *o)
{
    int64_t count = 0;
    bool row = shape_count(&s->shape, &count) && weight->shape.n > 1 && s->shape.n > 0 &&
               count == weight->shape.d[0] && s->shape.d[0] == count;
    if (!dtype_is_real(s->dtype) || (count != 1 && !row))
        return dr_fail(c->err, DR_EFORMAT,
                       "%s: tensor '%.200s': expected one number, or one for each "
                       "row of its weight",
                       c->path, s->name);
    o->scale = st_data(st, s);
    o->scale_dtype = s->dtype;
    o->scale_by_row = count != 1;
    return 0;
}

/* The scale of "X.weight", by either name; NULL: none. */
static const struct st_tensor *scale_of(const struct st_header *h, const char *name)
{
    static const char tail[] = ".weight";
    char scale[ST_NAME_MAX + 16];
    size_t n = strlen(name), suffix = sizeof tail - 1;
    if (n <= suffix || strcmp(name + n - suffix, tail) != 0)
        return NULL;
    snprintf(scale, sizeof scale, "%s_scale", name);
    const struct st_tensor *t = st_find(h, scale);
    snprintf(scale, sizeof scale, "%.*s.scale_weight", (int)(n - suffix), name);
    return t ? t : st_find(h, scale);
}

/* With a type, scales and marks of quantised layers are applied and left out; else all is kept. */
static int list_st(struct retyping *c, const struct safetensors *st)
{
    const struct st_header *h = &st->header;
    bool fold = c->type != DTYPE_COUNT;
    char what[320];
    if (fold && quantised(h, false, what, sizeof what))
        return dr_fail(c->err, DR_EUNSUPPORTED, "%s: %s, which Darkroom does not read", c->path,
                       what);
    int r = fold ? comfy_quant_check(st, c->err) : 0;
    for (size_t i = 0; !r && i < h->n_tensors; i++) {
        const struct st_tensor *t = &h->tensors[i];
        const struct st_tensor *scale = fold ? scale_of(h, t->name) : NULL;
        if (fold && (scale_of_layer(t->name) || quantised_mark(t->name)))
            continue;
        struct tensor_origin *o = &c->origins[c->n++];
        *o = (struct tensor_origin){
            .name = t->name, .dtype = t->dtype, .shape = t->shape, .data = st_data(st, t)
        };
        if (scale)
            r = take_scale(c, st, scale, t, o);
    }
    c->metadata = h->metadata;
    c->n_metadata = h->n_metadata;
    return r;
}

static int copy_st(struct retyping *c, int from, int to, const char *to_path, json_t **ret)
{
    struct safetensors st;
    int r = st_open_fd(from, c->path, &st, c->err);
    if (r) {
        close(to);
        return r;
    }
    c->origins = dr_calloc(DR_TAG_FILE, st.header.n_tensors + 1, sizeof *c->origins);
    r = c->origins ? list_st(c, &st) : no_memory(c);
    if (r)
        close(to);
    else
        r = write_file(c, to, to_path, ret);
    if (!r)
        r = st_check(&st, c->err);
    st_close(&st);
    return r;
}

static int list_torch(struct retyping *c, const struct torch_file *f)
{
    static const struct st_metadata format = { "format", "pt" };
    c->origins = dr_calloc(DR_TAG_FILE, f->n + 1, sizeof *c->origins);
    if (!c->origins)
        return no_memory(c);
    for (size_t i = 0; i < f->n; i++) {
        const struct torch_tensor *t = &f->tensors[i];
        c->origins[c->n++] = (struct tensor_origin){
            .name = t->name, .dtype = t->dtype, .shape = t->shape, .torch = t
        };
    }
    c->left_out = f->left_out;
    c->metadata = &format;
    c->n_metadata = 1;
    return 0;
}

static int copy_torch(struct retyping *c, const struct dr_map *map, int to, const char *to_path,
                      json_t **ret)
{
    struct torch_file f;
    int r = torch_parse(map->data, map->size, c->path, &f, c->err);
    if (r) {
        close(to);
        return r;
    }
    r = list_torch(c, &f);
    if (r)
        close(to);
    else
        r = write_file(c, to, to_path, ret);
    torch_file_free(&f);
    return r;
}

/* A file of torch.save, mapped and guarded; else `to` stays the caller's and *ret_torch is false.
 * */
static int try_torch(struct retyping *c, int from, int to, const char *to_path, bool *ret_torch,
                     json_t **ret)
{
    struct dr_map map;
    int guard = -1;
    int r = dr_map_fd(&map, from, c->path, c->err);
    if (r)
        return r;
    if (map.size)
        r = mapguard_add(map.data, map.size, &guard, c->err);
    *ret_torch = !r && torch_begins(map.data, map.size);
    if (*ret_torch) {
        r = copy_torch(c, &map, to, to_path, ret);
        if (guard >= 0 && mapguard_damaged(guard))
            r = dr_fail(c->err, DR_EIO, "%s: changed while it was read, or its disk failed",
                        c->path);
        mapguard_remove(guard);
    }
    dr_map_close(&map);
    return r;
}

int tensor_copy(int from, const char *from_path, int to, const char *to_path, enum dtype type,
                const atomic_int *stop, json_t **ret, struct dr_error *err)
{
    struct retyping c = {
        .type = type, .path = from_path, .stop = stop, .err = err, .out = { .fd = -1 }
    };
    bool torch = false;
    *ret = NULL;
    int r = try_torch(&c, from, to, to_path, &torch, ret);
    if (r && !torch)
        close(to);
    else if (!torch)
        r = copy_st(&c, from, to, to_path, ret);
    st_out_release(&c.out);
    dr_free(c.origins);
    dr_free(c.items);
    if (r) {
        json_decref(*ret);
        *ret = NULL;
    }
    return r;
}

/* ---- tensors of the caller's ---- */

uint64_t tensor_write_size(const struct tensor_origin *origins, size_t n, enum dtype type)
{
    const struct retyping c = { .type = type };
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++)
        for (const struct tensor_origin *o = &origins[i]; o; o = o->below) {
            int64_t count = 0, bytes = 0;
            if (shape_count(&o->shape, &count) &&
                dtype_bytes(target_of(&c, &origins[i]), count, &bytes))
                sum += (uint64_t)bytes;
        }
    return sum;
}

int tensor_write(const struct tensor_write *w, int to, const char *to_path, json_t **ret,
                 struct dr_error *err)
{
    struct retyping c = { .type = w->type,
                          .path = w->source,
                          .stop = w->stop,
                          .err = err,
                          .origins = w->origins,
                          .n = w->n,
                          .metadata = w->metadata,
                          .n_metadata = w->n_metadata,
                          .out = { .fd = -1 } };
    *ret = NULL;
    int r = write_file(&c, to, to_path, ret);
    st_out_release(&c.out);
    dr_free(c.items);
    return r;
}
