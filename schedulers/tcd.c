/* tcd.c - strategic stochastic sampling of trajectory consistency distillation, Zheng et al. 2024
 * (arXiv 2402.19159, algorithm 4): along the flow to timestep (1 - eta) times the next one, then
 * fresh noise up to that. Reference: diffusers TCDScheduler, whose eta is the paper's gamma.
 *
 * The last step leads to timestep 0, whose noise stays. Noise is drawn for every step but the
 * last. */
#include "schedulers/scheduler_impl.h"

#include <math.h>

#include "schedulers/scheduler_options.h"

/* alpha^2 where a step begins, at the timestep that it goes to, and where it ends. */
enum { ALPHA_BAR, BELOW, NEXT, AUX };
enum { ETA, ORIGINAL_STEPS };

static const struct sched_option options[] = {
    [ETA] = { "eta", 0, 1, 0.3, false, "how far below the next level a step goes before noise",
              NULL },
    [ORIGINAL_STEPS] = { SCHED_ORIGINAL_STEPS, 1, SCHED_MAX_TRAIN_STEPS, 50, true,
                         "timesteps that the model was distilled at, of which a run takes some",
                         NULL },
    { .name = NULL },
};

static double bar_of_sigma(double sigma)
{
    double alpha = sched_alpha(sigma);
    return alpha * alpha;
}

/* (1 - eta) times the next timestep: rounded down in float32 where timesteps are the levels. */
static double below(const struct sched *s, const struct noise_table *table, int e)
{
    double share = 1 - sched_option_value(s, ETA);
    bool last = e == s->evaluations - 1;
    if (sched_by_timestep(s))
        return table->alphas[last ? 0 : (int)floorf((float)share * s->timesteps[e + 1])];
    if (last || share >= 1)
        return bar_of_sigma(s->sigmas[e + 1]);
    double next = noise_table_timestep(table, s->sigmas[e + 1]);
    return bar_of_sigma(noise_table_sigma(table, share * next));
}

static int prepare(struct sched *s, const struct noise_table *table, struct dr_error *err)
{
    int n = s->evaluations;
    if (!s->given_sigmas)
        s->sigmas[n] = fminf(table->sigmas[0], s->sigmas[n - 1]);
    for (int e = 0; e < n; e++) {
        double *aux = s->aux + AUX * e;
        aux[ALPHA_BAR] = sched_alpha_bar(s, table, e);
        aux[BELOW] = below(s, table, e);
        aux[NEXT] = e + 1 < n ? sched_alpha_bar(s, table, e + 1) : aux[BELOW];
    }
    return sched_check_pure_noise(s, s->aux[ALPHA_BAR], err);
}

static void feed(struct sched *s, const struct sched_answer *answer)
{
    int e = s->state->evaluation;
    bool last = e == s->evaluations - 1;
    const double *aux = s->aux + AUX * e;
    double bar = aux[ALPHA_BAR], to = aux[BELOW];
    struct sched_pair clean = sched_vp_clean(s, sqrt(bar), sqrt(1 - bar));
    struct sched_pair eps = sched_vp_noise(s, sqrt(bar), sqrt(1 - bar));
    const float *noise = last ? NULL : sched_next_noise(s, s->sigmas[e], s->sigmas[e + 1]);
    double rest = noise ? aux[NEXT] / to : 1, kept = sqrt(rest);
    double fresh = sqrt(rest < 1 ? 1 - rest : 0);
    double to_clean = kept * sqrt(to), to_eps = kept * sqrt(1 - to);
    float *x = sched_latents(s);
    struct sched_term terms[] = {
        { to_clean * clean.x + to_eps * eps.x, x },
        { to_clean * clean.pred + to_eps * eps.pred, answer->pred },
        { fresh, noise },
    };
    sched_mix(x, s->n, terms, noise ? 3 : 2);
}

static const char *const aliases[] = { NULL };

/* The class has these keys and does not use them. */
static const struct sched_fixed_key fixed[] = {
    { "clip_sample", "false|true" },
    { "thresholding", "false|true" },
    { NULL, NULL },
};

static const struct sched_defaults defaults = {
    .spacing = SCHED_LEADING,
    .betas = SCHED_SCALED_LINEAR,
    .beta_start = 0.00085,
    .beta_end = 0.012,
    .set_alpha_to_one = true,
};

const struct sched_info sched_tcd = {
    .name = "tcd",
    .title = "TCD",
    .diffusers = "TCDScheduler",
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
