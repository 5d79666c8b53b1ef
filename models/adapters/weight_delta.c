/* weight_delta.c - see weight_delta.h. */
#include "models/adapters/weight_delta.h"

#include <stdio.h>
#include <string.h>

#include "backend/ops/op.h"
#include "models/params.h"

enum { SLAB_FLOATS = 1 << 20, ALIGN = 64 };

static struct shape without_ones(const struct shape *s)
{
    struct shape t = *s;
    while (t.n > 1 && t.d[t.n - 1] == 1)
        t.n--;
    return t;
}

int delta_check_tensor(const struct weight_delta *d, int i, const struct shape *expected,
                       struct dr_error *err)
{
    const struct weight_source *s = &d->tensor[i];
    const char *name = s->name ? s->name : d->param;
    struct shape got = without_ones(&s->shape), wanted = without_ones(expected);
    char got_text[96], wanted_text[96];
    if (!shape_equal(&got, &wanted))
        return dr_fail_field(err, DR_EINVAL, name, shape_text(&s->shape, got_text, sizeof got_text),
                             shape_text(expected, wanted_text, sizeof wanted_text), NULL);
    if ((unsigned)s->dtype >= DTYPE_COUNT || !dtype_is_real(s->dtype))
        return dr_fail_field(err, DR_EINVAL, name,
                             (unsigned)s->dtype < DTYPE_COUNT ? dtype_name(s->dtype) : "?",
                             "a floating-point tensor", NULL);
    return 0;
}

int64_t delta_slab_rows(const struct delta_target *t)
{
    int64_t n = SLAB_FLOATS / t->cols;
    n = n < 1 ? 1 : n;
    return n < t->rows ? n : t->rows;
}

int delta_stopped(const struct delta_target *t, struct dr_error *err)
{
    return t->stop && atomic_load(t->stop)
               ? dr_fail(err, DR_ECANCELED, "stopped while adapters were applied")
               : 0;
}

void delta_read_rows(const struct weight_source *s, int64_t first, int64_t n, int64_t cols,
                     float *ret)
{
    if (!s->scales) {
        dtype_read(ret, s->data, s->dtype, first * cols, n * cols);
        return;
    }
    for (int64_t i = 0; i < n; i++)
        weight_row(s, first + i, 0, cols, ret + i * cols);
}

/* ---- products ---- */

static struct act rows_act(int64_t n, int64_t c)
{
    return (struct act){ .dtype = DTYPE_F32, .n = 1, .h = 1, .w = n, .c = c, .ld = c };
}

static size_t aligned(int64_t floats)
{
    return ((size_t)floats * sizeof(float) + ALIGN - 1) / ALIGN * ALIGN;
}

static int transpose(struct delta_product *p, const struct weight_source *right,
                     struct dr_error *err)
{
    float *row = dr_malloc(DR_TAG_WEIGHTS, (size_t)p->cols * sizeof *row);
    p->transposed = dr_malloc(DR_TAG_WEIGHTS, (size_t)(p->cols * p->rank) * sizeof *p->transposed);
    int r = row && p->transposed ? 0 : DR_ENOMEM;
    for (int64_t i = 0; !r && i < p->rank; i++) {
        delta_read_rows(right, i, 1, p->cols, row);
        for (int64_t c = 0; c < p->cols; c++)
            p->transposed[c * p->rank + i] = row[c];
    }
    dr_free(row);
    return r ? dr_fail(err, r, "out of memory for a matrix of %s",
                       right->name ? right->name : "a delta")
             : 0;
}

int delta_product_open(struct delta_product *p, const struct delta_target *t,
                       const struct weight_source *right, int64_t rank, struct dr_error *err)
{
    *p = (struct delta_product){ .rank = rank, .cols = t->cols };
    p->x = (struct exec){ .be = t->be, .stop = t->stop };
    struct layer l = layer_wide(layer_linear(rank, t->cols, false));
    int64_t most = delta_slab_rows(t);
    int r = transpose(p, right, err);
    if (r)
        return r;
    const struct weight_source source = { .name = right->name,
                                          .data = p->transposed,
                                          .dtype = DTYPE_F32,
                                          .shape = SHAPE2(t->cols, rank) };
    r = weight_prepare(t->be, &l.desc, &source, 1, &p->right, err);
    if (r)
        return r;
    const struct op op = { .kind = OP_LINEAR,
                           .dst = rows_act(most, t->cols),
                           .src = rows_act(most, rank),
                           .weight = p->right };
    size_t bytes = aligned(most * t->cols) + aligned(most * rank);
    return workspace_new(t->be, bytes + backend_need(t->be, &op).scratch + ALIGN, &p->x.ws, err);
}

int delta_product_rows(struct delta_product *p, const float *left, int64_t n, float *ret,
                       struct dr_error *err)
{
    struct op op = { .kind = OP_LINEAR, .weight = p->right };
    int r;
    workspace_reset(p->x.ws);
    if ((r = act_new(&p->x, DTYPE_F32, 1, 1, n, p->rank, &op.src, err)) ||
        (r = act_new(&p->x, DTYPE_F32, 1, 1, n, p->cols, &op.dst, err)) ||
        (r = act_write(&p->x, op.src, left, err)) || (r = op_run(&p->x, &op, err)))
        return r;
    return act_read(&p->x, op.dst, ret, err);
}

void delta_product_close(struct delta_product *p)
{
    weight_free(p->right);
    workspace_free(p->x.ws);
    dr_free(p->transposed);
    memset(p, 0, sizeof *p);
}
