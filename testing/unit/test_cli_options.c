/* test_cli_options.c - command lines as people write them, and the table that is not theirs. */
#include "cli/options.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "cli/cli.h"
#include "cli/settings.h"
#include "testing/helpers/test.h"

static const struct option_info table[] = {
    { .name = "width", .letter = 'W', .value = "N", .choices = "", .id = 1 },
    { .name = "seed", .letter = 's', .value = "N", .choices = "", .id = 2 },
    { .name = "quiet", .letter = 'q', .choices = "", .id = 3 },
    { .name = "json", .letter = 'j', .choices = "", .id = 4 },
    { .name = "cfg-rescale", .value = "X", .choices = "", .id = 5 },
    { .name = "cfg",
      .field = "guidance_scale",
      .aliases = "cfg_scale hyperparameters.guidance_scale",
      .letter = 'g',
      .value = "X",
      .choices = "",
      .id = 6 },
};

/* What was seen, as text: "width=5 quiet <file>". */
struct seen {
    char text[512];
};

static int see(void *ctx, const struct option_info *o, const char *value, struct dr_error *err)
{
    struct seen *s = ctx;
    size_t n = strlen(s->text);
    (void)err;
    if (!o)
        snprintf(s->text + n, sizeof s->text - n, "%s<%s>", n ? " " : "", value);
    else
        snprintf(s->text + n, sizeof s->text - n, "%s%s%s%s", n ? " " : "", o->name,
                 value ? "=" : "", value ? value : "");
    return 0;
}

enum { WORDS = 16 };

static int parse_all(const char *const *argv, struct seen *s, struct error_list *list,
                     struct dr_error *err)
{
    int argc = 0;
    s->text[0] = '\0';
    while (argc < WORDS && argv[argc])
        argc++;
    return options_parse(table, (int)(sizeof table / sizeof *table), argc, (char *const *)argv, see,
                         s, list, err);
}

static int parse(const char *const *argv, struct seen *s, struct dr_error *err)
{
    return parse_all(argv, s, NULL, err);
}

static void every_spelling_is_read(void **state)
{
    (void)state;
    static const struct {
        const char *argv[WORDS];
        const char *expected;
    } cases[] = {
        { { NULL }, "" },
        { { "--width=5" }, "width=5" },
        { { "--width", "5" }, "width=5" },
        { { "-W5" }, "width=5" },
        { { "-W", "5" }, "width=5" },
        { { "-W=5" }, "width==5" },
        { { "--width=" }, "width=" },
        { { "--width", "" }, "width=" },
        { { "--width=a=b" }, "width=a=b" },
        { { "-qj" }, "quiet json" },
        { { "-qjW5" }, "quiet json width=5" },
        { { "-qW", "5", "-j" }, "quiet width=5 json" },
        { { "-Wq" }, "width=q" },
        { { "--seed", "-1" }, "seed=-1" },
        { { "-s-1" }, "seed=-1" },
        { { "-s", "-1" }, "seed=-1" },
        { { "--seed=-1" }, "seed=-1" },
        { { "--cfg-rescale", "-.5" }, "cfg-rescale=-.5" },
        { { "-5" }, "<-5>" },
        { { "-.5" }, "<-.5>" },
        { { "-" }, "<->" },
        { { "--width", "-" }, "width=-" },
        { { "--width", "--nothing" }, "width=--nothing" },
        { { "--width=--cfg" }, "width=--cfg" },
        { { "a", "-q", "b" }, "<a> quiet <b>" },
        { { "--", "--width", "-q" }, "<--width> <-q>" },
        { { "-q", "--", "--" }, "quiet <-->" },
        { { "--width", "--" }, "width=--" },
        { { "--cfg_rescale", "5" }, "cfg-rescale=5" },
        { { "--cfg-scale", "5" }, "cfg=5" },
        { { "--cfg_scale=5" }, "cfg=5" },
        { { "--guidance-scale", "5" }, "cfg=5" },
        { { "--guidance_scale", "5", "--cfg", "5.0" }, "cfg=5 cfg=5.0" },
        { { "--cfg", "5", "-g7" }, "cfg=5 cfg=7" },
        { { "-W5", "--width", "6" }, "width=5 width=6" },
        { { "" }, "<>" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct seen s;
        struct dr_error err = { 0 };
        int r = parse(cases[i].argv, &s, &err);
        if (r || strcmp(s.text, cases[i].expected))
            fail_msg("case %zu: '%s' %s", i, s.text, err.text);
    }
}

static void mistakes_are_told(void **state)
{
    (void)state;
    static const struct {
        const char *argv[WORDS];
        const char *words;
    } cases[] = {
        { { "--widht", "5" }, "--widht: no such option (nearest: --width)" },
        { { "--cfgscale", "5" }, "nearest: --cfg-scale" },
        { { "--guidance-scal", "5" }, "nearest: --guidance-scale" },
        { { "--hyperparameters.guidance_scale", "5" }, "no such option" },
        { { "--cfg", "5", "--cfg-scale", "7" },
          "--cfg-scale: got 7, expected the value of --cfg, which is the same option" },
        { { "--cfg_scale=5", "--guidance-scale=7" }, "the value of --cfg_scale" },
        { { "--guidance_scale=5", "-g7" }, "-g: got 7, expected the value of --guidance_scale" },
        { { "-g", "7", "--cfg-scale", "8" }, "the value of -g" },
        { { "--zzzzzzzzzz" }, "--zzzzzzzzzz: no such option" },
        { { "--wid", "5" }, "--wid: no such option" },
        { { "-x" }, "-x: no such option" },
        { { "-qx" }, "-x: no such option" },
        { { "-\xc3\xa9" }, "no such option" },
        { { "--width" }, "--width: got nothing, expected a value, N" },
        { { "-W" }, "-W: got nothing" },
        { { "-qW" }, "-W: got nothing" },
        { { "--quiet=yes" }, "--quiet: got yes, expected no value" },
        { { "--=5" }, "no such option" },
        { { "---width" }, "no such option" },
        { { "--width", "--cfg", "5" },
          "--width: got --cfg, expected a value, N (write --width=--cfg if that is meant)" },
        { { "-W", "--cfg-scale=5" }, "-W: got --cfg-scale=5" },
        { { "--outpaint", "8,8,8,8" }, "--outpaint: not supported by darkroom yet" },
        { { "--hires=2" }, "--hires: not supported by darkroom yet" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct seen s;
        struct dr_error err = { 0 };
        if (parse(cases[i].argv, &s, &err) != DR_EINVAL || !strstr(err.text, cases[i].words))
            fail_msg("case %zu: %s", i, err.text);
    }
}

static void a_refusal_ends_the_parsing(void **state)
{
    (void)state;
    struct seen s;
    struct dr_error err = { 0 };
    static const char *const argv[] = { "-q", "--nothing", "-j", NULL };
    assert_int_equal(parse(argv, &s, &err), DR_EINVAL);
    assert_string_equal(s.text, "quiet");
}

/* What follows an unknown option is its value, unless it looks like an option. */
static void a_list_gets_all_refusals(void **state)
{
    (void)state;
    struct seen s;
    struct error_list list = { .n = 0 };
    struct dr_error err = { 0 };
    static const char *const argv[] = { "--widht", "3",           "-q",  "--nothing", "--seed",
                                        "1",       "--quiet=yes", "-xj", "--wide=3",  "a",
                                        "-x",      "b",           "-W",  NULL };
    static const char *const words[] = { "--widht: no such option", "--nothing: no such option",
                                         "--quiet: got yes",        "-x: no such option",
                                         "--wide: no such option",  "-W: got nothing" };
    enum { N = sizeof words / sizeof *words };
    assert_int_equal(parse_all(argv, &s, &list, &err), 0);
    assert_string_equal(s.text, "quiet seed=1 <a>");
    assert_int_equal(list.n, N);
    for (int i = 0; i < N; i++)
        assert_non_null(strstr(list.error[i].text, words[i]));
}

/* What is wrong with the command line does not hide that it could not be read. */
static void memory_that_is_short_is_told(void **state)
{
    (void)state;
    static const char *argv[] = { "darkroom", "validate", "--mistake", "-p", "x", NULL };
    dr_alloc_fail_at(1, 1);
    int status = cli_main(5, (char **)argv);
    dr_alloc_fail_at(0, 0);
    assert_int_equal(status, 1);
}

static void choices_are_walked(void **state)
{
    (void)state;
    const char *rest = "auto|f32=fp32=float32|f16", *name;
    assert_int_equal(option_choice(&rest, &name), 4);
    assert_memory_equal(name, "auto", 4);
    assert_int_equal(option_choice(&rest, &name), 3);
    assert_memory_equal(name, "f32", 3);
    assert_int_equal(option_choice(&rest, &name), 3);
    assert_memory_equal(name, "f16", 3);
    assert_int_equal(option_choice(&rest, &name), 0);
}

/* No verb has two options of one name or letter, and each has words for help. */
static void the_tables_are_sound(void **state)
{
    (void)state;
    const struct cli_verb *verb;
    int verbs = 0;
    for (; (verb = cli_verb_at(verbs)); verbs++) {
        struct option_info options[CLI_OPTIONS];
        int n = cli_options(verb, options);
        assert_true(n > 0 && n <= CLI_OPTIONS);
        assert_non_null(verb->run);
        assert_true(*verb->summary && verb->least <= verb->most && verb->most <= CLI_ARGUMENTS);
        for (int i = 0; i < n; i++) {
            assert_true(*options[i].name && *options[i].help);
            for (int k = 0; k < i; k++) {
                if (!strcmp(options[i].name, options[k].name) ||
                    (options[i].letter && options[i].letter == options[k].letter))
                    fail_msg("%s: --%s and --%s", verb->name, options[i].name, options[k].name);
            }
        }
    }
    assert_true(verbs >= 12);
}

/* Each spelling of the table is an option, with '-' or '_', and a key of the configuration. */
static void aliases_are_options(void **state)
{
    (void)state;
    static const struct {
        const char *spelled;
        enum field_id id;
    } cases[] = {
        { "--negative-prompt", FIELD_negative_prompt },
        { "--cfg-scale", FIELD_guidance_scale },
        { "--guidance_scale", FIELD_guidance_scale },
        { "--num-inference-steps", FIELD_steps },
        { "--sampling_steps", FIELD_steps },
        { "--scheduler", FIELD_scheduler },
        { "--sampling-method", FIELD_sampler },
        { "--sampler-name", FIELD_sampler },
        { "--batch-size", FIELD_batch_size },
        { "--num_images", FIELD_batch_size },
        { "--num-images-per-prompt", FIELD_batch_size },
        { "--batch-count", (enum field_id)(FIELD_COUNT + OPT_count) },
        { "--n_iter", (enum field_id)(FIELD_COUNT + OPT_count) },
        { "--prompt_2", FIELD_prompt_2 },
        { "--model-path", FIELD_model },
        { "--output-format", FIELD_format },
        { "--timestep-spacing", FIELD_spacing },
        { "--crops-coords-top-left", FIELD_crop },
        { "--guidance-rescale", FIELD_guidance_rescale },
        { "--schedule-type", FIELD_schedule },
    };
    struct option_info options[CLI_OPTIONS], keys[SETTINGS_KEYS];
    int n = cli_options(&cli_generate, options), n_keys = settings_keys(keys), tried = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *name = cases[i].spelled + 2;
        int found = -1;
        for (int k = 0; k < n; k++)
            found = option_has_name(&options[k], name, strlen(name)) ? options[k].id : found;
        if (found != (int)cases[i].id)
            fail_msg("%s", cases[i].spelled);
    }
    for (int i = 0; i < n; i++) {
        const char *state_of = NULL, *alias;
        for (int len; (len = option_alias(&options[i], &state_of, &alias)); tried++)
            for (int k = 0; k < n; k++)
                if (option_has_name(&options[k], alias, (size_t)len) != (k == i))
                    fail_msg("%.*s and --%s", len, alias, options[k].name);
    }
    assert_true(tried > 20);
    tried = 0;
    for (int i = 0; i < n_keys; i++)
        tried += option_has_name(&keys[i], "cfg_scale", 9) ||
                 option_has_name(&keys[i], "negative-prompt", 15);
    assert_int_equal(tried, 2);
}

static void generate_has_the_fields(void **state)
{
    (void)state;
    static const char *const wanted[] = {
        "model",       "prompt",     "prompt-2", "negative",  "negative-2", "width",
        "height",      "steps",      "cfg",      "seed",      "batch",      "cfg-rescale",
        "sampler",     "schedule",   "spacing",  "eta",       "rng",        "original-size",
        "target-size", "crop",       "kernels",  "precision", "threads",    "clip-skip",
        "dump-stages", "load-stage", "output",   "format",    "quiet",      "json",
        "no-metadata", "preset",     "help",
    };
    struct option_info options[CLI_OPTIONS];
    int n = cli_options(&cli_generate, options);
    for (size_t w = 0; w < sizeof wanted / sizeof *wanted; w++) {
        bool found = false;
        for (int i = 0; i < n; i++)
            found |= !strcmp(options[i].name, wanted[w]);
        if (!found)
            fail_msg("--%s", wanted[w]);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(every_spelling_is_read),       cmocka_unit_test(mistakes_are_told),
    cmocka_unit_test(a_refusal_ends_the_parsing),   cmocka_unit_test(a_list_gets_all_refusals),
    cmocka_unit_test(memory_that_is_short_is_told), cmocka_unit_test(choices_are_walked),
    cmocka_unit_test(aliases_are_options),          cmocka_unit_test(the_tables_are_sound),
    cmocka_unit_test(generate_has_the_fields),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
