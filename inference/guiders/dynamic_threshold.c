/* dynamic_threshold.c - dynamic thresholding for latents, "CFG scale fix": the clean picture of the
 * given scale is squeezed, channel by channel and around its mean, into the range that a lower
 * scale, `mimic_scale`, has. The rule is mcmonkey's sd-dynamic-thresholding (DynThresh.dynthresh)
 * with its defaults: separate channels, start at the mean, variability AD, constant modes.
 *
 * The percentile is torch.quantile's: between two neighbours of the sorted values by a straight
 * line. */
#include <math.h>
#include <string.h>

#include "inference/guiders/clean.h"

enum { MIMIC_SCALE, PERCENTILE, PHI };

static const struct guider_option options[] = {
    [MIMIC_SCALE] = { "mimic_scale", 0, 1000, 7, false, "the scale whose range is kept" },
    [PERCENTILE] = { "threshold_percentile", 0, 1, 1, false,
                     "share of the values that decides how far they reach" },
    [PHI] = { "interpolate_phi", 0, 1, 1, false, "share of the result, the rest is unchanged" },
    { .name = NULL },
};

static void swap(float *a, float *b)
{
    float t = *a;
    *a = *b;
    *b = t;
}

/* v with its k-th smallest value at v[k], none greater before it and none smaller after it. */
static void select_nth(float *v, size_t n, size_t k)
{
    size_t lo = 0, hi = n - 1;
    while (lo < hi) {
        float pivot = v[lo + (hi - lo) / 2];
        size_t i = lo, j = hi;
        for (;;) {
            while (v[i] < pivot)
                i++;
            while (pivot < v[j])
                j--;
            if (i >= j)
                break;
            swap(&v[i++], &v[j--]);
        }
        if (k <= j)
            hi = j;
        else
            lo = j + 1;
    }
}

static double quantile(float *v, size_t n, double q)
{
    double at = q * (double)(n - 1);
    size_t k = (size_t)at;
    select_nth(v, n, k);
    double low = v[k], next = low;
    for (size_t i = k + 1; i < n; i++)
        next = i == k + 1 || v[i] < next ? v[i] : next;
    return low + (at - (double)k) * (next - low);
}

struct channel {
    const struct guider_at *at;
    size_t first, n;
    double mimic_scale;
};

/* The clean value at pixel i, guided by a scale. */
static double guided(const struct channel *c, double scale, size_t i)
{
    double u = guider_clean(c->at, c->at->negative, c->first + i);
    return u + scale * (guider_clean(c->at, c->at->positive, c->first + i) - u);
}

static double mean(const struct channel *c, double scale)
{
    double sum = 0;
    for (size_t i = 0; i < c->n; i++)
        sum += guided(c, scale, i);
    return sum / (double)c->n;
}

static void squeeze(const struct guider *g, const struct channel *c, float *ret)
{
    const struct guider_at *at = c->at;
    double phi = guider_value(g, PHI), scale = at->scale, mimic = 0;
    double mean_mimic = mean(c, c->mimic_scale), mean_own = mean(c, scale);
    bool finite = isfinite(mean_own);
    for (size_t i = 0; i < c->n; i++) {
        double m = fabs(guided(c, c->mimic_scale, i) - mean_mimic);
        mimic = m > mimic ? m : mimic;
        at->work[i] = (float)fabs(guided(c, scale, i) - mean_own);
        finite &= isfinite(at->work[i]) != 0;
    }
    double own = finite ? quantile(at->work, c->n, guider_value(g, PERCENTILE)) : NAN;
    double most = own > mimic ? own : mimic;
    for (size_t i = 0; i < c->n; i++) {
        double full = guided(c, scale, i), v = full - mean_own;
        v = v < -most ? -most : v > most ? most : v;
        double result = (most > 0 ? v / most * mimic : 0) + mean_own;
        if (!finite)
            result = NAN;
        size_t k = c->first + i;
        ret[k] = guider_predict(at, result * phi + full * (1 - phi), at->positive[k], k);
    }
}

static void combine(const struct guider *g, const struct guider_at *at, float *ret)
{
    size_t pixels = at->n / (size_t)at->channels;
    for (size_t first = 0; first < at->n; first += pixels) {
        struct channel c = { at, first, pixels, guider_value(g, MIMIC_SCALE) };
        squeeze(g, &c, ret);
    }
}

const struct guider_info guider_dynamic_threshold = {
    .name = "dynamic_threshold",
    .title = "dynamic thresholding",
    .paper = "mcmonkey's sd-dynamic-thresholding",
    .options = options,
    .alone = true,
    .combine = combine,
};
