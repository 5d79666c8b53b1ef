/* test_plan.c - what the plan says of memory is what the run takes.
 *
 * Tagged bytes to one percent, and the resident peak of a fresh worker process to three, for jobs
 * large enough to stand out of the program itself. The limits decide: what is over them is refused
 * with the figure that it needs, and nothing else happens.
 */
#include "testing/helpers/session.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/fs.h"

/* Below this the program itself, which differs between systems, is too much of the peak. */
static const double DOMINATES = 150e6;

static json_t *job_of(int width, int height, int batch, double guidance)
{
    json_t *data = session_case("odd", "euler_a_batch_unguided", NULL);
    json_object_set_new(data, "width", json_integer(width));
    json_object_set_new(data, "height", json_integer(height));
    json_object_set_new(data, "batch_size", json_integer(batch));
    json_object_set_new(data, "guidance_scale", json_real(guidance));
    json_object_set_new(data, "steps", json_integer(1));
    json_object_set_new(data, "format", json_string("jpeg"));
    return data;
}

static void near_to(const char *what, double planned, double measured, double tolerance)
{
    double off = planned / measured - 1;
    if (planned == 0 && measured == 0) /* no weights of a tag */
        return;
    printf("  %-18s planned %12.0f measured %12.0f  %+.2f %%\n", what, planned, measured,
           100 * off);
    if (!(fabs(off) <= tolerance))
        fail_msg("%s: planned %.0f, measured %.0f: off by %+.2f %%", what, planned, measured,
                 100 * off);
}

/* Weights in private memory are tagged, those of a pack are not. */
static void plan_and_run_in(struct session *s, int width, int height, int batch, double guidance)
{
    printf("%dx%d, batch %d, guidance %g\n", width, height, batch, guidance);
    json_t *plan = session_must(s, "plan", job_of(width, height, batch, guidance));
    double tagged = session_number(plan, "tagged_bytes"), peak = session_number(plan, "peak_bytes");
    double activation = session_number(plan, "tagged.activation");
    double weights = session_number(plan, "tagged.weights");
    json_t *run = session_must(s, "generate", job_of(width, height, batch, guidance));
    near_to("activation", activation, session_number(run, "tagged.activation"), 0);
    near_to("weights", weights, session_number(run, "tagged.weights"), 0);
    near_to("tagged", tagged, session_number(run, "tagged_bytes"), 0.01);
    double resident = session_number(run, "peak_bytes");
    if (resident > DOMINATES && !TEST_SANITIZED && !s->engine)
        near_to("resident peak", peak, resident, 0.03);
}

static void plan_and_run(int width, int height, int batch, double guidance)
{
    struct session s;
    session_start(&s, "2", "auto");
    plan_and_run_in(&s, width, height, batch, guidance);
    session_close(&s);
}

/* Digests that other tests left, or none, would make a difference to a small job. */
static void forget_other_tests(void)
{
    assert_int_equal(setenv("XDG_CACHE_HOME", test_dir(), 1), 0);
}

static void without_a_cache_of_weights(void **state)
{
    (void)state;
    struct session s;
    forget_other_tests();
    session_open(&s, "{\"threads\":2,\"cache_limit\":0}");
    plan_and_run_in(&s, 384, 320, 2, 3);
    session_close(&s);
}

static void with_a_file_for_the_cache(void **state)
{
    (void)state;
    struct session s;
    char options[300], file[200];
    forget_other_tests();
    snprintf(file, sizeof file, "%s/no-folder", test_dir());
    assert_int_equal(dr_write_file(file, "x", 1, NULL), 0);
    snprintf(options, sizeof options, "{\"threads\":2,\"cache\":\"%s\"}", file);
    session_open(&s, options);
    plan_and_run_in(&s, 384, 320, 2, 3);
    session_close(&s);
}

/* Renames the only pack in the folder to one of a model that is not there. */
static bool take_away(const char *folder)
{
    char from[400], to[400] = "";
    DIR *dir = opendir(folder);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        if (!strstr(e->d_name, ".weights"))
            continue;
        snprintf(from, sizeof from, "%s/%.150s", folder, e->d_name);
        snprintf(to, sizeof to, "%s/0000000000000000%.130s", folder, e->d_name + 16);
    }
    if (dir)
        closedir(dir);
    return *to && !rename(from, to);
}

static json_t *shipped_job(void)
{
    return json_pack("{s:s,s:s,s:i,s:i,s:i}", "model", test_source("share/models/tiny"), "prompt",
                     "x", "width", 256, "height", 256, "steps", 1);
}

/* The least that the job is planned to need. */
static double least_peak(const char *folder, int cache_limit)
{
    struct session s;
    char options[400];
    snprintf(options, sizeof options,
             "{\"threads\":1,\"memory_limit\":1,\"cache\":\"%s\",\"cache_limit\":%d}", folder,
             cache_limit);
    session_open(&s, options);
    double peak = session_number(session_must(&s, "plan", shipped_job()), "peak_bytes");
    session_close(&s);
    return peak;
}

/* A pack that looks like this model's is another's, and there is no room for ours. What was made in
 * private memory goes when it turns out to be too much. */
static void what_is_refused_after_packing_goes(void **state)
{
    (void)state;
    struct session s;
    char folder[200], options[400];
    snprintf(folder, sizeof folder, "%s/others", test_dir());
    snprintf(options, sizeof options, "{\"threads\":1,\"cache\":\"%s\"}", folder);
    session_open(&s, options);
    session_must(&s, "generate", shipped_job());
    session_close(&s);
    if (!take_away(folder)) /* the kernel set makes none */
        skip();
    double kept = least_peak(folder, 1), is = least_peak(folder, 0);
    printf("planned %.0f with a pack, %.0f without\n", kept, is);
    snprintf(options, sizeof options,
             "{\"threads\":1,\"cache\":\"%s\",\"cache_limit\":1,\"memory_limit\":%.0f}", folder,
             (kept + is) / 2);
    session_open(&s, options);
    const json_t *plan = session_must(&s, "plan", shipped_job());
    assert_true(json_is_true(json_object_get(plan, "admitted")));
    json_t *answer = session_ask(&s, "generate", shipped_job());
    assert_true(json_is_false(json_object_get(answer, "success")));
    assert_string_equal(json_string_value(json_object_get(answer, "error_code")), "OUT_OF_MEMORY");
    assert_int_equal(dr_alloc_stats(DR_TAG_WEIGHTS).bytes, 0);
    session_close(&s);
}

static void small_pictures_in_a_batch(void **state)
{
    (void)state;
    plan_and_run(384, 320, 4, 3);
}

static void one_large_picture(void **state)
{
    (void)state;
    plan_and_run(1536, 1040, 1, 3);
}

static void a_long_one_in_tiles(void **state)
{
    (void)state;
    plan_and_run(2048, 1040, 1, 1);
}

/* The plan itself takes nothing that grows with the picture. */
static void planning_is_small_and_quick(void **state)
{
    (void)state;
    struct session s;
    session_open(&s, "{\"threads\":1}");
    session_must(&s, "plan", job_of(64, 64, 1, 3));
    dr_alloc_reset_peak();
    size_t before = dr_alloc_stats_all().bytes;
    clock_t start = clock(); /* of the processor, not of the wall: others may use it too */
    json_t *plan = session_must(&s, "plan", job_of(4096, 4096, 4, 3));
    assert_true(clock() - start < CLOCKS_PER_SEC);
    double planned = session_number(plan, "tagged_bytes");
    assert_true(planned > 5e8);
    double taken = (double)(dr_alloc_stats_all().peak - before);
    printf("planning %.0f MB took %.1f MB\n", planned / 1e6, taken / 1e6);
    assert_true(taken < planned / 8); /* the latents */
    session_close(&s);
}

static void too_large_is_refused_and_nothing_else(void **state)
{
    (void)state;
    struct session s;
    char options[300];
    session_open(&s, "{\"threads\":1}");
    double small = session_number(session_must(&s, "plan", job_of(64, 64, 1, 1)), "peak_bytes");
    session_close(&s);
    snprintf(options, sizeof options,
             "{\"threads\":1,\"memory_limit\":%.0f,\"cache\":\"%s/packs\"}", small + 128e6,
             test_dir());
    session_open(&s, options);
    const json_t *plan = session_must(&s, "plan", job_of(1024, 1024, 1, 3));
    assert_true(json_is_false(json_object_get(plan, "admitted")));
    uint64_t blocks = 0;
    for (int i = 0; i < 3; i++) {
        json_t *answer = session_ask(&s, "generate", job_of(1024, 1024, 1, 3));
        const char *words = json_string_value(json_object_get(answer, "error"));
        assert_true(json_is_false(json_object_get(answer, "success")));
        assert_string_equal(json_string_value(json_object_get(answer, "error_code")),
                            "OUT_OF_MEMORY");
        assert_non_null(strstr(words, "needs"));
        assert_non_null(strstr(words, "MB is allowed: limit "));
        if (i == 1)
            blocks = test_blocks();
    }
    assert_int_equal(test_blocks(), blocks);
    const json_t *devices = session_must(&s, "devices", json_object());
    assert_true(session_number(devices, "cache.files") == 0); /* no weights were packed for it */
    session_must(&s, "generate", job_of(64, 64, 1, 1));
    session_close(&s);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_pictures_in_a_batch),
        cmocka_unit_test(one_large_picture),
        cmocka_unit_test(a_long_one_in_tiles),
        cmocka_unit_test(without_a_cache_of_weights),
        cmocka_unit_test(with_a_file_for_the_cache),
        cmocka_unit_test(what_is_refused_after_packing_goes),
        cmocka_unit_test(planning_is_small_and_quick),
        cmocka_unit_test(too_large_is_refused_and_nothing_else),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
