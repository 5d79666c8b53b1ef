/* test_library.c - the promises of include/darkroom.h: one answer a message, events one at a time,
 * cancel from inside an event, closing with jobs waiting, two engines in a process; and hostile
 * requests to the whole engine, which are answered and leave nothing behind. */
#include "testing/helpers/test.h"

#include <dirent.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/base64.h"
#include "base/buf.h"
#include "base/fs.h"
#include "base/json.h"
#include "include/darkroom.h"

enum { ANSWERS = 64 };

struct host {
    struct darkroom *engine;
    atomic_int inside, overlaps; /* events at this moment; times there were two */
    atomic_int progress;
    int n;
    json_t *answer[ANSWERS];
    const char *cancel; /* id to cancel from inside the first progress event */
};

static void on_event(void *user, const char *json)
{
    struct host *h = user;
    if (atomic_fetch_add(&h->inside, 1))
        atomic_fetch_add(&h->overlaps, 1);
    json_t *event = json_loads(json, 0, NULL);
    assert_non_null(event);
    const char *type = json_string_value(json_object_get(json_object_get(event, "data"), "type"));
    if (type && !strcmp(type, "progress")) {
        if (!atomic_fetch_add(&h->progress, 1) && h->cancel)
            assert_int_equal(darkroom_cancel(h->engine, h->cancel), 1);
    } else if (!json_object_get(event, "status") && h->n < ANSWERS) {
        h->answer[h->n++] = json_incref(event);
    }
    json_decref(event);
    atomic_fetch_sub(&h->inside, 1);
}

static void host_open(struct host *h)
{
    char options[900], error[512];
    jx_init();
    memset(h, 0, sizeof *h);
    snprintf(options, sizeof options,
             "{\"threads\": 1, \"kernels\": \"scalar\", \"roots\": [\"%s\"], \"queue\": 30}",
             test_dir());
    if (darkroom_open(options, on_event, h, &h->engine, error, sizeof error) < 0)
        fail_msg("%s", error);
}

static void host_close(struct host *h)
{
    darkroom_close(h->engine);
    assert_int_equal(atomic_load(&h->overlaps), 0);
    for (int i = 0; i < h->n; i++)
        json_decref(h->answer[i]);
}

/* A small picture of the golden model; `more` is members of data, each after a comma. */
static int send(struct host *h, const char *type, const char *id, const char *more)
{
    char message[4000];
    snprintf(message, sizeof message,
             "{\"type\":\"%s\",\"request_id\":\"%s\",\"data\":{\"model\":\"%s\",\"prompt\":\"a red "
             "circle\"%s}}",
             type, id, test_source("testing/golden/odd/model"), more);
    return darkroom_submit(h->engine, message);
}

static const char small[] = ",\"width\":32,\"height\":16,\"steps\":2,\"seed\":3";

static json_t *answer_to(struct host *h, const char *id)
{
    json_t *found = NULL;
    for (int i = 0; i < h->n; i++) {
        const char *got = json_string_value(json_object_get(h->answer[i], "request_id"));
        if (got && !strcmp(got, id)) {
            assert_null(found); /* one answer each */
            found = h->answer[i];
        }
    }
    if (!found)
        fail_msg("no answer to %s", id);
    return found;
}

static json_t *data_of(struct host *h, const char *id)
{
    json_t *a = answer_to(h, id);
    if (!json_is_true(json_object_get(a, "success")))
        fail_msg("%s: %s", id, json_string_value(json_object_get(a, "error")));
    return json_object_get(a, "data");
}

static void failed(struct host *h, const char *id, const char *code, const char *words)
{
    json_t *a = answer_to(h, id);
    const char *error = json_string_value(json_object_get(a, "error"));
    const char *got = json_string_value(json_object_get(a, "error_code"));
    if (!error || !got || strcmp(got, code) || !strstr(error, words))
        fail_msg("%s: %s %s; expected %s, %s", id, got ? got : "success", error ? error : "", code,
                 words);
}

static void bad_options_are_errors(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "[1]",
        "5",
        "1e999",
        "{\"threads\": 18446744073709551616}",
        "{\"roots\": 1e999}",
        "{\"thread\": 1}",
        "{\"threads\": -1}",
        "{\"threads\": \"2\"}",
        "{\"kernels\": \"sse9\"}",
        "{\"roots\": \"/tmp\"}",
        "{\"roots\": [5]}",
        "{\"roots\": [\"/nonexistent/folder\"]}",
        "{\"models\": [\"/etc/passwd\"]}",
        "{\"queue\": 1.5}",
        "{\"memory_limit\": -5}",
        "{\"threads\": 1, \"threads\": 1}",
        "{\"threads\": 1",
    };
    struct host h;
    struct darkroom *engine;
    jx_init();
    memset(&h, 0, sizeof h);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char error[512] = "";
        uint64_t blocks = test_blocks();
        if (darkroom_open(bad[i], on_event, &h, &engine, error, sizeof error) >= 0 || !error[0])
            fail_msg("%s: taken, or no word about it", bad[i]);
        assert_true(test_blocks() == blocks);
    }
    assert_true(darkroom_open("[]", on_event, &h, &engine, NULL, 0) < 0);
    darkroom_close(NULL);
}

static void garbage_is_answered(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "nothing",
        "[]",
        "{}",
        "{\"type\":5}",
        "{\"type\":\"fly\",\"request_id\":\"x\"}",
        "{\"type\":\"generate\",\"request_id\":\"x\",\"data\":5}",
        "{\"type\":\"generate\",\"request_id\":\"a\\u0000b\",\"data\":{}}",
        "{\"type\":\"generate\",\"request_id\":\"\xff\",\"data\":{}}",
    };
    struct host h;
    host_open(&h);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int before = h.n;
        assert_true(darkroom_submit(h.engine, bad[i]) < 0);
        darkroom_drain(h.engine);
        assert_int_equal(h.n, before + 1);
        assert_true(json_is_false(json_object_get(h.answer[before], "success")));
    }
    assert_true(darkroom_submit_bytes(h.engine, "{\"type\":\"health\"}\0{}", 20) < 0);
    host_close(&h);
}

static void requests_that_reach_too_far(void **state)
{
    (void)state;
    struct host h;
    char more[1500], path[600];
    struct dr_error err;
    host_open(&h);
    snprintf(path, sizeof path, "%s/file", test_dir());
    assert_int_equal(dr_write_file(path, "x", 1, &err), 0);
    snprintf(more, sizeof more, "%s,\"save_path\":\"%s\"", small, path);
    send(&h, "generate", "file", more);
    snprintf(more, sizeof more, "%s,\"save_path\":\"%s/below\"", small, path);
    send(&h, "generate", "below", more);
    snprintf(more, sizeof more, "%s,\"save_path\":\"%s/../x\"", small, test_dir());
    send(&h, "generate", "up", more);
    snprintf(path, sizeof path, "%s/link", test_dir());
    assert_int_equal(symlink("/var", path), 0);
    snprintf(more, sizeof more, "%s,\"save_path\":\"%s/x\"", small, path);
    send(&h, "generate", "link", more);
    snprintf(more, sizeof more, "%s,\"dump_stages\":\"/var/x\"", small);
    send(&h, "generate", "dump", more);
    snprintf(more, sizeof more, "%s,\"load_stage\":{\"image\":\"/etc/passwd\"}", small);
    send(&h, "generate", "load", more);
    snprintf(more, sizeof more, "%s,\"load_stage\":{\"image\":5}", small);
    send(&h, "generate", "number", more);
    snprintf(more, sizeof more, "%s,\"load_stage\":{\"pred_0001\":\"%s/file\"}", small, test_dir());
    send(&h, "generate", "spelling", more);
    snprintf(path, sizeof path, "%s/pipe", test_dir());
    assert_int_equal(mkfifo(path, 0600), 0);
    snprintf(more, sizeof more, "%s,\"load_stage\":{\"image\":\"%s\"}", small, path);
    send(&h, "generate", "pipe", more);
    darkroom_submit(h.engine, "{\"type\":\"load_model\",\"request_id\":\"zero\",\"data\":{"
                              "\"model\":\"/dev/zero\"}}");
    darkroom_submit(h.engine, "{\"type\":\"load_model\",\"request_id\":\"two\",\"data\":{"
                              "\"model\":\"/a\",\"model_name\":\"/b\"}}");
    send(&h, "generate", "steps", ",\"steps\":1000,\"spacing\":\"leading\",\"sampler\":\"lms\"");
    darkroom_drain(h.engine);
    failed(&h, "steps", "INVALID_VALUE", "fewer steps");
    failed(&h, "file", "INVALID_VALUE", "not a file");
    failed(&h, "up", "INVALID_VALUE", "inside a root");
    failed(&h, "link", "INVALID_VALUE", "inside a root");
    failed(&h, "dump", "INVALID_VALUE", "inside a root");
    failed(&h, "load", "INVALID_VALUE", "inside a root");
    failed(&h, "number", "INVALID_VALUE", "text");
    failed(&h, "spelling", "INVALID_VALUE", "pred_III");
    failed(&h, "two", "INVALID_VALUE", "other name");
    assert_true(json_is_false(json_object_get(answer_to(&h, "below"), "success")));
    assert_true(json_is_false(json_object_get(answer_to(&h, "pipe"), "success")));
    assert_true(json_is_false(json_object_get(answer_to(&h, "zero"), "success")));
    host_close(&h);
}

static void the_largest_request_is_planned(void **state)
{
    (void)state;
    struct host h;
    host_open(&h);
    static const char most[] = ",\"width\":4096,\"height\":4096,\"batch_size\":16,\"steps\":500,"
                               "\"sampler\":\"heun\",\"seed\":9223372036854775792";
    send(&h, "plan", "most", most);
    darkroom_drain(h.engine);
    json_t *data = data_of(&h, "most");
    json_int_t peak = json_integer_value(json_object_get(data, "peak_bytes"));
    assert_true(peak > (json_int_t)16 * 3 * 4096 * 4096);
    assert_true(json_number_value(json_object_get(data, "flops")) > 1e12);
    host_close(&h);
}

static void is_png(const void *bytes, size_t n)
{
    assert_true(n > 100);
    assert_memory_equal(bytes, "\x89PNG\r\n\x1a\n", 8);
}

static void pictures_as_base64_and_as_files(void **state)
{
    (void)state;
    struct host h;
    struct buf bytes, file;
    struct dr_error err;
    char more[1500];
    host_open(&h);
    send(&h, "generate", "text", small);
    snprintf(more, sizeof more, "%s,\"save_path\":\"%s/new/folder\"", small, test_dir());
    send(&h, "generate", "../file", more);
    darkroom_drain(h.engine);
    json_t *data = data_of(&h, "text");
    assert_string_equal(json_string_value(json_object_get(data, "encoding")), "base64");
    const json_t *image = json_array_get(json_object_get(data, "images"), 0);
    buf_init(&bytes, DR_TAG_TEST, 0);
    assert_int_equal(
        base64_decode(json_string_value(image), json_string_length(image), false, &bytes, &err), 0);
    is_png(bytes.data, bytes.len);

    data = data_of(&h, "../file");
    const char *path = json_string_value(json_array_get(json_object_get(data, "images"), 0));
    assert_non_null(path);
    assert_true(!strncmp(path, test_dir(), strlen(test_dir())) && !strstr(path, ".."));
    buf_init(&file, DR_TAG_TEST, 0);
    assert_int_equal(dr_read_file(path, 1 << 20, &file, &err), 0);
    assert_int_equal(file.len, bytes.len);
    assert_memory_equal(file.data, bytes.data, file.len);
    buf_free(&file);
    buf_free(&bytes);
    host_close(&h);
}

/* 16 kB of control characters, in all texts: six bytes each in JSON, and too long for a JPEG's
 * metadata. The picture comes all the same. */
static void prompts_as_long_as_they_may_be(void **state)
{
    (void)state;
    enum { LONG = 16000 };
    static const char *const formats[] = { "png", "jpeg", "webp" };
    struct host h;
    char *text = malloc(LONG + 1), id[32];
    assert_non_null(text);
    memset(text, 1, LONG);
    text[LONG] = '\0';
    host_open(&h);
    for (int i = 0; i < 3; i++) {
        snprintf(id, sizeof id, "long-%s", formats[i]);
        json_t *m = json_pack("{s:s,s:s,s:{s:s,s:s,s:s,s:s,s:s,s:i,s:i,s:i,s:s}}", "type",
                              "generate", "request_id", id, "data", "model",
                              test_source("testing/golden/odd/model"), "prompt", text, "prompt_2",
                              text, "negative_prompt", text, "negative_prompt_2", text, "width", 32,
                              "height", 16, "steps", 1, "format", formats[i]);
        assert_non_null(m);
        char *line = json_dumps(m, 0);
        assert_non_null(line);
        darkroom_submit(h.engine, line);
        darkroom_drain(h.engine);
        dr_free(line);
        json_decref(m);
        assert_int_equal(json_array_size(json_object_get(data_of(&h, id), "images")), 1);
    }
    free(text);
    host_close(&h);
}

static void cancel_from_inside_an_event(void **state)
{
    (void)state;
    struct host h;
    host_open(&h);
    h.cancel = "long";
    send(&h, "generate", "long", ",\"width\":64,\"height\":64,\"steps\":500,\"stream\":true");
    send(&h, "generate", "after", small);
    darkroom_drain(h.engine);
    failed(&h, "long", "CANCELED", "");
    data_of(&h, "after");
    assert_int_equal(darkroom_cancel(h.engine, "long"), 0);
    host_close(&h);
}

static void an_id_is_used_by_one_job_at_a_time(void **state)
{
    (void)state;
    struct host h;
    host_open(&h);
    send(&h, "generate", "first", ",\"width\":64,\"height\":64,\"steps\":50");
    assert_int_equal(send(&h, "generate", "same", small), 0);
    assert_true(send(&h, "generate", "same", small) < 0);
    darkroom_cancel(h.engine, "first");
    darkroom_drain(h.engine);
    assert_int_equal(h.n, 3);
    assert_int_equal(send(&h, "generate", "same", small), 0);
    darkroom_drain(h.engine);
    assert_int_equal(h.n, 4);
    host_close(&h);
}

static void stopping_cancels_and_refuses(void **state)
{
    (void)state;
    struct host h;
    host_open(&h);
    send(&h, "generate", "running", ",\"width\":64,\"height\":64,\"steps\":900");
    send(&h, "generate", "waiting", small);
    darkroom_stop(h.engine, 0);
    assert_true(send(&h, "generate", "late", small) < 0);
    darkroom_stop(h.engine, 1);
    darkroom_drain(h.engine);
    failed(&h, "waiting", "CANCELED", "cancelled");
    failed(&h, "running", "CANCELED", "cancelled");
    failed(&h, "late", "BAD_STATE", "shutting down");
    host_close(&h);
}

static void closing_answers_every_waiting_job(void **state)
{
    (void)state;
    enum { JOBS = 12 };
    struct host h;
    char id[16];
    uint64_t blocks;
    jx_init();
    blocks = test_blocks();
    host_open(&h);
    for (int i = 0; i < JOBS; i++) {
        snprintf(id, sizeof id, "job-%d", i);
        assert_int_equal(send(&h, "generate", id, ",\"width\":64,\"height\":64,\"steps\":200"), 0);
    }
    darkroom_close(h.engine);
    h.engine = NULL;
    assert_int_equal(h.n, JOBS);
    for (int i = 0; i < JOBS; i++) {
        snprintf(id, sizeof id, "job-%d", i);
        failed(&h, id, "CANCELED", "");
    }
    host_close(&h);
    assert_true(test_blocks() == blocks);
}

static void two_engines_beside_each_other(void **state)
{
    (void)state;
    struct host a, b;
    host_open(&a);
    host_open(&b);
    send(&a, "generate", "one", small);
    send(&b, "generate", "one", small);
    send(&a, "generate", "two", small);
    darkroom_drain(a.engine);
    darkroom_drain(b.engine);
    assert_true(a.n == 2 && b.n == 1);
    const json_t *x = json_object_get(data_of(&a, "two"), "images");
    const json_t *y = json_object_get(data_of(&b, "one"), "images");
    assert_true(json_equal(x, y));
    host_close(&a);
    data_of(&b, "one");
    send(&b, "generate", "three", small);
    darkroom_drain(b.engine);
    assert_true(json_equal(json_object_get(data_of(&b, "three"), "images"), y));
    host_close(&b);
}

/* Counts answers to messages without allocating. */
static void on_counted(void *user, const char *json)
{
    int *answers = user;
    *answers += !strstr(json, "\"status\":\"ready\"");
}

static int talk_scenario(void *ctx, struct dr_error *err)
{
    static const char *const messages[] = {
        "{\"type\":\"capabilities\",\"request_id\":\"a\"}",
        "{\"type\":\"health\",\"request_id\":\"b\"}",
        "{\"type\":\"unload_model\",\"request_id\":\"c\"}",
        "{\"type\":\"load_model\",\"request_id\":\"d\",\"data\":{\"model\":\"/nonexistent\"}}",
    };
    enum { N = sizeof messages / sizeof *messages };
    struct darkroom *engine;
    char error[512] = "";
    int answers = 0;
    (void)ctx;
    int r = darkroom_open("{\"threads\":1}", on_counted, &answers, &engine, error, sizeof error);
    if (r < 0)
        return error[0] ? dr_fail(err, r, "%s", error) : r;
    for (int i = 0; i < N; i++)
        (void)darkroom_submit(engine, messages[i]);
    darkroom_drain(engine);
    darkroom_close(engine);
    if (answers != N)
        fail_msg("%d answers to %d messages", answers, N);
    return 0;
}

/* Whichever allocation fails, each message has its answer. */
static void answers_come_even_without_memory(void **state)
{
    (void)state;
    jx_init();
    test_oom_walk(talk_scenario, NULL);
}

/* The program in examples/, as a reader would run it. */
static void the_example_draws(void **state)
{
    (void)state;
    const char *draw = getenv("DARKROOM_DRAW");
    char folder[300];
    struct dr_error err;
    if (!draw || !dr_is_file(test_source("share/models/tiny/model_index.json")))
        skip();
    snprintf(folder, sizeof folder, "%s/drawn", test_dir());
    assert_int_equal(dr_mkdirs(folder, &err), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (!pid) {
        execl(draw, draw, folder, "a red circle", (char *)NULL);
        _exit(127);
    }
    int status, found = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && !WEXITSTATUS(status));
    DIR *d = opendir(folder);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        char path[700];
        struct buf file;
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        buf_init(&file, DR_TAG_TEST, 0);
        assert_int_equal(dr_read_file(path, 4 << 20, &file, &err), 0);
        is_png(file.data, file.len);
        buf_free(&file);
        found++;
    }
    closedir(d);
    assert_int_equal(found, 1);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_options_are_errors),
        cmocka_unit_test(garbage_is_answered),
        cmocka_unit_test(requests_that_reach_too_far),
        cmocka_unit_test(the_largest_request_is_planned),
        cmocka_unit_test(pictures_as_base64_and_as_files),
        cmocka_unit_test(prompts_as_long_as_they_may_be),
        cmocka_unit_test(cancel_from_inside_an_event),
        cmocka_unit_test(an_id_is_used_by_one_job_at_a_time),
        cmocka_unit_test(stopping_cancels_and_refuses),
        cmocka_unit_test(closing_answers_every_waiting_job),
        cmocka_unit_test(two_engines_beside_each_other),
        cmocka_unit_test(answers_come_even_without_memory),
        cmocka_unit_test(the_example_draws),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
