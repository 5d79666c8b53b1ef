/* What every sampler and schedule must do, walked over the tables: a new line is tested by being
 * there. */
#include "testing/helpers/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "schedulers/scheduler_factory.h"
#include "schedulers/scheduler_manager.h"
#include "schedulers/scheduler_options.h"
#include "schedulers/schedules.h"
#include "testing/helpers/sched_access.h"
#include "testing/helpers/sched_levels.h"

enum { VALUES = 36 };

static const char TO_ONE[] = "{\"set_alpha_to_one\": true}";
static const int step_counts[] = { 1, 2, 3, 7, 20, 50, 61, 103 };
enum { STEP_COUNTS = sizeof step_counts / sizeof *step_counts };

static struct sched *make(const char *json, const char *sampler, const char *schedule,
                          const char *spacing, int steps, double eta)
{
    struct dr_error err = { 0 };
    struct sched_config config;
    struct sched *s = NULL;
    struct sched_request request = {
        .sampler = sampler, .schedule = schedule, .spacing = spacing, .eta = eta, .steps = steps
    };
    int r = sched_configure_text(json, json ? strlen(json) : 0, &request, &config, &err);
    if (!r)
        r = sched_new(&config, VALUES, &s, &err);
    if (r)
        fail_msg("%s %s %d: %s", sampler, schedule, steps, err.text);
    return s;
}

/* Whether a walk takes this pair with so many steps: a sampler of each rule and layout with all;
 * the rest with 7, and with fewer under the table's first schedules, which samplers differ in. */
static bool is_walked(const struct sched_info *sampler, size_t schedule, int steps)
{
    static const char *const whole[] = { "euler", "heun", "ddim", "dpmpp_2m", "dpmpp_sde", "lcm" };
    bool all = steps == 7 || (schedule < 4 && steps < 7);
    size_t n;
    const struct schedule_info *info = schedule_all(&n)[schedule];
    const struct sched_config c = { .sampler = sampler, .schedule = info, .train_steps = 1000 };
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        all |= !strcmp(sampler->name, whole[i]);
    if (info->stands_for || (info->most && steps > info->most(&c)))
        return false;
    return all;
}

/* Calls `each` for every sampler, schedule, spacing that applies, and number of steps. */
static void walk(const char *json, void (*each)(struct sched *s))
{
    size_t n, n_schedules;
    const struct sched_info *const *samplers = sched_all(&n);
    const struct schedule_info *const *schedules = schedule_all(&n_schedules);
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < n_schedules; k++) {
            bool uses = schedule_uses_spacing(schedules[k], samplers[i]);
            for (int spacing = 0; spacing < (uses ? SCHED_SPACING_COUNT : 1); spacing++) {
                for (int c = 0; c < STEP_COUNTS; c++) {
                    if (!is_walked(samplers[i], k, step_counts[c]))
                        continue;
                    /* a Brownian tree is slow, and no other one with more steps */
                    if (samplers[i]->noise == SCHED_NOISE_BROWNIAN && step_counts[c] > 20)
                        continue;
                    /* no more than the timesteps that the model was distilled at */
                    if (samplers[i]->rule == SCHED_RULE_CONSISTENCY && step_counts[c] > 50)
                        continue;
                    const char *name = uses ? sched_spacing_name(spacing) : NULL;
                    struct sched *s = make(json, samplers[i]->name, schedules[k]->name, name,
                                           step_counts[c], NAN);
                    each(s);
                    sched_free(s);
                }
            }
        }
    }
}

static void check_levels(struct sched *s)
{
    const struct sched_config *c = sched_config_of(s);
    const float *sigmas = sched_sigmas(s), *timesteps = sched_timesteps(s);
    int n = sched_levels(s), begin = 0, step = 0;
    const struct sched_layout *layout = &c->sampler->layout;
    assert_int_equal(sched_evaluations(s), layout->next ? 0 : n);
    assert_int_equal(sched_count(c), sched_evaluations(s));
    for (int i = 0; i < n; i++) {
        assert_true(isfinite(sigmas[i]) && sigmas[i] > 0);
        assert_true(timesteps[i] >= 0 && timesteps[i] <= (float)c->train_steps);
        if (!i)
            continue;
        /* Further evaluations of a step are at the next step's level, or at one of its own. */
        int parts = layout->evaluations ? layout->evaluations(c, step) : 1;
        bool begins = i == begin + parts;
        bool shared = begins && parts > 1 && !layout->level;
        assert_true(sigmas[i] < sigmas[begin]);
        assert_true(!shared || sigmas[i] == sigmas[i - 1]);
        assert_true(timesteps[i] <= timesteps[begin]);
        begin = begins ? i : begin;
        step += begins;
    }
    assert_int_equal(step, c->steps - 1);
    if (strcmp(c->sampler->name, "tcd") != 0) /* it ends at timestep 0, as its reference */
        assert_true(sigmas[n] == 0);
    assert_true(sched_init_noise_scale(s) > 0);
}

static void sigmas_fall_to_zero(void **state)
{
    (void)state;
    walk(TO_ONE, check_levels);
}

static void fill(float *v, uint64_t seed)
{
    struct dr_rng rng;
    dr_rng_seed(&rng, DR_RNG_CPU, seed);
    dr_rng_normal(&rng, v, VALUES);
}

static double sigmas_end(const struct sched *s)
{
    return sched_sigmas(s)[sched_levels(s)];
}

/* A model that knows the picture: whatever the noise, eps is what leads back to it. */
static void check_oracle(struct sched *s)
{
    struct dr_error err = { 0 };
    struct sched_ask ask;
    struct dr_rng rng;
    float clean[VALUES], x[VALUES], eps[VALUES];
    fill(clean, 3);
    fill(x, 4);
    for (int i = 0; i < VALUES; i++)
        x[i] = (float)(x[i] * sched_init_noise_scale(s));
    dr_rng_seed(&rng, DR_RNG_CPU, 5);
    assert_int_equal(sched_begin(s, x, 0, &err), 0);
    int asked = 0;
    while (sched_next(s, &ask)) {
        assert_int_equal(ask.evaluation, asked++);
        assert_int_equal(ask.evaluations, sched_evaluations(s));
        double alpha = 1 / sqrt(ask.sigma * ask.sigma + 1);
        for (int i = 0; i < VALUES; i++)
            eps[i] = (float)((ask.x[i] - alpha * clean[i]) / (ask.sigma * alpha));
        assert_int_equal(sched_feed(s, eps, eps, &rng, &err), 0);
    }
    /* float32 latents over a small sigma: lms, explicit and of order 4, is the worst with 1.1e-4.
     * The reference's ddim counts strides back from the last timestep, and under trailing may end
     * at timestep 0's noise of 3 %, as tcd always does; lcm's answer there is what it was given. */
    const struct sched_config *c = sched_config_of(s);
    /* these two may end at timestep 1 */
    bool low = !strcmp(c->schedule->name, "ddim_uniform") ||
               !strcmp(c->schedule->name, "smoothstep");
    bool boundary = c->sampler->consistency &&
                    sched_timesteps(s)[sched_levels(s) - 1] < (low ? 2 : 1);
    bool short_of_it = sigmas_end(s) > 0 || boundary ||
                       (c->sampler->rule == SCHED_RULE_DDIM && c->spacing == SCHED_TRAILING);
    /* lms extrapolates from three near levels over a step many times as long; weights of ipndm_v do
     * not sum up to 1 where steps become longer from one to the next, and it loses digits */
    bool uneven = (!strcmp(c->sampler->name, "lms") &&
                   !strcmp(c->schedule->name, "linear_quadratic")) ||
                  !strcmp(c->sampler->name, "ipndm_v");
    if (!(test_rel_l2(sched_latents(s), clean, VALUES) < (short_of_it ? 0.06
                                                          : uneven    ? 5e-3
                                                                      : 2e-4)))
        fail_msg("%s %s %s %d steps: off by %g", sched_config_of(s)->sampler->name,
                 sched_config_of(s)->schedule->name,
                 sched_spacing_name(sched_config_of(s)->spacing), sched_config_of(s)->steps,
                 test_rel_l2(sched_latents(s), clean, VALUES));
}

static void an_oracle_leads_to_the_picture(void **state)
{
    (void)state;
    walk(TO_ONE, check_oracle);
}

static void model(const struct sched_ask *ask, float *ret_pred)
{
    for (int i = 0; i < VALUES; i++)
        ret_pred[i] = 0.6f * ask->x[i] - 0.2f * ask->x[(i + 7) % VALUES] + 0.1f +
                      0.0001f * (float)ask->timestep;
}

/* Runs to the end; trace, if not NULL, takes the latents after each evaluation. */
static void run(struct sched *s, uint64_t seed, float *trace)
{
    struct dr_error err = { 0 };
    struct sched_ask ask;
    struct dr_rng rng;
    float x[VALUES], pred[VALUES];
    fill(x, seed);
    for (int i = 0; i < VALUES; i++)
        x[i] = (float)(x[i] * sched_init_noise_scale(s));
    dr_rng_seed(&rng, DR_RNG_CPU, seed);
    assert_int_equal(sched_begin(s, x, 0, &err), 0);
    while (sched_next(s, &ask)) {
        model(&ask, pred);
        assert_int_equal(sched_feed(s, pred, pred, &rng, &err), 0);
        if (trace)
            memcpy(trace + VALUES * ask.evaluation, sched_latents(s), sizeof x);
    }
}

static void check_repeat(struct sched *s)
{
    float first[VALUES], again[VALUES], other[VALUES];
    run(s, 1, NULL);
    memcpy(first, sched_latents(s), sizeof first);
    run(s, 2, NULL);
    memcpy(other, sched_latents(s), sizeof other);
    run(s, 1, NULL);
    memcpy(again, sched_latents(s), sizeof again);
    assert_memory_equal(first, again, sizeof first);
    assert_memory_not_equal(first, other, sizeof first);
    for (int i = 0; i < VALUES; i++)
        assert_true(isfinite(first[i]));
}

static void the_same_seed_gives_the_same_bits(void **state)
{
    (void)state;
    walk(NULL, check_repeat);
}

/* After every feed: saved, loaded into a fresh object, which then goes on in its place. */
static void resume_everywhere(const char *sampler, const char *schedule, int steps)
{
    struct dr_error err = { 0 };
    struct sched *whole = make(NULL, sampler, schedule, NULL, steps, NAN);
    run(whole, 9, NULL);

    struct sched *s = make(NULL, sampler, schedule, NULL, steps, NAN);
    struct sched_ask ask;
    struct dr_rng rng, saved_rng;
    float x[VALUES], pred[VALUES];
    size_t size = sched_state_size(s);
    void *saved = dr_malloc(DR_TAG_TEST, size);
    assert_non_null(saved);
    fill(x, 9);
    for (int i = 0; i < VALUES; i++)
        x[i] = (float)(x[i] * sched_init_noise_scale(s));
    dr_rng_seed(&rng, DR_RNG_CPU, 9);
    assert_int_equal(sched_begin(s, x, 0, &err), 0);
    while (sched_next(s, &ask)) {
        model(&ask, pred);
        assert_int_equal(sched_feed(s, pred, pred, &rng, &err), 0);
        sched_save(s, saved);
        memcpy(&saved_rng, &rng, sizeof rng);
        sched_free(s);
        s = make(NULL, sampler, schedule, NULL, steps, NAN);
        assert_int_equal(sched_load(s, saved, size, &err), 0);
        memcpy(&rng, &saved_rng, sizeof rng);
    }
    assert_memory_equal(sched_latents(s), sched_latents(whole), sizeof x);
    dr_free(saved);
    sched_free(s);
    sched_free(whole);
}

static void a_saved_run_goes_on_with_the_same_bits(void **state)
{
    (void)state;
    size_t n, n_schedules;
    const struct sched_info *const *samplers = sched_all(&n);
    const struct schedule_info *const *schedules = schedule_all(&n_schedules);
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < n_schedules && k < 4; k++)
            resume_everywhere(samplers[i]->name, schedules[k]->name, 9);
    }
}

static void states_of_other_runs_are_refused(void **state)
{
    (void)state;
    struct dr_error err = { 0 };
    size_t n;
    const struct sched_info *const *samplers = sched_all(&n);
    for (size_t i = 0; i < n; i++) {
        struct sched *s = make(NULL, samplers[i]->name, NULL, NULL, 8, NAN);
        struct sched *other = make(NULL, samplers[i]->name, NULL, NULL, 9, NAN);
        size_t size = sched_state_size(s);
        unsigned char *block = dr_malloc(DR_TAG_TEST, size), *before = dr_malloc(DR_TAG_TEST, size);
        assert_true(block && before);
        run(s, 1, NULL);
        sched_save(s, before);
        sched_save(other, block);
        assert_int_equal(sched_load(s, block, size, &err), DR_EFORMAT);
        assert_int_equal(sched_load(s, block, size - 1, &err), DR_EFORMAT);
        memset(block, 0, size);
        assert_int_equal(sched_load(s, block, size, &err), DR_EFORMAT);
        for (size_t at = 0; at < 32; at++) { /* head: magic, fingerprint, n, first and evaluation */
            memcpy(block, before, size);
            block[at] ^= 0x80;
            if (at < 24 || at == 27 || at == 31)
                assert_int_equal(sched_load(s, block, size, &err), DR_EFORMAT);
        }
        sched_save(s, block);
        assert_memory_equal(block, before, size);
        dr_free(block);
        dr_free(before);
        sched_free(s);
        sched_free(other);
    }
}

static void states_of_other_options_are_refused(void **state)
{
    (void)state;
    static const char *const samplers[][2] = {
        { "dpm_adaptive", "dpm_adaptive,rtol=0.06" },
        { "dpmpp_sde", "dpmpp_sde,s_noise=1.1" },
        { "euler_a", "euler_a,eta=0.9" },
        { "lcm", "lcm,timestep_scaling=9" },
        { "lcm", "lcm,original_inference_steps=40" },
        { "tcd", "tcd,eta=0.4" },
    };
    for (size_t i = 0; i < sizeof samplers / sizeof *samplers; i++) {
        struct dr_error err = { 0 };
        struct sched *s = make(NULL, samplers[i][0], NULL, NULL, 8, NAN);
        struct sched *other = make(NULL, samplers[i][1], NULL, NULL, 8, NAN);
        size_t size = sched_state_size(s);
        void *block = dr_malloc(DR_TAG_TEST, size);
        assert_non_null(block);
        run(s, 1, NULL);
        sched_save(s, block);
        assert_int_equal(sched_load(other, block, size, &err), DR_EFORMAT);
        assert_int_equal(sched_load(s, block, size, &err), 0);
        dr_free(block);
        sched_free(s);
        sched_free(other);
    }
}

static void check_own_arrays(struct sched *s)
{
    struct dr_error err = { 0 };
    float before[VALUES];
    size_t n = (size_t)sched_levels(s);
    bool open = !sched_evaluations(s);
    float *arrays = dr_calloc(DR_TAG_TEST, 2 * n + 1, sizeof *arrays);
    assert_non_null(arrays);
    memcpy(arrays, sched_timesteps(s), n * sizeof *arrays);
    memcpy(arrays + n, sched_sigmas(s), (n + 1) * sizeof *arrays);
    run(s, 8, NULL);
    memcpy(before, sched_latents(s), sizeof before);
    if (sched_replace(s, open ? NULL : arrays, arrays + n, &err))
        fail_msg("%s %s: %s", sched_config_of(s)->sampler->name, sched_config_of(s)->schedule->name,
                 err.text);
    run(s, 8, NULL);
    assert_memory_equal(before, sched_latents(s), sizeof before);
    dr_free(arrays);
}

static void its_own_arrays_change_no_bit(void **state)
{
    (void)state;
    walk(NULL, check_own_arrays);
}

/* A normal run given the arrays of a karras run is that run. */
static void arrays_of_another_run_make_that_run(void **state)
{
    (void)state;
    size_t n;
    const struct sched_info *const *samplers = sched_all(&n);
    for (size_t i = 0; i < n; i++) {
        struct dr_error err = { 0 };
        struct sched *other = make(NULL, samplers[i]->name, "karras", NULL, 9, NAN);
        bool uses = schedule_uses_spacing(schedule_find("normal"), samplers[i]);
        struct sched *s = make(NULL, samplers[i]->name, "normal", uses ? "linspace" : NULL, 9, NAN);
        const float *timesteps = sched_evaluations(s) ? sched_timesteps(other) : NULL;
        assert_int_equal(sched_replace(s, timesteps, sched_sigmas(other), &err), 0);
        if (!timesteps) /* it chooses its own */
            assert_int_equal(sched_replace(s, sched_timesteps(other), NULL, &err), DR_EINVAL);
        float x[VALUES] = { 1, 2, 3 }, pred[VALUES];
        struct sched *both[] = { s, other };
        for (int k = 0; k < 2; k++) {
            struct sched_ask ask;
            struct dr_rng rng;
            dr_rng_seed(&rng, DR_RNG_CPU, 1);
            assert_int_equal(sched_begin(both[k], x, 0, &err), 0);
            while (sched_next(both[k], &ask)) {
                model(&ask, pred);
                assert_int_equal(sched_feed(both[k], pred, pred, &rng, &err), 0);
            }
        }
        assert_true(test_rel_l2(sched_latents(s), sched_latents(other), VALUES) < 1e-6);
        sched_free(s);
        sched_free(other);
    }
}

static void impossible_arrays_are_refused(void **state)
{
    (void)state;
    static const float bad_sigmas[][4] = { { 3, 2, 2, 0 },   { 3, 2, 0, 0 },       { 3, 2, 1, -1 },
                                           { 3, 4, 1, 0 },   { NAN, 2, 1, 0 },     { 3, NAN, 1, 0 },
                                           { 3, 2, 1, NAN }, { INFINITY, 2, 1, 0 } };
    static const float bad_timesteps[][3] = { { 1000, 5, 1 }, { 5, -1, 0 }, { 5, 3, NAN } };
    struct dr_error err = { 0 };
    struct sched *s = make(NULL, "euler", NULL, NULL, 3, NAN);
    for (size_t i = 0; i < sizeof bad_sigmas / sizeof *bad_sigmas; i++) {
        assert_int_equal(sched_replace(s, NULL, bad_sigmas[i], &err), DR_EINVAL);
        assert_true(strstr(err.text, "sigmas") != NULL);
    }
    for (size_t i = 0; i < sizeof bad_timesteps / sizeof *bad_timesteps; i++) {
        assert_int_equal(sched_replace(s, bad_timesteps[i], NULL, &err), DR_EINVAL);
        assert_true(strstr(err.text, "timesteps") != NULL);
    }
    sched_free(s);
    s = make(NULL, "heun", NULL, NULL, 2, NAN);
    static const float good[] = { 3, 2, 2, 0 }, bad[] = { 3, 3, 2, 0 };
    assert_int_equal(sched_replace(s, NULL, good, &err), 0);
    assert_int_equal(sched_replace(s, NULL, bad, &err), DR_EINVAL);
    sched_free(s);
}

/* As many steps as the model has timesteps: the first two are of one level, and the step between
 * them leads nowhere. */
static void steps_between_equal_levels_lead_nowhere(void **state)
{
    (void)state;
    static const char *const samplers[] = { "euler", "euler_a", "heun" };
    for (size_t i = 0; i < sizeof samplers / sizeof *samplers; i++) {
        struct dr_error err = { 0 };
        struct sched_ask ask;
        struct dr_rng rng;
        float x[VALUES], before[VALUES], pred[VALUES];
        struct sched *s = make(NULL, samplers[i], NULL, NULL, 1000, NAN);
        assert_true(sched_sigmas(s)[0] == sched_sigmas(s)[1]);
        assert_true(sched_timesteps(s)[0] == 1000);
        assert_int_equal(sched_replace(s, sched_timesteps(s), sched_sigmas(s), &err), 0);
        fill(x, 4);
        for (int k = 0; k < VALUES; k++)
            x[k] = (float)(x[k] * sched_init_noise_scale(s));
        dr_rng_seed(&rng, DR_RNG_CPU, 1);
        assert_int_equal(sched_begin(s, x, 0, &err), 0);
        memcpy(before, sched_latents(s), sizeof before);
        for (int e = 0; sched_next(s, &ask); e++) {
            model(&ask, pred);
            assert_int_equal(sched_feed(s, pred, pred, &rng, &err), 0);
            if (!e)
                assert_memory_equal(before, sched_latents(s), sizeof before);
        }
        for (int k = 0; k < VALUES; k++)
            assert_true(isfinite(sched_latents(s)[k]));
        sched_free(s);
    }
}

static void nothing_is_allocated_in_a_step(void **state)
{
    (void)state;
    size_t n;
    const struct sched_info *const *samplers = sched_all(&n);
    for (size_t i = 0; i < n; i++) {
        struct sched *s = make(NULL, samplers[i]->name, NULL, NULL, 12, NAN);
        uint64_t total = dr_alloc_stats_all().total;
        run(s, 1, NULL);
        assert_int_equal(dr_alloc_stats_all().total, total);
        sched_free(s);
    }
}

static void questions_and_answers_alternate(void **state)
{
    (void)state;
    struct dr_error err = { 0 };
    struct sched_ask ask, again;
    struct dr_rng rng;
    float x[VALUES] = { 1 }, pred[VALUES] = { 0 };
    struct sched *s = make(NULL, "euler_a", NULL, NULL, 3, NAN);
    dr_rng_seed(&rng, DR_RNG_CPU, 1);
    assert_false(sched_next(s, &ask)); /* not begun */
    assert_int_equal(sched_feed(s, pred, pred, &rng, &err), DR_ESTATE);
    assert_int_equal(sched_begin(s, x, -1, &err), DR_EINVAL);
    assert_int_equal(sched_begin(s, x, 3, &err), DR_EINVAL);
    assert_int_equal(sched_begin(s, x, 1, &err), 0);
    assert_true(sched_next(s, &ask) && sched_next(s, &again));
    assert_int_equal(again.evaluation, 1);
    assert_true(again.x == ask.x && again.timestep == ask.timestep);
    assert_int_equal(sched_feed(s, pred, pred, NULL, &err), DR_EINVAL); /* no generator */
    assert_int_equal(sched_feed(s, pred, pred, &rng, &err), 0);
    assert_int_equal(sched_feed(s, pred, pred, &rng, &err), DR_ESTATE);
    assert_true(sched_next(s, &ask));
    assert_int_equal(sched_feed(s, pred, pred, &rng, &err), 0);
    assert_false(sched_next(s, &ask));
    sched_free(s);
}

/* n normals an evaluation where noise is drawn, none elsewhere. */
static void generators_stand_where_the_reference_leaves_them(void **state)
{
    (void)state;
    static const struct {
        const char *sampler;
        double eta;
        int draws;
    } cases[] = { { "euler_a", NAN, 5 }, { "euler_a", 0, 0 }, { "ddim", NAN, 0 },
                  { "ddim", 0.5, 5 },    { "euler", NAN, 0 }, { "dpmpp_2m", NAN, 0 },
                  { "lcm", NAN, 4 },     { "tcd", NAN, 4 },   { "tcd", 0, 0 } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dr_error err = { 0 };
        struct sched_ask ask;
        struct dr_rng rng, expected;
        float x[VALUES] = { 1 }, pred[VALUES] = { 0 };
        struct sched *s = make(NULL, cases[i].sampler, NULL, NULL, 5, cases[i].eta);
        assert_int_equal(sched_adds_noise(s), cases[i].draws > 0);
        dr_rng_seed(&rng, DR_RNG_CPU, 1);
        dr_rng_seed(&expected, DR_RNG_CPU, 1);
        assert_int_equal(sched_begin(s, x, 0, &err), 0);
        while (sched_next(s, &ask))
            assert_int_equal(sched_feed(s, pred, pred, &rng, &err), 0);
        for (int k = 0; k < cases[i].draws; k++)
            dr_rng_normal(&expected, x, VALUES);
        assert_memory_equal(&rng, &expected, sizeof rng);
        sched_free(s);
    }
}

/* With the same sigmas, ddim is euler (eta 0) and euler_a (eta 1) seen in the other
 * parametrisation. */
static void ddim_is_euler_in_other_coordinates(void **state)
{
    (void)state;
    static const char *const schedules[] = { "karras", "exponential", "sgm_uniform" };
    enum { STEPS = 12 };
    for (int k = 0; k < 6; k++) {
        float vp[STEPS * VALUES], ve[STEPS * VALUES];
        double eta = k % 2;
        struct sched *a = make(TO_ONE, "ddim", schedules[k / 2], NULL, STEPS, eta);
        struct sched *b = make(TO_ONE, eta > 0 ? "euler_a" : "euler", schedules[k / 2], NULL, STEPS,
                               NAN);
        assert_memory_equal(sched_sigmas(a), sched_sigmas(b), (STEPS + 1) * sizeof(float));
        assert_memory_equal(sched_timesteps(a), sched_timesteps(b), STEPS * sizeof(float));
        run(a, 6, vp);
        run(b, 6, ve);
        for (int e = 0; e < STEPS; e++) {
            double sigma = sched_sigmas(b)[e + 1];
            for (int i = 0; i < VALUES; i++)
                ve[e * VALUES + i] = (float)(ve[e * VALUES + i] / sqrt(sigma * sigma + 1));
        }
        assert_true(test_rel_l2(vp, ve, STEPS * VALUES) < 1e-5);
        sched_free(a);
        sched_free(b);
    }
}

static void sgm_uniform_is_that_of_comfyui(void **state)
{
    (void)state;
    /* float64 betas, scaled linear 0.00085 to 0.012; exp of log sigma interpolated at 999 (7-i)/7
     * */
    static const double expected[] = {
        14.6146, 6.678, 3.52206, 2.06064, 1.27683, 0.79126, 0.439666
    };
    size_t n;
    const struct sched_info *const *samplers = sched_all(&n);
    for (size_t k = 0; k < n; k++) {
        struct sched *s = make(NULL, samplers[k]->name, "sgm_uniform", NULL, 7, NAN);
        float levels[8] = { 7, 6, 5, 4, 3, 2, 1, 0 }, at[32];
        (void)test_lay_out(s, levels, at);
        for (int i = 0; i < 7; i++) {
            double t = 999 - i * 999.0 / 7;
            if (samplers[k]->rule == SCHED_RULE_DPM)
                t = rint(t);
            int begin = 0; /* of step i: where its level lies last */
            for (int e = 0; e < sched_levels(s); e++)
                begin = at[e] == levels[i] ? e : begin;
            assert_true(fabs(sched_sigmas(s)[begin] / expected[i] - 1) < 1e-5);
            assert_true(fabs(sched_timesteps(s)[begin] - t) < 1e-4);
        }
        sched_free(s);
    }
}

/* AUTOMATIC1111's choice for the sampler; what the receipt records is that schedule. */
static void automatic_is_the_samplers(void **state)
{
    (void)state;
    static const char *const cases[][2] = { { "euler", "normal" },
                                            { "dpmpp_2m", "karras" },
                                            { "dpmpp_2m_sde", "exponential" } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sched *s = make(NULL, cases[i][0], "automatic", NULL, 5, NAN);
        assert_string_equal(sched_config_of(s)->schedule->name, cases[i][1]);
        sched_free(s);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(sigmas_fall_to_zero),
    cmocka_unit_test(an_oracle_leads_to_the_picture),
    cmocka_unit_test(the_same_seed_gives_the_same_bits),
    cmocka_unit_test(a_saved_run_goes_on_with_the_same_bits),
    cmocka_unit_test(states_of_other_runs_are_refused),
    cmocka_unit_test(states_of_other_options_are_refused),
    cmocka_unit_test(its_own_arrays_change_no_bit),
    cmocka_unit_test(arrays_of_another_run_make_that_run),
    cmocka_unit_test(impossible_arrays_are_refused),
    cmocka_unit_test(steps_between_equal_levels_lead_nowhere),
    cmocka_unit_test(nothing_is_allocated_in_a_step),
    cmocka_unit_test(questions_and_answers_alternate),
    cmocka_unit_test(generators_stand_where_the_reference_leaves_them),
    cmocka_unit_test(ddim_is_euler_in_other_coordinates),
    cmocka_unit_test(sgm_uniform_is_that_of_comfyui),
    cmocka_unit_test(automatic_is_the_samplers),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
