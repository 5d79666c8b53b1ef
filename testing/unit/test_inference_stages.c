/* test_inference_stages.c - stages written and read back; names, shapes and types checked. */
#include "testing/helpers/test.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "inference/stages.h"

static const int64_t shape[4] = { 1, 4, 2, 3 };

static void write_then_replace(void **state)
{
    (void)state;
    struct dr_error err;
    float out[24], in[24] = { 0 };
    char path[200], name[32];
    bool loaded;
    for (int i = 0; i < 24; i++)
        out[i] = (float)i / 7;
    struct stages dump = { .dump = test_dir() };
    assert_int_equal(stages_check(&dump, 3, &err), 0);
    assert_int_equal(stage_dump(&dump, stage_name("pred", 2, name), NPY_F32, shape, 4, out, &err),
                     0);
    snprintf(path, sizeof path, "%s/pred_002.npy", test_dir());
    json_t *map = json_pack("{s:s}", "pred_002", path);
    struct stages load = { .load = map };
    assert_int_equal(stages_check(&load, 3, &err), 0);
    assert_true(stage_loads(&load, "pred_002"));
    assert_int_equal(stage_load(&load, "pred_002", NPY_F32, shape, 4, in, &loaded, &err), 0);
    assert_true(loaded);
    assert_memory_equal(in, out, sizeof in);
    assert_int_equal(stage_load(&load, "pred_001", NPY_F32, shape, 4, in, &loaded, &err), 0);
    assert_false(loaded);
    json_decref(map);
}

static void another_shape_or_type_is_an_error_that_says_both(void **state)
{
    (void)state;
    struct dr_error err;
    float v[24] = { 0 };
    double w[24] = { 0 };
    const int64_t other[4] = { 1, 4, 3, 2 };
    char path[200];
    bool loaded;
    struct stages dump = { .dump = test_dir() };
    assert_int_equal(stage_dump(&dump, "image", NPY_F32, shape, 4, v, &err), 0);
    snprintf(path, sizeof path, "%s/image.npy", test_dir());
    json_t *map = json_pack("{s:s}", "image", path);
    struct stages load = { .load = map };
    assert_int_equal(stage_load(&load, "image", NPY_F32, other, 4, v, &loaded, &err), DR_EINVAL);
    assert_non_null(strstr(err.text, "float32 [1, 4, 2, 3]"));
    assert_non_null(strstr(err.text, "[1, 4, 3, 2]"));
    assert_int_equal(stage_load(&load, "image", NPY_F64, shape, 4, w, &loaded, &err), DR_EINVAL);
    assert_non_null(strstr(err.text, "float64"));
    json_decref(map);
}

static void refused(const char *name, int evaluations, const char *words)
{
    struct dr_error err;
    json_t *map = json_pack("{s:s}", name, "x.npy");
    struct stages load = { .load = map };
    assert_int_equal(stages_check(&load, evaluations, &err), DR_EINVAL);
    if (!strstr(err.text, words))
        fail_msg("\"%s\" does not say \"%s\"", err.text, words);
    json_decref(map);
}

static void names_that_are_no_stage(void **state)
{
    (void)state;
    refused("latent_init", 3, "latents_init");
    refused("pred_003", 3, "002");
    refused("pred_1", 3, "pred_");
    refused("", 3, "tokens");
    refused("model_input_000000000000000000000", 3, "tokens");
}

static void a_missing_file_is_named(void **state)
{
    (void)state;
    struct dr_error err;
    float v[24];
    bool loaded;
    json_t *map = json_pack("{s:s}", "image", "/nonexistent/picture.npy");
    struct stages load = { .load = map };
    assert_int_equal(stage_load(&load, "image", NPY_F32, shape, 4, v, &loaded, &err), DR_ENOENT);
    assert_non_null(strstr(err.text, "/nonexistent/picture.npy"));
    json_decref(map);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(write_then_replace),
        cmocka_unit_test(another_shape_or_type_is_an_error_that_says_both),
        cmocka_unit_test(names_that_are_no_stage),
        cmocka_unit_test(a_missing_file_is_named),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
