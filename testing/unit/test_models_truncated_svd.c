/* test_models_truncated_svd.c - singular values that are known, and what a decomposition promises.
 */
#include "models/adapters/truncated_svd.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "testing/helpers/test.h"

static void must(int r, const struct dr_error *err)
{
    if (r)
        fail_msg("%s", err->text);
}

/* The matrix that the decomposition stands for. */
static void product(const struct truncated_svd *d, int64_t rows, int64_t cols, double *ret)
{
    memset(ret, 0, (size_t)(rows * cols) * sizeof *ret);
    for (int64_t k = 0; k < d->rank; k++)
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < cols; j++)
                ret[i * cols + j] += d->s[k] * d->u[k * rows + i] * d->v[k * cols + j];
}

static void expect_orthonormal(const double *vectors, int64_t n, int64_t length)
{
    for (int64_t a = 0; a < n; a++)
        for (int64_t b = 0; b <= a; b++) {
            double sum = 0;
            for (int64_t i = 0; i < length; i++)
                sum += vectors[a * length + i] * vectors[b * length + i];
            assert_true(fabs(sum - (a == b)) < 1e-12);
        }
}

/* Of the Hilbert matrix, 1 / (i + j + 1); numpy.linalg.svd. */
static void hilbert(void **state)
{
    (void)state;
    static const double expected[] = { 1.5670506910982307, 0.2085342186110134, 0.01140749162341981,
                                       0.00030589804015119 };
    struct truncated_svd d;
    struct dr_error err;
    float a[25];
    double up[25], down[25] = { 0 };
    for (int i = 0; i < 25; i++) {
        up[i] = 1.0 / (i / 5 + i % 5 + 1);
        a[i] = (float)up[i];
    }
    for (int i = 0; i < 5; i++)
        down[6 * i] = 1;
    uint64_t blocks = test_blocks();
    must(truncated_svd_product(up, down, 5, 5, 5, 4, NULL, &d, &err), &err);
    assert_int_equal(d.rank, 4);
    for (int i = 0; i < 4; i++)
        assert_true(fabs(d.s[i] - expected[i]) < 1e-14);
    expect_orthonormal(d.u, 4, 5);
    expect_orthonormal(d.v, 4, 5);
    truncated_svd_release(&d);
    must(truncated_svd_matrix(a, 5, 5, 3, NULL, &d, &err), &err);
    for (int i = 0; i < 3; i++)
        assert_true(fabs(d.s[i] - expected[i]) < 2e-7); /* of float32 values */
    truncated_svd_release(&d);
    assert_int_equal(test_blocks(), blocks);
}

/* A matrix of rank 6 among 70 x 45 or 45 x 70 comes back, and has no seventh value. */
static void a_low_rank_comes_back(void **state)
{
    (void)state;
    enum { RANK = 6, LONG = 70, SHORT = 45 };
    static float noise[RANK * (LONG + SHORT)], a[LONG * SHORT];
    static double back[LONG * SHORT];
    struct dr_rng rng;
    struct dr_error err;
    dr_rng_seed(&rng, DR_RNG_CPU, 3);
    dr_rng_normal(&rng, noise, sizeof noise / sizeof *noise);
    for (int turned = 0; turned < 2; turned++) {
        int64_t rows = turned ? SHORT : LONG, cols = turned ? LONG : SHORT;
        double largest = 0;
        struct truncated_svd d;
        for (int64_t i = 0; i < rows * cols; i++) {
            double sum = 0;
            for (int k = 0; k < RANK; k++)
                sum += (double)noise[k * rows + i / cols] *
                       (double)noise[RANK * rows + k * cols + i % cols];
            a[i] = (float)sum;
            largest = fmax(largest, fabs(sum));
        }
        must(truncated_svd_matrix(a, rows, cols, 12, NULL, &d, &err), &err);
        for (int64_t k = RANK; k < d.rank; k++)
            assert_true(d.s[k] < 1e-6 * d.s[0]);
        d.rank = RANK;
        for (int64_t k = 1; k < RANK; k++)
            assert_true(d.s[k] <= d.s[k - 1]);
        product(&d, rows, cols, back);
        for (int64_t i = 0; i < rows * cols; i++)
            assert_true(fabs(back[i] - a[i]) < 1e-6 * largest);
        truncated_svd_release(&d);
    }
}

static void zeros_have_no_rank(void **state)
{
    (void)state;
    static const float a[12] = { 0 };
    struct truncated_svd d;
    struct dr_error err;
    must(truncated_svd_matrix(a, 3, 4, 2, NULL, &d, &err), &err);
    assert_int_equal(d.rank, 0);
    truncated_svd_release(&d);
    const atomic_int stop = 1;
    assert_int_equal(truncated_svd_matrix(a, 3, 4, 2, &stop, &d, &err), DR_ECANCELED);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(hilbert),
    cmocka_unit_test(a_low_rank_comes_back),
    cmocka_unit_test(zeros_have_no_rank),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
