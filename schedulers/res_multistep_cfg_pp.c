/* res_multistep_cfg_pp.c - res_multistep with CFG++. */
#include "schedulers/res.h"

static void feed(struct sched *s, const struct sched_answer *answer)
{
    res_step(s, answer, 0, 0, true);
}

static const char *const aliases[] = { "RES multistep CFG++", NULL };

const struct sched_info sched_res_multistep_cfg_pp = {
    .name = "res_multistep_cfg_pp",
    .title = "RES multistep CFG PP",
    .aliases = aliases,
    .order = 2,
    .rule = SCHED_RULE_EULER,
    .lists = SCHED_LISTS_SIGMAS,
    .cfg = 1,
    .uncond = true,
    .zero_snr = true,
    .vectors = RES_VECTORS,
    .feed = feed,
};
