/* schedules.h - timesteps and sigmas: how a run's noise levels are chosen.
 *
 * A schedule is a line of schedules.def. It is not free of the sampler: each diffusers class lays
 * the same name out by its own rule (enum sched_rule), and that rule is followed. Where diffusers
 * has no such pair (karras and exponential for ddim and euler_a, sgm_uniform everywhere) the rule
 * is Darkroom's own and said so in schedules.c. Models of the EDM formulation have karras and
 * exponential between their own ends, by EDMEulerScheduler's rule whatever the sampler.
 */
#ifndef DR_SCHEDULERS_SCHEDULES_H
#define DR_SCHEDULERS_SCHEDULES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "schedulers/base_scheduler.h"
#include "schedulers/scheduler_factory.h"

struct noise_table;

/* What a schedule works from: `n` steps; `spaced` [n] timesteps by the class's spacing and
 * `spaced_sigmas` [n] interpolated there, both NULL where no spacing applies. */
struct schedule_job {
    const struct noise_table *table;
    const struct sched_config *config;
    const double *spaced, *spaced_sigmas;
    int n;
};

/* Who chooses the noise levels. */
enum schedule_kind {
    SCHEDULE_SPACED, /* the spacing's timesteps as they are */
    SCHEDULE_RANGE,  /* its own levels between two ends; the rule says whose ends */
    SCHEDULE_ENDS,   /* the same between the model's ends, whatever the rule */
    SCHEDULE_FIXED,  /* its own timesteps or levels, of models with timesteps of training */
    SCHEDULE_KIND_COUNT
};

struct schedule_info {
    /* Required. */
    const char *name; /* "karras"; that of its line in schedules.def */
    /* Fills n falling sigmas and their timesteps. */
    void (*fill)(const struct schedule_job *job, double *ret_sigmas, double *ret_timesteps);

    /* Optional. */
    enum schedule_kind kind;            /* left out: SCHEDULE_SPACED */
    const char *title;                  /* "Karras"; NULL: the name */
    const char *const *aliases;         /* NULL at the end; NULL: none */
    const struct sched_option *options; /* name NULL at the end; NULL: none */
    /* The fewest and the most steps with these options; NULL: 1, as many as there are timesteps. */
    int (*least)(const struct sched_config *config);
    int (*most)(const struct sched_config *config);
    /* Of one that stands for others: the name of the schedule that the sampler gets. */
    const char *(*stands_for)(const struct sched_info *sampler);
};

/* An option of the schedule that diffusers and other programs understand differently, and its
 * values. */
#define SCHEDULE_OVER "over"
enum { SCHEDULE_OVER_LEVELS = 1, SCHEDULE_OVER_TIMESTEPS };

const struct schedule_info *const *schedule_all(size_t *ret_n);

/* DR_EINTERNAL that names the schedule and the member: of one, and of all. */
int schedule_info_check(const struct schedule_info *info, const char *line, struct dr_error *err);
int schedule_tables_check(struct dr_error *err);

/* The title for people, or the name where there is none. */
const char *schedule_title(const struct schedule_info *info);

/* By name, title or alias; NULL: there is none. */
const struct schedule_info *schedule_find(const char *name);
/* The same of a text that may have options after the name (base/spec.h). */
const struct schedule_info *schedule_find_spec(const char *text);
/* The k-th spelling of its name: name, title, aliases; NULL after the last. */
const char *schedule_spelling(const struct schedule_info *info, size_t k);
int schedule_lookup(const char *field, const char *name, const struct schedule_info **ret_schedule,
                    struct dr_error *err);

/* Whether spacing has any say in this pair; false: the schedule fixes the timesteps by itself. */
bool schedule_uses_spacing(const struct schedule_info *schedule, const struct sched_info *sampler);
/* The same of whole settings: a model of the EDM formulation has no timesteps to space. */
bool schedule_is_spaced(const struct sched_config *config);

/* Whether a sampler is one of the names, NULL: none, of sched_conventions. */
bool sched_names_have(const char *names, const struct sched_info *sampler);

/* The timestep that the network is given, by the conventions. */
double sched_given_timestep(const struct sched_config *config, double timestep);

/* The timesteps and sigmas of config->steps steps, float32 as the diffusers object holds them but
 * for its repetitions (heun) and the final sigma. DR_EINVAL about "steps" where the class's rule
 * has no such count. */
int schedule_make(const struct sched_config *config, const struct noise_table *table,
                  float *ret_timesteps, float *ret_sigmas, struct dr_error *err);

#endif
