/* interval.c - classifier-free guidance only in a part of the run (Kynkäänniemi et al. 2024, arXiv
 * 2404.07724): outside of it the conditional prediction is taken as it is, and the unconditional
 * one is not computed, which halves the cost of a step. Reference: diffusers
 * ClassifierFreeGuidance(start, stop). */
#include "inference/guiders/guiders.h"

static void scale(const struct guider *g, const struct sched_ask *ask, double *io_scale)
{
    if (!guider_acts(g, ask))
        *io_scale = 1;
}

const struct guider_info guider_interval = {
    .name = "interval",
    .title = "guidance in a part of the run only",
    .paper = "arXiv 2404.07724",
    .diffusers = "ClassifierFreeGuidance",
    .scale = scale,
};
