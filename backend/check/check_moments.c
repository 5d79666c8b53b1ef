/* check_moments.c - see check_moments.h. */
#include "backend/check/check_moments.h"

#include <math.h>

#include "backend/backend.h"

enum { RUN = 5 }; /* pixels, for a norm */

static int64_t pixels_of(const struct op *op)
{
    return op->dst.h * op->dst.w;
}

void check_moments_shape(struct backend *be, struct op *op)
{
    bool norm = op->kind == OP_KIND_group_norm;
    int64_t runs = norm ? (pixels_of(op) + RUN - 1) / RUN + 1 : backend_stat_chunks(be, op);
    op->moments = (struct act){ .n = op->dst.n, .h = 1, .w = runs };
    op->moments.c = op->moments.ld = runs ? moments_width(op->dst.c) : 0;
}

/* Mean of `count` values, ld apart, and their squared distances from it. */
static double distances(const float *x, int64_t ld, int64_t count, double *ret_mean)
{
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < count; i++)
        sum += x[i * ld];
    *ret_mean = count ? sum / (double)count : 0;
    for (int64_t i = 0; i < count; i++)
        squares += (x[i * ld] - *ret_mean) * (x[i * ld] - *ret_mean);
    return squares;
}

void check_moments_make(const struct op *op, const float *values, float *ret)
{
    int64_t c = op->dst.c, pixels = pixels_of(op), runs = op->moments.w;
    for (int64_t i = 0; i < op->moments.n * runs; i++, ret += op->moments.c) {
        int64_t first = i % runs * RUN, left = pixels - first;
        int64_t count = left < 0 ? 0 : left < RUN ? left : RUN;
        for (int64_t k = 0; k < c; k++) {
            double mean;
            const float *x = values + (i / runs * pixels + (count ? first : 0)) * c + k;
            ret[c + k] = (float)distances(x, c, count, &mean);
            ret[k] = (float)mean;
        }
        ret[2 * c] = (float)count;
        for (int64_t k = 2 * c + 1; k < op->moments.c; k++)
            ret[k] = NAN; /* nobody reads these */
    }
}

/* Of channel k of a sample whose runs begin at m: as `distances`, of all of its pixels. */
static double combined(const struct op *op, const float *m, int64_t k, int64_t *ret_count,
                       double *ret_mean)
{
    int64_t c = op->dst.c, width = op->moments.c;
    double sum = 0, squares = 0, count = 0;
    for (int64_t i = 0; i < op->moments.w; i++, m += width) {
        double n = m[2 * c];
        count += n;
        sum += n * m[k];
        squares += m[c + k] + n * m[k] * m[k];
    }
    *ret_count = (int64_t)count;
    *ret_mean = count > 0 ? sum / count : 0;
    return squares - sum * *ret_mean;
}

int check_moments_compare(const struct op *op, const float *moments, const float *values,
                          int64_t ld, struct dr_error *err)
{
    int64_t pixels = pixels_of(op);
    for (int64_t i = 0; i < op->dst.n * op->dst.c; i++) {
        int64_t n = i / op->dst.c, k = i % op->dst.c, count;
        double want, got, far, size;
        double squares = distances(values + n * pixels * ld + k, ld, pixels, &want);
        far = combined(op, moments + n * op->moments.w * op->moments.c, k, &count, &got) - squares;
        size = sqrt(want * want + squares / (double)pixels);
        if (count != pixels || !(fabs(got - want) <= 1e-6 * size) ||
            !(fabs(far) <= 1e-5 * squares + 1e-10 * size * size))
            return dr_fail(
                err, DR_EINVAL,
                "moments of sample %lld, channel %lld: %lld pixels, mean %g, squares off "
                "by %g; expected %lld, %g, %g",
                (long long)n, (long long)k, (long long)count, got, far, (long long)pixels, want,
                squares);
    }
    return 0;
}
