/* lcm.c - multistep consistency sampling of Luo et al. 2023 (arXiv 2310.04378, algorithm 3): the
 * model's image, then fresh noise up to the next level. Reference: diffusers LCMScheduler.
 *
 * The image is c_out x0 + c_skip x with the boundary scalings of Song et al. 2023 (arXiv
 * 2303.01469, appendix C) at the timestep times timestep_scaling: it is x itself at timestep 0.
 * Noise is drawn for every step but the last. */
#include "schedulers/scheduler_impl.h"

#include <math.h>

#include "schedulers/scheduler_options.h"

enum { ALPHA_BAR, TIMESTEP, AUX };
enum { ORIGINAL_STEPS, TIMESTEP_SCALING };

static const double SIGMA_DATA = 0.5;

static const struct sched_option options[] = {
    [ORIGINAL_STEPS] = { SCHED_ORIGINAL_STEPS, 1, SCHED_MAX_TRAIN_STEPS, 50, true,
                         "timesteps that the model was distilled at, of which a run takes some",
                         NULL },
    [TIMESTEP_SCALING] = { "timestep_scaling", 0, 1000, 10, false,
                           "factor of the timestep in the boundary scalings", NULL },
    { .name = NULL },
};

static int prepare(struct sched *s, const struct noise_table *table, struct dr_error *err)
{
    for (int e = 0; e < s->evaluations; e++) {
        s->aux[AUX * e + ALPHA_BAR] = sched_alpha_bar(s, table, e);
        s->aux[AUX * e + TIMESTEP] = sched_by_timestep(s)
                                         ? s->timesteps[e]
                                         : noise_table_timestep(table, s->sigmas[e]);
    }
    return sched_check_pure_noise(s, s->aux[ALPHA_BAR], err);
}

static void feed(struct sched *s, const struct sched_answer *answer)
{
    int e = s->state->evaluation;
    bool last = e == s->evaluations - 1;
    double bar = s->aux[AUX * e + ALPHA_BAR], next = last ? 1 : s->aux[AUX * (e + 1) + ALPHA_BAR];
    double t = s->aux[AUX * e + TIMESTEP] * sched_option_value(s, TIMESTEP_SCALING);
    double square = t * t + SIGMA_DATA * SIGMA_DATA;
    double skip = SIGMA_DATA * SIGMA_DATA / square, out = t / sqrt(square);
    struct sched_pair clean = sched_vp_clean(s, sqrt(bar), sqrt(1 - bar));
    const float *noise = last ? NULL : sched_next_noise(s, s->sigmas[e], s->sigmas[e + 1]);
    float *x = sched_latents(s);
    struct sched_term terms[] = { { sqrt(next) * (out * clean.x + skip), x },
                                  { sqrt(next) * out * clean.pred, answer->pred },
                                  { sqrt(1 - next), noise } };
    sched_mix(x, s->n, terms, noise ? 3 : 2);
}

static const char *const aliases[] = { NULL };

static const struct sched_fixed_key fixed[] = {
    { "clip_sample", "false" },
    { "thresholding", "false" },
    { NULL, NULL },
};

static const struct sched_defaults defaults = {
    .spacing = SCHED_LEADING,
    .betas = SCHED_SCALED_LINEAR,
    .beta_start = 0.00085,
    .beta_end = 0.012,
    .set_alpha_to_one = true,
};

const struct sched_info sched_lcm = {
    .name = "lcm",
    .title = "LCM",
    .diffusers = "LCMScheduler",
    .aliases = aliases,
    .fixed = fixed,
    .order = 1,
    .defaults = &defaults,
    .rule = SCHED_RULE_CONSISTENCY,
    .lists = SCHED_LISTS_TIMESTEPS,
    .vp = true,
    .zero_snr = true,
    .consistency = true,
    .options = options,
    .noise = SCHED_NOISE_NORMAL,
    .aux = AUX,
    .prepare = prepare,
    .feed = feed,
};
