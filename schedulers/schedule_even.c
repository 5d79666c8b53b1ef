/* schedule_even.c - schedules that choose timesteps of training: evenly, or along a curve.
 *
 * normal is the sampler's own spacing (Lin et al. 2023, arXiv 2305.08891, table 2), with the
 * conventions of k-diffusion its get_sigmas: even timesteps from the model's last to 0, sigmas
 * linear in the logarithm. sgm_uniform is the same with one more timestep, the last 0 dropped, as
 * Stability's generative-models has it. simple, ddim_uniform: the published rules of ComfyUI's
 * samplers of these names, which take entries of the table of sigmas. turbo: the timesteps at which
 * SD Turbo was distilled, Sauer et al. 2023 (arXiv 2311.17042), as Forge lays any number of them
 * out. smoothstep: stable-diffusion.cpp's, timesteps along 3 u^2 - 2 u^3.
 */
#include <math.h>

#include "schedulers/schedule_impl.h"

/* A timestep between two of training, its sigma linear in the logarithm. */
static void put_between(const struct schedule_job *job, int i, double t, double *ret_sigmas,
                        double *ret_timesteps)
{
    bool whole = job->config->sampler->rule == SCHED_RULE_DPM &&
                 job->config->conventions.levels == SCHED_LEVELS_CLASS;
    ret_sigmas[i] = noise_table_sigma_log(job->table, t);
    ret_timesteps[i] = whole ? rint(t) : t;
}

static void fill_normal(const struct schedule_job *job, double *ret_sigmas, double *ret_timesteps)
{
    for (int i = 0; i < job->n; i++) {
        if (!job->spaced) {
            put_between(job, i, schedule_linspace(job->table->n - 1, 0, job->n, i), ret_sigmas,
                        ret_timesteps);
            continue;
        }
        ret_sigmas[i] = job->spaced_sigmas[i];
        ret_timesteps[i] = job->spaced[i];
    }
}

static void fill_sgm_uniform(const struct schedule_job *job, double *ret_sigmas,
                             double *ret_timesteps)
{
    for (int i = 0; i < job->n; i++)
        put_between(job, i, schedule_linspace(job->table->n - 1, 0, job->n + 1, i), ret_sigmas,
                    ret_timesteps);
}

static void fill_simple(const struct schedule_job *job, double *ret_sigmas, double *ret_timesteps)
{
    double stride = job->table->n / (double)job->n;
    for (int i = 0; i < job->n; i++)
        schedule_put_timestep(job, i, job->table->n - 1 - (int)(i * stride), ret_sigmas,
                              ret_timesteps);
}

/* Every stride-th timestep from 1 up. Where the stride leaves room for one level more above, the
 * program takes it, and so a step more than asked; here the run has the lowest n. */
static void fill_ddim_uniform(const struct schedule_job *job, double *ret_sigmas,
                              double *ret_timesteps)
{
    int stride = job->table->n / job->n, last = job->table->n - 1;
    for (int i = 0; i < job->n; i++) {
        int t = 1 + (job->n - 1 - i) * stride;
        schedule_put_timestep(job, i, t < last ? t : last - i, ret_sigmas, ret_timesteps);
    }
}

enum { POINTS };

static const struct sched_option turbo_options[] = {
    [POINTS] = { "points", 0, 1000, 0, true,
                 "the model's timesteps are divided into so many, of which the run takes the "
                 "first; 0: as many as steps, 10: ComfyUI's node",
                 NULL },
    { .name = NULL },
};

static void fill_turbo(const struct schedule_job *job, double *ret_sigmas, double *ret_timesteps)
{
    int train = job->table->n, points = (int)schedule_value(job, POINTS);
    points = points ? points : job->n;
    for (int i = 0; i < job->n; i++) {
        double t = rint((points - i) * ((double)train / points) - 1);
        schedule_put_timestep(job, i, t > 0 ? (int)t : 0, ret_sigmas, ret_timesteps);
    }
}

static int most_turbo(const struct sched_config *config)
{
    int points = (int)config->schedule_option[POINTS];
    return points ? points : config->train_steps;
}

static int smooth_timestep(int last, int n, int i)
{
    float u = 1 - (float)i / (float)n;
    return (int)floorf(u * u * (3 - 2 * u) * (float)last + 0.5f);
}

/* With more the curve is so flat at its start that two steps have one timestep. */
static int most_smoothstep(const struct sched_config *config)
{
    int last = config->train_steps - 1, n = 2;
    while (n < last && smooth_timestep(last, n, 1) < last &&
           smooth_timestep(last, n, n - 1) < smooth_timestep(last, n, n - 2))
        n++;
    return n - 1;
}

static void fill_smoothstep(const struct schedule_job *job, double *ret_sigmas,
                            double *ret_timesteps)
{
    for (int i = 0; i < job->n; i++) {
        int timestep = smooth_timestep(job->table->n - 1, job->n, i);
        schedule_put_timestep(job, i, timestep, ret_sigmas, ret_timesteps);
    }
}

/* "Uniform" is AUTOMATIC1111's name for the model's own levels; ComfyUI's "normal" and
 * stable-diffusion.cpp's "discrete" are near, not equal: normal is that of the sampler's diffusers
 * class, or with those programs' presets theirs. */
static const char *const normal_aliases[] = { "discrete", "uniform", NULL };
static const char *const sgm_uniform_aliases[] = { "sgm", NULL };
static const char *const turbo_aliases[] = { "sd_turbo", NULL };

const struct schedule_info schedule_normal = {
    .name = "normal",
    .title = "Normal",
    .aliases = normal_aliases,
    .kind = SCHEDULE_SPACED,
    .fill = fill_normal,
};

const struct schedule_info schedule_sgm_uniform = {
    .name = "sgm_uniform",
    .title = "SGM Uniform",
    .aliases = sgm_uniform_aliases,
    .kind = SCHEDULE_FIXED,
    .fill = fill_sgm_uniform,
};

const struct schedule_info schedule_simple = {
    .name = "simple",
    .title = "Simple",
    .kind = SCHEDULE_FIXED,
    .fill = fill_simple,
};

const struct schedule_info schedule_ddim_uniform = {
    .name = "ddim_uniform",
    .title = "DDIM Uniform",
    .kind = SCHEDULE_FIXED,
    .fill = fill_ddim_uniform,
};

const struct schedule_info schedule_turbo = {
    .name = "turbo",
    .title = "Turbo",
    .aliases = turbo_aliases,
    .kind = SCHEDULE_FIXED,
    .options = turbo_options,
    .most = most_turbo,
    .fill = fill_turbo,
};

const struct schedule_info schedule_smoothstep = {
    .name = "smoothstep",
    .title = "Smoothstep",
    .kind = SCHEDULE_FIXED,
    .most = most_smoothstep,
    .fill = fill_smoothstep,
};
