/* seeds_2.c - SEEDS of two stages (seeds.h), the second at share r of the step in the logarithm of
 * sigma. Reference: ComfyUI's sample_seeds_2. */
#include "schedulers/seeds.h"

#include "base/dmath.h"

enum { ETA, S_NOISE, R, SOLVER_TYPE };

static const struct sched_option options[] = {
    [ETA] = { "eta", 0, 1, 1, false, "share of a step's noise that is fresh", NULL },
    [S_NOISE] = { "s_noise", 0, 10, 1, false, "factor of the fresh noise", NULL },
    [R] = { "r", 0.01, 1, 0.5, false, "where in a step the second evaluation is, in log sigma",
            NULL },
    [SOLVER_TYPE] = { "solver_type", 0, 1, SEEDS_PHI_1, true,
                      "how the second evaluation is weighed", seeds_solvers },
    { .name = NULL },
};

static double level(const struct sched_config *config, const struct sched_way *way, int part)
{
    double r = config->option[R];
    (void)part;
    return r < 1 ? dr_exp((1 - r) * dr_log(way->from) + r * dr_log(way->to)) : way->to;
}

static void feed(struct sched *s, const struct sched_answer *answer)
{
    seeds_step(s, answer,
               &(struct seeds){ sched_option_value(s, ETA), sched_option_value(s, S_NOISE),
                                (enum seeds_solver)sched_option_value(s, SOLVER_TYPE) });
}

const struct sched_info sched_seeds_2 = {
    .name = "seeds_2",
    .title = "SEEDS 2",
    .order = 2,
    .rule = SCHED_RULE_EULER,
    .lists = SCHED_LISTS_SIGMAS,
    .layout = { .evaluations = sched_two_but_last, .level = level },
    .options = options,
    .noise = SCHED_NOISE_NORMAL,
    .zero_snr = true,
    .vectors = SEEDS_VECTORS,
    .feed = feed,
};
