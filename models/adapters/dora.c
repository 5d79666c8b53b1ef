/* dora.c - what another kind adds, then every row (or input channel) set to a length of its own.
 *
 * value += strength (m (value + change) / |value + change| - value), the change at its full
 * strength: so strength 0 is the base and 1 is what was trained.
 * Reference: Liu et al. 2024, DoRA, equation 5. peft and LyCORIS agree with it at strength 1; other
 * strengths are those of ComfyUI.
 */
#include "models/adapters/weight_delta.h"

#include <float.h>
#include <math.h>
#include <string.h>

static bool by_row(const struct weight_delta *d, int64_t rows)
{
    return delta_dim(&d->tensor[DORA_MAGNITUDE], 0) == rows;
}

static int check(const struct weight_delta *d, const struct shape *shape, struct dr_error *err)
{
    int r = d->inner->check(d, shape, err);
    if (r)
        return r;
    const struct shape rows = SHAPE1(shape->d[0]), columns = SHAPE2(1, shape->d[1]);
    return delta_check_tensor(d, DORA_MAGNITUDE, by_row(d, shape->d[0]) ? &rows : &columns, err);
}

struct dora_run {
    const struct delta_target *t;
    const float *base, *magnitude;
    double strength, *scale; /* of each row or channel */
    bool rows;
    int64_t n, kernel; /* channels, and columns of each */
};

/* Squared lengths of rows; of channels, over the rows in their order. */
static void sum_rows(void *ctx, int64_t first, int64_t n)
{
    const struct dora_run *s = ctx;
    for (int64_t o = first; o < first + n; o++)
        for (int64_t i = 0; i < s->t->cols; i++) {
            double v = s->t->value[o * s->t->cols + i];
            s->scale[o] += v * v;
        }
}

static void sum_channels(void *ctx, int64_t first, int64_t n)
{
    const struct dora_run *s = ctx;
    for (int64_t o = 0; o < s->t->rows; o++)
        for (int64_t i = first * s->kernel; i < (first + n) * s->kernel; i++) {
            double v = s->t->value[o * s->t->cols + i];
            s->scale[i / s->kernel] += v * v;
        }
}

static void set_part(void *ctx, int64_t first, int64_t n)
{
    const struct dora_run *s = ctx;
    for (int64_t o = first; o < first + n; o++)
        for (int64_t i = 0; i < s->t->cols; i++) {
            float *value = s->t->value + o * s->t->cols + i;
            double base = s->base[o * s->t->cols + i];
            double wanted = *value * s->scale[s->rows ? o : i / s->kernel];
            *value = (float)(base + s->strength * (wanted - base));
        }
}

/* From squared lengths to factors. */
static void finish_scales(struct dora_run *s)
{
    for (int64_t i = 0; i < s->n; i++)
        s->scale[i] = s->magnitude[i] / (sqrt(s->scale[i]) + FLT_EPSILON);
}

static int set_lengths(struct dora_run *s, struct dr_error *err)
{
    const struct delta_target *t = s->t;
    int r = s->rows ? delta_parts(t, t->rows, t->cols, sum_rows, s, err)
                    : delta_parts(t, s->n, t->rows * s->kernel, sum_channels, s, err);
    if (r)
        return r;
    finish_scales(s);
    return delta_parts(t, t->rows, t->cols, set_part, s, err);
}

static int apply(const struct weight_delta *d, const struct delta_target *t, struct dr_error *err)
{
    struct weight_delta whole = *d;
    int64_t count;
    if (!shape_count(&d->tensor[DORA_MAGNITUDE].shape, &count))
        return dr_fail(err, DR_ELIMIT, "%s is too large", d->param);
    struct dora_run s = { .t = t, .strength = d->strength, .n = count };
    s.rows = by_row(d, t->rows);
    s.kernel = s.rows ? t->cols : t->cols / count;
    float *base = dr_malloc(DR_TAG_WEIGHTS, (size_t)(t->rows * t->cols) * sizeof *base);
    float *magnitude = delta_read(d, DORA_MAGNITUDE, 1, count, err);
    s.scale = dr_calloc(DR_TAG_WEIGHTS, (size_t)count, sizeof *s.scale);
    int r = base && magnitude && s.scale
                ? 0
                : dr_fail(err, DR_ENOMEM, "out of memory for the lengths of %s", d->param);
    s.base = base;
    s.magnitude = magnitude;
    whole.strength = 1;
    if (!r) {
        memcpy(base, t->value, (size_t)(t->rows * t->cols) * sizeof *base);
        r = d->inner->apply(&whole, t, err);
    }
    if (!r)
        r = set_lengths(&s, err);
    dr_free(base);
    dr_free(magnitude);
    dr_free(s.scale);
    return r;
}

const struct delta_kind delta_kind_dora = { .name = "dora", .check = check, .apply = apply };
