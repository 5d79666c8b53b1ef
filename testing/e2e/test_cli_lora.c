/* test_cli_lora.c - `darkroom lora`: which there are, and copies of models with LoRAs in them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "testing/helpers/base_files.h"
#include "testing/helpers/program.h"
#include "testing/helpers/safetensors_writer.h"
#include "testing/helpers/sgm_maker.h"

static bool same_files(const char *a, const char *b)
{
    struct buf x, y;
    buf_init(&x, DR_TAG_TEST, 0);
    buf_init(&y, DR_TAG_TEST, 0);
    assert_int_equal(dr_read_file(a, 1 << 28, &x, NULL), 0);
    assert_int_equal(dr_read_file(b, 1 << 28, &y, NULL), 0);
    bool same = x.len == y.len && x.len && !memcmp(x.data, y.data, x.len);
    buf_free(&x);
    buf_free(&y);
    return same;
}

/* With one LoRA or none. */
static void draw(const char *model, const char *lora, const char *stages)
{
    struct program p;
    const char *argv[] = { "generate",
                           "-p",
                           "a red circle",
                           "-m",
                           model,
                           "-s",
                           "7",
                           "--steps",
                           "2",
                           "-W",
                           "64",
                           "-H",
                           "48",
                           "--cfg",
                           "3",
                           "-q",
                           "--precision",
                           "f32",

                           "-o",
                           "picture.png",
                           "--dump-stages",
                           stages,
                           lora ? "--lora" : NULL,
                           lora,
                           NULL };
    program_start(&p, argv);
    program_finish(&p);
    if (p.status)
        fail_msg("%s: %s", model, program_err(&p));
    program_free(&p);
    unlink("picture.png");
}

/* All that a picture is made of is the same, to the bit: float32 rounds once. */
static void expect_same(const char *a, const char *b, bool same)
{
    static const char *const stages[] = { "prompt_embeds", "pooled", "latents_001", "image" };
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) {
        char x[80], y[80];
        snprintf(x, sizeof x, "%s/%s.npy", a, stages[i]);
        snprintf(y, sizeof y, "%s/%s.npy", b, stages[i]);
        if (same_files(x, y) != same)
            fail_msg("%s of %s and %s", stages[i], a, b);
    }
}

static const char *golden(const char *name)
{
    static char path[600];
    snprintf(path, sizeof path, "testing/golden/lora/%s.safetensors", name);
    return test_source(path);
}

static void refuse(const char *words, const char *const *argv)
{
    struct program p;
    program_start(&p, argv);
    program_finish(&p);
    if ((p.status != 1 && p.status != 2) || !strstr(program_err(&p), words))
        fail_msg("status %d: %s", p.status, program_err(&p));
    program_free(&p);
}

#define REFUSE(words, ...) refuse(words, (const char *const[]){ __VA_ARGS__, NULL })

/* Every kind of change, DoRA among them, which no sum of matrices is. */
static void a_folder_draws_what_its_loras_draw(void **state)
{
    (void)state;
    static const char *const kinds[] = { "kohya", "dora" };
    struct program p;
    program_folder();
    draw(program_model(), NULL, "base");
    for (int i = 0; i < 2; i++) {
        char spec[700], copy[40], stages[40];
        snprintf(spec, sizeof spec, "%s,strength=0.75", golden(kinds[i]));
        snprintf(copy, sizeof copy, "%s-copy", kinds[i]);
        draw(program_model(), spec, kinds[i]);
        program_run(&p, 0, "lora", "merge", spec, "-m", program_model(), "-o", copy, "-q", NULL);
        program_free(&p);
        snprintf(stages, sizeof stages, "%s-stages", copy);
        draw(copy, NULL, stages);
        if (i)
            assert_true(!same_files("dora/image.npy", "base/image.npy"));
        else
            expect_same("base", stages, false);
        expect_same(kinds[i], stages, true);
    }
    REFUSE("expected a path that does not exist yet", "lora", "merge", golden("kohya"), "-m",
           program_model(), "-o", "dora-copy");
    assert_int_equal(program_entries("."), 7);
}

#define TEXT2 "lora_te2_text_model_encoder_layers_0_self_attn_"

static void add_pair(struct st_writer *w, const char *module, const char *up, const char *down)
{
    char name[200];
    snprintf(name, sizeof name, "%s.lora_up.weight", module);
    st_writer_add_text(w, name, "F32", up);
    snprintf(name, sizeof name, "%s.lora_down.weight", module);
    st_writer_add_text(w, name, "F32", down);
}

/* Its second encoder has one tensor for three products, and a projection that lies transposed. */
static void a_single_file_does_too(void **state)
{
    (void)state;
    struct sgm_spec spec = sgm_tiny;
    struct program p;
    struct st_writer *w = st_writer_new();
    program_folder();
    spec.dtype = "F32";
    spec.vocab = 49408;
    spec.clip_l.layers = spec.clip_g.layers = 2; /* the last is skipped */
    sgm_save(&spec, false, "base.safetensors");
    add_pair(w, TEXT2 "k_proj", "64x2", "2x64");
    add_pair(w, TEXT2 "v_proj", "64x2", "2x64");
    add_pair(w, "lora_te2_text_projection", "64x2", "2x64");
    add_pair(w, "lora_unet_input_blocks_0_0", "64x2x1x1", "2x4x3x3");
    st_writer_save(w, "lora.safetensors");
    st_writer_free(w);
    draw("base.safetensors", "lora.safetensors,strength=3,text_strength=40", "with");
    draw("base.safetensors", NULL, "without");
    expect_same("with", "without", false);
    program_run(&p, 0, "lora", "merge", "lora.safetensors,strength=3,text_strength=40", "-m",
                "base.safetensors", "-o", "copy.safetensors", "-q", NULL);
    program_free(&p);
    draw("copy.safetensors", NULL, "merged");
    expect_same("with", "merged", true);
    /* a LoRA of strength 0 is a mistake, and a copy of another type rounds once */
    REFUSE("nothing would change", "lora", "merge", "lora.safetensors,strength=0", "-m",
           "base.safetensors", "-o", "none.safetensors");
    REFUSE("start: got 0.5, expected 0", "lora", "merge", "lora.safetensors,start=0.5", "-m",
           "base.safetensors", "-o", "none.safetensors");
    program_run(&p, 0, "convert", "base.safetensors", "-o", "q.gguf", "--type", "q8_0", "-q", NULL);
    program_free(&p);
    REFUSE("can be merged into F32, F16 and BF16 only", "lora", "merge", "lora.safetensors", "-m",
           "q.gguf", "-o", "none.safetensors");
    assert_int_equal(access("none.safetensors", F_OK), -1);
}

/* Relative distance of two arrays of float32. */
static double apart(const char *a, const char *b)
{
    struct npy x, y;
    double square = 0, size = 0;
    assert_int_equal(npy_load(a, &x, NULL) | npy_load(b, &y, NULL), 0);
    assert_int_equal(x.count, y.count);
    for (int64_t i = 0; i < x.count; i++) {
        double p = ((float *)x.data)[i], q = ((float *)y.data)[i];
        square += (p - q) * (p - q);
        size += p * p;
    }
    npy_free(&x);
    npy_free(&y);
    return sqrt(square / size);
}

/* What was merged comes out again: ranks are 2 and 3, and more finds no more. */
static void a_lora_comes_back_out_of_a_model(void **state)
{
    (void)state;
    struct program p;
    char spec[700];
    program_folder();
    snprintf(spec, sizeof spec, "%s,strength=0.75", golden("kohya"));
    program_run(&p, 0, "lora", "merge", spec, "-m", program_model(), "-o", "tuned", "-q", NULL);
    program_free(&p);
    program_run(&p, 0, "lora", "extract", program_model(), "tuned", "--rank", "4", "-o",
                "all.safetensors", "--json", NULL);
    json_t *o = program_json(&p);
    assert_true(json_number_value(json_object_get(o, "energy")) > 1 - 1e-9);
    assert_int_equal(json_integer_value(json_object_get(o, "layers")), 12);
    assert_int_equal(json_integer_value(json_object_get(o, "vectors")), 0);
    json_decref(o);
    program_free(&p);
    draw("tuned", NULL, "tuned-stages");
    draw(program_model(), "all.safetensors", "all");
    assert_true(apart("tuned-stages/latents_001.npy", "all/latents_001.npy") < 1e-5);
    /* fewer singular values hold less */
    program_run(&p, 0, "lora", "extract", program_model(), "tuned", "--energy", "0.5", "--names",
                "diffusers", "-o", "half.safetensors", "--json", NULL);
    o = program_json(&p);
    double energy = json_number_value(json_object_get(o, "energy"));
    assert_true(energy >= 0.5 && energy < 0.999);
    json_decref(o);
    program_free(&p);
    draw(program_model(), "half.safetensors", "half");
    assert_true(apart("tuned-stages/latents_001.npy", "half/latents_001.npy") > 1e-4);
    REFUSE("a model that differs from the base", "lora", "extract", program_model(),
           program_model(), "--rank", "2", "-o", "none.safetensors");
    REFUSE("the layers of the base", "lora", "extract", program_model(), "", "--rank", "2", "-o",
           "none.safetensors");
    REFUSE("--rank, --energy or both", "lora", "extract", "a", "b", "-o", "none.safetensors");
    assert_int_equal(access("none.safetensors", F_OK), -1);
}

static void mistakes_are_named(void **state)
{
    (void)state;
    program_folder();
    REFUSE("lora: got paint, expected one of list, inspect, merge, extract, convert", "lora",
           "paint");
    REFUSE("one LoRA or more", "lora", "merge", "-o", "x");
    REFUSE("a path for the result", "lora", "merge", golden("kohya"));
    REFUSE("nothing in the file fits", "lora", "merge",
           test_source("testing/golden/embeddings/bad-hand.safetensors"), "-m", program_model(),
           "-o", "x");
    REFUSE("--names: got nothing", "lora", "convert", golden("kohya"), "-o", "x");
    REFUSE("--rank: got 0, expected 1 to 4096", "lora", "merge", golden("kohya"), "--rank", "0",
           "-o", "x");
    REFUSE("layers of other widths", "lora", "merge", golden("kohya"), "-o", "x");
    REFUSE("nothing beside it", "lora", "list", "all");
    assert_int_equal(program_entries("."), 0);
}

static void the_list_has_what_can_be_used(void **state)
{
    (void)state;
    struct program p;
    struct st_writer *w = st_writer_new();
    program_folder();
    test_make_dirs("mine");
    add_pair(w, "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k", "640x8",
             "8x2048");
    st_writer_metadata(w, "modelspec.trigger_phrase", "blue lantern");
    st_writer_save(w, "mine/lamp.safetensors");
    st_writer_free(w);
    test_write_text("mine/broken.safetensors", "no tensors");
    assert_int_equal(setenv("DARKROOM_LORAS", "mine", 1), 0);
    program_run(&p, 0, "lora", "list", NULL);
    assert_non_null(
        strstr(program_out(&p), "LoRA 1; rank 8; for SDXL\n    phrase: blue lantern\n"));
    assert_non_null(strstr(program_out(&p), "broken\n"));
    assert_non_null(strstr(program_out(&p), "cannot be used: "));
    program_free(&p);
    unsetenv("DARKROOM_LORAS");
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_folder_draws_what_its_loras_draw), cmocka_unit_test(a_single_file_does_too),
    cmocka_unit_test(a_lora_comes_back_out_of_a_model),   cmocka_unit_test(mistakes_are_named),
    cmocka_unit_test(the_list_has_what_can_be_used),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
