/* low_rank.c - value += strength alpha/rank up down.
 *
 * Of a linear layer, a convolution (whose filters are rows of the matrix) or a table of embeddings.
 * Reference: Hu et al. 2021 (LoRA); diffusers' fuse_lora and the weights of kohya's LoCon without a
 * middle tensor.
 */
#include "models/adapters/weight_delta.h"

/* The shape of `down`: the parameter's with the rank for the first dimension. */
static struct shape down_shape(const struct shape *param, int64_t rank)
{
    struct shape s = *param;
    s.d[0] = rank;
    return s;
}

static int check(const struct weight_delta *d, const struct shape *shape, struct dr_error *err)
{
    const struct shape *up = &d->tensor[LOW_RANK_UP].shape;
    int64_t rank = up->n > 1 ? up->d[1] : 1;
    char text[96];
    if (shape->n < 2)
        return dr_fail_field(err, DR_EINVAL, d->param, shape_text(shape, text, sizeof text),
                             "a matrix or filters, for a change of low rank", NULL);
    struct shape wanted = SHAPE2(shape->d[0], rank > 0 ? rank : 1);
    int r = delta_check_tensor(d, LOW_RANK_UP, &wanted, err);
    if (r)
        return r;
    wanted = down_shape(shape, rank);
    return delta_check_tensor(d, LOW_RANK_DOWN, &wanted, err);
}

static int64_t at_most(int64_t n, int64_t most)
{
    return n < most ? n : most;
}

/* value + factor product, rounded once. */
static void add(float *value, const float *product, double factor, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        value[i] = (float)(value[i] + factor * product[i]);
}

static int apply(const struct weight_delta *d, const struct delta_target *t, struct dr_error *err)
{
    const struct weight_source *up = &d->tensor[LOW_RANK_UP];
    int64_t rank = up->shape.n > 1 ? up->shape.d[1] : 1, slab = delta_slab_rows(t);
    double factor = d->strength * (d->alpha != 0 ? d->alpha / (double)rank : 1);
    float *left = dr_malloc(DR_TAG_WEIGHTS, (size_t)(slab * rank) * sizeof *left);
    float *product = dr_malloc(DR_TAG_WEIGHTS, (size_t)(slab * t->cols) * sizeof *product);
    struct delta_product p = { .rank = 0 };
    int r = left && product ? 0 : dr_fail(err, DR_ENOMEM, "out of memory for rows of %s", d->param);
    if (!r)
        r = delta_product_open(&p, t, &d->tensor[LOW_RANK_DOWN], rank, err);
    for (int64_t first = 0; !r && first < t->rows; first += slab) {
        int64_t n = at_most(t->rows - first, slab);
        delta_read_rows(up, first, n, rank, left);
        r = delta_product_rows(&p, left, n, product, err);
        if (!r)
            add(t->value + first * t->cols, product, factor, n * t->cols);
    }
    delta_product_close(&p);
    dr_free(product);
    dr_free(left);
    return r;
}

const struct delta_kind delta_kind_low_rank = {
    .name = "low_rank", .adds = true, .check = check, .apply = apply
};
