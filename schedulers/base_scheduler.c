/* base_scheduler.c - see base_scheduler.h. What all samplers share: arrays, the question, state,
 * noise. */
#include "schedulers/base_scheduler.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/checked.h"
#include "base/rng.h"
#include "schedulers/scheduler_impl.h"

static const char STATE_MAGIC[8] = "DRSCHED1";

static const char *const spacing_names[SCHED_SPACING_COUNT] = { "leading", "trailing", "linspace" };
static const char *const prediction_names[SCHED_PREDICTION_COUNT] = { "epsilon", "v_prediction",
                                                                      "sample" };
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

float *sched_latents(struct sched *s)
{
    return (float *)(s->state + 1);
}

float *sched_vector(struct sched *s, int k)
{
    return sched_latents(s) + s->n * (size_t)(k + 1);
}

struct sched_pair sched_slope(const struct sched *s, double sigma)
{
    double square = sigma * sigma + 1;
    switch (s->config.prediction) {
    case SCHED_V_PREDICTION:
        return (struct sched_pair){ sigma / square, 1 / sqrt(square) };
    case SCHED_SAMPLE:
        return (struct sched_pair){ 1 / sigma, -1 / sigma };
    default:
        return (struct sched_pair){ 0, 1 };
    }
}

struct sched_pair sched_vp_clean(const struct sched *s, double alpha, double beta)
{
    switch (s->config.prediction) {
    case SCHED_V_PREDICTION:
        return (struct sched_pair){ alpha, -beta };
    case SCHED_SAMPLE:
        return (struct sched_pair){ 0, 1 };
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
    default:
        return (struct sched_pair){ 0, 1 };
    }
}

double sched_alpha(double sigma)
{
    return 1 / sqrt(sigma * sigma + 1);
}

static uint64_t hash(uint64_t h, const void *bytes, size_t n)
{
    const uint8_t *p = bytes;
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 0x100000001b3u; /* FNV-1a */
    return h;
}

static uint64_t fingerprint(const struct sched *s)
{
    const struct sched_info *info = s->config.sampler;
    uint64_t h = hash(0xcbf29ce484222325u, info->name, strlen(info->name));
    h = hash(h, &s->config.prediction, sizeof s->config.prediction);
    h = hash(h, &s->config.eta, sizeof s->config.eta);
    h = hash(h, &s->n, sizeof s->n);
    h = hash(h, s->timesteps, (size_t)s->evaluations * sizeof *s->timesteps);
    h = hash(h, s->sigmas, ((size_t)s->evaluations + 1) * sizeof *s->sigmas);
    return hash(h, s->aux, (size_t)s->evaluations * (size_t)info->aux * sizeof *s->aux);
}

static int allocate(struct sched *s, struct dr_error *err)
{
    const struct sched_info *info = s->config.sampler;
    size_t evaluations = (size_t)s->evaluations, bytes;
    if (!dr_mul_size(s->n, sizeof(float) * (size_t)(info->vectors + 1), &bytes) ||
        !dr_add_size(bytes, sizeof *s->state, &s->state_size))
        return dr_fail(err, DR_ELIMIT, "latents of %zu values are too many", s->n);
    s->timesteps = dr_calloc(DR_TAG_JOB, evaluations, sizeof *s->timesteps);
    s->sigmas = dr_calloc(DR_TAG_JOB, evaluations + 1, sizeof *s->sigmas);
    s->aux = dr_calloc(DR_TAG_JOB, evaluations * (size_t)info->aux, sizeof *s->aux);
    s->input = dr_calloc(DR_TAG_JOB, s->n, sizeof *s->input);
    s->state = dr_calloc(DR_TAG_JOB, 1, s->state_size);
    bool draws = sched_draws_noise(s);
    if (draws)
        s->noise = dr_calloc(DR_TAG_JOB, s->n, sizeof *s->noise);
    if (!s->timesteps || !s->sigmas || !s->aux || !s->input || !s->state || (draws && !s->noise))
        return dr_fail(err, DR_ENOMEM, "out of memory for %s with latents of %zu values",
                       info->name, s->n);
    return 0;
}

/* Timestep and sigma of each step, repeated for the second evaluation that shares a level with the
 * next step's first: s0, s1 s1, s2 s2, ..., 0. */
static void repeat(struct sched *s)
{
    int steps = s->config.steps;
    for (int i = steps - 1; i > 0; i--) {
        s->timesteps[2 * i] = s->timesteps[2 * i - 1] = s->timesteps[i];
        s->sigmas[2 * i] = s->sigmas[2 * i - 1] = s->sigmas[i];
    }
    s->sigmas[2 * steps - 1] = 0;
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
    s->evaluations = info->second_order ? 2 * config->steps - 1 : config->steps;
    r = allocate(s, err);
    if (!r)
        r = noise_table_init(&table, config, err);
    if (!r)
        r = schedule_make(config, &table, s->timesteps, s->sigmas, err);
    if (r)
        goto out;
    if (info->second_order)
        repeat(s);
    if (info->prepare)
        r = info->prepare(s, &table, err);
    if (r)
        goto out;
    memcpy(s->state->magic, STATE_MAGIC, sizeof s->state->magic);
    s->state->fingerprint = fingerprint(s);
    s->state->n = (int64_t)n;
    s->state->evaluation = -1;
    *ret_sched = s;
    s = NULL;
out:
    noise_table_release(&table);
    sched_free(s);
    return r;
}

/* Equal sigmas are fine only where the second look of a step shares its level with the next step,
 * and at the end, where ddim may stay. What the schedule itself has is fine. */
static int check_replacement(const struct sched *s, const float *timesteps, const float *sigmas,
                             struct dr_error *err)
{
    for (int e = 0; timesteps && e < s->evaluations; e++) {
        bool own = timesteps[e] == s->timesteps[e];
        if (!own && !(timesteps[e] >= 0 && timesteps[e] <= (float)(s->config.train_steps - 1)))
            return dr_fail(err, DR_EINVAL, "timesteps: entry %d is %g, expected 0 to %d", e,
                           (double)timesteps[e], s->config.train_steps - 1);
    }
    for (int e = 0; sigmas && e < s->evaluations; e++) {
        float now = sigmas[e], next = sigmas[e + 1];
        bool own = now == s->sigmas[e] && next == s->sigmas[e + 1];
        bool shared = own || (s->config.sampler->second_order && e % 2) || e == s->evaluations - 1;
        if (!(now > 0 && now < INFINITY && next >= 0 && (next < now || (shared && next == now))))
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
        memcpy(s->timesteps, timesteps, (size_t)s->evaluations * sizeof *timesteps);
    size_t bytes = ((size_t)s->evaluations + 1) * sizeof *sigmas;
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
    dr_free(s->aux);
    dr_free(s->input);
    dr_free(s->noise);
    dr_free(s->state);
    dr_free(s);
}

/* sqrt(sigma^2 + 1) in float32, as the model's input is scaled. */
static float input_scale(float sigma)
{
    return sqrtf(sigma * sigma + 1);
}

double sched_init_noise_scale(const struct sched *s)
{
    if (s->config.sampler->vp)
        return 1;
    return s->config.spacing == SCHED_LEADING ? input_scale(s->sigmas[0]) : s->sigmas[0];
}

int sched_evaluations(const struct sched *s)
{
    return s->evaluations;
}

const float *sched_timesteps(const struct sched *s)
{
    return s->timesteps;
}

const float *sched_sigmas(const struct sched *s)
{
    return s->sigmas;
}

static int first_evaluation(const struct sched *s, int step)
{
    return s->config.sampler->second_order ? 2 * step : step;
}

void sched_add_noise(const struct sched *s, int first_step, const float *clean, const float *noise,
                     float *ret_latents)
{
    double sigma = s->sigmas[first_evaluation(s, first_step)];
    double alpha = s->config.sampler->vp ? sched_alpha(sigma) : 1;
    struct sched_term terms[] = { { alpha, clean }, { alpha * sigma, noise } };
    sched_mix(ret_latents, s->n, terms, 2);
}

int sched_begin(struct sched *s, const float *latents, int first_step, struct dr_error *err)
{
    if (first_step < 0 || first_step >= s->config.steps)
        return dr_fail(err, DR_EINVAL, "first step: got %d, expected 0 to %d", first_step,
                       s->config.steps - 1);
    float *to = sched_latents(s);
    memset(sched_vector(s, 0), 0, s->n * (size_t)s->config.sampler->vectors * sizeof *to);
    memcpy(to, latents, s->n * sizeof *to);
    s->state->first = s->state->evaluation = first_evaluation(s, first_step);
    s->asked = false;
    return 0;
}

static void scale_input(struct sched *s, float sigma)
{
    const float *x = sched_latents(s);
    if (s->config.sampler->vp) {
        memcpy(s->input, x, s->n * sizeof *x);
        return;
    }
    float scale = input_scale(sigma);
    for (size_t i = 0; i < s->n; i++)
        s->input[i] = x[i] / scale;
}

bool sched_next(struct sched *s, struct sched_ask *ret_ask)
{
    int e = s->state->evaluation;
    if (e < 0 || e >= s->evaluations)
        return false;
    scale_input(s, s->sigmas[e]);
    s->asked = true;
    *ret_ask = (struct sched_ask){
        .x = s->input,
        .timestep = s->timesteps[e],
        .sigma = s->sigmas[e],
        .evaluation = e,
        .evaluations = s->evaluations,
        .step = s->config.sampler->second_order ? e / 2 : e,
        .steps = s->config.steps,
    };
    return true;
}

bool sched_draws_noise(const struct sched *s)
{
    return s->config.sampler->takes_eta && s->config.eta > 0;
}

int sched_feed(struct sched *s, const float *pred, struct dr_rng *rng, struct dr_error *err)
{
    if (!s->asked)
        return dr_fail(err, DR_ESTATE, "a prediction for a scheduler that asked for none");
    if (s->noise) {
        if (!rng)
            return dr_fail(err, DR_EINVAL, "%s draws noise and was given no generator",
                           s->config.sampler->name);
        dr_rng_normal(rng, s->noise, s->n);
    }
    s->config.sampler->feed(s, pred, s->noise);
    s->state->evaluation++;
    s->asked = false;
    return 0;
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
    if (head.evaluation < -1 || head.evaluation > s->evaluations || head.first < 0 ||
        (head.evaluation >= 0 && head.first > head.evaluation))
        return dr_fail(err, DR_EFORMAT, "scheduler state: damaged");
    memcpy(s->state, state, size);
    s->asked = false;
    return 0;
}
