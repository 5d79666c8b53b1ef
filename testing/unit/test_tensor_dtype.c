/* test_tensor_dtype.c - conversions against values computed from the definition, for every code of
 * the small types. */
#include "testing/helpers/test.h"

#include <math.h>
#include <string.h>

#include "tensor/dtype.h"
#include "tensor/shape.h"

struct format {
    enum dtype dtype;
    int exponent, mantissa, bias;
    bool infinities;
};

static const struct format formats[] = {
    { DTYPE_F16, 5, 10, 15, true },
    { DTYPE_BF16, 8, 7, 127, true },
    { DTYPE_F8_E4M3, 4, 3, 7, false },
    { DTYPE_F8_E5M2, 5, 2, 15, true },
};

enum { FORMATS = sizeof formats / sizeof *formats };

/* (-1)^s 2^(e - bias) (1 + m / 2^M), by ldexp. */
static double meaning(const struct format *f, uint32_t code)
{
    int e = (int)(code >> f->mantissa) & ((1 << f->exponent) - 1);
    int m = (int)code & ((1 << f->mantissa) - 1);
    double sign = code >> (f->exponent + f->mantissa) ? -1 : 1;
    int top = (1 << f->exponent) - 1;
    if (e == top && f->infinities)
        return m ? (double)NAN : sign * (double)INFINITY;
    if (e == top && m == (1 << f->mantissa) - 1)
        return NAN;
    double unit = ldexp(1, -f->mantissa);
    return e ? sign * ldexp(1 + m * unit, e - f->bias) : sign * ldexp(m * unit, 1 - f->bias);
}

static uint32_t codes(const struct format *f)
{
    return 2u << (f->exponent + f->mantissa);
}

static float widen(const struct format *f, uint32_t code)
{
    unsigned char bytes[2] = { (unsigned char)code, (unsigned char)(code >> 8) };
    float v;
    dtype_to_f32(&v, bytes, f->dtype, 1);
    return v;
}

static uint32_t narrow(const struct format *f, float v)
{
    unsigned char bytes[2] = { 0, 0 };
    dtype_from_f32(bytes, f->dtype, &v, 1);
    return bytes[0] | (uint32_t)bytes[1] << 8;
}

static void every_code_means_its_value(void **state)
{
    (void)state;
    for (int i = 0; i < FORMATS; i++)
        for (uint32_t code = 0; code < codes(&formats[i]); code++) {
            double want = meaning(&formats[i], code);
            float got = widen(&formats[i], code);
            if (isnan(want) ? !isnan(got) : got != want || !signbit(got) != !signbit(want))
                fail_msg("%s %#x: %g, expected %g", dtype_name(formats[i].dtype), code, got, want);
        }
}

static void every_code_comes_back(void **state)
{
    (void)state;
    for (int i = 0; i < FORMATS; i++)
        for (uint32_t code = 0; code < codes(&formats[i]); code++) {
            float v = widen(&formats[i], code);
            uint32_t back = narrow(&formats[i], v);
            if (isnan(v) ? !isnan(widen(&formats[i], back)) : back != code)
                fail_msg("%s %#x: comes back as %#x", dtype_name(formats[i].dtype), code, back);
        }
}

/* Between two neighbours: below the middle down, above it up, the middle to the even code. */
static void rounds_to_nearest_even(void **state)
{
    (void)state;
    for (int i = 0; i < FORMATS; i++) {
        const struct format *f = &formats[i];
        for (uint32_t code = 0; code + 1 < codes(f) / 2; code++) {
            double low = meaning(f, code), high = meaning(f, code + 1);
            if (!isfinite(low) || !isfinite(high))
                continue;
            float middle = (float)((low + high) / 2);
            if ((double)middle != (low + high) / 2)
                continue; /* below the denormals of float */
            uint32_t even = code % 2 ? code + 1 : code, sign = codes(f) / 2;
            assert_int_equal(narrow(f, middle), even);
            assert_int_equal(narrow(f, -middle), even | sign);
            assert_int_equal(narrow(f, nextafterf(middle, 0)), code);
            assert_int_equal(narrow(f, nextafterf(middle, INFINITY)), code + 1);
        }
    }
}

static void overflow_and_specials(void **state)
{
    (void)state;
    const struct format *f16 = &formats[0], *e4m3 = &formats[2], *e5m2 = &formats[3];
    assert_int_equal(narrow(f16, 65519.996f), 0x7bff);
    assert_int_equal(narrow(f16, 65520.0f), 0x7c00);
    assert_int_equal(narrow(f16, -1e30f), 0xfc00);
    assert_int_equal(narrow(f16, 1e-30f), 0);
    assert_int_equal(narrow(f16, -0.0f), 0x8000);
    assert_int_equal(narrow(e4m3, 448), 0x7e);
    assert_int_equal(narrow(e4m3, 1e9f) & 0x7f, 0x7f);
    assert_int_equal(narrow(e4m3, INFINITY) & 0x7f, 0x7f);
    assert_int_equal(narrow(e5m2, 57344), 0x7b);
    assert_int_equal(narrow(e5m2, 1e9f), 0x7c);
    for (int i = 0; i < FORMATS; i++)
        assert_true(isnan(widen(&formats[i], narrow(&formats[i], NAN))));
}

static void wide_types_and_any_alignment(void **state)
{
    (void)state;
    unsigned char bytes[1 + 3 * 8];
    const double d[3] = { 1.5, -1e300, 0.1 };
    float f[3];
    memcpy(bytes + 1, d, sizeof d);
    dtype_to_f32(f, bytes + 1, DTYPE_F64, 3);
    assert_true(f[0] == 1.5f && f[1] == -INFINITY && f[2] == 0.1f);
    dtype_from_f32(bytes + 1, DTYPE_F64, f, 3);
    double back;
    memcpy(&back, bytes + 1 + 16, sizeof back);
    assert_true(back == (double)0.1f);
    float g[3];
    dtype_from_f32(bytes + 1, DTYPE_F32, f, 3);
    dtype_to_f32(g, bytes + 1, DTYPE_F32, 3);
    assert_memory_equal(f, g, sizeof f);
}

static void names_round_trip(void **state)
{
    (void)state;
    enum dtype t;
    for (int i = 0; i < DTYPE_COUNT; i++) {
        const char *name = dtype_name((enum dtype)i);
        assert_true(dtype_from_name(name, strlen(name), &t));
        assert_int_equal(t, i);
        assert_true(dtype_size(t) >= 1 && (int64_t)dtype_size(t) <= 8 * dtype_block(t));
    }
    assert_false(dtype_from_name("F16x", 4, &t));
    assert_false(dtype_from_name("F1", 2, &t));
    assert_false(dtype_from_name("", 0, &t));
    assert_true(dtype_is_real(DTYPE_F8_E5M2));
    assert_false(dtype_is_real(DTYPE_I64));
}

static void shapes(void **state)
{
    (void)state;
    char text[64], tiny[5];
    int64_t count;
    struct shape s = SHAPE4(1280, 320, 3, 3);
    assert_true(shape_count(&s, &count));
    assert_int_equal(count, 1280 * 320 * 9);
    assert_string_equal(shape_text(&s, text, sizeof text), "[1280, 320, 3, 3]");
    assert_string_equal(shape_text(&s, tiny, sizeof tiny), "[128");
    struct shape scalar = { .n = 0 }, huge = SHAPE3(INT64_C(1) << 31, INT64_C(1) << 31, 4);
    assert_true(shape_count(&scalar, &count));
    assert_int_equal(count, 1);
    assert_string_equal(shape_text(&scalar, text, sizeof text), "[]");
    assert_false(shape_count(&huge, &count));
    assert_false(shape_count(&SHAPE2(3, -1), &count));
    assert_true(shape_equal(&s, &SHAPE4(1280, 320, 3, 3)));
    assert_false(shape_equal(&s, &SHAPE3(1280, 320, 3)));
    assert_false(shape_equal(&s, &SHAPE4(1280, 320, 3, 1)));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(every_code_means_its_value),
    cmocka_unit_test(every_code_comes_back),
    cmocka_unit_test(rounds_to_nearest_even),
    cmocka_unit_test(overflow_and_specials),
    cmocka_unit_test(wide_types_and_any_alignment),
    cmocka_unit_test(names_round_trip),
    cmocka_unit_test(shapes),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
