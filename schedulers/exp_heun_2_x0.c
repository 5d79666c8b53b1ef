/* exp_heun_2_x0.c - Heun's method of the exponential kind, in x0 and the logarithm of sigma: the
 * step of seeds.h without noise, its second evaluation where the step leads (Hochbruck and
 * Ostermann 2005, doi 10.1137/040611434). Reference: ComfyUI's sample_exp_heun_2_x0. */
#include "schedulers/seeds.h"

enum { SOLVER_TYPE };

static const struct sched_option options[] = {
    [SOLVER_TYPE] = { "solver_type", 0, 1, SEEDS_PHI_2, true,
                      "how the second evaluation is weighed", seeds_solvers },
    { .name = NULL },
};

static void feed(struct sched *s, const struct sched_answer *answer)
{
    seeds_step(s, answer,
               &(struct seeds){ 0, 0, (enum seeds_solver)sched_option_value(s, SOLVER_TYPE) });
}

static const char *const aliases[] = { "exp_heun", NULL };

const struct sched_info sched_exp_heun_2_x0 = {
    .name = "exp_heun_2_x0",
    .title = "Exp Heun 2 x0",
    .aliases = aliases,
    .order = 2,
    .rule = SCHED_RULE_EULER,
    .lists = SCHED_LISTS_SIGMAS,
    .layout.evaluations = sched_two_but_last,
    .options = options,
    .zero_snr = true,
    .vectors = SEEDS_VECTORS,
    .feed = feed,
};
