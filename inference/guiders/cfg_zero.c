/* cfg_zero.c - CFG-Zero* (Fan et al. 2025, arXiv 2503.18886): the unconditional prediction is
 * scaled by the factor that brings it closest to the conditional one, s = <c, u> / |u|^2, before
 * the formula; and the predictions of the first steps are zero, where that is asked for. Reference:
 * diffusers ClassifierFreeZeroStarGuidance, whose zero_init_steps is 1: right for models that
 * predict a velocity, a loss with those that predict noise, so that here it is 0 unless given. */
#include <string.h>

#include "inference/guiders/arithmetic.h"
#include "inference/guiders/guiders.h"

enum { ZERO_INIT_STEPS };

static const struct guider_option options[] = {
    [ZERO_INIT_STEPS] = { "zero_init_steps", 0, 1000, 0, true,
                          "so many steps at the beginning predict zero" },
    { .name = NULL },
};

static void negative(const struct guider *g, const struct guider_at *at, float *io)
{
    (void)g;
    double factor = guider_dot(at->positive, io, at->n) / (guider_dot(io, io, at->n) + 1e-8);
    for (size_t i = 0; i < at->n; i++)
        io[i] = (float)(factor * io[i]);
}

static void after(const struct guider *g, const struct guider_at *at, float *io)
{
    if (at->ask->step < (int)guider_value(g, ZERO_INIT_STEPS))
        memset(io, 0, at->n * sizeof *io);
}

const struct guider_info guider_cfg_zero = {
    .name = "cfg_zero",
    .title = "CFG-Zero*",
    .paper = "arXiv 2503.18886",
    .diffusers = "ClassifierFreeZeroStarGuidance",
    .options = options,
    .negative = negative,
    .after = after,
};
