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
    struct delta_pair first, second;
    float *one, *other;
    double factor;
};

static int add_rows(void *ctx, int64_t first, int64_t n, struct dr_error *err)
{
    struct loha_run *a = ctx;
    float *value = a->t->value + first * a->t->cols;
    int r = delta_pair_rows(&a->first, first, n, a->one, err);
    if (!r)
        r = delta_pair_rows(&a->second, first, n, a->other, err);
    for (int64_t i = 0; !r && i < n * a->t->cols; i++)
        value[i] = (float)(value[i] + a->factor * ((double)a->one[i] * a->other[i]));
    return r;
}

static int apply(const struct weight_delta *d, const struct delta_target *t, struct dr_error *err)
{
    struct loha_run a = { .t = t };
    size_t floats = (size_t)(delta_slab_rows(t) * t->cols);
    a.one = dr_malloc(DR_TAG_WEIGHTS, floats * sizeof *a.one);
    a.other = dr_malloc(DR_TAG_WEIGHTS, floats * sizeof *a.other);
    int r = a.one && a.other ? 0
                             : dr_fail(err, DR_ENOMEM, "out of memory for rows of %s", d->param);
    if (!r)
        r = delta_pair_open(&a.first, d, t, LOHA_1A, LOHA_1B, LOHA_1T, true, err);
    if (!r)
        r = delta_pair_open(&a.second, d, t, LOHA_2A, LOHA_2B, LOHA_2T, true, err);
    a.factor = delta_factor(d, a.first.rank);
    if (!r)
        r = delta_slabs(t, add_rows, &a, err);
    delta_pair_close(&a.second);
    delta_pair_close(&a.first);
    dr_free(a.one);
    dr_free(a.other);
    return r;
}

const struct delta_kind delta_kind_loha = {
    .name = "loha",
    .adds = true,
    .needs = { { 1 << LOHA_1A | 1 << LOHA_1B | 1 << LOHA_2A | 1 << LOHA_2B, 0 } },
    .check = check,
    .apply = apply,
};
