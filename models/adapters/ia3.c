/* ia3.c - value *= 1 + strength w, by output (row) or by input channel.
 *
 * Reference: Liu et al. 2022, Few-Shot Parameter-Efficient Fine-Tuning, section 3.3; LyCORIS writes
 * the vector as a difference from one.
 */
#include "models/adapters/weight_delta.h"

static int check(const struct weight_delta *d, const struct shape *shape, struct dr_error *err)
{
    int which = delta_has(d, IA3_IN) ? IA3_IN : IA3_OUT, r = delta_check_matrix(d, shape, err);
    int64_t n = which == IA3_IN ? shape->d[1] : shape->d[0];
    const struct shape line = SHAPE1(n), row = SHAPE2(1, n);
    if (r)
        return r;
    /* convolutions have [1, n, 1, 1] */
    return delta_check_tensor(d, which, d->tensor[which].shape.n > 1 ? &row : &line, err);
}

static int apply(const struct weight_delta *d, const struct delta_target *t, struct dr_error *err)
{
    bool in = delta_has(d, IA3_IN);
    const struct weight_source *s = &d->tensor[in ? IA3_IN : IA3_OUT];
    int64_t n;
    if (!shape_count(&s->shape, &n))
        return dr_fail(err, DR_ELIMIT, "%s is too large", d->param);
    float *w = delta_read(d, in ? IA3_IN : IA3_OUT, 1, n, err);
    if (!w)
        return DR_ENOMEM;
    int64_t kernel = in ? t->cols / n : t->cols;
    int r = delta_stopped(t, err);
    for (int64_t o = 0; !r && o < t->rows; o++)
        for (int64_t i = 0; i < t->cols; i++) {
            float *value = t->value + o * t->cols + i;
            *value = (float)(*value * (1 + d->strength * w[in ? i / kernel : o]));
        }
    dr_free(w);
    return r;
}

const struct delta_kind delta_kind_ia3 = {
    .name = "ia3",
    .needs = { { 1 << IA3_OUT, 1 << IA3_IN } },
    .check = check,
    .apply = apply,
};
