/* test_cli_words.c - what is not drawn: the configuration, help, the manual page, progress. */
#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "cli/help_text.h"
#include "cli/lists.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "cli/settings.h"
#include "testing/helpers/test.h"

static void call_init(struct cli_call *call)
{
    memset(call, 0, sizeof *call);
    call->verb = &cli_generate;
    request_init(&call->request);
}

static void call_free(struct cli_call *call)
{
    request_free(&call->request);
    dr_free(call->threads);
    dr_free(call->output);
    dr_free(call->cache);
    dr_free(call->cache_limit);
    dr_free(call->model);
}

static int take(struct cli_call *call, const char *text, struct dr_error *err)
{
    struct config config;
    int r = config_parse(text, strlen(text), "/etc/dr/config.yaml", &config, err);
    if (r < 0)
        return r;
    r = settings_take(call, &config, err);
    config_free(&config);
    return r;
}

static void the_configuration_fills_gaps(void **state)
{
    (void)state;
    struct cli_call call;
    struct dr_error err = { 0 };
    call_init(&call);
    setenv("HOME", "/home/me", 1);
    assert_int_equal(request_set_text(&call.request, FIELD_steps, "5", NULL), 0);
    if (take(&call,
             "model: ~/m.safetensors\nsteps: 9\nthreads: 4\noutput: pictures/\ncfg: 7.5\n"
             "kernels: scalar\nformat: jpg\n",
             &err))
        fail_msg("%s", err.text);
    assert_string_equal(request_text(&call.request, FIELD_model), "/home/me/m.safetensors");
    assert_int_equal(request_int(&call.request, FIELD_steps), 5);
    assert_true(request_real(&call.request, FIELD_guidance_scale) == 7.5);
    assert_string_equal(request_text(&call.request, FIELD_kernels), "scalar");
    assert_string_equal(request_text(&call.request, FIELD_format), "jpeg");
    assert_string_equal(call.value[OPT_threads], "4");
    assert_string_equal(call.value[OPT_output], "/etc/dr/pictures/");
    call_free(&call);
}

static void a_model_may_be_a_name(void **state)
{
    (void)state;
    static const char *const models[][2] = { { "model: tiny\n", "tiny" },
                                             { "model: ./tiny\n", "/etc/dr/./tiny" } };
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        struct cli_call call;
        call_init(&call);
        assert_int_equal(take(&call, models[i][0], NULL), 0);
        assert_string_equal(request_text(&call.request, FIELD_model), models[i][1]);
        call_free(&call);
    }
}

static void the_command_line_wins(void **state)
{
    (void)state;
    struct cli_call call;
    call_init(&call);
    call.value[OPT_threads] = "2";
    call.value[OPT_output] = "here.png";
    assert_int_equal(take(&call, "threads: 4\noutput: /there/\n", NULL), 0);
    assert_string_equal(call.value[OPT_threads], "2");
    assert_string_equal(call.value[OPT_output], "here.png");
    assert_int_equal(take(&call, "format: jpg\n", NULL), 0); /* the name says png */
    assert_false(request_has(&call.request, FIELD_format));
    call.value[OPT_output] = "folder/";
    assert_int_equal(take(&call, "format: jpg\n", NULL), 0);
    assert_string_equal(request_text(&call.request, FIELD_format), "jpeg");
    call_free(&call);
}

/* What a recipe decides does not come from the configuration where the recipe is typed. */
static void a_typed_recipe_wins_too(void **state)
{
    (void)state;
    static const char text[] = "steps: 9\ncfg: 7.5\nsampler: heun\nclip-skip: 1\n";
    struct cli_call call;
    call_init(&call);
    assert_int_equal(request_set_text(&call.request, FIELD_recipe, "lcm", NULL), 0);
    call.typed[FIELD_recipe] = true;
    assert_int_equal(take(&call, text, NULL), 0);
    assert_false(request_has(&call.request, FIELD_steps));
    assert_false(request_has(&call.request, FIELD_guidance_scale));
    assert_false(request_has(&call.request, FIELD_sampler));
    assert_int_equal(request_int(&call.request, FIELD_clip_skip), 1);
    call_free(&call);
    call_init(&call);
    assert_int_equal(take(&call, "recipe: lcm\nsteps: 9\n", NULL), 0); /* neither is typed */
    assert_int_equal(request_int(&call.request, FIELD_steps), 9);
    assert_string_equal(request_text(&call.request, FIELD_recipe), "lcm");
    call_free(&call);
}

static void verbs_take_what_is_theirs(void **state)
{
    (void)state;
    struct cli_call call;
    call_init(&call);
    call.verb = &cli_devices;
    assert_int_equal(take(&call, "threads: 4\noutput: x/\nsteps: 3\n", NULL), 0);
    assert_string_equal(call.value[OPT_threads], "4");
    assert_null(call.value[OPT_output]);
    assert_false(request_has(&call.request, FIELD_steps));
    call_free(&call);
}

static void the_cache_is_the_configurations(void **state)
{
    (void)state;
    static const struct {
        const char *text, *bytes;
    } cases[] = { { "cache-limit: 0\n", "0" },
                  { "cache-limit: 1234\n", "1234" },
                  { "cache-limit: 500M\n", "524288000" },
                  { "cache-limit: 64G\n", "68719476736" },
                  { "cache-limit: 20GB\n", "20000000000" },
                  { "cache-limit: 20GiB\n", "21474836480" },
                  { "cache_limit: 1.5G\n", "1610612736" },
                  { "cache-limit: 2t\n", "2199023255552" } };
    struct cli_call call;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        call_init(&call);
        assert_int_equal(take(&call, cases[i].text, NULL), 0);
        assert_string_equal(call.cache_limit, cases[i].bytes);
        assert_null(call.cache);
        call_free(&call);
    }
    call_init(&call);
    assert_int_equal(take(&call, "cache: packs\n", NULL), 0);
    assert_string_equal(call.cache, "/etc/dr/packs");
    call_free(&call);
}

static void bad_settings_have_a_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *words;
    } cases[] = {
        { "model: a\nstesp: 3\n", "config.yaml:2: stesp: no such key (nearest: steps)" },
        { "threds: 3\n", "nearest: threads" },
        { "prompt: x\n", "prompt: no such key" },
        { "generate:\n  steps: 3\n", "no such key" },
        { "\n\nsteps: many\n", "config.yaml:3: steps: got many, expected an integer" },
        { "format: gif\n", "png, jpeg, webp" },
        { "cache-limit: much\n", "config.yaml:1: cache-limit: got much, expected a size such" },
        { "cfg: 5\ncfg-scale: 7\n", "config.yaml:2: cfg-scale: the same key as cfg in line 1" },
        { "cfgscal: 5\n", "nearest: cfg-scale" },
        { "model: ''\n", "config.yaml:1: model: empty path" },
        { "sampler: ''\n", "expected a name" },
        { "cache-limit: 1.5\n", "got 1.5" },
        { "cache-limit: 5X\n", "got 5X" },
        { "cache-limit: ''\n", "expected a size" },
        { "cache-limit: -1\n", "got -1" },
        { "cache-limit: 9999999999G\n", "got 9999999999G" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct cli_call call;
        struct dr_error err = { 0 };
        call_init(&call);
        if (take(&call, cases[i].text, &err) != DR_EINVAL || !strstr(err.text, cases[i].words))
            fail_msg("%s: %s", cases[i].text, err.text);
        call_free(&call);
    }
}

/* Columns of the longest line, characters not bytes. */
static int widest(const char *text)
{
    int most = 0, column = 0;
    for (const char *p = text; *p; p++) {
        column = *p == '\n' ? 0 : column + (((unsigned char)*p & 0xc0) != 0x80);
        most = column > most ? column : most;
    }
    return most;
}

static void help_fits_its_width(void **state)
{
    (void)state;
    static const int widths[] = { 80, 100 };
    const struct cli_verb *verb;
    for (int w = 0; w < 2; w++) {
        struct buf out;
        buf_init(&out, DR_TAG_TEST, 0);
        assert_int_equal(help_overview(widths[w], &out), 0);
        assert_true(widest(buf_text(&out)) <= widths[w]);
        for (int i = 0; (verb = cli_verb_at(i)); i++) {
            assert_non_null(strstr(buf_text(&out), verb->name));
            struct buf one;
            buf_init(&one, DR_TAG_TEST, 0);
            assert_int_equal(help_verb(verb, widths[w], &one), 0);
            if (widest(buf_text(&one)) > widths[w])
                fail_msg("%s", buf_text(&one));
            buf_free(&one);
        }
        buf_free(&out);
    }
}

/* The overview names what `darkroom help` can list. */
static void help_names_its_topics(void **state)
{
    (void)state;
    const struct list_info *list;
    struct buf out;
    char row[64];
    int n = 0;
    buf_init(&out, DR_TAG_TEST, 0);
    assert_int_equal(help_overview(80, &out), 0);
    assert_non_null(strstr(buf_text(&out), "\ntopics:\n"));
    for (; (list = list_at(n)); n++) {
        snprintf(row, sizeof row, "\n  %-12s%.20s", list->name, list->summary);
        if (!strstr(buf_text(&out), row))
            fail_msg("%s", list->name);
    }
    assert_int_equal(n, 9);
    buf_free(&out);
}

static void help_has_every_option(void **state)
{
    (void)state;
    struct option_info options[CLI_OPTIONS];
    int n = cli_options(&cli_generate, options);
    struct buf out;
    buf_init(&out, DR_TAG_TEST, 0);
    assert_int_equal(help_verb(&cli_generate, 80, &out), 0);
    for (int i = 0; i < n; i++) {
        char name[64];
        snprintf(name, sizeof name, "--%s", options[i].name);
        if (!strstr(buf_text(&out), name))
            fail_msg("%s", name);
    }
    assert_non_null(strstr(buf_text(&out), "do not write the parameters"));
    assert_non_null(strstr(buf_text(&out), "(default: 30)"));
    buf_free(&out);
}

/* An option that verbs share says what it means to each. */
static void help_is_the_verbs_own(void **state)
{
    (void)state;
    static const struct {
        const struct cli_verb *verb;
        const char *has, *has_not;
    } cases[] = { { &cli_convert, "where the copy goes", "{seed}" },
                  { &cli_generate, "pattern with %d", "copy" },
                  { &cli_bench, "random weights", "tokenizer" },
                  { &cli_tokens, "tokenizer", "random weights" } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf out;
        buf_init(&out, DR_TAG_TEST, 0);
        assert_int_equal(help_verb(cases[i].verb, 100, &out), 0);
        assert_non_null(strstr(buf_text(&out), cases[i].has));
        assert_null(strstr(buf_text(&out), cases[i].has_not));
        buf_free(&out);
    }
}

static void a_bar_fits_its_width(void **state)
{
    (void)state;
    char text[256];
    struct progress_state at = { .step = 12, .total = 30, .rate = 1.5 };
    for (int width = 1; width < 200; width++) {
        progress_bar(&at, width, text, sizeof text);
        assert_true((int)strlen(text) <= width);
    }
    progress_bar(&at, 80, text, sizeof text);
    assert_non_null(strstr(text, "12/30 ["));
    assert_non_null(strstr(text, "] 1.50 it/s, 0:12 left"));
    at = (struct progress_state){ .step = 1000, .total = 1000, .rate = 1e-9 };
    progress_bar(&at, 60, text, sizeof text);
    assert_true(strlen(text) <= 60);
}

/* A step that runs fills its part of the bar. */
static void a_bar_moves_within_a_step(void **state)
{
    (void)state;
    char text[256];
    int full[3];
    static const double parts[] = { 0, 0.4, 0.9 };
    for (int i = 0; i < 3; i++) {
        struct progress_state at = { .step = 0, .total = 2, .part = parts[i], .elapsed = 5 };
        progress_bar(&at, 100, text, sizeof text);
        full[i] = (int)strspn(strchr(text, '[') + 1, "=>");
        assert_non_null(strstr(text, "0/2 ["));
        assert_non_null(strstr(text, "] 0:05 elapsed"));
    }
    assert_int_equal(full[0], 0);
    assert_true(full[1] > 5 && full[2] > full[1] + 5);
}

static void lines_tell_the_pace(void **state)
{
    (void)state;
    char text[128];
    static const struct {
        struct progress_state at;
        const char *expected;
    } cases[] = {
        { { .step = 1, .total = 30, .rate = 0 }, "step 1/30" },
        { { .step = 12, .total = 30, .rate = 1.5 }, "step 12/30, 1.50 it/s, 0:12 left" },
        { { .step = 2, .total = 30, .rate = 0.01 }, "step 2/30, 100.00 s/it, 46:40 left" },
        { { .step = 2, .total = 1000, .rate = 0.1 }, "step 2/1000, 10.00 s/it, 2:46:20 left" },
        { { .step = 30, .total = 30, .rate = 1.5 }, "step 30/30, 1.50 it/s" },
        { { .total = 30, .left = 150 }, "step 0/30, about 2:30 left" },
        { { .total = 30, .elapsed = 3 }, "step 0/30, 0:03 elapsed" },
        { { .step = 7, .open = true, .rate = 1.5 }, "step 7, 1.50 it/s" },
        { { .open = true, .elapsed = 3 }, "step 0, 0:03 elapsed" },
        { { .step = 1, .total = 3, .rate = 0.1, .left = 14 }, "step 1/3, 10.00 s/it, 0:14 left" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        progress_line(&cases[i].at, text, sizeof text);
        assert_string_equal(text, cases[i].expected);
    }
}

static void sizes_are_readable(void **state)
{
    (void)state;
    char text[32];
    assert_string_equal(report_size(0, text), "0 B");
    assert_string_equal(report_size(999, text), "999 B");
    assert_string_equal(report_size(1000, text), "1.0 kB");
    assert_string_equal(report_size(12345678, text), "12.3 MB");
    assert_string_equal(report_size(999999, text), "1.0 MB");
    assert_string_equal(report_size(6.9e9, text), "6.9 GB");
    assert_string_equal(report_size(5e15, text), "5.0 PB");
    assert_string_equal(report_flops(272128199.256e9, text), "272 PFLOP");
    assert_string_equal(report_flops(2.5e9, text), "2.5 GFLOP");
    assert_string_equal(report_flops(12, text), "12 FLOP");
    assert_string_equal(report_count(8142059, text), "8.1 M");
    assert_string_equal(report_count(2567463684, text), "2.6 G");
    assert_string_equal(report_count(7, text), "7");
}

static void a_verb_is_found_or_a_near_one(void **state)
{
    (void)state;
    const struct cli_verb *verb;
    struct dr_error err = { 0 };
    assert_int_equal(cli_find_verb("generate", &verb, &err), 0);
    assert_ptr_equal(verb, &cli_generate);
    assert_int_equal(cli_find_verb("genrate", &verb, &err), DR_EINVAL);
    assert_non_null(strstr(err.text, "nearest: generate"));
    assert_int_equal(cli_find_verb("", &verb, &err), DR_EINVAL);
}

static void what_a_verb_lacks_is_named(void **state)
{
    (void)state;
    struct dr_error err = { 0 };
    struct cli_verb verb;
    for (int i = 0; cli_verb_at(i); i++) {
        verb = *cli_verb_at(i);
        assert_int_equal(cli_verb_check(&verb, verb.name, &err), 0);
        verb.run = NULL;
        assert_int_equal(cli_verb_check(&verb, verb.name, &err), DR_EINTERNAL);
        assert_non_null(strstr(err.text, ": member run is missing"));
    }
    verb = cli_generate;
    assert_int_equal(cli_verb_check(&verb, "draw", &err), DR_EINTERNAL);
    assert_string_equal(err.text, "verb draw: member name is \"generate\", expected \"draw\"");
    verb.synopsis = NULL;
    assert_int_equal(cli_verb_check(&verb, "generate", &err), DR_EINTERNAL);
    assert_string_equal(err.text, "verb generate: member synopsis is missing");
    verb = cli_generate;
    verb.summary = NULL;
    assert_int_equal(cli_verb_check(&verb, "generate", &err), DR_EINTERNAL);
    assert_string_equal(err.text, "verb generate: member summary is missing");
    verb = cli_generate;
    verb.name = NULL;
    assert_int_equal(cli_verb_check(&verb, "generate", &err), DR_EINTERNAL);
    assert_string_equal(err.text, "verb generate: member name is missing");
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(the_configuration_fills_gaps),
    cmocka_unit_test(a_model_may_be_a_name),
    cmocka_unit_test(the_command_line_wins),
    cmocka_unit_test(a_typed_recipe_wins_too),
    cmocka_unit_test(verbs_take_what_is_theirs),
    cmocka_unit_test(the_cache_is_the_configurations),
    cmocka_unit_test(bad_settings_have_a_line),
    cmocka_unit_test(help_fits_its_width),
    cmocka_unit_test(help_names_its_topics),
    cmocka_unit_test(help_has_every_option),
    cmocka_unit_test(help_is_the_verbs_own),
    cmocka_unit_test(a_bar_fits_its_width),
    cmocka_unit_test(a_bar_moves_within_a_step),
    cmocka_unit_test(lines_tell_the_pace),
    cmocka_unit_test(sizes_are_readable),
    cmocka_unit_test(a_verb_is_found_or_a_near_one),
    cmocka_unit_test(what_a_verb_lacks_is_named),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
