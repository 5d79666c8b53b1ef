/* base_scheduler.c - see base_scheduler.h. What all samplers share: arrays, the question, state,
 * noise. */
#include "schedulers/base_scheduler.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/checked.h"
#include "base/hash.h"
#include "base/rng.h"
#include "schedulers/brownian_tree.h"
#include "schedulers/scheduler_impl.h"
#include "schedulers/scheduler_options.h"

static const char STATE_MAGIC[8] = "DRSCHED1";

static const char *const spacing_names[SCHED_SPACING_COUNT] = { "leading", "trailing", "linspace" };
static const char *const prediction_names[SCHED_PREDICTION_COUNT] = { "epsilon", "v_prediction",
                                                                      "sample", "edm", "edm_v" };
static const char *const betas_names[SCHED_BETAS_COUNT] = { "scaled_linear", "linear" };

const char *sched_spacing_name(enum sched_spacing spacing)
{
    return spacing_names[spacing];
}

const char *sched_prediction_name(enum sched_prediction prediction)
{
    return prediction_names[prediction];
}

const char *sched_betas_name(enum sched_betas betas)
{
    return betas_names[betas];
}

void sched_mix(float *dst, size_t n, const struct sched_term *terms, int n_terms)
{
    enum { BLOCK = 256 };
    for (size_t from = 0; from < n; from += BLOCK) {
        size_t count = n - from < BLOCK ? n - from : BLOCK;
        double sum[BLOCK];
        for (size_t i = 0; i < count; i++)
            sum[i] = terms[0].weight * terms[0].v[from + i];
        for (int k = 1; k < n_terms; k++) {
            for (size_t i = 0; i < count; i++)
                sum[i] += terms[k].weight * terms[k].v[from + i];
        }
        for (size_t i = 0; i < count; i++)
            dst[from + i] = (float)sum[i];
    }
}

double *sched_scalars(const struct sched *s)
{
    return (double *)(s->state + 1);
}

float *sched_latents(struct sched *s)
{
    return (float *)(sched_scalars(s) + s->config.sampler->scalars);
}

float *sched_vector(struct sched *s, int k)
{
    return sched_latents(s) + s->n * (size_t)(k + 1);
}

/* Whether the latents are scaled to variance 1. */
static bool is_vp(const struct sched *s)
{
    return s->config.sampler->vp && !sched_is_edm(&s->config);
}

/* eps of x0 = c_skip x + c_out pred, with the sign of c_out. */
static struct sched_pair edm_slope(const struct sched *s, double sigma, double sign)
{
    double data = s->config.sigma_data, square = sigma * sigma + data * data;
    return (struct sched_pair){ sigma / square, -sign * data / sqrt(square) };
}

struct sched_pair sched_slope(const struct sched *s, double sigma)
{
    double square = sigma * sigma + 1;
    switch (s->config.prediction) {
    case SCHED_V_PREDICTION:
        return (struct sched_pair){ sigma / square, 1 / sqrt(square) };
    case SCHED_SAMPLE:
        return (struct sched_pair){ 1 / sigma, -1 / sigma };
    case SCHED_EDM:
        return edm_slope(s, sigma, 1);
    case SCHED_EDM_V:
        return edm_slope(s, sigma, -1);
    default:
        return (struct sched_pair){ 0, 1 };
    }
}

struct sched_pair sched_clean(const struct sched *s, double sigma)
{
    struct sched_pair eps = sched_slope(s, sigma);
    return (struct sched_pair){ 1 - sigma * eps.x, -sigma * eps.pred };
}

struct sched_pair sched_vp_clean(const struct sched *s, double alpha, double beta)
{
    switch (s->config.prediction) {
    case SCHED_V_PREDICTION:
        return (struct sched_pair){ alpha, -beta };
    case SCHED_SAMPLE:
        return (struct sched_pair){ 0, 1 };
    case SCHED_EDM:
    case SCHED_EDM_V: {
        struct sched_pair clean = sched_clean(s, beta / alpha);
        return (struct sched_pair){ clean.x / alpha, clean.pred };
    }
    default:
        return (struct sched_pair){ 1 / alpha, -beta / alpha };
    }
}

struct sched_pair sched_vp_noise(const struct sched *s, double alpha, double beta)
{
    switch (s->config.prediction) {
    case SCHED_V_PREDICTION:
        return (struct sched_pair){ beta, alpha };
    case SCHED_SAMPLE:
        return (struct sched_pair){ 1 / beta, -alpha / beta };
    case SCHED_EDM:
    case SCHED_EDM_V: {
        struct sched_pair slope = sched_slope(s, beta / alpha);
        return (struct sched_pair){ slope.x / alpha, slope.pred };
    }
    default:
        return (struct sched_pair){ 0, 1 };
    }
}

double sched_alpha(double sigma)
{
    return 1 / sqrt(sigma * sigma + 1);
}

double sched_alpha_at(const struct sched *s, double sigma)
{
    return is_vp(s) ? sched_alpha(sigma) : 1;
}

bool sched_by_timestep(const struct sched *s)
{
    return s->config.schedule == &schedule_normal && !s->given_sigmas &&
           s->config.conventions.levels == SCHED_LEVELS_CLASS;
}

double sched_alpha_bar(const struct sched *s, const struct noise_table *table, int evaluation)
{
    if (sched_by_timestep(s))
        return table->alphas[(int)s->timesteps[evaluation]];
    double alpha = sched_alpha(s->sigmas[evaluation]);
    return alpha * alpha;
}

int sched_check_pure_noise(const struct sched *s, double first_alpha_bar, struct dr_error *err)
{
    if (first_alpha_bar > 0 || s->config.prediction != SCHED_EPSILON)
        return 0;
    return dr_fail(err, DR_EINVAL,
                   "rescale_betas_zero_snr: the first timestep is pure noise, from which "
                   "prediction type epsilon cannot go on; v_prediction can");
}

struct sched_ancestral sched_ancestral_parts(double from, double to, double eta)
{
    double up = eta * sqrt(to * to * (from * from - to * to) / (from * from));
    up = up < to ? up : to;
    return (struct sched_ancestral){ sqrt(to * to - up * up), up };
}

static uint64_t fingerprint(const struct sched *s)
{
    const struct sched_info *info = s->config.sampler;
    uint64_t h = dr_hash(HASH_START, info->name, strlen(info->name));
    h = dr_hash(h, &s->config.prediction, sizeof s->config.prediction);
    double eta = sched_eta(&s->config);
    h = dr_hash(h, &eta, sizeof eta);
    if (sched_is_edm(&s->config))
        h = dr_hash(h, &s->config.sigma_data, sizeof s->config.sigma_data);
    h = dr_hash(h, &s->n, sizeof s->n);
    h = dr_hash(h, s->timesteps, (size_t)s->levels * sizeof *s->timesteps);
    h = dr_hash(h, s->sigmas, ((size_t)s->levels + 1) * sizeof *s->sigmas);
    h = dr_hash(h, s->aux, (size_t)s->levels * (size_t)info->aux * sizeof *s->aux);
    for (int i = 0; info->options && info->options[i].name; i++)
        if (i != sched_option_row(info, "eta"))
            h = dr_hash(h, &s->config.option[i], sizeof s->config.option[i]);
    return h;
}

static bool is_open(const struct sched *s)
{
    return s->config.sampler->layout.next != NULL;
}

/* Room for the noise, if any is added. */
static bool allocate_noise(struct sched *s)
{
    if (!sched_adds_noise(s))
        return true;
    s->noise = dr_calloc(DR_TAG_JOB, s->n, sizeof *s->noise);
    if (s->config.sampler->noise != SCHED_NOISE_BROWNIAN)
        return s->noise;
    s->work = dr_calloc(DR_TAG_JOB, s->n, 3 * sizeof *s->work);
    s->sum = dr_calloc(DR_TAG_JOB, s->n, sizeof *s->sum);
    return s->noise && s->work && s->sum;
}

static int allocate(struct sched *s, struct dr_error *err)
{
    const struct sched_info *info = s->config.sampler;
    size_t levels = (size_t)s->levels, bytes;
    if (!dr_mul_size(s->n, sizeof(float) * (size_t)(info->vectors + 1), &bytes) ||
        !dr_add_size(bytes, sizeof *s->state + (size_t)info->scalars * sizeof(double),
                     &s->state_size))
        return dr_fail(err, DR_ELIMIT, "latents of %zu values are too many", s->n);
    s->timesteps = dr_calloc(DR_TAG_JOB, levels, sizeof *s->timesteps);
    s->sigmas = dr_calloc(DR_TAG_JOB, levels + 1, sizeof *s->sigmas);
    s->begins = dr_calloc(DR_TAG_JOB, (size_t)s->config.steps + 1, sizeof *s->begins);
    s->aux = dr_calloc(DR_TAG_JOB, levels * (size_t)info->aux, sizeof *s->aux);
    s->input = dr_calloc(DR_TAG_JOB, s->n, sizeof *s->input);
    s->state = dr_calloc(DR_TAG_JOB, 1, s->state_size);
    if (!allocate_noise(s) || !s->timesteps || !s->sigmas || !s->begins || !s->aux || !s->input ||
        !s->state)
        return dr_fail(err, DR_ENOMEM, "out of memory for %s with latents of %zu values",
                       info->name, s->n);
    return 0;
}

/* ---- the layout of the levels ---- */

static int evaluations_of(const struct sched_config *c, int step)
{
    const struct sched_layout *layout = &c->sampler->layout;
    return layout->evaluations && !layout->next ? layout->evaluations(c, step) : 1;
}

int sched_two_but_last(const struct sched_config *config, int step)
{
    return step < config->steps - 1 ? 2 : 1;
}

int sched_count(const struct sched_config *config)
{
    return sched_count_before(config, config->steps);
}

int sched_count_before(const struct sched_config *config, int step)
{
    int count = 0;
    for (int i = 0; !config->sampler->layout.next && i < step; i++)
        count += evaluations_of(config, i);
    return count;
}

/* The levels of step's evaluations but the first: at its end, or where the sampler puts them. */
static void lay_out_step(struct sched *s, const struct noise_table *table, int step)
{
    const struct sched_layout *layout = &s->config.sampler->layout;
    int begin = s->begins[step], next = s->begins[step + 1];
    int after = s->begins[step + 2 <= s->config.steps ? step + 2 : step + 1];
    struct sched_way way = { s->sigmas[begin], s->sigmas[next], s->sigmas[after] };
    for (int e = begin + 1; e < next; e++) {
        s->sigmas[e] = s->sigmas[next];
        s->timesteps[e] = next < s->levels ? s->timesteps[next] : 0;
        if (!layout->level)
            continue;
        double sigma = layout->level(&s->config, &way, e - begin);
        s->sigmas[e] = (float)sigma;
        if (s->sigmas[e] != s->sigmas[next])
            s->timesteps[e] = (float)sched_given_timestep(&s->config,
                                                          noise_table_timestep(table, sigma));
    }
}

/* From a level of each step, one after another, to one of each evaluation. */
static void lay_out(struct sched *s, const struct noise_table *table)
{
    int steps = s->config.steps;
    for (int step = 0; step < steps; step++)
        s->begins[step + 1] = s->begins[step] + evaluations_of(&s->config, step);
    s->sigmas[s->begins[steps]] = 0;
    for (int step = steps - 1; step >= 0; step--) {
        s->timesteps[s->begins[step]] = s->timesteps[step];
        s->sigmas[s->begins[step]] = s->sigmas[step];
        lay_out_step(s, table, step);
    }
}

struct sched_place sched_place(const struct sched *s, int evaluation)
{
    int low = 0, end = s->config.steps;
    while (end - low > 1) {
        int middle = low + (end - low) / 2;
        if (s->begins[middle] <= evaluation)
            low = middle;
        else
            end = middle;
    }
    return (struct sched_place){ low, evaluation - s->begins[low], s->begins[low],
                                 s->begins[low + 1] };
}

static int check_config(const struct sched_config *c, size_t n, struct dr_error *err)
{
    if (!n)
        return dr_fail(err, DR_EINVAL, "a scheduler needs latents of at least one value");
    if (c->steps < 1)
        return dr_fail(err, DR_EINVAL, "steps: got %d, expected at least 1", c->steps);
    if (c->train_steps < 2 || c->train_steps > SCHED_MAX_TRAIN_STEPS)
        return dr_fail(err, DR_EINVAL, "num_train_timesteps: got %d, expected 2 to %d",
                       c->train_steps, SCHED_MAX_TRAIN_STEPS);
    bool by_timestep = c->sampler->rule == SCHED_RULE_DDIM ||
                       c->sampler->rule == SCHED_RULE_CONSISTENCY;
    if (sched_is_edm(c) && by_timestep)
        return dr_fail(err, DR_EINVAL, "sampler: %s needs timesteps of training", c->sampler->name);
    if (c->steps > c->train_steps)
        return dr_fail(err, DR_EINVAL,
                       "steps: got %d, expected at most %d, as many as the model has", c->steps,
                       c->train_steps);
    return 0;
}

int sched_new(const struct sched_config *config, size_t n, struct sched **ret_sched,
              struct dr_error *err)
{
    int r = check_config(config, n, err);
    if (r)
        return r;
    const struct sched_info *info = config->sampler;
    struct noise_table table = { 0 };
    struct sched *s = dr_calloc(DR_TAG_JOB, 1, sizeof *s);
    if (!s)
        return dr_fail(err, DR_ENOMEM, "out of memory for a scheduler");
    s->config = *config;
    s->n = n;
    s->evaluations = sched_count(config);
    s->levels = is_open(s) ? config->steps : s->evaluations;
    r = allocate(s, err);
    if (!r)
        r = noise_table_init(&table, config, err);
    if (!r)
        r = schedule_make(config, &table, s->timesteps, s->sigmas, err);
    if (r)
        goto out;
    lay_out(s, &table);
    s->highest = table.sigmas[table.n - 1];
    if (info->prepare)
        r = info->prepare(s, &table, err);
    if (r)
        goto out;
    memcpy(s->state->magic, STATE_MAGIC, sizeof s->state->magic);
    s->state->fingerprint = fingerprint(s);
    s->state->n = (int64_t)n;
    s->state->evaluation = -1;
    if (is_open(s)) {
        s->table = table;
        table = (struct noise_table){ 0 };
    }
    *ret_sched = s;
    s = NULL;
out:
    noise_table_release(&table);
    sched_free(s);
    return r;
}

/* Whether level e + 1 may follow level e. Steps must fall; within a step each level lies below the
 * step's first and, unless the sampler chooses it, at or above the next step's. At the end a step
 * may stay (ddim). */
static bool may_follow(const struct sched *s, int e, float now, float next)
{
    struct sched_place at = sched_place(s, e);
    bool inner = e + 1 < at.next, chosen = s->config.sampler->layout.level;
    if (inner || !at.part)
        return next < now || (e == s->levels - 1 && next == now);
    return next <= now || chosen;
}

static int check_replacement(const struct sched *s, const float *timesteps, const float *sigmas,
                             struct dr_error *err)
{
    if (timesteps && is_open(s))
        return dr_fail(err, DR_EINVAL, "timesteps: %s chooses its own while it runs",
                       s->config.sampler->name);
    for (int e = 0; timesteps && e < s->levels; e++) {
        bool own = timesteps[e] == s->timesteps[e];
        if (!own && sched_is_edm(&s->config) && isfinite(timesteps[e]))
            continue;
        if (!own && !(timesteps[e] >= 0 && timesteps[e] <= (float)(s->config.train_steps - 1)))
            return dr_fail(err, DR_EINVAL, "timesteps: entry %d is %g, expected 0 to %d", e,
                           (double)timesteps[e], s->config.train_steps - 1);
    }
    for (int e = 0; sigmas && e < s->levels; e++) {
        float now = sigmas[e], next = sigmas[e + 1];
        bool own = now == s->sigmas[e] && next == s->sigmas[e + 1];
        bool follows = own ? next <= now || s->config.sampler->layout.level
                           : may_follow(s, e, now, next);
        if (!(now > 0 && now < INFINITY && next >= 0 && next < INFINITY && follows))
            return dr_fail(err, DR_EINVAL,
                           "sigmas: entries %d and %d are %g and %g, expected positive and falling",
                           e, e + 1, (double)now, (double)next);
    }
    return 0;
}

int sched_replace(struct sched *s, const float *timesteps, const float *sigmas,
                  struct dr_error *err)
{
    struct noise_table table = { 0 };
    int r = check_replacement(s, timesteps, sigmas, err);
    if (!r)
        r = noise_table_init(&table, &s->config, err);
    if (r)
        return r;
    if (timesteps)
        memcpy(s->timesteps, timesteps, (size_t)s->levels * sizeof *timesteps);
    size_t bytes = ((size_t)s->levels + 1) * sizeof *sigmas;
    if (sigmas && memcmp(s->sigmas, sigmas, bytes)) {
        memcpy(s->sigmas, sigmas, bytes);
        s->given_sigmas = true;
    }
    if (s->config.sampler->prepare)
        r = s->config.sampler->prepare(s, &table, err);
    s->state->fingerprint = fingerprint(s);
    noise_table_release(&table);
    return r;
}

void sched_free(struct sched *s)
{
    if (!s)
        return;
    dr_free(s->timesteps);
    dr_free(s->sigmas);
    dr_free(s->begins);
    noise_table_release(&s->table);
    dr_free(s->work);
    dr_free(s->sum);
    dr_free(s->aux);
    dr_free(s->input);
    dr_free(s->noise);
    dr_free(s->state);
    dr_free(s);
}

/* sqrt(sigma^2 + 1) in float32, as the model's input is scaled; in EDM with the data's variance. */
static float input_scale(const struct sched *s, float sigma)
{
    float data = sched_is_edm(&s->config) ? (float)s->config.sigma_data : 1;
    return sqrtf(sigma * sigma + data * data);
}

double sched_init_noise_scale(const struct sched *s)
{
    enum sched_start start = s->config.conventions.start;
    if (start != SCHED_START_CLASS && !sched_is_edm(&s->config)) {
        double sigma = s->sigmas[0], full = sqrt(sigma * sigma + 1);
        bool whole = start == SCHED_START_FULL && sigma >= s->highest * (1 - 1e-5);
        return (whole ? full : sigma) / (is_vp(s) ? full : 1);
    }
    if (is_vp(s))
        return 1;
    bool wide = sched_is_edm(&s->config) || s->config.spacing == SCHED_LEADING;
    return wide ? sqrtf(s->sigmas[0] * s->sigmas[0] + 1) : s->sigmas[0];
}

int sched_evaluations(const struct sched *s)
{
    return s->evaluations;
}

int sched_levels(const struct sched *s)
{
    return s->levels;
}

int sched_level_of(const struct sched *s, int step)
{
    return s->begins[step];
}

const float *sched_timesteps(const struct sched *s)
{
    return s->timesteps;
}

const float *sched_sigmas(const struct sched *s)
{
    return s->sigmas;
}

void sched_add_noise(const struct sched *s, int first_step, const float *clean, const float *noise,
                     float *ret_latents)
{
    sched_noise_to(s, s->sigmas[s->begins[first_step]], clean, noise, ret_latents);
}

void sched_noise_to(const struct sched *s, double sigma, const float *clean, const float *noise,
                    float *ret_latents)
{
    double alpha = sched_alpha_at(s, sigma);
    struct sched_term terms[] = { { alpha, clean }, { alpha * sigma, noise } };
    sched_mix(ret_latents, s->n, terms, 2);
}

/* An open run whose sampler found no next level. */
static int check_next(const struct sched *s, struct dr_error *err)
{
    double sigma;
    if (!is_open(s) || !s->config.sampler->layout.next(s, &sigma) || isfinite(sigma))
        return 0;
    return dr_fail(err, DR_EINVAL,
                   "sampler: the steps of %s became too short to count at evaluation %d: the "
                   "options of its step control do not suit each other",
                   s->config.sampler->name, s->state->evaluation);
}

int sched_begin(struct sched *s, const float *latents, int first_step, struct dr_error *err)
{
    if (first_step < 0 || first_step >= s->config.steps)
        return dr_fail(err, DR_EINVAL, "first step: got %d, expected 0 to %d", first_step,
                       s->config.steps - 1);
    float *to = sched_latents(s);
    memset(sched_vector(s, 0), 0, s->n * (size_t)s->config.sampler->vectors * sizeof *to);
    memcpy(to, latents, s->n * sizeof *to);
    memset(sched_scalars(s), 0, (size_t)s->config.sampler->scalars * sizeof(double));
    s->state->first = s->state->evaluation = s->begins[first_step];
    if (s->config.sampler->begin)
        s->config.sampler->begin(s, first_step);
    s->asked = false;
    return check_next(s, err);
}

static void scale_input(struct sched *s, float sigma)
{
    const float *x = sched_latents(s);
    if (is_vp(s)) {
        memcpy(s->input, x, s->n * sizeof *x);
        return;
    }
    float scale = input_scale(s, sigma);
    for (size_t i = 0; i < s->n; i++)
        s->input[i] = x[i] / scale;
}

/* Where the run is; false at its end. */
static bool question(const struct sched *s, struct sched_ask *ret)
{
    int e = s->state->evaluation;
    double sigma;
    if (e < 0)
        return false;
    if (is_open(s)) {
        if (!s->config.sampler->layout.next(s, &sigma))
            return false;
        double timestep = noise_table_timestep(&s->table, sigma);
        *ret = (struct sched_ask){ .timestep = sched_given_timestep(&s->config, timestep),
                                   .sigma = (float)sigma,
                                   .step = e };
    } else if (e < s->evaluations) {
        struct sched_place at = sched_place(s, e);
        *ret = (struct sched_ask){ .timestep = s->timesteps[e],
                                   .sigma = s->sigmas[e],
                                   .evaluations = s->evaluations,
                                   .step = at.step,
                                   .steps = s->config.steps,
                                   .part = at.part };
    } else {
        return false;
    }
    ret->evaluation = e;
    return true;
}

bool sched_next(struct sched *s, struct sched_ask *ret_ask)
{
    if (!question(s, ret_ask))
        return false;
    scale_input(s, (float)ret_ask->sigma);
    ret_ask->x = s->input;
    s->asked = true;
    return true;
}

int sched_step_of(const struct sched *s, int evaluation)
{
    return sched_place(s, evaluation).step;
}

/* The model's input is variance preserving whatever the latents are, but for EDM. */
struct sched_weights sched_clean_weights(const struct sched *s, const struct sched_ask *ask)
{
    double alpha = sched_alpha(ask->sigma);
    struct sched_pair clean = sched_vp_clean(s, alpha, ask->sigma * alpha);
    if (sched_is_edm(&s->config)) {
        clean = sched_clean(s, ask->sigma);
        clean.x *= input_scale(s, (float)ask->sigma);
    }
    return (struct sched_weights){ clean.x, clean.pred };
}

bool sched_adds_noise(const struct sched *s)
{
    const struct sched_info *info = s->config.sampler;
    return info->noise != SCHED_NOISE_NONE &&
           (sched_option_row(info, "eta") < 0 || sched_eta(&s->config) > 0);
}

bool sched_wants_uncond(const struct sched_config *config)
{
    return config->sampler->uncond;
}

double sched_option_value(const struct sched *s, int i)
{
    return s->config.option[i];
}

const float *sched_next_noise(struct sched *s, double from, double to)
{
    size_t first = s->n * (size_t)s->source.index;
    size_t total = s->given_source ? s->n * (size_t)s->source.count : s->n;
    if (!s->noise)
        return NULL;
    if (s->config.sampler->noise == SCHED_NOISE_NORMAL) {
        if (total == s->n)
            dr_rng_normal(s->rng, s->noise, s->n);
        else
            dr_rng_normal_part(s->rng, s->noise, first, s->n, total);
        return s->noise;
    }
    struct brownian_tree tree = { .low = s->sigmas[s->levels - 1],
                                  .high = s->sigmas[s->state->first],
                                  .seed = s->given_source ? s->source.seed : s->rng->seed,
                                  .kind = s->given_source ? s->source.kind
                                                          : (enum dr_rng_kind)s->rng->kind,
                                  .n = s->n,
                                  .first = first,
                                  .total = total,
                                  .work = s->work,
                                  .sum = s->sum };
    brownian_interval(&tree, from, to, s->noise);
    return s->noise;
}

int sched_feed(struct sched *s, const float *pred, const float *uncond, struct dr_rng *rng,
               struct dr_error *err)
{
    const struct sched_info *info = s->config.sampler;
    struct sched_answer answer = { pred, uncond };
    struct sched_ask ask;
    if (!s->asked)
        return dr_fail(err, DR_ESTATE, "a prediction for a scheduler that asked for none");
    if (s->noise && !rng)
        return dr_fail(err, DR_EINVAL, "%s adds noise and was given no generator", info->name);
    if (info->uncond && !uncond)
        return dr_fail(err, DR_EINVAL, "%s was given no unconditional prediction", info->name);
    s->rng = rng;
    info->feed(s, &answer);
    s->rng = NULL;
    s->state->evaluation++;
    s->asked = false;
    int r = check_next(s, err);
    if (r < 0)
        return r;
    if (is_open(s) && s->state->evaluation >= SCHED_MAX_OPEN && question(s, &ask))
        return dr_fail(err, DR_ELIMIT,
                       "sampler: %s is not done after %d evaluations: its tolerances are too "
                       "small for this model",
                       info->name, SCHED_MAX_OPEN);
    return 0;
}

void sched_take_source(struct sched *s, const struct sched_source *source)
{
    s->source = *source;
    s->given_source = true;
}

size_t sched_state_size(const struct sched *s)
{
    return s->state_size;
}

void sched_save(const struct sched *s, void *ret_state)
{
    memcpy(ret_state, s->state, s->state_size);
}

int sched_load(struct sched *s, const void *state, size_t size, struct dr_error *err)
{
    struct sched_state head;
    if (size != s->state_size)
        return dr_fail(err, DR_EFORMAT, "scheduler state: got %zu bytes, expected %zu", size,
                       s->state_size);
    memcpy(&head, state, sizeof head);
    if (memcmp(head.magic, s->state->magic, sizeof head.magic) || head.n != s->state->n ||
        head.fingerprint != s->state->fingerprint)
        return dr_fail(err, DR_EFORMAT, "scheduler state: of another run's settings");
    int most = is_open(s) ? SCHED_MAX_OPEN : s->evaluations;
    if (head.evaluation < -1 || head.evaluation > most || head.first < 0 ||
        (head.evaluation >= 0 && head.first > head.evaluation))
        return dr_fail(err, DR_EFORMAT, "scheduler state: damaged");
    memcpy(s->state, state, size);
    s->asked = false;
    return 0;
}
