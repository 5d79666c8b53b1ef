/* freeu.c - FreeU (Si et al. 2023, arXiv 2309.11497): in the first two levels of the way up the
 * first half of the channels that come up counts more, and the lowest frequencies of the skips
 * less. It changes the network of every row and costs no row of its own. Reference: diffusers
 * enable_freeu. Defaults are those that its authors name for SDXL. */
#include "inference/guiders/guiders.h"

enum { B1, B2, S1, S2 };

static const struct guider_option options[] = {
    [B1] = { "b1", 0, 10, 1.3, false, "factor of the channels, first level up (SD 1: 1.5)" },
    [B2] = { "b2", 0, 10, 1.4, false, "second level (SD 1: 1.6)" },
    [S1] = { "s1", 0, 10, 0.9, false, "factor of the skips' lowest frequencies, first level" },
    [S2] = { "s2", 0, 10, 0.2, false, "second level" },
    { .name = NULL },
};

static void freeu(const struct guider *g, struct unet_freeu *ret)
{
    *ret = (struct unet_freeu){ .on = true,
                                .backbone = { guider_value(g, B1), guider_value(g, B2) },
                                .skip = { guider_value(g, S1), guider_value(g, S2) } };
}

const struct guider_info guider_freeu = {
    .name = "freeu",
    .title = "FreeU",
    .paper = "arXiv 2309.11497",
    .diffusers = "enable_freeu",
    .options = options,
    .freeu = freeu,
};
