/* Reproducible math against the C library's 80-bit functions, and its own bits pinned. */
#include "testing/helpers/test.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/dmath.h"

enum { POINTS = 300000 };

static uint64_t random_state;

static double uniform(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (double)(random_state >> 11) * 0x1p-53;
}

static double ulp(double x)
{
    x = fabs(x);
    return x < DBL_MIN ? 0x1p-1074 : nextafter(x, INFINITY) - x;
}

static const struct range {
    const char *name;
    double (*ours)(double);
    long double (*theirs)(long double);
    double from, to, ulps;
} ranges[] = {
    { "exp", dr_exp, expl, -700, 700, 1 },   { "exp", dr_exp, expl, -2, 2, 1 },
    { "expm1", dr_expm1, expm1l, -5, 5, 1 }, { "expm1", dr_expm1, expm1l, -0.5, 0.5, 1 },
    { "log", dr_log, logl, 1e-9, 3, 1 },     { "log", dr_log, logl, 1e-300, 1e9, 1 },
    { "log", dr_log, logl, 0.7, 1.5, 1 },    { "log1p", dr_log1p, log1pl, -1 + 1e-9, 1, 1 },
    { "log1p", dr_log1p, log1pl, 0, 50, 1 }, { "sin", dr_sin, sinl, -7, 7, 1 },
    { "sin", dr_sin, sinl, -4e9, 4e9, 1 },   { "cos", dr_cos, cosl, -7, 7, 1 },
    { "cos", dr_cos, cosl, -4e9, 4e9, 1 },   { "erf", dr_erf, erfl, -6.5, 6.5, 1.5 },
    { "erf", dr_erf, erfl, -1, 1, 1.5 },
};

static void within_an_ulp_of_libm(void **state)
{
    (void)state;
    random_state = 88172645463325252u;
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        const struct range *t = &ranges[i];
        for (int k = 0; k < POINTS; k++) {
            double x = t->from + (t->to - t->from) * uniform();
            long double exact = t->theirs(x);
            double ours = t->ours(x);
            if (!(fabsl(ours - exact) <= t->ulps * ulp((double)exact)))
                fail_msg("%s(%.17g) = %.17g, expected %.17Lg", t->name, x, ours, exact);
            float a = (float)ours, b = (float)exact;
            if (a != b && nextafterf(a, b) != b)
                fail_msg("%s(%.17g) as float: %.9g, expected %.9g", t->name, x, a, b);
        }
    }
}

static void pow_within_an_ulp(void **state)
{
    (void)state;
    random_state = 2463534242u;
    for (int k = 0; k < POINTS; k++) {
        double x = exp(20 * (uniform() - 0.5)), y = 100 * (uniform() - 0.5);
        long double exact = powl(x, y);
        if (exact < DBL_MIN || exact > DBL_MAX)
            continue;
        if (!(fabsl(dr_pow(x, y) - exact) <= ulp((double)exact)))
            fail_msg("pow(%.17g, %.17g) = %.17g, expected %.17Lg", x, y, dr_pow(x, y), exact);
    }
}

static const double special[] = { 0.0,       -0.0,        1,     -1,     2,      -2,
                                  0.5,       -0.5,        3,     -3,     1.5,    INFINITY,
                                  -INFINITY, NAN,         1e300, -1e300, 5e-324, 1e-310,
                                  0x1p53,    -0x1p53 + 1, 710,   -746,   0x1p-30 };

enum { SPECIAL = sizeof special / sizeof *special };

/* Equal in value and sign, both NaN, or an ulp apart. */
static bool same(double a, double b)
{
    if (isnan(a) || isnan(b))
        return isnan(a) && isnan(b);
    if (a == b)
        return signbit(a) == signbit(b);
    return isfinite(a) && isfinite(b) && fabs(a - b) <= 2 * ulp(a);
}

static void special_values(void **state)
{
    (void)state;
    static double (*const ours[])(double) = { dr_exp, dr_expm1, dr_log, dr_log1p, dr_erf };
    static double (*const theirs[])(double) = { exp, expm1, log, log1p, erf };
    for (int i = 0; i < SPECIAL; i++) {
        double x = special[i];
        for (size_t k = 0; k < sizeof ours / sizeof *ours; k++) {
            if (!same(ours[k](x), theirs[k](x)))
                fail_msg("function %zu of %g: %g, expected %g", k, x, ours[k](x), theirs[k](x));
        }
        for (int j = 0; j < SPECIAL; j++) {
            double y = special[j];
            if (!same(dr_pow(x, y), pow(x, y)))
                fail_msg("pow(%g, %g): %g, expected %g", x, y, dr_pow(x, y), pow(x, y));
        }
        if (fabs(x) < 1e9) {
            assert_true(same(dr_sin(x), sin(x)));
            assert_true(same(dr_cos(x), cos(x)));
        }
    }
    assert_true(isnan(dr_sin(INFINITY)) && isnan(dr_cos(1e300)) && isnan(dr_sin(NAN)));
}

/* The whole point: a digest of many results, the same from every compiler and machine. */
static void bits_are_pinned(void **state)
{
    (void)state;
    random_state = 1;
    uint64_t digest = 14695981039346656037u;
    for (int k = 0; k < 20000; k++) {
        double x = 40 * (uniform() - 0.5), y = 8 * uniform();
        double results[] = { dr_exp(x), dr_expm1(x), dr_log(y),     dr_log1p(y),
                             dr_sin(x), dr_cos(x),   dr_erf(x / 5), dr_pow(y, x) };
        for (size_t i = 0; i < sizeof results / sizeof *results; i++) {
            uint64_t u;
            memcpy(&u, &results[i], sizeof u);
            digest = (digest ^ u) * 1099511628211u;
        }
    }
    if (digest != 0x14e1ba5be0e1b7b7u)
        fail_msg("digest 0x%016llx", (unsigned long long)digest);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(within_an_ulp_of_libm),
    cmocka_unit_test(pow_within_an_ulp),
    cmocka_unit_test(special_values),
    cmocka_unit_test(bits_are_pinned),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
