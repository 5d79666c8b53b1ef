/* apg.c - adaptive projected guidance (Sadat et al. 2024, arXiv 2410.02416, algorithm 1): the
 * difference of the predictions has a momentum, is at most `norm` long, and its part along the
 * conditional prediction, which oversaturates, counts `eta`. Defaults are the paper's for SDXL.
 * Reference: diffusers AdaptiveProjectedGuidance, which works on what the model predicts, as this
 * does; the paper works on the clean picture. */
#include <math.h>

#include "inference/guiders/arithmetic.h"
#include "inference/guiders/guiders.h"

enum { ETA, MOMENTUM, NORM };

static const struct guider_option options[] = {
    [ETA] = { "eta", 0, 10, 0, false, "factor of the part along the conditional prediction" },
    [MOMENTUM] = { "momentum", -1, 1, -0.5, false, "factor of earlier differences" },
    [NORM] = { "norm", 0, 1e6, 15, false, "greatest length of the difference; 0: any" },
    { .name = NULL },
};

static void combine(const struct guider *g, const struct guider_at *at, float *ret)
{
    double eta = guider_value(g, ETA), norm = guider_value(g, NORM), factor = 1;
    float *d = at->next;
    for (size_t i = 0; i < at->n; i++)
        d[i] = (float)((double)at->positive[i] - at->negative[i] +
                       guider_value(g, MOMENTUM) * at->state[i]);
    double length = sqrt(guider_dot(d, d, at->n));
    if (norm > 0 && length > norm)
        factor = norm / length;
    double c = guider_dot(at->positive, at->positive, at->n);
    double along = c > 0 ? factor * guider_dot(d, at->positive, at->n) / c : 0;
    for (size_t i = 0; i < at->n; i++) {
        double parallel = along * at->positive[i];
        ret[i] = (float)(at->negative[i] + at->scale * (factor * d[i] - parallel + eta * parallel));
    }
}

const struct guider_info guider_apg = {
    .name = "apg",
    .title = "adaptive projected guidance",
    .paper = "arXiv 2410.02416",
    .diffusers = "AdaptiveProjectedGuidance",
    .options = options,
    .alone = true,
    .vectors = 1,
    .combine = combine,
};
