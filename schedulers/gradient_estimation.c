/* gradient_estimation.c - gradient estimation (gradient.h). */
#include "schedulers/gradient.h"

enum { GE_GAMMA };

static const struct sched_option options[] = {
    [GE_GAMMA] = { "ge_gamma", 1, 5, 2, false, "weight of this slope; the one before has the rest",
                   NULL },
    { .name = NULL },
};

static void feed(struct sched *s, const struct sched_answer *answer)
{
    gradient_step(s, answer, sched_option_value(s, GE_GAMMA), false);
}

static const char *const aliases[] = { "euler_ge", NULL };

const struct sched_info sched_gradient_estimation = {
    .name = "gradient_estimation",
    .title = "Gradient estimation",
    .aliases = aliases,
    .order = 1,
    .rule = SCHED_RULE_EULER,
    .lists = SCHED_LISTS_SIGMAS,
    .options = options,
    .zero_snr = true,
    .vectors = GRADIENT_VECTORS,
    .feed = feed,
};
