/* test_models_inspect_adapter.c - descriptions of LoRAs and of what their trainers wrote. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/utf8.h"
#include "models/inspect_model.h"
#include "testing/helpers/model_access.h"
#include "testing/helpers/safetensors_writer.h"
#include "testing/helpers/test.h"

static const char *path_of(const char *name)
{
    static char path[600];
    snprintf(path, sizeof path, "%s/%s.safetensors", test_dir(), name);
    return path;
}

/* The description of a file that is written; frees the writer. */
static json_t *describe(struct st_writer *w, bool values)
{
    struct dr_error err;
    struct digest_options digest = { .cache = "" };
    json_t *o;
    const char *path = path_of("adapter");
    st_writer_save(w, path);
    st_writer_free(w);
    if (inspect_model(path, values ? &digest : NULL, &o, &err))
        fail_msg("%s", err.text);
    unlink(path);
    return o;
}

static const json_t *at(const json_t *o, const char *first, const char *second)
{
    return json_object_get(json_object_get(o, first), second);
}

static void expect_text(const json_t *o, const char *key, const char *value)
{
    const char *got = json_string_value(at(o, "adapter", key));
    if (!got || strcmp(got, value))
        fail_msg("%s is '%s', expected '%s'", key, got ? got : "absent", value);
}

static void expect_number(const json_t *o, const char *key, double value)
{
    const json_t *got = at(o, "adapter", key);
    if (!json_is_number(got) || json_number_value(got) != value)
        fail_msg("%s is %g, expected %g", key, json_number_value(got), value);
}

static void add_pair(struct st_writer *w, const char *module, int64_t rank, int64_t out, int64_t in)
{
    char name[300], shape[60];
    snprintf(name, sizeof name, "%s.lora_down.weight", module);
    snprintf(shape, sizeof shape, "%lldx%lld", (long long)rank, (long long)in);
    st_writer_add_text(w, name, "F16", shape);
    snprintf(name, sizeof name, "%s.lora_up.weight", module);
    snprintf(shape, sizeof shape, "%lldx%lld", (long long)out, (long long)rank);
    st_writer_add_text(w, name, "F16", shape);
}

static void add_alpha(struct st_writer *w, const char *module, float alpha)
{
    char name[300];
    snprintf(name, sizeof name, "%s.alpha", module);
    st_writer_add(w, name, "F32", 0, NULL, &alpha);
}

#define SDXL_IN "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k"
#define SDXL_OUT "lora_unet_output_blocks_0_1_transformer_blocks_9_ff_net_2"
#define SD1_DOWN "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
#define SD1_TEXT "lora_te_text_model_encoder_layers_0_self_attn_q_proj"

static void sdxl_is_recognised(void **state)
{
    (void)state;
    uint64_t blocks = test_blocks();
    struct st_writer *w = st_writer_new();
    add_pair(w, SDXL_IN, 8, 640, 2048);
    add_alpha(w, SDXL_IN, 4);
    add_pair(w, SDXL_OUT, 16, 1280, 5120);
    add_alpha(w, SDXL_OUT, 4);
    add_pair(w, "lora_te2_text_model_encoder_layers_31_mlp_fc1", 8, 5120, 1280);
    add_pair(w, "lora_unet_input_blocks_99_1_proj_in", 8, 640, 640);
    json_t *o = describe(w, true);
    expect_text(o, "fits", "SDXL");
    expect_text(o, "does_not_fit", "Stable Diffusion 1.x, Stable Diffusion 2.x, the SDXL refiner");
    expect_number(o, "alpha", 4);
    expect_number(o, "tensors_used", 8);
    expect_number(o, "tensors_unused", 2);
    assert_null(at(o, "adapter", "problem"));
    assert_null(at(o, "adapter", "of_other_shape"));
    assert_int_equal(json_integer_value(json_object_get(at(o, "adapter", "ranks"), "8")), 2);
    assert_int_equal(json_integer_value(json_object_get(at(o, "adapter", "ranks"), "16")), 1);
    assert_int_equal(json_integer_value(json_object_get(at(o, "adapter", "kinds"), "LoRA")), 3);
    assert_int_equal(
        json_integer_value(json_object_get(at(o, "adapter", "layers"), "text_encoder_2")), 1);
    assert_string_equal(json_string_value(json_array_get(at(o, "adapter", "unused"), 0)),
                        "lora_unet_input_blocks_99_1_proj_in.lora_down.weight");
    assert_int_equal(json_array_size(at(o, "adapter", "spelling")), 2);
    json_decref(o);
    assert_int_equal(test_blocks(), blocks);
}

/* Names alone do not tell 1.x from 2.x, whose blocks have the same ones. */
static void widths_tell_families(void)
{
    struct st_writer *w = st_writer_new();
    add_pair(w, SD1_DOWN, 4, 320, 768);
    add_pair(w, SD1_TEXT, 4, 768, 768);
    json_t *o = describe(w, false);
    expect_text(o, "fits", "Stable Diffusion 1.x");
    expect_number(o, "rank", 4);
    assert_null(at(o, "adapter", "alpha"));
    json_decref(o);

    w = st_writer_new();
    add_pair(w, SD1_DOWN, 4, 320, 1024);
    add_pair(w, SD1_TEXT, 4, 1024, 1024);
    o = describe(w, false);
    expect_text(o, "fits", "Stable Diffusion 2.x");
    json_decref(o);

    w = st_writer_new();
    add_pair(w, SD1_DOWN, 4, 320, 999);
    o = describe(w, false);
    expect_text(o, "fits", "no family that is known here: layers of other widths");
    expect_number(o, "tensors_used", 2);
    json_decref(o);
}

/* One layer of another width among those that fit. */
static void other_shapes_are_counted(void)
{
    struct st_writer *w = st_writer_new();
    add_pair(w, SDXL_IN, 8, 640, 2048);
    add_pair(w, SDXL_OUT, 8, 1280, 5121);
    json_t *o = describe(w, false);
    expect_text(o, "fits", "SDXL");
    expect_number(o, "of_other_shape", 1);
    json_decref(o);
}

static void expect_problem(struct st_writer *w, const char *words)
{
    json_t *o = describe(w, true);
    const char *got = json_string_value(at(o, "adapter", "problem"));
    if (!got || !strstr(got, words))
        fail_msg("got '%s', expected '%s'", got ? got : "no problem", words);
    json_decref(o);
}

static void problems_are_named(void)
{
    struct st_writer *w = st_writer_new();
    float value = NAN;
    const int64_t up[] = { 1, 1 };
    st_writer_add_text(w, SDXL_IN ".lora_down.weight", "F16", "8x2048");
    expect_problem(w, "half of a change");

    w = st_writer_new();
    st_writer_add(w, SDXL_IN ".lora_up.weight", "F32", 2, up, &value);
    st_writer_add_text(w, SDXL_IN ".lora_down.weight", "F32", "1x2048");
    expect_problem(w, "not finite");

    w = st_writer_new();
    st_writer_add_text(w, "lora_unet_nowhere.lora_down.weight", "F16", "8x8");
    st_writer_add_text(w, "lora_unet_nowhere.lora_up.weight", "F16", "8x8");
    expect_problem(w, "nothing in the file fits");
}

/* One test, as each is run again for many allocations. */
static void files_are_judged(void **state)
{
    (void)state;
    widths_tell_families();
    other_shapes_are_counted();
    problems_are_named();
}

/* ---- training ---- */

/* The writer takes the inside of a JSON string. */
static void metadata(struct st_writer *w, const char *key, const char *value)
{
    size_t n = strlen(value);
    char *text = malloc(UTF8_SHOWN_MOST * n + 1);
    assert_non_null(text);
    utf8_show(value, n, UTF8_STRING, text);
    st_writer_metadata(w, key, text);
    free(text);
}

static struct st_writer *adapter(void)
{
    struct st_writer *w = st_writer_new();
    add_pair(w, SDXL_IN, 8, 640, 2048);
    return w;
}

static void training_is_read_from_its_keys(void **state)
{
    (void)state;
    struct st_writer *w = adapter();
    metadata(w, "ss_network_module", "networks.lora");
    metadata(w, "ss_sd_model_name", "None");
    metadata(w, "ss_base_model_version", "sdxl_base_v1-0");
    metadata(w, "ss_resolution", "(1024, 1024)");
    metadata(w, "ss_steps", "1600");
    metadata(w, "modelspec.trigger_phrase", "blue lantern");
    metadata(w, "ss_tag_frequency",
             "{\"10_a\": {\"lantern\": 7, \"night\": 2, \"x\": \"many\", \"y\": -3},"
             " \"2_b\": {\"night\": 9}, \"c\": 5}");
    json_t *o = describe(w, false);
    const struct {
        const char *key, *value;
    } expected[] = {
        { "trainer", "kohya sd-scripts (networks.lora)" },
        { "base_model", "sdxl_base_v1-0" },
        { "resolution", "(1024, 1024)" },
        { "steps", "1600" },
        { "trigger_phrase", "blue lantern" },
    };
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        const char *got = json_string_value(at(o, "training", expected[i].key));
        if (!got || strcmp(got, expected[i].value))
            fail_msg("%s: got %s", expected[i].key, got ? got : "nothing");
    }
    const json_t *words = at(o, "training", "trigger_words");
    assert_int_equal(json_array_size(words), 2);
    const json_t *first = json_array_get(words, 0);
    assert_string_equal(json_string_value(json_object_get(first, "word")), "night");
    assert_int_equal(json_integer_value(json_object_get(first, "count")), 11);
    json_decref(o);

    w = adapter();
    metadata(w, "ot_branch", "master");
    o = describe(w, false);
    assert_string_equal(json_string_value(at(o, "training", "trainer")), "OneTrainer");
    json_decref(o);
    o = describe(adapter(), false);
    assert_null(json_object_get(o, "training"));
    json_decref(o);
}

static void expect_note(const char *json, const char *words)
{
    struct st_writer *w = adapter();
    if (*json == ' ') /* long, and nothing to be escaped */
        st_writer_metadata(w, "ss_tag_frequency", json);
    else
        metadata(w, "ss_tag_frequency", json);
    json_t *o = describe(w, false);
    const char *got = json_string_value(json_array_get(at(o, "training", "notes"), 0));
    if (!got || !strstr(got, words))
        fail_msg("got '%s', expected '%s'", got ? got : "no note", words);
    assert_null(at(o, "training", "trigger_words"));
    json_decref(o);
}

static void hostile_metadata_are_bounded(void **state)
{
    (void)state;
    enum { LONG = (2 << 20) + 1, ENTRIES = 600 };
    expect_note("{\"a\": {\"b\": 1}", "ss_tag_frequency");
    expect_note("[1, 2]", "no JSON object");
    char *text = malloc(LONG + 1);
    assert_non_null(text);
    memset(text, ' ', LONG);
    text[LONG] = '\0';
    expect_note(text, "ss_tag_frequency");
    struct st_writer *w = adapter();
    memset(text, 'x', LONG);
    text[5000] = '\0';
    metadata(w, "ss_output_name", text);
    metadata(w, "modelspec.author", "a\x1b[31mred");
    for (int i = 0; i < ENTRIES; i++) {
        char key[20];
        snprintf(key, sizeof key, "key%d", i);
        metadata(w, key, "value");
    }
    free(text);
    json_t *o = describe(w, false);
    assert_true(json_string_length(at(o, "training", "title")) <= 403);
    assert_string_equal(json_string_value(at(o, "training", "author")), "a\x1b[31mred");
    assert_int_equal(json_object_size(json_object_get(o, "metadata")), 513);
    assert_int_equal(json_integer_value(at(o, "metadata", "(left out)")), ENTRIES + 2 - 512);
    json_decref(o);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(sdxl_is_recognised),
    cmocka_unit_test(files_are_judged),
    cmocka_unit_test(training_is_read_from_its_keys),
    cmocka_unit_test(hostile_metadata_are_bounded),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
