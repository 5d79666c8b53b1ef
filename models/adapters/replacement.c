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
};

static void set_part(void *ctx, int64_t first, int64_t n)
{
    const struct replacement_run *s = ctx;
    int64_t cols = s->t->cols;
    double strength = s->d->strength;
    float other[DELTA_RUN];
    for (int64_t o = first; o < first + n; o++)
        for (int64_t from = 0; from < cols; from += DELTA_RUN) {
            int64_t count = cols - from < DELTA_RUN ? cols - from : DELTA_RUN;
            float *value = s->t->value + o * cols + from;
            delta_read_some(&s->d->tensor[DIFFERENCE], o, from, count, cols, other);
            for (int64_t i = 0; i < count; i++)
                value[i] = (float)(value[i] + strength * ((double)other[i] - value[i]));
        }
}

static int apply(const struct weight_delta *d, const struct delta_target *t, struct dr_error *err)
{
    struct replacement_run s = { d, t };
    return delta_parts(t, t->rows, t->cols, set_part, &s, err);
}

const struct delta_kind delta_kind_replacement = {
    .name = "replacement",
    .needs = { { 1 << DIFFERENCE, 0 } },
    .check = check,
    .apply = apply,
};
