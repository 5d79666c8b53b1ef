/* changed_model.c - see changed_model.h. */
#include "testing/helpers/changed_model.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "backend/ops/int8.h"
#include "testing/helpers/safetensors_writer.h"

/* ---- parameters ---- */

struct finding {
    const char *name;
    struct weight_source src;
    struct shape shape;
    bool found;
};

static int find_one(void *ctx, struct param *p, const char *name, const struct shape *shape)
{
    struct finding *f = ctx;
    if (strcmp(name, f->name))
        return 0;
    f->src = p->src;
    f->shape = *shape;
    f->found = true;
    return 0;
}

struct weight_source find_param(void *network, visit_fn visit, const char *name,
                                struct shape *ret_shape)
{
    struct finding f = { .name = name };
    struct visitor v = { .param = find_one, .ctx = &f };
    assert_int_equal(visit(network, &v), 0);
    if (!f.found)
        fail_msg("no parameter %s", name);
    if (ret_shape)
        *ret_shape = f.shape;
    return f.src;
}

float *param_values(const struct weight_source *s, int64_t *ret_count)
{
    int64_t rows = s->shape.n ? s->shape.d[0] : 1;
    assert_true(shape_count(&s->shape, ret_count));
    float *values = dr_malloc(DR_TAG_TEST, (size_t)*ret_count * sizeof *values);
    assert_non_null(values);
    int64_t cols = *ret_count / rows;
    for (int64_t i = 0; i < rows; i++)
        weight_row(s, i, 0, cols, values + i * cols);
    return values;
}

/* ---- changes ---- */

static struct weight_source tensor_of(struct shape shape, unsigned seed, const char *name)
{
    int64_t count = 0;
    assert_true(shape_count(&shape, &count));
    float *values = dr_malloc(DR_TAG_TEST, (size_t)count * sizeof *values);
    assert_non_null(values);
    for (int64_t i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        values[i] = (float)((int)(seed >> 16) % 17 - 8) / 64;
    }
    return (
        struct weight_source){ .name = name, .data = values, .dtype = DTYPE_F32, .shape = shape };
}

static struct weight_delta *add_change(struct changes *c, const struct delta_kind *kind,
                                       const char *param)
{
    assert_true(c->n < CHANGES);
    struct weight_delta *d = &c->delta[c->n];
    *d = (struct weight_delta){ .kind = kind, .param = param, .strength = 0.5 };
    d->identity[0] = (uint8_t)(c->n + 1);
    c->list[c->n++] = d;
    return d;
}

struct weight_delta *changes_low_rank(struct changes *c, void *network, visit_fn visit,
                                      const char *param, int64_t rank)
{
    struct shape down;
    find_param(network, visit, param, &down);
    struct weight_delta *d = add_change(c, &delta_kind_low_rank, param);
    int64_t rows = down.d[0];
    down.d[0] = rank;
    d->tensor[LOW_RANK_UP] = tensor_of(SHAPE2(rows, rank), (unsigned)c->n * 77, "an up matrix");
    d->tensor[LOW_RANK_DOWN] = tensor_of(down, (unsigned)c->n * 99, "a down matrix");
    return d;
}

struct weight_delta *changes_difference(struct changes *c, void *network, visit_fn visit,
                                        const char *param)
{
    struct shape shape;
    find_param(network, visit, param, &shape);
    struct weight_delta *d = add_change(c, &delta_kind_difference, param);
    d->tensor[DIFFERENCE] = tensor_of(shape, (unsigned)c->n * 55, "a difference");
    return d;
}

void changes_free(struct changes *c)
{
    for (size_t i = 0; i < c->n; i++)
        for (int k = 0; k < DELTA_TENSORS; k++)
            dr_free((void *)c->delta[i].tensor[k].data);
    c->n = 0;
}

/* What a change adds to element `i` of a parameter with `cols` columns, in double. */
static double added(const struct weight_delta *d, int64_t i, int64_t cols)
{
    const float *first = d->tensor[0].data, *second = d->tensor[1].data;
    if (d->kind == &delta_kind_difference)
        return d->strength * first[i];
    assert_ptr_equal(d->kind, &delta_kind_low_rank);
    int64_t rank = d->tensor[LOW_RANK_UP].shape.d[1], row = i / cols;
    double sum = 0;
    for (int64_t k = 0; k < rank; k++)
        sum += (double)first[row * rank + k] * second[k * cols + i % cols];
    return d->strength * (d->alpha != 0 ? d->alpha / (double)rank : 1) * sum;
}

/* ---- files ---- */

struct rewriting {
    struct st_writer *w;
    const struct changes *changes;
    enum dtype type;
};

static bool apply_changes(const struct changes *c, const char *name, float *values, int64_t count,
                          int64_t rows)
{
    bool any = false;
    for (size_t k = 0; c && k < c->n; k++) {
        const struct weight_delta *d = c->list[k];
        if (strcmp(d->param, name))
            continue;
        any = true;
        for (int64_t i = 0; i < count; i++)
            values[i] = (float)(values[i] + added(d, i, count / rows));
    }
    return any;
}

static void write_int8(struct st_writer *w, const char *name, const struct shape *shape,
                       const int8_t *numbers, const float *scales)
{
    char scale[PARAM_NAME + 8];
    snprintf(scale, sizeof scale, "%s_scale", name);
    st_writer_add(w, name, "I8", shape->n, shape->d, numbers);
    st_writer_add(w, scale, "F32", 1, shape->d, scales);
}

static void convert_int8(struct st_writer *w, const char *name, const struct shape *shape,
                         const float *values, int64_t count)
{
    int64_t rows = shape->d[0], cols = count / rows;
    int8_t *numbers = dr_malloc(DR_TAG_TEST, (size_t)count);
    float *scales = dr_malloc(DR_TAG_TEST, (size_t)rows * sizeof *scales);
    assert_true(numbers && scales);
    for (int64_t i = 0; i < rows; i++)
        int8_weight_row(values + i * cols, cols, numbers + i * cols, &scales[i]);
    write_int8(w, name, shape, numbers, scales);
    dr_free(numbers);
    dr_free(scales);
}

static bool may_be_int8(const char *name)
{
    static const char *const never[] = { "conv_in.", "conv_out.", "time_", "add_embedding" };
    for (size_t i = 0; i < sizeof never / sizeof *never; i++)
        if (strstr(name, never[i]))
            return false;
    return true;
}

static void write_as(struct rewriting *r, const char *name, const struct shape *shape,
                     const struct weight_source *src, const float *values, int64_t count)
{
    bool keep = r->type == DTYPE_COUNT || shape->n < 2 ||
                (r->type == DTYPE_I8 && !may_be_int8(name));
    if (keep && src->dtype == DTYPE_I8) {
        write_int8(r->w, name, shape, src->data, src->scales);
    } else if (keep) {
        st_writer_add(r->w, name, dtype_name(src->dtype), shape->n, shape->d, src->data);
    } else if (r->type == DTYPE_I8) {
        convert_int8(r->w, name, shape, values, count);
    } else {
        void *converted = dr_malloc(DR_TAG_TEST, (size_t)count * dtype_size(r->type));
        assert_non_null(converted);
        dtype_from_f32(converted, r->type, values, count);
        st_writer_add(r->w, name, dtype_name(r->type), shape->n, shape->d, converted);
        dr_free(converted);
    }
}

static int rewrite_param(void *ctx, struct param *p, const char *name, const struct shape *shape)
{
    struct rewriting *r = ctx;
    int64_t count;
    float *values = param_values(&p->src, &count);
    if (apply_changes(r->changes, name, values, count, shape->d[0]))
        st_writer_add(r->w, name, "F32", shape->n, shape->d, values);
    else
        write_as(r, name, shape, &p->src, values, count);
    dr_free(values);
    return 0;
}

static void rewrite(void *network, visit_fn visit, enum dtype type, const struct changes *changes,
                    const char *path)
{
    struct rewriting r = { .w = st_writer_new(), .changes = changes, .type = type };
    struct visitor v = { .param = rewrite_param, .ctx = &r };
    assert_int_equal(visit(network, &v), 0);
    st_writer_save(r.w, path);
    st_writer_free(r.w);
}

static void link_to(const char *folder, const char *relative)
{
    char target[600], path[600];
    snprintf(path, sizeof path, "%s/%s", folder, relative);
    snprintf(target, sizeof target, "testing/golden/odd/model/%s", relative);
    assert_int_equal(symlink(test_source(target), path), 0);
}

const char *changed_model(const struct odd *m, enum dtype type, const struct changes *unet,
                          const struct changes *clip)
{
    static const char *const same[] = { "model_index.json", "scheduler",
                                        "text_encoder",     "vae",
                                        "tokenizer",        "tokenizer_2",
                                        "unet/config.json", "text_encoder_2/config.json" };
    static char folders[4][500];
    static unsigned number;
    char *folder = folders[number % 4], path[600];
    snprintf(folder, sizeof folders[0], "%s/changed%u", test_dir(), number++);
    snprintf(path, sizeof path, "%s/unet", folder);
    test_make_dirs(path);
    snprintf(path, sizeof path, "%s/text_encoder_2", folder);
    test_make_dirs(path);
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        link_to(folder, same[i]);
    snprintf(path, sizeof path, "%s/unet/diffusion_pytorch_model.safetensors", folder);
    rewrite(m->unet, unet_visit, type, unet, path);
    snprintf(path, sizeof path, "%s/text_encoder_2/model.safetensors", folder);
    rewrite(m->clip[1], clip_text_visit, DTYPE_COUNT, clip, path);
    return folder;
}
