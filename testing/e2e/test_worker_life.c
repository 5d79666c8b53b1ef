/* test_worker_life.c - darkroom-worker: one answer to every line whatever it is, its end by
 * signals, its descriptors, its log. */
#include "testing/helpers/worker_host.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fs.h"
#include "testing/helpers/program.h"

#define ID "\"request_id\":\"%s\""
#define GENERATE "{\"type\":\"generate\"," ID ",\"data\":{\"prompt\":\"x\","
#define DEEP8 "[[[[[[[["

enum { MEGABYTE = 1 << 20, PATIENCE = 60 /* seconds, on a machine that does other things too */ };

/* Runs a line of /bin/sh in a fresh folder; $W is the worker. The exit status. */
static int shell(const char *line)
{
    setenv("W", getenv("DARKROOM_WORKER"), 1);
    int status = system(line);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static const char *file_text(const char *path)
{
    static char text[1 << 16];
    struct buf b;
    buf_init(&b, DR_TAG_TEST, 1 << 20);
    assert_int_equal(dr_read_file(path, 1 << 20, &b, NULL), 0);
    snprintf(text, sizeof text, "%s", buf_text(&b));
    buf_free(&b);
    return text;
}

static void refused_lines_are_answered_with_their_id(void **state)
{
    (void)state;
    static const struct {
        const char *line, *code, *words;
    } cases[] = {
        { GENERATE "\"seed\":18446744073709551616}}", "INVALID_VALUE", "18446744073709551616" },
        { GENERATE "\"seed\":-9223372036854775809}}", "INVALID_VALUE", "seed" },
        { GENERATE "\"guidance_scale\":1e999}}", "INVALID_VALUE", "guidance_scale: got 1e999" },
        { GENERATE "\"width\":9223372036854775808}}", "INVALID_VALUE", "width" },
        { "{\"type\":\"tokens\",\"data\":{\"text\":7e777}," ID "}", "INVALID_VALUE", "text" },
        { "{\"type\":\"cancel\",\"data\":{\"target\":1e999}," ID "}", "INVALID_VALUE", "target" },
        { GENERATE "\"model\":\"\\u0000\"}}", "BAD_FORMAT", "" },
        { GENERATE "\"a\":" DEEP8 DEEP8 DEEP8 DEEP8 "1]}}", "LIMIT_EXCEEDED", "nested" },
        { "{\"a\":" DEEP8 DEEP8 DEEP8 DEEP8 "]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]," ID "}",
          "LIMIT_EXCEEDED", "nested" },
        { GENERATE "\"steps\":1,\"steps\":2}}", "BAD_FORMAT", "steps" },
        { GENERATE "\"prompt_2\":\"\xff\xfe\"}}", "BAD_FORMAT", "" },
        { GENERATE "\"prompt_2\":\"\\ud800\"}}", "BAD_FORMAT", "" },
        { GENERATE "\"steps\":1}} trailing", "BAD_FORMAT", "" },
        { GENERATE "\"steps\":01}}", "BAD_FORMAT", "" },
        { GENERATE "\"steps\":NaN}}", "BAD_FORMAT", "" },
        { GENERATE "\"steps\":1,}}", "BAD_FORMAT", "" },
        { "{'type':'health'," ID "}", "BAD_FORMAT", "" },
        { GENERATE "\"steps\":1", "BAD_FORMAT", "" },
        { "{\"type\":\"generate\",\"data\":{" ID ",\"steps\":", "BAD_FORMAT", "" },
        { "{\"type\":\"frobnicate\"," ID "}", "PROTOCOL_ERROR", "frobnicate" },
        { "{\"type\":\"health\",\"data\":1e999," ID "}", "PROTOCOL_ERROR", "data" },
    };
    struct host h;
    char id[16], line[600];
    host_begin(&h, NULL, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(id, sizeof id, "id %zu", i);
        snprintf(line, sizeof line, cases[i].line, id);
        host_say(&h, line);
        host_say(&h, "\n");
        json_t *event = host_answer(&h, id);
        if (!json_is_false(json_object_get(event, "success")) ||
            strcmp(host_text(event, "error_code"), cases[i].code) ||
            !strstr(host_text(event, "error"), cases[i].words))
            fail_msg("%s: %s: %s", line, host_text(event, "error_code"), host_text(event, "error"));
        json_decref(event);
    }
    host_must_be_healthy(&h);
    assert_int_equal(json_array_size(h.kept), 0); /* one answer each */
    assert_int_equal(host_end(&h), 0);
}

static void a_byte_order_mark_is_skipped(void **state)
{
    (void)state;
    struct host h;
    host_begin(&h, NULL, NULL);
    host_say(&h, "\xef\xbb\xbf");
    host_must_be_healthy(&h);
    assert_int_equal(host_end(&h), 0);
}

static void a_line_that_is_too_long_is_answered_with_its_id(void **state)
{
    (void)state;
    struct host h;
    char *text = dr_malloc(DR_TAG_TEST, MEGABYTE + 1);
    assert_non_null(text);
    memset(text, 'x', MEGABYTE);
    text[MEGABYTE] = '\0';
    host_begin(&h, NULL, NULL);
    host_say(&h, "{\"type\":\"generate\",\"request_id\":\"long\",\"data\":{\"prompt\":\"");
    for (int i = 0; i < 66; i++)
        host_say(&h, text);
    host_say(&h, "\"}}\n");
    host_must_fail(&h, "long", "LIMIT_EXCEEDED", NULL);
    host_must_be_healthy(&h);
    dr_free(text);
    assert_int_equal(host_end(&h), 0);
}

static void a_last_line_that_breaks_off_is_answered(void **state)
{
    (void)state;
    struct host h;
    host_begin(&h, NULL, NULL);
    host_say(&h, "{\"request_id\":\"half\",\"type\":\"gener");
    close(h.in);
    h.in = -1;
    host_must_fail(&h, "half", "BAD_FORMAT", NULL);
    assert_null(host_hear(&h));
    assert_int_equal(host_end(&h), 0);
}

static void what_comes_behind_a_shutdown_is_answered(void **state)
{
    (void)state;
    struct host h;
    host_begin(&h, NULL, NULL);
    host_ask_long(&h, "long");
    host_say(&h, "{\"type\":\"shutdown\",\"request_id\":\"end\"}\n"
                 "{\"type\":\"generate\",\"request_id\":\"late\",\"data\":{\"prompt\":\"x\"}}\n");
    host_must_fail(&h, "late", "BAD_STATE", NULL);
    host_must_be_healthy(&h); /* while it finishes */
    host_ask_picture(&h, "later", NULL);
    host_must_fail(&h, "later", "BAD_STATE", NULL);
    host_say(&h, "{\"type\":\"cancel\",\"request_id\":\"c\",\"data\":{\"target\":\"long\"}}\n");
    host_must_fail(&h, "long", "CANCELED", NULL);
    int heard = 0;
    json_t *event;
    while ((event = host_hear(&h))) { /* the cancel's */
        heard++;
        json_decref(event);
    }
    assert_true(heard <= 1);
    assert_int_equal(host_end(&h), 0);
}

/* In one write, so that they are read before the worker can end; the last in part only. */
static void an_idle_worker_answers_them_too(void **state)
{
    (void)state;
    struct host h;
    host_begin(&h, NULL, NULL);
    host_say(&h, "{\"type\":\"shutdown\",\"request_id\":\"end\"}\n"
                 "{\"type\":\"generate\",\"request_id\":\"a\",\"data\":{\"prompt\":\"x\"}}\n"
                 "garbage\n{\"type\":\"health\",\"request_id\":\"b\"}\n"
                 "{\"type\":\"plan\",\"request_id\":\"c\"}\n{\"request_id\":\"d\",\"type\":");
    json_t *event = host_answer(&h, "b");
    assert_true(json_is_true(json_object_get(event, "success")));
    json_decref(event);
    host_must_fail(&h, "a", "BAD_STATE", NULL);
    host_must_fail(&h, "", "BAD_FORMAT", NULL);
    host_must_fail(&h, "c", "BAD_STATE", NULL);
    host_must_fail(&h, "d", "BAD_FORMAT", NULL);
    assert_null(host_hear(&h)); /* although its input is open */
    assert_int_equal(host_end(&h), 0);
}

/* Until the job of that id reports a step. */
static void await_step(struct host *h, const char *id)
{
    for (bool stepping = false; !stepping;) {
        json_t *event = host_hear(h);
        assert_non_null(event);
        stepping = !strcmp(host_text(event, "request_id"), id) &&
                   json_integer_value(json_object_get(json_object_get(event, "data"), "step")) > 0;
        json_decref(event);
    }
}

static void must_end(struct host *h, int status)
{
    json_t *event;
    while ((event = host_hear(h))) {
        assert_true(host_is_progress(event));
        json_decref(event);
    }
    assert_int_equal(host_end(h), status);
}

static void sigterm_lets_the_running_job_finish(void **state)
{
    (void)state;
    struct host h;
    host_begin(&h, "--grace", "600");
    host_ask_picture(&h, "job", json_pack("{s:i,s:b}", "steps", 1000, "stream", 1));
    host_ask_picture(&h, "waiting", NULL);
    await_step(&h, "job");
    assert_int_equal(kill(h.pid, SIGTERM), 0);
    host_must_fail(&h, "waiting", "CANCELED", NULL);
    host_ask_picture(&h, "late", NULL);
    json_t *event = host_answer(&h, "job");
    assert_true(json_is_true(json_object_get(event, "success")));
    json_decref(event);
    host_must_fail(&h, "late", "BAD_STATE", NULL);
    must_end(&h, 0);
}

/* `signals`: sent one after another. The job cannot finish; what waits is answered as well. */
static void must_cancel(const char *grace, const int *signals, int n)
{
    struct host h;
    host_begin(&h, "--grace", grace);
    host_ask_long(&h, "long");
    host_ask_picture(&h, "waiting", NULL);
    await_step(&h, "long");
    double sent = dr_now();
    for (int i = 0; i < n; i++) {
        assert_int_equal(kill(h.pid, signals[i]), 0);
        usleep(300000); /* two of one kind at once would be one */
    }
    host_must_fail(&h, "waiting", "CANCELED", NULL);
    host_must_fail(&h, "long", "CANCELED", NULL);
    must_end(&h, 0);
    if (dr_now() - sent > PATIENCE)
        fail_msg("signal %d: %.0f s", signals[0], dr_now() - sent);
}

static void signals_cancel_and_answer(void **state)
{
    (void)state;
    must_cancel("600", (const int[]){ SIGINT }, 1);
    must_cancel("600", (const int[]){ SIGHUP }, 1);
    must_cancel("600", (const int[]){ SIGTERM, SIGTERM }, 2);
    must_cancel("600", (const int[]){ SIGTERM, SIGINT }, 2);
    must_cancel("0", (const int[]){ SIGTERM }, 1);
    must_cancel("1", (const int[]){ SIGTERM }, 1); /* the period ends */
}

static void signals_end_an_idle_worker(void **state)
{
    (void)state;
    static const int signals[] = { SIGTERM, SIGINT, SIGHUP };
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        struct host h;
        host_begin(&h, NULL, NULL);
        assert_int_equal(kill(h.pid, signals[i]), 0);
        must_end(&h, 0);
    }
}

static void a_signal_leaves_no_files(void **state)
{
    (void)state;
    struct host h;
    const char *folder = program_folder();
    host_begin(&h, "--root", folder);
    host_ask_picture(&h, "long",
                     json_pack("{s:i,s:i,s:i,s:b,s:s,s:i}", "width", 256, "height", 256, "steps",
                               400, "stream", 1, "save_path", folder, "batch_size", 2));
    await_step(&h, "long");
    assert_int_equal(kill(h.pid, SIGINT), 0);
    host_must_fail(&h, "long", "CANCELED", NULL);
    must_end(&h, 0);
    assert_int_equal(program_entries(folder), 0);
}

/* Nobody reads what it has to say: it must end all the same. */
static void a_host_that_does_not_read_cannot_keep_it(void **state)
{
    (void)state;
    struct host h;
    int status;
    host_begin(&h, NULL, NULL);
    host_ask_long(&h, "long");
    for (int i = 0; i < 40; i++) /* over a megabyte of answers */
        host_say(&h, "{\"type\":\"capabilities\"}\n");
    usleep(300000);
    assert_int_equal(kill(h.pid, SIGINT), 0);
    double sent = dr_now();
    pid_t got;
    while (!(got = waitpid(h.pid, &status, WNOHANG)) && dr_now() < sent + PATIENCE)
        usleep(20000);
    assert_int_equal(got, h.pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    line_reader_free(&h.reader);
    close(h.in);
    close(h.out);
    json_decref(h.ready);
    json_decref(h.kept);
}

static void closed_descriptors_are_no_accident(void **state)
{
    (void)state;
    program_folder();
    assert_int_equal(shell("\"$W\" <&- >out 2>err"), 0);
    assert_non_null(strstr(file_text("out"), "\"status\":\"ready\""));
    assert_string_equal(file_text("err"), "");

    /* its log must not be read as an answer */
    assert_int_equal(shell("echo garbage | DARKROOM_LOG=debug \"$W\" >out 2>&-"), 0);
    const char *second = strchr(file_text("out"), '\n');
    assert_non_null(second);
    assert_non_null(strstr(file_text("out"), "\"status\":\"ready\""));
    assert_int_equal(strncmp(second, "\n{\"success\":false", 17), 0);
    assert_ptr_equal(strchr(second + 1, '\n'), second + strlen(second) - 1);

    static const char *const broken[][2] = {
        { "\"$W\" </dev/null >&- 2>err", "stdout is closed" },
        { "\"$W\" </dev/null 1</dev/null 2>err", "stdout is closed or not open for writing" },
        { "\"$W\" <&- >&- 2>err", "stdout is closed" },
        { "\"$W\" </dev/null >/dev/full 2>err", "No space left" },
        { "\"$W\" --version >&- 2>err", "stdout is closed" },
        { "\"$W\" --help >/dev/full 2>err", "No space left" },
        { "\"$W\" <. >out 2>err", "Is a directory" },
        { "\"$W\" 0>in >out 2>err", "cannot read requests" },
    };
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        int status = shell(broken[i][0]);
        if (status != 1 || !strstr(file_text("err"), broken[i][1]))
            fail_msg("%s: status %d: %s", broken[i][0], status, file_text("err"));
    }
    assert_int_equal(shell("\"$W\" <&- >&- 2>&-"), 1);
}

/* SIGXFSZ would end the worker, and everything it was asked for with it. */
static void a_file_limit_is_an_error(void **state)
{
    (void)state;
    char text[800];
    const char *folder = program_folder();
    snprintf(
        text, sizeof text,
        "{\"type\":\"generate\",\"request_id\":\"a\",\"data\":{\"prompt\":\"x\",\"model\":\"%s\","
        "\"width\":128,\"height\":128,\"steps\":1,\"save_path\":\"%s\"}}\n"
        "{\"type\":\"generate\",\"request_id\":\"b\",\"data\":{\"prompt\":\"x\",\"model\":\"%s\","
        "\"width\":64,\"height\":64,\"steps\":1}}\n",
        program_model(), folder, program_model());
    assert_int_equal(dr_write_file("in", text, strlen(text), NULL), 0);
    assert_int_equal(shell("(ulimit -f 1; exec \"$W\" --root . <in 2>err) | cat >out"), 0);
    const char *out = file_text("out");
    const char *a = strstr(out, "\"request_id\":\"a\""), *b = strstr(out, "\"request_id\":\"b\"");
    assert_true(a && b);
    assert_non_null(strstr(out, "File too large"));
    assert_non_null(strstr(out, "\"error_code\":\"IO_ERROR\""));
    assert_non_null(strstr(b, "\"images\":["));
    assert_int_equal(program_entries(folder), 3); /* in, out, err */
}

static void seeds_are_exact(void **state)
{
    (void)state;
    struct host h;
    static const char *const seeds[] = { "18446744073709551615", "\"18446744073709551615\"",
                                         "9223372036854775808", "9007199254740993" };
    char line[700];
    host_begin(&h, NULL, NULL);
    for (size_t i = 0; i < sizeof seeds / sizeof *seeds; i++) {
        uint64_t wanted = strtoull(seeds[i] + (*seeds[i] == '"'), NULL, 10), seed = 0;
        snprintf(line, sizeof line,
                 "{\"type\":\"generate\",\"request_id\":\"s\",\"data\":{\"prompt\":\"x\",\"model\":"
                 "\"%s\",\"width\":64,\"height\":64,\"steps\":1,\"seed\":%s}}\n",
                 program_model(), seeds[i]);
        host_say(&h, line);
        json_t *event = host_answer(&h, "s"), *data = json_object_get(event, "data");
        if (!data)
            fail_msg("%s: %s", seeds[i], host_text(event, "error"));
        assert_true(jx_as_uint(json_object_get(data, "seed"), &seed) && seed == wanted);
        assert_true(jx_as_uint(json_array_get(json_object_get(data, "seed_used"), 0), &seed) &&
                    seed == wanted);
        const json_t *receipt = json_array_get(json_object_get(data, "receipts"), 0);
        assert_true(jx_as_uint(json_object_get(receipt, "seed"), &seed) && seed == wanted);
        json_decref(event);
    }
    host_ask_picture(&h, "b",
                     json_pack("{s:s,s:i}", "seed", "18446744073709551615", "batch_size", 2));
    host_must_fail(&h, "b", "INVALID_VALUE", "seed");
    for (int i = 0; i < 5; i++) {
        uint64_t seed = UINT64_MAX;
        host_ask_picture(&h, "r", json_pack("{s:i,s:i}", "seed", -1, "batch_size", 3));
        json_t *event = host_answer(&h, "r"), *data = json_object_get(event, "data");
        assert_true(jx_as_uint(json_array_get(json_object_get(data, "seed_used"), 2), &seed) &&
                    seed <= UINT32_MAX);
        json_decref(event);
    }
    assert_int_equal(host_end(&h), 0);
}

static const char job[] =
    "printf '%s\\n' '{\"type\":\"generate\",\"request_id\":\"job 1\",\"data\":{\"prompt\":\"x\","
    "\"width\":64,\"height\":64,\"steps\":2}}' '{\"type\":\"generate\",\"request_id\":\"bad\","
    "\"data\":{\"steps\":0}}' 'garbage'";

/* Each line of the log is JSON and has its fields. */
static json_t *logged(const char *text)
{
    char lines[1 << 16];
    snprintf(lines, sizeof lines, "%s", file_text("err"));
    for (char *line = lines, *end; (end = strchr(line, '\n')); line = end + 1) {
        json_t *o;
        struct dr_error err = { 0 };
        if (jx_parse(line, (size_t)(end - line), NULL, "log", &o, &err))
            fail_msg("%s", err.text);
        assert_true(*host_text(o, "time") && *host_text(o, "level") && *host_text(o, "component"));
        if (!strcmp(host_text(o, "text"), text))
            return o;
        json_decref(o);
    }
    fail_msg("no line \"%s\" in: %s", text, file_text("err"));
    return NULL;
}

static void must_log(const char *text, const char *level, const char *id, const char *fields)
{
    json_t *o = logged(text);
    assert_string_equal(host_text(o, "level"), level);
    assert_string_equal(host_text(o, "id"), id);
    while (*fields) {
        char name[40];
        size_t n = strcspn(fields, " ");
        snprintf(name, sizeof name, "%.*s", (int)n, fields);
        if (!json_object_get(o, name))
            fail_msg("%s: no field %s", text, name);
        fields += n + (fields[n] == ' ');
    }
    json_decref(o);
}

static void the_log_tells_a_service(void **state)
{
    (void)state;
    char line[700];
    program_folder();
    snprintf(line, sizeof line, "%s | DARKROOM_LOG=debug \"$W\" --log-json 2>err >out", job);
    assert_int_equal(shell(line), 0);
    must_log("started", "info", "", "version kernels threads available cache");
    must_log("job taken", "info", "job 1", "verb waiting");
    must_log("model opened", "info", "job 1", "path seconds kind");
    must_log("stage text", "debug", "job 1", "seconds bytes");
    must_log("stage denoise", "debug", "job 1", "seconds bytes");
    must_log("stage decode", "debug", "job 1", "seconds bytes");
    must_log("stage save", "debug", "job 1", "seconds");
    must_log("job done", "info", "job 1", "verb seconds width height steps pictures peak_bytes");
    must_log("job failed", "info", "bad", "verb seconds code error");
    must_log("request refused", "info", "", "code error");
    must_log("ended", "info", "", "");
    snprintf(line, sizeof line, "%s | DARKROOM_LOG=info \"$W\" 2>err >out", job);
    assert_int_equal(shell(line), 0);
    assert_non_null(strstr(file_text("err"), " info worker: job done id=\"job 1\" verb=generate "));
    assert_null(strstr(file_text("err"), "stage"));
    snprintf(line, sizeof line, "%s | \"$W\" 2>err >out", job);
    assert_int_equal(shell(line), 0);
    assert_string_equal(file_text("err"), "");
}

static void an_unknown_level_is_told(void **state)
{
    (void)state;
    program_folder();
    assert_int_equal(shell("DARKROOM_LOG=loud \"$W\" </dev/null 2>err >out"), 0);
    const char *err = file_text("err");
    assert_non_null(strstr(err, "warn log: DARKROOM_LOG: got loud, expected off, error, warn, info "
                                "or debug"));
    assert_ptr_equal(strchr(err, '\n'), err + strlen(err) - 1); /* once */
    assert_int_equal(shell("DARKROOM_LOG= \"$W\" </dev/null 2>err >out"), 0);
    assert_string_equal(file_text("err"), "");
}

static void signals_are_logged(void **state)
{
    (void)state;
    program_folder();
    assert_int_equal(shell("DARKROOM_LOG=info \"$W\" --log-json 2>err >out <&- & wait $!"), 0);
    assert_int_equal(shell("mkfifo in; DARKROOM_LOG=info \"$W\" --log-json 2>err >out <in & "
                           "exec 3>in; until grep -q ready out; do sleep 0.05; done; "
                           "kill -TERM $!; wait $!"),
                     0);
    must_log("SIGTERM: finishing the running job", "info", "", "");
    must_log("ended", "info", "", "");
}

/* A worker and its job in less memory than they need: whatever it is that fails, the answer is that
 * memory ran out, and what limits it. */
static void little_memory_is_named(void **state)
{
    (void)state;
    const char *folder = program_folder(), *worker = getenv("DARKROOM_WORKER");
    char script[1000], path[300];
    int failed = 0;
    assert_non_null(worker);
    char *real = dr_strdup(DR_TAG_TEST, worker);
    assert_non_null(real);
    snprintf(path, sizeof path, "%s/limited", folder);
    for (int megabytes = 1; megabytes <= 24; megabytes++) {
        struct host h;
        json_t *event;
        snprintf(script, sizeof script, "#!/bin/sh\nulimit -d %d\nexec '%s' --threads=1\n",
                 1000 * megabytes, real);
        assert_int_equal(dr_write_file(path, script, strlen(script), NULL), 0);
        assert_int_equal(chmod(path, 0700) | setenv("DARKROOM_WORKER", path, 1), 0);
        host_spawn(&h, NULL, NULL);
        host_ask_picture(&h, "a", NULL);
        while ((event = host_hear(&h)) && !strcmp(host_text(event, "status"), "ready"))
            json_decref(event);
        assert_non_null(event);
        if (json_is_false(json_object_get(event, "success"))) {
            const char *text = host_text(event, "error");
            if (strcmp(host_text(event, "error_code"), "OUT_OF_MEMORY") != 0 ||
                !strstr(text, "RLIMIT_DATA"))
                fail_msg("%d MB: %s: %s", megabytes, host_text(event, "error_code"), text);
            failed++;
        }
        json_decref(event);
        (void)host_end(&h);
    }
    assert_int_equal(setenv("DARKROOM_WORKER", real, 1), 0);
    dr_free(real);
    assert_true(failed > 3);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(little_memory_is_named),
    cmocka_unit_test(refused_lines_are_answered_with_their_id),
    cmocka_unit_test(a_byte_order_mark_is_skipped),
    cmocka_unit_test(a_line_that_is_too_long_is_answered_with_its_id),
    cmocka_unit_test(a_last_line_that_breaks_off_is_answered),
    cmocka_unit_test(what_comes_behind_a_shutdown_is_answered),
    cmocka_unit_test(an_idle_worker_answers_them_too),
    cmocka_unit_test(sigterm_lets_the_running_job_finish),
    cmocka_unit_test(signals_cancel_and_answer),
    cmocka_unit_test(signals_end_an_idle_worker),
    cmocka_unit_test(a_signal_leaves_no_files),
    cmocka_unit_test(a_host_that_does_not_read_cannot_keep_it),
    cmocka_unit_test(closed_descriptors_are_no_accident),
    cmocka_unit_test(a_file_limit_is_an_error),
    cmocka_unit_test(seeds_are_exact),
    cmocka_unit_test(the_log_tells_a_service),
    cmocka_unit_test(an_unknown_level_is_told),
    cmocka_unit_test(signals_are_logged),
};

int main(int argc, char **argv)
{
    jx_init();
    signal(SIGPIPE, SIG_IGN);
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
