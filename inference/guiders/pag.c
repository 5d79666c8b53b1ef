/* pag.c - perturbed-attention guidance (Ahn et al. 2024, arXiv 2403.17377): away from a prediction
 * whose self-attention, in some transformers, lets every token attend to itself alone. Reference:
 * diffusers StableDiffusionXLPAGPipeline; `adaptive` is its pag_adaptive_scale. */
#include "inference/guiders/guiders.h"

enum { SCALE, ADAPTIVE };

static const struct guider_option options[] = {
    [SCALE] = { "scale", 0, 1000, 3, false, "multiple of the difference that is added" },
    [ADAPTIVE] = { "adaptive", 0, 1, 0, false,
                   "what the scale loses for each timestep below 1000" },
    { .name = NULL },
};

static double add(const struct guider *g, const struct sched_ask *ask)
{
    double scale = guider_value(g, SCALE) - guider_value(g, ADAPTIVE) * (1000 - ask->timestep);
    return scale > 0 ? scale : 0;
}

const struct guider_info guider_pag = {
    .name = "pag",
    .title = "perturbed-attention guidance",
    .paper = "arXiv 2403.17377",
    .diffusers = "StableDiffusionXLPAGPipeline",
    .options = options,
    .text = "layers",
    .text_help = "transformers with ; between: mid, down_blocks.2, up_blocks.0.attentions.1",
    .text_dflt = "mid",
    .row = true,
    .self = SELF_VALUES,
    .add = add,
};
