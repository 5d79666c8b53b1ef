/* scheduler_manager.c - see scheduler_manager.h. */
#include "schedulers/scheduler_manager.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/nearest.h"
#include "schedulers/scheduler_impl.h"

static const char FILE_NAME[] = "scheduler_config.json";
enum { MAX_BYTES = 256 << 10 };

/* stabilityai/stable-diffusion-xl-base-1.0, scheduler/scheduler_config.json */
static const struct sched_config sdxl_base = {
    .sampler = &sched_euler,
    .schedule = &schedule_normal,
    .spacing = SCHED_LEADING,
    .prediction = SCHED_EPSILON,
    .betas = SCHED_SCALED_LINEAR,
    .beta_start = 0.00085,
    .beta_end = 0.012,
    .train_steps = 1000,
    .steps_offset = 1,
    .set_alpha_to_one = false,
};

static int key_error(int code, const char *key, const char *got, const char *expected,
                     const char *hint, struct dr_error *err)
{
    char path[160];
    snprintf(path, sizeof path, "%s: %s", FILE_NAME, key);
    return dr_fail_field(err, code, path, got, expected, hint);
}

/* A scalar as text for messages and comparisons; what is no scalar by its kind. */
static void value_text(const json_t *v, char *dst, size_t n)
{
    if (json_is_string(v))
        snprintf(dst, n, "%s", json_string_value(v));
    else if (json_is_integer(v))
        snprintf(dst, n, "%lld", (long long)json_integer_value(v));
    else if (json_is_real(v))
        snprintf(dst, n, "%.17g", json_real_value(v));
    else if (json_is_boolean(v))
        snprintf(dst, n, "%s", json_is_true(v) ? "true" : "false");
    else if (json_is_array(v) && !json_array_size(v))
        snprintf(dst, n, "[]");
    else
        snprintf(dst, n, "%s", json_is_null(v) ? "null" : jx_kind(v));
}

/* Whether word is one of those that '|' separates. */
static bool listed(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = list; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL) {
        if (!strncmp(p, word, n) && (p[n] == '|' || !p[n]))
            return true;
    }
    return false;
}

static int check_fixed(const json_t *file, const struct sched_fixed_key *fixed,
                       struct dr_error *err)
{
    for (; fixed && fixed->key; fixed++) {
        const json_t *v = json_object_get(file, fixed->key);
        char got[96];
        if (!v || json_is_null(v))
            continue;
        value_text(v, got, sizeof got);
        if (!listed(fixed->accepted, got))
            return key_error(DR_EUNSUPPORTED, fixed->key, got, fixed->accepted, NULL, err);
    }
    return 0;
}

/* A string key that names one of n things; absent: *ret_index stays. */
static int read_name(const json_t *file, const char *key, const char *const *names, size_t n,
                     int *ret_index, struct dr_error *err)
{
    const json_t *v = json_object_get(file, key);
    char got[96], expected[160], hint[96];
    if (!v || json_is_null(v))
        return 0;
    value_text(v, got, sizeof got);
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        if (json_is_string(v) && !strcmp(json_string_value(v), names[i])) {
            *ret_index = (int)i;
            return 0;
        }
        if (used < sizeof expected)
            used += (size_t)snprintf(expected + used, sizeof expected - used, "%s%s",
                                     i ? ", " : "one of ", names[i]);
    }
    const char *near = dr_nearest(got, names, n);
    snprintf(hint, sizeof hint, "nearest: %s", near ? near : "");
    return key_error(DR_EUNSUPPORTED, key, got, expected, near ? hint : NULL, err);
}

static int read_names(const json_t *file, struct sched_config *c, struct dr_error *err)
{
    const char *spacings[SCHED_SPACING_COUNT], *predictions[SCHED_PREDICTION_COUNT];
    const char *betas[SCHED_BETAS_COUNT];
    for (int i = 0; i < SCHED_SPACING_COUNT; i++)
        spacings[i] = sched_spacing_name((enum sched_spacing)i);
    for (int i = 0; i < SCHED_PREDICTION_COUNT; i++)
        predictions[i] = sched_prediction_name((enum sched_prediction)i);
    for (int i = 0; i < SCHED_BETAS_COUNT; i++)
        betas[i] = sched_betas_name((enum sched_betas)i);
    int spacing = (int)c->spacing, prediction = (int)c->prediction, kind = (int)c->betas;
    int r = read_name(file, "timestep_spacing", spacings, SCHED_SPACING_COUNT, &spacing, err);
    if (!r)
        r = read_name(file, "prediction_type", predictions, SCHED_PREDICTION_COUNT, &prediction,
                      err);
    if (!r)
        r = read_name(file, "beta_schedule", betas, SCHED_BETAS_COUNT, &kind, err);
    c->spacing = (enum sched_spacing)spacing;
    c->prediction = (enum sched_prediction)prediction;
    c->betas = (enum sched_betas)kind;
    return r;
}

static int read_numbers(const json_t *file, struct sched_config *c, struct dr_error *err)
{
    int64_t train = c->train_steps, offset = c->steps_offset;
    int r = jx_opt_int(file, FILE_NAME, "num_train_timesteps", 2, SCHED_MAX_TRAIN_STEPS, &train,
                       err);
    if (!r)
        r = jx_opt_int(file, FILE_NAME, "steps_offset", 0, SCHED_MAX_TRAIN_STEPS, &offset, err);
    if (!r)
        r = jx_opt_number(file, FILE_NAME, "beta_start", &c->beta_start, err);
    if (!r)
        r = jx_opt_number(file, FILE_NAME, "beta_end", &c->beta_end, err);
    if (!r)
        r = jx_opt_bool(file, FILE_NAME, "set_alpha_to_one", &c->set_alpha_to_one, err);
    if (!r && c->sampler->zero_snr)
        r = jx_opt_bool(file, FILE_NAME, "rescale_betas_zero_snr", &c->rescale_betas_zero_snr, err);
    c->train_steps = (int)train;
    c->steps_offset = (int)offset;
    if (!r && !(c->beta_start > 0 && c->beta_start <= c->beta_end && c->beta_end < 1)) {
        char got[80];
        snprintf(got, sizeof got, "%.9g, %.9g", c->beta_start, c->beta_end);
        r = key_error(DR_EINVAL, "beta_start, beta_end", got, "0 < beta_start <= beta_end < 1",
                      NULL, err);
    }
    return r;
}

static int read_schedule(const json_t *file, struct sched_config *c, struct dr_error *err)
{
    bool karras = false, exponential = false;
    int r = jx_opt_bool(file, FILE_NAME, "use_karras_sigmas", &karras, err);
    if (!r)
        r = jx_opt_bool(file, FILE_NAME, "use_exponential_sigmas", &exponential, err);
    if (!r && karras && exponential)
        r = key_error(DR_EINVAL, "use_karras_sigmas, use_exponential_sigmas", "both true",
                      "at most one of them", NULL, err);
    c->schedule = karras ? &schedule_karras : exponential ? &schedule_exponential : c->schedule;
    return r;
}

/* Everything but the class, for the sampler in *c. */
static int read_file(const json_t *file, struct sched_config *c, struct dr_error *err)
{
    static const struct sched_fixed_key common[] = { { "trained_betas", "null" }, { NULL, NULL } };
    static const struct sched_fixed_key dpm[] = {
        { "solver_order", "2" },
        { "thresholding", "false" },
        { "final_sigmas_type", "zero" },
        { "use_beta_sigmas", "false" },
        { "use_flow_sigmas", "false" },
        { "use_dynamic_shifting", "false" },
        { NULL, NULL },
    };
    int r = check_fixed(file, common, err);
    if (!r && c->sampler->rule == SCHED_RULE_DPM)
        r = check_fixed(file, dpm, err);
    if (!r)
        r = check_fixed(file, c->sampler->fixed, err);
    if (!r)
        r = read_names(file, c, err);
    if (!r)
        r = read_numbers(file, c, err);
    if (!r && c->sampler->sigma_flags)
        r = read_schedule(file, c, err);
    if (!r && c->sampler->no_sample && c->prediction == SCHED_SAMPLE)
        r = key_error(DR_EUNSUPPORTED, "prediction_type", "sample", "epsilon or v_prediction",
                      c->sampler->name, err);
    return r;
}

static int read_class(const json_t *file, struct sched_config *c, struct dr_error *err)
{
    const char *name = NULL;
    int r = jx_opt_string(file, FILE_NAME, "_class_name", &name, err);
    if (r || !name)
        return r;
    char path[64];
    snprintf(path, sizeof path, "%s: _class_name", FILE_NAME);
    return sched_lookup(path, name, &c->sampler, NULL, err);
}

static int parse(const char *json, size_t n_json, json_t **ret_file, struct dr_error *err)
{
    static const struct jx_limits limits = { .bytes = MAX_BYTES, .python = true };
    int r = jx_parse(json, n_json, &limits, FILE_NAME, ret_file, err);
    if (!r && !json_is_object(*ret_file)) {
        r = dr_fail(err, DR_EFORMAT, "%s: got %s, expected an object", FILE_NAME,
                    jx_kind(*ret_file));
        json_decref(*ret_file);
    }
    return r;
}

/* The request's sampler, and the schedule that its name may carry. */
static int choose_sampler(const json_t *file, const struct sched_request *request,
                          struct sched_config *c, const struct schedule_info **ret_schedule,
                          struct dr_error *err)
{
    *ret_schedule = NULL;
    if (request->sampler)
        return sched_lookup("sampler", request->sampler, &c->sampler, ret_schedule, err);
    return file ? read_class(file, c, err) : 0;
}

static int apply_schedule(const struct sched_request *request, const struct schedule_info *named,
                          struct sched_config *c, struct dr_error *err)
{
    if (named)
        c->schedule = named;
    if (!request->schedule)
        return 0;
    int r = schedule_lookup("schedule", request->schedule, &c->schedule, err);
    if (!r && named && named != c->schedule)
        r = dr_fail_field(err, DR_EINVAL, "schedule", request->schedule, named->name,
                          "the sampler's name says so");
    return r;
}

static int apply_spacing(const struct sched_request *request, struct sched_config *c,
                         struct dr_error *err)
{
    const char *names[SCHED_SPACING_COUNT];
    if (!request->spacing)
        return 0;
    int found = -1;
    for (int i = 0; i < SCHED_SPACING_COUNT; i++) {
        names[i] = sched_spacing_name((enum sched_spacing)i);
        if (sched_same_name(request->spacing, names[i]))
            found = i;
    }
    if (found < 0) {
        const char *near = dr_nearest(request->spacing, names, SCHED_SPACING_COUNT);
        char hint[64];
        snprintf(hint, sizeof hint, "nearest: %s", near ? near : "");
        return dr_fail_field(err, DR_EINVAL, "spacing", request->spacing,
                             "one of leading, trailing, linspace", near ? hint : NULL);
    }
    if (!schedule_uses_spacing(c->schedule, c->sampler)) {
        char hint[96];
        snprintf(hint, sizeof hint, "schedule %s of %s fixes its own timesteps", c->schedule->name,
                 c->sampler->name);
        return dr_fail_field(err, DR_EINVAL, "spacing", request->spacing, "none", hint);
    }
    c->spacing = (enum sched_spacing)found;
    return 0;
}

static int apply_numbers(const struct sched_request *request, struct sched_config *c,
                         struct dr_error *err)
{
    char got[32];
    c->steps = request->steps;
    if (c->steps < 1 || c->steps > c->train_steps) {
        char expected[64];
        snprintf(got, sizeof got, "%d", c->steps);
        snprintf(expected, sizeof expected, "1 to %d", c->train_steps);
        return dr_fail_field(err, DR_EINVAL, "steps", got, expected, NULL);
    }
    c->eta = c->sampler->takes_eta ? c->sampler->eta : 0;
    if (isnan(request->eta))
        return 0;
    bool takes = c->sampler->takes_eta;
    if (!(request->eta >= 0 && request->eta <= (takes ? 1 : 0))) {
        snprintf(got, sizeof got, "%g", request->eta);
        return dr_fail_field(err, DR_EINVAL, "eta", got, takes ? "0 to 1" : "none",
                             takes ? NULL : "this sampler draws no noise");
    }
    c->eta = takes ? request->eta : 0;
    return 0;
}

int sched_configure(const char *json, size_t n_json, const struct sched_request *request,
                    struct sched_config *ret_config, struct dr_error *err)
{
    struct sched_config c = sdxl_base;
    const struct schedule_info *named = NULL;
    json_t *file = NULL;
    int r = json ? parse(json, n_json, &file, err) : 0;
    if (r)
        return r;
    r = choose_sampler(file, request, &c, &named, err);
    if (!r && file)
        r = read_file(file, &c, err);
    if (!r)
        r = apply_schedule(request, named, &c, err);
    if (!r)
        r = apply_spacing(request, &c, err);
    if (!r)
        r = apply_numbers(request, &c, err);
    if (!r)
        *ret_config = c;
    json_decref(file);
    return r;
}
