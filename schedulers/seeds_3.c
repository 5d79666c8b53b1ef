/* seeds_3.c - SEEDS of three stages, the second and the third at shares r_1 and r_2 of the step in
 * the logarithm of sigma (Gonzalez et al. 2023, arXiv 2305.14267, SEEDS-3 with data prediction).
 * The last step, to sigma 0, ends at x0. Reference: ComfyUI's sample_seeds_3. */
#include "schedulers/seeds.h"

#include <string.h>

#include "base/dmath.h"

enum { ETA, S_NOISE, R_1, R_2 };

static const struct sched_option options[] = {
    [ETA] = { "eta", 0, 1, 1, false, "share of a step's noise that is fresh", NULL },
    [S_NOISE] = { "s_noise", 0, 10, 1, false, "factor of the fresh noise", NULL },
    [R_1] = { "r_1", 0.01, 0.5, 1 / 3.0, false,
              "where in a step the second evaluation is, in log sigma", NULL },
    [R_2] = { "r_2", 0.51, 1, 2 / 3.0, false,
              "where in a step the third evaluation is, in log sigma", NULL },
    { .name = NULL },
};

static int evaluations(const struct sched_config *config, int step)
{
    return step < config->steps - 1 ? 3 : 1;
}

static double level(const struct sched_config *config, const struct sched_way *way, int part)
{
    double r = config->option[part == 1 ? R_1 : R_2];
    return r < 1 ? dr_exp((1 - r) * dr_log(way->from) + r * dr_log(way->to)) : way->to;
}

/* Weights of x0 of the first evaluation and of this one in the next latents; `ahead` is the length
 * to them, `here` the length to this evaluation. */
static void weigh(double ahead, double here, double longer, double ret[2])
{
    ret[1] = here > 0 ? -seeds_phi_2(-ahead * longer) * (ahead / here) : 0;
    ret[0] = -dr_expm1(-ahead * longer) - ret[1];
}

static void feed(struct sched *s, const struct sched_answer *answer)
{
    int e = s->state->evaluation;
    struct sched_place at = sched_place(s, e);
    struct seeds how = { sched_option_value(s, ETA), sched_option_value(s, S_NOISE), SEEDS_PHI_2 };
    double from = s->sigmas[at.begin], to = s->sigmas[e + 1], w[2];
    float *x = sched_latents(s), *start = sched_vector(s, SEEDS_START);
    float *clean = sched_vector(s, SEEDS_CLEAN);
    if (s->sigmas[at.next] <= 0) {
        seeds_clean(s, answer->pred, x);
        return;
    }
    double ahead = dr_log(from / to), here = at.part ? dr_log(from / s->sigmas[e]) : 0;
    if (!at.part)
        memcpy(start, x, s->n * sizeof *x);
    seeds_clean(s, answer->pred, at.part ? x : clean);
    weigh(ahead, here, 1 + how.eta, w);
    bool noisy = seeds_gather(s, &how, e + 1, ahead, here);
    struct sched_term terms[] = { { to / from * dr_exp(-ahead * how.eta), start },
                                  { w[0], clean },
                                  { w[1], x },
                                  { to * how.s_noise, sched_vector(s, SEEDS_NOISE) } };
    sched_mix(x, s->n, terms, noisy ? 4 : 3);
}

const struct sched_info sched_seeds_3 = {
    .name = "seeds_3",
    .title = "SEEDS 3",
    .order = 3,
    .rule = SCHED_RULE_EULER,
    .lists = SCHED_LISTS_SIGMAS,
    .layout = { .evaluations = evaluations, .level = level },
    .options = options,
    .noise = SCHED_NOISE_NORMAL,
    .zero_snr = true,
    .vectors = SEEDS_VECTORS,
    .feed = feed,
};
