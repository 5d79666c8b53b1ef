/* test_cli_bench.c - `darkroom bench` from outside: the table, the JSON, mistakes, and that loading
 * leaves nothing behind. */
#include "testing/helpers/program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/json.h"

/* A case of a few milliseconds with FLOPs. */
#define QUICK "op_proj_1280"

static json_t *parse_out(const struct program *p)
{
    json_t *value;
    struct dr_error err = { 0 };
    if (jx_parse(p->out.data, p->out.len, NULL, "stdout", &value, &err))
        fail_msg("%s: %s", err.text, program_out(p));
    return value;
}

static double number(const json_t *o, const char *key)
{
    const json_t *n = json_object_get(o, key);
    if (!json_is_number(n))
        fail_msg("%s is no number", key);
    return json_number_value(n);
}

static void one_case_as_json(void **state)
{
    (void)state;
    struct program p;
    program_folder();
    program_run(&p, 0, "bench", "--only", QUICK, "--json", "-t", "1", NULL);
    json_t *o = parse_out(&p);
    const json_t *peaks = json_object_get(o, "peaks"), *cases = json_object_get(o, "cases");
    const json_t *row = json_array_get(cases, 0);
    const char *family = json_string_value(json_object_get(o, "family"));
    assert_true(json_is_string(json_object_get(o, "kernel_set")));
    assert_true(json_is_object(peaks));
    assert_int_equal(json_array_size(cases), 1);
    assert_string_equal(json_string_value(json_object_get(row, "name")), QUICK);
    assert_true(number(row, "seconds") > 0);
    assert_true(number(row, "flops") == 2.0 * 1024 * 1280 * 1280);
    double rate = number(row, "flops") / number(row, "seconds") * 1e-12;
    assert_true(number(row, "tflops") > 0.999 * rate && number(row, "tflops") < 1.001 * rate);
    assert_true(number(row, "executed_tflops") > 0);
    if (json_object_get(peaks, family)) {
        double before = number(row, "peak_before"), after = number(row, "peak_after");
        double fraction = rate / (before > after ? before : after);
        assert_true(number(row, "fraction_of_peak") > 0.999 * fraction);
        assert_true(number(row, "fraction_of_peak") < 1.001 * fraction);
        assert_true(number(peaks, family) > 0);
    }
    json_decref(o);
    program_free(&p);
}

static void one_case_as_a_table(void **state)
{
    (void)state;
    struct program p;
    program_folder();
    program_run(&p, 0, "bench", "--only", "op_layer_norm_1280", "--kernels", "scalar", NULL);
    assert_non_null(strstr(program_out(&p), "kernels scalar"));
    assert_non_null(strstr(program_out(&p), "\nop_layer_norm_1280"));
    assert_null(strstr(program_out(&p), "op_layer_norm_640"));
    program_free(&p);
}

static void networks_of_a_model(void **state)
{
    (void)state;
    struct program p;
    program_folder();
    program_run(&p, 0, "bench", "-m", program_model(), "--only", "text_encoders", "--json", NULL);
    json_t *o = parse_out(&p);
    const json_t *row = json_array_get(json_object_get(o, "cases"), 0);
    assert_true(number(row, "flops") > 1e6 && number(row, "flops") < 1e10); /* the small one's */
    json_decref(o);
    program_free(&p);
}

/* A whole picture of the small model: the first one opens the model. */
static void a_whole_picture(void **state)
{
    (void)state;
    struct program p;
    program_folder();
    program_run(&p, 0, "bench", "-m", program_model(), "--only", "picture_4_512", "--json", NULL);
    json_t *o = parse_out(&p);
    const json_t *row = json_array_get(json_object_get(o, "cases"), 0);
    assert_string_equal(json_string_value(json_object_get(row, "name")), "picture_4_512");
    assert_true(number(row, "seconds") > 0 && number(row, "first_seconds") > 0);
    assert_true(number(row, "flops") > 1e9 && number(row, "tflops") > 0);
    assert_true(json_is_null(json_object_get(row, "executed_tflops")));
    json_decref(o);
    program_free(&p);
}

/* With a cache folder of its own that is removed. */
static void loading_leaves_nothing(void **state)
{
    (void)state;
    struct program p;
    char cache[300], inside[320], before[600];
    const char *usual = getenv("XDG_CACHE_HOME");
    snprintf(before, sizeof before, "%s", usual ? usual : "");
    snprintf(cache, sizeof cache, "%s/cache", program_folder());
    setenv("XDG_CACHE_HOME", cache, 1);
    program_run(&p, 0, "bench", "-m", program_model(), "--only", "load_second", "--json", NULL);
    json_t *o = parse_out(&p);
    const json_t *cases = json_object_get(o, "cases");
    assert_int_equal(json_array_size(cases), 1);
    assert_string_equal(json_string_value(json_object_get(json_array_get(cases, 0), "name")),
                        "load_second");
    const json_t *row = json_array_get(cases, 0);
    assert_true(number(row, "seconds") > 0);
    assert_true(json_is_null(json_object_get(row, "tflops")));
    assert_true(json_is_null(json_object_get(row, "fraction_of_peak")));
    assert_true(json_object_size(json_object_get(o, "peaks")) > 0);
    json_decref(o);
    program_free(&p);
    snprintf(inside, sizeof inside, "%s/darkroom", cache);
    assert_int_equal(program_entries(inside), 0);
    setenv("XDG_CACHE_HOME", before, 1);
}

/* Nor in a cache folder of the configuration. */
static void loading_leaves_a_configured_cache_alone(void **state)
{
    (void)state;
    struct program p;
    char text[400], configuration[320], kept[320];
    const char *folder = program_folder();
    snprintf(kept, sizeof kept, "%s/kept", folder);
    snprintf(configuration, sizeof configuration, "%s/darkroom", folder);
    assert_int_equal(dr_mkdirs(configuration, NULL), 0);
    snprintf(configuration, sizeof configuration, "%s/darkroom/config.yaml", folder);
    snprintf(text, sizeof text, "cache: %s\n", kept);
    assert_int_equal(dr_write_file(configuration, text, strlen(text), NULL), 0);
    program_configure(folder);
    program_run(&p, 0, "bench", "-m", program_model(), "--only", "load_first", "--json", NULL);
    program_free(&p);
    program_configure(NULL);
    assert_int_equal(program_entries(kept), 0);
}

static void must_say(const char *words, const char *option, const char *value)
{
    struct program p;
    program_run(&p, 2, "bench", option, value, NULL);
    if (!strstr(program_err(&p), words) || p.out.len)
        fail_msg("%s %s: %s", option, value, program_err(&p));
    program_free(&p);
}

static void mistakes_are_usage(void **state)
{
    (void)state;
    program_folder();
    must_say("--only: got unet_521, expected a case of `darkroom help cases`, such as unet_512 "
             "(nearest: unet_512)",
             "--only", "unet_521");
    must_say("--kernels: got avx3", "--kernels", "avx3");
}

static void cases_have_a_list(void **state)
{
    (void)state;
    static const char *const some[] = { "op_geglu_1280", "unet_1024_cfg", "load_second" };
    struct program p;
    program_run(&p, 0, "help", "cases", NULL);
    for (size_t i = 0; i < sizeof some / sizeof *some; i++)
        assert_non_null(strstr(program_out(&p), some[i]));
    program_free(&p);
    program_run(&p, 0, "completion", "bash", NULL);
    assert_non_null(strstr(program_out(&p), "load_second"));
    program_free(&p);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(one_case_as_json),
    cmocka_unit_test(one_case_as_a_table),
    cmocka_unit_test(networks_of_a_model),
    cmocka_unit_test(a_whole_picture),
    cmocka_unit_test(loading_leaves_nothing),
    cmocka_unit_test(loading_leaves_a_configured_cache_alone),
    cmocka_unit_test(mistakes_are_usage),
    cmocka_unit_test(cases_have_a_list),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
