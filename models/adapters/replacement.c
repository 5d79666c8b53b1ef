/* replacement.c - value += strength (other - value): at strength 1 another value in its place.
 *
 * Files call it "set_weight" and "set_bias".
 */
#include "models/adapters/weight_delta.h"

static int check(const struct weight_delta *d, const struct shape *shape, struct dr_error *err)
{
    return delta_check_tensor(d, DIFFERENCE, shape, err);
}

struct replacement_run {
    const struct weight_delta *d;
    const struct delta_target *t;
    float *rows;
};

static int set_rows(void *ctx, int64_t first, int64_t n, struct dr_error *err)
{
    const struct replacement_run *s = ctx;
    float *value = s->t->value + first * s->t->cols;
    (void)err;
    delta_read_rows(&s->d->tensor[DIFFERENCE], first, n, s->t->cols, s->rows);
    for (int64_t i = 0; i < n * s->t->cols; i++)
        value[i] = (float)(value[i] + s->d->strength * ((double)s->rows[i] - value[i]));
    return 0;
}

static int apply(const struct weight_delta *d, const struct delta_target *t, struct dr_error *err)
{
    struct replacement_run s = { .d = d, .t = t };
    s.rows = dr_malloc(DR_TAG_WEIGHTS, (size_t)(delta_slab_rows(t) * t->cols) * sizeof *s.rows);
    int r = s.rows ? delta_slabs(t, set_rows, &s, err)
                   : dr_fail(err, DR_ENOMEM, "out of memory for rows of %s", d->param);
    dr_free(s.rows);
    return r;
}

const struct delta_kind delta_kind_replacement = {
    .name = "replacement",
    .needs = { { 1 << DIFFERENCE, 0 } },
    .check = check,
    .apply = apply,
};
