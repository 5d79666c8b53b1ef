/* truncated_svd.c - see truncated_svd.h.
 *
 * Matrices of vectors are [n, length], a vector each, so that vectors lie together. */
#include "models/adapters/truncated_svd.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rng.h"

enum { MORE = 10, ITERATIONS = 2, SWEEPS = 60 };

static int stopped(const atomic_int *stop, struct dr_error *err)
{
    return stop && atomic_load(stop) ? dr_fail(err, DR_ECANCELED, "stopped") : 0;
}

static double *room(int64_t n, int64_t length)
{
    return dr_calloc(DR_TAG_JOB, (size_t)n * (size_t)length + 1, sizeof(double));
}

static int no_memory(struct dr_error *err)
{
    return dr_fail(err, DR_ENOMEM, "out of memory for singular values");
}

static double dot(const double *a, const double *b, int64_t n)
{
    double sum[4] = { 0 };
    int64_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (int k = 0; k < 4; k++)
            sum[k] += a[i + k] * b[i + k];
    for (; i < n; i++)
        sum[0] += a[i] * b[i];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* ---- orthonormal vectors ---- */

/* q [n, length] = r^T q', by Gram and Schmidt, twice; r [n, n], r[i][j] the part of vector j along
 * i. A vector that depends on those before it becomes zeros. */
static int orthonormalise(double *q, double *r, int64_t n, int64_t length, const atomic_int *stop,
                          struct dr_error *err)
{
    memset(r, 0, (size_t)(n * n) * sizeof *r);
    for (int64_t j = 0; j < n; j++) {
        double *at = q + j * length, before = sqrt(dot(at, at, length));
        for (int pass = 0; pass < 2; pass++)
            for (int64_t i = 0; i < j; i++) {
                const double *other = q + i * length;
                double part = dot(other, at, length);
                r[i * n + j] += part;
                for (int64_t k = 0; k < length; k++)
                    at[k] -= part * other[k];
            }
        double size = sqrt(dot(at, at, length));
        bool depends = !(size > 1e-13 * before);
        r[j * n + j] = depends ? 0 : size;
        for (int64_t k = 0; k < length; k++)
            at[k] = depends ? 0 : at[k] / size;
        if (stopped(stop, err))
            return DR_ECANCELED;
    }
    return 0;
}

/* ---- a small square ---- */

/* One rotation of two vectors; whether they were not orthogonal yet. */
static bool rotate(double *a, double *b, double *x, double *y, int64_t n)
{
    double aa = dot(a, a, n), bb = dot(b, b, n), ab = dot(a, b, n);
    if (fabs(ab) <= 1e-15 * sqrt(aa * bb))
        return false;
    double zeta = (bb - aa) / (2 * ab);
    double t = (zeta < 0 ? -1 : 1) / (fabs(zeta) + sqrt(1 + zeta * zeta));
    double c = 1 / sqrt(1 + t * t), s = c * t;
    for (int64_t i = 0; i < n; i++) {
        double p = a[i], q = b[i];
        a[i] = c * p - s * q;
        b[i] = s * p + c * q;
        p = x[i];
        q = y[i];
        x[i] = c * p - s * q;
        y[i] = s * p + c * q;
    }
    return true;
}

/* Makes the vectors of c [n, n] orthogonal; x [n, n] becomes the rotation: c' = x c. */
static int jacobi(double *c, double *x, int64_t n, const atomic_int *stop, struct dr_error *err)
{
    bool more = true;
    for (int64_t i = 0; i < n; i++)
        x[i * n + i] = 1;
    for (int sweep = 0; more && sweep < SWEEPS; sweep++) {
        more = false;
        for (int64_t i = 0; i < n; i++) {
            for (int64_t j = i + 1; j < n; j++)
                more |= rotate(c + i * n, c + j * n, x + i * n, x + j * n, n);
            if (stopped(stop, err))
                return DR_ECANCELED;
        }
    }
    return 0;
}

/* ret [length] = sum of weight[i] vectors[i]. */
static void combine(const double *weight, const double *vectors, int64_t n, int64_t length,
                    double *ret)
{
    memset(ret, 0, (size_t)length * sizeof *ret);
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; weight[i] != 0 && k < length; k++)
            ret[k] += weight[i] * vectors[i * length + k];
}

/* ---- a product ---- */

struct core {
    int64_t n;
    double *qu, *qd, *ru, *rd; /* up and down, orthonormal, and their triangles */
    double *c, *x;             /* [n, n] */
};

/* c[j] is vector j of the square ru rd^T, that is its column. */
static void make_square(struct core *k)
{
    int64_t n = k->n;
    for (int64_t j = 0; j < n; j++)
        for (int64_t i = 0; i < n; i++) {
            double sum = 0;
            for (int64_t m = i > j ? i : j; m < n; m++)
                sum += k->ru[i * n + m] * k->rd[j * n + m];
            k->c[j * n + i] = sum;
        }
}

/* The largest column left, which is taken; -1: none above the rounding of the largest of all. */
static int64_t next_column(const struct core *k, bool *taken, double most, double *ret_size)
{
    int64_t best = -1;
    *ret_size = 0;
    for (int64_t j = 0; j < k->n; j++) {
        double size = sqrt(dot(k->c + j * k->n, k->c + j * k->n, k->n));
        if (!taken[j] && size > *ret_size && size > 1e-14 * most) {
            *ret_size = size;
            best = j;
        }
    }
    if (best >= 0)
        taken[best] = true;
    return best;
}

static int collect(struct core *k, int64_t rows, int64_t cols, int64_t rank,
                   struct truncated_svd *ret)
{
    bool *taken = dr_calloc(DR_TAG_JOB, (size_t)k->n + 1, sizeof *taken);
    int64_t j;
    double size, most = 0;
    if (!taken)
        return DR_ENOMEM;
    while (ret->rank < rank && (j = next_column(k, taken, most, &size)) >= 0) {
        most = size > most ? size : most;
        double *column = k->c + j * k->n;
        for (int64_t i = 0; i < k->n; i++)
            column[i] /= size;
        combine(column, k->qu, k->n, rows, ret->u + ret->rank * rows);
        combine(k->x + j * k->n, k->qd, k->n, cols, ret->v + ret->rank * cols);
        ret->s[ret->rank++] = size;
        memset(column, 0, (size_t)k->n * sizeof *column);
    }
    dr_free(taken);
    return 0;
}

static int decompose(struct core *k, const double *up, const double *down, int64_t rows,
                     int64_t cols, int64_t rank, const atomic_int *stop, struct truncated_svd *ret,
                     struct dr_error *err)
{
    int64_t n = k->n;
    k->qu = room(n, rows);
    k->qd = room(n, cols);
    k->ru = room(n, n);
    k->rd = room(n, n);
    k->c = room(n, n);
    k->x = room(n, n);
    ret->u = room(rank, rows);
    ret->v = room(rank, cols);
    ret->s = room(rank, 1);
    if (!k->qu || !k->qd || !k->ru || !k->rd || !k->c || !k->x || !ret->u || !ret->v || !ret->s)
        return no_memory(err);
    memcpy(k->qu, up, (size_t)(n * rows) * sizeof *up);
    memcpy(k->qd, down, (size_t)(n * cols) * sizeof *down);
    int r = orthonormalise(k->qu, k->ru, n, rows, stop, err);
    if (!r)
        r = orthonormalise(k->qd, k->rd, n, cols, stop, err);
    if (r)
        return r;
    make_square(k);
    r = jacobi(k->c, k->x, n, stop, err);
    if (!r && collect(k, rows, cols, rank, ret))
        r = no_memory(err);
    return r;
}

int truncated_svd_product(const double *up, const double *down, int64_t inner, int64_t rows,
                          int64_t cols, int64_t rank, const atomic_int *stop,
                          struct truncated_svd *ret, struct dr_error *err)
{
    struct core k = { .n = inner };
    rank = rank < inner ? rank : inner;
    *ret = (struct truncated_svd){ .rank = 0 };
    int r = decompose(&k, up, down, rows, cols, rank, stop, ret, err);
    dr_free(k.qu);
    dr_free(k.qd);
    dr_free(k.ru);
    dr_free(k.rd);
    dr_free(k.c);
    dr_free(k.x);
    if (r)
        truncated_svd_release(ret);
    return r;
}

/* ---- a matrix ---- */

/* y [n, rows] = x [n, cols] a^T, where `turned` is room for [longer side, n] twice. */
static void forward(const float *a, int64_t rows, int64_t cols, const double *x, int64_t n,
                    double *y, double *turned)
{
    for (int64_t k = 0; k < cols; k++)
        for (int64_t j = 0; j < n; j++)
            turned[k * n + j] = x[j * cols + k];
    for (int64_t i = 0; i < rows; i++) {
        double *sum = turned + cols * n;
        memset(sum, 0, (size_t)n * sizeof *sum);
        for (int64_t k = 0; k < cols; k++) {
            const double value = a[i * cols + k], *with = turned + k * n;
            for (int64_t j = 0; j < n; j++)
                sum[j] += value * with[j];
        }
        for (int64_t j = 0; j < n; j++)
            y[j * rows + i] = sum[j];
    }
}

/* y [n, cols] = x [n, rows] a. */
static void backward(const float *a, int64_t rows, int64_t cols, const double *x, int64_t n,
                     double *y)
{
    memset(y, 0, (size_t)(n * cols) * sizeof *y);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < n; j++) {
            const double value = x[j * rows + i];
            double *to = y + j * cols;
            for (int64_t k = 0; k < cols; k++)
                to[k] += value * a[i * cols + k];
        }
}

int truncated_svd_matrix(const float *a, int64_t rows, int64_t cols, int64_t rank,
                         const atomic_int *stop, struct truncated_svd *ret, struct dr_error *err)
{
    int64_t least = rows < cols ? rows : cols, n = rank + MORE < least ? rank + MORE : least;
    double *x = room(n, cols), *y = room(n, rows), *r_of = room(n, n);
    double *turned = room(n, cols + 1);
    struct dr_rng rng;
    float *noise = dr_malloc(DR_TAG_JOB, (size_t)(n * cols) * sizeof *noise);
    int r = x && y && r_of && turned && noise ? 0 : no_memory(err);
    *ret = (struct truncated_svd){ .rank = 0 };
    if (!r) {
        dr_rng_seed(&rng, DR_RNG_CPU, 0);
        dr_rng_normal(&rng, noise, (size_t)(n * cols));
    }
    for (int64_t i = 0; !r && i < n * cols; i++)
        x[i] = noise[i];
    for (int i = 0; !r && i <= ITERATIONS; i++) {
        forward(a, rows, cols, x, n, y, turned);
        r = orthonormalise(y, r_of, n, rows, stop, err);
        if (!r)
            backward(a, rows, cols, y, n, x);
        if (!r && i < ITERATIONS)
            r = orthonormalise(x, r_of, n, cols, stop, err);
    }
    if (!r)
        r = truncated_svd_product(y, x, n, rows, cols, rank, stop, ret, err);
    dr_free(x);
    dr_free(y);
    dr_free(r_of);
    dr_free(turned);
    dr_free(noise);
    return r;
}

void truncated_svd_release(struct truncated_svd *d)
{
    dr_free(d->u);
    dr_free(d->v);
    dr_free(d->s);
    *d = (struct truncated_svd){ .rank = 0 };
}
