/* scheduler_options.h - the numbers that a sampler can be given: "dpmpp_sde,eta=0.8,r=0.3".
 *
 * Each sampler has its own table of them (struct sched_option): name, range, default, help. Their
 * values lie in sched_config.option, by row.
 */
#ifndef DR_SCHEDULERS_SCHEDULER_OPTIONS_H
#define DR_SCHEDULERS_SCHEDULER_OPTIONS_H

#include "base/spec.h"
#include "schedulers/scheduler_factory.h"

/* The option that every sampler of SCHED_RULE_CONSISTENCY has. */
#define SCHED_ORIGINAL_STEPS "original_inference_steps"

/* Rows of the table. */
int sched_option_count(const struct sched_info *info);
/* The row of that name; -1: none. */
int sched_option_row(const struct sched_info *info, const char *name);

/* The value of option eta: the weight of fresh noise; 0 for samplers without it. */
double sched_eta(const struct sched_config *config);

enum { SCHED_OPTION_TEXT = 32 };

/* A value as it is typed; `dst` is room for it. */
const char *sched_option_text(const struct sched_option *option, double value,
                              char dst[SCHED_OPTION_TEXT]);

/* Fills config->option with the sampler's defaults, then with what the spec and the request's own
 * eta (NaN: not given) say. DR_EINVAL names "sampler.KEY" or "eta": an option that the sampler
 * does not have (and the nearest that it has), a value that is no number or out of range, two
 * values of eta. spec may be NULL. */
int sched_options_apply(const struct spec *spec, double eta, struct sched_config *config,
                        struct dr_error *err);

/* Options that the spec leaves open, from keys of their names in `file`, a scheduler_config.json of
 * the sampler's class. DR_EINVAL names "FILE: KEY". */
int sched_options_from_file(const json_t *file, const struct spec *spec,
                            struct sched_config *config, struct dr_error *err);

/* Rows of a schedule's table, and the row of that name; -1: none. */
int schedule_option_row(const struct schedule_info *info, const char *name);
int schedule_option_count(const struct schedule_info *info);

/* Fills config->schedule_option for config->schedule: defaults, then the spec's, which may be NULL.
 * Errors as of sched_options_apply. */
int sched_schedule_options_apply(const struct spec *spec, struct sched_config *config,
                                 struct dr_error *err);

/* DR_EINTERNAL about a table with a fault: of any, and of a sampler's with what goes with it. */
int sched_option_table_check(const char *kind, const char *line, const struct sched_option *options,
                             struct dr_error *err);
int sched_options_check(const struct sched_info *info, const char *line, struct dr_error *err);

#endif
