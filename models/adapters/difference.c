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

static int apply(const struct weight_delta *d, const struct delta_target *t, struct dr_error *err)
{
    int64_t slab = delta_slab_rows(t);
    float *rows = dr_malloc(DR_TAG_WEIGHTS, (size_t)(slab * t->cols) * sizeof *rows);
    int r = rows ? 0 : dr_fail(err, DR_ENOMEM, "out of memory for rows of %s", d->param);
    for (int64_t first = 0; !r && first < t->rows; first += slab) {
        int64_t n = t->rows - first < slab ? t->rows - first : slab;
        float *value = t->value + first * t->cols;
        r = delta_stopped(t, err);
        if (r)
            break;
        delta_read_rows(&d->tensor[DIFFERENCE], first, n, t->cols, rows);
        for (int64_t i = 0; i < n * t->cols; i++)
            value[i] = (float)(value[i] + d->strength * rows[i]);
    }
    dr_free(rows);
    return r;
}

const struct delta_kind delta_kind_difference = {
    .name = "difference",
    .adds = true,
    .needs = { { 1 << DIFFERENCE, 0 } },
    .check = check,
    .apply = apply,
};
