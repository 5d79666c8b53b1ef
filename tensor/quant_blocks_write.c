/* quant_blocks_write.c - rounding to the quantised types of GGUF, see quant_blocks.h.
 *
 * Q8_0 is the reference's: d = max |x| / 127, numbers to the nearest, halves away from zero. Q4_K
 * stores x as scale * q - minimum, q from 0 to 15, in groups of 32 whose scales and minima are six
 * bits times a half-precision number. For each group several grids are tried; for the numbers that
 * a grid gives, the scale and the minimum with the least squared error are the solution of a linear
 * system of two equations. When all eight are rounded to six bits, their neighbours are tried too.
 * */
#include "tensor/quant_blocks.h"

#include <math.h>
#include <string.h>

enum {
    GROUP = 32,
    GROUPS = 8,
    LARGEST = 15, /* number of four bits */
    SIX_BITS = 63,
    GRIDS = 21, /* tried for a group */
    BLOCK_Q4_K = 144,
    BLOCK_Q8_0 = 34,
};

static void put_half(uint8_t *p, float f)
{
    dtype_from_f32(p, DTYPE_F16, &f, 1);
}

static float through_half(float f)
{
    uint8_t bytes[2];
    put_half(bytes, f);
    dtype_to_f32(&f, bytes, DTYPE_F16, 1);
    return f;
}

static float magnitude(float x)
{
    return x < 0 ? -x : x;
}

/* ---- Q8_0 ---- */

static void write_q8_0(uint8_t *b, const float x[GROUP])
{
    float most = 0;
    for (int i = 0; i < GROUP; i++)
        most = magnitude(x[i]) > most ? magnitude(x[i]) : most;
    float d = most / 127, up = d > 0 ? 1 / d : 0;
    put_half(b, d);
    for (int i = 0; i < GROUP; i++) {
        float q = x[i] * up, a = magnitude(q);
        int n = a < 127 ? (int)a : 127; /* also of infinities and NaN */
        n += n < 127 && a - (float)n >= 0.5f;
        b[2 + i] = (uint8_t)(q < 0 ? -n : n);
    }
}

/* ---- Q4_K ---- */

struct grid {
    float scale, minimum; /* x = scale * q - minimum, both from 0 */
};

static int number(float x, const struct grid *g)
{
    float q = g->scale > 0 ? (x + g->minimum) / g->scale + 0.5f : 0;
    return !(q > 0) ? 0 : q >= LARGEST + 1 ? LARGEST : (int)q;
}

static double squared_error(const float x[GROUP], const struct grid *g)
{
    double sum = 0;
    for (int i = 0; i < GROUP; i++) {
        double e = (double)g->scale * number(x[i], g) - (double)g->minimum - (double)x[i];
        sum += e * e;
    }
    return sum;
}

/* The best scale and minimum for the numbers that `g` gives. */
static struct grid refit(const float x[GROUP], const struct grid *g)
{
    double n = GROUP, sq = 0, sqq = 0, sx = 0, sxq = 0;
    for (int i = 0; i < GROUP; i++) {
        double q = number(x[i], g);
        sq += q;
        sqq += q * q;
        sx += (double)x[i];
        sxq += (double)x[i] * q;
    }
    double det = n * sqq - sq * sq;
    double scale = det > 0 ? (n * sxq - sq * sx) / det : 0;
    double minimum = det > 0 ? (sq * scale - sx) / n : 0;
    if (minimum < 0) {
        minimum = 0;
        scale = sqq > 0 ? sxq / sqq : 0;
    }
    if (!(scale > 0))
        return *g;
    return (struct grid){ (float)scale, (float)minimum };
}

/* The grid of least error: ranges a little narrower and wider than the group's own are tried. */
static struct grid best_grid(const float x[GROUP])
{
    float low = 0, high = x[0];
    for (int i = 0; i < GROUP; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    struct grid best = { (high > low ? high - low : 0) / LARGEST, -low };
    double least = squared_error(x, &best);
    for (int k = 0; k < GRIDS && high > low; k++) {
        float steps = (float)LARGEST - 1 + 0.1f * (float)k;
        struct grid g = { (high - low) / steps, -low };
        for (int again = 0; again < 2; again++) {
            g = refit(x, &g);
            double error = squared_error(x, &g);
            if (error < least) {
                least = error;
                best = g;
            }
        }
    }
    return best;
}

static int six_bits(float x, float d)
{
    float q = d > 0 ? x / d + 0.5f : 0;
    return !(q > 0) ? 0 : q >= SIX_BITS + 1 ? SIX_BITS : (int)q;
}

/* The six-bit scale and minimum of least error around the nearest ones. */
static void round_grid(const float x[GROUP], const struct grid *wanted, float d, float dmin,
                       int *ret_scale, int *ret_minimum)
{
    int scale = six_bits(wanted->scale, d), minimum = six_bits(wanted->minimum, dmin);
    double least = INFINITY;
    for (int s = scale - 1; s <= scale + 1; s++)
        for (int m = minimum - 1; m <= minimum + 1; m++) {
            if (s < 0 || m < 0 || s > SIX_BITS || m > SIX_BITS)
                continue;
            struct grid g = { d * (float)s, dmin * (float)m };
            double error = squared_error(x, &g);
            if (error < least) {
                least = error;
                *ret_scale = s;
                *ret_minimum = m;
            }
        }
}

/* The layout that scale_and_minimum of quant_blocks.c reads. */
static void put_six_bits(uint8_t s[12], int group, int scale, int minimum)
{
    if (group < 4) {
        s[group] = (uint8_t)(s[group] | scale);
        s[group + 4] = (uint8_t)(s[group + 4] | minimum);
        return;
    }
    s[group + 4] = (uint8_t)((scale & 15) | (minimum & 15) << 4);
    s[group - 4] = (uint8_t)(s[group - 4] | scale >> 4 << 6);
    s[group] = (uint8_t)(s[group] | minimum >> 4 << 6);
}

static void write_q4_k(uint8_t *b, const float x[GROUPS * GROUP])
{
    struct grid wanted[GROUPS];
    float scale = 0, minimum = 0;
    memset(b, 0, BLOCK_Q4_K);
    for (int g = 0; g < GROUPS; g++) {
        wanted[g] = best_grid(x + GROUP * g);
        scale = wanted[g].scale > scale ? wanted[g].scale : scale;
        minimum = wanted[g].minimum > minimum ? wanted[g].minimum : minimum;
    }
    float d = through_half(scale / SIX_BITS), dmin = through_half(minimum / SIX_BITS);
    put_half(b, d);
    put_half(b + 2, dmin);
    for (int g = 0; g < GROUPS; g++) {
        int s = 0, m = 0;
        const float *from = x + GROUP * g;
        round_grid(from, &wanted[g], d, dmin, &s, &m);
        put_six_bits(b + 4, g, s, m);
        struct grid rounded = { d * (float)s, dmin * (float)m };
        for (int i = 0; i < GROUP; i++) {
            uint8_t *to = b + 16 + GROUP * (g / 2) + i;
            *to = (uint8_t)(*to | number(from[i], &rounded) << (4 * (g % 2)));
        }
    }
}

void blocks_from_f32(void *dst, enum dtype t, const float *src, int64_t n)
{
    uint8_t *to = dst;
    if (t == DTYPE_Q8_0)
        for (int64_t i = 0; i < n; i += GROUP, to += BLOCK_Q8_0)
            write_q8_0(to, src + i);
    else if (t == DTYPE_Q4_K)
        for (int64_t i = 0; i < n; i += GROUPS * GROUP, to += BLOCK_Q4_K)
            write_q4_k(to, src + i);
}
