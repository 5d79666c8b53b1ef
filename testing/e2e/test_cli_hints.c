/* test_cli_hints.c - settings in a file beside a model: what is taken, what wins, what is refused.
 */
#include "testing/helpers/program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"

#define DRAW "generate", "-m", "m", "-p", "a red circle", "-s", "5", "-q", "--json", "-o"

static void hints(const char *text)
{
    assert_int_equal(dr_write_file("m.darkroom.yaml", text, strlen(text), NULL), 0);
}

static void copy_model(void)
{
    char command[600];
    program_folder();
    snprintf(command, sizeof command, "cp -r '%s' m", program_model());
    assert_int_equal(system(command), 0);
}

/* The receipt of the picture that was drawn; json_decref it. */
static json_t *receipt_of(const char *picture)
{
    struct program p;
    program_run(&p, 0, "inspect", picture, "--json", NULL);
    json_t *answer = program_json(&p);
    json_t *receipt = json_incref(json_object_get(answer, "receipt"));
    assert_non_null(receipt);
    json_decref(answer);
    program_free(&p);
    return receipt;
}

static void run(int status, const char *words, const char *const *argv)
{
    struct program p;
    program_start(&p, argv);
    program_finish(&p);
    if (p.status != status || !strstr(program_err(&p), words))
        fail_msg("%s ...: status %d, expected %d: %s", argv[0], p.status, status, program_err(&p));
    program_free(&p);
}
#define RUN(status, words, ...) run(status, words, (const char *const[]){ __VA_ARGS__, NULL })

static void must_be(const char *picture, int64_t width, int64_t steps, double cfg,
                    const char *sampler, const char *negative)
{
    json_t *r = receipt_of(picture);
    assert_int_equal(json_integer_value(json_object_get(r, "width")), width);
    assert_int_equal(json_integer_value(json_object_get(r, "steps")), steps);
    assert_true(json_number_value(json_object_get(r, "guidance_scale")) == cfg);
    assert_string_equal(jx_text(r, "sampler"), sampler);
    assert_string_equal(jx_text(r, "negative_prompt"), negative);
    json_decref(r);
}

static void what_is_typed_wins(void **state)
{
    (void)state;
    copy_model();
    hints("# few steps\n---\nsize: 64x48 # small\nsteps: 2\ncfg: 3.5\nsampler: ddim\n"
          "negative: \"blur # too\"\nclip-skip: 1\n\n");
    RUN(0, "", DRAW, "a.png");
    must_be("a.png", 64, 2, 3.5, "ddim", "blur # too");
    RUN(0, "", DRAW, "b.png", "-W", "72", "-H", "40", "--steps", "3", "--cfg", "2", "--sampler",
        "lms", "-n", "x");
    must_be("b.png", 72, 3, 2, "lms", "x");
    RUN(0, "", DRAW, "c.png", "--no-hints", "--steps", "2", "-W", "64", "-H", "48");
    must_be("c.png", 64, 2, 5, "euler", "");
    /* a receipt says everything itself */
    RUN(0, "", "generate", "-m", "m", "--from", "c.png", "-q", "-o", "d.png");
    must_be("d.png", 64, 2, 5, "euler", "");
    RUN(0, "", "generate", "-m", "m", "--from", "a.png", "-q", "-o", "e.png");
    must_be("e.png", 64, 2, 3.5, "ddim", "blur # too");
    struct program p;
    program_run(&p, 0, "inspect", "m", "--json", NULL);
    json_t *o = program_json(&p);
    const json_t *said = json_object_get(o, "hints");
    assert_int_equal(json_integer_value(json_object_get(said, "steps")), 2);
    assert_int_equal(json_integer_value(json_object_get(said, "height")), 48);
    assert_non_null(strstr(jx_text(o, "hints_from"), "m.darkroom.yaml"));
    json_decref(o);
    program_free(&p);
}

/* Settings that belong together stand or fall together. */
static void groups(void **state)
{
    (void)state;
    copy_model();
    hints("width: 64\nheight: 64\nsteps: 2\nsampler: euler_a\neta: 0.5\nschedule: karras\n");
    RUN(0, "", DRAW, "a.png");
    json_t *r = receipt_of("a.png");
    assert_string_equal(jx_text(r, "schedule"), "karras");
    assert_true(json_number_value(json_object_get(r, "eta")) == 0.5);
    json_decref(r);
    RUN(0, "", DRAW, "b.png", "--sampler", "euler");
    r = receipt_of("b.png");
    assert_string_equal(jx_text(r, "schedule"), "normal");
    assert_int_equal(json_integer_value(json_object_get(r, "steps")), 2);
    json_decref(r);
    RUN(0, "", DRAW, "c.png", "-W", "72");
    r = receipt_of("c.png");
    assert_int_equal(json_integer_value(json_object_get(r, "width")), 72);
    assert_int_not_equal(json_integer_value(json_object_get(r, "height")), 64);
    json_decref(r);
}

static void a_vae_beside_it(void **state)
{
    (void)state;
    copy_model();
    assert_int_equal(system("cp m/vae/diffusion_pytorch_model.safetensors other.safetensors"), 0);
    hints("size: 64x64\nsteps: 1\nvae: other.safetensors\n");
    RUN(0, "", DRAW, "a.png");
    json_t *r = receipt_of("a.png");
    assert_string_equal(jx_text(r, "vae"), "other");
    json_decref(r);
    hints("vae: nothing.safetensors\n");
    RUN(1, "vae: no such file", DRAW, "b.png");
}

static void mistakes_have_a_line(void **state)
{
    static const struct {
        const char *text, *words;
    } cases[] = {
        { "step: 2\n", "m.darkroom.yaml:1: step: no such setting of a model (nearest: steps)" },
        { "steps: 2\nwhatever: 3\n", ":2: whatever: no such setting" },
        { "# x\n\nsteps: many\n", ":3: steps: got many, expected an integer from 1 to 1000" },
        { "steps: 2\nnum_inference_steps: 3\n", ":2: num_inference_steps: the same setting" },
        { "size: 64\n", ":1: size: expected WIDTHxHEIGHT" },
        { "size: 64xx\n", ":1: size: got x" },
        { "  steps: 2\n", "expected a line 'key: value'" },
        { "steps 2\n", "expected a line 'key: value'" },
        { "steps:2\n", "expected a line 'key: value'" },
        { "- steps\n", "expected a line 'key: value'" },
        { "negative: \"x\n", "quotes closed" },
        { "negative: \"x\" y\n", "quotes closed" },
        { "steps:\n", "expected one value" },
        { "negative: \xff\n", "UTF-8" },
        { "save_path: /tmp\n", "no such setting of a model" },
        { "prediction: flow\n", "prediction" },
    };
    (void)state;
    copy_model();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hints(cases[i].text);
        struct program p;
        program_run(&p, -1, "validate", "-m", "m", "-p", "x", NULL);
        if (!p.status || !strstr(program_err(&p), cases[i].words))
            fail_msg("%s: status %d: %s", cases[i].text, p.status, program_err(&p));
        program_free(&p);
    }
    assert_int_equal(system("head -c 70000 /dev/zero | tr '\\0' '#' > m.darkroom.yaml"), 0);
    RUN(1, "m.darkroom.yaml", "validate", "-m", "m", "-p", "x");
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(what_is_typed_wins),
    cmocka_unit_test(groups),
    cmocka_unit_test(a_vae_beside_it),
    cmocka_unit_test(mistakes_have_a_line),
};

int main(int argc, char **argv)
{
    jx_init();
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
