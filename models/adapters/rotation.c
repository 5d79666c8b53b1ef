/* rotation.c - see rotation.h. */
#include "models/adapters/rotation.h"

#include <math.h>
#include <string.h>

/* Q of each block, and the squared length of all. */
static double skew(double *q, const float *blocks, int64_t n, int64_t b)
{
    double sum = 0;
    for (int64_t k = 0; k < n; k++)
        for (int64_t i = 0; i < b; i++)
            for (int64_t j = 0; j < b; j++) {
                const float *block = blocks + k * b * b;
                double v = (double)block[i * b + j] - block[j * b + i];
                q[k * b * b + i * b + j] = v;
                sum += v * v;
            }
    return sum;
}

static void swap_rows(double *a, int64_t n, int64_t x, int64_t y)
{
    for (int64_t j = 0; j < n; j++) {
        double kept = a[x * n + j];
        a[x * n + j] = a[y * n + j];
        a[y * n + j] = kept;
    }
}

/* inverse = a^-1 by Gauss and Jordan with pivots; a is used up. I - Q always has an inverse. */
static void invert(double *a, double *inverse, int64_t n)
{
    for (int64_t i = 0; i < n * n; i++)
        inverse[i] = i / n == i % n;
    for (int64_t c = 0; c < n; c++) {
        int64_t pivot = c;
        for (int64_t i = c + 1; i < n; i++)
            if (fabs(a[i * n + c]) > fabs(a[pivot * n + c]))
                pivot = i;
        swap_rows(a, n, c, pivot);
        swap_rows(inverse, n, c, pivot);
        double by = 1 / a[c * n + c];
        for (int64_t j = 0; j < n; j++) {
            a[c * n + j] *= by;
            inverse[c * n + j] *= by;
        }
        for (int64_t i = 0; i < n; i++) {
            double factor = i == c ? 0 : a[i * n + c];
            for (int64_t j = 0; factor != 0 && j < n; j++) {
                a[i * n + j] -= factor * a[c * n + j];
                inverse[i * n + j] -= factor * inverse[c * n + j];
            }
        }
    }
}

/* q becomes strength (I + q) (I - q)^-1 + (1 - strength) I; scratch has 2 b * b. False: not finite.
 */
static bool cayley(double *q, int64_t b, double strength, double *scratch)
{
    double *minus = scratch, *inverse = scratch + b * b;
    bool finite = true;
    for (int64_t i = 0; i < b * b; i++)
        minus[i] = (double)(i / b == i % b) - q[i];
    invert(minus, inverse, b);
    for (int64_t i = 0; i < b; i++)
        q[i * b + i] += 1;
    for (int64_t i = 0; i < b; i++)
        for (int64_t j = 0; j < b; j++) {
            double sum = 0;
            for (int64_t k = 0; k < b; k++)
                sum += q[i * b + k] * inverse[k * b + j];
            minus[i * b + j] = strength * sum + (i == j ? 1 - strength : 0);
            finite = finite && isfinite(minus[i * b + j]);
        }
    memcpy(q, minus, (size_t)(b * b) * sizeof *q);
    return finite;
}

/* The matrices out of q, the skew-symmetric ones, whose length is the root of `sum`. */
static int rotate(const struct weight_delta *d, double *q, double sum, int64_t n, int64_t b,
                  double most, double *scratch, struct dr_error *err)
{
    double length = sqrt(sum) + 1e-8;
    for (int64_t i = 0; most > 0 && length > most && i < n * b * b; i++)
        q[i] *= most / length;
    for (int64_t k = 0; k < n; k++)
        if (!cayley(q + k * b * b, b, d->strength, scratch))
            return dr_fail(err, DR_EFORMAT, "%s: its rotations are not finite", d->param);
    return 0;
}

int rotation_matrices(const struct weight_delta *d, int64_t n, int64_t b, double most, double **ret,
                      struct dr_error *err)
{
    float *blocks = delta_read(d, OFT_BLOCKS, n * b, b, err);
    double *q = dr_malloc(DR_TAG_WEIGHTS, (size_t)(n * b * b) * sizeof *q);
    double *scratch = dr_malloc(DR_TAG_WEIGHTS, (size_t)(2 * b * b) * sizeof *scratch);
    int r = blocks && q && scratch
                ? 0
                : dr_fail(err, DR_ENOMEM, "out of memory for the rotations of %s", d->param);
    if (!r)
        r = rotate(d, q, skew(q, blocks, n, b), n, b, most, scratch, err);
    dr_free(blocks);
    dr_free(scratch);
    if (r)
        dr_free(q);
    else
        *ret = q;
    return r;
}

struct mix_run {
    const struct rotation_mix *mix;
    const struct delta_target *t;
    float *scratch; /* [b, cols], in runs of columns */
};

/* Columns [first, first + n) of one block; scratch has b * n floats. */
static void mix_block(const struct mix_run *run, int64_t round, int64_t block, int64_t first,
                      int64_t n, float *scratch)
{
    const struct rotation_mix *mix = run->mix;
    int64_t b = mix->b, cols = run->t->cols;
    const double *m = mix->m + (round * mix->blocks + block) * b * b;
    for (int64_t i = 0; i < b; i++)
        memcpy(scratch + i * n,
               run->t->value + mix->row_at(mix, round, block * b + i) * cols + first,
               (size_t)n * sizeof *scratch);
    for (int64_t i = 0; i < b; i++) {
        float *value = run->t->value + mix->row_at(mix, round, block * b + i) * cols + first;
        for (int64_t c = 0; c < n; c++) {
            double sum = 0;
            for (int64_t j = 0; j < b; j++)
                sum += m[mix->turned ? j * b + i : i * b + j] * scratch[j * n + c];
            value[c] = (float)sum;
        }
    }
}

static void mix_columns(void *ctx, int64_t first, int64_t n)
{
    const struct mix_run *run = ctx;
    for (int64_t round = 0; round < run->mix->rounds; round++)
        for (int64_t block = 0; block < run->mix->blocks; block++)
            mix_block(run, round, block, first, n, run->scratch + first * run->mix->b);
}

int rotation_apply(const struct rotation_mix *mix, const struct delta_target *t,
                   struct dr_error *err)
{
    struct mix_run run = { mix, t, NULL };
    run.scratch = dr_malloc(DR_TAG_WEIGHTS, (size_t)(mix->b * t->cols) * sizeof *run.scratch);
    int r = run.scratch ? delta_parts(t, t->cols, t->rows * mix->b, mix_columns, &run, err)
                        : dr_fail(err, DR_ENOMEM, "out of memory for rows to mix");
    dr_free(run.scratch);
    return r;
}

int rotation_check_rescale(const struct weight_delta *d, const struct shape *param,
                           struct dr_error *err)
{
    const struct shape rows = SHAPE1(param->d[0]);
    return delta_has(d, OFT_RESCALE) ? delta_check_tensor(d, OFT_RESCALE, &rows, err) : 0;
}

int rotation_rescale(const struct weight_delta *d, const struct delta_target *t,
                     struct dr_error *err)
{
    if (!delta_has(d, OFT_RESCALE))
        return 0;
    float *scale = delta_read(d, OFT_RESCALE, t->rows, 1, err);
    for (int64_t i = 0; scale && i < t->rows * t->cols; i++)
        t->value[i] *= scale[i / t->cols];
    int r = scale ? 0 : DR_ENOMEM;
    dr_free(scale);
    return r;
}
