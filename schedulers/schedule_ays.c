/* schedule_ays.c - levels that were optimised for a model, interpolated to any number of steps.
 *
 * Align Your Steps: Sabour et al. 2024 (arXiv 2404.14507); 11 and 32 levels for SDXL and Stable
 * Diffusion 1.5 as its authors published them. GITS: Chen et al. 2024 (arXiv 2405.11326), 11 levels
 * as Forge has them. Between them the logarithm is linear, as the authors' note says. The names are
 * those of AUTOMATIC1111 and Forge. Other models of a family take the family's levels.
 */
#include <string.h>

#include "base/dmath.h"
#include "schedulers/schedule_impl.h"

enum { MODEL, MODELS = 2, MOST = 32 };

static const struct sched_option model_options[] = {
    [MODEL] = { "model", 0, 2, 0, true,
                "whose levels: 1 Stable Diffusion 1.5, 2 SDXL, 0 what the model is", NULL },
    { .name = NULL },
};

/* Stable Diffusion 1.5, SDXL. */
struct optimised {
    int n;
    double level[MODELS][MOST];
};

static const struct optimised ays_11 = {
    11,
    { { 14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029 },
      { 14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029 } },
};

static const struct optimised ays_32 = {
    32,
    { { 14.615,     11.23951352, 8.64363081, 6.64729424, 5.57250862, 4.71648546, 3.99196065,
        3.5195609,  3.13490466,  2.79228788, 2.48773628, 2.21663865, 1.97508351, 1.7793172,
        1.61475335, 1.46540953,  1.314849,   1.16642497, 1.03475547, 0.91573744, 0.80748169,
        0.71202361, 0.621739,    0.53065202, 0.4529096,  0.37491455, 0.27461819, 0.2011529,
        0.14105873, 0.06682881,  0.03166121, 0.015 },
      { 14.615,     11.1491618, 8.50522127, 6.48827151, 5.43707402, 4.60398619, 3.89854704,
        3.27407457, 2.74396527, 2.29968659, 1.95448514, 1.67108715, 1.42878152, 1.23181009,
        1.06789649, 0.92579443, 0.80290886, 0.69660121, 0.60436903, 0.52852552, 0.46773344,
        0.41393379, 0.36258186, 0.31008517, 0.26518925, 0.22326461, 0.17653877, 0.13959192,
        0.10587381, 0.05519369, 0.02877334, 0.015 } },
};

static const struct optimised gits = {
    11,
    { { 14.615, 4.617, 2.507, 1.236, 0.702, 0.402, 0.240, 0.156, 0.104, 0.094, 0.029 },
      { 14.615, 4.734, 2.567, 1.529, 0.987, 0.652, 0.418, 0.268, 0.179, 0.127, 0.029 } },
};

static void interpolate(const struct schedule_job *job, const struct optimised *of,
                        double *ret_sigmas, double *ret_timesteps)
{
    int model = (int)schedule_value(job, MODEL);
    const double *level = of->level[model ? model - 1 : job->config->optimised_for];
    for (int i = 0; i < job->n; i++) {
        double at = schedule_linspace(0, of->n - 1, job->n, i);
        int low = (int)at < of->n - 1 ? (int)at : of->n - 2;
        double share = at - low, a = dr_log(level[low]), b = dr_log(level[low + 1]);
        ret_sigmas[i] = share > 0 ? dr_exp(a + share * (b - a)) : level[low];
        ret_timesteps[i] = schedule_timestep(job, ret_sigmas[i], SCHEDULE_NEAREST);
    }
}

static const char *const ays_aliases[] = { "ays", NULL };
static const char *const ays_11_aliases[] = { "ays_11", NULL };
static const char *const ays_32_aliases[] = { "ays_32", NULL };
static const char *const gits_aliases[] = { "gits", "ays_gits", NULL };

static void fill_align_your_steps(const struct schedule_job *job, double *ret_sigmas,
                                  double *ret_timesteps)
{
    interpolate(job, &ays_11, ret_sigmas, ret_timesteps);
}

const struct schedule_info schedule_align_your_steps = {
    .name = "align_your_steps",
    .title = "Align Your Steps",
    .aliases = ays_aliases,
    .kind = SCHEDULE_FIXED,
    .options = model_options,
    .fill = fill_align_your_steps,
};

static void fill_align_your_steps_11(const struct schedule_job *job, double *ret_sigmas,
                                     double *ret_timesteps)
{
    interpolate(job, &ays_11, ret_sigmas, ret_timesteps);
}

const struct schedule_info schedule_align_your_steps_11 = {
    .name = "align_your_steps_11",
    .title = "Align Your Steps 11",
    .aliases = ays_11_aliases,
    .kind = SCHEDULE_FIXED,
    .options = model_options,
    .fill = fill_align_your_steps_11,
};

static void fill_align_your_steps_32(const struct schedule_job *job, double *ret_sigmas,
                                     double *ret_timesteps)
{
    interpolate(job, &ays_32, ret_sigmas, ret_timesteps);
}

const struct schedule_info schedule_align_your_steps_32 = {
    .name = "align_your_steps_32",
    .title = "Align Your Steps 32",
    .aliases = ays_32_aliases,
    .kind = SCHEDULE_FIXED,
    .options = model_options,
    .fill = fill_align_your_steps_32,
};

static void fill_align_your_steps_gits(const struct schedule_job *job, double *ret_sigmas,
                                       double *ret_timesteps)
{
    interpolate(job, &gits, ret_sigmas, ret_timesteps);
}

const struct schedule_info schedule_align_your_steps_gits = {
    .name = "align_your_steps_gits",
    .title = "Align Your Steps GITS",
    .aliases = gits_aliases,
    .kind = SCHEDULE_FIXED,
    .options = model_options,
    .fill = fill_align_your_steps_gits,
};
