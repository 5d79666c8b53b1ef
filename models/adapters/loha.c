/* loha.c - value += strength alpha/rank (a1 b1) * (a2 b2), a product by elements of two products of
 * low rank.
 *
 * Each of them may have a middle tensor, as in low_rank; its `a` then lies turned.
 * Reference: Hyeon-Woo et al. 2022, FedPara, proposition 1; Yeh et al. 2023, section 3.1 (LoHa).
 */
#include "models/adapters/weight_delta.h"

static int check(const struct weight_delta *d, const struct shape *shape, struct dr_error *err)
{
    int64_t rank;
    int r = delta_check_pair(d, LOHA_1A, LOHA_1B, LOHA_1T, true, shape, &rank, err);
    return r ? r : delta_check_pair(d, LOHA_2A, LOHA_2B, LOHA_2T, true, shape, &rank, err);
}

struct loha_run {
    const struct delta_target *t;
    struct delta_pair one, other;
    const float *left, *right; /* of the slab from row `first` on */
    int64_t first;
    double factor;
};

static void add_part(void *ctx, int64_t first, int64_t n)
{
    const struct loha_run *a = ctx;
    int64_t cols = a->t->cols;
    const float *left = a->left + first * cols, *right = a->right + first * cols;
    float *value = a->t->value + (a->first + first) * cols;
    for (int64_t i = 0; i < n * cols; i++)
        value[i] = (float)(value[i] + a->factor * ((double)left[i] * right[i]));
}

static int add_slab(void *ctx, int64_t first, int64_t n, struct dr_error *err)
{
    struct loha_run *a = ctx;
    int r = delta_pair_rows(&a->one, first, n, &a->left, err);
    if (!r)
        r = delta_pair_rows(&a->other, first, n, &a->right, err);
    a->first = first;
    return r ? r : delta_parts(a->t, n, a->t->cols, add_part, a, err);
}

static int apply(const struct weight_delta *d, const struct delta_target *t, struct dr_error *err)
{
    struct loha_run a = { .t = t };
    int r = delta_pair_open(&a.one, d, t, LOHA_1A, LOHA_1B, LOHA_1T, true, err);
    if (!r)
        r = delta_pair_open(&a.other, d, t, LOHA_2A, LOHA_2B, LOHA_2T, true, err);
    a.factor = delta_factor(d, a.one.rank);
    if (!r)
        r = delta_slabs(t, add_slab, &a, err);
    delta_pair_close(&a.other);
    delta_pair_close(&a.one);
    return r;
}

const struct delta_kind delta_kind_loha = {
    .name = "loha",
    .adds = true,
    .needs = { { 1 << LOHA_1A | 1 << LOHA_1B | 1 << LOHA_2A | 1 << LOHA_2B, 0 } },
    .check = check,
    .apply = apply,
};
