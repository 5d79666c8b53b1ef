/* ipndm.c - improved PNDM: Adams and Bashforth's slopes of up to four evaluations with the
 * weights of steps of equal length (Zhang and Chen 2022, arXiv 2204.13902, which improve Liu et
 * al. 2022, arXiv 2202.09778). The first steps have the order of their history, the last, to
 * sigma 0, is Euler's. Reference: ComfyUI's sample_ipndm, from Zhou et al.'s diff-sampler.
 *
 * Where the levels are evenly apart in sigma the order is that of the history; elsewhere it is
 * 1. */
#include "schedulers/adams.h"

enum { MAX_ORDER };

static const struct sched_option options[] = {
    [MAX_ORDER] = { "max_order", 1, 4, 4, true, "most evaluations that a step is made from", NULL },
    { .name = NULL },
};

/* Times the step's length, by order. */
static const double bashforth[ADAMS_MOST][ADAMS_MOST] = {
    { 1 },
    { 3 / 2.0, -1 / 2.0 },
    { 23 / 12.0, -16 / 12.0, 5 / 12.0 },
    { 55 / 24.0, -59 / 24.0, 37 / 24.0, -9 / 24.0 },
};

static void fill(const float *sigmas, int e, int order, double weights[ADAMS_MOST])
{
    for (int k = 0; k < order; k++)
        weights[k] = ((double)sigmas[e + 1] - sigmas[e]) * bashforth[order - 1][k];
}

static void feed(struct sched *s, const struct sched_answer *answer)
{
    adams_step(s, answer, (int)sched_option_value(s, MAX_ORDER), fill);
}

const struct sched_info sched_ipndm = {
    .name = "ipndm",
    .title = "iPNDM",
    .order = 1,
    .even_order = 4,
    .rule = SCHED_RULE_EULER,
    .lists = SCHED_LISTS_SIGMAS,
    .options = options,
    .zero_snr = true,
    .vectors = ADAMS_MOST,
    .feed = feed,
};
