/* schedule_range.c - schedules between two noise levels, the model's or the run's own.
 *
 * karras: Karras et al. 2022 (arXiv 2206.00364), equation 5; exponential: even steps of the
 * logarithm; both for each sampler as its diffusers class has them, rounding included.
 * polyexponential, laplace, vp: k-diffusion's get_sigmas_* (vp: Song et al. 2021, arXiv 2011.13456;
 * laplace: Hang et al. 2024, arXiv 2407.03297). beta: Lee et al. 2024 (arXiv 2407.12173), as
 * diffusers' classes compute it, or with the conventions of ComfyUI over timesteps. kl_optimal:
 * what is optimal for normally distributed data, even steps of the angle whose tangent is sigma,
 * Sabour et al. 2024 (arXiv 2404.14507). karras_exponential: the
 * schedule of that name in forks of AUTOMATIC1111: karras with a share of exponential that falls
 * to none, from above the highest level, the lowest levels a little lower.
 */
#include <math.h>

#include "base/dmath.h"
#include "schedulers/schedule_impl.h"

enum { RHO = SCHEDULE_ENDS_ROWS };

static const struct sched_option karras_options[] = {
    SCHEDULE_ENDS_OPTIONS,
    [RHO] = { "rho", 0, 100, 0, false,
              "how much more steps are at low noise; 0: 7, or what an EDM model's file says",
              NULL },
    { .name = NULL },
};

static double karras_level(double max, double min, double rho, double share)
{
    double max_root = dr_pow(max, 1 / rho), min_root = dr_pow(min, 1 / rho);
    return dr_pow(max_root + share * (min_root - max_root), rho);
}

static void fill_karras(const struct schedule_job *job, double *ret_sigmas, double *ret_timesteps)
{
    double max, min, rho = schedule_value(job, RHO);
    schedule_ends(job, &max, &min);
    if (rho == 0)
        rho = job->table->edm ? job->config->rho : 7;
    for (int i = 0; i < job->n; i++) {
        ret_sigmas[i] = karras_level(max, min, rho, schedule_linspace(0, 1, job->n, i));
        ret_timesteps[i] = schedule_timestep(job, ret_sigmas[i], SCHEDULE_NEAREST);
    }
}

static const struct sched_option ends_options[] = { SCHEDULE_ENDS_OPTIONS, { .name = NULL } };

static void fill_exponential(const struct schedule_job *job, double *ret_sigmas,
                             double *ret_timesteps)
{
    double max, min;
    schedule_ends(job, &max, &min);
    double log_max = dr_log(max), log_min = dr_log(min);
    for (int i = 0; i < job->n; i++) {
        ret_sigmas[i] = dr_exp(schedule_linspace(log_max, log_min, job->n, i));
        ret_timesteps[i] = schedule_timestep(job, ret_sigmas[i], SCHEDULE_DOWN);
    }
}

static const struct sched_option poly_options[] = {
    SCHEDULE_ENDS_OPTIONS,
    [RHO] = { "rho", 0.01, 100, 1, false,
              "power of the way through the logarithm; 1: even steps, above: more at low noise",
              NULL },
    { .name = NULL },
};

static void fill_polyexponential(const struct schedule_job *job, double *ret_sigmas,
                                 double *ret_timesteps)
{
    double max, min;
    schedule_ends(job, &max, &min);
    double log_max = dr_log(max), log_min = dr_log(min);
    for (int i = 0; i < job->n; i++) {
        double ramp = schedule_linspace(1, 0, job->n, i);
        ramp = ramp > 0 ? dr_pow(ramp, schedule_value(job, RHO)) : 0;
        ret_sigmas[i] = dr_exp(ramp * (log_max - log_min) + log_min);
        ret_timesteps[i] = schedule_timestep(job, ret_sigmas[i], SCHEDULE_NEAREST);
    }
}

enum { ALPHA = SCHEDULE_ENDS_ROWS, BETA, OVER };

static const struct sched_option beta_options[] = {
    SCHEDULE_ENDS_OPTIONS,
    [ALPHA] = { "alpha", 0.05, 20, 0.6, false, "lower: more steps at low noise", NULL },
    [BETA] = { "beta", 0.05, 20, 0.6, false, "lower: more steps at high noise", NULL },
    [OVER] = { SCHEDULE_OVER, 0, 2, 0, true,
               "of what the quantiles are: 1 noise levels, 2 timesteps, 0 as the preset has it",
               NULL },
    { .name = NULL },
};

static void fill_beta(const struct schedule_job *job, double *ret_sigmas, double *ret_timesteps)
{
    double max, min, alpha = schedule_value(job, ALPHA), beta = schedule_value(job, BETA);
    schedule_ends(job, &max, &min);
    int over = (int)schedule_value(job, OVER);
    bool of_timesteps = !job->table->edm && (over ? over == SCHEDULE_OVER_TIMESTEPS
                                                  : job->config->conventions.beta_of_timesteps);
    double low = 0, high = job->table->n - 1;
    if (of_timesteps && schedule_value(job, SCHEDULE_SIGMA_MIN) > 0)
        low = schedule_timestep(job, min, SCHEDULE_DOWN);
    if (of_timesteps && schedule_value(job, SCHEDULE_SIGMA_MAX) > 0)
        high = schedule_timestep(job, max, SCHEDULE_DOWN);
    for (int i = 0; i < job->n; i++) {
        if (of_timesteps) {
            double p = 1 - (double)i / job->n;
            double t = low + schedule_beta_quantile(p, alpha, beta) * (high - low);
            schedule_put_timestep(job, i, (int)rint(t), ret_sigmas, ret_timesteps);
            continue;
        }
        double p = 1 - schedule_linspace(0, 1, job->n, i);
        ret_sigmas[i] = min + schedule_beta_quantile(p, alpha, beta) * (max - min);
        ret_timesteps[i] = schedule_timestep(job, ret_sigmas[i], SCHEDULE_DOWN);
    }
}

static void fill_kl_optimal(const struct schedule_job *job, double *ret_sigmas,
                            double *ret_timesteps)
{
    double max, min;
    schedule_ends(job, &max, &min);
    double high = dr_atan(max), low = dr_atan(min);
    for (int i = 0; i < job->n; i++) {
        double share = schedule_linspace(0, 1, job->n, i), angle = share * low + (1 - share) * high;
        ret_sigmas[i] = dr_sin(angle) / dr_cos(angle);
        ret_timesteps[i] = schedule_timestep(job, ret_sigmas[i], SCHEDULE_NEAREST);
    }
}

enum { LAPLACE_MU = SCHEDULE_ENDS_ROWS, LAPLACE_BETA };

static const struct sched_option laplace_options[] = {
    SCHEDULE_ENDS_OPTIONS,
    [LAPLACE_MU] = { "mu", -10, 10, 0, false, "logarithm of the level around which steps gather",
                     NULL },
    [LAPLACE_BETA] = { "beta", 0.01, 10, 0.5, false, "how far from it they spread", NULL },
    { .name = NULL },
};

static void fill_laplace(const struct schedule_job *job, double *ret_sigmas, double *ret_timesteps)
{
    double max, min;
    schedule_ends(job, &max, &min);
    for (int i = 0; i < job->n; i++) {
        double from_middle = 0.5 - schedule_linspace(0, 1, job->n, i);
        double sign = (from_middle > 0) - (from_middle < 0);
        double log_sigma = schedule_value(job, LAPLACE_MU) -
                           schedule_value(job, LAPLACE_BETA) * sign *
                               dr_log(1 - 2 * fabs(from_middle) + 1e-5);
        double sigma = dr_exp(log_sigma);
        ret_sigmas[i] = sigma > max ? max : sigma < min ? min : sigma;
        ret_timesteps[i] = schedule_timestep(job, ret_sigmas[i], SCHEDULE_NEAREST);
    }
}

enum { BETA_D, BETA_MIN, EPS_S };

static const struct sched_option vp_options[] = {
    [BETA_D] = { "beta_d", 0.1, 100, 19.9, false, "slope of the noise rate", NULL },
    [BETA_MIN] = { "beta_min", 0, 10, 0.1, false, "noise rate at the start", NULL },
    [EPS_S] = { "eps_s", 1e-6, 0.5, 1e-3, false, "time of the last level", NULL },
    { .name = NULL },
};

static void fill_vp(const struct schedule_job *job, double *ret_sigmas, double *ret_timesteps)
{
    double slope = schedule_value(job, BETA_D), rate = schedule_value(job, BETA_MIN);
    for (int i = 0; i < job->n; i++) {
        double t = schedule_linspace(1, schedule_value(job, EPS_S), job->n, i);
        ret_sigmas[i] = sqrt(dr_exp(slope * t * t / 2 + rate * t) - 1);
        ret_timesteps[i] = schedule_timestep(job, ret_sigmas[i], SCHEDULE_NEAREST);
    }
}

enum { BLEND = SCHEDULE_ENDS_ROWS, SHARPEN, REACH };

static const struct sched_option blend_options[] = {
    SCHEDULE_ENDS_OPTIONS,
    [BLEND] = { "blend", 0, 1, 0.3, false, "share of exponential at the start", NULL },
    [SHARPEN] = { "sharpen", 0.1, 1, 0.9, false, "factor of levels within 1.5 of the lowest",
                  NULL },
    [REACH] = { "reach", 1, 10, 1.1, false, "factor of the highest level", NULL },
    { .name = NULL },
};

static void fill_karras_exponential(const struct schedule_job *job, double *ret_sigmas,
                                    double *ret_timesteps)
{
    double max, min;
    schedule_ends(job, &max, &min);
    max *= schedule_value(job, REACH);
    for (int i = 0; i < job->n; i++) {
        double along = schedule_linspace(0, 1, job->n, i);
        double blend = schedule_value(job, BLEND) * (1 - (double)i / job->n);
        double even = dr_exp(schedule_linspace(dr_log(max), dr_log(min), job->n, i));
        double sigma = (1 - blend) * karras_level(max, min, 7, along) + blend * even;
        ret_sigmas[i] = sigma < 1.5 * min ? sigma * schedule_value(job, SHARPEN) : sigma;
        ret_timesteps[i] = schedule_timestep(job, ret_sigmas[i], SCHEDULE_NEAREST);
    }
}

static const char *const karras_aliases[] = { "use_karras_sigmas", NULL };
static const char *const exponential_aliases[] = { "use_exponential_sigmas", NULL };
static const char *const beta_aliases[] = { "use_beta_sigmas", NULL };

const struct schedule_info schedule_karras = {
    .name = "karras",
    .title = "Karras",
    .aliases = karras_aliases,
    .kind = SCHEDULE_RANGE,
    .options = karras_options,
    .fill = fill_karras,
};

const struct schedule_info schedule_exponential = {
    .name = "exponential",
    .title = "Exponential",
    .aliases = exponential_aliases,
    .kind = SCHEDULE_RANGE,
    .options = ends_options,
    .fill = fill_exponential,
};

const struct schedule_info schedule_beta = {
    .name = "beta",
    .title = "Beta",
    .aliases = beta_aliases,
    .kind = SCHEDULE_RANGE,
    .options = beta_options,
    .fill = fill_beta,
};

const struct schedule_info schedule_polyexponential = {
    .name = "polyexponential",
    .title = "Polyexponential",
    .kind = SCHEDULE_ENDS,
    .options = poly_options,
    .fill = fill_polyexponential,
};

const struct schedule_info schedule_kl_optimal = {
    .name = "kl_optimal",
    .title = "KL Optimal",
    .kind = SCHEDULE_ENDS,
    .options = ends_options,
    .fill = fill_kl_optimal,
};

const struct schedule_info schedule_laplace = {
    .name = "laplace",
    .title = "Laplace",
    .kind = SCHEDULE_ENDS,
    .options = laplace_options,
    .fill = fill_laplace,
};

const struct schedule_info schedule_vp = {
    .name = "vp",
    .title = "VP",
    .kind = SCHEDULE_FIXED,
    .options = vp_options,
    .fill = fill_vp,
};

const struct schedule_info schedule_karras_exponential = {
    .name = "karras_exponential",
    .title = "Karras Exponential",
    .kind = SCHEDULE_ENDS,
    .options = blend_options,
    .fill = fill_karras_exponential,
};
