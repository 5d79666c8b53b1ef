/* test_worker.c - darkroom-worker as a host sees it: its lines, its beginning and its end. */
#include "testing/helpers/worker_host.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "core/communication/message.h"

enum { MEGABYTE = 1 << 20, PATIENCE = 60 /* seconds; the jobs that must end take minutes */ };

static void ready_is_the_first_line(void **state)
{
    (void)state;
    struct host h;
    host_begin(&h, NULL, NULL);
    assert_true(json_is_true(json_object_get(h.ready, "success")));
    assert_string_equal(host_text(h.ready, "status"), "ready");
    assert_int_equal(json_integer_value(json_object_get(h.ready, "protocol")), MESSAGE_PROTOCOL);
    assert_true(json_array_size(json_object_get(h.ready, "verbs")) == VERB_COUNT);
    assert_true(json_array_size(json_object_get(h.ready, "samplers")) >= 7);
    assert_true(json_is_object(json_object_get(h.ready, "request")));
    const json_t *limits = json_object_get(h.ready, "limits");
    assert_int_equal(json_integer_value(json_object_get(limits, "line_bytes")), MESSAGE_LINE_BYTES);
    assert_int_equal(host_end(&h), 0);
}

static void the_end_of_input_drains(void **state)
{
    (void)state;
    struct host h;
    host_begin(&h, NULL, NULL);
    for (int i = 0; i < 3; i++) {
        char id[8];
        snprintf(id, sizeof id, "job%d", i);
        host_ask_picture(&h, id, NULL);
    }
    /* without its newline the last line counts too */
    host_say(&h, "{\"type\":\"health\",\"request_id\":\"last\"}");
    close(h.in);
    h.in = -1;
    int heard = 0;
    json_t *event;
    while ((event = host_hear(&h))) {
        assert_true(json_is_true(json_object_get(event, "success")));
        heard++;
        json_decref(event);
    }
    assert_int_equal(heard, 4);
    assert_int_equal(host_end(&h), 0);
}

static void cancel_answers_while_a_job_runs(void **state)
{
    (void)state;
    struct host h;
    json_t *event;
    host_begin(&h, NULL, NULL);
    host_ask_long(&h, "long");
    do { /* until it steps */
        event = host_hear(&h);
        assert_true(event && host_is_progress(event));
        bool stepping = json_integer_value(
                            json_object_get(json_object_get(event, "data"), "step")) > 0;
        json_decref(event);
        if (stepping)
            break;
    } while (true);
    host_must_be_healthy(&h);
    assert_int_equal(json_array_size(h.kept), 0); /* while the job runs, not after it */
    host_ask_long(&h, "waiting");
    host_say(&h, "{\"type\":\"status\",\"request_id\":\"s\",\"data\":{\"target\":\"long\"}}\n");
    event = host_answer(&h, "s");
    assert_string_equal(host_text(json_object_get(event, "data"), "status"), "running");
    json_decref(event);
    host_say(&h, "{\"type\":\"cancel\",\"request_id\":\"c1\",\"data\":{\"target\":\"waiting\"}}\n"
                 "{\"type\":\"cancel\",\"request_id\":\"c2\",\"data\":{\"target\":\"long\"}}\n");
    host_must_fail(&h, "waiting", "CANCELED", ""); /* at once, although another job runs */
    event = host_answer(&h, "c2");
    assert_true(json_is_true(json_object_get(json_object_get(event, "data"), "cancelled")));
    json_decref(event);
    host_must_fail(&h, "long", "CANCELED", ""); /* which takes minutes otherwise */
    host_ask_picture(&h, "after", NULL);        /* and it is as good as new */
    event = host_answer(&h, "after");
    assert_true(json_is_true(json_object_get(event, "success")));
    json_decref(event);
    assert_int_equal(host_end(&h), 0);
}

static void bad_lines_are_answered_and_survived(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "garbage",
        "{\"type\":\"generate\"",
        "[1,2,3]",
        "{\"type\":\"generate\"}{\"type\":\"generate\"}",
        "{\"type\":\"he\xff\"}",
        "{\"type\":\"frobnicate\"}",
        "{\"type\":\"generate\",\"data\":[]}",
        "{\"a\":1,\"a\":2}",
        "nul",
    };
    struct host h;
    host_begin(&h, NULL, NULL);
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        host_say(&h, lines[i]);
        host_say(&h, "\r\n\n");
        json_t *event = host_hear(&h);
        assert_true(json_is_false(json_object_get(event, "success")));
        assert_true(*host_text(event, "error") && *host_text(event, "error_code"));
        json_decref(event);
    }
    host_must_be_healthy(&h);
    assert_int_equal(host_end(&h), 0);
}

static void deep_json_is_refused(void **state)
{
    (void)state;
    enum { DEEP = 100000 };
    struct host h;
    char *text = dr_malloc(DR_TAG_TEST, DEEP + 1);
    assert_non_null(text);
    memset(text, '[', DEEP);
    text[DEEP] = '\0';
    host_begin(&h, NULL, NULL);
    host_say(&h, "{\"type\":\"health\",\"data\":{\"a\":");
    host_say(&h, text);
    host_say(&h, "\n");
    json_t *event = host_hear(&h);
    assert_true(json_is_false(json_object_get(event, "success")));
    json_decref(event);
    host_must_be_healthy(&h);
    dr_free(text);
    assert_int_equal(host_end(&h), 0);
}

static void a_line_that_never_ends_is_refused(void **state)
{
    (void)state;
    struct host h;
    char *text = dr_malloc(DR_TAG_TEST, MEGABYTE + 1);
    assert_non_null(text);
    memset(text, ' ', MEGABYTE);
    text[MEGABYTE] = '\0';
    host_begin(&h, NULL, NULL);
    for (int i = 0; i < 65; i++)
        host_say(&h, text);
    json_t *event = host_hear(&h);
    assert_string_equal(host_text(event, "error_code"), "LIMIT_EXCEEDED");
    json_decref(event);
    for (int i = 0; i < 65; i++) /* more of it is not reported again */
        host_say(&h, text);
    host_say(&h, "\n");
    host_must_be_healthy(&h);
    dr_free(text);
    assert_int_equal(host_end(&h), 0);
}

static void every_id_is_echoed(void **state)
{
    (void)state;
    struct host h;
    host_begin(&h, NULL, NULL);
    host_say(&h, "{\"workerType\":\"device\",\"action\":\"list_devices\",\"correlationId\":"
                 "\"0123456789abcdef\"}\n");
    json_t *event = host_hear(&h);
    assert_string_equal(host_text(event, "correlationId"), "0123456789abcdef");
    assert_null(json_object_get(event, "request_id"));
    json_decref(event);
    host_say(&h, "{\"type\":\"health\",\"correlationId\":\"c\",\"request_id\":\"r\"}\n");
    event = host_hear(&h);
    assert_string_equal(host_text(event, "correlationId"), "c");
    assert_string_equal(host_text(event, "request_id"), "r");
    json_decref(event);
    host_say(&h, "{\"type\":\"frobnicate\",\"correlationId\":\"c\",\"request_id\":\"r\"}\n");
    event = host_hear(&h);
    assert_string_equal(host_text(event, "correlationId"), "c");
    assert_string_equal(host_text(event, "request_id"), "r");
    json_decref(event);
    assert_int_equal(host_end(&h), 0);
}

static void shutdown_drains_and_ends(void **state)
{
    (void)state;
    struct host h;
    host_begin(&h, NULL, NULL);
    host_ask_picture(&h, "job", NULL);
    host_say(&h, "{\"type\":\"shutdown\",\"request_id\":\"end\"}\n");
    json_t *event = host_answer(&h, "job");
    assert_true(json_is_true(json_object_get(event, "success")));
    json_decref(event);
    assert_null(host_hear(&h)); /* although its input is open */
    assert_int_equal(host_end(&h), 0);
}

static void a_host_that_goes_ends_it(void **state)
{
    (void)state;
    struct host h;
    int status;
    host_begin(&h, NULL, NULL);
    host_ask_long(&h, "long");
    close(h.out); /* nobody reads its progress */
    double closed = dr_now();
    assert_int_equal(waitpid(h.pid, &status, 0), h.pid);
    assert_true(dr_now() - closed < PATIENCE);
    assert_true(WIFEXITED(status));
    line_reader_free(&h.reader);
    close(h.in);
    json_decref(h.ready);
    json_decref(h.kept);
}

/* A host that is killed: its ends close, input first. A job without progress lines must end too. */
static void a_host_that_is_killed_ends_it(void **state)
{
    (void)state;
    struct host h;
    int status;
    host_begin(&h, NULL, NULL);
    host_ask_picture(&h, "long",
                     json_pack("{s:i,s:i,s:i}", "width", 512, "height", 512, "steps", 500));
    close(h.in);
    usleep(300000); /* it has seen the end of input and drains */
    close(h.out);
    double closed = dr_now();
    assert_int_equal(waitpid(h.pid, &status, 0), h.pid);
    assert_true(dr_now() - closed < PATIENCE);
    line_reader_free(&h.reader);
    json_decref(h.ready);
    json_decref(h.kept);
}

static void a_bad_start_is_one_line(void **state)
{
    (void)state;
    static const char *const options[][3] = { { "--root", "/no/such/folder", "NOT_FOUND" },
                                              { "--models", "/etc/passwd", "INVALID_VALUE" },
                                              { "--kernels", "mmx", "INVALID_VALUE" } };
    for (size_t i = 0; i < 3; i++) {
        struct host h;
        host_spawn(&h, options[i][0], options[i][1]);
        h.ready = host_hear(&h);
        h.kept = NULL;
        assert_true(json_is_false(json_object_get(h.ready, "success")));
        assert_non_null(strstr(host_text(h.ready, "error"), options[i][1]));
        assert_string_equal(host_text(h.ready, "error_code"), options[i][2]);
        if (i < 2)
            assert_non_null(strstr(host_text(h.ready, "error"), options[i][0]));
        assert_int_equal(host_end(&h), 1);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(ready_is_the_first_line),
    cmocka_unit_test(the_end_of_input_drains),
    cmocka_unit_test(cancel_answers_while_a_job_runs),
    cmocka_unit_test(bad_lines_are_answered_and_survived),
    cmocka_unit_test(deep_json_is_refused),
    cmocka_unit_test(a_line_that_never_ends_is_refused),
    cmocka_unit_test(every_id_is_echoed),
    cmocka_unit_test(shutdown_drains_and_ends),
    cmocka_unit_test(a_host_that_goes_ends_it),
    cmocka_unit_test(a_host_that_is_killed_ends_it),
    cmocka_unit_test(a_bad_start_is_one_line),
};

int main(int argc, char **argv)
{
    jx_init();
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
