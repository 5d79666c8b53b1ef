/* test_convert.c - `darkroom convert` between types and containers: what is drawn from a copy, what
 * comes back, what is refused. (--int8: test_int8.c.) */
#include "testing/helpers/program.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "testing/helpers/sgm_maker.h"

/* The smallest checkpoint in one file, with a row for each token that there is. */
static void begin(void)
{
    struct sgm_spec spec = sgm_tiny;
    program_folder();
    spec.vocab = 49408;
    spec.clip_l.layers = spec.clip_g.layers = 2; /* the last is skipped */
    sgm_save(&spec, false, "plain.safetensors");
}

static void convert(const char *from, const char *to, const char *type)
{
    struct program p;
    program_run(&p, 0, "convert", from, "-o", to, "-q", "--type", type, NULL);
    program_free(&p);
}

static void must_fail(int status, const char *words, const char *from, const char *to,
                      const char *type)
{
    struct program p;
    program_run(&p, status, "convert", from, "-o", to, "--type", type, NULL);
    if (!strstr(program_err(&p), words))
        fail_msg("%s: %s", from, program_err(&p));
    program_free(&p);
    assert_int_equal(access(to, F_OK), strcmp(to, "plain.safetensors") ? -1 : 0);
}

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

static void draw(const char *model, const char *stages)
{
    struct program p;
    char picture[40];
    snprintf(picture, sizeof picture, "%s.png", stages);
    program_run(&p, 0, "generate", "-p", "a red circle", "-m", model, "-s", "7", "--steps", "2",
                "-W", "64", "-H", "64", "--cfg", "3", "--precision", "f32", "-q", "--dump-stages",
                stages, "-o", picture, NULL);
    program_free(&p);
}

/* A file of quantised numbers draws, to the bit, what these numbers draw as float32. */
static void expect_same_picture(const char *type, const char *copy)
{
    char quantised[40], values[40], a[80], b[80];
    snprintf(quantised, sizeof quantised, "%s.model", type);
    snprintf(values, sizeof values, "%s.safetensors", type);
    convert("plain.safetensors", quantised, type);
    convert(quantised, values, "f32");
    draw(quantised, copy);
    snprintf(a, sizeof a, "%s-f32", copy);
    draw(values, a);
    static const char *const stages[] = { "prompt_embeds", "pooled", "latents_001", "image" };
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) {
        snprintf(a, sizeof a, "%s/%s.npy", copy, stages[i]);
        snprintf(b, sizeof b, "%s-f32/%s.npy", copy, stages[i]);
        if (!same_files(a, b))
            fail_msg("%s: %s differs", type, stages[i]);
    }
}

static void copies_draw_what_their_numbers_say(void **state)
{
    (void)state;
    struct program p;
    begin();
    expect_same_picture("q8_0", "a");
    expect_same_picture("q4_k", "b");
    expect_same_picture("f8_e4m3", "c");
    assert_false(same_files("a/image.npy", "b/image.npy"));
    assert_false(same_files("a/image.npy", "c/image.npy"));
    program_run(&p, 0, "inspect", "--json", "q4_k.model", NULL);
    json_t *o = program_json(&p);
    const json_t *unet = json_object_get(json_object_get(o, "parts"), "unet");
    assert_true(json_integer_value(json_object_get(json_object_get(unet, "dtypes"), "Q8_0")) > 10);
    json_decref(o);
    program_free(&p);
}

static void there_and_back(void **state)
{
    (void)state;
    begin();
    convert("plain.safetensors", "f16", "f16");
    convert("f16", "f32", "f32");
    convert("f32", "back", "f16");
    assert_true(same_files("f16", "back"));
    convert("f16", "e5m2", "f8_e5m2");
    convert("e5m2", "wide", "f16");
    convert("wide", "again", "f8_e5m2");
    convert("again", "wide2", "f16");
    assert_true(same_files("wide", "wide2"));
    convert("f16", "q8_0", "q8_0");
    convert("q8_0", "q8_0-2", "q8_0");
    assert_true(same_files("q8_0", "q8_0-2"));
}

static void pickles_are_read_and_not_run(void **state)
{
    (void)state;
    struct program p;
    program_folder();
    const char *plain = test_source("testing/golden/torch/plain.pt");
    program_run(&p, 0, "convert", plain, "-o", "a.safetensors", NULL);
    assert_non_null(strstr(program_out(&p), "16 tensors: 7 F32 1 F16 1 BF16"));
    program_free(&p);
    program_run(&p, 0, "convert", "-m", test_source("testing/golden/torch/nested.ckpt"), "-o",
                "b.safetensors", "--json", NULL);
    json_t *o = program_json(&p);
    assert_int_equal(json_integer_value(json_object_get(o, "left_out")), 0);
    json_decref(o);
    program_free(&p);
    assert_true(same_files("a.safetensors", "b.safetensors"));
    must_fail(1, "asks for '__builtin__.print', which is never run",
              test_source("testing/golden/torch/calls.pt"), "c", "f16");
    program_run(&p, 1, "generate", "-p", "x", "-m", plain, NULL);
    assert_non_null(strstr(program_err(&p), "`darkroom convert FILE -o NAME.safetensors`"));
    program_free(&p);
}

/* A type without NaN and infinity would make other numbers of them. */
static void what_is_no_number(void **state)
{
    (void)state;
    float values[2][256] = { { NAN }, { 0 } };
    const int64_t shape[] = { 2, 256 };
    program_folder();
    for (int i = 0; i < 2; i++) {
        struct st_writer *w = st_writer_new();
        st_writer_add(w, "x.weight", "F32", 2, shape, values);
        st_writer_save(w, i ? "inf.safetensors" : "nan.safetensors");
        values[0][0] = INFINITY;
    }
    must_fail(1, "x.weight", "nan.safetensors", "a", "q8_0");
    must_fail(1, "x.weight", "nan.safetensors", "a", "q4_k");
    must_fail(1, "x.weight", "inf.safetensors", "a", "q8_0");
    must_fail(1, "x.weight", "inf.safetensors", "a", "f8_e4m3");
    convert("nan.safetensors", "half", "f16");
}

static void refusals(void **state)
{
    (void)state;
    struct program p;
    begin();
    must_fail(1, "no such file", "nowhere", "x", "f16");
    must_fail(2, "does not exist yet", "plain.safetensors", "plain.safetensors", "f16");
    must_fail(2, "a single file", test_source("share/models/tiny"), "x", "f16");
    must_fail(2, "--type: got q9", "plain.safetensors", "x", "q9");
    program_run(&p, 2, "convert", "plain.safetensors", "-o", "x", "--int8", "--type", "f16", NULL);
    assert_non_null(strstr(program_err(&p), "nothing beside --int8"));
    program_free(&p);
    convert("plain.safetensors", "q", "q8_0");
    program_run(&p, 2, "convert", "q", "-o", "x", NULL);
    assert_non_null(strstr(program_err(&p), "a type for the copy of a GGUF file"));
    program_free(&p);
    assert_int_equal(program_entries("."), 2);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(copies_draw_what_their_numbers_say),
    cmocka_unit_test(there_and_back),
    cmocka_unit_test(pickles_are_read_and_not_run),
    cmocka_unit_test(what_is_no_number),
    cmocka_unit_test(refusals),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
