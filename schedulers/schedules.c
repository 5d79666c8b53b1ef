/* schedules.c - see schedules.h.
 *
 * Spacings: Lin et al. 2023 (arXiv 2305.08891), table 2. Karras: Karras et al. 2022 (arXiv
 * 2206.00364), equation 5 with rho 7. Rounding and truncation are those of diffusers'
 * EulerDiscreteScheduler, DDIMScheduler and DPMSolverMultistepScheduler, numpy's linspace and
 * arange included; the one deviation: where arange(1000, 0, -1000/n) gives n+1 values by rounding
 * (61, 103, ... steps of spacing trailing), the run has n steps as asked.
 *
 * Darkroom's own: karras and exponential for ddim, euler_a and the consistency rule (sigmas by
 * Euler's rule; ddim, lcm and tcd take abar = 1/(1+sigma^2)), and sgm_uniform, which is the normal
 * scheduler of ComfyUI with sgm true: n+1 even timesteps from the model's last to 0, the 0 dropped,
 * sigmas linear in the logarithm; samplers of the DPM rule tell the model the rounded timestep, as
 * they do for karras.
 */
#include "schedulers/schedules.h"

#include <math.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/dmath.h"
#include "base/members.h"
#include "base/nearest.h"
#include "schedulers/noise_table.h"
#include "schedulers/names.h"
#include "schedulers/scheduler_impl.h"
#include "schedulers/scheduler_options.h"

static const double KARRAS_RHO = 7;

/* Whether levels have timesteps of training, and a network that wants whole ones. */
static bool rounds(const struct schedule_job *job)
{
    return job->config->sampler->rule == SCHED_RULE_DPM && !job->table->edm;
}

static void fill_normal(const struct schedule_job *job, double *ret_sigmas, double *ret_timesteps)
{
    for (int i = 0; i < job->n; i++) {
        ret_sigmas[i] = job->spaced_sigmas[i];
        ret_timesteps[i] = job->spaced[i];
    }
}

/* The ends of a range schedule: the run's own for Euler's rule, the model's for the DPM rule and
 * for EDM. */
static void range_of(const struct schedule_job *job, double *ret_max, double *ret_min)
{
    bool whole = job->config->sampler->rule == SCHED_RULE_DPM || job->table->edm;
    *ret_max = whole ? job->table->sigmas[job->table->n - 1] : job->spaced_sigmas[0];
    *ret_min = whole ? job->table->sigmas[0] : job->spaced_sigmas[job->n - 1];
}

/* numpy.linspace(start, end, n)[i]. */
static double linspace(double start, double end, int n, int i)
{
    if (n == 1)
        return start;
    return i == n - 1 ? end : i * ((end - start) / (n - 1)) + start;
}

static void fill_karras(const struct schedule_job *job, double *ret_sigmas, double *ret_timesteps)
{
    double max, min, rho = job->table->edm ? job->config->rho : KARRAS_RHO;
    range_of(job, &max, &min);
    double max_root = dr_pow(max, 1 / rho), min_root = dr_pow(min, 1 / rho);
    for (int i = 0; i < job->n; i++) {
        double root = max_root + linspace(0, 1, job->n, i) * (min_root - max_root);
        ret_sigmas[i] = dr_pow(root, rho);
        double t = noise_table_timestep(job->table, ret_sigmas[i]);
        ret_timesteps[i] = rounds(job) ? rint(t) : t;
    }
}

static void fill_exponential(const struct schedule_job *job, double *ret_sigmas,
                             double *ret_timesteps)
{
    double max, min;
    range_of(job, &max, &min);
    double log_max = dr_log(max), log_min = dr_log(min);
    for (int i = 0; i < job->n; i++) {
        ret_sigmas[i] = dr_exp(linspace(log_max, log_min, job->n, i));
        double t = noise_table_timestep(job->table, ret_sigmas[i]);
        ret_timesteps[i] = rounds(job) ? floor(t) : t;
    }
}

static void fill_sgm_uniform(const struct schedule_job *job, double *ret_sigmas,
                             double *ret_timesteps)
{
    for (int i = 0; i < job->n; i++) {
        double t = linspace(job->table->n - 1, 0, job->n + 1, i);
        ret_sigmas[i] = noise_table_sigma_log(job->table, t);
        ret_timesteps[i] = rounds(job) ? rint(t) : t;
    }
}

/* "Uniform" is AUTOMATIC1111's name for the model's own levels; ComfyUI's "normal" and
 * stable-diffusion.cpp's "discrete" are near, not equal: there is one normal here, that of the
 * sampler's diffusers class. */
static const char *const normal_aliases[] = { "discrete", "uniform", NULL };
static const char *const karras_aliases[] = { "use_karras_sigmas", NULL };
static const char *const exponential_aliases[] = { "use_exponential_sigmas", NULL };
static const char *const sgm_uniform_aliases[] = { "sgm", NULL };

const struct schedule_info schedule_normal = {
    .name = "normal",
    .title = "Normal",
    .aliases = normal_aliases,
    .kind = SCHEDULE_SPACED,
    .fill = fill_normal,
};

const struct schedule_info schedule_karras = {
    .name = "karras",
    .title = "Karras",
    .aliases = karras_aliases,
    .kind = SCHEDULE_RANGE,
    .fill = fill_karras,
};

const struct schedule_info schedule_exponential = {
    .name = "exponential",
    .title = "Exponential",
    .aliases = exponential_aliases,
    .kind = SCHEDULE_RANGE,
    .fill = fill_exponential,
};

const struct schedule_info schedule_sgm_uniform = {
    .name = "sgm_uniform",
    .title = "SGM Uniform",
    .aliases = sgm_uniform_aliases,
    .kind = SCHEDULE_FIXED,
    .fill = fill_sgm_uniform,
};

static const struct schedule_info *const all[] = {
#define X(name) &schedule_##name,
#include "schedulers/schedules.def"
#undef X
};

static const char *const lines[] = {
#define X(name) #name,
#include "schedulers/schedules.def"
#undef X
};

enum { COUNT = sizeof all / sizeof *all };

const struct schedule_info *const *schedule_all(size_t *ret_n)
{
    *ret_n = COUNT;
    return all;
}

int schedule_info_check(const struct schedule_info *info, const char *line, struct dr_error *err)
{
    const struct dr_member members[] = {
        { "fill", info->fill != NULL },
        { "kind", info->kind < SCHEDULE_KIND_COUNT },
    };
    int r = dr_members_check_name("schedule", line, info->name, err);
    return r ? r
             : dr_members_check("schedule", line, members, sizeof members / sizeof *members, err);
}

int schedule_tables_check(struct dr_error *err)
{
    int r = 0;
    for (size_t i = 0; !r && i < COUNT; i++)
        r = schedule_info_check(all[i], lines[i], err);
    return r;
}

const char *schedule_title(const struct schedule_info *info)
{
    return info->title ? info->title : info->name;
}

const struct schedule_info *schedule_find(const char *name)
{
    for (size_t i = 0; i < COUNT; i++) {
        if (sched_same_name(name, all[i]->name) || sched_same_name(name, schedule_title(all[i])))
            return all[i];
        for (const char *const *alias = all[i]->aliases; alias && *alias; alias++) {
            if (sched_same_name(name, *alias))
                return all[i];
        }
    }
    return NULL;
}

int schedule_lookup(const char *field, const char *name, const struct schedule_info **ret_schedule,
                    struct dr_error *err)
{
    const struct schedule_info *found = schedule_find(name);
    if (found) {
        *ret_schedule = found;
        return 0;
    }
    const char *names[COUNT];
    for (size_t i = 0; i < COUNT; i++)
        names[i] = all[i]->name;
    int r = dr_fail_choice(err, DR_EINVAL, field, name, names, COUNT);
    return sched_tell_elsewhere(name, r, err);
}

/* Whether the timesteps of the class's rule matter. */
static bool uses_rule(const struct schedule_info *schedule, const struct sched_info *sampler)
{
    return schedule->kind == SCHEDULE_SPACED ||
           (schedule->kind == SCHEDULE_RANGE && sampler->rule != SCHED_RULE_DPM);
}

bool schedule_uses_spacing(const struct schedule_info *schedule, const struct sched_info *sampler)
{
    return uses_rule(schedule, sampler) && sampler->rule != SCHED_RULE_CONSISTENCY;
}

bool schedule_is_spaced(const struct sched_config *config)
{
    return !sched_is_edm(config) && schedule_uses_spacing(config->schedule, config->sampler);
}

static int steps_error(const struct sched_config *c, const char *why, struct dr_error *err)
{
    char got[32];
    snprintf(got, sizeof got, "%d", c->steps);
    return dr_fail_field(err, DR_EINVAL, "steps", got,
                         "fewer steps for this sampler, spacing and schedule", why);
}

/* Element i, falling, of the class's timesteps; leading's stride must not be 0. The DPM rule lays
 * out one step more and drops the lowest. */
static double spaced_timestep(const struct sched_config *c, int i)
{
    int train = c->train_steps, n = c->steps;
    bool dpm = c->sampler->rule == SCHED_RULE_DPM;
    int points = dpm ? n + 1 : n;
    int rising = points - 1 - i;
    if (c->spacing == SCHED_LEADING)
        return (double)rising * (train / points) + c->steps_offset;
    if (c->spacing == SCHED_TRAILING) {
        double delta = (train - (double)train / n) - train;
        return rint(train + i * delta) - 1;
    }
    double t = linspace(0, train - 1, points, rising);
    return c->sampler->rule == SCHED_RULE_EULER ? (float)t : rint(t);
}

/* The model was distilled at `original` timesteps, k apart; a run takes n of them, evenly by their
 * index from the last. Luo et al. 2023 (arXiv 2310.04378), section 4.3, as diffusers' LCMScheduler
 * rounds it. */
static int thin(const struct sched_config *c, double *ret_timesteps, struct dr_error *err)
{
    int original = (int)c->option[sched_option_row(c->sampler, SCHED_ORIGINAL_STEPS)];
    char got[32], expected[64];
    if (original > c->train_steps) {
        snprintf(got, sizeof got, "%d", original);
        snprintf(expected, sizeof expected, "at most %d, as many as the model has", c->train_steps);
        return dr_fail_field(err, DR_EINVAL, "sampler." SCHED_ORIGINAL_STEPS, got, expected, NULL);
    }
    if (c->steps > original)
        return steps_error(c, "more than its " SCHED_ORIGINAL_STEPS, err);
    int stride = c->train_steps / original;
    double apart = original / (double)c->steps;
    for (int i = 0; i < c->steps; i++)
        ret_timesteps[i] = (original - floor(i * apart)) * stride - 1;
    return 0;
}

static int space(const struct sched_config *c, double *ret_timesteps, struct dr_error *err)
{
    if (c->sampler->rule == SCHED_RULE_CONSISTENCY)
        return thin(c, ret_timesteps, err);
    int points = c->sampler->rule == SCHED_RULE_DPM ? c->steps + 1 : c->steps;
    if (c->steps < 1 || c->steps > c->train_steps ||
        (points > c->train_steps && c->spacing != SCHED_TRAILING))
        return steps_error(c, "the model has no more timesteps", err);
    for (int i = 0; i < c->steps; i++)
        ret_timesteps[i] = spaced_timestep(c, i);
    return 0;
}

static int check(const struct sched_config *c, const float *timesteps, const float *sigmas,
                 struct dr_error *err)
{
    if (c->sampler->rule == SCHED_RULE_DDIM && timesteps[0] > (float)(c->train_steps - 1))
        return steps_error(c, "the first timestep would lie beyond the model's last", err);
    for (int i = 0; i < c->steps; i++) {
        bool again = i && sigmas[i] == sigmas[i - 1] && c->sampler->repeats;
        if (!(sigmas[i] > 0) || (i && sigmas[i] >= sigmas[i - 1] && !again))
            return steps_error(c, "two steps would share a noise level", err);
    }
    return 0;
}

/* The levels of the list. */
static void fill_listed(const struct schedule_job *job, double *ret_sigmas, double *ret_timesteps)
{
    for (int i = 0; i < job->n; i++) {
        double v = job->config->level[i];
        bool sigmas = job->config->listed == SCHED_LISTED_SIGMAS;
        ret_sigmas[i] = sigmas ? v : noise_table_sigma(job->table, v);
        ret_timesteps[i] = sigmas ? noise_table_timestep(job->table, v) : v;
    }
}

int schedule_make(const struct sched_config *config, const struct noise_table *table,
                  float *ret_timesteps, float *ret_sigmas, struct dr_error *err)
{
    int n = config->steps;
    if (n < 1 || n > config->train_steps)
        return steps_error(config, "the model has no more timesteps", err);
    double *work = dr_calloc(DR_TAG_JOB, 4 * (size_t)n, sizeof *work);
    if (!work)
        return dr_fail(err, DR_ENOMEM, "out of memory for a schedule of %d steps", n);
    double *spaced = work, *spaced_sigmas = work + n;
    double *sigmas = work + 2 * (size_t)n, *timesteps = work + 3 * (size_t)n;
    bool listed = config->listed != SCHED_LISTED_NOT;
    bool uses = !listed && !sched_is_edm(config) && uses_rule(config->schedule, config->sampler);
    int r = uses ? space(config, spaced, err) : 0;
    if (r)
        goto out;
    for (int i = 0; uses && i < n; i++)
        spaced_sigmas[i] = noise_table_sigma(table, spaced[i]);
    struct schedule_job job = { table, config, spaced, spaced_sigmas, n };
    (listed ? fill_listed : config->schedule->fill)(&job, sigmas, timesteps);
    for (int i = 0; i < n; i++) {
        ret_sigmas[i] = (float)sigmas[i];
        ret_timesteps[i] = (float)timesteps[i];
    }
    r = check(config, ret_timesteps, ret_sigmas, err);
out:
    dr_free(work);
    return r;
}
