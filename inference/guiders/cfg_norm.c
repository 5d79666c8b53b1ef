/* cfg_norm.c - guidance without growth: at each pixel the guided clean picture is drawn back to the
 * length, over its channels, of the conditional one where it is longer. The rule is that of
 * ComfyUI's node CFGNorm (comfy_extras/nodes_cfg.py). */
#include <math.h>

#include "inference/guiders/clean.h"

enum { STRENGTH };

static const struct guider_option options[] = {
    [STRENGTH] = { "strength", 0, 100, 1, false, "factor of the result" },
    { .name = NULL },
};

static void after(const struct guider *g, const struct guider_at *at, float *io)
{
    size_t pixels = at->n / (size_t)at->channels;
    for (size_t p = 0; p < pixels; p++) {
        double own = 0, guided = 0;
        for (size_t i = p; i < at->n; i += pixels) {
            double c = guider_clean(at, at->positive, i), v = guider_clean(at, io, i);
            own += c * c;
            guided += v * v;
        }
        double factor = sqrt(own) / (sqrt(guided) + 1e-8);
        factor = (factor < 1 ? factor : 1) * guider_value(g, STRENGTH);
        for (size_t i = p; i < at->n; i += pixels)
            io[i] = guider_predict(at, factor * guider_clean(at, io, i), io[i], i);
    }
}

const struct guider_info guider_cfg_norm = {
    .name = "cfg_norm",
    .title = "guidance that keeps each pixel's length",
    .paper = "ComfyUI's CFGNorm",
    .options = options,
    .after = after,
};
