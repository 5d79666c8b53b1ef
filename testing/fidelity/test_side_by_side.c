/* test_side_by_side.c - two engines in one process, each on its own threads, plan and run different
 * jobs at the same time: every figure of a plan, every byte that a run is said to take and every
 * picture is as when the engine is alone. */
#include "testing/helpers/test.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "include/darkroom.h"

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
enum { REPEATS = 1 };
#else
enum { REPEATS = 4 };
#endif
enum { JOBS = 4 };

/* What one engine is asked, twice: planned, then drawn. */
static const char *const jobs[2][JOBS] = {
    {
        "\"prompt\":\"a red circle\",\"width\":64,\"height\":48,\"steps\":3,\"seed\":1",
        "\"prompt\":\"two\",\"width\":32,\"height\":32,\"steps\":2,\"batch_size\":3,\"seed\":2",
        "\"prompt\":\"a red circle\",\"width\":16,\"height\":96,\"steps\":2,\"seed\":3,"
        "\"sampler\":\"heun\"",
        "\"prompt\":\"x\",\"width\":48,\"height\":48,\"steps\":2,\"seed\":4,"
        "\"guidance_scale\":1",
    },
    {
        "\"prompt\":\"blue\",\"width\":96,\"height\":96,\"steps\":1,\"seed\":5,\"batch_size\":2",
        "\"prompt\":\"blue\",\"negative_prompt\":\"red\",\"width\":64,\"height\":64,\"steps\":2,"
        "\"seed\":6,\"sampler\":\"euler_a\"",
        "\"prompt\":\"a longer text of some more words\",\"width\":32,\"height\":16,\"steps\":4,"
        "\"seed\":7,\"sampler\":\"dpmpp_2m\"",
        "\"prompt\":\"blue\",\"width\":80,\"height\":64,\"steps\":2,\"seed\":8,\"clip_skip\":1",
    },
};

struct host {
    int which;         /* of jobs */
    const char *model; /* folder */
    json_t *answers;   /* data of all, in order */
    pthread_t thread;
};

static void on_event(void *user, const char *json)
{
    struct host *h = user;
    json_t *event = json_loads(json, 0, NULL);
    if (!json_object_get(event, "status"))
        json_array_append(h->answers, event);
    json_decref(event);
}

/* Asserts nothing, for it also runs on a thread of its own. */
static void *serve(void *arg)
{
    struct host *h = arg;
    struct darkroom *engine;
    char error[512], message[2000];
    h->answers = json_array();
    /* a limit so high that what else is resident in the process decides nothing */
    if (darkroom_open("{\"threads\":1,\"kernels\":\"scalar\",\"memory_limit\":4000000000}",
                      on_event, h, &engine, error, sizeof error))
        return NULL;
    for (int i = 0; i < JOBS; i++)
        for (int run = 0; run < 2; run++) {
            snprintf(message, sizeof message,
                     "{\"type\":\"%s\",\"request_id\":\"%d%d\",\"data\":{\"model\":\"%s\","
                     "\"return_base64\":true,%s}}",
                     run ? "generate" : "plan", i, run, h->model, jobs[h->which][i]);
            darkroom_submit(engine, message);
            darkroom_drain(engine);
        }
    darkroom_close(engine);
    return NULL;
}

/* Answer k of both; what an answer says of the process and of time is left out. */
static void must_equal(const struct host *alone, const struct host *beside, size_t k)
{
    static const char *const plans[] = {
        "stages",   "tagged",   "tagged_bytes", "flops", "rows_per_forward",
        "admitted", "warnings", "steps",        NULL
    };
    static const char *const runs[] = { "images",    "tagged",   "tagged_bytes",
                                        "seed_used", "warnings", NULL };
    const char *const *names = k % 2 ? runs : plans;
    const json_t *data[2];
    for (int i = 0; i < 2; i++) {
        const json_t *event = json_array_get((i ? beside : alone)->answers, k);
        if (!json_is_true(json_object_get(event, "success")))
            fail_msg("answer %zu: %s", k, json_string_value(json_object_get(event, "error")));
        data[i] = json_object_get(event, "data");
    }
    for (; *names; names++) {
        const json_t *a = json_object_get(data[0], *names), *b = json_object_get(data[1], *names);
        char *is = json_dumps(b, JSON_ENCODE_ANY), *was = json_dumps(a, JSON_ENCODE_ANY);
        if (!a || !json_equal(a, b))
            fail_msg("%s of answer %zu: %.500s; alone: %.500s", *names, k, is, was);
        dr_free(is);
        dr_free(was);
    }
    json_int_t own[2];
    for (int i = 0; i < 2 && k % 2 == 0; i++)
        own[i] = json_integer_value(json_object_get(data[i], "peak_bytes")) -
                 json_integer_value(json_object_get(data[i], "baseline_bytes"));
    if (k % 2 == 0 && own[0] != own[1])
        fail_msg("answer %zu: a peak of %lld bytes over the baseline; alone: %lld", k,
                 (long long)own[1], (long long)own[0]);
}

static void each_is_as_alone(void **state)
{
    (void)state;
    jx_init();
    char model[1024];
    snprintf(model, sizeof model, "%s", test_source("testing/golden/odd/model"));
    struct host alone[2], beside[2];
    for (int i = 0; i < 2; i++) {
        alone[i] = beside[i] = (struct host){ .which = i, .model = model };
        serve(&alone[i]);
        assert_int_equal(json_array_size(alone[i].answers), 2 * JOBS);
    }
    for (int n = 0; n < REPEATS; n++) {
        for (int i = 0; i < 2; i++)
            assert_int_equal(pthread_create(&beside[i].thread, NULL, serve, &beside[i]), 0);
        for (int i = 0; i < 2; i++)
            pthread_join(beside[i].thread, NULL);
        for (int i = 0; i < 2; i++) {
            assert_int_equal(json_array_size(beside[i].answers), 2 * JOBS);
            for (size_t k = 0; k < 2 * JOBS; k++)
                must_equal(&alone[i], &beside[i], k);
            json_decref(beside[i].answers);
        }
    }
    for (int i = 0; i < 2; i++)
        json_decref(alone[i].answers);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_is_as_alone),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
