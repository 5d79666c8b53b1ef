/* exp_heun_2_x0_sde.c - exp_heun_2_x0 with the noise of seeds.h. Reference: ComfyUI's
 * sample_exp_heun_2_x0_sde. */
#include "schedulers/seeds.h"

enum { ETA, S_NOISE, SOLVER_TYPE };

static const struct sched_option options[] = {
    [ETA] = { "eta", 0, 1, 1, false, "share of a step's noise that is fresh", NULL },
    [S_NOISE] = { "s_noise", 0, 10, 1, false, "factor of the fresh noise", NULL },
    [SOLVER_TYPE] = { "solver_type", 0, 1, SEEDS_PHI_2, true,
                      "how the second evaluation is weighed", seeds_solvers },
    { .name = NULL },
};

static void feed(struct sched *s, const struct sched_answer *answer)
{
    seeds_step(s, answer,
               &(struct seeds){ sched_option_value(s, ETA), sched_option_value(s, S_NOISE),
                                (enum seeds_solver)sched_option_value(s, SOLVER_TYPE) });
}

static const char *const aliases[] = { "exp_heun_sde", NULL };

const struct sched_info sched_exp_heun_2_x0_sde = {
    .name = "exp_heun_2_x0_sde",
    .title = "Exp Heun 2 x0 SDE",
    .aliases = aliases,
    .order = 2,
    .rule = SCHED_RULE_EULER,
    .lists = SCHED_LISTS_SIGMAS,
    .layout.evaluations = sched_two_but_last,
    .options = options,
    .noise = SCHED_NOISE_NORMAL,
    .zero_snr = true,
    .vectors = SEEDS_VECTORS,
    .feed = feed,
};
