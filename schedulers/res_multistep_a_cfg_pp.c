/* res_multistep_a_cfg_pp.c - res_multistep_a with CFG++. */
#include "schedulers/res.h"

enum { ETA, S_NOISE };

static const struct sched_option options[] = {
    [ETA] = { "eta", 0, 1, 1, false, "share of a step's noise that is fresh", NULL },
    [S_NOISE] = { "s_noise", 0, 10, 1, false, "factor of the fresh noise", NULL },
    { .name = NULL },
};

static void feed(struct sched *s, const struct sched_answer *answer)
{
    res_step(s, answer, sched_option_value(s, ETA), sched_option_value(s, S_NOISE), true);
}

static const char *const aliases[] = { "res_multistep_ancestral_cfg_pp", NULL };

const struct sched_info sched_res_multistep_a_cfg_pp = {
    .name = "res_multistep_a_cfg_pp",
    .title = "RES multistep a CFG PP",
    .aliases = aliases,
    .order = 2,
    .rule = SCHED_RULE_EULER,
    .lists = SCHED_LISTS_SIGMAS,
    .options = options,
    .noise = SCHED_NOISE_NORMAL,
    .cfg = 1,
    .uncond = true,
    .zero_snr = true,
    .vectors = RES_VECTORS,
    .feed = feed,
};
