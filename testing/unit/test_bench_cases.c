/* test_bench_cases.c - which measurement counts, what a row says, and a pass of each network
 * on a small model. */
#include "testing/helpers/model_access.h"
#include "testing/helpers/test.h"

#include <stdio.h>
#include <string.h>

#include "backend/device.h"
#include "bench/ops.h"
#include "base/fs.h"
#include "base/json.h"
#include "bench/random_folder.h"
#include "bench/networks.h"
#include "bench/rule.h"
#include "models/arch_sdxl.h"
#include "models/formats/config_arch.h"

static struct bench_attempt attempt(double before, double after)
{
    return (struct bench_attempt){ .seconds = 2, .before = before, .after = after };
}

static void a_tenth_is_the_limit(void **state)
{
    (void)state;
    struct bench_attempt a = attempt(100, 90), b = attempt(100, 89.9), c = attempt(89.9, 100);
    assert_true(bench_steady(&a));
    assert_false(bench_steady(&b));
    assert_false(bench_steady(&c));
    struct bench_attempt none = attempt(0, 0); /* nothing can be measured: nothing to object to */
    assert_true(bench_steady(&none));
}

static void the_larger_peak_counts(void **state)
{
    (void)state;
    struct bench_attempt a = attempt(3, 5), b = attempt(5, 3);
    assert_true(bench_peak(&a) == 5 && bench_peak(&b) == 5);
}

static void unsteady_attempts_are_thrown_away(void **state)
{
    (void)state;
    struct bench_attempt a[] = { attempt(100, 50), attempt(100, 80), attempt(96, 100),
                                 attempt(100, 100) };
    assert_int_equal(bench_choose(a, 4), 2);
    assert_int_equal(bench_choose(a, 2), 1); /* none is steady: the nearest to it */
    assert_int_equal(bench_choose(a, 1), 0);
}

static void a_row_has_rates_and_fractions(void **state)
{
    (void)state;
    struct bench_row row = { .name = "unet_512",
                             .flops = 8e12,
                             .executed = 6e12,
                             .attempt = attempt(5e12, 8e12),
                             .attempts = 4,
                             .runs = 1 };
    json_t *o = bench_row_json(&row);
    const struct {
        const char *key;
        double value;
    } numbers[] = { { "seconds", 2 },         { "tflops", 4 },
                    { "executed_tflops", 3 }, { "fraction_of_peak", 0.5 },
                    { "flops", 8e12 },        { "executed_flops", 6e12 },
                    { "peak_before", 5 },     { "peak_after", 8 },
                    { "attempts", 4 },        { "executed_fraction", 0.375 } };
    assert_non_null(o);
    assert_string_equal(json_string_value(json_object_get(o, "name")), "unet_512");
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        double got = json_number_value(json_object_get(o, numbers[i].key));
        if (!(got > numbers[i].value * (1 - 1e-9) && got < numbers[i].value * (1 + 1e-9)))
            fail_msg("%s: %g", numbers[i].key, got);
    }
    assert_true(json_is_true(json_object_get(o, "noisy")));
    json_decref(o);
}

/* A load has neither FLOPs nor a peak; a machine may have no peak for the set. */
static void what_is_not_there_is_no_zero(void **state)
{
    (void)state;
    static const char *const rates[] = { "flops", "executed_flops", "tflops", "executed_tflops" };
    static const char *const fractions[] = { "fraction_of_peak", "executed_fraction", "peak_before",
                                             "peak_after", "cores" };
    struct bench_row load = { .name = "load_first", .attempt = attempt(0, 0), .attempts = 1 };
    struct bench_row op = { .name = "op", .flops = 8, .executed = 6, .attempt = attempt(0, 0) };
    json_t *a = bench_row_json(&load), *b = bench_row_json(&op);
    assert_true(json_number_value(json_object_get(a, "seconds")) == 2);
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        assert_true(json_is_null(json_object_get(a, rates[i])));
        assert_true(json_is_real(json_object_get(b, rates[i])));
    }
    for (size_t i = 0; i < sizeof fractions / sizeof *fractions; i++) {
        assert_true(json_is_null(json_object_get(a, fractions[i])));
        assert_true(json_is_null(json_object_get(b, fractions[i])));
    }
    json_decref(a);
    json_decref(b);
}

static void names_differ(void **state)
{
    (void)state;
    const char *name, *other;
    for (int i = 0; (name = bench_op_name(i)); i++) {
        assert_memory_equal(name, "op_", 3);
        for (int j = 0; j < i && (other = bench_op_name(j)); j++)
            assert_string_not_equal(name, other);
    }
    assert_null(bench_op_name(-1));
    assert_string_equal(bench_network_name(0), "unet_512");
    assert_null(bench_network_name(10));
}

/* Every network of the small model, at the real sizes of a case and in the plan's memory. */
static void networks_run(void **state)
{
    (void)state;
#ifdef DR_SANITIZED
    skip(); /* minutes; the networks run elsewhere */
#endif
    static const char *const quick[] = { "unet_512_cfg", "vae_decode_512", "vae_decode_tiny_512",
                                         "text_encoders" };
    const char *name;
    struct backend *be;
    struct bench_model m;
    assert_int_equal(backend_open(NULL, &be, NULL), 0);
    bench_model_init(&m, be, MODEL_AT(test_source("share/models/tiny")));
    for (int i = 0; (name = bench_network_name(i)); i++) {
        struct bench_network *b;
        struct dr_error err = { 0 };
        double seconds = -1;
        bool run = false;
        for (size_t q = 0; q < sizeof quick / sizeof *quick; q++)
            run |= !strcmp(quick[q], name);
        if (!run)
            continue;
        if (bench_network_new(&m, i, NULL, &b, &err) || bench_network_run(b, &seconds, &err))
            fail_msg("%s: %s", name, err.text);
        struct op_need need = bench_network_need(b);
        assert_true(seconds > 0 && need.flops > 1e6 && need.executed > 1e6);
        bench_network_free(b);
    }
    bench_model_release(&m);
    backend_close(be);
}

static void random_values_have_their_deviation(void **state)
{
    (void)state;
    enum { N = 300000 };
    float *v = dr_malloc(DR_TAG_TEST, N * sizeof *v);
    double sum = 0, squares = 0;
    if (!v)
        skip();
    assert_int_equal(bench_fill(v, DTYPE_F32, N, 1, 0.5, NULL), 0);
    for (int i = 0; i < N; i++) {
        sum += v[i];
        squares += (double)v[i] * v[i];
    }
    double mean = sum / N, variance = squares / N - mean * mean;
    assert_true(mean > 0.99 && mean < 1.01 && variance > 0.24 && variance < 0.26);
    dr_free(v);
}

static json_t *config_of(enum component component)
{
    struct dr_error err = { 0 };
    const char *text = bench_file_config(component);
    json_t *config;
    if (jx_parse(text, strlen(text), NULL, "config", &config, &err))
        fail_msg("%s", err.text);
    return config;
}

/* The model that is written has the shapes that are filled and timed. */
static void written_configurations_say_the_shapes(void **state)
{
    (void)state;
    struct dr_error err = { 0 };
    struct unet_arch unet;
    struct vae_arch vae;
    int64_t added;
    json_t *config = config_of(COMPONENT_UNET);
    if (config_unet(config, "unet", true, NULL, &unet, &added, &err))
        fail_msg("%s", err.text);
    json_decref(config);
    unet.pooled = arch_sdxl_text[1].projection;
    unet.n_time_ids = (int)((added - unet.pooled) / unet.addition_time_dim);
    assert_memory_equal(&unet, &arch_sdxl_unet, sizeof unet);
    config = config_of(COMPONENT_VAE);
    if (config_vae(config, "vae", NULL, &vae, &err))
        fail_msg("%s", err.text);
    json_decref(config);
    assert_memory_equal(&vae, &arch_sdxl_vae, sizeof vae);
    for (int i = 0; i < BENCH_ENCODERS; i++) {
        struct clip_arch clip;
        int projects;
        config = config_of(i ? COMPONENT_TEXT_ENCODER_2 : COMPONENT_TEXT_ENCODER);
        if (config_clip(config, "text", NULL, &clip, &projects, &err))
            fail_msg("%s", err.text);
        json_decref(config);
        clip.projection = projects > 0 ? clip.projection : 0;
        assert_memory_equal(&clip, &arch_sdxl_text[i], sizeof clip);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_tenth_is_the_limit),
    cmocka_unit_test(the_larger_peak_counts),
    cmocka_unit_test(unsteady_attempts_are_thrown_away),
    cmocka_unit_test(a_row_has_rates_and_fractions),
    cmocka_unit_test(what_is_not_there_is_no_zero),
    cmocka_unit_test(names_differ),
    cmocka_unit_test(networks_run),
    cmocka_unit_test(written_configurations_say_the_shapes),
    cmocka_unit_test(random_values_have_their_deviation),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
