/* dmath.c - see dmath.h.
 *
 * Each function is the textbook one (Muller, "Elementary Functions", 2016): reduce the argument to
 * a short interval with a constant in several parts, sum a Taylor series there (its terms are
 * written as the plain fractions that they are), and put the result together so that the last
 * addition carries nearly all of the error. The logarithm is arranged as in Ng's fdlibm, log(1+f) =
 * f - (f*f/2 - s*(f*f/2 + R)), s = f/(2+f). pow carries its logarithm as an unevaluated sum of two
 * doubles (Dekker 1971).
 */
#include "base/dmath.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

static const double ln2_high = 0x1.62e42feep-1, ln2_low = 0x1.a39ef35793c76p-33;
static const double one_over_ln2 = 0x1.71547652b82fep+0;

/* An unevaluated sum: |low| is at most half an ulp of high. */
struct pair {
    double high, low;
};

static struct pair two_sum(double a, double b)
{
    double s = a + b, t = s - a;
    return (struct pair){ s, (a - (s - t)) + (b - t) };
}

/* a times b exactly, by Veltkamp's splitting; |a|, |b| below 2^990. */
static struct pair two_product(double a, double b)
{
    const double splitter = 0x1p27 + 1;
    double p = a * b;
    double a_big = splitter * a, b_big = splitter * b;
    double a1 = a_big - (a_big - a), b1 = b_big - (b_big - b);
    double a2 = a - a1, b2 = b - b1;
    return (struct pair){ p, ((a1 * b1 - p) + a1 * b2 + a2 * b1) + a2 * b2 };
}

static struct pair pair_add(struct pair a, struct pair b)
{
    struct pair s = two_sum(a.high, b.high);
    return two_sum(s.high, s.low + (a.low + b.low));
}

static struct pair pair_mul(struct pair a, struct pair b)
{
    struct pair p = two_product(a.high, b.high);
    return two_sum(p.high, p.low + (a.high * b.low + a.low * b.high));
}

static struct pair pair_div(struct pair a, struct pair b)
{
    double q = a.high / b.high;
    struct pair back = pair_mul(b, (struct pair){ q, 0 });
    struct pair rest = pair_add(a, (struct pair){ -back.high, -back.low });
    return two_sum(q, rest.high / b.high);
}

static uint64_t bits_of(double x)
{
    uint64_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static double from_bits(uint64_t u)
{
    double x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* x times 2^k, k in -1100 .. 1100, with one rounding where the result is subnormal. */
static double scale(double x, int k)
{
    if (k > 1000)
        return x * 0x1p1000 * from_bits((uint64_t)(1023 + k - 1000) << 52);
    if (k < -1000)
        return x * from_bits((uint64_t)(1023 + k + 1000) << 52) * 0x1p-1000;
    return x * from_bits((uint64_t)(1023 + k) << 52);
}

/* x = ret_m * 2^k with sqrt(1/2) <= m < sqrt(2); x positive and finite. Exact. */
static int split(double x, double *ret_m)
{
    int k = 0;
    if (x < 0x1p-1022) {
        x *= 0x1p54;
        k = -54;
    }
    uint64_t u = bits_of(x);
    k += (int)(u >> 52) - 1023;
    double m = from_bits((u & 0xfffffffffffffu) | (uint64_t)1023 << 52);
    if (m > 0x1.6a09e667f3bcdp+0) {
        m *= 0.5;
        k++;
    }
    *ret_m = m;
    return k;
}

/* exp(r) - 1 - r for |r| <= 0.36. */
static double exp_tail(double r)
{
    double p = 1.0 / 87178291200.0;
    p = 1.0 / 6227020800.0 + r * p;
    p = 1.0 / 479001600.0 + r * p;
    p = 1.0 / 39916800.0 + r * p;
    p = 1.0 / 3628800.0 + r * p;
    p = 1.0 / 362880.0 + r * p;
    p = 1.0 / 40320.0 + r * p;
    p = 1.0 / 5040.0 + r * p;
    p = 1.0 / 720.0 + r * p;
    p = 1.0 / 120.0 + r * p;
    p = 1.0 / 24.0 + r * p;
    p = 1.0 / 6.0 + r * p;
    p = 0.5 + r * p;
    return r * r * p;
}

/* exp(high + low), |high| below 800. */
static double exp_pair(double high, double low)
{
    double k = rint(high * one_over_ln2);
    double a = high - k * ln2_high; /* exact */
    double b = low - k * ln2_low;
    double r = a + b;
    double rest = (a - r) + b;
    double tail = exp_tail(r) + rest * (1 + r);
    struct pair s = two_sum(1, r);
    return scale(s.high + (s.low + tail), (int)k);
}

double dr_exp(double x)
{
    if (isnan(x))
        return x;
    if (x > 709.8)
        return (double)INFINITY;
    if (x < -745.2)
        return 0;
    return exp_pair(x, 0);
}

double dr_expm1(double x)
{
    if (isnan(x) || x == 0)
        return x;
    if (x > 709.8)
        return (double)INFINITY;
    if (x < -40)
        return -1;
    if (fabs(x) < 0.346)
        return x + exp_tail(x);
    double k = rint(x * one_over_ln2);
    double a = x - k * ln2_high, b = -k * ln2_low;
    double r = a + b;
    double tail = exp_tail(r) + ((a - r) + b) * (1 + r);
    if (k > 60)
        return scale(1 + (r + tail), (int)k);
    struct pair s = two_sum(1 - from_bits((uint64_t)(1023 - (int)k) << 52), r);
    return scale(s.high + (s.low + tail), (int)k);
}

/* k ln 2 + log(1 + f + c), f in sqrt(1/2)-1 .. sqrt(2)-1, c tiny. */
static double log_of(double f, double c, double k)
{
    double s = f / (2 + f), z = s * s;
    double r = 2.0 / 25;
    r = 2.0 / 23 + z * r;
    r = 2.0 / 21 + z * r;
    r = 2.0 / 19 + z * r;
    r = 2.0 / 17 + z * r;
    r = 2.0 / 15 + z * r;
    r = 2.0 / 13 + z * r;
    r = 2.0 / 11 + z * r;
    r = 2.0 / 9 + z * r;
    r = 2.0 / 7 + z * r;
    r = 2.0 / 5 + z * r;
    r = 2.0 / 3 + z * r;
    double half = 0.5 * f * f;
    return k * ln2_high - ((half - (s * (half + z * r) + (k * ln2_low + c))) - f);
}

double dr_log(double x)
{
    if (isnan(x) || x == (double)INFINITY)
        return x;
    if (x == 0)
        return -(double)INFINITY;
    if (x < 0)
        return (double)NAN;
    double m;
    int k = split(x, &m);
    return log_of(m - 1, 0, k);
}

double dr_log1p(double x)
{
    if (isnan(x) || x == (double)INFINITY || fabs(x) < 0x1p-54)
        return x;
    if (x == -1)
        return -(double)INFINITY;
    if (x < -1)
        return (double)NAN;
    if (x > -0.29 && x < 0.41)
        return log_of(x, 0, 0);
    struct pair u = two_sum(1, x);
    double m;
    int k = split(u.high, &m);
    return log_of(m - 1, u.low / u.high, k);
}

/* x - k pi/2 as a pair in about -pi/4 .. pi/4; returns k mod 4. |x| at most 2^32: k times each of
 * the first five parts (20 bits each) is exact. */
static int reduce(double x, struct pair *ret_r)
{
    static const double parts[] = { 0x1.921fap+0,  0x1.54442p-20, 0x1.a308cp-41,
                                    0x1.31318p-61, 0x1.8a2ep-81,  0x1.b839a252049c1p-104 };
    double k = rint(x * 0x1.45f306dc9c883p-1);
    struct pair r = { x, 0 };
    for (int i = 0; i < 6; i++)
        r = pair_add(r, (struct pair){ -k * parts[i], 0 });
    *ret_r = r;
    return (int)((int64_t)k & 3);
}

/* sin(r.high + r.low), |r| <= pi/4. */
static double sin_of(struct pair r)
{
    double x = r.high, z = x * x;
    double p = 1.0 / 355687428096000.0;
    p = -1.0 / 1307674368000.0 + z * p;
    p = 1.0 / 6227020800.0 + z * p;
    p = -1.0 / 39916800.0 + z * p;
    p = 1.0 / 362880.0 + z * p;
    p = -1.0 / 5040.0 + z * p;
    p = 1.0 / 120.0 + z * p;
    p = -1.0 / 6.0 + z * p;
    return x + (x * z * p + r.low * (1 - 0.5 * z));
}

static double cos_of(struct pair r)
{
    double x = r.high, z = x * x;
    double p = 1.0 / 20922789888000.0;
    p = -1.0 / 87178291200.0 + z * p;
    p = 1.0 / 479001600.0 + z * p;
    p = -1.0 / 3628800.0 + z * p;
    p = 1.0 / 40320.0 + z * p;
    p = -1.0 / 720.0 + z * p;
    p = 1.0 / 24.0 + z * p;
    double half = 0.5 * z, most = 1 - half;
    return most + (((1 - most) - half) + (z * z * p - x * r.low));
}

static double sin_turned(double x, int quarters)
{
    if (!(fabs(x) <= 0x1p32))
        return (double)NAN;
    struct pair r;
    int k = (reduce(x, &r) + quarters) & 3;
    double v = k & 1 ? cos_of(r) : sin_of(r);
    return k & 2 ? -v : v;
}

double dr_sin(double x)
{
    return fabs(x) < 0x1p-27 ? x : sin_turned(x, 0);
}

double dr_cos(double x)
{
    return sin_turned(x, 1);
}

/* log x with about 100 bits: 2 atanh((m-1)/(m+1)) + k ln 2, the series summed in pairs. */
static struct pair log_pair(double x)
{
    static const struct pair ln2[2] = { { 0x1.62e42feep-1, 0 },
                                        { 0x1.a39ef356p-33, 0x1.93c7673007e5fp-65 } };
    double m;
    double k = split(x, &m);
    struct pair s = pair_div((struct pair){ m - 1, 0 }, two_sum(m, 1));
    struct pair z = pair_mul(s, s), sum = { 0, 0 };
    for (int n = 33; n >= 1; n -= 2) {
        struct pair term = pair_div((struct pair){ 2, 0 }, (struct pair){ n, 0 });
        sum = pair_add(term, pair_mul(z, sum));
    }
    struct pair r = pair_mul(s, sum);
    r = pair_add((struct pair){ k * ln2[1].high, k * ln2[1].low }, r);
    return pair_add((struct pair){ k * ln2[0].high, 0 }, r);
}

/* 0: not an integer; 1: odd; 2: even. */
static int parity(double y)
{
    if (fabs(y) >= 0x1p53)
        return 2;
    if (floor(y) != y)
        return 0;
    return (int64_t)y & 1 ? 1 : 2;
}

/* The cases of annex F with a zero or an infinity in them; |x| given, x not 1, y neither 0 nor
 * NaN. */
static double pow_extreme(double x, double y)
{
    if (isinf(y))
        return (x < 1) == (y < 0) ? (double)INFINITY : 0;
    return (x == 0) == (y < 0) ? (double)INFINITY : 0;
}

double dr_pow(double x, double y)
{
    if (y == 0 || x == 1)
        return 1;
    if (isnan(x) || isnan(y))
        return (double)NAN;
    if (x == -1 && isinf(y))
        return 1;
    int kind = parity(y);
    double sign = signbit(x) && kind == 1 ? -1 : 1;
    double a = fabs(x);
    if (a == 0 || isinf(a) || isinf(y))
        return sign * pow_extreme(a, y);
    if (x < 0 && !kind)
        return (double)NAN;
    if (a == 1)
        return sign;
    struct pair l = log_pair(a);
    double rough = y * l.high;
    if (rough > 710)
        return sign * (double)INFINITY;
    if (rough < -746)
        return sign * 0;
    if (fabs(rough) < 0x1p-60)
        return sign;
    struct pair e = pair_mul(l, (struct pair){ y, 0 });
    return sign * exp_pair(e.high, e.low);
}

enum { ERF_TERMS = 16 };

static const struct {
    double centre, c[ERF_TERMS];
} erf_pieces[] = {
#define ERF(centre, ...) { centre, { __VA_ARGS__ } },
#include "base/erf.def"
#undef ERF
};

double dr_erf(double x)
{
    if (isnan(x))
        return x;
    double a = fabs(x);
    if (a >= 6)
        return x < 0 ? -1 : 1;
    if (a < 0.5) { /* 2/sqrt(pi) sum of (-1)^n x^(2n+1) / (n! (2n+1)) */
        double z = x * x;
        double p = -1.0 / 918086400.0;
        p = 1.0 / 76204800.0 + z * p;
        p = -1.0 / 6894720.0 + z * p;
        p = 1.0 / 685440.0 + z * p;
        p = -1.0 / 75600.0 + z * p;
        p = 1.0 / 9360.0 + z * p;
        p = -1.0 / 1320.0 + z * p;
        p = 1.0 / 216.0 + z * p;
        p = -1.0 / 42.0 + z * p;
        p = 1.0 / 10.0 + z * p;
        p = -1.0 / 3.0 + z * p;
        const double over = 0x1.06eba8214db69p-3; /* 2/sqrt(pi) - 1 */
        return x + x * (over + (1 + over) * (z * p));
    }
    int i = (int)((a - 0.5) * 2);
    double t = a - erf_pieces[i].centre, p = 0;
    for (int k = ERF_TERMS - 1; k > 0; k--)
        p = erf_pieces[i].c[k] + t * p;
    double v = erf_pieces[i].c[0] + t * p;
    return x < 0 ? -v : v;
}
