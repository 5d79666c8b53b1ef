/* ddim.c - Song et al. 2020 (arXiv 2010.02502), equations 12 and 16. Reference: diffusers
 * DDIMScheduler.
 *
 * Under the normal schedule a step goes from timestep t to t minus the whole stride of the training
 * timesteps, which for spacings trailing and linspace is not always the next step's timestep: that
 * is the reference's rule. Under the other schedules, which the reference lacks, and with sigmas
 * given from outside, it goes to the next step's level. */
#include "schedulers/scheduler_impl.h"

#include <math.h>

enum { ALPHA, ALPHA_NEXT, AUX };
enum { ETA };

static const struct sched_option options[] = {
    [ETA] = { "eta", 0, 1, 0, false, "noise of each step: 0 none, 1 as much as DDPM's", NULL },
    { .name = NULL },
};

static void normal_alphas(struct sched *s, const struct noise_table *table, double last)
{
    int stride = s->config.train_steps / s->config.steps;
    for (int e = 0; e < s->evaluations; e++) {
        int t = (int)s->timesteps[e];
        s->aux[AUX * e + ALPHA] = table->alphas[t];
        s->aux[AUX * e + ALPHA_NEXT] = t >= stride ? table->alphas[t - stride] : last;
    }
}

static void sigma_alphas(struct sched *s, double last)
{
    for (int e = 0; e < s->evaluations; e++) {
        double alpha = sched_alpha(s->sigmas[e]), next = sched_alpha(s->sigmas[e + 1]);
        s->aux[AUX * e + ALPHA] = alpha * alpha;
        s->aux[AUX * e + ALPHA_NEXT] = e + 1 < s->evaluations ? next * next : last;
    }
}

/* A last step does not go up where the levels end below the model's lowest. */
static double no_higher(const struct sched *s, const struct noise_table *table, double last)
{
    double sigma = s->sigmas[s->evaluations - 1], alpha = sched_alpha(sigma);
    return sigma < table->sigmas[0] * (1 - 1e-4) && alpha * alpha > last ? alpha * alpha : last;
}

static int prepare(struct sched *s, const struct noise_table *table, struct dr_error *err)
{
    double last = s->config.set_alpha_to_one ? 1 : table->alphas[0];
    if (s->given_sigmas) {
        double final = sched_alpha(s->sigmas[s->evaluations]);
        sigma_alphas(s, final * final);
        return 0;
    }
    if (sched_by_timestep(s))
        normal_alphas(s, table, last);
    else
        sigma_alphas(s, last = no_higher(s, table, last));
    s->sigmas[s->evaluations] = (float)sqrt((1 - last) / last);
    return sched_check_pure_noise(s, s->aux[ALPHA], err);
}

/* Weights of x0 and eps in the latents and the prediction, of both and of noise in the result. */
struct step {
    struct sched_pair clean, eps;
    double to_clean, to_noise, deviation;
};

/* With clip_sample. eps stays that of the unclipped x0, as in the reference. */
static void clipped(struct sched *s, const float *pred, const float *noise, const struct step *w)
{
    float *x = sched_latents(s);
    double range = s->config.clip_range;
    for (size_t i = 0; i < s->n; i++) {
        double x0 = w->clean.x * x[i] + w->clean.pred * pred[i];
        double eps = w->eps.x * x[i] + w->eps.pred * pred[i];
        x0 = x0 > range ? range : x0 < -range ? -range : x0;
        x[i] = (float)(w->to_clean * x0 + w->to_noise * eps +
                       (noise ? w->deviation * noise[i] : 0));
    }
}

static void feed(struct sched *s, const struct sched_answer *answer)
{
    int e = s->state->evaluation;
    const float *pred = answer->pred, *noise = sched_next_noise(s, s->sigmas[e], s->sigmas[e + 1]);
    const double *aux = s->aux + AUX * e;
    double alpha = aux[ALPHA], next = aux[ALPHA_NEXT];
    double variance = (1 - next) / (1 - alpha) * (1 - alpha / next);
    double deviation = sched_option_value(s, ETA) * sqrt(variance > 0 ? variance : 0);
    double rest = 1 - next - deviation * deviation;
    double to_clean = sqrt(next), to_noise = sqrt(rest > 0 ? rest : 0);
    struct sched_pair clean = sched_vp_clean(s, sqrt(alpha), sqrt(1 - alpha));
    struct sched_pair eps = sched_vp_noise(s, sqrt(alpha), sqrt(1 - alpha));
    float *x = sched_latents(s);
    if (s->config.clip_range > 0) {
        clipped(s, pred, noise, &(struct step){ clean, eps, to_clean, to_noise, deviation });
        return;
    }
    struct sched_term terms[] = {
        { to_clean * clean.x + to_noise * eps.x, x },
        { to_clean * clean.pred + to_noise * eps.pred, pred },
        { deviation, noise },
    };
    sched_mix(x, s->n, terms, noise ? 3 : 2);
}

static const char *const aliases[] = { NULL };

static const struct sched_fixed_key fixed[] = {
    { "thresholding", "false" },
    { NULL, NULL },
};

static const struct sched_defaults defaults = {
    .spacing = SCHED_LEADING,
    .betas = SCHED_LINEAR,
    .beta_start = 0.0001,
    .beta_end = 0.02,
    .set_alpha_to_one = true,
    .clip_sample = true,
};

const struct sched_info sched_ddim = {
    .name = "ddim",
    .title = "DDIM",
    .diffusers = "DDIMScheduler",
    .aliases = aliases,
    .fixed = fixed,
    .order = 1,
    .defaults = &defaults,
    .rule = SCHED_RULE_DDIM,
    .vp = true,
    .zero_snr = true,
    .options = options,
    .noise = SCHED_NOISE_NORMAL,
    .aux = AUX,
    .prepare = prepare,
    .feed = feed,
};
