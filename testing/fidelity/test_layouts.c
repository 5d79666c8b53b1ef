/* test_layouts.c - `darkroom convert --layout`: single files, diffusers folders and parts of
 * one another. What is drawn from a copy, what comes back, what is refused. */
#include "testing/helpers/program.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/path_text.h"
#include "models/formats/safetensors.h"
#include "testing/helpers/made_model.h"
#include "testing/helpers/part_file.h"
#include "testing/helpers/sgm_maker.h"

static void copy(const char *from, const char *to, const char *layout, const char *words)
{
    struct program p;
    program_run(&p, 0, "convert", from, "-o", to, "--layout", layout, NULL);
    if (words && !strstr(program_out(&p), words))
        fail_msg("%s to %s: %s", from, layout, program_out(&p));
    program_free(&p);
}

static void must_fail(const char *words, const char *from, const char *layout, const char *option,
                      const char *value)
{
    struct program p;
    program_run(&p, 2, "convert", from, "-o", "refused", "--layout", layout, option, value, NULL);
    if (!strstr(program_err(&p), words))
        fail_msg("%s: %s", from, program_err(&p));
    program_free(&p);
    assert_int_equal(access("refused", F_OK), -1);
}

/* Buffers, and what comes with Stable Diffusion 2's encoder and no folder has. */
static bool is_spare(const char *name)
{
    return strstr(name, "logit_scale") || strstr(name, "position_ids") ||
           strstr(name, "cond_stage_model.model.text_projection") ||
           strstr(name, "cond_stage_model.model.transformer.resblocks.23.");
}

/* Every tensor of a is in b, with its type, shape and bytes; marks and constants are none. */
static void expect_tensors(const char *a, const char *b)
{
    struct buf x, y;
    struct st_header p, q;
    buf_init(&x, DR_TAG_TEST, 0);
    buf_init(&y, DR_TAG_TEST, 0);
    assert_int_equal(dr_read_file(a, 1 << 28, &x, NULL), 0);
    assert_int_equal(dr_read_file(b, 1 << 28, &y, NULL), 0);
    assert_int_equal(st_parse((const uint8_t *)x.data, x.len, x.len, a, &p, NULL), 0);
    assert_int_equal(st_parse((const uint8_t *)y.data, y.len, y.len, b, &q, NULL), 0);
    assert_true(p.n_tensors > 10);
    for (size_t i = 0; i < p.n_tensors; i++) {
        const struct st_tensor *s = &p.tensors[i], *t = st_find(&q, s->name);
        if (is_spare(s->name))
            continue;
        if (!t || t->dtype != s->dtype || !shape_equal(&t->shape, &s->shape) ||
            memcmp(x.data + p.data_at + s->begin, y.data + q.data_at + t->begin, s->end - s->begin))
            fail_msg("%s: %s", b, s->name);
    }
    st_header_free(&p);
    st_header_free(&q);
    buf_free(&x);
    buf_free(&y);
}

static void draw(const char *model, const char *stages, const char *option, const char *value)
{
    struct program p;
    char picture[80];
    snprintf(picture, sizeof picture, "%s.png", stages);
    program_run(&p, 0, "generate", "-p", "a red circle", "-n", "blue", "-m", model, "-s", "7",
                "--steps", "1", "-W", "64", "-H", "64", "--cfg", "3", "--precision", "f32", "-q",
                "--dump-stages", stages, "-o", picture, option, value, NULL);
    program_free(&p);
}

static void expect_drawn(const char *a, const char *b)
{
    static const char *const stages[] = { "prompt_embeds", "latents_000", "image" };
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) {
        char p[120], q[120];
        struct buf x, y;
        buf_init(&x, DR_TAG_TEST, 0);
        buf_init(&y, DR_TAG_TEST, 0);
        snprintf(p, sizeof p, "%s/%s.npy", a, stages[i]);
        snprintf(q, sizeof q, "%s/%s.npy", b, stages[i]);
        assert_int_equal(dr_read_file(p, 1 << 28, &x, NULL), 0);
        assert_int_equal(dr_read_file(q, 1 << 28, &y, NULL), 0);
        if (x.len != y.len || memcmp(x.data, y.data, x.len))
            fail_msg("%s and %s differ in %s", a, b, stages[i]);
        buf_free(&x);
        buf_free(&y);
    }
}

static void there_and_back(const char *model)
{
    copy(model, "folder", "diffusers", NULL);
    copy("folder", "back.safetensors", "single", NULL);
    expect_tensors(model, "back.safetensors");
    draw(model, "a", NULL, NULL);
    draw("folder", "b", NULL, NULL);
    expect_drawn("a", "b");
}

static void sdxl_there_and_back(void **state)
{
    (void)state;
    struct sgm_spec spec = sgm_tiny;
    program_folder();
    spec.vocab = 49408;
    spec.clip_l.layers = spec.clip_g.layers = 2;
    sgm_save(&spec, false, "odd.safetensors");
    /* a middle of another depth than the coarsest level, which no folder can say */
    struct program p;
    program_run(&p, 1, "convert", "odd.safetensors", "-o", "x", "--layout", "diffusers", NULL);
    if (!strstr(program_err(&p), "cannot say this architecture"))
        fail_msg("%s", program_err(&p));
    program_free(&p);
    assert_int_equal(program_entries("."), 1);
    spec.mid = spec.depth[1];
    sgm_save(&spec, false, "plain.safetensors");
    there_and_back("plain.safetensors");
}

static void made_there_and_back(const char *name)
{
    char model[DR_PATH_MAX];
    program_folder();
    made_model(name, "made", model, sizeof model);
    there_and_back(model);
}

static void sd1_there_and_back(void **state)
{
    (void)state;
    made_there_and_back("sd1_single");
}

/* v_prediction, and a text encoder with OpenCLIP's names. */
static void sd2_there_and_back(void **state)
{
    (void)state;
    made_there_and_back("sd2_single");
}

static void edm_there_and_back(void **state)
{
    (void)state;
    made_there_and_back("cosxl_single");
    made_there_and_back("playground_single");
}

/* A part written alone is the model's own; put into another model it makes that one's picture. */
static void parts(void **state)
{
    (void)state;
    static const char *const names[] = { "unet", "text_encoder", "vae" };
    static const char *const options[] = { "--unet", "--text-encoder", "--vae" };
    char model[DR_PATH_MAX];
    struct program p;
    program_folder();
    made_model("sd1_single", "made", model, sizeof model);
    draw(model, "own", NULL, NULL);
    for (size_t i = 0; i < 3; i++) {
        copy(model, names[i], names[i], NULL);
        draw(model,
             names[i][0] == 'u'   ? "by-unet"
             : names[i][0] == 't' ? "by-text"
                                  : "by-vae",
             options[i], names[i]);
    }
    expect_drawn("own", "by-unet");
    expect_drawn("own", "by-text");
    expect_drawn("own", "by-vae");
    /* another UNet, in a file of its own, becomes part of one file */
    assert_true(part_file("unet", "", "", 1, 0x10, "other") > 100);
    draw(model, "apart", "--unet", "other");
    program_run(&p, 0, "convert", model, "-o", "whole", "--layout", "single", "--unet", "other",
                NULL);
    program_free(&p);
    draw("whole", "together", NULL, NULL);
    expect_drawn("apart", "together");
    program_run(&p, 2, "convert", model, "-o", "x", "--type", "f16", "--unet", "other", NULL);
    assert_non_null(strstr(program_err(&p), "--layout"));
    program_free(&p);
}

static void types_and_refusals(void **state)
{
    (void)state;
    char model[DR_PATH_MAX];
    struct program p;
    program_folder();
    made_model("sd1_single", "made", model, sizeof model);
    must_fail("f32, f16 or bf16 for a diffusers folder", model, "diffusers", "--type", "q8_0");
    must_fail("a part that the model has", model, "text_encoder_2", "--type", "f16");
    must_fail("nothing beside --int8", model, "single", "--int8", NULL);
    program_run(&p, 0, "convert", model, "-o", "half", "--layout", "diffusers", "--type", "f16",
                NULL);
    assert_null(strstr(program_out(&p), "F32"));
    program_free(&p);
    program_run(&p, 2, "convert", model, "-o", "half", "--layout", "single", NULL);
    assert_non_null(strstr(program_err(&p), "does not exist yet"));
    program_free(&p);
    program_run(&p, 0, "convert", model, "-o", "q8", "--type", "q8_0", NULL);
    program_free(&p);
    must_fail("a type for the copy of quantised weights", "q8", "diffusers", "-q", NULL);
    /* a vocabulary of its own */
    program_run(&p, 1, "convert", "-o", "tiny", "--layout", "single", NULL);
    assert_non_null(strstr(program_err(&p), "a single file cannot say"));
    program_free(&p);
    assert_int_equal(program_entries("."), 3);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(sdxl_there_and_back),
    cmocka_unit_test(sd1_there_and_back),
    cmocka_unit_test(sd2_there_and_back),
    cmocka_unit_test(edm_there_and_back),
    cmocka_unit_test(parts),
    cmocka_unit_test(types_and_refusals),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
