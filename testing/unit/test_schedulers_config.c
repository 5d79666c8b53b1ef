/* scheduler_config.json and a request to effective settings: what overrides what, and every error.
 * */
#include "testing/helpers/sched_access.h"
#include "testing/helpers/test.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "schedulers/scheduler_factory.h"
#include "schedulers/scheduler_manager.h"
#include "schedulers/scheduler_options.h"
#include "schedulers/schedules.h"

/* stabilityai/stable-diffusion-xl-base-1.0 */
static const char SDXL_BASE[] =
    "{\"_class_name\": \"EulerDiscreteScheduler\", \"_diffusers_version\": \"0.19.0.dev0\","
    " \"beta_end\": 0.012, \"beta_schedule\": \"scaled_linear\", \"beta_start\": 0.00085,"
    " \"clip_sample\": false, \"interpolation_type\": \"linear\", \"num_train_timesteps\": 1000,"
    " \"prediction_type\": \"epsilon\", \"sample_max_value\": 1.0, \"set_alpha_to_one\": false,"
    " \"skip_prk_steps\": true, \"steps_offset\": 1, \"timestep_spacing\": \"leading\","
    " \"trained_betas\": null, \"use_karras_sigmas\": false}";

static const struct sched_request nothing = { .eta = NAN, .steps = 30 };

static int configure(const char *json, const struct sched_request *request,
                     struct sched_config *ret_config, struct dr_error *err)
{
    memset(err, 0, sizeof *err);
    return sched_configure_text(json, json ? strlen(json) : 0, request, ret_config, err);
}

static struct sched_config good(const char *json, const struct sched_request *request)
{
    struct sched_config c;
    struct dr_error err;
    if (configure(json, request, &c, &err))
        fail_msg("%s", err.text);
    return c;
}

static double eta_of(const struct sched_request *request)
{
    struct sched_config c = good(NULL, request);
    return sched_eta(&c);
}

static void check_sdxl(const struct sched_config *c)
{
    assert_string_equal(c->sampler->name, "euler");
    assert_string_equal(c->schedule->name, "normal");
    assert_int_equal(c->spacing, SCHED_LEADING);
    assert_int_equal(c->prediction, SCHED_EPSILON);
    assert_int_equal(c->betas, SCHED_SCALED_LINEAR);
    assert_true(c->beta_start == 0.00085 && c->beta_end == 0.012);
    assert_int_equal(c->train_steps, 1000);
    assert_int_equal(c->steps_offset, 1);
    assert_false(c->set_alpha_to_one || c->rescale_betas_zero_snr);
    assert_int_equal(c->steps, 30);
    assert_true(sched_eta(c) == 0);
}

static void sdxl_is_the_default(void **state)
{
    (void)state;
    struct sched_config none = good(NULL, &nothing);
    struct sched_config empty = good("{}", &nothing);
    struct sched_config base = good(SDXL_BASE, &nothing);
    check_sdxl(&none);
    check_sdxl(&empty);
    check_sdxl(&base);
}

static void the_file_supplies(void **state)
{
    (void)state;
    struct sched_config c = good(
        "{\"_class_name\": \"DPMSolverMultistepScheduler\", \"timestep_spacing\": \"trailing\","
        " \"use_karras_sigmas\": true, \"prediction_type\": \"v_prediction\", \"steps_offset\": 0,"
        " \"beta_schedule\": \"linear\", \"beta_start\": 0.0001, \"beta_end\": 0.02,"
        " \"num_train_timesteps\": 500, \"lambda_min_clipped\": -Infinity, \"solver_order\": 2,"
        " \"rescale_betas_zero_snr\": true, \"name\": \"a \\\"Infinity\\\"\"}",
        &nothing);
    assert_string_equal(c.sampler->name, "dpmpp_2m");
    assert_string_equal(c.schedule->name, "karras");
    assert_int_equal(c.spacing, SCHED_TRAILING);
    assert_int_equal(c.prediction, SCHED_V_PREDICTION);
    assert_int_equal(c.betas, SCHED_LINEAR);
    assert_true(c.beta_start == 0.0001 && c.beta_end == 0.02);
    assert_int_equal(c.train_steps, 500);
    assert_int_equal(c.steps_offset, 0);
    assert_true(c.rescale_betas_zero_snr);
}

static void the_request_overrides(void **state)
{
    (void)state;
    static const char file[] = "{\"_class_name\": \"PNDMScheduler\", \"use_karras_sigmas\": true,"
                               " \"timestep_spacing\": \"linspace\"}";
    struct sched_request request = {
        .sampler = "Heun", .spacing = "Trailing", .eta = NAN, .steps = 5
    };
    struct sched_config c = good(file, &request);
    assert_string_equal(c.sampler->name, "heun"); /* a class nobody knows does not matter then */
    assert_string_equal(c.schedule->name, "karras");
    assert_int_equal(c.spacing, SCHED_TRAILING);
    assert_int_equal(c.steps, 5);
}

static void keys_are_read_as_the_class_reads_them(void **state)
{
    (void)state;
    static const char file[] = "{\"_class_name\": \"EulerDiscreteScheduler\","
                               " \"use_karras_sigmas\": true, \"solver_order\": 3,"
                               " \"rescale_betas_zero_snr\": true, \"variance_type\": \"fixed\"}";
    struct sched_request request = nothing;
    assert_string_equal(good(file, &request).schedule->name, "karras");
    request.sampler = "dpmpp_sde"; /* without a class: read as Euler's */
    assert_string_equal(good(file, &request).schedule->name, "karras");
    request.sampler = "euler_a"; /* EulerAncestralDiscreteScheduler has no use_karras_sigmas */
    assert_string_equal(good(file, &request).schedule->name, "normal");
    request.schedule = "karras";
    assert_string_equal(good(file, &request).schedule->name, "karras");
    request.sampler = "lms";
    assert_false(good(file, &request).rescale_betas_zero_snr);
    request.sampler = "euler";
    request.schedule = "normal";
    request.spacing = "linspace";
    request.steps = 9;
    struct sched_config c = good(file, &request);
    assert_string_equal(c.schedule->name, "normal");
    assert_int_equal(c.spacing, SCHED_LINSPACE);
    assert_int_equal(c.steps, 9);
    assert_true(c.rescale_betas_zero_snr);
}

static void eta_is_the_samplers_own_unless_asked(void **state)
{
    (void)state;
    struct sched_request request = nothing;
    request.sampler = "euler_a";
    assert_true(eta_of(&request) == 1);
    request.eta = 0.25;
    assert_true(eta_of(&request) == 0.25);
    request.sampler = "ddim";
    assert_true(eta_of(&request) == 0.25);
    request.eta = NAN;
    assert_true(eta_of(&request) == 0);
    request.sampler = "unipc";
    request.eta = 0;
    assert_true(eta_of(&request) == 0);
}

static void a_samplers_name_may_carry_the_schedule(void **state)
{
    (void)state;
    struct sched_request request = nothing;
    request.sampler = "DPM++ 2M Karras";
    assert_string_equal(good(SDXL_BASE, &request).schedule->name, "karras");
    request.schedule = "Karras";
    assert_string_equal(good(SDXL_BASE, &request).schedule->name, "karras");
}

static void unsupported_values_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *sampler, *json, *says;
        int code;
    } cases[] = {
        { NULL, "{\"_class_name\": \"EulerDiscretScheduler\"}", "_class_name", DR_EINVAL },
        { NULL, "{\"_class_name\": \"EulerDiscretScheduler\"}", "nearest: euler", DR_EINVAL },
        { NULL, "{\"_class_name\": \"NoSuchScheduler\"}", "_class_name", DR_EINVAL },
        { "euler", "{\"_class_name\": \"NoSuchScheduler\"}", "_class_name", DR_EINVAL },
        { NULL, "{\"_class_name\": 3}", "_class_name", DR_EINVAL },
        { NULL, "{\"timestep_spacing\": \"trailling\"}", "nearest: trailing", DR_EUNSUPPORTED },
        { NULL, "{\"timestep_spacing\": 1}", "timestep_spacing", DR_EUNSUPPORTED },
        { NULL, "{\"prediction_type\": \"flow_prediction\"}", "prediction_type", DR_EUNSUPPORTED },
        { "euler_a", "{\"prediction_type\": \"sample\"}", "prediction_type", DR_EUNSUPPORTED },
        { NULL, "{\"beta_schedule\": \"squaredcos_cap_v2\"}", "beta_schedule", DR_EUNSUPPORTED },
        { NULL, "{\"trained_betas\": [0.1, 0.2]}", "trained_betas", DR_EUNSUPPORTED },
        { NULL, "{\"beta_start\": 0}", "beta_start", DR_EINVAL },
        { NULL, "{\"beta_start\": \"0.1\"}", "beta_start", DR_EINVAL },
        { NULL, "{\"beta_end\": 1.0}", "beta_end", DR_EINVAL },
        { NULL, "{\"beta_start\": 0.5, \"beta_end\": 0.1}", "beta_start", DR_EINVAL },
        { NULL, "{\"num_train_timesteps\": 1}", "num_train_timesteps", DR_EINVAL },
        { NULL, "{\"num_train_timesteps\": 1e9}", "num_train_timesteps", DR_EINVAL },
        { NULL, "{\"num_train_timesteps\": 1000000000}", "num_train_timesteps", DR_EINVAL },
        { NULL, "{\"num_train_timesteps\": 20}", "steps", DR_EINVAL },
        { NULL, "{\"steps_offset\": -1}", "steps_offset", DR_EINVAL },
        { NULL, "{\"use_karras_sigmas\": true, \"use_exponential_sigmas\": true}",
          "use_exponential_sigmas", DR_EINVAL },
        { NULL, "{\"use_karras_sigmas\": 1}", "use_karras_sigmas", DR_EINVAL },
        { "euler", "{\"interpolation_type\": \"log_linear\"}", "interpolation_type",
          DR_EUNSUPPORTED },
        { "euler", "{\"timestep_type\": \"continuous\"}", "timestep_type", DR_EUNSUPPORTED },
        { "euler", "{\"final_sigmas_type\": \"sigma_min\"}", "final_sigmas_type", DR_EUNSUPPORTED },
        { "euler", "{\"sigma_max\": 20}", "sigma_max", DR_EUNSUPPORTED },
        { "heun", "{\"clip_sample\": true}", "clip_sample", DR_EUNSUPPORTED },
        { "ddim", "{\"clip_sample\": 1}", "clip_sample", DR_EINVAL },
        { "ddim", "{\"clip_sample\": true, \"clip_sample_range\": 0}", "clip_sample_range",
          DR_EINVAL },
        { "ddim", "{\"thresholding\": true}", "thresholding", DR_EUNSUPPORTED },
        { "dpmpp_2m", "{\"algorithm_type\": \"sde-dpmsolver++\"}", "algorithm_type",
          DR_EUNSUPPORTED },
        { "dpmpp_2m", "{\"solver_order\": 3}", "solver_order", DR_EUNSUPPORTED },
        { "dpmpp_2m", "{\"solver_order\": 2.5}", "solver_order", DR_EUNSUPPORTED },
        { "dpmpp_2m", "{\"solver_type\": \"heun\"}", "solver_type", DR_EUNSUPPORTED },
        { "dpmpp_2m", "{\"solver_type\": \"\"}", "solver_type", DR_EUNSUPPORTED },
        { "dpmpp_2m", "{\"use_lu_lambdas\": true}", "use_lu_lambdas", DR_EUNSUPPORTED },
        { "dpmpp_2m", "{\"lambda_min_clipped\": -5.1}", "lambda_min_clipped", DR_EUNSUPPORTED },
        { "unipc", "{\"solver_type\": \"bh1\"}", "solver_type", DR_EUNSUPPORTED },
        { "unipc", "{\"disable_corrector\": [0]}", "disable_corrector", DR_EUNSUPPORTED },
        { "unipc", "{\"predict_x0\": false}", "predict_x0", DR_EUNSUPPORTED },
        { NULL, "", "scheduler_config.json", DR_EFORMAT },
        { NULL, "[]", "expected an object", DR_EFORMAT },
        { NULL, "{\"a\": 1, \"a\": 2}", "scheduler_config.json", DR_EFORMAT },
        { NULL, "{\"a\": Infinit}", "scheduler_config.json", DR_EFORMAT },
        { NULL, "{\"a\": \"\\", "scheduler_config.json", DR_EFORMAT },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sched_request request = nothing;
        struct sched_config c = { .steps = -7 };
        struct dr_error err;
        request.sampler = cases[i].sampler;
        int r = configure(cases[i].json, &request, &c, &err);
        if (r != cases[i].code || err.code != r || !strstr(err.text, cases[i].says))
            fail_msg("%s: %d \"%s\", expected %d naming %s", cases[i].json, r, err.text,
                     cases[i].code, cases[i].says);
        assert_int_equal(c.steps, -7);
    }
    /* an empty list is what the class writes by itself */
    good("{\"_class_name\": \"UniPCMultistepScheduler\", \"disable_corrector\": []}", &nothing);
}

/* Models of another formulation, whatever sampler is asked for. */
/* Models of the EDM formulation: the class's defaults, and what they cannot be sampled with. */
static void edm(void **state)
{
    (void)state;
    static const char playground[] = "{\"_class_name\": \"EDMDPMSolverMultistepScheduler\"}";
    static const char cosxl[] =
        "{\"_class_name\": \"EDMEulerScheduler\", \"prediction_type\": \"v_prediction\", "
        "\"sigma_data\": 1.0, \"sigma_max\": 120, \"sigma_schedule\": \"exponential\"}";
    static const struct {
        const char *json, *sampler, *schedule, *spacing, *says;
    } bad[] = {
        { playground, "ddim", NULL, NULL, "sampler: got ddim" },
        { playground, NULL, "sgm_uniform", NULL, "schedule: got sgm_uniform" },
        { cosxl, NULL, "normal", NULL, "expected karras, exponential or beta" },
        { cosxl, NULL, NULL, "trailing", "spacing: got trailing" },
        { "{\"_class_name\": \"EDMEulerScheduler\", \"sigma_min\": 90}", NULL, NULL, NULL,
          "sigma_min, sigma_max: got 90, 80" },
        { "{\"_class_name\": \"EDMEulerScheduler\", \"sigma_data\": 0}", NULL, NULL, NULL,
          "sigma_data: got 0" },
    };
    struct sched_request request = nothing;
    struct sched_config c;
    struct dr_error err;
    assert_int_equal(configure(playground, &request, &c, &err), 0);
    assert_true(c.sampler == &sched_dpmpp_2m && c.schedule == &schedule_karras);
    assert_true(c.prediction == SCHED_EDM && c.sigma_data == 0.5 && c.rho == 7);
    assert_true(c.sigma_min == 0.002 && c.sigma_max == 80 && !c.assumed);
    request.sampler = "heun";
    request.schedule = "karras";
    assert_int_equal(configure(cosxl, &request, &c, &err), 0);
    assert_true(c.sampler == &sched_heun && c.schedule == &schedule_karras);
    assert_true(c.prediction == SCHED_EDM_V && c.sigma_data == 1 && c.sigma_max == 120);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        request.sampler = bad[i].sampler;
        request.schedule = bad[i].schedule;
        request.spacing = bad[i].spacing;
        int r = configure(bad[i].json, &request, &c, &err);
        if (r != DR_EINVAL || !strstr(err.text, bad[i].says))
            fail_msg("%s: %d \"%s\"", bad[i].says, r, err.text);
    }
}

static void foreign_formulations_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *json, *says;
    } cases[] = {
        { "{\"_class_name\": \"FlowMatchEulerDiscreteScheduler\"}", "FlowMatchEuler" },
        { "{\"_class_name\": \"FlowMatchEulerDiscreteScheduler\", \"prediction_type\": "
          "\"epsilon\"}",
          "FlowMatchEuler" },
        { "{\"_class_name\": \"FlowMatchHeunDiscreteScheduler\", \"shift\": 3.0}",
          "FlowMatchHeun" },
        { "{\"_class_name\": \"EDMOtherScheduler\", \"prediction_type\": \"epsilon\"}", "EDM" },
        { "{\"_class_name\": \"EDMEulerScheduler\", \"prediction_type\": \"sample\"}", "sample" },
        { "{\"_class_name\": \"EDMEulerScheduler\", \"final_sigmas_type\": \"sigma_min\"}",
          "final_sigmas_type" },
        { "{\"_class_name\": \"EDMDPMSolverMultistepScheduler\", \"solver_order\": 3}",
          "solver_order" },
        { "{\"_class_name\": \"EDMDPMSolverMultistepScheduler\", \"sigma_schedule\": \"beta\"}",
          "sigma_schedule" },
        { "{\"_class_name\": \"CogVideoXDDIMScheduler\", \"prediction_type\": \"v_prediction\"}",
          "CogVideo" },
        { "{\"_class_name\": \"PiflowScheduler\", \"prediction_type\": \"epsilon\"}", "Piflow" },
        { "{\"_class_name\": \"SCMScheduler\", \"prediction_type\": \"trigflow\"}", "SCM" },
        { "{\"_class_name\": \"MyRectifiedScheduler\", \"prediction_type\": \"epsilon\"}",
          "Rectified" },
        { "{\"_class_name\": \"DPMSolverMultistepScheduler\", \"use_flow_sigmas\": true}",
          "use_flow_sigmas" },
        { "{\"_class_name\": \"UniPCMultistepScheduler\", \"prediction_type\": "
          "\"flow_prediction\"}",
          "flow_prediction" },
        { "{\"_class_name\": \"EulerDiscreteScheduler\", \"timestep_type\": \"continuous\"}",
          "timestep_type" },
        { "{\"_class_name\": \"EulerDiscreteScheduler\", \"prediction_type\": \"x1\"}", "x1" },
        { "{\"_class_name\": \"EulerDiscreteScheduler\", \"trained_betas\": [0.1, 0.2]}",
          "trained_betas" },
        { "{\"_class_name\": \"DDPMScheduler\", \"variance_type\": \"learned_range\"}",
          "variance_type" },
        { "{\"_class_name\": \"SomeScheduler\", \"prediction_type\": \"epsilon\", \"shift\": 3}",
          "shift" },
        { "{\"_class_name\": \"SomeScheduler\", \"prediction_type\": \"epsilon\","
          " \"sigma_data\": 0.5}",
          "sigma_data" },
    };
    size_t n;
    const struct sched_info *const *samplers = sched_all(&n);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t k = 0; k <= n; k++) {
            struct sched_request request = nothing;
            struct sched_config c;
            struct dr_error err;
            request.sampler = k < n ? samplers[k]->name : NULL;
            int r = configure(cases[i].json, &request, &c, &err);
            if (r != DR_EUNSUPPORTED || !strstr(err.text, cases[i].says))
                fail_msg("%s with %s: %d \"%s\"", cases[i].json,
                         request.sampler ? request.sampler : "its own", r, err.text);
        }
}

static const char *warning(const struct sched_config *c, int i)
{
    static char text[SCHED_WARNING];
    return sched_warning(c, i, text) ? text : "";
}

/* Classes that have no sampler here, of models that any sampler draws. */
static void unknown_classes_are_warned_of(void **state)
{
    (void)state;
    static const char *const files[] = {
        "{\"_class_name\": \"PNDMScheduler\", \"skip_prk_steps\": true}",
        "{\"_class_name\": \"DDPMScheduler\", \"variance_type\": \"fixed_small\"}",
        "{\"_class_name\": \"DEISMultistepScheduler\", \"solver_order\": 2}",
        "{\"_class_name\": \"MyOwnScheduler\", \"prediction_type\": \"epsilon\"}",
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct sched_config c = good(files[i], &nothing);
        char class[32];
        assert_int_equal(sscanf(files[i], "{\"_class_name\": \"%31[^\"]", class), 1);
        check_sdxl(&c); /* Euler with SDXL base's values */
        assert_non_null(strstr(warning(&c, 0), class));
        assert_non_null(strstr(warning(&c, 0), "using euler"));
        assert_string_equal(warning(&c, 1), "");
        struct sched_request request = nothing;
        request.sampler = "heun"; /* chosen: a warning only where nobody knows the class */
        c = good(files[i], &request);
        bool known = strcmp(class, "MyOwnScheduler") != 0;
        assert_true(known == !*warning(&c, 0));
    }
    struct sched_request request = nothing;
    request.sampler = "lms";
    struct sched_config c = good("{\"_class_name\": \"EulerDiscreteScheduler\","
                                 " \"rescale_betas_zero_snr\": true}",
                                 &request);
    assert_false(c.rescale_betas_zero_snr);
    assert_non_null(strstr(warning(&c, 0), "rescale_betas_zero_snr has no effect"));
    size_t n;
    const struct sched_info *const *all = sched_all(&n);
    for (size_t i = 0; i < n; i++) { /* those that could take it are named, no others */
        char item[64];
        snprintf(item, sizeof item, " %s", all[i]->name);
        const char *list = strstr(warning(&c, 0), "one of"), *at = strstr(list, item);
        while (at && at[strlen(item)] && at[strlen(item)] != ',')
            at = strstr(at + 1, item);
        assert_int_equal(at != NULL, all[i]->zero_snr);
    }
    c = good("{\"_class_name\": \"EulerDiscreteScheduler\"}", &nothing);
    assert_string_equal(warning(&c, 0), "");
}

static void assumed(const struct sched_config *c, char *dst, size_t n)
{
    const char *key;
    size_t used = 0;
    *dst = '\0';
    for (int i = 0; (key = sched_assumed(c, i)); i++)
        if (*key)
            used += (size_t)snprintf(dst + used, n - used, "%s ", key);
}

/* What a file leaves open: its own class's defaults, or SDXL base's for another sampler. */
static void open_keys(void **state)
{
    (void)state;
    struct sched_request request = nothing;
    char names[256];
    struct sched_config c = good("{\"_class_name\": \"EulerDiscreteScheduler\"}", &nothing);
    assert_int_equal(c.spacing, SCHED_LINSPACE);
    assert_int_equal(c.betas, SCHED_LINEAR);
    assert_true(c.beta_start == 0.0001 && c.beta_end == 0.02);
    assert_int_equal(c.steps_offset, 0);
    assumed(&c, names, sizeof names);
    assert_string_equal(names, "");
    c = good("{\"_class_name\": \"DDIMScheduler\", \"beta_end\": 0.03}", &nothing);
    assert_int_equal(c.spacing, SCHED_LEADING);
    assert_true(c.set_alpha_to_one && c.clip_range == 1 && c.beta_end == 0.03);
    c = good("{\"_class_name\": \"HeunDiscreteScheduler\"}", &nothing);
    assert_true(c.betas == SCHED_LINEAR && c.beta_start == 0.00085 && c.beta_end == 0.012);
    request.sampler = "ddim";
    c = good("{\"_class_name\": \"EulerDiscreteScheduler\", \"beta_start\": 0.0002}", &request);
    assert_int_equal(c.spacing, SCHED_LEADING);
    assert_int_equal(c.betas, SCHED_SCALED_LINEAR);
    assert_true(c.beta_start == 0.0002 && c.beta_end == 0.012 && c.steps_offset == 1);
    assert_false(c.set_alpha_to_one || c.clip_range > 0);
    assumed(&c, names, sizeof names);
    assert_string_equal(names, "timestep_spacing steps_offset beta_schedule beta_end "
                               "num_train_timesteps prediction_type set_alpha_to_one "
                               "clip_sample ");
    request.spacing = "trailing"; /* which the request says, and which reads no offset */
    c = good("{\"_class_name\": \"EulerDiscreteScheduler\", \"beta_start\": 0.0002}", &request);
    assumed(&c, names, sizeof names);
    assert_string_equal(names, "beta_schedule beta_end num_train_timesteps prediction_type "
                               "set_alpha_to_one clip_sample ");
    request = nothing;
    request.sampler = "Euler"; /* the file's own class by another name */
    c = good("{\"_class_name\": \"EulerDiscreteScheduler\"}", &request);
    assert_int_equal(c.spacing, SCHED_LINSPACE);
    request.sampler = "ddim";
    c = good("{\"clip_sample\": true, \"clip_sample_range\": 2.5}", &request);
    assert_true(c.clip_range == 2.5);
    assumed(&c, names, sizeof names);
    assert_string_equal(names, ""); /* no class: a single file's marks */
}

static void bad_requests_are_named(void **state)
{
    (void)state;
    static const struct {
        struct sched_request request;
        const char *path, *says;
    } cases[] = {
        { { .sampler = "eulr", .eta = NAN, .steps = 5 }, "sampler", "nearest: euler" },
        { { .sampler = "no such thing", .eta = NAN, .steps = 5 }, "sampler", "dpmpp_2m" },
        { { .schedule = "karas", .eta = NAN, .steps = 5 }, "schedule", "nearest: karras" },
        { { .schedule = "no such thing", .eta = NAN, .steps = 5 },
          "schedule",
          "one of normal, karras" },
        { { .schedule = "karras,roh=5", .eta = NAN, .steps = 5 }, "schedule.roh", "nearest: rho" },
        { { .schedule = "karras,rho=-1", .eta = NAN, .steps = 5 }, "schedule.rho", "0 to 100" },
        { { .schedule = "normal,rho=5", .eta = NAN, .steps = 5 }, "schedule.rho", "it has none" },
        { { .spacing = "lead", .eta = NAN, .steps = 5 }, "spacing", "leading" },
        { { .schedule = "sgm_uniform", .spacing = "leading", .eta = NAN, .steps = 5 },
          "spacing",
          "fixes its own timesteps" },
        { { .sampler = "dpmpp_2m",
            .schedule = "karras",
            .spacing = "trailing",
            .eta = NAN,
            .steps = 5 },
          "spacing",
          "fixes its own timesteps" },
        { { .sampler = "unipc",
            .schedule = "exponential",
            .spacing = "trailing",
            .eta = NAN,
            .steps = 5 },
          "spacing",
          "fixes its own timesteps" },
        { { .sampler = "DPM++ 2M Karras", .schedule = "normal", .eta = NAN, .steps = 5 },
          "schedule",
          "karras" },
        { { .eta = NAN, .steps = 0 }, "steps", "1 to 1000" },
        { { .eta = NAN, .steps = -3 }, "steps", "1 to 1000" },
        { { .eta = NAN, .steps = 1001 }, "steps", "1 to 1000" },
        { { .eta = 0.5, .steps = 5 },
          "eta",
          "not used by euler (samplers that take it: euler_a, " },
        { { .sampler = "ddim", .eta = 1.5, .steps = 5 }, "eta", "0 to 1" },
        { { .sampler = "ddim", .eta = -0.1, .steps = 5 }, "eta", "0 to 1" },
        { { .sampler = "ddim", .eta = INFINITY, .steps = 5 }, "eta", "0 to 1" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sched_config c;
        struct dr_error err;
        assert_int_equal(configure(SDXL_BASE, &cases[i].request, &c, &err), DR_EINVAL);
        if (strcmp(err.path, cases[i].path) || !strstr(err.text, cases[i].says))
            fail_msg("case %zu: about '%s': %s", i, err.path, err.text);
    }
    /* the run's own range is the spacing's: here it applies */
    good(SDXL_BASE, &(struct sched_request){ .sampler = "euler",
                                             .schedule = "karras",
                                             .spacing = "trailing",
                                             .eta = NAN,
                                             .steps = 5 });
}

/* Settings that parse and do not go together. */
static void impossible_runs_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *json, *sampler, *spacing, *schedule;
        int steps;
        const char *says;
    } cases[] = {
        { NULL, "dpmpp_2m", "leading", NULL, 1000, "steps" },
        { NULL, "ddim", "leading", NULL, 1000, "steps" },
        { NULL, "unipc", "linspace", NULL, 1000, "steps" },
        { NULL, "lms", "leading", NULL, 1000, "steps" },
        { "{\"steps_offset\": 900}", "lms", "leading", NULL, 20, "steps" },
        { "{\"beta_start\": 1e-30, \"beta_end\": 1e-30}", "euler", NULL, NULL, 20, "beta_start" },
        { "{\"rescale_betas_zero_snr\": true}", "ddim", "trailing", NULL, 20,
          "rescale_betas_zero_snr" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sched_request request = { .sampler = cases[i].sampler,
                                         .schedule = cases[i].schedule,
                                         .spacing = cases[i].spacing,
                                         .eta = NAN,
                                         .steps = cases[i].steps };
        struct sched_config c = good(cases[i].json, &request);
        struct sched *s = NULL;
        struct dr_error err = { 0 };
        int r = sched_new(&c, 64, &s, &err);
        if (r != DR_EINVAL || !strstr(err.text, cases[i].says))
            fail_msg("case %zu: %d \"%s\"", i, r, err.text);
        assert_null(s);
    }
    struct sched_config c = good(NULL, &nothing);
    struct sched *s = NULL;
    struct dr_error err = { 0 };
    assert_int_equal(sched_new(&c, 0, &s, &err), DR_EINVAL);
    assert_int_equal(sched_new(&c, SIZE_MAX / 4, &s, &err), DR_ELIMIT);
    c.steps = 0;
    assert_int_equal(sched_new(&c, 64, &s, &err), DR_EINVAL);
    assert_null(s);
    sched_free(NULL);
}

static int make_one(void *ctx, struct dr_error *err)
{
    const char *sampler = ctx;
    struct sched_config c;
    struct sched *s = NULL;
    struct sched_request request = { .sampler = sampler, .eta = NAN, .steps = 12 };
    int r = sched_configure_text(SDXL_BASE, strlen(SDXL_BASE), &request, &c, err);
    if (!r)
        r = sched_new(&c, 64, &s, err);
    if (!r)
        sched_free(s);
    return r;
}

static void memory_may_run_out(void **state)
{
    (void)state;
    size_t n;
    const struct sched_info *const *samplers = sched_all(&n);
    for (size_t i = 0; i < n; i++)
        test_oom_walk(make_one, (void *)samplers[i]->name);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(sdxl_is_the_default),
    cmocka_unit_test(the_file_supplies),
    cmocka_unit_test(the_request_overrides),
    cmocka_unit_test(keys_are_read_as_the_class_reads_them),
    cmocka_unit_test(eta_is_the_samplers_own_unless_asked),
    cmocka_unit_test(a_samplers_name_may_carry_the_schedule),
    cmocka_unit_test(unsupported_values_are_named),
    cmocka_unit_test(edm),
    cmocka_unit_test(foreign_formulations_are_refused),
    cmocka_unit_test(unknown_classes_are_warned_of),
    cmocka_unit_test(open_keys),
    cmocka_unit_test(bad_requests_are_named),
    cmocka_unit_test(impossible_runs_are_refused),
    cmocka_unit_test(memory_may_run_out),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
