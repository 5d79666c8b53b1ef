/* base_scheduler.h - samplers as a pull interface: the scheduler says where to look, the model
 * predicts, the scheduler takes the prediction.
 *
 * Why pull: the loop over model evaluations is written once, in inference/, and cancel, progress,
 * checkpoints, guidance and batching hang on it, whatever the order of the sampler. Numbers follow
 * the classes of diffusers 0.42.1 (EulerDiscreteScheduler, DDIMScheduler, ...), each by its own
 * rule; see schedulers.def for the list. One object drives one picture: image i of a batch has its
 * own object and its own generator.
 *
 *     struct sched_config config;
 *     sched_configure(file, &request, &config, err);                    (scheduler_manager.h)
 *     sched_new(&config, 4 * h * w, &s, err);
 *     for each value: noise *= sched_init_noise_scale(s);
 *     sched_begin(s, noise, 0, err);
 *     while (sched_next(s, &ask)) {
 *         predict(ask.x, ask.timestep, pred);
 *         sched_feed(s, pred, NULL, &rng, err);
 *     }
 *     decode(sched_latents(s));
 *     sched_free(s);
 *
 * Latents are plain float arrays, NCHW of one picture, in the class's own parametrisation: variance
 * exploding (x = x0 + sigma*eps) for the Euler family and all models of the EDM formulation,
 * variance preserving (x = alpha*x0 + sigma*eps) for the others.
 */
#ifndef DR_SCHEDULERS_BASE_SCHEDULER_H
#define DR_SCHEDULERS_BASE_SCHEDULER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/rng.h"

struct sched;
struct sched_info;    /* a sampler: scheduler_factory.h */
struct schedule_info; /* a sigma schedule: schedules.h */

enum sched_spacing { SCHED_LEADING, SCHED_TRAILING, SCHED_LINSPACE, SCHED_SPACING_COUNT };
/* What the network's output is. The last two: the output that the preconditioning of Karras et al.
 * 2022 (arXiv 2206.00364, table 1) wants, and the same with its sign turned (velocity). */
enum sched_prediction {
    SCHED_EPSILON,
    SCHED_V_PREDICTION,
    SCHED_SAMPLE,
    SCHED_EDM,
    SCHED_EDM_V,
    SCHED_PREDICTION_COUNT
};
enum sched_betas { SCHED_SCALED_LINEAR, SCHED_LINEAR, SCHED_BETAS_COUNT };

enum {
    SCHED_MAX_TRAIN_STEPS = 10000,
    SCHED_MAX_OPTIONS = 16,
    SCHED_MAX_LISTED = 1000, /* steps of a run whose levels are listed */
    SCHED_MAX_OPEN = 2000    /* evaluations of a run whose number is open */
};

/* Where a run's levels come from: its schedule, or a list of timesteps or of sigmas. */
enum sched_listed { SCHED_LISTED_NOT, SCHED_LISTED_TIMESTEPS, SCHED_LISTED_SIGMAS };

/* Whose rules a run follows where programs differ; all 0: those of diffusers' classes. */
enum sched_levels {
    SCHED_LEVELS_CLASS, /* each sampler's class of diffusers has its own (enum sched_rule) */
    SCHED_LEVELS_MODEL  /* k-diffusion's: between the model's ends, whatever the sampler */
};
enum sched_start {
    SCHED_START_CLASS, /* as the class scales it */
    SCHED_START_SIGMA, /* noise times the first sigma */
    SCHED_START_FULL   /* times sqrt(1 + sigma^2) from the model's highest level up, else sigma */
};

struct sched_conventions {
    enum sched_levels levels;
    enum sched_start start;
    bool beta_of_timesteps; /* schedule beta chooses timesteps, not sigmas */
    bool whole_timesteps;   /* the network is given the nearest timestep of training */
    /* Folded names, separated by blanks, NULL: none. Samplers whose levels stay their class's; and
     * those that lay out a level more and leave the lowest out. */
    const char *by_class, *one_more;
};

/* Effective settings, all decided: what a receipt records. sched_configure fills it. */
struct sched_config {
    const struct sched_info *sampler;
    const struct schedule_info *schedule; /* normal where the levels are listed */
    enum sched_listed listed;
    float level[SCHED_MAX_LISTED]; /* [steps] the list, without the last 0 of sigmas */
    enum sched_spacing spacing;
    int steps;
    double option[SCHED_MAX_OPTIONS];          /* in the order of the sampler's table */
    double schedule_option[SCHED_MAX_OPTIONS]; /* of the schedule's */
    struct sched_conventions conventions;
    int optimised_for; /* the model whose optimised levels are taken: 0 SD 1.5, 1 SDXL */

    enum sched_prediction prediction;
    enum sched_betas betas;
    double beta_start, beta_end;
    int train_steps;       /* timesteps the model was trained on */
    int steps_offset;      /* added to the timesteps of spacing leading */
    bool set_alpha_to_one; /* ddim: the last step ends without noise, not at timestep 0 */
    double clip_range;     /* ddim: x0 is clipped to this on both sides; 0: it is not */
    bool rescale_betas_zero_snr;
    /* Of EDM alone, whose levels are any between two ends; betas say nothing there. */
    double sigma_data, sigma_min, sigma_max, rho;

    unsigned assumed;       /* bit i: key i of sched_assumed was not in the model's file */
    bool zero_snr_ignored;  /* the model has rescale_betas_zero_snr, the sampler has not */
    char missing_class[64]; /* class of the model's file for which another is used; "" */
};

enum { SCHED_WARNING = 1000 };

/* Name of key `i` if the value of the model's family stands in for what its file does not say, else
 * ""; NULL past the last key. */
const char *sched_assumed(const struct sched_config *config, int i);

/* Warning `i` about these settings as text; false past the last one. */
bool sched_warning(const struct sched_config *config, int i, char ret_text[SCHED_WARNING]);

/* Whether the model is of the EDM formulation: sigmas instead of timesteps of training. */
static inline bool sched_is_edm(const struct sched_config *config)
{
    return config->prediction == SCHED_EDM || config->prediction == SCHED_EDM_V;
}

/* The evaluations of a run with these settings, 0 where the sampler decides while it runs: the one
 * place where their number comes from. */
int sched_count(const struct sched_config *config);
/* Of those, the ones before a step. */
int sched_count_before(const struct sched_config *config, int step);

/* One question to the model. */
struct sched_ask {
    const float *x;  /* [n] latents already scaled as the model wants them; until sched_feed */
    double timestep; /* may be fractional in the Euler family */
    double sigma;    /* noise to signal ratio of the latents */
    int evaluation, evaluations; /* `evaluations` is 0 where their number is open, */
    int step, steps;             /* and then so is `steps`, and `step` counts evaluations */
    int part;                    /* which of the step's evaluations */
};

/* Latents of n floats. The object lives until sched_free; nothing is allocated after this.
 * DR_EINVAL with the field's name for settings that do not go together, DR_ENOMEM. The config is
 * copied. */
int sched_new(const struct sched_config *config, size_t n, struct sched **ret_sched,
              struct dr_error *err);
void sched_free(struct sched *s);

/* What standard normal noise is multiplied with to become the latents of step 0. */
double sched_init_noise_scale(const struct sched *s);

/* The arrays of the diffusers object, float32: a timestep for each of sched_levels and one sigma
 * more (ddim: sqrt((1-abar)/abar), the last of the final alpha). A level is an evaluation; where
 * their number is open (sched_evaluations is 0) it is a step of the schedule. They live as long as
 * the object. */
int sched_evaluations(const struct sched *s);
int sched_levels(const struct sched *s);
int sched_level_of(const struct sched *s, int step); /* the first of a step's */
const float *sched_timesteps(const struct sched *s);
const float *sched_sigmas(const struct sched *s);

/* Puts other timesteps [levels] or sigmas [levels + 1] in place (NULL: stays), for injected stages;
 * before sched_begin. Its own arrays change no bit. DR_EINVAL for values no run has: timesteps
 * outside the training range, sigmas that are not finite, positive (the last: 0 or more) and
 * falling from step to step; and for timesteps where the sampler chooses its own. */
int sched_replace(struct sched *s, const float *timesteps, const float *sigmas,
                  struct dr_error *err);

/* Clean latents and noise [n] to latents of `first_step`, for a start in the middle. ret_latents
 * may be either. */
void sched_add_noise(const struct sched *s, int first_step, const float *clean, const float *noise,
                     float *ret_latents);

/* The same at a level of that sigma. */
void sched_noise_to(const struct sched *s, double sigma, const float *clean, const float *noise,
                    float *ret_latents);

/* Starts at step first_step (0 .. steps-1) from latents[n], which are copied. May be called again
 * to start anew. */
int sched_begin(struct sched *s, const float *latents, int first_step, struct dr_error *err);

/* The step that an evaluation of a known number belongs to. */
int sched_step_of(const struct sched *s, int evaluation);

/* Weights of a question's x and of a prediction in the clean picture that the prediction means. */
struct sched_weights {
    double x, pred;
};
struct sched_weights sched_clean_weights(const struct sched *s, const struct sched_ask *ask);

/* Fills *ret_ask and returns true while the model is to be asked. Asking twice gives the same
 * question. */
bool sched_next(struct sched *s, struct sched_ask *ret_ask);

/* The prediction [n] for the last question, after guidance, and the unconditional one, which may be
 * NULL where sched_wants_uncond is false. rng: the picture's generator; NULL is fine where
 * sched_adds_noise is false. DR_ESTATE when nothing was asked; DR_ELIMIT when an open number of
 * evaluations passes SCHED_MAX_OPEN. */
int sched_feed(struct sched *s, const float *pred, const float *uncond, struct dr_rng *rng,
               struct dr_error *err);

/* Whether sched_feed needs a generator. */
bool sched_adds_noise(const struct sched *s);

bool sched_wants_uncond(const struct sched_config *config);

/* Where the noise in steps comes from, if not from sched_feed's generator alone; before
 * sched_begin. */
struct sched_source {
    int index, count; /* the latents are number `index` of `count` that are drawn together */
    uint64_t seed;    /* of a Brownian path */
    enum dr_rng_kind kind;
};

void sched_take_source(struct sched *s, const struct sched_source *source);

/* The latents [n] now. May be written between sched_feed and sched_next (masks, injected). */
float *sched_latents(struct sched *s);

/* The whole changing state as one flat block without pointers. Load into an object of the same
 * config and n; another's block is DR_EFORMAT and changes nothing. The generator is saved apart
 * (struct dr_rng is flat). */
size_t sched_state_size(const struct sched *s);
void sched_save(const struct sched *s, void *ret_state);
int sched_load(struct sched *s, const void *state, size_t size, struct dr_error *err);

const char *sched_spacing_name(enum sched_spacing spacing);
const char *sched_prediction_name(enum sched_prediction prediction);
const char *sched_betas_name(enum sched_betas betas);

#endif
