/* seg.c - smoothed energy guidance (Hong 2024, arXiv 2408.00760): away from a prediction whose
 * queries, in some transformers, are blurred over the picture; without limit, as the paper
 * recommends, so that each is the mean of all. (The class SmoothedEnergyGuidance of diffusers
 * 0.42.1 takes the mean for a finite blur and a wide kernel for an infinite one: its two cases are
 * exchanged.) */
#include "inference/guiders/guiders.h"

enum { SCALE };

static const struct guider_option options[] = {
    [SCALE] = { "scale", 0, 1000, 3, false, "multiple of the difference that is added" },
    { .name = NULL },
};

static double add(const struct guider *g, const struct sched_ask *ask)
{
    (void)ask;
    return guider_value(g, SCALE);
}

const struct guider_info guider_seg = {
    .name = "seg",
    .title = "smoothed energy guidance",
    .paper = "arXiv 2408.00760",
    .options = options,
    .text = "layers",
    .text_help = "transformers with ; between, as for pag",
    .text_dflt = "mid",
    .row = true,
    .self = SELF_MEAN,
    .add = add,
};
