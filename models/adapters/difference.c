/* difference.c - value += strength difference.
 *
 * Of any parameter, biases and norms too: what the files of fine-tuned models call "diff" and
 * "diff_b".
 */
#include "models/adapters/weight_delta.h"

static int check(const struct weight_delta *d, const struct shape *shape, struct dr_error *err)
{
    return delta_check_tensor(d, DIFFERENCE, shape, err);
}

struct difference_run {
    const struct weight_delta *d;
    const struct delta_target *t;
};

static void add_part(void *ctx, int64_t first, int64_t n)
{
    const struct difference_run *s = ctx;
    int64_t cols = s->t->cols;
    double strength = s->d->strength;
    float other[DELTA_RUN];
    for (int64_t o = first; o < first + n; o++)
        for (int64_t from = 0; from < cols; from += DELTA_RUN) {
            int64_t count = cols - from < DELTA_RUN ? cols - from : DELTA_RUN;
            float *value = s->t->value + o * cols + from;
            delta_read_some(&s->d->tensor[DIFFERENCE], o, from, count, cols, other);
            for (int64_t i = 0; i < count; i++)
                value[i] = (float)(value[i] + strength * other[i]);
        }
}

static int apply(const struct weight_delta *d, const struct delta_target *t, struct dr_error *err)
{
    struct difference_run s = { d, t };
    return delta_parts(t, t->rows, t->cols, add_part, &s, err);
}

const struct delta_kind delta_kind_difference = {
    .name = "difference",
    .adds = true,
    .needs = { { 1 << DIFFERENCE, 0 } },
    .check = check,
    .apply = apply,
};
