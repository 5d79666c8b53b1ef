/* test_tensor_blocks.c - the quantised types of GGUF against the reference's own values, to the
 * bit, and what is written in them. Vectors: tools/golden/gguf_types.py. */
#include "testing/helpers/test.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/npy.h"
#include "tensor/quant_blocks.h"
#include "testing/helpers/base_files.h"

static const enum dtype types[] = { DTYPE_Q4_0, DTYPE_Q4_1, DTYPE_Q5_0, DTYPE_Q5_1, DTYPE_Q8_0,
                                    DTYPE_Q2_K, DTYPE_Q3_K, DTYPE_Q4_K, DTYPE_Q5_K, DTYPE_Q6_K };

static struct npy vector(const char *name, const char *kind)
{
    struct npy ret;
    struct dr_error err;
    char path[200];
    snprintf(path, sizeof path, "testing/golden/gguf/%s%s.npy", name, kind);
    if (npy_load(test_source(path), &ret, &err))
        fail_msg("%s", err.text);
    return ret;
}

static void values_of_the_reference(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        struct npy blocks = vector(dtype_name(types[i]), ".blocks");
        struct npy want = vector(dtype_name(types[i]), ".values");
        unsigned char odd[4096]; /* at an odd address */
        float got[768];
        int64_t bytes;
        assert_true(dtype_bytes(types[i], want.count, &bytes));
        assert_int_equal(bytes, blocks.count);
        assert_true(bytes < 4096 && want.count == 768);
        memcpy(odd + 1, blocks.data, (size_t)bytes);
        dtype_to_f32(got, odd + 1, types[i], want.count);
        for (int64_t k = 0; k < want.count; k++)
            if (memcmp(&got[k], (const float *)want.data + k, sizeof *got))
                fail_msg("%s %lld: %.9g, expected %.9g", dtype_name(types[i]), (long long)k,
                         (double)got[k], (double)((const float *)want.data)[k]);
        npy_free(&blocks);
        npy_free(&want);
    }
}

/* Any run of elements, whatever it begins and ends in the middle of. */
static void any_run(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        struct npy blocks = vector(dtype_name(types[i]), ".blocks");
        struct npy want = vector(dtype_name(types[i]), ".values");
        for (int64_t first = 0; first < 520; first += 13)
            for (int64_t n = 0; first + n <= 768; n += 31) {
                float got[770];
                got[n] = 77;
                dtype_read(got, blocks.data, types[i], first, n);
                assert_memory_equal(got, (const float *)want.data + first, (size_t)n * sizeof *got);
                assert_true(got[n] == 77);
            }
        npy_free(&blocks);
        npy_free(&want);
    }
}

static void q8_0_is_written_as_the_reference_does(void **state)
{
    (void)state;
    struct npy source = vector("source", ""), want = vector("Q8_0", ".written");
    unsigned char got[4096];
    assert_int_equal(source.count / 32 * 34, want.count);
    dtype_from_f32(got, DTYPE_Q8_0, source.data, source.count);
    assert_memory_equal(got, want.data, (size_t)want.count);
    npy_free(&source);
    npy_free(&want);
}

/* Root of the mean squared error of a round trip, relative to the root of the mean square. */
static double relative_error(enum dtype t, const float *x, int64_t n)
{
    unsigned char bytes[4096];
    float back[2048];
    double error = 0, sum = 0;
    dtype_from_f32(bytes, t, x, n);
    dtype_to_f32(back, bytes, t, n);
    for (int64_t i = 0; i < n; i++) {
        error += pow((double)back[i] - (double)x[i], 2);
        sum += pow((double)x[i], 2);
    }
    return sqrt(error / sum);
}

static void q4_k_is_close(void **state)
{
    (void)state;
    float x[2048];
    uint32_t seed = 1;
    for (int i = 0; i < 2048; i++) { /* the sum of twelve is about normal */
        double sum = -6;
        for (int k = 0; k < 12; k++) {
            seed = seed * 1664525u + 1013904223u;
            sum += (double)(seed >> 8) / (1 << 24);
        }
        x[i] = (float)sum * 0.03f;
    }
    double q8 = relative_error(DTYPE_Q8_0, x, 2048), q4 = relative_error(DTYPE_Q4_K, x, 2048);
    assert_true(q8 < 0.008);
    if (!(q4 < 0.075))
        fail_msg("Q4_K: %g", q4);
}

/* Nothing that is written reads as NaN, whatever came in, and extremes keep their size. */
static void extremes(void **state)
{
    (void)state;
    static const float values[] = { 0, -0.0f, 1e-30f, 65000, -65000, 1, INFINITY, NAN };
    for (size_t v = 0; v < sizeof values / sizeof *values; v++)
        for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
            unsigned char bytes[512];
            float x[256], back[256];
            if (types[i] != DTYPE_Q8_0 && types[i] != DTYPE_Q4_K)
                continue;
            for (int k = 0; k < 256; k++)
                x[k] = k % 3 ? 0 : values[v];
            dtype_from_f32(bytes, types[i], x, 256);
            dtype_to_f32(back, bytes, types[i], 256);
            for (int k = 0; k < 256 && isfinite(values[v]); k++)
                if (!(fabs((double)back[k] - (double)x[k]) <=
                      0.01 * fabs((double)values[v]) + 1e-7))
                    fail_msg("%s: %g became %g", dtype_name(types[i]), (double)x[k],
                             (double)back[k]);
        }
}

static void float8_of_torch(void **state)
{
    (void)state;
    struct npy want = vector("float8", "");
    static const enum dtype eight[] = { DTYPE_F8_E4M3, DTYPE_F8_E5M2 };
    unsigned char codes[256];
    float got[256];
    for (int i = 0; i < 256; i++)
        codes[i] = (unsigned char)i;
    for (int t = 0; t < 2; t++) {
        dtype_to_f32(got, codes, eight[t], 256);
        for (int i = 0; i < 256; i++) {
            float w = ((const float *)want.data)[256 * t + i];
            if (isnan(w) ? !isnan(got[i]) : memcmp(&w, &got[i], sizeof w))
                fail_msg("%s %d: %g, expected %g", dtype_name(eight[t]), i, (double)got[i],
                         (double)w);
        }
    }
    npy_free(&want);
}

static void sizes(void **state)
{
    (void)state;
    int64_t bytes;
    assert_true(dtype_bytes(DTYPE_Q4_K, 256, &bytes) && bytes == 144);
    assert_true(dtype_bytes(DTYPE_Q4_K, 257, &bytes) && bytes == 288);
    assert_true(dtype_bytes(DTYPE_F16, 3, &bytes) && bytes == 6);
    assert_false(dtype_bytes(DTYPE_F64, INT64_MAX / 4, &bytes));
    assert_int_equal(dtype_block(DTYPE_Q8_0), 32);
    assert_int_equal(dtype_block(DTYPE_I8), 1);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(values_of_the_reference),
    cmocka_unit_test(any_run),
    cmocka_unit_test(q8_0_is_written_as_the_reference_does),
    cmocka_unit_test(q4_k_is_close),
    cmocka_unit_test(extremes),
    cmocka_unit_test(float8_of_torch),
    cmocka_unit_test(sizes),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
