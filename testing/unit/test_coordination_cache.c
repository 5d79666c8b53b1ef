/* test_coordination_cache.c - the verb `cache`: what is kept, used last first, and what goes. */
#include "testing/helpers/test.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "backend/cache/pack.h"
#include "base/fs.h"
#include "coordination/engine.h"

enum { PACKS = 3, BYTES = 64 };

static const char *const sets[PACKS] = { "avx512_bf16", "avx2", "amx_int8" };

static struct engine engine;

/* Packs that were used at 1000, 2000 and 3000 s, and a file that is only called like one. */
static void fill(void)
{
    static const struct pack_spec spec = {
        .key = "model a\nkernels b\n", .blobs = 1, .bytes = BYTES, .largest = BYTES
    };
    static int turn;
    char folder[DR_PATH_MAX], path[DR_PATH_MAX], name[100];
    snprintf(folder, sizeof folder, "%s/st\xff%d", test_dir(), turn++);
    assert_int_equal(dr_mkdirs(folder, NULL), 0);
    assert_int_equal(pack_store_init(&engine.store, folder, 1 << 20, NULL), 0);
    for (int i = 0; i < PACKS; i++) {
        struct pack *p;
        const void *blob;
        struct timespec used[2] = { { 0, UTIME_OMIT }, { 1000 * (i + 1), 0 } };
        snprintf(name, sizeof name, "0123456789abcde%d-%s-7-fedcba9876543210", i, sets[i]);
        assert_int_equal(pack_store_path(&engine.store, name, path, sizeof path, NULL), 0);
        assert_int_equal(pack_create(path, &spec, &p, NULL), 0);
        memset(pack_stage(p), i, BYTES);
        assert_int_equal(pack_add(p, "unet/conv_in", BYTES, &blob, NULL), 0);
        assert_int_equal(pack_finish(p, NULL), 0);
        pack_close(p);
        assert_int_equal(utimensat(AT_FDCWD, path, used, 0), 0);
    }
    snprintf(name, sizeof name, "ffffffffffffffff-avx2-7-fedcba9876543210");
    assert_int_equal(pack_store_path(&engine.store, name, path, sizeof path, NULL), 0);
    assert_int_equal(dr_write_file(path, "a diary", 7, NULL), 0);
}

static int ask(json_t *data, json_t **ret, struct dr_error *err)
{
    const atomic_int stop = 0;
    struct worker_job job = { .data = data, .stop = &stop };
    int r = engine_cache(&engine, &job, ret, err);
    json_decref(data);
    return r;
}

/* The kernel sets of the answer's packs, those that were removed in brackets. */
static void must_be(json_t *data, const char *expected)
{
    char text[200] = "";
    json_t *answer, *pack;
    size_t i;
    struct dr_error err = { 0 };
    if (ask(data, &answer, &err))
        fail_msg("%s", err.text);
    json_array_foreach(json_object_get(answer, "packs"), i, pack)
    {
        bool removed = json_is_true(json_object_get(pack, "removed"));
        size_t n = strlen(text);
        snprintf(text + n, sizeof text - n, removed ? "[%s] " : "%s ",
                 json_string_value(json_object_get(pack, "kernels")));
        assert_memory_equal(json_string_value(json_object_get(pack, "path")), "file:///", 8);
    }
    assert_string_equal(text, expected);
    json_decref(answer);
}

static void packs_are_listed_used_last_first(void **state)
{
    (void)state;
    json_t *answer;
    fill();
    must_be(json_object(), "amx_int8 avx2 avx512_bf16 ");
    assert_int_equal(ask(json_object(), &answer, NULL), 0);
    const json_t *first = json_array_get(json_object_get(answer, "packs"), 0);
    assert_string_equal(json_string_value(json_object_get(first, "model")), "0123456789abcde2");
    assert_string_equal(json_string_value(json_object_get(first, "last_used")),
                        "1970-01-01T00:50:00Z");
    json_int_t one = json_integer_value(json_object_get(first, "bytes"));
    assert_true(one > BYTES);
    assert_true(json_integer_value(json_object_get(answer, "bytes")) == PACKS * one);
    json_decref(answer);
}

static void pruning_takes_the_oldest(void **state)
{
    (void)state;
    json_t *answer;
    fill();
    assert_int_equal(ask(json_object(), &answer, NULL), 0);
    json_int_t all = json_integer_value(json_object_get(answer, "bytes"));
    json_decref(answer);
    must_be(json_pack("{s:I}", "keep_bytes", all), "amx_int8 avx2 avx512_bf16 ");
    must_be(json_pack("{s:I}", "keep_bytes", all - 1), "amx_int8 avx2 [avx512_bf16] ");
    must_be(json_object(), "amx_int8 avx2 ");
    must_be(json_pack("{s:I}", "keep_bytes", (json_int_t)1), "[amx_int8] [avx2] ");
    must_be(json_object(), "");
}

/* Whatever is no pack stays, also where everything is to go. */
static void clearing_leaves_other_files(void **state)
{
    (void)state;
    char path[DR_PATH_MAX];
    fill();
    must_be(json_pack("{s:i}", "keep_bytes", 0), "[amx_int8] [avx2] [avx512_bf16] ");
    assert_int_equal(pack_store_path(&engine.store, "ffffffffffffffff-avx2-7-fedcba9876543210",
                                     path, sizeof path, NULL),
                     0);
    assert_true(dr_is_file(path));
}

static void bad_requests_are_refused(void **state)
{
    (void)state;
    json_t *answer;
    struct dr_error err = { 0 };
    fill();
    assert_int_equal(ask(json_pack("{s:i}", "keep_bytes", -1), &answer, &err), DR_EINVAL);
    assert_int_equal(ask(json_pack("{s:s}", "keep_bytes", "1G"), &answer, &err), DR_EINVAL);
    assert_int_equal(ask(json_pack("{s:i}", "keep_byte", 1), &answer, &err), DR_EINVAL);
    assert_non_null(strstr(err.text, "keep_byte: unknown field (nearest: keep_bytes)"));
    must_be(json_object(), "amx_int8 avx2 avx512_bf16 ");
    snprintf(engine.store.folder, sizeof engine.store.folder, "/no/such/folder");
    assert_int_equal(ask(json_object(), &answer, &err), 0);
    json_decref(answer);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(packs_are_listed_used_last_first),
    cmocka_unit_test(pruning_takes_the_oldest),
    cmocka_unit_test(clearing_leaves_other_files),
    cmocka_unit_test(bad_requests_are_refused),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
