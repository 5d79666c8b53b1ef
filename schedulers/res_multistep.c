/* res_multistep.c - RES, multistep of second order (res.h). */
#include "schedulers/res.h"

static void feed(struct sched *s, const struct sched_answer *answer)
{
    res_step(s, answer, 0, 0, false);
}

const struct sched_info sched_res_multistep = {
    .name = "res_multistep",
    .title = "RES multistep",
    .order = 2,
    .rule = SCHED_RULE_EULER,
    .lists = SCHED_LISTS_SIGMAS,
    .zero_snr = true,
    .vectors = RES_VECTORS,
    .feed = feed,
};
