/* scheduler_factory.h - the samplers there are, and how any of their names finds them.
 *
 * One line of schedulers.def and one file is a sampler. Names of diffusers classes, of
 * AUTOMATIC1111 and of ComfyUI are aliases; case, spaces, '-' and '_' do not count, nor do a
 * leading "k_" and a final "Scheduler".
 */
#ifndef DR_SCHEDULERS_SCHEDULER_FACTORY_H
#define DR_SCHEDULERS_SCHEDULER_FACTORY_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "schedulers/base_scheduler.h"

struct noise_table;

/* Most aliases of a sampler. */
enum { SCHED_MAX_ALIASES = 16 };

/* A number that a sampler can be given: "NAME,key=value" (scheduler_options.h). Its value is
 * config->option[i], where i is its row in the sampler's table. A key of that name in the model's
 * scheduler_config.json is its default if the file is of the sampler's class. */
struct sched_option {
    const char *name;
    double lo, hi, dflt;
    bool whole;       /* integers only */
    const char *help; /* one line */
    /* The values lo to hi are spelled by these, NULL at the end; NULL: they are numbers. */
    const char *const *names;
};

/* The levels of a step: where it begins, where it leads, and where the step after it leads (0 where
 * there is none). */
struct sched_way {
    double from, to, after;
};

/* How many times the model is evaluated in a step, and at which levels. All NULL: once, at the
 * level where the step begins. */
struct sched_layout {
    /* Evaluations of one of config->steps steps. */
    int (*evaluations)(const struct sched_config *config, int step);
    /* Sigma of evaluation `part` (1, 2, ...) of a step; NULL: where the step leads, so that it
     * shares its level with the next step's first evaluation. */
    double (*level)(const struct sched_config *config, const struct sched_way *way, int part);
    /* An open number of evaluations: after each one the sampler says whether there is another and
     * at which sigma. `evaluations` and `level` are not read then. */
    bool (*next)(const struct sched *s, double *ret_sigma);
};

/* Where the noise that a sampler adds comes from. */
enum sched_noise {
    SCHED_NOISE_NONE,
    SCHED_NOISE_NORMAL,   /* normals of the picture's generator, in the order they are asked for */
    SCHED_NOISE_BROWNIAN, /* the increment of a Brownian path over an interval of sigma: a function
                           * of seed and interval (brownian_tree.h) */
    SCHED_NOISE_COUNT
};

/* What a run's levels may be listed as, in place of a schedule and a number of steps. */
enum sched_lists { SCHED_LISTS_TIMESTEPS = 1, SCHED_LISTS_SIGMAS = 2 };

/* What the model said. */
struct sched_answer {
    const float *pred;   /* [n] after guidance */
    const float *uncond; /* [n] the unconditional one; may be NULL for samplers without `uncond` */
};

/* How a class lays timesteps and sigmas out. */
enum sched_rule {
    SCHED_RULE_EULER,       /* the run's own range, fractional timesteps */
    SCHED_RULE_DDIM,        /* as Euler's, but integer timesteps and alphas from the table */
    SCHED_RULE_DPM,         /* stride of n+1 steps, the model's whole range, integer timesteps */
    SCHED_RULE_CONSISTENCY, /* the timesteps of option original_inference_steps, thinned evenly,
                             * whatever the spacing */
    SCHED_RULE_COUNT
};

/* A key of the diffusers class whose other values are not done (those that all classes of the DPM
 * rule have stand in scheduler_manager.c): `accepted` are the values that are,
 * as text, separated by '|' ("zero", "false", "2|3"). null and absence are always accepted. */
struct sched_fixed_key {
    const char *key, *accepted;
};

/* What the diffusers class takes where its file says nothing. */
struct sched_defaults {
    enum sched_spacing spacing;
    enum sched_betas betas;
    double beta_start, beta_end;
    bool set_alpha_to_one, clip_sample;
};

struct sched_info {
    /* Required. */
    const char *name; /* canonical, "dpmpp_2m"; that of its line in schedulers.def */
    int order;        /* of accuracy: the error of a run falls with steps^-order (without noise) */
    int even_order;   /* the same where the levels are evenly apart in sigma; 0: `order` */
    /* Moves the latents over the current evaluation. Noise is what sched_noise gives. */
    void (*feed)(struct sched *s, const struct sched_answer *answer);

    /* Optional. */
    const char *title;          /* for people, "DPM++ 2M"; NULL: the name */
    const char *diffusers;      /* "DPMSolverMultistepScheduler"; NULL: there is no class */
    const char *const *aliases; /* further names, NULL at the end; NULL: none */
    const struct sched_fixed_key *fixed;   /* key NULL at the end; NULL: none */
    const struct sched_defaults *defaults; /* NULL: linspace, linear betas 0.0001 to 0.02 */
    enum sched_rule rule;                  /* left out: Euler's */
    struct sched_layout layout;            /* left out: one evaluation a step */
    const struct sched_option *options;    /* name NULL at the end; NULL: none */
    enum sched_noise noise; /* with an option eta only where that is above 0; left out: none */
    unsigned lists;         /* enum sched_lists: what its levels may be listed as; left out: not */
    double cfg;       /* guidance scale where a request gives none; 0: the request's default */
    bool uncond;      /* needs the unconditional prediction too */
    bool vp;          /* variance-preserving latents */
    bool sigma_flags; /* the class has use_karras_sigmas and use_exponential_sigmas */
    bool zero_snr;    /* the class has rescale_betas_zero_snr */
    bool no_sample;   /* the class refuses prediction type sample */
    bool repeats;     /* a step between equal levels leaves the latents as they are */
    bool consistency; /* made for models whose prediction is the end of the flow, not the mean of
                       * what the latents may come from */
    int vectors;      /* history kept in the state, in arrays of n floats */
    int scalars;      /* further numbers kept in the state, doubles */
    int aux;          /* constants kept, in doubles per evaluation */

    /* Fills the constants once timesteps and sigmas are there; NULL: nothing to do. Called again
     * when other sigmas are put in place. */
    int (*prepare)(struct sched *s, const struct noise_table *table, struct dr_error *err);
    /* Sets the scalars, which are 0, for a start at s->sigmas[first_step]; NULL: nothing to do. */
    void (*begin)(struct sched *s, int first_step);
};

/* All of them, in the order of schedulers.def. */
const struct sched_info *const *sched_all(size_t *ret_n);

/* DR_EINTERNAL that names the sampler and the member where a required one is missing or members do
 * not go together. `line` is the sampler's name in schedulers.def. */
int sched_info_check(const struct sched_info *info, const char *line, struct dr_error *err);

/* The same for all samplers and schedules: called at the start of a worker. */
int sched_tables_check(struct dr_error *err);

/* The title for people, or the name where there is none. */
const char *sched_title(const struct sched_info *info);

/* The k-th spelling of its name, of those that it has: name, title, diffusers' class, aliases; NULL
 * after the last. */
const char *sched_spelling(const struct sched_info *info, size_t k);

/* By name or alias; NULL when there is none. A schedule's name at the end ("DPM++ 2M Karras") is
 * split off into *ret_schedule, else that is NULL; ret_schedule NULL: such names are not found. */
const struct sched_info *sched_find(const char *name, const struct schedule_info **ret_schedule);

/* The same; an unknown name is DR_EINVAL about `field`, naming the nearest. */
int sched_lookup(const char *field, const char *name, const struct sched_info **ret_sampler,
                 const struct schedule_info **ret_schedule, struct dr_error *err);

#endif
