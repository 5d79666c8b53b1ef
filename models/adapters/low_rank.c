/* low_rank.c - value += strength alpha/rank up down, or up mid down.
 *
 * Of a linear layer, a convolution (whose filters are rows of the matrix) or a table of embeddings.
 * With a middle tensor, the core of a Tucker decomposition, filter (o, i) is
 * sum over a, b of up[o, a] mid[a, b] down[b, i].
 * Reference: Hu et al. 2021 (LoRA); Yeh et al. 2023, Navigating Text-To-Image Customization
 * (LoCon, section 3.1 for the Tucker form); diffusers' fuse_lora.
 */
#include "models/adapters/weight_delta.h"

static int check(const struct weight_delta *d, const struct shape *shape, struct dr_error *err)
{
    int64_t rank;
    return delta_check_pair(d, LOW_RANK_UP, LOW_RANK_DOWN, LOW_RANK_MID, false, shape, &rank, err);
}

struct low_rank_run {
    const struct delta_target *t;
    struct delta_pair pair;
    float *product;
    double factor;
};

static int add_rows(void *ctx, int64_t first, int64_t n, struct dr_error *err)
{
    struct low_rank_run *a = ctx;
    float *value = a->t->value + first * a->t->cols;
    int r = delta_pair_rows(&a->pair, first, n, a->product, err);
    for (int64_t i = 0; !r && i < n * a->t->cols; i++)
        value[i] = (float)(value[i] + a->factor * a->product[i]);
    return r;
}

static int apply(const struct weight_delta *d, const struct delta_target *t, struct dr_error *err)
{
    struct low_rank_run a = { .t = t };
    a.product = dr_malloc(DR_TAG_WEIGHTS,
                          (size_t)(delta_slab_rows(t) * t->cols) * sizeof *a.product);
    int r = a.product ? 0 : dr_fail(err, DR_ENOMEM, "out of memory for rows of %s", d->param);
    if (!r)
        r = delta_pair_open(&a.pair, d, t, LOW_RANK_UP, LOW_RANK_DOWN, LOW_RANK_MID, false, err);
    a.factor = delta_factor(d, a.pair.rank);
    if (!r)
        r = delta_slabs(t, add_rows, &a, err);
    delta_pair_close(&a.pair);
    dr_free(a.product);
    return r;
}

const struct delta_kind delta_kind_low_rank = {
    .name = "low_rank",
    .adds = true,
    .needs = { { 1 << LOW_RANK_UP | 1 << LOW_RANK_DOWN, 0 } },
    .check = check,
    .apply = apply,
};
