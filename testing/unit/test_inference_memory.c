/* test_inference_memory.c - what is given back when a job is large, and when a job is refused. */
#include "testing/helpers/test.h"

#include <string.h>

#include "base/fs.h"
#include "inference/memory_optimizer.h"

enum { MB = 1 << 20 };

/* Weights of 100, 60 + 340 (one network's) and 50 MB, workspaces of 10, 20 and 30, 5 of everything
 * else. */
static struct memory_plan example(size_t limit)
{
    struct memory_plan p;
    memset(&p, 0, sizeof p);
    p.stage[STAGE_TEXT] = (struct stage_use){ .mapped = 100 * MB, .workspace = 10 * MB };
    p.stage[STAGE_CONTEXT] = (struct stage_use){ .mapped = 60 * MB, .workspace = MB };
    p.stage[STAGE_DENOISE] = (struct stage_use){ .mapped = 340 * MB, .workspace = 20 * MB };
    p.stage[STAGE_DECODE] = (struct stage_use){ .mapped = 50 * MB, .workspace = 30 * MB };
    p.tagged[DR_TAG_JOB] = 3 * MB;
    p.tagged[DR_TAG_ACTIVATION] = 30 * MB; /* in the stages already */
    p.baseline = 2 * MB;
    p.limit = limit;
    return p;
}

static void nothing_is_dropped_that_fits(void **state)
{
    (void)state;
    struct memory_plan p = example((size_t)4000 * MB);
    p.drop[STAGE_TEXT] = true; /* of an earlier decision */
    memory_decide(&p);
    for (int s = 0; s < STAGE_COUNT; s++)
        assert_false(p.drop[s]);
    assert_int_equal(p.peak, (5 + 100 + 400 + 50 + 30) * (size_t)MB);
}

static void weights_go_in_the_order_of_the_stages(void **state)
{
    (void)state;
    struct memory_plan p = example((size_t)1300 * MB); /* 585 MB are less than half of it */
    memory_decide(&p);
    assert_true(p.drop[STAGE_TEXT] && !p.drop[STAGE_DENOISE] && !p.drop[STAGE_DECODE]);

    p = example((size_t)2 * 500 * MB);
    memory_decide(&p);
    assert_true(p.drop[STAGE_TEXT]);
    assert_false(p.drop[STAGE_DENOISE]);
    assert_int_equal(p.peak, (5 + 400 + 50 + 30) * (size_t)MB);

    p = example((size_t)2 * 430 * MB);
    memory_decide(&p);
    assert_true(p.drop[STAGE_TEXT] && p.drop[STAGE_DENOISE]);
    assert_int_equal(p.peak, (5 + 400 + 20) * (size_t)MB);
}

static void pictures_count_when_they_are_touched(void **state)
{
    (void)state;
    struct memory_plan p = example((size_t)2 * 430 * MB);
    p.pictures = 2 * MB; /* of the job's three */
    memory_decide(&p);
    assert_int_equal(p.peak, (5 - 2 + 400 + 20) * (size_t)MB);
}

static void admits_up_to_the_limit(void **state)
{
    (void)state;
    struct dr_error err = { 0 };
    struct memory_plan p = example((size_t)425 * MB);
    memory_decide(&p);
    assert_int_equal(p.peak, p.limit);
    assert_int_equal(memory_admit(&p, &err), 0);
    p.limit--;
    assert_int_equal(memory_admit(&p, &err), DR_ENOMEM);
    assert_non_null(strstr(err.text, "needs 445.6 MB and 445.6 MB may"));
}

static void without_a_limit_the_machine_is_asked(void **state)
{
    (void)state;
    struct memory_plan p = example(0);
    memory_decide(&p);
    assert_true(p.limit > 0 && p.limit <= memory_available() * 2);
    assert_true(memory_resident() > 0 && memory_resident_peak() >= memory_resident() / 2);
}

/* Weights in private memory are in the peak: that they are allocated takes nothing from the limit.
 * These are not touched, so what is available stays as it is. */
static void what_is_held_counts_as_available(void **state)
{
    (void)state;
    struct memory_plan before = example(0), after = example(0);
    size_t half = memory_available() / 2, most = (size_t)2048 * MB;
    size_t bytes = half < most ? half : most;
    memory_decide(&before);
    void *weights = dr_malloc(DR_TAG_WEIGHTS, bytes);
    assert_non_null(weights);
    memory_decide(&after);
    dr_free(weights);
    assert_true(after.limit > before.limit + bytes / 2); /* 3/4, and others may take some */
}

static void write_to(const char *name, const char *text)
{
    char path[DR_PATH_MAX];
    assert_int_equal(dr_path_join(path, sizeof path, test_dir(), name), 0);
    assert_int_equal(dr_write_file(path, text, strlen(text), NULL), 0);
}

/* A checkpoint that was just read fills a container's memory with pages of files. */
static void pages_of_files_are_free(void **state)
{
    (void)state;
    assert_true(memory_left_in(test_dir()) == SIZE_MAX);
    write_to("memory.current", "900\n");
    write_to("memory.max", "max\n");
    assert_true(memory_left_in(test_dir()) == SIZE_MAX);
    write_to("memory.max", "1000\n");
    assert_int_equal(memory_left_in(test_dir()), 100);
    write_to("memory.stat", "anon 200\nfile 700\nfile_mapped 5\ninactive_anon 7\n"
                            "inactive_file 400\nactive_file 250\nunevictable 50\n");
    assert_int_equal(memory_left_in(test_dir()), 100 + 650);
    write_to("memory.current", "600\n"); /* read at another moment */
    assert_int_equal(memory_left_in(test_dir()), 1000);
    write_to("memory.stat", "anon 200\n");
    write_to("memory.max", "500\n");
    assert_int_equal(memory_left_in(test_dir()), 0);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_dropped_that_fits),
        cmocka_unit_test(weights_go_in_the_order_of_the_stages),
        cmocka_unit_test(pictures_count_when_they_are_touched),
        cmocka_unit_test(admits_up_to_the_limit),
        cmocka_unit_test(without_a_limit_the_machine_is_asked),
        cmocka_unit_test(what_is_held_counts_as_available),
        cmocka_unit_test(pages_of_files_are_free),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
