/* test_cli_parts.c - parts in place of a model's own, from the command line to the receipt and
 * back; their files obey the worker's folders of models. */
#include "testing/helpers/worker_host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fs.h"
#include "testing/helpers/program.h"

#define QUICK                                                                                      \
    "generate", "-m", program_model(), "-p", "a red circle", "-W", "64", "-H", "48", "--steps",    \
        "2", "-s", "5", "-q"

/* Files of the model of the golden vectors with other values: parts/vae.safetensors, and so on. */
static void make_part(const char *component, const char *weights, const char *to)
{
    char from[DR_PATH_MAX];
    struct buf file;
    uint64_t header;
    buf_init(&file, DR_TAG_TEST, 0);
    snprintf(from, sizeof from, "%s/%s/%s", program_model(), component, weights);
    assert_int_equal(dr_read_file(from, 64 << 20, &file, NULL), 0);
    memcpy(&header, file.data, sizeof header); /* the header's length, then float32 values */
    for (size_t i = sizeof header + (size_t)header + 2; i < file.len; i += 4)
        file.data[i] ^= 0x40;
    assert_int_equal(dr_write_file(to, file.data, file.len, NULL), 0);
    buf_free(&file);
}

static void make_parts(void)
{
    assert_int_equal(dr_mkdirs("parts", NULL), 0);
    make_part("vae", "diffusion_pytorch_model.safetensors", "parts/other_vae.safetensors");
    make_part("unet", "diffusion_pytorch_model.safetensors", "parts/other_unet.safetensors");
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

static bool same(const char *a, const char *b)
{
    struct buf x, y;
    buf_init(&x, DR_TAG_TEST, 0);
    buf_init(&y, DR_TAG_TEST, 0);
    assert_int_equal(dr_read_file(a, 1 << 20, &x, NULL), 0);
    assert_int_equal(dr_read_file(b, 1 << 20, &y, NULL), 0);
    bool equal = x.len == y.len && !memcmp(x.data, y.data, x.len);
    buf_free(&x);
    buf_free(&y);
    return equal;
}

/* The receipt's digest of a picture's model. */
static void digest_of(const char *picture, char ret[80])
{
    struct program p;
    program_run(&p, 0, "inspect", picture, "--json", NULL);
    json_t *answer = program_json(&p);
    snprintf(ret, 80, "%s", host_text(json_object_get(answer, "receipt"), "model_sha256"));
    assert_int_equal(strlen(ret), 64);
    json_decref(answer);
    program_free(&p);
}

static void from_option_to_receipt_and_back(void **state)
{
    (void)state;
    char whole[80], vae[80], both[80];
    program_folder();
    make_parts();
    RUN(0, "", QUICK, "-o", "a.png");
    RUN(0, "", QUICK, "--vae", "parts/other_vae.safetensors", "-o", "b.png");
    RUN(0, "", QUICK, "--vae", "parts/other_vae.safetensors", "--unet",
        "parts/other_unet.safetensors", "-o", "c.png");
    digest_of("a.png", whole);
    digest_of("b.png", vae);
    digest_of("c.png", both);
    assert_false(same("a.png", "b.png") || same("b.png", "c.png"));
    assert_string_not_equal(whole, vae);
    assert_string_not_equal(vae, both);
    /* by name; one that is not found says which option gives it */
    RUN(1,
        "drawn with the unet 'other_unet', which is not found by that name; give its file with "
        "--unet",
        "generate", "-m", program_model(), "--from", "c.png", "-q", "-o", "d.png");
    assert_int_equal(setenv("DARKROOM_MODELS", "parts", 1), 0);
    RUN(0, "", "generate", "-m", program_model(), "--from", "c.png", "-q", "-o", "d.png");
    assert_true(same("c.png", "d.png"));
    /* in the configuration, for pictures that were drawn with it only */
    static const char text[] = "vae: parts/other_vae.safetensors\n";
    assert_int_equal(dr_write_file("config.yaml", text, sizeof text - 1, NULL), 0);
    RUN(0, "", QUICK, "--config", "config.yaml", "-o", "e.png");
    assert_true(same("b.png", "e.png"));
    RUN(0, "", "generate", "-m", program_model(), "--config", "config.yaml", "--from", "a.png",
        "-q", "-o", "f.png");
    assert_true(same("a.png", "f.png"));
    assert_int_equal(unsetenv("DARKROOM_MODELS"), 0);
    RUN(0, "", "generate", "-m", program_model(), "--config", "config.yaml", "--from", "b.png",
        "-q", "-o", "g.png");
    assert_true(same("b.png", "g.png"));
}

static void other_verbs(void **state)
{
    (void)state;
    struct program p;
    program_folder();
    make_parts();
    program_run(&p, 0, "inspect", program_model(), "--vae", "parts/other_vae.safetensors", "--json",
                NULL);
    json_t *answer = program_json(&p);
    const json_t *vae = json_object_get(json_object_get(answer, "parts"), "vae");
    assert_non_null(strstr(host_text(vae, "from"), "other_vae.safetensors"));
    json_decref(answer);
    program_free(&p);
    RUN(0, "", "validate", "-m", program_model(), "-p", "x", "--unet",
        "parts/other_unet.safetensors");
    RUN(1, "expected a UNet", "validate", "-m", program_model(), "-p", "x", "--unet",
        "parts/other_vae.safetensors");
    RUN(1, "expected a UNet", "plan", "-m", program_model(), "-p", "x", "--unet",
        "parts/other_vae.safetensors");
    RUN(1, "expected a VAE", "bench", "-m", program_model(), "--vae",
        "parts/other_unet.safetensors", "--only", "text_encoders");
    RUN(1, "--vae: no such file", "inspect", program_model(), "--vae", "nothing");
    RUN(1, "give it with --vae", "generate", "-m", "parts/other_vae.safetensors", "-p", "x");
}

static void inside_the_folders_of_models(void **state)
{
    (void)state;
    struct host h;
    char command[2 * DR_PATH_MAX];
    char in[DR_PATH_MAX], out[DR_PATH_MAX];
    const char *folder = program_folder();
    make_parts();
    snprintf(command, sizeof command,
             "mkdir models && cp -r '%s' models/model && "
             "mv parts/other_vae.safetensors models/",
             program_model());
    assert_int_equal(system(command), 0);
    snprintf(in, sizeof in, "%s/models", folder);
    snprintf(out, sizeof out, "%s/parts/other_unet.safetensors", folder);
    host_begin(&h, "--models", in);
    host_ask_picture(&h, "a",
                     json_pack("{s:s,s:s,s:i}", "model", "model", "vae", "other_vae", "steps", 1));
    json_t *event = host_answer(&h, "a");
    assert_true(json_is_true(json_object_get(event, "success")));
    json_decref(event);
    host_ask_picture(&h, "b",
                     json_pack("{s:s,s:s,s:i}", "model", "model", "unet", out, "steps", 1));
    host_must_fail(&h, "b", "INVALID_VALUE", "unet");
    host_say_json(&h, json_pack("{s:s,s:s,s:{s:s,s:s}}", "type", "load_model", "request_id", "c",
                                "data", "model", "model", "vae", "other_vae"));
    event = host_answer(&h, "c");
    assert_true(json_is_true(json_object_get(event, "success")));
    json_decref(event);
    assert_int_equal(host_end(&h), 0);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(from_option_to_receipt_and_back),
    cmocka_unit_test(other_verbs),
    cmocka_unit_test(inside_the_folders_of_models),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
