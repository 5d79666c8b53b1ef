/* weight_delta.c - see weight_delta.h. */
#include "models/adapters/weight_delta.h"

#include <stdio.h>
#include <string.h>

#include "backend/ops/op.h"
#include "models/params.h"

enum { SLAB_FLOATS = 1 << 20, PART_FLOATS = 1 << 15, ALIGN = 64 };

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

bool delta_has(const struct weight_delta *d, int i)
{
    return d->tensor[i].shape.n > 0 || d->tensor[i].data;
}

int64_t delta_dim(const struct weight_source *s, int i)
{
    return i < s->shape.n ? s->shape.d[i] : 1;
}

double delta_factor(const struct weight_delta *d, int64_t rank)
{
    return d->strength * (d->alpha != 0 ? d->alpha / (double)rank : 1);
}

int delta_check_matrix(const struct weight_delta *d, const struct shape *param,
                       struct dr_error *err)
{
    char text[96];
    return param->n < 2
               ? dr_fail_field(err, DR_EINVAL, d->param, shape_text(param, text, sizeof text),
                               "a matrix or filters, for this change", NULL)
               : 0;
}

static int64_t columns(const struct shape *param)
{
    int64_t n = 1;
    for (int i = 1; i < param->n; i++)
        n *= param->d[i];
    return n;
}

int delta_check_rows(const struct weight_delta *d, int i, const struct shape *expected,
                     struct dr_error *err)
{
    const struct shape flat = SHAPE2(expected->d[0], columns(expected));
    bool lies_flat = d->tensor[i].shape.n == 2 && expected->n > 2 && columns(expected) > 1;
    return delta_check_tensor(d, i, lies_flat ? &flat : expected, err);
}

int delta_check_rank(const struct weight_delta *d, int i, int64_t rank, const struct shape *param,
                     struct dr_error *err)
{
    const char *name = d->tensor[i].name ? d->tensor[i].name : d->param;
    char got[48], expected[64];
    int64_t most = param->d[0] + columns(param);
    if (rank >= 1 && rank <= most)
        return 0;
    snprintf(got, sizeof got, "rank %lld", (long long)rank);
    snprintf(expected, sizeof expected, "1 to %lld", (long long)most);
    return dr_fail_field(err, DR_EINVAL, name, got, expected, NULL);
}

int delta_check_pair(const struct weight_delta *d, int up, int down, int mid, bool turned,
                     const struct shape *param, int64_t *ret_rank, struct dr_error *err)
{
    bool tucker = delta_has(d, mid);
    int64_t rank = delta_dim(&d->tensor[up], tucker && turned ? 0 : 1);
    struct shape side = *param, middle = *param;
    int r = delta_check_matrix(d, param, err);
    if (!r)
        r = delta_check_rank(d, up, rank, param, err);
    if (r)
        return r;
    *ret_rank = rank;
    struct shape wanted = tucker && turned ? SHAPE2(rank, param->d[0]) : SHAPE2(param->d[0], rank);
    r = delta_check_tensor(d, up, &wanted, err);
    side.d[0] = rank;
    if (tucker)
        side.n = 2;
    if (!r)
        r = delta_check_rows(d, down, &side, err);
    middle.d[0] = middle.d[1] = rank;
    return r || !tucker ? r : delta_check_tensor(d, mid, &middle, err);
}

int64_t delta_slab_rows(const struct delta_target *t)
{
    int64_t n = SLAB_FLOATS / t->cols;
    n = n < 1 ? 1 : n;
    return n < t->rows ? n : t->rows;
}

static int stopped(const struct delta_target *t, struct dr_error *err)
{
    return t->stop && atomic_load(t->stop)
               ? dr_fail(err, DR_ECANCELED, "stopped while adapters were applied")
               : 0;
}

struct parts {
    delta_part_fn part;
    void *ctx;
    int64_t n, size; /* items, and of a part */
};

static void run_part(void *ctx, int64_t i)
{
    const struct parts *p = ctx;
    int64_t first = i * p->size, left = p->n - first;
    p->part(p->ctx, first, left < p->size ? left : p->size);
}

int delta_parts(const struct delta_target *t, int64_t n, int64_t cost, delta_part_fn part,
                void *ctx, struct dr_error *err)
{
    struct parts p = { part, ctx, n, cost < PART_FLOATS ? PART_FLOATS / cost : 1 };
    return backend_each(t->be, run_part, &p, (n + p.size - 1) / p.size, t->stop, err);
}

void delta_read_some(const struct weight_source *s, int64_t row, int64_t from, int64_t n,
                     int64_t cols, float *ret)
{
    if (s->scales)
        weight_row(s, row, from, n, ret);
    else
        dtype_read(ret, s->data, s->dtype, row * cols + from, n);
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

/* A workspace of at least so many bytes that no other product of the target uses. */
static int take_space(struct delta_product *p, const struct delta_target *t, size_t bytes,
                      struct dr_error *err)
{
    struct delta_space *s = t->room->space;
    if (s->taken)
        s++;
    if (s->bytes < bytes) {
        workspace_free(s->ws);
        *s = (struct delta_space){ .ws = NULL };
        int r = workspace_new(t->be, bytes, &s->ws, err);
        if (r)
            return r;
        s->bytes = bytes;
    }
    s->taken = true;
    workspace_reset(s->ws);
    p->space = s;
    p->x.ws = s->ws;
    return 0;
}

void delta_room_release(struct delta_room *room)
{
    for (size_t i = 0; i < sizeof room->space / sizeof *room->space; i++)
        workspace_free(room->space[i].ws);
    *room = (struct delta_room){ .space = { { .ws = NULL } } };
}

static int take_acts(struct delta_product *p, struct dr_error *err)
{
    int r = act_new(&p->x, DTYPE_F32, 1, 1, p->most, p->rank, &p->src, err);
    if (!r)
        r = act_new(&p->x, DTYPE_F32, 1, 1, p->most, p->cols, &p->dst, err);
    if (r || act_address(&p->x, p->dst))
        return r;
    p->copy = dr_malloc(DR_TAG_WEIGHTS, (size_t)(p->most * p->cols) * sizeof *p->copy);
    return p->copy ? 0 : dr_fail(err, DR_ENOMEM, "out of memory for rows of a product");
}

int delta_product_open(struct delta_product *p, const struct delta_target *t,
                       const struct weight_source *right, int64_t rank, struct dr_error *err)
{
    *p = (struct delta_product){ .rank = rank, .cols = t->cols, .most = delta_slab_rows(t) };
    p->x = (struct exec){ .be = t->be, .stop = t->stop };
    struct layer l = layer_keep_f32(layer_linear(rank, t->cols, false));
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
                           .dst = rows_act(p->most, t->cols),
                           .src = rows_act(p->most, rank),
                           .weight = p->right };
    size_t bytes = aligned(p->most * t->cols) + aligned(p->most * rank);
    r = take_space(p, t, bytes + backend_need(t->be, &op).scratch + ALIGN, err);
    return r ? r : take_acts(p, err);
}

int delta_product_rows(struct delta_product *p, const float *left, int64_t n, const float **ret,
                       struct dr_error *err)
{
    struct op op = { .kind = OP_LINEAR, .weight = p->right, .src = p->src, .dst = p->dst };
    op.src.w = op.dst.w = n;
    int r = act_write(&p->x, op.src, left, err);
    if (!r)
        r = op_run(&p->x, &op, err);
    *ret = p->copy ? p->copy : act_address(&p->x, op.dst);
    return r || !p->copy ? r : act_read(&p->x, op.dst, p->copy, err);
}

void delta_product_close(struct delta_product *p)
{
    weight_free(p->right);
    if (p->space)
        p->space->taken = false;
    dr_free(p->transposed);
    dr_free(p->copy);
    memset(p, 0, sizeof *p);
}

/* ---- matrices ---- */

float *delta_read(const struct weight_delta *d, int i, int64_t rows, int64_t cols,
                  struct dr_error *err)
{
    float *m = dr_malloc(DR_TAG_WEIGHTS, (size_t)(rows * cols) * sizeof *m);
    if (!m)
        dr_fail(err, DR_ENOMEM, "out of memory for a matrix of %s", d->param);
    else
        delta_read_rows(&d->tensor[i], 0, rows, cols, m);
    return m;
}

struct fold {
    const float *mid, *down;
    float *ret;
    int64_t rank, in, kernel;
};

static void fold_rows(void *ctx, int64_t first, int64_t n)
{
    const struct fold *f = ctx;
    for (int64_t a = first; a < first + n; a++)
        for (int64_t i = 0; i < f->in; i++)
            for (int64_t k = 0; k < f->kernel; k++) {
                double sum = 0;
                for (int64_t b = 0; b < f->rank; b++)
                    sum += (double)f->mid[(a * f->rank + b) * f->kernel + k] *
                           f->down[b * f->in + i];
                f->ret[(a * f->in + i) * f->kernel + k] = (float)sum;
            }
}

int delta_fold(const struct delta_target *t, const float *mid, const float *down, int64_t rank,
               int64_t in, int64_t kernel, float *ret, struct dr_error *err)
{
    struct fold f = { .mid = mid, .down = down, .rank = rank, .in = in, .kernel = kernel };
    f.ret = ret;
    return delta_parts(t, rank, rank * in * kernel, fold_rows, &f, err);
}

/* down with its middle tensor, in p->right. */
static int open_middle(struct delta_pair *p, const struct weight_delta *d,
                       const struct delta_target *t, int down, int mid, struct dr_error *err)
{
    int64_t in = delta_dim(&d->tensor[down], 1), kernel = t->cols / in;
    float *middle = delta_read(d, mid, p->rank * p->rank, kernel, err);
    float *side = middle ? delta_read(d, down, p->rank, in, err) : NULL;
    int r = side ? 0 : DR_ENOMEM;
    if (!r) {
        p->right = dr_malloc(DR_TAG_WEIGHTS, (size_t)(p->rank * t->cols) * sizeof *p->right);
        r = p->right ? delta_fold(t, middle, side, p->rank, in, kernel, p->right, err)
                     : dr_fail(err, DR_ENOMEM, "out of memory for a matrix of %s", d->param);
    }
    dr_free(middle);
    dr_free(side);
    return r;
}

static void turn(float *dst, const float *src, int64_t rows, int64_t cols)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++)
            dst[j * rows + i] = src[i * cols + j];
}

/* up in p->left, as [rows, rank]. */
static int open_left(struct delta_pair *p, const struct weight_delta *d,
                     const struct delta_target *t, int up, bool turned, struct dr_error *err)
{
    p->left = delta_read(d, up, t->rows, p->rank, err);
    if (!p->left)
        return DR_ENOMEM;
    if (!turned)
        return 0;
    float *lying = p->left;
    p->left = dr_malloc(DR_TAG_WEIGHTS, (size_t)(t->rows * p->rank) * sizeof *p->left);
    if (p->left)
        turn(p->left, lying, p->rank, t->rows);
    dr_free(lying);
    return p->left ? 0 : dr_fail(err, DR_ENOMEM, "out of memory for a matrix of %s", d->param);
}

int delta_pair_open(struct delta_pair *p, const struct weight_delta *d,
                    const struct delta_target *t, int up, int down, int mid, bool turned,
                    struct dr_error *err)
{
    bool tucker = delta_has(d, mid);
    *p = (struct delta_pair){ .rank = delta_dim(&d->tensor[down], 0) };
    int r = open_left(p, d, t, up, tucker && turned, err);
    if (!r && tucker)
        r = open_middle(p, d, t, down, mid, err);
    if (r)
        return r;
    const struct weight_source made = { .name = d->tensor[down].name,
                                        .data = p->right,
                                        .dtype = DTYPE_F32,
                                        .shape = SHAPE2(p->rank, t->cols) };
    return delta_product_open(&p->product, t, tucker ? &made : &d->tensor[down], p->rank, err);
}

int delta_pair_rows(struct delta_pair *p, int64_t first, int64_t n, const float **ret,
                    struct dr_error *err)
{
    return delta_product_rows(&p->product, p->left + first * p->rank, n, ret, err);
}

void delta_pair_close(struct delta_pair *p)
{
    delta_product_close(&p->product);
    dr_free(p->left);
    dr_free(p->right);
    memset(p, 0, sizeof *p);
}

int delta_slabs(const struct delta_target *t, delta_rows_fn rows, void *ctx, struct dr_error *err)
{
    int64_t slab = delta_slab_rows(t);
    int r = 0;
    for (int64_t first = 0; !r && first < t->rows; first += slab) {
        r = stopped(t, err);
        if (!r)
            r = rows(ctx, first, t->rows - first < slab ? t->rows - first : slab, err);
    }
    return r;
}
