/* test_cli_from.c - a picture is drawn again from its own receipt, and described. */
#include "testing/helpers/program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/image/image.h"
#include "base/json.h"

#define MODEL "-m", program_model()
#define QUICK                                                                                      \
    "generate", MODEL, "-p", "a red circle", "-n", "blur", "-W", "64", "-H", "48", "--steps", "3", \
        "--cfg", "4.5", "--sampler", "euler_a", "-q"

static void read_whole(const char *path, struct buf *ret)
{
    struct dr_error err = { 0 };
    buf_init(ret, DR_TAG_TEST, 0);
    if (dr_read_file(path, 64 << 20, ret, &err))
        fail_msg("%s", err.text);
}

static void read_picture(const char *path, struct dr_image *ret, struct img_texts *texts)
{
    struct buf bytes;
    struct dr_error err = { 0 };
    read_whole(path, &bytes);
    if (img_decode(bytes.data, bytes.len, 3, ret, texts, &err))
        fail_msg("%s: %s", path, err.text);
    buf_free(&bytes);
}

static void must_equal(const char *a, const char *b, bool equal)
{
    struct dr_image x, y;
    read_picture(a, &x, NULL);
    read_picture(b, &y, NULL);
    bool same = x.width == y.width && x.height == y.height &&
                !memcmp(x.pixels, y.pixels, (size_t)(3 * x.width * x.height));
    img_free(&x);
    img_free(&y);
    if (same != equal)
        fail_msg("%s and %s are %s", a, b, same ? "the same" : "different");
}

static void run(int status, const char *const *argv, const char *words)
{
    struct program p;
    program_start(&p, argv);
    program_finish(&p);
    if (p.status != status || !strstr(program_err(&p), words))
        fail_msg("%s ...: status %d, expected %d: %s", argv[0], p.status, status, program_err(&p));
    program_free(&p);
}
#define RUN(status, words, ...) run(status, (const char *const[]){ __VA_ARGS__, NULL }, words)

static void a_picture_draws_itself_again(void **state)
{
    (void)state;
    program_folder();
    RUN(0, "", QUICK, "-s", "5", "-b", "3", "-o", "b.png");
    RUN(0, "", "generate", MODEL, "--from", "b-2.png", "-q", "-o", "again.png");
    must_equal("b-2.png", "again.png", true);
    must_equal("b-1.png", "again.png", false);
    RUN(0, "", "generate", MODEL, "--from", "b-0.png", "-q", "-o", "a.jpg");
    RUN(0, "", "generate", MODEL, "--from", "a.jpg", "-q", "-o", "a.webp");
    RUN(0, "", "generate", MODEL, "--from", "a.webp", "-q", "-o", "back.png");
    must_equal("b-0.png", "back.png", true);
    RUN(0, "", QUICK, "-s", "5", "-o", "direct.jpg");
    must_equal("direct.jpg", "a.jpg", true);
    /* a batch continues from the picture's own seed */
    RUN(0, "", "generate", MODEL, "--from", "b-1.png", "-b", "2", "-q", "-o", "c.png");
    must_equal("c-0.png", "b-1.png", true);
    must_equal("c-1.png", "b-2.png", true);
}

static void what_is_typed_wins(void **state)
{
    (void)state;
    program_folder();
    RUN(0, "", QUICK, "-s", "5", "-o", "a.png");
    RUN(0, "", QUICK, "-s", "6", "-o", "b.png");
    RUN(0, "", "generate", MODEL, "--from", "a.png", "-s", "6", "-q", "-o", "c.png");
    must_equal("b.png", "c.png", true);
    /* conditioning sizes follow the size, eta and spacing the sampler */
    RUN(0, "", QUICK, "-s", "5", "-W", "80", "-o", "wide.png");
    RUN(0, "", "generate", MODEL, "-W", "80", "--from", "a.png", "-q", "-o", "wide2.png");
    must_equal("wide.png", "wide2.png", true);
    RUN(0, "", QUICK, "-s", "5", "--sampler", "dpmpp_2m", "-o", "d.png");
    RUN(0, "", "generate", MODEL, "--sampler", "dpmpp_2m", "--from", "a.png", "-q", "-o", "d2.png");
    must_equal("d.png", "d2.png", true);
    /* a sampler's name brings its schedule, and a default guidance scale gives way to the other */
    RUN(0, "", QUICK, "-s", "5", "--sampler", "DPM++ SDE Karras", "-o", "k.png");
    RUN(0, "", "generate", MODEL, "--sampler", "DPM++ SDE Karras", "--from", "a.png", "-q", "-o",
        "k2.png");
    must_equal("k.png", "k2.png", true);
    RUN(0, "", "generate", MODEL, "--scheduler", "DPM++ SDE Karras", "--from", "a.png", "-q", "-o",
        "k3.png");
    must_equal("k.png", "k3.png", true);
    RUN(2, "--schedule: got normal, expected karras", "generate", MODEL, "--sampler",
        "DPM++ SDE Karras", "--schedule", "normal", "--from", "a.png", "-q", "-o", "never.png");
    RUN(0, "", QUICK, "-s", "5", "--cfg", "1", "--sampler", "euler_cfg_pp", "-o", "pp.png");
    RUN(0, "", QUICK, "-s", "5", "--cfg", "5", "--sampler", "euler", "-o", "e.png");
    RUN(0, "warning: guidance_scale is 5, the default of sampler euler: the receipt's 1 was",
        "generate", MODEL, "--sampler", "euler", "--from", "pp.png", "-o", "e2.png");
    must_equal("e.png", "e2.png", true);
    RUN(0, "", QUICK, "-s", "5", "--original-size", "256x256", "-o", "o.png");
    RUN(0, "", QUICK, "-s", "5", "--original-size", "256x256", "-W", "80", "-o", "ow.png");
    RUN(0, "", "generate", MODEL, "-W", "80", "--from", "o.png", "-q", "-o", "ow2.png");
    must_equal("ow.png", "ow2.png", true);
}

/* What the model predicts, asked for, is what a model that says so draws; the receipt has it. */
static void a_formulation_is_drawn_again(void **state)
{
    (void)state;
    program_folder();
    char command[600];
    snprintf(command, sizeof command,
             "cp -r '%s' v && sed -i 's/\"prediction_type\": \"epsilon\"/\"prediction_type\": "
             "\"v_prediction\"/; s/\"rescale_betas_zero_snr\": false/\"rescale_betas_zero_snr\": "
             "true/' v/scheduler/scheduler_config.json",
             program_model());
    assert_int_equal(system(command), 0);
    RUN(0, "", "generate", "-m", "v", "-p", "x", "-s", "5", "--steps", "3", "-q", "-o", "v.png");
    RUN(0, "", "generate", MODEL, "-p", "x", "-s", "5", "--steps", "3", "-q", "-o", "eps.png");
    RUN(0, "as asked for, is used", "generate", MODEL, "-p", "x", "-s", "5", "--steps", "3",
        "--prediction", "v", "--zsnr", "-o", "asked.png");
    must_equal("v.png", "asked.png", true);
    must_equal("v.png", "eps.png", false);
    RUN(0, "", "generate", MODEL, "--from", "asked.png", "-q", "-o", "again.png");
    must_equal("asked.png", "again.png", true);
    struct program p;
    program_run(&p, 0, "inspect", "again.png", "--json", NULL);
    json_t *o = program_json(&p), *receipt = json_object_get(o, "receipt");
    assert_string_equal(jx_text(receipt, "prediction"), "v_prediction");
    assert_string_equal(jx_text(receipt, "prediction_from"), "the request");
    assert_true(json_is_true(json_object_get(receipt, "zsnr")));
    json_decref(o);
    program_free(&p);
    RUN(2, "expected epsilon, v_prediction or sample", "generate", MODEL, "-p", "x", "--prediction",
        "flow");
}

/* A recipe's values are in the receipt; what is typed beside the picture, steps in place of its
 * list of timesteps or another recipe, wins. */
static void a_recipe_is_its_values(void **state)
{
    (void)state;
    program_folder();
    RUN(0, "", "generate", MODEL, "-px", "-W64", "-H64", "-s", "5", "--recipe", "dmd2-4", "-q",
        "-o", "a.png");
    RUN(0, "", "generate", MODEL, "-px", "-W64", "-H64", "-s", "5", "--sampler", "lcm",
        "--timesteps", "999,749,499,249", "--cfg", "1", "-q", "-o", "b.png");
    must_equal("a.png", "b.png", true);
    RUN(0, "", "generate", MODEL, "--from", "a.png", "-q", "-o", "again.png");
    must_equal("a.png", "again.png", true);
    RUN(0, "", "generate", MODEL, "--from", "a.png", "--steps", "2", "-q", "-o", "c.png");
    RUN(0, "", "generate", MODEL, "-px", "-W64", "-H64", "-s", "5", "--sampler", "lcm", "--steps",
        "2", "--cfg", "1", "-q", "-o", "c2.png");
    must_equal("c.png", "c2.png", true);
    RUN(0, "", "generate", MODEL, "--from", "a.png", "--recipe", "tcd", "-W64", "-H64", "-q", "-o",
        "d.png");
    RUN(0, "", "generate", MODEL, "-px", "-W64", "-H64", "-s", "5", "--recipe", "tcd", "-q", "-o",
        "d2.png");
    must_equal("d.png", "d2.png", true);
}

static void the_configuration_has_no_say(void **state)
{
    (void)state;
    const char *folder = program_folder();
    char text2[400];
    static const char text[] = "steps: 2\ncfg: 9\nnegative: other\nformat: jpeg\n";
    assert_int_equal(dr_mkdirs("config/darkroom", NULL), 0);
    RUN(0, "", QUICK, "-s", "5", "-o", "a.png");
    assert_int_equal(dr_write_file("config/darkroom/config.yaml", text, sizeof text - 1, NULL), 0);
    char config[300];
    snprintf(config, sizeof config, "%s/config", folder);
    program_configure(config);
    RUN(0, "", "generate", MODEL, "--from", "a.png", "-q", "-o", "b.png");
    RUN(0, "", "generate", MODEL, "--from", "a.png", "-q");
    /* but it knows where the model is, if that is the one */
    snprintf(text2, sizeof text2, "model: %s\n", program_model());
    assert_int_equal(dr_write_file("config/darkroom/config.yaml", text2, strlen(text2), NULL), 0);
    RUN(0, "", "generate", "--from", "a.png", "-q", "-o", "d.png");
    RUN(0, "", "generate", "-m", "tiny", "-p", "x", "-q", "-o", "t.png");
    RUN(0, "", "generate", "--from", "t.png", "-q", "-o", "t2.png");
    program_configure(NULL);
    must_equal("a.png", "d.png", true);
    must_equal("t.png", "t2.png", true);
    must_equal("a.png", "b.png", true);
    assert_true(dr_is_file("darkroom-5.jpg")); /* the format is no matter of the receipt */
}

static void the_model_is_looked_for(void **state)
{
    (void)state;
    program_folder();
    RUN(0, "", QUICK, "-s", "5", "-o", "a.png");
    RUN(1, "a.png was drawn with the model 'model' (sha256 ", "generate", "--from", "a.png");
    RUN(1, "give its file with -m", "plan", "--from", "a.png");
    RUN(0, "warning: a.png was drawn with another model, 'model'", "generate", "--from", "a.png",
        "-m", "tiny", "-o", "b.png");
    RUN(0, "", "generate", "--from", "b.png", "-q", "-o", "c.png"); /* found by its name */
    must_equal("b.png", "c.png", true);
    assert_int_equal(access("darkroom-5.png", F_OK), -1);
}

/* A picture of one colour with these texts. */
static void make(const char *path, enum img_format format, const char *parameters,
                 const char *receipt)
{
    struct dr_image image;
    struct buf file;
    struct dr_error err = { 0 };
    struct img_text texts[2];
    size_t n = 0;
    if (parameters)
        texts[n++] = (struct img_text){ "parameters", parameters };
    if (receipt)
        texts[n++] = (struct img_text){ "darkroom", receipt };
    struct img_encode_options options = { .texts = texts, .text_count = n };
    buf_init(&file, DR_TAG_TEST, 0);
    assert_int_equal(img_new(16, 16, 3, &image, NULL), 0);
    memset(image.pixels, 77, 3 * 16 * 16);
    if (img_encode(&image, format, &options, &file, &err) ||
        dr_write_file(path, file.data, file.len, &err))
        fail_msg("%s", err.text);
    img_free(&image);
    buf_free(&file);
}

static void bad_receipts_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *receipt, *words;
        int status;
    } cases[] = {
        { "{\"prompt\":\"a circ", "its receipt is damaged", 1 },
        { "hello", "its receipt is damaged", 1 },
        { "", "its receipt is damaged", 1 },
        { "[1]", "its receipt is damaged: receipt: not a JSON object", 1 },
        { "{\"prompt\":\"x\",\"unheard_of\":[],\"upscale\":2,\"version\":\"9.1\"}",
          "does not know: unheard_of, upscale; it was written by darkroom 9.1", 2 },
        { "{\"prompt\":\"x\",\"loras\":[{\"path\":\"/etc/passwd\"}]}", "a name, not a path", 2 },
        { "{\"prompt\":\"x\",\"dump_stages\":\"d\",\"save_path\":\"s\"}",
          "does not know: dump_stages, save_path", 2 },
        { "{\"prompt\":\"x\",\"load_stage\":{\"image\":\"/etc/passwd\"}}", "load_stage", 2 },
        { "{\"prompt\":\"x\",\"batch.size\":16,\"num_images\":16}", "num_images", 2 },
        { "{\"prompt\":\"x\",\"output\":{\"save_path\":\"s\"}}", "does not know: output", 2 },
        { "{\"prompt\":\"x\",\"model\":\"/etc/passwd\"}", "model: got /etc/passwd, expected a", 2 },
        { "{\"prompt\":\"x\",\"steps\":\"many\"}", "its receipt: steps: got ", 2 },
        { "{\"prompt\":\"x\",\"steps\":100000}", "its receipt: steps: got 100000", 2 },
        { "{\"prompt\":\"x\",\"prompt\":\"y\"}", "its receipt is damaged", 1 },
        { "{\"prompt\":\"x\",\"seed\":1e999}", "its receipt: seed: got 1e999", 2 },
        { "{\"steps\":2}", "--prompt is missing", 2 },
    };
    program_folder();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int f = 0; f < IMG_FORMAT_COUNT; f++) {
            make("x.png", (enum img_format)f, "infotext", cases[i].receipt);
            RUN(cases[i].status, cases[i].words, "generate", MODEL, "--from", "x.png", "-q", "-o",
                "never.png");
        }
    assert_int_equal(program_entries("."), 1); /* x.png */
}

static void other_files_are_refused(void **state)
{
    (void)state;
    struct buf bytes;
    program_folder();
    make("none.png", IMG_PNG, NULL, NULL);
    RUN(2, "none.png: this picture has no receipt of darkroom\n", "generate", "--from", "none.png");
    make("a1111.png", IMG_PNG, "a cat\nSteps: 20, Seed: 1", NULL);
    RUN(2, "has no receipt of darkroom (its infotext", "generate", "--from", "a1111.png");
    RUN(1, "missing.png: no such file", "generate", "--from", "missing.png");
    RUN(1, ": not a file", "generate", "--from", ".");
    char config[400];
    snprintf(config, sizeof config, "%s/model_index.json", program_model());
    RUN(2, "expected a PNG, JPEG or WebP picture", "generate", "--from", config);
    RUN(0, "", QUICK, "-s", "5", "-o", "a.png");
    read_whole("a.png", &bytes);
    assert_int_equal(dr_write_file("half.png", bytes.data, bytes.len / 2, NULL), 0);
    buf_free(&bytes);
    RUN(1, "--from: cannot use it: ", "generate", "--from", "half.png");
    char *long_text = malloc(3 << 20);
    assert_non_null(long_text);
    memset(long_text, 'x', (3 << 20) - 1);
    long_text[(3 << 20) - 1] = '\0';
    make("huge.png", IMG_PNG, NULL, long_text);
    free(long_text);
    RUN(1, "huge.png: its receipt is damaged", "generate", "--from", "huge.png");
}

static void pictures_are_described(void **state)
{
    (void)state;
    static const char *const names[] = { "a.png", "a.jpg", "a.webp" };
    struct program p;
    program_folder();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        RUN(0, "", QUICK, "-s", "5", "-o", names[i]);
        program_run(&p, 0, "inspect", names[i], "--json", NULL);
        json_t *o = program_json(&p), *receipt = json_object_get(o, "receipt");
        assert_true(json_is_true(json_object_get(o, "success")));
        assert_string_equal(json_string_value(json_object_get(o, "kind")), "picture");
        assert_int_equal(json_integer_value(json_object_get(o, "width")), 64);
        assert_int_equal(json_integer_value(json_object_get(receipt, "seed")), 5);
        assert_int_equal(json_integer_value(json_object_get(receipt, "steps")), 3);
        assert_memory_equal(json_string_value(json_object_get(o, "parameters")),
                            "a red circle\nNegative prompt: blur\nSteps: 3, ", 45);
        json_decref(o);
        program_free(&p);
    }
    program_run(&p, 0, "inspect", "a.jpg", NULL);
    assert_non_null(strstr(program_out(&p), "\n                       Negative prompt: blur\n"));
    assert_non_null(strstr(program_out(&p), "\nreceipt\n  prompt               a red circle\n"));
    program_free(&p);
    make("b.png", IMG_PNG, "a cat\nSteps: 20\x1b[2J", NULL);
    program_run(&p, 0, "inspect", "b.png", NULL);
    assert_non_null(strstr(program_out(&p), "a cat\n                       Steps: 20"));
    assert_null(strchr(program_out(&p), '\033'));
    assert_null(strstr(program_out(&p), "receipt"));
    program_free(&p);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_formulation_is_drawn_again), cmocka_unit_test(a_picture_draws_itself_again),
    cmocka_unit_test(what_is_typed_wins),           cmocka_unit_test(the_configuration_has_no_say),
    cmocka_unit_test(a_recipe_is_its_values),       cmocka_unit_test(the_model_is_looked_for),
    cmocka_unit_test(bad_receipts_are_refused),     cmocka_unit_test(other_files_are_refused),
    cmocka_unit_test(pictures_are_described),
};

int main(int argc, char **argv)
{
    jx_init();
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
