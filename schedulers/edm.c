/* edm.c - see edm.h. */
#include "schedulers/edm.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "schedulers/scheduler_impl.h"
#include "schedulers/scheduler_keys.h"

static const struct {
    const char *name;
    const struct sched_info *sampler;
} classes[] = {
    { "EDMEulerScheduler", &sched_euler },
    { "EDMDPMSolverMultistepScheduler", &sched_dpmpp_2m },
};

/* Keys of both classes whose other values are not done. */
static const struct sched_fixed_key fixed[] = {
    { "solver_order", "2" },
    { "thresholding", "false" },
    { "algorithm_type", "dpmsolver++|deis" },
    { "solver_type", "midpoint|logrho|bh1|bh2" },
    { "final_sigmas_type", "zero" },
    { "rescale_betas_zero_snr", "false" },
    { NULL, NULL },
};

const struct sched_info *edm_sampler(const char *class_name)
{
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (!strcmp(class_name, classes[i].name))
            return classes[i].sampler;
    return NULL;
}

bool edm_is_file(const json_t *file)
{
    const char *name = json_string_value(json_object_get(file, "_class_name"));
    return name && edm_sampler(name);
}

/* A number above 0. */
static int read_positive(const json_t *file, const char *key, double *ret, struct dr_error *err)
{
    int r = jx_opt_number(file, SCHED_FILE_NAME, key, ret, err);
    char got[32];
    if (r || (*ret > 0 && *ret < 1e6))
        return r;
    snprintf(got, sizeof got, "%.9g", *ret);
    return sched_key_error(DR_EINVAL, key, got, "a number above 0", NULL, err);
}

static int read_levels(const json_t *file, struct sched_config *c, struct dr_error *err)
{
    static const char *const schedules[] = { "karras", "exponential" };
    int schedule = 0;
    int64_t train = 1000;
    c->sigma_min = 0.002;
    c->sigma_max = 80;
    c->sigma_data = 0.5;
    c->rho = 7;
    int r = read_positive(file, "sigma_min", &c->sigma_min, err);
    if (!r)
        r = read_positive(file, "sigma_max", &c->sigma_max, err);
    if (!r)
        r = read_positive(file, "sigma_data", &c->sigma_data, err);
    if (!r)
        r = read_positive(file, "rho", &c->rho, err);
    if (!r)
        r = sched_key_name(file, "sigma_schedule", schedules, 2, &schedule, err);
    if (!r)
        r = jx_opt_int(file, SCHED_FILE_NAME, "num_train_timesteps", 2, SCHED_MAX_TRAIN_STEPS,
                       &train, err);
    c->schedule = schedule ? &schedule_exponential : &schedule_karras;
    c->train_steps = (int)train;
    if (!r && !(c->sigma_min < c->sigma_max)) {
        char got[64];
        snprintf(got, sizeof got, "%.9g, %.9g", c->sigma_min, c->sigma_max);
        r = sched_key_error(DR_EINVAL, "sigma_min, sigma_max", got, "the first below the second",
                            NULL, err);
    }
    return r;
}

int edm_read(const json_t *file, struct sched_config *ret, struct dr_error *err)
{
    static const char *const predictions[] = { "epsilon", "v_prediction" };
    int prediction = 0;
    int r = sched_keys_fixed(file, fixed, err);
    if (!r)
        r = sched_key_name(file, "prediction_type", predictions, 2, &prediction, err);
    if (!r)
        r = read_levels(file, ret, err);
    ret->prediction = prediction ? SCHED_EDM_V : SCHED_EDM;
    return r;
}

int edm_check(const struct sched_config *config, struct dr_error *err)
{
    static const char why[] = "the model's levels of noise are no timesteps of training (EDM)";
    enum sched_rule rule = config->sampler->rule;
    if (rule == SCHED_RULE_DDIM || rule == SCHED_RULE_CONSISTENCY)
        return dr_fail_field(err, DR_EINVAL, "sampler", config->sampler->name,
                             "a sampler that works by sigmas, such as euler or dpmpp_2m", why);
    if (config->listed == SCHED_LISTED_TIMESTEPS)
        return dr_fail_field(err, DR_EINVAL, "timesteps", "a list", "sigmas", why);
    if (!config->listed && config->schedule->kind != SCHEDULE_RANGE)
        return dr_fail_field(err, DR_EINVAL, "schedule", config->schedule->name,
                             "karras, exponential or beta", why);
    return 0;
}
