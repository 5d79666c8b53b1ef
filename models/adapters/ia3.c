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

struct ia3_run {
    const struct delta_target *t;
    const float *w;
    int64_t kernel; /* columns of an input channel; 0: w is by row */
    double strength;
};

static void scale_part(void *ctx, int64_t first, int64_t n)
{
    const struct ia3_run *s = ctx;
    for (int64_t o = first; o < first + n; o++)
        for (int64_t i = 0; i < s->t->cols; i++) {
            float *value = s->t->value + o * s->t->cols + i;
            *value = (float)(*value * (1 + s->strength * s->w[s->kernel ? i / s->kernel : o]));
        }
}

static int apply(const struct weight_delta *d, const struct delta_target *t, struct dr_error *err)
{
    bool in = delta_has(d, IA3_IN);
    const struct weight_source *source = &d->tensor[in ? IA3_IN : IA3_OUT];
    int64_t n;
    if (!shape_count(&source->shape, &n))
        return dr_fail(err, DR_ELIMIT, "%s is too large", d->param);
    float *w = delta_read(d, in ? IA3_IN : IA3_OUT, 1, n, err);
    struct ia3_run s = { t, w, in ? t->cols / n : 0, d->strength };
    int r = w ? delta_parts(t, t->rows, t->cols, scale_part, &s, err) : DR_ENOMEM;
    dr_free(w);
    return r;
}

const struct delta_kind delta_kind_ia3 = {
    .name = "ia3",
    .needs = { { 1 << IA3_OUT, 1 << IA3_IN } },
    .check = check,
    .apply = apply,
};
