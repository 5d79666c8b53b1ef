/* schedules.c - see schedules.h. What all schedules share; each is in a schedule_*.c.
 *
 * Spacings: Lin et al. 2023 (arXiv 2305.08891), table 2. Rounding and truncation are those of
 * diffusers' EulerDiscreteScheduler, DDIMScheduler and DPMSolverMultistepScheduler, numpy's
 * linspace and arange included; the one deviation: where arange(1000, 0, -1000/n) gives n+1 values
 * by rounding (61, 103, ... steps of spacing trailing), the run has n steps as asked.
 *
 * Darkroom's own: karras, exponential and beta for ddim, euler_a and the consistency rule (sigmas
 * by Euler's rule; ddim, lcm and tcd take abar = 1/(1+sigma^2)); samplers of the DPM rule give the
 * model whole timesteps with every schedule, as their classes do for karras.
 */
#include "schedulers/schedules.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/members.h"
#include "base/nearest.h"
#include "base/words.h"
#include "schedulers/names.h"
#include "schedulers/schedule_impl.h"
#include "schedulers/scheduler_options.h"

void schedule_ends(const struct schedule_job *job, double *ret_max, double *ret_min)
{
    const struct noise_table *t = job->table;
    bool own = job->spaced && job->config->schedule->kind == SCHEDULE_RANGE &&
               job->config->sampler->rule != SCHED_RULE_DPM;
    double max = schedule_value(job, SCHEDULE_SIGMA_MAX);
    double min = schedule_value(job, SCHEDULE_SIGMA_MIN);
    *ret_max = max > 0 ? max : own ? job->spaced_sigmas[0] : t->sigmas[t->n - 1];
    *ret_min = min > 0 ? min : own ? job->spaced_sigmas[job->n - 1] : t->sigmas[0];
}

double schedule_linspace(double start, double end, int n, int i)
{
    if (n == 1)
        return start;
    return i == n - 1 ? end : i * ((end - start) / (n - 1)) + start;
}

/* Whether levels have timesteps of training, and a network that wants whole ones. */
static bool rounds(const struct sched_config *c)
{
    return c->sampler->rule == SCHED_RULE_DPM && !sched_is_edm(c) &&
           c->conventions.levels == SCHED_LEVELS_CLASS;
}

double schedule_timestep(const struct schedule_job *job, double sigma,
                         enum schedule_rounding rounding)
{
    double t = noise_table_timestep(job->table, sigma);
    return !rounds(job->config) ? t : rounding == SCHEDULE_DOWN ? floor(t) : rint(t);
}

void schedule_put_timestep(const struct schedule_job *job, int i, int timestep, double *ret_sigmas,
                           double *ret_timesteps)
{
    ret_sigmas[i] = job->table->sigmas[timestep];
    ret_timesteps[i] = timestep;
}

/* ---- the table ---- */

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
        { "fill", info->fill || info->stands_for },
        { "kind", info->kind < SCHEDULE_KIND_COUNT },
    };
    int r = dr_members_check_name("schedule", line, info->name, err);
    if (!r)
        r = dr_members_check("schedule", line, members, sizeof members / sizeof *members, err);
    return r ? r : sched_option_table_check("schedule", line, info->options, err);
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

const char *schedule_spelling(const struct schedule_info *info, size_t k)
{
    if (k < 2)
        return k ? schedule_title(info) : info->name;
    size_t n = 2;
    for (const char *const *alias = info->aliases; alias && *alias; alias++)
        if (n++ == k)
            return *alias;
    return NULL;
}

const struct schedule_info *schedule_find(const char *name)
{
    for (size_t i = 0; i < COUNT; i++) {
        const char *own;
        for (size_t k = 0; (own = schedule_spelling(all[i], k)); k++)
            if (sched_same_name(name, own))
                return all[i];
    }
    return NULL;
}

const struct schedule_info *schedule_find_spec(const char *text)
{
    char name[SCHED_NAME_BYTES];
    size_t n = strcspn(text, ",");
    if (n >= sizeof name)
        return NULL;
    snprintf(name, sizeof name, "%.*s", (int)n, text);
    return schedule_find(name);
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

static bool spaces(const struct sched_config *c)
{
    return !sched_is_edm(c) && c->conventions.levels == SCHED_LEVELS_CLASS &&
           uses_rule(c->schedule, c->sampler);
}

bool schedule_uses_spacing(const struct schedule_info *schedule, const struct sched_info *sampler)
{
    return uses_rule(schedule, sampler) && sampler->rule != SCHED_RULE_CONSISTENCY;
}

bool schedule_is_spaced(const struct sched_config *c)
{
    return spaces(c) && c->sampler->rule != SCHED_RULE_CONSISTENCY;
}

bool sched_names_have(const char *names, const struct sched_info *sampler)
{
    return names && word_in(names, ' ', sampler->name);
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
    double t = schedule_linspace(0, train - 1, points, rising);
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

/* Whether the schedule has so few or so many steps. */
static int check_steps(const struct sched_config *c, struct dr_error *err)
{
    const struct schedule_info *schedule = c->schedule;
    char got[32], expected[96];
    int least = schedule->least ? schedule->least(c) : 1;
    int most = schedule->most ? schedule->most(c) : c->train_steps;
    if (c->listed || (c->steps >= least && c->steps <= most))
        return 0;
    snprintf(got, sizeof got, "%d", c->steps);
    snprintf(expected, sizeof expected, "%d to %d with schedule %s and its options", least, most,
             schedule->name);
    return dr_fail_field(err, DR_EINVAL, "steps", got, expected, NULL);
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

/* Of schedules that can be given them. */
static int check_ends(const struct schedule_job *job, struct dr_error *err)
{
    const struct sched_option *options = job->config->schedule->options;
    double max, min;
    char got[32], expected[48];
    if (!options || strcmp(options[SCHEDULE_SIGMA_MIN].name, "sigma_min"))
        return 0;
    schedule_ends(job, &max, &min);
    if (min < max || (job->n == 1 && min == max))
        return 0;
    snprintf(got, sizeof got, "%.9g", min);
    snprintf(expected, sizeof expected, "a level below the highest, %.9g", max);
    return dr_fail_field(err, DR_EINVAL, "schedule.sigma_min", got, expected, NULL);
}

/* The timesteps of `job`, whose config has the steps that are laid out. */
static int lay_out(struct schedule_job *job, double *work, double *ret_sigmas,
                   double *ret_timesteps, struct dr_error *err)
{
    const struct sched_config *c = job->config;
    bool listed = c->listed != SCHED_LISTED_NOT;
    bool uses = !listed && spaces(c);
    int r = check_steps(c, err);
    if (!r && uses)
        r = space(c, work, err);
    if (r)
        return r;
    if (uses) {
        for (int i = 0; i < job->n; i++)
            work[job->n + i] = noise_table_sigma(job->table, work[i]);
        job->spaced = work;
        job->spaced_sigmas = work + job->n;
    }
    if (!listed)
        r = check_ends(job, err);
    if (r)
        return r;
    (listed ? fill_listed : c->schedule->fill)(job, ret_sigmas, ret_timesteps);
    for (int i = 0; i < job->n; i++)
        ret_timesteps[i] = sched_given_timestep(c, ret_timesteps[i]);
    return 0;
}

double sched_given_timestep(const struct sched_config *config, double timestep)
{
    bool whole = config->conventions.whole_timesteps && !sched_is_edm(config);
    return whole ? rint(timestep) : timestep;
}

int schedule_make(const struct sched_config *config, const struct noise_table *table,
                  float *ret_timesteps, float *ret_sigmas, struct dr_error *err)
{
    struct sched_config laid = *config;
    int n = config->steps;
    if (n < 1 || n > config->train_steps)
        return steps_error(config, "the model has no more timesteps", err);
    if (!config->listed && sched_names_have(config->conventions.one_more, config->sampler))
        laid.steps++;
    size_t count = (size_t)laid.steps;
    double *work = dr_calloc(DR_TAG_JOB, 4 * count, sizeof *work);
    if (!work)
        return dr_fail(err, DR_ENOMEM, "out of memory for a schedule of %d steps", n);
    double *sigmas = work + 2 * count, *timesteps = work + 3 * count;
    struct schedule_job job = { .table = table, .config = &laid, .n = laid.steps };
    int r = lay_out(&job, work, sigmas, timesteps, err);
    for (int i = 0; !r && i < n; i++) {
        ret_sigmas[i] = (float)sigmas[i];
        ret_timesteps[i] = (float)timesteps[i];
    }
    if (!r)
        r = check(config, ret_timesteps, ret_sigmas, err);
    dr_free(work);
    return r;
}
