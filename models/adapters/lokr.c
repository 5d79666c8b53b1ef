/* lokr.c - value += strength alpha/rank w1 (x) w2, a Kronecker product of a small and a large half.
 *
 * Filter (o, i) of a convolution is w1[o / O, i / I] w2[o % O, i % I], with O and I the sizes of
 * w2. A half is whole or a product of factors, the second one with a middle tensor too; without
 * factors there is no rank and the factor is the strength alone.
 * Reference: Yeh et al. 2023, section 3.1 (LoKr); Edalati et al. 2022, KronA.
 */
#include "models/adapters/weight_delta.h"

#include <stdio.h>

/* Sizes of both halves: w1 [out1, in1], w2 [out2, width], its input channels with the kernel. */
struct halves {
    int64_t out1, in1, out2, width, rank1, rank2; /* rank 0: whole */
    bool tucker;
};

static struct halves sizes(const struct weight_delta *d, int64_t cols)
{
    const struct weight_source *t = d->tensor;
    struct halves h = { .tucker = delta_has(d, LOKR_2T) };
    bool whole1 = delta_has(d, LOKR_1), whole2 = delta_has(d, LOKR_2);
    h.out1 = delta_dim(&t[whole1 ? LOKR_1 : LOKR_1A], 0);
    h.in1 = delta_dim(&t[whole1 ? LOKR_1 : LOKR_1B], 1);
    h.rank1 = whole1 ? 0 : delta_dim(&t[LOKR_1B], 0);
    h.out2 = delta_dim(&t[whole2 ? LOKR_2 : LOKR_2A], !whole2 && h.tucker);
    h.width = h.in1 > 0 ? cols / h.in1 : 0;
    h.rank2 = whole2 ? 0 : delta_dim(&t[LOKR_2B], 0);
    return h;
}

static int check_first(const struct weight_delta *d, const struct halves *h, struct dr_error *err)
{
    struct shape whole = SHAPE2(h->out1, h->in1), a = SHAPE2(h->out1, h->rank1),
                 b = SHAPE2(h->rank1, h->in1);
    if (!h->rank1)
        return delta_check_tensor(d, LOKR_1, &whole, err);
    int r = delta_check_tensor(d, LOKR_1A, &a, err);
    return r ? r : delta_check_tensor(d, LOKR_1B, &b, err);
}

static int check_second(const struct weight_delta *d, const struct halves *h,
                        const struct shape *param, struct dr_error *err)
{
    struct shape whole = *param, a = SHAPE2(h->out2, h->rank2), b = *param, t = *param;
    whole.d[0] = h->out2;
    whole.d[1] = b.d[1] = param->d[1] / h->in1;
    if (!h->rank2)
        return delta_check_rows(d, LOKR_2, &whole, err);
    b.d[0] = t.d[0] = t.d[1] = h->rank2;
    if (h->tucker) {
        b.n = 2;
        a = SHAPE2(h->rank2, h->out2);
    }
    int r = delta_check_tensor(d, LOKR_2A, &a, err);
    if (!r)
        r = delta_check_rows(d, LOKR_2B, &b, err);
    return r || !h->tucker ? r : delta_check_tensor(d, LOKR_2T, &t, err);
}

/* The halves' first dimensions must divide the parameter's: the shapes are checked for the rest. */
static int check_product(const struct weight_delta *d, const struct halves *h,
                         const struct shape *param, struct dr_error *err)
{
    char got[64], expected[96];
    if (h->in1 > 0 && param->d[1] % h->in1 == 0 && h->out1 > 0 && h->out1 <= param->d[0] &&
        h->out2 <= param->d[0] && h->out1 * h->out2 == param->d[0])
        return 0;
    snprintf(got, sizeof got, "halves of [%lld, %lld] and [%lld, ...]", (long long)h->out1,
             (long long)h->in1, (long long)h->out2);
    return dr_fail_field(err, DR_EINVAL, d->param, got,
                         shape_text(param, expected, sizeof expected),
                         "the shape of their product");
}

static int check(const struct weight_delta *d, const struct shape *param, struct dr_error *err)
{
    int r = delta_check_matrix(d, param, err);
    if (r)
        return r;
    struct halves h = sizes(d, 0);
    if (delta_has(d, LOKR_1B))
        r = delta_check_rank(d, LOKR_1B, h.rank1, param, err);
    if (!r && delta_has(d, LOKR_2B))
        r = delta_check_rank(d, LOKR_2B, h.rank2, param, err);
    if (!r)
        r = check_product(d, &h, param, err);
    if (!r)
        r = check_first(d, &h, err);
    return r ? r : check_second(d, &h, param, err);
}

struct multiply {
    float *ret;
    const float *a, *b;
    bool turned;
    int64_t n, rank, m;
};

static void multiply_rows(void *ctx, int64_t first, int64_t n)
{
    const struct multiply *p = ctx;
    for (int64_t i = first; i < first + n; i++)
        for (int64_t j = 0; j < p->m; j++) {
            double sum = 0;
            for (int64_t k = 0; k < p->rank; k++)
                sum += (double)p->a[p->turned ? k * p->n + i : i * p->rank + k] *
                       p->b[k * p->m + j];
            p->ret[i * p->m + j] = (float)sum;
        }
}

/* ret [n, m] = a [n, rank] b [rank, m]; `turned`: a lies as [rank, n]. Sums in double. */
static int multiply(const struct delta_target *t, struct multiply p, struct dr_error *err)
{
    return delta_parts(t, p.n, p.m * p.rank, multiply_rows, &p, err);
}

static float *room(const struct weight_delta *d, int64_t floats, struct dr_error *err)
{
    float *m = dr_malloc(DR_TAG_WEIGHTS, (size_t)floats * sizeof *m);
    if (!m)
        dr_fail(err, DR_ENOMEM, "out of memory for a matrix of %s", d->param);
    return m;
}

/* The second factor of w2 as [rank, width]. */
static int second_side(const struct weight_delta *d, const struct halves *h,
                       const struct delta_target *t, float **ret, struct dr_error *err)
{
    if (!h->tucker)
        return (*ret = delta_read(d, LOKR_2B, h->rank2, h->width, err)) ? 0 : DR_ENOMEM;
    int64_t in = delta_dim(&d->tensor[LOKR_2B], 1), kernel = h->width / in;
    float *mid = delta_read(d, LOKR_2T, h->rank2 * h->rank2, kernel, err);
    float *down = mid ? delta_read(d, LOKR_2B, h->rank2, in, err) : NULL;
    *ret = down ? room(d, h->rank2 * h->width, err) : NULL;
    int r = *ret ? delta_fold(t, mid, down, h->rank2, in, kernel, *ret, err) : DR_ENOMEM;
    dr_free(mid);
    dr_free(down);
    return r;
}

/* A half as a matrix; dr_free *ret also after a failure. */
static int half(const struct weight_delta *d, const struct halves *h, bool second,
                const struct delta_target *t, float **ret, struct dr_error *err)
{
    int64_t n = second ? h->out2 : h->out1, m = second ? h->width : h->in1;
    int64_t rank = second ? h->rank2 : h->rank1;
    float *b = NULL;
    int r = 0;
    if (!rank)
        return (*ret = delta_read(d, second ? LOKR_2 : LOKR_1, n, m, err)) ? 0 : DR_ENOMEM;
    float *a = delta_read(d, second ? LOKR_2A : LOKR_1A, n, rank, err);
    if (a && second)
        r = second_side(d, h, t, &b, err);
    else if (a)
        b = delta_read(d, LOKR_1B, rank, m, err);
    *ret = !r && b ? room(d, n * m, err) : NULL;
    if (*ret)
        r = multiply(t, (struct multiply){ *ret, a, b, second && h->tucker, n, rank, m }, err);
    else if (!r)
        r = DR_ENOMEM;
    dr_free(a);
    dr_free(b);
    return r;
}

struct lokr_run {
    const struct delta_target *t;
    struct halves h;
    float *first, *second; /* the halves */
    double factor;
};

static void add_part(void *ctx, int64_t first, int64_t n)
{
    const struct lokr_run *a = ctx;
    const struct halves *h = &a->h;
    int64_t width = h->width;
    for (int64_t o = first; o < first + n; o++)
        for (int64_t i = 0; i < h->in1; i++) {
            double w1 = a->factor * a->first[o / h->out2 * h->in1 + i];
            const float *w2 = a->second + o % h->out2 * width;
            float *value = a->t->value + o * a->t->cols + i * width;
            for (int64_t k = 0; k < width; k++)
                value[k] = (float)(value[k] + w1 * w2[k]);
        }
}

static int apply(const struct weight_delta *d, const struct delta_target *t, struct dr_error *err)
{
    struct lokr_run a = { .t = t, .h = sizes(d, t->cols) };
    int64_t rank = a.h.rank2 ? a.h.rank2 : a.h.rank1;
    a.factor = rank ? delta_factor(d, rank) : d->strength;
    int r = half(d, &a.h, false, t, &a.first, err);
    if (!r)
        r = half(d, &a.h, true, t, &a.second, err);
    if (!r)
        r = delta_parts(t, t->rows, t->cols, add_part, &a, err);
    dr_free(a.first);
    dr_free(a.second);
    return r;
}

const struct delta_kind delta_kind_lokr = {
    .name = "lokr",
    .adds = true,
    .needs = { { 1 << LOKR_1, 1 << LOKR_1A | 1 << LOKR_1B },
               { 1 << LOKR_2, 1 << LOKR_2A | 1 << LOKR_2B } },
    .check = check,
    .apply = apply,
};
