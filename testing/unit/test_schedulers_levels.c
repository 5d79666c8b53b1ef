/* The levels of schedules against vectors of k-diffusion, scipy, diffusers and published rules:
 * tools/golden/schedules.py made them and says their format and sources. */
#include "testing/helpers/test.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/npy.h"
#include "schedulers/scheduler_factory.h"
#include "schedulers/schedules.h"
#include "testing/helpers/base_files.h"
#include "testing/helpers/sched_access.h"

static const struct sched_conventions of_model = { .levels = SCHED_LEVELS_MODEL,
                                                   .beta_of_timesteps = true };

static int new_run(const struct sched_request *request, bool xl, struct sched **ret,
                   struct dr_error *err)
{
    struct sched_config config;
    char json[400];
    snprintf(json, sizeof json,
             "{\"beta_schedule\": \"scaled_linear\", \"beta_start\": 0.00085,"
             " \"beta_end\": 0.012, \"num_train_timesteps\": 1000, \"steps_offset\": 1,"
             " \"timestep_spacing\": \"leading\", \"set_alpha_to_one\": false%s}",
             xl ? ", \"optimised_levels\": \"sdxl\"" : "");
    json_t *trained = NULL;
    int r = jx_parse(json, strlen(json), NULL, "trained", &trained, err);
    if (!r)
        r = sched_configure(trained, NULL, request, &config, err);
    if (!r)
        r = sched_new(&config, 4, ret, err);
    json_decref(trained);
    return r;
}

/* The levels at which steps begin. */
static void check_case(struct sched *s, const char *what, int steps, const float *sigmas,
                       const float *timesteps)
{
    int each = steps > 1 ? (sched_evaluations(s) - 1) / (steps - 1) : 1;
    bool fractional = sched_config_of(s)->sampler->rule != SCHED_RULE_DPM;
    for (int i = 0; i < steps; i++) {
        float sigma = sched_sigmas(s)[i * each], t = sched_timesteps(s)[i * each];
        if (!(fabs(sigma / sigmas[i] - 1) < 1e-5))
            fail_msg("%s %d: sigma %d is %.9g, expected %.9g", what, steps, i, sigma, sigmas[i]);
        if (timesteps && !(fabs(t - timesteps[i]) <= (fractional ? 2e-3 : 0)))
            fail_msg("%s %d: timestep %d is %.9g, expected %.9g", what, steps, i, t, timesteps[i]);
    }
}

static void levels_are_the_references(void **state)
{
    (void)state;
    struct dr_error err = { 0 };
    struct npy all;
    char schedule[80], sampler[32], levels[32], spacing[16], source[32];
    int steps, offset, cases = 0;
    assert_int_equal(npy_load(test_source("testing/golden/schedulers/sigmas.npy"), &all, &err), 0);
    FILE *index = fopen(test_source("testing/golden/schedulers/sigmas.txt"), "r");
    assert_non_null(index);
    while (fscanf(index, "%79s %31s %31s %15s %d %d %31s", schedule, sampler, levels, spacing,
                  &steps, &offset, source) == 7) {
        struct sched *s;
        bool timesteps = !strcmp(source, "diffusers");
        struct sched_request request = {
            .sampler = sampler,
            .schedule = schedule,
            .spacing = timesteps && !strcmp(levels, "class") && strcmp(sampler, "dpmpp_2m") &&
                               strcmp(sampler, "unipc")
                           ? spacing
                           : NULL,
            .conventions = strcmp(levels, "model") ? NULL : &of_model,
            .eta = NAN,
            .steps = steps,
        };
        if (new_run(&request, !strcmp(levels, "xl"), &s, &err))
            fail_msg("%s: %s", schedule, err.text);
        const float *sigmas = (const float *)all.data + offset;
        assert_true(offset + steps * (1 + timesteps) <= all.count);
        check_case(s, schedule, steps, sigmas, timesteps ? sigmas + steps : NULL);
        sched_free(s);
        cases++;
    }
    assert_true(feof(index));
    assert_true(cases >= 200);
    fclose(index);
    npy_free(&all);
}

static void impossible_levels_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *schedule, *path, *says;
        int steps;
    } cases[] = {
        { "karras,sigma_min=3,sigma_max=2", "schedule.sigma_min", "below the highest, 2", 5 },
        { "exponential,sigma_min=20", "schedule.sigma_min", "below the highest", 5 },
        { "turbo,points=4", "steps", "1 to 4", 5 },
        { "smoothstep", "steps", "1 to ", 900 },
        { "linear_quadratic,linear_steps=5", "steps", "6 to 1000", 5 },
        { "beta", "steps", "fewer steps", 900 }, /* of timesteps: two would be one */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dr_error err = { 0 };
        struct sched *s = NULL;
        struct sched_request request = { .sampler = "lms",
                                         .schedule = cases[i].schedule,
                                         .conventions = &of_model,
                                         .eta = NAN,
                                         .steps = cases[i].steps };
        int r = new_run(&request, false, &s, &err);
        if (r != DR_EINVAL || strcmp(err.path, cases[i].path) || !strstr(err.text, cases[i].says))
            fail_msg("%s: %d, about '%s': %s", cases[i].schedule, r, err.path, err.text);
    }
}

/* Each convention by itself: the scale of the first noise, whole timesteps, the level that is left
 * out, samplers that keep their class's levels. */
static void conventions_hold(void **state)
{
    (void)state;
    struct dr_error err = { 0 };
    struct sched *s = NULL;
    struct sched_conventions c = { .levels = SCHED_LEVELS_MODEL, .start = SCHED_START_FULL };
    struct sched_request request = {
        .sampler = "euler", .conventions = &c, .eta = NAN, .steps = 7
    };
    assert_int_equal(new_run(&request, false, &s, &err), 0);
    double high = sched_sigmas(s)[0];
    float second = sched_timesteps(s)[1];
    assert_true(fabs(sched_init_noise_scale(s) - sqrt(high * high + 1)) < 1e-5);
    assert_true(second == 832.5F);
    sched_free(s);
    request.schedule = "karras,sigma_max=7"; /* below the model's highest */
    assert_int_equal(new_run(&request, false, &s, &err), 0);
    assert_true(fabs(sched_init_noise_scale(s) - 7) < 1e-5);
    sched_free(s);
    request.schedule = NULL;
    c.start = SCHED_START_SIGMA;
    c.whole_timesteps = true;
    assert_int_equal(new_run(&request, false, &s, &err), 0);
    assert_true(fabs(sched_init_noise_scale(s) - high) < 1e-5);
    assert_true(sched_timesteps(s)[1] == rintf(second));
    sched_free(s);
    request.sampler = "dpmpp_2m"; /* the same in its own parametrisation, of variance 1 */
    assert_int_equal(new_run(&request, false, &s, &err), 0);
    assert_true(fabs(sched_init_noise_scale(s) - high / sqrt(high * high + 1)) < 1e-6);
    sched_free(s);
    request.sampler = "unipc"; /* seven of eight levels */
    c.one_more = "dpm2 unipc";
    assert_int_equal(new_run(&request, false, &s, &err), 0);
    assert_int_equal(sched_evaluations(s), 7);
    assert_true(sched_timesteps(s)[6] == rintf(999.0F / 7) && sched_sigmas(s)[7] == 0);
    sched_free(s);
    request.sampler = "ddim";
    c.by_class = "ddim";
    assert_int_equal(new_run(&request, false, &s, &err), 0);
    assert_true(sched_timesteps(s)[0] == 853 && sched_timesteps(s)[6] == 1);
    sched_free(s);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(levels_are_the_references),
    cmocka_unit_test(impossible_levels_are_named),
    cmocka_unit_test(conventions_hold),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
