/* test_int8.c - `darkroom convert --int8`: the copy of the shipped model, what is refused, and the
 * pictures that it draws. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/image/image.h"
#include "base/json.h"
#include "testing/helpers/program.h"
#include "testing/helpers/sgm_maker.h"
#include "testing/helpers/tiny_checker.h"

enum { CAPTIONS = 16 };

static json_t *parse(const char *text)
{
    json_t *value;
    struct dr_error err = { 0 };
    if (jx_parse(text, strlen(text), NULL, "stdout", &value, &err))
        fail_msg("%s: %s", err.text, text);
    return value;
}

static double number(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

/* Converts the shipped model to `to`; the report. */
static json_t *convert(const char *to)
{
    struct program p;
    program_run(&p, 0, "convert", "--int8", "-m", test_source("share/models/tiny"), "-o", to,
                "--json", NULL);
    json_t *report = parse(program_out(&p));
    program_free(&p);
    return report;
}

static void must_fail(int status, const char *words, const char *a, const char *b, const char *c,
                      const char *d)
{
    struct program p;
    program_run(&p, status, "convert", a, b, c, d, NULL);
    if (!strstr(program_err(&p), words))
        fail_msg("%s: not \"%s\"", program_err(&p), words);
    program_free(&p);
}

static void reports_what_it_measured(void **state)
{
    (void)state;
    const char *folder = program_folder();
    json_t *report = convert("small"), *layer;
    size_t i, chosen = 0;
    json_array_foreach(json_object_get(report, "layers"), i, layer)
    {
        const char *name = json_string_value(json_object_get(layer, "name"));
        bool int8 = json_is_true(json_object_get(layer, "int8"));
        assert_true(number(layer, "error") >= 0 && number(layer, "error") < 1);
        assert_false(int8 && (!strcmp(name, "conv_in") || !strcmp(name, "conv_out")));
        chosen += int8;
    }
    assert_true(chosen > i / 3);
    assert_true(number(report, "emulated_error") > 0 && number(report, "emulated_error") < 0.1);
    const json_t *real = json_object_get(report, "int8");
    if (json_is_object(real)) /* the kernels, with the other layers in 16 bits */
        assert_true(number(real, "error") < number(report, "emulated_error") + 0.02);
    json_decref(report);

    struct buf card;
    buf_init(&card, DR_TAG_TEST, 0);
    assert_int_equal(dr_read_file("small/README.md", 1 << 16, &card, NULL), 0);
    assert_non_null(strstr(buf_text(&card), "# tiny, 8-bit weights"));
    assert_non_null(strstr(buf_text(&card), "Made by darkroom "));
    buf_free(&card);

    struct program p;
    program_run(&p, 0, "inspect", "small", "--json", NULL);
    json_t *described = parse(program_out(&p));
    const json_t *unet = json_object_get(json_object_get(described, "parts"), "unet");
    assert_true(number(json_object_get(unet, "dtypes"), "I8") >= (double)chosen);
    json_t *before = NULL;
    program_free(&p);
    program_run(&p, 0, "inspect", test_source("share/models/tiny"), "--json", NULL);
    before = parse(program_out(&p));
    assert_true(number(described, "parameters") == number(before, "parameters"));
    assert_true(number(described, "size") < 0.8 * number(before, "size"));
    assert_int_equal(json_array_size(json_object_get(described, "warnings")), 0);
    assert_non_null(json_object_get(json_object_get(described, "metadata"), "darkroom.int8"));
    json_decref(before);
    json_decref(described);
    program_free(&p);
    assert_int_equal(program_entries(folder), 1);
}

static const char *planned_kernels(json_t **ret_plan, const char *model, const char *precision)
{
    struct program p;
    program_run(&p, 0, "plan", "-m", model, "--precision", precision, "-p", "a", "--json", NULL);
    *ret_plan = parse(program_out(&p));
    program_free(&p);
    return json_string_value(json_object_get(*ret_plan, "kernels"));
}

static void bench_must_take(const char *kernels, const char *model)
{
    struct program p;
    program_run(&p, 0, "bench", "-m", model, "--only", "text_encoders", "--json", NULL);
    json_t *answer = parse(program_out(&p));
    assert_string_equal(json_string_value(json_object_get(answer, "kernel_set")), kernels);
    json_decref(answer);
    program_free(&p);
}

/* By itself, a converted model is computed in 8 bits where the machine can, any other never. */
static void auto_takes_the_set_for_the_model(void **state)
{
    (void)state;
    program_folder();
    json_t *report = convert("small"), *plan;
    bool able = json_is_object(json_object_get(report, "int8"));
    const char *wide = test_source("share/models/tiny");
    const char *kernels = planned_kernels(&plan, "small", "auto");
    assert_true((strstr(kernels, "int8") != NULL) == able);
    bench_must_take(kernels, "small");
    json_decref(plan);
    assert_null(strstr(planned_kernels(&plan, "small", "f32"), "int8"));
    json_decref(plan);
    assert_null(strstr(planned_kernels(&plan, wide, "auto"), "int8"));
    json_decref(plan);
    json_decref(report);
}

static void refuses_what_it_cannot_do(void **state)
{
    (void)state;
    const char *folder = program_folder();
    must_fail(2, "--int8", "-o", "out", NULL, NULL);
    must_fail(2, "--output: got nothing", "--int8", NULL, NULL, NULL);
    must_fail(2, "--output: empty path", "--int8", "-o", "", NULL);
    must_fail(1, "nowhere", "--int8", "-mnowhere", "-oout", NULL);
    must_fail(1, "no such", "--int8", "-onowhere/out", NULL, NULL);
    must_fail(2, "does not exist yet", "--int8", "-o.", NULL, NULL);
    must_fail(1, "beside", "--int8", "-mnowhere", "-o/proc/out", NULL); /* before the model */
    assert_int_equal(program_entries(folder), 0);
    json_decref(convert("once"));
    must_fail(2, "does not exist yet", "--int8", "-oonce", NULL, NULL);
    must_fail(2, "whose weights are not quantised", "--int8", "-monce", "-otwice", NULL);
    assert_int_equal(program_entries(folder), 1);
    struct program p;
    program_run(&p, 2, "generate", "--precision", "int8", "-p", "a red circle", NULL);
    assert_non_null(strstr(program_err(&p), "--precision: got int8"));
    /* first what the processor lacks, then what the model lacks */
    assert_true(strstr(program_err(&p), "this processor") ||
                strstr(program_err(&p), "convert --int8"));
    program_free(&p);
}

/* The random model has no 8-bit weights, so none is made; the ops need none. */
static void bench_needs_a_model_to_load(const char *kernels)
{
    struct program p;
    char cache[300], made[320], before[600];
    const char *usual = getenv("XDG_CACHE_HOME");
    snprintf(before, sizeof before, "%s", usual ? usual : "");
    snprintf(cache, sizeof cache, "%s/cache", program_folder());
    setenv("XDG_CACHE_HOME", cache, 1);
    program_run(&p, 2, "bench", "--only", "load_first", "--kernels", kernels, NULL);
    assert_non_null(strstr(program_err(&p), "--model: got nothing"));
    assert_non_null(strstr(program_err(&p), "convert --int8"));
    program_free(&p);
    snprintf(made, sizeof made, "%s/darkroom/random-model", cache);
    assert_int_equal(access(made, F_OK), -1);
    program_run(&p, 0, "bench", "--only", "op_proj_1280", "--kernels", kernels, NULL);
    program_free(&p);
    setenv("XDG_CACHE_HOME", before, 1);
}

/* Such a set would compute what a 16-bit set does, and the receipt would say something else. */
static void sets_of_8_bits_need_such_a_model(void **state)
{
    (void)state;
    struct program p;
    size_t i;
    json_t *set;
    program_folder();
    program_run(&p, 0, "devices", "--json", NULL);
    json_t *answer = parse(program_out(&p));
    program_free(&p);
    const json_t *device = json_array_get(json_object_get(answer, "devices"), 0);
    json_array_foreach(json_object_get(device, "kernel_sets"), i, set)
    {
        const char *name = json_string_value(json_object_get(set, "name"));
        const char *precision = json_string_value(json_object_get(set, "precision"));
        if (strcmp(precision, "int8") || !json_is_true(json_object_get(set, "usable")))
            continue;
        program_run(&p, 2, "generate", "--kernels", name, "-p", "a red circle", NULL);
        assert_non_null(strstr(program_err(&p), "--kernels: got"));
        assert_non_null(strstr(program_err(&p), "convert --int8"));
        program_free(&p);
        bench_needs_a_model_to_load(name);
    }
    json_decref(answer);
}

/* Its report lies beside it, and nothing is overwritten. */
static void a_single_file(void **state)
{
    (void)state;
    struct program p;
    struct sgm_spec spec = sgm_tiny;
    const char *folder = program_folder();
    spec.vocab = 49408; /* the built-in tokenizer's */
    spec.clip_l.layers = spec.clip_g.layers = 2;
    sgm_save(&spec, false, "model.safetensors");
    assert_int_equal(dr_write_file("copy.int8.json", "x", 1, NULL), 0);
    must_fail(2, "copy.int8.json", "--int8", "-mmodel.safetensors", "-ocopy.safetensors", NULL);
    assert_int_equal(program_entries(folder), 2);
    program_run(&p, 0, "convert", "--int8", "-m", "model.safetensors", "-o", "other.safetensors",
                NULL);
    program_free(&p);
    assert_true(dr_is_file("other.safetensors") && dr_is_file("other.int8.json"));
    assert_int_equal(program_entries(folder), 4);
}

static void slashes_at_the_end_do_not_count(void **state)
{
    (void)state;
    program_folder();
    json_t *report = convert("small//");
    const char *path = json_string_value(json_object_get(report, "report"));
    assert_string_equal(path, "small/int8_report.json");
    assert_true(dr_is_file(path));
    json_decref(report);
}

static void draw(const char *model, const char *caption, const char *path, struct dr_image *ret)
{
    struct program p;
    struct buf bytes;
    struct dr_error err = { 0 };
    program_run(&p, 0, "generate", "-m", model, "-p", caption, "-s", "0", "--steps", "25", "-o",
                path, NULL);
    program_free(&p);
    buf_init(&bytes, DR_TAG_TEST, 1 << 24);
    if (dr_read_file(path, 1 << 24, &bytes, &err) ||
        img_decode(bytes.data, bytes.len, 3, ret, NULL, &err))
        fail_msg("%s: %s", path, err.text);
    buf_free(&bytes);
}

/* Of the captions whose pictures are right in full precision, most are in 8 bits. */
static void draws_what_captions_say(void **state)
{
    (void)state;
    struct dr_error err = { 0 };
    struct tiny_want *wants;
    size_t n;
    char why[64];
    int right = 0, right8 = 0;
    program_folder();
    if (tiny_wants_load(test_source("testing/golden/tiny/captions.json"), &wants, &n, &err) != 0)
        fail_msg("%s", err.text);
    json_decref(convert("small"));
    for (size_t i = 0; i < CAPTIONS && i < n; i++) {
        const struct tiny_want *want = &wants[i * (n / CAPTIONS)];
        struct dr_image plain, rounded;
        draw(test_source("share/models/tiny"), want->caption, "plain.png", &plain);
        draw("small", want->caption, "rounded.png", &rounded);
        right += tiny_shows(&plain, want, why, sizeof why);
        right8 += tiny_shows(&rounded, want, why, sizeof why);
        img_free(&plain);
        img_free(&rounded);
    }
    dr_free(wants);
    print_message("%d of %d right, in 8 bits %d\n", right, CAPTIONS, right8);
    assert_true(right8 >= right - CAPTIONS / 8);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(reports_what_it_measured),
    cmocka_unit_test(auto_takes_the_set_for_the_model),
    cmocka_unit_test(refuses_what_it_cannot_do),
    cmocka_unit_test(sets_of_8_bits_need_such_a_model),
    cmocka_unit_test(a_single_file),
    cmocka_unit_test(slashes_at_the_end_do_not_count),
    cmocka_unit_test(draws_what_captions_say),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
