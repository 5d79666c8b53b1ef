/* Schedulers against diffusers and k-diffusion: tools/golden/schedulers.py made the vectors and
 * says their format; testing/golden/schedulers/references.txt has the versions. */
#include "testing/helpers/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/npy.h"
#include "base/rng.h"
#include "schedulers/brownian_tree.h"
#include "schedulers/scheduler_factory.h"
#include "schedulers/scheduler_manager.h"
#include "schedulers/scheduler_options.h"
#include "schedulers/schedules.h"
#include "testing/helpers/base_files.h"
#include "testing/helpers/sched_access.h"

enum { VALUES = 32 };

static struct npy load(const char *name)
{
    struct dr_error err = { 0 };
    struct npy a;
    int r = npy_load(test_source(name), &a, &err);
    if (r)
        fail_msg("%s", err.text);
    assert_int_equal(a.dtype, NPY_F32);
    return a;
}

static FILE *open_index(const char *name)
{
    FILE *f = fopen(test_source(name), "r");
    if (!f)
        fail_msg("cannot open %s", name);
    return f;
}

static struct sched *make_request(const struct sched_request *request, const char *spacing,
                                  const char *prediction, int zero_snr)
{
    struct dr_error err = { 0 };
    struct sched_config config;
    struct sched *s = NULL;
    char json[640];
    /* SDXL base 1.0's, as in the maker */
    snprintf(json, sizeof json,
             "{\"_class_name\": \"EulerDiscreteScheduler\", \"beta_end\": 0.012,"
             " \"beta_schedule\": \"scaled_linear\", \"beta_start\": 0.00085,"
             " \"clip_sample\": false, \"interpolation_type\": \"linear\","
             " \"num_train_timesteps\": 1000, \"sample_max_value\": 1.0,"
             " \"set_alpha_to_one\": false, \"skip_prk_steps\": true, \"steps_offset\": 1,"
             " \"trained_betas\": null, \"use_karras_sigmas\": false,"
             " \"timestep_spacing\": \"%s\", \"prediction_type\": \"%s\","
             " \"rescale_betas_zero_snr\": %s}",
             spacing, prediction, zero_snr ? "true" : "false");
    int r = sched_configure_text(json, strlen(json), request, &config, &err);
    if (!r)
        r = sched_new(&config, VALUES, &s, &err);
    if (r)
        fail_msg("%s %s %d: %s", request->sampler, spacing, request->steps, err.text);
    return s;
}

static struct sched *make(const char *sampler, const char *spacing, const char *schedule,
                          const char *prediction, int zero_snr, int steps, double eta)
{
    struct sched_request request = {
        .sampler = sampler, .schedule = schedule, .eta = eta, .steps = steps
    };
    return make_request(&request, spacing, prediction, zero_snr);
}

static double relative(double got, double expected)
{
    double size = fabs(expected) > 1e-3 ? fabs(expected) : 1e-3;
    return fabs(got - expected) / size;
}

static void timesteps_and_sigmas(void **state)
{
    (void)state;
    struct npy all = load("testing/golden/schedulers/schedules.npy");
    FILE *index = open_index("testing/golden/schedulers/schedules.txt");
    char sampler[32], spacing[32], schedule[32];
    int steps, offset, n_timesteps, n_sigmas, cases = 0;
    double scale, worst_t = 0, worst_s = 0;
    while (fscanf(index, "%31s %31s %31s %d %d %d %d %lf", sampler, spacing, schedule, &steps,
                  &offset, &n_timesteps, &n_sigmas, &scale) == 8) {
        struct sched *s = make(sampler, spacing, schedule, "epsilon", 0, steps, NAN);
        const float *t = (const float *)all.data + offset, *sigma = t + n_timesteps;
        assert_true(offset + n_timesteps + n_sigmas <= all.count);
        assert_int_equal(sched_evaluations(s), n_timesteps);
        assert_int_equal(n_sigmas, n_timesteps + 1);
        bool fractional = strcmp(schedule, "normal") &&
                          sched_config_of(s)->sampler->rule != SCHED_RULE_DPM;
        for (int i = 0; i < n_timesteps; i++) {
            double off = relative(sched_timesteps(s)[i], t[i]);
            worst_t = off > worst_t ? off : worst_t;
            if (off > (fractional ? 1e-4 : 0))
                fail_msg("%s %s %s %d: timestep %d is %.9g, expected %.9g", sampler, spacing,
                         schedule, steps, i, sched_timesteps(s)[i], t[i]);
        }
        for (int i = 0; i < n_sigmas; i++) {
            double off = relative(sched_sigmas(s)[i], sigma[i]);
            worst_s = off > worst_s ? off : worst_s;
            if (off > 1e-6)
                fail_msg("%s %s %s %d: sigma %d is %.9g, expected %.9g", sampler, spacing, schedule,
                         steps, i, sched_sigmas(s)[i], sigma[i]);
        }
        assert_true(relative(sched_init_noise_scale(s), scale) < 1e-6);
        sched_free(s);
        cases++;
    }
    assert_true(feof(index));
    assert_true(cases >= 263);
    print_message("%d cases: timesteps within %.1e, sigmas within %.1e\n", cases, worst_t, worst_s);
    fclose(index);
    npy_free(&all);
}

/* The model of tools/golden/schedulers.py. */
static void model(const float *x, double timestep, float *ret_pred)
{
    for (int i = 0; i < VALUES; i++) {
        double v = x[i], other = x[(i + 5) % VALUES];
        ret_pred[i] = (float)(0.55 * v - 0.25 * other + 0.3 * (v / (1 + v * v)) +
                              0.0002 * timestep);
    }
}

/* Its unconditional prediction, for samplers that need one. */
static void unconditional(const float *pred, float *ret)
{
    for (int i = 0; i < VALUES; i++)
        ret[i] = 0.875f * pred[i] + 0.125f;
}

/* rows: latents before and after each evaluation. Returns the worst relative distance. */
static double follow(struct sched *s, const float *rows, int first, int evaluations)
{
    struct dr_error err = { 0 };
    struct dr_rng rng;
    struct sched_ask ask;
    float pred[VALUES], uncond[VALUES];
    double worst = 0;
    dr_rng_seed(&rng, DR_RNG_CPU, 7);
    assert_int_equal(sched_begin(s, rows, first, &err), 0);
    int count = 0;
    while (sched_next(s, &ask)) {
        model(ask.x, ask.timestep, pred);
        unconditional(pred, uncond);
        assert_int_equal(sched_feed(s, pred, uncond, &rng, &err), 0);
        count++;
        assert_true(count <= evaluations);
        double off = test_rel_l2(sched_latents(s), rows + count * VALUES, VALUES);
        worst = off > worst || isnan(off) ? off : worst;
    }
    assert_int_equal(count, evaluations);
    return worst;
}

/* Replays the runs of one pair of files and returns how many there are. */
static int replay(const char *arrays, const char *lines)
{
    struct npy all = load(arrays);
    FILE *index = open_index(lines);
    char sampler[32], spacing[32], schedule[32], prediction[32];
    int zero_snr, steps, first, offset, evaluations, cases = 0;
    double eta, worst = 0;
    while (fscanf(index, "%31s %31s %31s %31s %d %d %d %lf %d %d", sampler, spacing, schedule,
                  prediction, &zero_snr, &steps, &first, &eta, &offset, &evaluations) == 10) {
        struct sched *s = make(sampler, spacing, schedule, prediction, zero_snr, steps, eta);
        assert_true(offset + (evaluations + 1) * VALUES <= all.count);
        double off = follow(s, (const float *)all.data + offset, first, evaluations);
        /* With zero SNR the first latents are of size 4096 and the reference rounds them to float32
         * at each operation. */
        if (!(off <= (zero_snr ? 1e-4 : 1e-5)))
            fail_msg("%s %s %s %s zero_snr %d, %d steps from %d, eta %g: off by %.2e", sampler,
                     spacing, schedule, prediction, zero_snr, steps, first, eta, off);
        worst = off > worst && !zero_snr ? off : worst;
        sched_free(s);
        cases++;
    }
    assert_true(feof(index));
    print_message("%d trajectories within %.1e\n", cases, worst);
    fclose(index);
    npy_free(&all);
    return cases;
}

static void trajectories(void **state)
{
    (void)state;
    assert_true(replay("testing/golden/schedulers/trajectories.npy",
                       "testing/golden/schedulers/trajectories.txt") >= 98);
}

/* Runs with the reference's own levels, to the bit: a Brownian path tells those apart that differ
 * in the last. */
static void trajectories_of_k_diffusion(void **state)
{
    (void)state;
    struct npy all = load("testing/golden/schedulers/k_trajectories.npy");
    FILE *index = open_index("testing/golden/schedulers/k_trajectories.txt");
    char sampler[64], spacing[32], schedule[32], prediction[32], options[96];
    int zero_snr, steps, first, offset, evaluations, n_sigmas, cases = 0;
    double eta, worst = 0;
    while (fscanf(index, "%31s %31s %31s %31s %d %d %d %lf %d %d %d %95s", sampler, spacing,
                  schedule, prediction, &zero_snr, &steps, &first, &eta, &offset, &evaluations,
                  &n_sigmas, options) == 12) {
        struct dr_error err = { 0 };
        const float *sigmas = (const float *)all.data + offset;
        char name[160];
        snprintf(name, sizeof name, "%s%s", sampler, *options == ',' ? options : "");
        struct sched *s = make(name, spacing, schedule, prediction, zero_snr, steps,
                               sched_option_row(sched_find(sampler, NULL), "eta") < 0 ? NAN : eta);
        assert_true(offset + n_sigmas + (evaluations + 1) * VALUES <= all.count);
        assert_int_equal(sched_levels(s) + 1, n_sigmas);
        for (int i = 0; i < n_sigmas; i++)
            if (relative(sched_sigmas(s)[i], sigmas[i]) > 1e-6)
                fail_msg("%s %s: sigma %d is %.9g, expected %.9g", name, schedule, i,
                         (double)sched_sigmas(s)[i], (double)sigmas[i]);
        assert_int_equal(sched_replace(s, NULL, sigmas, &err), 0);
        double off = follow(s, sigmas + n_sigmas, first, evaluations);
        if (!(off <= 1e-5))
            fail_msg("%s %s %s %s, %d steps, eta %g: off by %.2e", name, spacing, schedule,
                     prediction, steps, eta, off);
        worst = off > worst ? off : worst;
        sched_free(s);
        cases++;
    }
    assert_true(feof(index));
    assert_true(cases >= 40);
    print_message("%d trajectories of k-diffusion within %.1e\n", cases, worst);
    fclose(index);
    npy_free(&all);
}

/* Infinite ones (ddim at zero SNR) are a large number here. */
static void same_values(const char *json, const char *what, const float *got, const float *expected,
                        int n, double limit)
{
    for (int i = 0; i < n; i++)
        if (isfinite(expected[i]) && !(relative(got[i], expected[i]) <= limit))
            fail_msg("%s: %s %d is %.9g, expected %.9g", json, what, i, (double)got[i],
                     (double)expected[i]);
}

/* Runs whose levels are listed. */
static void lists(void **state)
{
    (void)state;
    struct npy all = load("testing/golden/schedulers/lists.npy");
    FILE *index = open_index("testing/golden/schedulers/lists.txt");
    char sampler[32], prediction[32], field[16], list[128];
    int offset, n, evaluations, cases = 0;
    double eta, scale, worst = 0;
    while (fscanf(index, "%31s %31s %lf %d %d %d %lf %15s %127s", sampler, prediction, &eta,
                  &offset, &n, &evaluations, &scale, field, list) == 9) {
        struct sched_request request = { .sampler = sampler, .eta = eta };
        *(!strcmp(field, "sigmas") ? &request.sigmas : &request.timesteps) = list;
        struct sched *s = make_request(&request, "leading", prediction, 0);
        const float *t = (const float *)all.data + offset, *sigmas = t + n, *rows = sigmas + n + 1;
        assert_true(offset + 2 * n + 1 + (evaluations + 1) * VALUES <= all.count);
        assert_int_equal(sched_evaluations(s), n);
        same_values(list, "timestep", sched_timesteps(s), t, n, 1e-5);
        same_values(list, "sigma", sched_sigmas(s), sigmas, n + 1, 1e-6);
        assert_true(relative(sched_init_noise_scale(s), scale) < 1e-6);
        double off = follow(s, rows, 0, evaluations);
        if (!(off <= 1e-5))
            fail_msg("%s %s %s %s, eta %g: off by %.2e", sampler, prediction, field, list, eta,
                     off);
        worst = off > worst ? off : worst;
        sched_free(s);
        cases++;
    }
    assert_true(feof(index));
    assert_true(cases >= 31);
    print_message("%d listed runs within %.1e\n", cases, worst);
    fclose(index);
    npy_free(&all);
}

/* torchsde's values for seeds and intervals of all kinds: torch's normals agree to 2e-6 each. */
static void brownian_intervals(void **state)
{
    (void)state;
    struct npy all = load("testing/golden/schedulers/brownian.npy");
    FILE *index = open_index("testing/golden/schedulers/brownian.txt");
    unsigned long long seed;
    double low, high, from, to, worst = 0;
    int values, offset, cases = 0;
    while (fscanf(index, "%llu %lf %lf %lf %lf %d %d", &seed, &low, &high, &from, &to, &values,
                  &offset) == 7) {
        float work[3 * VALUES], got[VALUES];
        double sum[VALUES];
        struct brownian_tree tree = { .low = low,
                                      .high = high,
                                      .seed = seed,
                                      .kind = DR_RNG_CPU,
                                      .n = (size_t)values,
                                      .total = (size_t)values,
                                      .work = work,
                                      .sum = sum };
        assert_true(values <= VALUES && offset + values <= all.count);
        brownian_interval(&tree, from, to, got);
        for (int i = 0; i < values; i++) {
            double off = fabs((double)got[i] - ((const float *)all.data)[offset + i]);
            worst = off > worst ? off : worst;
            if (!(off < 2e-5))
                fail_msg("seed %llu, path %g to %g, interval %.9g to %.9g: value %d is %.9g, "
                         "expected %.9g",
                         seed, low, high, from, to, i, (double)got[i],
                         (double)((const float *)all.data)[offset + i]);
        }
        cases++;
    }
    assert_true(feof(index));
    assert_true(cases >= 76);
    print_message("%d intervals within %.1e\n", cases, worst);
    fclose(index);
    npy_free(&all);
}

/* The start of a run in the middle: row 0 of the cases with first > 0 was made from clean latents
 * of seed 2 and noise of seed 1. */
static void noise_added_for_a_start_in_the_middle(void **state)
{
    (void)state;
    struct npy all = load("testing/golden/schedulers/trajectories.npy");
    FILE *index = open_index("testing/golden/schedulers/trajectories.txt");
    char sampler[32], spacing[32], schedule[32], prediction[32];
    int zero_snr, steps, first, offset, evaluations, cases = 0;
    double eta;
    float clean[VALUES], noise[VALUES];
    struct dr_rng rng;
    dr_rng_seed(&rng, DR_RNG_CPU, 2);
    dr_rng_normal(&rng, clean, VALUES);
    dr_rng_seed(&rng, DR_RNG_CPU, 1);
    dr_rng_normal(&rng, noise, VALUES);
    while (fscanf(index, "%31s %31s %31s %31s %d %d %d %lf %d %d", sampler, spacing, schedule,
                  prediction, &zero_snr, &steps, &first, &eta, &offset, &evaluations) == 10) {
        if (!first)
            continue;
        float x[VALUES];
        struct sched *s = make(sampler, spacing, schedule, prediction, zero_snr, steps, eta);
        sched_add_noise(s, first, clean, noise, x);
        assert_true(test_rel_l2(x, (const float *)all.data + offset, VALUES) < 2e-6);
        sched_free(s);
        cases++;
    }
    assert_int_equal(cases, 9);
    fclose(index);
    npy_free(&all);
}

/* Files of a class with keys left out, as its from_pretrained reads them; with sampler NULL that is
 * the model's own, with a name the request's. And the shipped model's file with every sampler. */
static void files_with_keys_left_out(void **state)
{
    (void)state;
    struct npy all = load("testing/golden/schedulers/files.npy");
    FILE *index = open_index("testing/golden/schedulers/files.txt");
    char sampler[32], json[1024];
    int steps, offset, n, evaluations, cases = 0;
    double eta, worst = 0;
    while (fscanf(index, "%31s %d %lf %d %d %d %1023[^\n]", sampler, &steps, &eta, &offset, &n,
                  &evaluations, json) == 7) {
        struct dr_error err = { 0 };
        struct sched_config config;
        struct sched *s = NULL;
        struct sched_request request = { .sampler = sampler, .eta = NAN, .steps = steps };
        const char *class = sched_find(sampler, NULL)->diffusers;
        if (strstr(json, class) && cases % 2)
            request.sampler = NULL;
        if (sched_option_row(sched_find(sampler, NULL), "eta") >= 0)
            request.eta = eta;
        int r = sched_configure_text(json, strlen(json), &request, &config, &err);
        if (!r)
            r = sched_new(&config, VALUES, &s, &err);
        if (r)
            fail_msg("%s: %s", json, err.text);
        assert_string_equal(config.sampler->name, sampler);
        const float *t = (const float *)all.data + offset, *sigmas = t + n, *rows = sigmas + n + 1;
        assert_int_equal(sched_evaluations(s), n);
        bool zero_snr = config.rescale_betas_zero_snr;
        same_values(json, "timestep", sched_timesteps(s), t, n, 1e-4);
        same_values(json, "sigma", sched_sigmas(s), sigmas, n + 1, 2e-6);
        double off = follow(s, rows, 0, evaluations);
        if (!(off <= (zero_snr ? 1e-4 : 1e-5)))
            fail_msg("%s with %s: off by %.2e", json, sampler, off);
        worst = off > worst && !zero_snr ? off : worst;
        sched_free(s);
        cases++;
    }
    assert_true(feof(index));
    assert_true(cases >= 91);
    print_message("%d files within %.1e\n", cases, worst);
    fclose(index);
    npy_free(&all);
}

/* Every class of the reference is one of ours, a relative, or refused as of another formulation:
 * none is a name that nobody knows. */
static void every_class_is_known(void **state)
{
    (void)state;
    FILE *index = open_index("testing/golden/schedulers/classes.txt");
    char class[64], rest[1024], json[160];
    int own = 0, foreign = 0, related = 0;
    while (fscanf(index, "%63s%1023[^\n]", class, rest) >= 1) {
        struct dr_error err = { 0 };
        struct sched_config c;
        struct sched_request request = { .eta = NAN, .steps = 10 };
        char warning[SCHED_WARNING] = "";
        snprintf(json, sizeof json, "{\"_class_name\": \"%s\"}", class);
        int r = sched_configure_text(json, strlen(json), &request, &c, &err);
        bool noticed = !r && sched_warning(&c, 0, warning);
        if (r == DR_EUNSUPPORTED)
            foreign++;
        else if (!r && noticed)
            related++;
        else if (!r && (sched_find(class, NULL) || sched_is_edm(&c)))
            own++;
        else
            fail_msg("%s: %d %s", class, r, err.text);
        *rest = '\0';
    }
    assert_true(own >= 9 && related >= 10 && foreign >= 18);
    print_message("%d own, %d related, %d of another formulation\n", own, related, foreign);
    fclose(index);
}

/* Every key that a class of ours reads is read, or its other values are refused: a value of no
 * sense must not pass, but for keys that change nothing in what is done here. */
static void every_key_is_read_or_refused(void **state)
{
    (void)state;
    static const char *const no_effect[] = {
        "lower_order_final",
        "euler_at_final", /* the last step is of first order anyway */
        "dynamic_thresholding_ratio",
        "sample_max_value", /* of thresholding alone */
        "flow_shift",
        "time_shift_type",
        "shift_terminal",    /* of flow sigmas alone */
        "clip_sample_range", /* of clip_sample alone */
        "timestep_scaling",  /* lcm's is among the files; the class of tcd does not use it */
    };
    FILE *index = open_index("testing/golden/schedulers/classes.txt");
    char line[1024];
    int keys = 0;
    while (fgets(line, sizeof line, index)) {
        char *at = NULL, *class = strtok_r(line, " \n", &at), *key;
        if (!class || !sched_find(class, NULL))
            continue;
        while ((key = strtok_r(NULL, " \n", &at))) {
            struct dr_error err = { 0 };
            struct sched_config c;
            struct sched_request request = { .eta = NAN, .steps = 10 };
            char json[200];
            bool skip = false;
            for (size_t i = 0; i < sizeof no_effect / sizeof *no_effect; i++)
                skip = skip || !strcmp(key, no_effect[i]);
            snprintf(json, sizeof json, "{\"_class_name\": \"%s\", \"%s\": [[0]]}", class, key);
            int r = sched_configure_text(json, strlen(json), &request, &c, &err);
            if (!skip && (!r || !strstr(err.text, key)))
                fail_msg("%s: a senseless %s passes: %d %s", class, key, r, err.text);
            keys++;
        }
    }
    assert_true(keys > 90);
    fclose(index);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(files_with_keys_left_out),
    cmocka_unit_test(every_class_is_known),
    cmocka_unit_test(every_key_is_read_or_refused),
    cmocka_unit_test(timesteps_and_sigmas),
    cmocka_unit_test(trajectories),
    cmocka_unit_test(lists),
    cmocka_unit_test(trajectories_of_k_diffusion),
    cmocka_unit_test(brownian_intervals),
    cmocka_unit_test(noise_added_for_a_start_in_the_middle),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
