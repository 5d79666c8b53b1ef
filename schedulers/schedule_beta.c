/* schedule_beta.c - quantiles of the beta distribution.
 *
 * The regularised incomplete beta function by its continued fraction (DLMF 8.17.22, evaluated by
 * Lentz's method), the logarithm of the gamma function by Lanczos' approximation (g 7, 9 terms),
 * and bisection: some 60 evaluations for each of a run's levels, of which the last digits are
 * those of scipy.stats.beta.ppf to 1e-12.
 */
#include <math.h>

#include "base/dmath.h"
#include "schedulers/schedule_impl.h"

static const double PI = 3.14159265358979323846;

static double log_gamma(double x)
{
    static const double term[] = { 0.99999999999980993,  676.5203681218851,
                                   -1259.1392167224028,  771.32342877765313,
                                   -176.61502916214059,  12.507343278686905,
                                   -0.13857109526572012, 9.9843695780195716e-6,
                                   1.5056327351493116e-7 };
    double sum = term[0], t = x + 6.5;
    for (int i = 1; i < 9; i++)
        sum += term[i] / (x - 1 + i);
    return 0.5 * dr_log(2 * PI) + (x - 0.5) * dr_log(t) - t + dr_log(sum);
}

static double away_from_zero(double x)
{
    return fabs(x) < 1e-300 ? 1e-300 : x;
}

static double fraction(double x, double a, double b)
{
    double c = 1, d = 1 / away_from_zero(1 - (a + b) * x / (a + 1)), h = d;
    for (int m = 1; m < 300; m++) {
        double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        d = 1 / away_from_zero(1 + even * d);
        c = away_from_zero(1 + even / c);
        h *= d * c;
        double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        d = 1 / away_from_zero(1 + odd * d);
        c = away_from_zero(1 + odd / c);
        h *= d * c;
        if (fabs(d * c - 1) < 1e-15)
            break;
    }
    return h;
}

/* I_x(a, b); front: a constant of the two. */
static double incomplete(double x, double a, double b, double front)
{
    double scale = dr_exp(front + a * dr_log(x) + b * dr_log1p(-x));
    return x < (a + 1) / (a + b + 2) ? scale * fraction(x, a, b) / a
                                     : 1 - scale * fraction(1 - x, b, a) / b;
}

double schedule_beta_quantile(double p, double a, double b)
{
    double low = 0, high = 1;
    double front = log_gamma(a + b) - log_gamma(a) - log_gamma(b);
    if (!(p > 0) || p >= 1)
        return p >= 1;
    for (int i = 0; i < 64 && high - low > 1e-16 * high; i++) {
        double middle = low + (high - low) / 2;
        if (incomplete(middle, a, b, front) < p)
            low = middle;
        else
            high = middle;
    }
    return low + (high - low) / 2;
}
