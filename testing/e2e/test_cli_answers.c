/* test_cli_answers.c - what scripts and people read: failures in JSON, names in help. */
#include "testing/helpers/program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"

/* Runs it, and looks at what stands on stdout. */
static void must_fail_in_json(int status, const char *code, const char *path, const char *verb,
                              const char *option, const char *value)
{
    struct program p;
    program_run(&p, status, verb, "-m", program_model(), option, value, "--json", NULL);
    json_t *o = program_json(&p);
    const json_t *detail = json_array_get(json_object_get(o, "details"), 0);
    const char *found = json_string_value(json_object_get(detail, "path"));
    assert_true(json_is_false(json_object_get(o, "success")));
    assert_string_equal(json_string_value(json_object_get(o, "error_code")), code);
    assert_non_null(strstr(program_err(&p), json_string_value(json_object_get(o, "error"))));
    if (path)
        assert_string_equal(found ? found : "nothing", path);
    json_decref(o);
    program_free(&p);
}

static void json_tells_of_failures_too(void **state)
{
    (void)state;
    struct program p;
    program_folder();
    must_fail_in_json(2, "INVALID_VALUE", "width", "plan", "-W", "1001");
    must_fail_in_json(2, "INVALID_VALUE", NULL, "plan", "--widht", "8");
    must_fail_in_json(2, "INVALID_VALUE", "--threads", "plan", "--threads", "x");
    must_fail_in_json(1, "NOT_FOUND", "model", "plan", "-m", "no/such/model");
    must_fail_in_json(2, "INVALID_VALUE", "--prompt", "generate", "--steps", "2");
    must_fail_in_json(2, "INVALID_VALUE", "--output", "generate", "-px", "-o-");
    program_run(&p, 2, "generate", "--", "--json", NULL); /* no option there */
    assert_int_equal(p.out.len, 0);
    program_free(&p);
}

/* On the command line and in the configuration, a line each; the worker is not asked then. */
static void validate_lists_all_mistakes_of_form(void **state)
{
    (void)state;
    static const char *const words[] = {
        "darkroom: --widht: no such option (nearest: --width)\n",
        "darkroom: --steps: got 0, expected an integer from 1 to 1000\n",
        "darkroom: validate: unexpected argument 'stray', expected options only",
        "config.yaml:1: modle: no such key (nearest: model)\n",
        "config.yaml:3: cfg: got much, expected a number from 0 to 1000\n",
        "darkroom: --threads: got x, expected an integer from 0 to 1024\n",
    };
    enum { N = sizeof words / sizeof *words };
    static const char settings[] = "modle: x\nkernels: auto\ncfg: much\n";
    struct program p;
    program_configure(program_folder());
    assert_int_equal(dr_mkdirs("darkroom", NULL), 0);
    assert_int_equal(dr_write_file("darkroom/config.yaml", settings, sizeof settings - 1, NULL), 0);
    for (int json = 0; json < 2; json++) {
        program_run(&p, 2, "validate", "-px", "--widht", "3", "--steps", "0", "stray", "-m",
                    program_model(), "-t", "x", "--load-stage", "image=no.npy", "--load-stage",
                    "pooled=neither.npy", "-W", "1001", "--sampler", "eular",
                    json ? "--json" : NULL, NULL);
        if (!json) {
            const char *at = program_err(&p);
            for (int i = 0; i < N; i++) {
                const char *found = strstr(at, words[i]);
                if (!found)
                    fail_msg("\"%s\" is not in: %s", words[i], program_err(&p));
                at = found + 1;
            }
            assert_int_equal(p.out.len, 0);
        } else {
            json_t *o = program_json(&p);
            assert_true(json_is_false(json_object_get(o, "valid")));
            assert_int_equal(json_array_size(json_object_get(o, "errors")), N);
            json_decref(o);
            assert_int_equal(p.err.len, 0);
        }
        program_free(&p);
    }
    program_configure(NULL);
    program_run(&p, 1, "validate", "-px", "-m", "no/such/model", "--json", NULL);
    json_t *o = program_json(&p);
    assert_int_equal(json_array_size(json_object_get(o, "errors")), 1);
    json_decref(o);
    program_free(&p);
    program_run(&p, 2, "generate", "--steps", "0", "--widht", "3", NULL); /* the first */
    assert_null(strstr(program_err(&p), "widht"));
    program_free(&p);
}

/* A line of the configuration, or none that can be read, is a mistake for every verb. */
static void a_bad_configuration_is_usage(void **state)
{
    (void)state;
    static const char *const settings[] = { "model: [a, b]\n", "a: {b: {c: d}}\n", "steps: 0\n" };
    char before[600];
    struct program p;
    const char *usual = getenv("XDG_CONFIG_HOME");
    snprintf(before, sizeof before, "%s", usual ? usual : "");
    program_configure(program_folder());
    assert_int_equal(dr_mkdirs("darkroom", NULL), 0);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        assert_int_equal(
            dr_write_file("darkroom/config.yaml", settings[i], strlen(settings[i]), NULL), 0);
        program_run(&p, 2, "plan", "-p", "x", "-m", program_model(), NULL);
        program_free(&p);
        program_run(&p, 2, "validate", "-p", "x", "-m", program_model(), NULL);
        program_free(&p);
    }
    assert_int_equal(remove("darkroom/config.yaml"), 0);
    program_run(&p, 0, "validate", "-p", "x", "-m", program_model(), NULL);
    program_free(&p);
    program_run(&p, 1, "validate", "-px", "-m", program_model(), "--load-stage", "image=no.npy",
                NULL);
    program_free(&p);
    program_configure(NULL); /* as it was: the next test reads nobody's own */
    assert_string_equal(getenv("XDG_CONFIG_HOME"), before);
}

/* More mistakes than are reported hide no option after them. */
static void a_full_list_reads_on(void **state)
{
    (void)state;
    enum { BAD = 34, TOLD = 32 };
    char names[BAD][16];
    const char *argv[BAD + 3] = { "validate" };
    struct program p;
    program_folder();
    for (int i = 0; i < BAD; i++) {
        snprintf(names[i], sizeof names[i], "--mistake%d", i);
        argv[i + 1] = names[i];
    }
    argv[BAD + 1] = "--json";
    program_start(&p, argv);
    program_finish(&p);
    assert_int_equal(p.status, 2);
    json_t *o = program_json(&p);
    assert_true(json_is_false(json_object_get(o, "valid")));
    assert_int_equal(json_array_size(json_object_get(o, "errors")), TOLD);
    json_decref(o);
    program_free(&p);
    argv[BAD + 1] = "--help";
    program_start(&p, argv);
    program_finish(&p);
    assert_int_equal(p.status, 0);
    assert_non_null(strstr(program_out(&p), "check a request"));
    program_free(&p);
}

/* Names come from the worker. */
static void help_lists_what_the_worker_knows(void **state)
{
    (void)state;
    static const char *const lists[][3] = { { "samplers", "DPM++ 2M; also", "UniPC" },
                                            { "schedules", "karras", "sgm_uniform" },
                                            { "recipes", "lightning-4", "999,749,499,249" },
                                            { "presets", "diffusers", "" },
                                            { "kernels", "scalar", "avx2" },
                                            { "cases", "unet_512", "load_first" } };
    struct program p;
    program_folder();
    program_run(&p, 0, "help", "generate", NULL);
    for (size_t i = 0; i + 1 < sizeof lists / sizeof *lists; i++) { /* cases are bench's */
        char words[64];
        snprintf(words, sizeof words, "`darkroom help %s`", lists[i][0]);
        struct buf *out = &p.out; /* broken into lines: compare without what breaks them */
        char flat[20000];
        size_t n = 0;
        for (size_t k = 0; k < out->len && n + 1 < sizeof flat; k++)
            if (out->data[k] != '\n' && !(out->data[k] == ' ' && n && flat[n - 1] == ' '))
                flat[n++] = out->data[k];
        flat[n] = '\0';
        if (!strstr(flat, words))
            fail_msg("%s is not in %s", words, flat);
    }
    program_free(&p);
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        program_run(&p, 0, "help", lists[i][0], NULL);
        assert_non_null(strstr(program_out(&p), lists[i][1]));
        assert_non_null(strstr(program_out(&p), lists[i][2]));
        program_free(&p);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(json_tells_of_failures_too),
    cmocka_unit_test(validate_lists_all_mistakes_of_form),
    cmocka_unit_test(a_bad_configuration_is_usage),
    cmocka_unit_test(a_full_list_reads_on),
    cmocka_unit_test(help_lists_what_the_worker_knows),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
