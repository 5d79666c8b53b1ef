/* test_inference_guidance.c - classifier-free guidance against its formulas. */
#include "testing/helpers/test.h"

#include <math.h>

#include "inference/guidance.h"
#include "models/unet.h"

enum { N = 64 };

static void fill(float *v, unsigned seed)
{
    for (int i = 0; i < 2 * N; i++) {
        seed = seed * 1664525u + 1013904223u;
        v[i] = (float)(int32_t)seed / 2147483648.0f;
    }
}

static void combine(const struct guidance *g, const float *predictions, float *pred)
{
    const struct sched_ask ask = { .steps = 1 };
    guidance_combine(
        g, &(struct guidance_at){ .ask = &ask, .predictions = predictions, .n = N, .channels = 4 },
        pred);
}

static void at_scale_one_the_positive_row_is_all(void **state)
{
    (void)state;
    struct guidance g = { .scale = 1.0 };
    float predictions[2 * N], pred[N];
    fill(predictions, 1);
    assert_int_equal(guidance_rows(&g), 1);
    combine(&g, predictions, pred);
    assert_memory_equal(pred, predictions, sizeof pred);
}

static void rows_ask_the_negative_first(void **state)
{
    (void)state;
    struct unet_conditioning negative, positive;
    struct guidance g = { .scale = 2, .negative = &negative, .positive = &positive };
    float x[N], predictions[2 * N];
    struct sched_ask ask = { .x = x, .timestep = 12.5 };
    struct unet_row rows[2];
    assert_int_equal(guidance_rows(&g), 2);
    guidance_expand(&g, &ask, predictions, N, rows);
    assert_ptr_equal(rows[0].conditioning, &negative);
    assert_ptr_equal(rows[1].conditioning, &positive);
    assert_ptr_equal(rows[1].pred, predictions + N);
    assert_ptr_equal(rows[0].latent, x);
    assert_true(rows[1].timestep == 12.5);
}

static void combines_linearly(void **state)
{
    (void)state;
    struct guidance g = { .scale = 7.5 };
    float predictions[2 * N], pred[N];
    fill(predictions, 2);
    combine(&g, predictions, pred);
    for (int i = 0; i < N; i++) {
        double expected = predictions[i] + 7.5 * ((double)predictions[N + i] - predictions[i]);
        assert_true(fabs(pred[i] - expected) <= 1e-6 * fabs(expected) + 1e-9);
    }
}

static double deviation(const float *v)
{
    double mean = 0, squares = 0;
    for (int i = 0; i < N; i++)
        mean += v[i] / (double)N;
    for (int i = 0; i < N; i++)
        squares += (v[i] - mean) * (v[i] - mean);
    return sqrt(squares / (N - 1)); /* unbiased */
}

static void a_full_rescale_has_the_positive_deviation(void **state)
{
    (void)state;
    struct guidance g = { .scale = 9, .rescale = 1 };
    float predictions[2 * N], pred[N];
    fill(predictions, 3);
    combine(&g, predictions, pred);
    assert_true(fabs(deviation(pred) / deviation(predictions + N) - 1) < 1e-6);
}

static void half_a_rescale_is_half_way(void **state)
{
    (void)state;
    struct guidance none = { .scale = 9 }, half = { .scale = 9, .rescale = 0.5 },
                    full = { .scale = 9, .rescale = 1 };
    float predictions[2 * N], a[N], b[N], c[N];
    fill(predictions, 4);
    combine(&none, predictions, a);
    combine(&half, predictions, b);
    combine(&full, predictions, c);
    for (int i = 0; i < N; i++)
        assert_true(fabs(b[i] - (a[i] + (double)c[i]) / 2) < 1e-6);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(at_scale_one_the_positive_row_is_all),
        cmocka_unit_test(rows_ask_the_negative_first),
        cmocka_unit_test(combines_linearly),
        cmocka_unit_test(a_full_rescale_has_the_positive_deviation),
        cmocka_unit_test(half_a_rescale_is_half_way),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
