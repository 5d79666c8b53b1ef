/* test_coordination_speed.c - how long a job takes, told from the speed of earlier ones. */
#include "testing/helpers/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/device.h"
#include "base/fs.h"
#include "coordination/speed.h"

static struct backend *open_backend(int threads)
{
    struct backend_options options = { .kernels = "scalar", .threads = threads };
    struct backend *be;
    struct dr_error err = { 0 };
    if (backend_open(&options, &be, &err))
        fail_msg("%s", err.text);
    return be;
}

static const char *file(void)
{
    static char path[300];
    setenv("XDG_CACHE_HOME", test_dir(), 1);
    snprintf(path, sizeof path, "%s/darkroom/speed", test_dir());
    (void)remove(path);
    return path;
}

static struct memory_plan work(double text, double denoise, double decode)
{
    struct memory_plan plan = { .rows = 1 };
    plan.stage[STAGE_TEXT].flops = text;
    plan.stage[STAGE_DENOISE].flops = denoise;
    plan.stage[STAGE_DECODE].flops = decode;
    return plan;
}

static bool near_to(double a, double b)
{
    return fabs(a / b - 1) < 0.01;
}

static void a_second_job_is_known(void **state)
{
    (void)state;
    struct backend *be = open_backend(1), *other = open_backend(2);
    struct memory_plan plan = work(1e9, 4e12, 1e12), twice = work(1e9, 8e12, 1e12);
    struct job_timing took = { .seconds = {
                                   [STAGE_TEXT] = 0.1, [STAGE_DENOISE] = 8, [STAGE_DECODE] = 4 } };
    (void)file();
    assert_true(speed_estimate(be, &plan, 10).seconds == 0);
    speed_remember(be, &plan, 10, &took);
    struct speed_estimate e = speed_estimate(be, &twice, 20);
    assert_true(near_to(e.stage[STAGE_DENOISE], 16) && near_to(e.stage[STAGE_DECODE], 4));
    assert_true(near_to(e.seconds, 20.1));
    assert_true(speed_estimate(other, &plan, 10).seconds == 0); /* other threads, other speed */
    took.seconds[STAGE_DENOISE] = 4;                            /* the machine is quiet now */
    speed_remember(be, &plan, 10, &took);
    assert_true(near_to(speed_estimate(be, &twice, 20).stage[STAGE_DENOISE], 8));
    backend_close(be);
    backend_close(other);
}

/* Small pictures reach less of a machine: their rate is another one, and the nearest counts. */
static void sizes_have_their_own_rates(void **state)
{
    (void)state;
    struct backend *be = open_backend(1);
    struct memory_plan small = work(0, 1e9, 0), large = work(0, 1e13, 0), huge = work(0, 1e15, 0);
    struct memory_plan larger = work(0, 6e13, 0);
    struct job_timing slow = { .seconds = { [STAGE_DENOISE] = 1 } };
    struct job_timing fast = { .seconds = { [STAGE_DENOISE] = 10 } };
    (void)file();
    speed_remember(be, &small, 1, &slow);
    speed_remember(be, &large, 1, &fast);
    assert_true(near_to(speed_estimate(be, &small, 1).seconds, 1));
    assert_true(near_to(speed_estimate(be, &large, 1).seconds, 10));
    assert_true(near_to(speed_estimate(be, &larger, 1).seconds, 60));
    assert_true(speed_estimate(be, &huge, 1).seconds == 0); /* nothing of comparable size */
    backend_close(be);
}

/* What was too quick to measure is not kept, nor is a file of nonsense believed. */
static void noise_is_not_kept(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "nonsense\n",
        "darkroom speed 2\nscalar 1 denoise 30 nan\n",
        "darkroom speed 2\nscalar 1 denoise 30 -5\n",
        "darkroom speed 2\nscalar 1 denoise\n",
        "darkroom speed 2\nscalar 1 denoise 30 0\n",
        "darkroom speed 3\nscalar 1 denoise 30 1e9\n",
    };
    struct backend *be = open_backend(1);
    struct memory_plan plan = work(0, 1e9, 0);
    struct job_timing quick = { .seconds = { [STAGE_DENOISE] = 0.001 } };
    const char *path = file();
    speed_remember(be, &plan, 1, &quick);
    assert_false(dr_is_file(path));
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char folder[300];
        snprintf(folder, sizeof folder, "%s/darkroom", test_dir());
        assert_int_equal(dr_mkdirs(folder, NULL), 0);
        assert_int_equal(dr_write_file(path, texts[i], strlen(texts[i]), NULL), 0);
        assert_true(speed_estimate(be, &plan, 1).seconds == 0);
    }
    backend_close(be);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_second_job_is_known),
    cmocka_unit_test(sizes_have_their_own_rates),
    cmocka_unit_test(noise_is_not_kept),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
