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
    const float *product; /* of the slab from row `first` on */
    int64_t first;
    double factor;
};

enum { RUN = 16 }; /* of a fixed length, so that compilers take several sums at once */

static void add_run(float *restrict value, const float *restrict product, double factor)
{
    for (int i = 0; i < RUN; i++)
        value[i] = (float)(value[i] + factor * product[i]);
}

static void add_part(void *ctx, int64_t first, int64_t n)
{
    const struct low_rank_run *a = ctx;
    int64_t cols = a->t->cols, count = n * cols, i = 0;
    const float *product = a->product + first * cols;
    float *value = a->t->value + (a->first + first) * cols;
    double factor = a->factor;
    for (; i + RUN <= count; i += RUN)
        add_run(value + i, product + i, factor);
    for (; i < count; i++)
        value[i] = (float)(value[i] + factor * product[i]);
}

static int add_slab(void *ctx, int64_t first, int64_t n, struct dr_error *err)
{
    struct low_rank_run *a = ctx;
    int r = delta_pair_rows(&a->pair, first, n, &a->product, err);
    a->first = first;
    return r ? r : delta_parts(a->t, n, a->t->cols, add_part, a, err);
}

static int apply(const struct weight_delta *d, const struct delta_target *t, struct dr_error *err)
{
    struct low_rank_run a = { .t = t };
    int r = delta_pair_open(&a.pair, d, t, LOW_RANK_UP, LOW_RANK_DOWN, LOW_RANK_MID, false, err);
    a.factor = delta_factor(d, a.pair.rank);
    if (!r)
        r = delta_slabs(t, add_slab, &a, err);
    delta_pair_close(&a.pair);
    return r;
}

const struct delta_kind delta_kind_low_rank = {
    .name = "low_rank",
    .adds = true,
    .needs = { { 1 << LOW_RANK_UP | 1 << LOW_RANK_DOWN, 0 } },
    .check = check,
    .apply = apply,
};
