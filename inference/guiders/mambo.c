/* mambo.c - magnitude-aware guidance (MAMBO-G, arXiv 2508.03442): the further the two predictions
 * are apart, measured by the unconditional one's length, the smaller the scale: 1 + (scale - 1)
 * exp(-alpha |c - u| / |u|). Reference: diffusers MagnitudeAwareGuidance. */
#include <math.h>

#include "base/dmath.h"
#include "inference/guiders/arithmetic.h"
#include "inference/guiders/guiders.h"

enum { ALPHA };

static const struct guider_option options[] = {
    [ALPHA] = { "alpha", 0, 100, 8, false, "how fast the scale falls with the distance" },
    { .name = NULL },
};

static void combine(const struct guider *g, const struct guider_at *at, float *ret)
{
    double u = guider_dot(at->negative, at->negative, at->n);
    double d = guider_distance(at->positive, at->negative, at->n);
    double fall = u > 0 ? dr_exp(-guider_value(g, ALPHA) * sqrt(d / u)) : 0;
    double scale = 1 + (at->scale - 1) * fall;
    for (size_t i = 0; i < at->n; i++)
        ret[i] = (float)(at->negative[i] + scale * ((double)at->positive[i] - at->negative[i]));
}

const struct guider_info guider_mambo = {
    .name = "mambo",
    .title = "magnitude-aware guidance",
    .paper = "arXiv 2508.03442",
    .diffusers = "MagnitudeAwareGuidance",
    .options = options,
    .alone = true,
    .combine = combine,
};
