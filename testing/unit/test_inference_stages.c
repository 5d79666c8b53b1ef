/* test_inference_stages.c - stages written and read back; names, shapes and types checked. */
#include "testing/helpers/test.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/json.h"
#include "inference/stages.h"
#include "testing/helpers/base_files.h"

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
    assert_int_equal(stages_open(&dump, &err), 0);
    assert_int_equal(stage_dump(&dump, stage_name("pred", 2, name), NPY_F32, shape, 4, out, &err),
                     0);
    stages_close(&dump);
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
    assert_int_equal(stages_open(&dump, &err), 0);
    assert_int_equal(stage_dump(&dump, "image", NPY_F32, shape, 4, v, &err), 0);
    stages_close(&dump);
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

/* A file of this shape whose data are all hole. */
static void sparse(const char *path, int64_t n)
{
    char head[200];
    snprintf(head, sizeof head, "%-117s\n",
             "{'descr': '<f4', 'fortran_order': False, 'shape': (SIZE");
    char *at = strstr(head, "SIZE");
    int written = snprintf(at, 40, "%lld,), }", (long long)n);
    at[written] = ' ';
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite("\x93NUMPY\x01\x00\x76\x00", 1, 10, f), 10);
    assert_int_equal(fwrite(head, 1, 118, f), 118);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(truncate(path, 128 + 4 * (off_t)n), 0);
}

static void a_huge_file_of_another_shape_is_refused_by_its_header(void **state)
{
    (void)state;
    struct dr_error err;
    float v[24];
    char path[200];
    bool loaded;
    snprintf(path, sizeof path, "%s/huge.npy", test_dir());
    sparse(path, (int64_t)1 << 29);
    json_t *map = json_pack("{s:s}", "image", path);
    struct stages load = { .load = map };
    dr_alloc_reset_peak();
    size_t before = dr_alloc_stats_all().bytes;
    assert_int_equal(stage_probe(&load, "image", &err), 0);
    for (int read = 0; read < 2; read++) {
        assert_int_equal(
            stage_load(&load, "image", NPY_F32, shape, 4, read ? v : NULL, &loaded, &err),
            DR_EINVAL);
        assert_non_null(strstr(err.text, "float32 [536870912]"));
    }
    assert_true(dr_alloc_stats_all().peak < before + (64 << 10));
    json_decref(map);
    unlink(path);
}

static void only_the_header_is_looked_at_without_data(void **state)
{
    (void)state;
    struct dr_error err;
    float v[24] = { 0 };
    char path[200];
    bool loaded;
    snprintf(path, sizeof path, "%s/looked.npy", test_dir());
    assert_int_equal(npy_save(path, NPY_F32, shape, 4, v, &err), 0);
    json_t *map = json_pack("{s:s}", "image", path);
    struct stages load = { .load = map };
    assert_int_equal(stage_load(&load, "image", NPY_F32, shape, 4, NULL, &loaded, &err), 0);
    assert_false(loaded);
    json_decref(map);
}

static void write_one(const char *path)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fclose(f), 0);
}

static void stages_of_an_earlier_run_are_in_the_way(void **state)
{
    (void)state;
    struct dr_error err;
    float v[24] = { 0 };
    char folder[200], path[300];
    snprintf(folder, sizeof folder, "%s/dump", test_dir());
    struct stages dump = { .dump = folder };
    assert_int_equal(stages_check(&dump, 3, &err), 0);
    assert_int_equal(access(folder, F_OK), -1); /* looking makes nothing */
    assert_int_equal(stages_open(&dump, &err), 0);
    /* names that no stage has are no obstacle */
    static const char *const others[] = { "notes.txt",  "my_pred_000.npy", "pred_1.npy", "npy",
                                          "images.npy", "image.npy.bak",   ".npy" };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, others[i]);
        write_one(path);
    }
    stages_close(&dump);
    assert_int_equal(stages_check(&dump, 3, &err), 0);
    assert_int_equal(stages_open(&dump, &err), 0);
    assert_int_equal(stages_check(&dump, 3, &err), 0);
    assert_int_equal(stage_dump(&dump, "image", NPY_F32, shape, 4, v, &err), 0);
    assert_int_equal(stage_dump(&dump, "image", NPY_F32, shape, 4, v, &err), DR_EINVAL);
    assert_non_null(strstr(err.text, "image.npy: exists already"));
    stages_close(&dump);
    assert_int_equal(stages_check(&dump, 3, &err), DR_EINVAL);
    assert_string_equal(err.path, "dump_stages");
    assert_non_null(strstr(err.text, "image.npy"));
    snprintf(path, sizeof path, "%s/image.npy", folder);
    assert_int_equal(unlink(path), 0);
    snprintf(path, sizeof path, "%s/pred_017.npy", folder); /* past this run's evaluations */
    write_one(path);
    assert_int_equal(stages_check(&dump, 3, &err), DR_EINVAL);
}

static void files_lie_in_the_roots(void **state)
{
    (void)state;
    struct dr_error err;
    struct roots roots = { .n = 0 };
    float v[24] = { 0 };
    char root[200], path[300], dump_path[300];
    bool loaded;
    snprintf(root, sizeof root, "%s/root", test_dir());
    snprintf(path, sizeof path, "%s/outside.npy", test_dir());
    snprintf(dump_path, sizeof dump_path, "%s/new/deep", root);
    assert_int_equal(mkdir(root, 0777), 0);
    assert_int_equal(npy_save(path, NPY_F32, shape, 4, v, &err), 0);
    assert_int_equal(roots_add(&roots, root, &err), 0);
    json_t *map = json_pack("{s:s,s:s}", "image", path, "pooled", "root/link.npy");
    struct stages s = { .load = map, .dump = dump_path, .roots = &roots };
    assert_int_equal(chdir(test_dir()) | symlink("../outside.npy", "root/link.npy"), 0);
    assert_int_equal(stage_load(&s, "image", NPY_F32, shape, 4, v, &loaded, &err), DR_EINVAL);
    assert_string_equal(err.path, "load_stage");
    assert_int_equal(stage_load(&s, "pooled", NPY_F32, shape, 4, v, &loaded, &err), DR_EINVAL);
    assert_int_equal(stages_open(&s, &err), 0);
    /* the folder that was opened is the one that is written into, whatever has its name now */
    assert_int_equal(rename("root/new", "root/moved") | symlink("..", "root/new"), 0);
    assert_int_equal(stage_dump(&s, "image", NPY_F32, shape, 4, v, &err), 0);
    assert_int_equal(access("root/moved/deep/image.npy", F_OK), 0);
    stages_close(&s);
    assert_int_equal(stages_open(&s, &err), DR_EINVAL);
    stages_close(&s);
    json_decref(map);
    roots_free(&roots);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(write_then_replace),
        cmocka_unit_test(another_shape_or_type_is_an_error_that_says_both),
        cmocka_unit_test(names_that_are_no_stage),
        cmocka_unit_test(a_missing_file_is_named),
        cmocka_unit_test(a_huge_file_of_another_shape_is_refused_by_its_header),
        cmocka_unit_test(only_the_header_is_looked_at_without_data),
        cmocka_unit_test(stages_of_an_earlier_run_are_in_the_way),
        cmocka_unit_test(files_lie_in_the_roots),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
