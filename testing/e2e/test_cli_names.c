/* test_cli_names.c - names and paths that people type: other programs' options, models by name,
 * paths of any bytes, the configuration. */
#include "testing/helpers/program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"

/* A fresh folder, with the configuration below it. */
static void begin(void)
{
    char path[400];
    snprintf(path, sizeof path, "%s/config", program_folder());
    program_configure(path);
}

static void configure(const char *text)
{
    assert_int_equal(dr_mkdirs("config/darkroom", NULL), 0);
    assert_int_equal(dr_write_file("config/darkroom/config.yaml", text, strlen(text), NULL), 0);
}

/* Has `words` on stderr (NULL: nothing there). */
static void must(int status, const char *words, const char *const *argv)
{
    struct program p;
    program_start(&p, argv);
    program_finish(&p);
    if (p.status != status || (words ? !strstr(program_err(&p), words) : p.err.len != 0))
        fail_msg("%s %s: status %d: %s", argv[0], argv[1] ? argv[1] : "", p.status,
                 program_err(&p));
    program_free(&p);
}

#define MUST(status, words, ...) must(status, words, (const char *const[]){ __VA_ARGS__, NULL })

/* A command line as other programs have it draws the picture of ours. */
static void other_programs_options_draw(void **state)
{
    (void)state;
    struct program p;
    struct buf a, b;
    program_folder();
    buf_init(&a, DR_TAG_TEST, 0);
    buf_init(&b, DR_TAG_TEST, 0);
    program_run(&p, 0, "generate", "-m", program_model(), "-p", "x", "-n", "y", "--cfg", "3",
                "--steps", "2", "--sampler", "dpmpp_2m", "--schedule", "karras", "-W64", "-H64",
                "-s1", "-o", "a.png", NULL);
    program_free(&p);
    program_run(&p, 0, "generate", "--model-path", program_model(), "--prompt", "x",
                "--negative_prompt", "y", "--guidance-scale", "3.0", "--num_inference_steps", "2",
                "--sampler-name", "DPM++ 2M", "--scheduler", "Karras", "--width=64", "--height=64",
                "--seed=1", "--num-images", "1", "-o", "b.png", NULL);
    program_free(&p);
    assert_int_equal(dr_read_file("a.png", 1 << 24, &a, NULL), 0);
    assert_int_equal(dr_read_file("b.png", 1 << 24, &b, NULL), 0);
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data, b.data, a.len);
    buf_free(&a);
    buf_free(&b);
}

static void scheduler_is_told_apart(void **state)
{
    (void)state;
    const char *m = program_model();
    program_folder();
    MUST(0, NULL, "validate", "-px", "-m", m, "--scheduler", "EulerAncestralDiscreteScheduler");
    MUST(0, NULL, "validate", "-px", "-m", m, "--scheduler", "exponential");
    MUST(0, NULL, "validate", "-px", "-m", m, "--sampler=euler", "--scheduler=Automatic");
    MUST(2, "--scheduler: heun contradicts sampler euler", "validate", "-px", "-m", m,
         "--sampler=euler", "--scheduler=heun");
    MUST(2, "--scheduler: Exponential contradicts sampler DPM++ 2M Karras", "validate", "-px", "-m",
         m, "--sampler-name=DPM++ 2M Karras", "--scheduler=Exponential");
    MUST(2, "--scheduler: got nonsense, expected a noise schedule: normal, karras", "plan", "-m", m,
         "--scheduler=nonsense");
}

static void what_does_nothing_is_warned_of(void **state)
{
    (void)state;
    program_folder();
    MUST(0, "warning: -n is the negative prompt, here \"2\"", "plan", "-px", "-m", program_model(),
         "-n", "2");
    MUST(0, NULL, "plan", "-px", "-m", program_model(), "-n", "2 cats");
    MUST(0, NULL, "plan", "-px", "-m", program_model(), "-n", "2", "-q");
    MUST(0, NULL, "plan", "-px", "-m", program_model(), "-n", "");
}

/* Every path of the command line may be of any bytes. */
static void paths_are_of_any_bytes(void **state)
{
    (void)state;
    static const char model[] = "mod\xff/\xc3(l";
    struct program p;
    struct stat st;
    program_folder();
    assert_int_equal(mkdir("mod\xff", 0755), 0);
    assert_int_equal(symlink(program_model(), model), 0);
    assert_int_equal(mkdir("in\xe9to", 0755), 0);
    program_run(&p, 0, "generate", "-m", model, "-px", "--steps=2", "-W64", "-H64", "-s1", "-o",
                "in\xe9to/p\x80.png", "--dump-stages", "st\xfe/ages", "--json", NULL);
    json_t *o = program_json(&p);
    const char *path = json_string_value(
        json_object_get(json_array_get(json_object_get(o, "images"), 0), "path"));
    if (!path || strncmp(path, "file:///", 8) || !strstr(path, "/in%E9to/p%80.png"))
        fail_msg("%s", path ? path : "no path");
    json_decref(o);
    program_free(&p);
    assert_int_equal(stat("in\xe9to/p\x80.png", &st), 0);
    assert_int_equal(stat("st\xfe/ages/image.npy", &st), 0);
    MUST(0, "wrote", "generate", "-m", model, "-px", "--steps=2", "-W64", "-H64", "-s1", "-o",
         "n\xf5w/", "--load-stage", "latents_init=st\xfe/ages/latents_init.npy");
    assert_int_equal(stat("n\xf5w/darkroom-1.png", &st), 0);
    MUST(0, NULL, "validate", "-px", "-m", model);
    char url[600];
    const char *here = strstr(program_model(), "/");
    snprintf(url, sizeof url, "file://%s", here);
    MUST(0, NULL, "plan", "-px", "-m", url);
    MUST(0, NULL, "tokens", "x", "-m", url);
    MUST(0, NULL, "inspect", url);
    MUST(2, "--model: got file://host/x, expected file:///PATH on this machine", "plan", "-m",
         "file://host/x");
    MUST(0, NULL, "plan", "-px", "-m", model);
    MUST(0, NULL, "tokens", "x", "-m", model);
    MUST(0, NULL, "inspect", model);
    MUST(1, "/mod?/nothing (see darkroom help models)", "plan", "-m", "mod\xff/nothing");
    MUST(1, "(while reading --load-stage image)", "validate", "-px", "-m", model, "--load-stage",
         "image=no\xff.npy");
    assert_int_equal(chdir("mod\xff"), 0); /* a working folder too */
    MUST(0, "wrote", "generate", "-m", "\xc3(l", "-px", "--steps=1", "-W64", "-H64", "-o", "q.png");
    MUST(0, NULL, "inspect", "\xc3(l");
}

static void models_have_names(void **state)
{
    (void)state;
    struct program p;
    begin();
    assert_int_equal(dr_mkdirs("mine", NULL), 0);
    assert_int_equal(symlink(program_model(), "mine/odd"), 0);
    assert_int_equal(dr_write_file("mine/notes.txt", "x", 1, NULL), 0);
    assert_int_equal(dr_write_file("mine/broken.safetensors", "x", 1, NULL), 0);
    configure("models: ../../mine:/no/such/folder\n");
    program_run(&p, 0, "help", "models", NULL);
    static const char *const words[] = { "\n  odd ", "\n  broken ", "\n  tiny ",
                                         "/no/such/folder (does not exist)", "mine/broken.safe" };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strstr(program_out(&p), words[i]))
            fail_msg("%s is not in %s", words[i], program_out(&p));
    assert_null(strstr(program_out(&p), "notes"));
    program_free(&p);
    MUST(0, NULL, "plan", "-m", "odd", "-px");
    MUST(0, NULL, "inspect", "odd");
    MUST(0, NULL, "tokens", "-m", "odd", "x");
    MUST(1, "broken.safetensors: 1 bytes are too few", "plan", "-m", "broken", "-px");
    MUST(1, "no such file, folder or model name: other", "plan", "-m", "other", "-px");
    configure("models: ../../mine\nmodel: odd\n");
    MUST(0, NULL, "plan", "-px");
    program_run(&p, 0, "tokens", "a red circle", NULL);
    struct program q;
    program_run(&q, 0, "tokens", "-p", "a red circle", "-m", program_model(), NULL);
    assert_string_equal(program_out(&p), program_out(&q));
    program_free(&p);
    program_free(&q);
    configure("{}\n");
    MUST(1, "model name: odd", "plan", "-m", "odd", "-px");
    setenv("DARKROOM_MODELS", "/nowhere::mine:", 1);
    MUST(0, NULL, "plan", "-m", "odd", "-px");
    unsetenv("DARKROOM_MODELS");
    program_configure(NULL);
}

/* What draws is stopped by any mistake, the rest is warned. */
static void the_configuration_stops_what_draws(void **state)
{
    (void)state;
    static const char *const verbs[] = { "devices", "version", "help" };
    begin();
    configure("stesp: 3\n");
    MUST(2, "config.yaml:1: stesp: no such key (nearest: steps)", "plan", "-px");
    MUST(2, "no such key", "cache", "list");
    MUST(0, "warning: ", "devices");
    MUST(0, "stesp: no such key", "inspect", program_model());
    MUST(0, NULL, "version");
    configure("steps: [1, 2]\n");
    MUST(2, "steps: got a list, expected one value", "plan", "-px");
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        MUST(0, strcmp(verbs[i], "version") ? "warning: " : NULL, verbs[i]);
    configure("cache-limit: lots\n");
    MUST(2, "cache-limit: got lots, expected a size", "devices"); /* which uses it */
    assert_int_equal(dr_write_file("other.yaml", "cfg_scale: 3\nwidth: 100\n", 24, NULL), 0);
    MUST(2, "--width: got 100, expected a multiple of 8", "plan", "-px", "--config", "other.yaml");
    MUST(0, NULL, "plan", "-px", "--config=other.yaml", "--width=64", "-m", program_model());
    MUST(0, NULL, "plan", "-px", "--config=/dev/null", "-m", program_model());
    program_configure(NULL);
}

static void help_knows_its_topics(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        { "config", "\n  cache-limit: SIZE" },
        { "config", "example:" },
        { "config", "\n  metadata: true|false" },
        { "cfg", "also  --guidance-scale --cfg-scale\n" },
        { "guidance_scale", "--cfg X" },
        { "num-inference-steps", "range 1 to 1000" },
        { "kernels", "plain C, the reference" },
        { "schedules", "Karras et al. 2022" },
        { "presets", "the reference" },
        { "cases", "is one operation" },
        { "generate", "\nSDXL size conditioning:\n" },
        { "generate", "\nexamples:\n" },
        { "plan", "darkroom help generate" },
        { "--cfg", "also  --guidance-scale --cfg-scale\n" },
        { "-W", "--width N" },
        { "--only", "only this case of bench" },
        { "euler", "samplers:\n  euler " },
        { "DPM++ 2M", "samplers:\n  dpmpp_2m " },
        { "karras", "schedules:\n  karras " },
    };
    struct program p;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        program_run(&p, 0, "help", cases[i][0], NULL);
        if (!strstr(program_out(&p), cases[i][1]))
            fail_msg("%s: %s is not in %s", cases[i][0], cases[i][1], program_out(&p));
        program_free(&p);
    }
    program_run(&p, 0, "help", "validate", NULL);
    assert_null(strstr(program_out(&p), "--steps"));
    program_free(&p);
    program_run(&p, 0, "man", NULL);
    static const char *const sections[] = { "\n.SH DESCRIPTION\n", "\n.SH EXAMPLES\n",
                                            "\n.SH SEE ALSO\n", "Also \\-\\-guidance\\-scale" };
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++)
        assert_non_null(strstr(program_out(&p), sections[i]));
    program_free(&p);
}

static void quick_checks_are_quick(void **state)
{
    (void)state;
    struct program p;
    program_folder();
    program_run(&p, 0, "check", "--quick", "--json", NULL);
    json_t *o = program_json(&p);
    assert_true(json_is_true(json_object_get(o, "passed")));
    assert_int_equal(json_array_size(json_object_get(o, "kernels")), 0);
    assert_true(json_is_true(json_object_get(json_object_get(o, "picture"), "passed")));
    json_decref(o);
    program_free(&p);
}

/* One pair of a sampler and a schedule that shows its prompt, and one that does not. */
static void the_matrix_looks_at_pictures(void **state)
{
    (void)state;
    struct program p;
    program_folder();
    program_run(&p, 0, "check", "--matrix", "--only", "euler/karras", NULL);
    assert_non_null(strstr(program_out(&p), "euler                +\n1 pairs, 0 failed\n"));
    program_free(&p);
    program_run(&p, 0, "check", "--matrix", "--only", "euler/linear_quadratic", "--json", NULL);
    json_t *o = program_json(&p);
    const json_t *one = json_array_get(json_object_get(o, "samplers"), 0);
    const json_t *pair = json_array_get(json_object_get(one, "schedules"), 0);
    assert_string_equal(json_string_value(json_object_get(pair, "result")), "expected");
    assert_true(json_string_length(json_object_get(pair, "why")) > 0);
    json_decref(o);
    program_free(&p);
    program_run(&p, 2, "check", "--matrix", "--only", "eulr", NULL);
    assert_non_null(strstr(program_err(&p), "nearest: euler"));
    program_free(&p);
    program_run(&p, 2, "check", "--only", "euler", NULL);
    program_free(&p);
}

/* A value of the configuration that nobody typed is named with its line. */
static void a_wrong_value_of_the_configuration_is_found(void **state)
{
    (void)state;
    struct program p;
    program_folder();
    assert_int_equal(dr_write_file("c.yaml", "steps: 2\nsampler: nosuch\n", 25, NULL), 0);
    program_run(&p, 2, "generate", "--config", "c.yaml", "-p", "x", NULL);
    assert_non_null(strstr(program_err(&p), "nosuch"));
    assert_non_null(strstr(program_err(&p), "c.yaml:2)"));
    program_free(&p);
    program_run(&p, 2, "generate", "--config", "c.yaml", "-p", "x", "--sampler", "typed", NULL);
    assert_null(strstr(program_err(&p), "c.yaml"));
    program_free(&p);
}

static void validate_names_fields_in_one_way(void **state)
{
    (void)state;
    static const char *const paths[] = { "guidance_scale", "steps" };
    struct program p;
    program_run(&p, 2, "validate", "-px", "--cfg", "much", "--num-inference-steps", "0", "-m",
                "/none", "-W100", "--height", "20", "--json", NULL);
    json_t *o = program_json(&p), *errors = json_object_get(o, "errors");
    assert_int_equal(json_array_size(errors), 2);
    for (size_t i = 0; i < 2; i++)
        assert_string_equal(json_string_value(json_object_get(json_array_get(errors, i), "path")),
                            paths[i]);
    json_decref(o);
    program_free(&p);
    MUST(2, "--prompt is missing", "validate", "-m", program_model());
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(other_programs_options_draw),
    cmocka_unit_test(scheduler_is_told_apart),
    cmocka_unit_test(what_does_nothing_is_warned_of),
    cmocka_unit_test(paths_are_of_any_bytes),
    cmocka_unit_test(models_have_names),
    cmocka_unit_test(the_configuration_stops_what_draws),
    cmocka_unit_test(help_knows_its_topics),
    cmocka_unit_test(quick_checks_are_quick),
    cmocka_unit_test(the_matrix_looks_at_pictures),
    cmocka_unit_test(a_wrong_value_of_the_configuration_is_found),
    cmocka_unit_test(validate_names_fields_in_one_way),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
