/* test_worker.c - darkroom-worker as a host program sees it: lines in, lines out. */
#include "testing/helpers/program.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/image/image.h"
#include "core/communication/lines.h"
#include "core/communication/message.h"

extern char **environ;

enum { WAIT_MS = 60000, MEGABYTE = 1 << 20 };

struct host {
    pid_t pid;
    int in, out;
    struct line_reader reader;
    json_t *ready;
    json_t *kept; /* answers that nobody has asked for yet */
};

static void spawn_worker(struct host *h, const char *option, const char *value)
{
    const char *program = getenv("DARKROOM_WORKER");
    const char *argv[] = { program, option, value, NULL };
    int to[2], from[2];
    posix_spawn_file_actions_t files;
    assert_non_null(program);
    signal(SIGPIPE, SIG_IGN);
    assert_int_equal(pipe2(to, O_CLOEXEC), 0);
    assert_int_equal(pipe2(from, O_CLOEXEC), 0);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, to[0], 0);
    posix_spawn_file_actions_adddup2(&files, from[1], 1);
    assert_int_equal(posix_spawn(&h->pid, program, &files, NULL, (char *const *)argv, environ), 0);
    posix_spawn_file_actions_destroy(&files);
    close(to[0]);
    close(from[1]);
    h->in = to[1];
    h->out = from[0];
    line_reader_init(&h->reader, h->out, 256 << 20);
}

/* The next line, which must be JSON; NULL at the end. */
static json_t *hear(struct host *h)
{
    static const struct jx_limits limits = { .bytes = 256 << 20 };
    const char *line;
    size_t n;
    json_t *event;
    struct dr_error err = { 0 };
    int r = line_read(&h->reader, WAIT_MS, &line, &n, &err);
    if (r < 0)
        fail_msg("%s", err.text);
    if (!r)
        return NULL;
    if (jx_parse(line, n, &limits, "stdout", &event, &err))
        fail_msg("%s: %.200s", err.text, line);
    return event;
}

static void begin(struct host *h, const char *option, const char *value)
{
    spawn_worker(h, option, value);
    h->ready = hear(h);
    h->kept = json_array();
    assert_non_null(h->ready);
}

static void say(struct host *h, const char *text)
{
    size_t n = strlen(text);
    while (n) {
        ssize_t k = write(h->in, text, n);
        assert_true(k > 0);
        text += k;
        n -= (size_t)k;
    }
}

static void say_json(struct host *h, json_t *message)
{
    char *text = json_dumps(message, JSON_COMPACT);
    assert_non_null(text);
    say(h, text);
    say(h, "\n");
    dr_free(text);
    json_decref(message);
}

/* A quick picture; `more` (taken over) goes into data. */
static void ask_picture(struct host *h, const char *id, json_t *more)
{
    json_t *data = json_pack("{s:s,s:s,s:i,s:i,s:i,s:i}", "model", program_model(), "prompt", "x",
                             "width", 64, "height", 48, "steps", 2, "seed", 1);
    if (more)
        json_object_update(data, more);
    json_decref(more);
    say_json(h, json_pack("{s:s,s:s,s:o}", "type", "generate", "request_id", id, "data", data));
}

static void ask_long(struct host *h, const char *id)
{
    ask_picture(
        h, id,
        json_pack("{s:i,s:i,s:i,s:b}", "width", 512, "height", 512, "steps", 500, "stream", 1));
}

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static bool is_progress(const json_t *event)
{
    return !strcmp(text_of(json_object_get(event, "data"), "type"), "progress");
}

/* The answer to `id`. Answers to others that come before it are kept, progress is dropped. */
static json_t *answer(struct host *h, const char *id)
{
    for (size_t i = 0; i < json_array_size(h->kept); i++) {
        json_t *event = json_array_get(h->kept, i);
        if (!strcmp(text_of(event, "request_id"), id)) {
            json_incref(event);
            json_array_remove(h->kept, i);
            return event;
        }
    }
    for (;;) {
        json_t *event = hear(h);
        if (!event)
            fail_msg("no answer to %s", id);
        bool progress = is_progress(event);
        if (!progress && !strcmp(text_of(event, "request_id"), id))
            return event;
        if (progress)
            json_decref(event);
        else
            json_array_append_new(h->kept, event);
    }
}

static void must_fail(struct host *h, const char *id, const char *code, const char *path)
{
    json_t *event = answer(h, id);
    const json_t *detail = json_array_get(json_object_get(event, "details"), 0);
    if (!json_is_false(json_object_get(event, "success")) ||
        strcmp(text_of(event, "error_code"), code) ||
        (path && strcmp(text_of(detail, "path"), path)))
        fail_msg("%s: %s %s: %s", id, text_of(event, "error_code"), text_of(detail, "path"),
                 text_of(event, "error"));
    json_decref(event);
}

static void must_be_healthy(struct host *h)
{
    say(h, "{\"type\":\"health\",\"request_id\":\"health\"}\n");
    json_t *event = answer(h, "health");
    assert_string_equal(text_of(json_object_get(event, "data"), "status"), "healthy");
    json_decref(event);
}

/* Closes its input and returns its exit status. */
static int end(struct host *h)
{
    int status = -1;
    json_t *event;
    if (h->in >= 0)
        close(h->in);
    while ((event = hear(h)))
        json_decref(event);
    assert_int_equal(waitpid(h->pid, &status, 0), h->pid);
    line_reader_free(&h->reader);
    close(h->out);
    json_decref(h->ready);
    json_decref(h->kept);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void ready_is_the_first_line(void **state)
{
    (void)state;
    struct host h;
    begin(&h, NULL, NULL);
    assert_true(json_is_true(json_object_get(h.ready, "success")));
    assert_string_equal(text_of(h.ready, "status"), "ready");
    assert_int_equal(json_integer_value(json_object_get(h.ready, "protocol")), MESSAGE_PROTOCOL);
    assert_true(json_array_size(json_object_get(h.ready, "verbs")) == VERB_COUNT);
    assert_true(json_array_size(json_object_get(h.ready, "samplers")) >= 7);
    assert_true(json_is_object(json_object_get(h.ready, "request")));
    const json_t *limits = json_object_get(h.ready, "limits");
    assert_int_equal(json_integer_value(json_object_get(limits, "line_bytes")), MESSAGE_LINE_BYTES);
    assert_int_equal(end(&h), 0);
}

static void the_end_of_input_drains(void **state)
{
    (void)state;
    struct host h;
    begin(&h, NULL, NULL);
    for (int i = 0; i < 3; i++) {
        char id[8];
        snprintf(id, sizeof id, "job%d", i);
        ask_picture(&h, id, NULL);
    }
    /* without its newline the last line counts too */
    say(&h, "{\"type\":\"health\",\"request_id\":\"last\"}");
    close(h.in);
    h.in = -1;
    int heard = 0;
    json_t *event;
    while ((event = hear(&h))) {
        assert_true(json_is_true(json_object_get(event, "success")));
        heard++;
        json_decref(event);
    }
    assert_int_equal(heard, 4);
    assert_int_equal(end(&h), 0);
}

static void cancel_answers_while_a_job_runs(void **state)
{
    (void)state;
    struct host h;
    json_t *event;
    begin(&h, NULL, NULL);
    ask_long(&h, "long");
    do { /* until it steps */
        event = hear(&h);
        assert_true(event && is_progress(event));
        bool stepping = json_integer_value(
                            json_object_get(json_object_get(event, "data"), "step")) > 0;
        json_decref(event);
        if (stepping)
            break;
    } while (true);
    double asked = dr_now();
    must_be_healthy(&h);
    assert_true(dr_now() - asked < 2);
    ask_long(&h, "waiting");
    say(&h, "{\"type\":\"status\",\"request_id\":\"s\",\"data\":{\"target\":\"long\"}}\n");
    event = answer(&h, "s");
    assert_string_equal(text_of(json_object_get(event, "data"), "status"), "running");
    json_decref(event);
    asked = dr_now();
    say(&h, "{\"type\":\"cancel\",\"request_id\":\"c1\",\"data\":{\"target\":\"waiting\"}}\n"
            "{\"type\":\"cancel\",\"request_id\":\"c2\",\"data\":{\"target\":\"long\"}}\n");
    must_fail(&h, "waiting", "CANCELED", ""); /* at once, although another job runs */
    event = answer(&h, "c2");
    assert_true(json_is_true(json_object_get(json_object_get(event, "data"), "cancelled")));
    json_decref(event);
    must_fail(&h, "long", "CANCELED", "");
    assert_true(dr_now() - asked < 4);
    ask_picture(&h, "after", NULL); /* and it is as good as new */
    event = answer(&h, "after");
    assert_true(json_is_true(json_object_get(event, "success")));
    json_decref(event);
    assert_int_equal(end(&h), 0);
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
    begin(&h, NULL, NULL);
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        say(&h, lines[i]);
        say(&h, "\r\n\n");
        json_t *event = hear(&h);
        assert_true(json_is_false(json_object_get(event, "success")));
        assert_true(*text_of(event, "error") && *text_of(event, "error_code"));
        json_decref(event);
    }
    must_be_healthy(&h);
    assert_int_equal(end(&h), 0);
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
    begin(&h, NULL, NULL);
    say(&h, "{\"type\":\"health\",\"data\":{\"a\":");
    say(&h, text);
    say(&h, "\n");
    json_t *event = hear(&h);
    assert_true(json_is_false(json_object_get(event, "success")));
    json_decref(event);
    must_be_healthy(&h);
    dr_free(text);
    assert_int_equal(end(&h), 0);
}

static void a_line_that_never_ends_is_refused(void **state)
{
    (void)state;
    struct host h;
    char *text = dr_malloc(DR_TAG_TEST, MEGABYTE + 1);
    assert_non_null(text);
    memset(text, ' ', MEGABYTE);
    text[MEGABYTE] = '\0';
    begin(&h, NULL, NULL);
    for (int i = 0; i < 65; i++)
        say(&h, text);
    json_t *event = hear(&h);
    assert_string_equal(text_of(event, "error_code"), "LIMIT_EXCEEDED");
    json_decref(event);
    for (int i = 0; i < 65; i++) /* more of it is not told again */
        say(&h, text);
    say(&h, "\n");
    must_be_healthy(&h);
    dr_free(text);
    assert_int_equal(end(&h), 0);
}

static void paths_stay_in_the_roots(void **state)
{
    (void)state;
    struct host h;
    char root[300], path[400];
    const char *folder = program_folder();
    snprintf(root, sizeof root, "%s/root", folder);
    assert_int_equal(dr_mkdirs("root", NULL), 0);
    assert_int_equal(dr_mkdirs("secret", NULL), 0);
    assert_int_equal(symlink("../secret", "root/out"), 0);
    begin(&h, "--root", root);
    static const char *const outside[] = { "/tmp",   "%s/..",    "%s/../secret",
                                           "%s/out", "%s/out/x", "%s/new/../../secret" };
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++) {
        if (outside[i][0] == '%')
            snprintf(path, sizeof path, "%s%s", root, outside[i] + 2);
        else
            snprintf(path, sizeof path, "%s", outside[i]);
        ask_picture(&h, "save", json_pack("{s:s}", "save_path", path));
        must_fail(&h, "save", "INVALID_VALUE", "save_path");
        ask_picture(&h, "dump", json_pack("{s:s}", "dump_stages", path));
        must_fail(&h, "dump", "INVALID_VALUE", "dump_stages");
        ask_picture(&h, "load", json_pack("{s:{s:s}}", "load_stage", "image", path));
        must_fail(&h, "load", "INVALID_VALUE", "load_stage");
    }
    snprintf(path, sizeof path, "%s/new/er", root);
    ask_picture(&h, "../../evil", json_pack("{s:s,s:i}", "save_path", path, "batch_size", 2));
    json_t *event = answer(&h, "../../evil");
    const json_t *images = json_object_get(json_object_get(event, "data"), "images");
    assert_int_equal(json_array_size(images), 2);
    assert_int_equal(program_entries("root/new/er"), 2);
    assert_memory_equal(json_string_value(json_array_get(images, 0)), path, strlen(path));
    json_decref(event);
    assert_int_equal(program_entries("secret"), 0);
    assert_int_equal(program_entries("."), 2);
    assert_int_equal(end(&h), 0);
}

/* Two ids never share a file, whatever is in them. */
static void files_are_called_by_their_id(void **state)
{
    (void)state;
    struct host h;
    char ids[6][256] = { "a_b", "a/b", "a b", "\xe6\x97\xa5" }, path[400];
    for (int i = 4; i < 6; i++) {
        memset(ids[i], 'x', 200);
        ids[i][200] = (char)('0' + i);
    }
    const char *folder = program_folder();
    begin(&h, "--root", folder);
    for (int i = 0; i < 6; i++) {
        ask_picture(&h, ids[i], json_pack("{s:s}", "save_path", folder));
        json_t *event = answer(&h, ids[i]);
        assert_true(json_is_true(json_object_get(event, "success")));
        json_decref(event);
        assert_int_equal(program_entries(folder), i + 1);
    }
    snprintf(path, sizeof path, "%s/a_b_000.png", folder);
    assert_true(dr_is_file(path));
    assert_int_equal(end(&h), 0);
}

/* An error that quotes more than there is room for is cut between characters. */
static void long_values_are_quoted(void **state)
{
    (void)state;
    struct host h;
    char value[401] = "";
    for (size_t i = 0; i < 400; i += 2)
        memcpy(value + i, "\xc3\xa9", 3);
    begin(&h, NULL, NULL);
    ask_picture(&h, "a", json_pack("{s:s}", "sampler", value));
    must_fail(&h, "a", "INVALID_VALUE", "sampler");
    ask_picture(&h, "b", json_pack("{s:i}", value, 1));
    must_fail(&h, "b", "INVALID_VALUE", NULL);
    assert_int_equal(end(&h), 0);
}

static void without_a_root_there_is_base64(void **state)
{
    (void)state;
    struct host h;
    struct buf bytes;
    int64_t width, height;
    const char *folder = program_folder();
    begin(&h, NULL, NULL);
    ask_picture(&h, "a", json_pack("{s:s}", "save_path", folder));
    must_fail(&h, "a", "INVALID_VALUE", "save_path");
    ask_picture(&h, "b", NULL);
    json_t *event = answer(&h, "b");
    const json_t *data = json_object_get(event, "data");
    const char *text = json_string_value(json_array_get(json_object_get(data, "images"), 0));
    assert_non_null(text);
    assert_string_equal(text_of(data, "encoding"), "base64");
    buf_init(&bytes, DR_TAG_TEST, 0);
    assert_int_equal(base64_decode(text, strlen(text), false, &bytes, NULL), 0);
    assert_int_equal(img_sniff(bytes.data, bytes.len), IMG_PNG);
    assert_int_equal(img_probe(bytes.data, bytes.len, &width, &height, NULL), 0);
    assert_int_equal(width, 64);
    assert_int_equal(json_integer_value(json_array_get(json_object_get(data, "seed_used"), 0)), 1);
    buf_free(&bytes);
    json_decref(event);
    assert_int_equal(program_entries(folder), 0);
    assert_int_equal(end(&h), 0);
}

static void every_id_is_echoed(void **state)
{
    (void)state;
    struct host h;
    begin(&h, NULL, NULL);
    say(&h, "{\"workerType\":\"device\",\"action\":\"list_devices\",\"correlationId\":"
            "\"0123456789abcdef\"}\n");
    json_t *event = hear(&h);
    assert_string_equal(text_of(event, "correlationId"), "0123456789abcdef");
    assert_null(json_object_get(event, "request_id"));
    json_decref(event);
    say(&h, "{\"type\":\"health\",\"correlationId\":\"c\",\"request_id\":\"r\"}\n");
    event = hear(&h);
    assert_string_equal(text_of(event, "correlationId"), "c");
    assert_string_equal(text_of(event, "request_id"), "r");
    json_decref(event);
    say(&h, "{\"type\":\"frobnicate\",\"correlationId\":\"c\",\"request_id\":\"r\"}\n");
    event = hear(&h);
    assert_string_equal(text_of(event, "correlationId"), "c");
    assert_string_equal(text_of(event, "request_id"), "r");
    json_decref(event);
    assert_int_equal(end(&h), 0);
}

static int progress_lines(struct host *h, const char *id)
{
    int n = 0;
    for (;;) {
        json_t *event = hear(h);
        assert_non_null(event);
        bool progress = is_progress(event);
        assert_string_equal(text_of(event, "request_id"), id);
        json_decref(event);
        if (!progress)
            return n;
        n++;
    }
}

static void progress_comes_when_asked_for(void **state)
{
    (void)state;
    struct host h;
    begin(&h, NULL, NULL);
    ask_picture(&h, "quiet", NULL);
    assert_int_equal(progress_lines(&h, "quiet"), 0);
    ask_picture(&h, "told", json_pack("{s:b}", "stream", 1));
    assert_true(progress_lines(&h, "told") >= 2);
    assert_int_equal(end(&h), 0);
}

static void fields_are_checked(void **state)
{
    (void)state;
    struct host h;
    begin(&h, NULL, NULL);
    ask_picture(&h, "a", json_pack("{s:i}", "widht", 64));
    must_fail(&h, "a", "INVALID_VALUE", "widht");
    ask_picture(&h, "b", json_pack("{s:i}", "width", 1001));
    must_fail(&h, "b", "INVALID_VALUE", "width");
    ask_picture(&h, "c", json_pack("{s:i}", "num_inference_steps", 3));
    must_fail(&h, "c", "INVALID_VALUE", "num_inference_steps");
    ask_picture(&h, "d", json_pack("{s:s}", "model", "/no/such/model"));
    must_fail(&h, "d", "NOT_FOUND", "/no/such/model");
    assert_int_equal(end(&h), 0);
}

/* A receipt is a request for the same picture. */
static void a_receipt_is_a_request(void **state)
{
    (void)state;
    static const char *const fields[] = {
        "{\"sampler\":\"ddim\",\"eta\":0.5,\"crop\":\"8,4\",\"vae_tiling\":\"on\"}",
        "{\"negative_prompt\":\"\",\"schedule\":\"karras\",\"batch_size\":2,\"clip_skip\":1}",
        "{\"precision\":\"f32\",\"guidance_scale\":7.3,\"guidance_rescale\":0.1,\"rng\":\"cuda\"}",
        "{\"seed\":-1,\"sampler\":\"heun\",\"prompt_2\":\"y\",\"negative_prompt\":\"z\"}",
    };
    struct host h;
    begin(&h, "--models", test_source("testing/golden/odd"));
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        ask_picture(&h, "first", json_loads(fields[i], 0, NULL));
        json_t *first = answer(&h, "first"), *data = json_object_get(first, "data");
        size_t last = json_array_size(json_object_get(data, "images")) - 1;
        json_t *receipt = json_array_get(json_object_get(data, "receipts"), last);
        assert_non_null(receipt);
        say_json(&h, json_pack("{s:s,s:s,s:O}", "type", "generate", "request_id", "again", "data",
                               receipt));
        json_t *again = answer(&h, "again"), *repeated = json_object_get(again, "data");
        if (!json_is_true(json_object_get(again, "success")))
            fail_msg("%s", text_of(again, "error"));
        assert_true(json_equal(json_array_get(json_object_get(data, "images"), last),
                               json_array_get(json_object_get(repeated, "images"), 0)));
        assert_true(json_equal(receipt, json_array_get(json_object_get(repeated, "receipts"), 0)));
        assert_int_equal(json_array_size(json_object_get(repeated, "warnings")),
                         json_array_size(json_object_get(data, "warnings")));
        json_decref(first);
        json_decref(again);
    }
    assert_int_equal(end(&h), 0);
}

static void a_receipt_of_something_else_is_told(void **state)
{
    (void)state;
    struct host h;
    char digest[65];
    memset(digest, 'a', 64);
    digest[64] = '\0';
    begin(&h, "--models", test_source("testing/golden/odd"));
    ask_picture(&h, "a", json_pack("{s:s,s:s}", "model", "model", "model_sha256", digest));
    must_fail(&h, "a", "INVALID_VALUE", "model_sha256");
    ask_picture(&h, "b", json_pack("{s:s}", "prediction", "sample"));
    must_fail(&h, "b", "INVALID_VALUE", "prediction");
    ask_picture(&h, "c", json_pack("{s:s,s:i}", "version", "0.0.1", "layout", 1000));
    json_t *event = answer(&h, "c");
    const json_t *warnings = json_object_get(json_object_get(event, "data"), "warnings");
    assert_true(json_array_size(warnings) >= 2);
    json_decref(event);
    ask_picture(&h, "d", json_pack("{s:s}", "model", "nowhere"));
    must_fail(&h, "d", "INVALID_VALUE", "model");
    assert_int_equal(end(&h), 0);
}

static void shutdown_drains_and_ends(void **state)
{
    (void)state;
    struct host h;
    begin(&h, NULL, NULL);
    ask_picture(&h, "job", NULL);
    say(&h, "{\"type\":\"shutdown\",\"request_id\":\"end\"}\n");
    json_t *event = answer(&h, "job");
    assert_true(json_is_true(json_object_get(event, "success")));
    json_decref(event);
    assert_null(hear(&h)); /* although its input is open */
    assert_int_equal(end(&h), 0);
}

static void a_host_that_goes_ends_it(void **state)
{
    (void)state;
    struct host h;
    int status;
    begin(&h, NULL, NULL);
    ask_long(&h, "long");
    close(h.out); /* nobody reads its progress */
    double closed = dr_now();
    assert_int_equal(waitpid(h.pid, &status, 0), h.pid);
    assert_true(dr_now() - closed < 10);
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
    begin(&h, NULL, NULL);
    ask_picture(&h, "long", json_pack("{s:i,s:i,s:i}", "width", 512, "height", 512, "steps", 500));
    close(h.in);
    usleep(300000); /* it has seen the end of input and drains */
    close(h.out);
    double closed = dr_now();
    assert_int_equal(waitpid(h.pid, &status, 0), h.pid);
    assert_true(dr_now() - closed < 5);
    line_reader_free(&h.reader);
    json_decref(h.ready);
    json_decref(h.kept);
}

static void a_bad_start_is_one_line(void **state)
{
    (void)state;
    static const char *const options[][2] = { { "--root", "/no/such/folder" },
                                              { "--kernels", "mmx" } };
    for (size_t i = 0; i < 2; i++) {
        struct host h;
        spawn_worker(&h, options[i][0], options[i][1]);
        h.ready = hear(&h);
        h.kept = NULL;
        assert_true(json_is_false(json_object_get(h.ready, "success")));
        assert_non_null(strstr(text_of(h.ready, "error"), options[i][1]));
        assert_int_equal(end(&h), 1);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(ready_is_the_first_line),
    cmocka_unit_test(the_end_of_input_drains),
    cmocka_unit_test(cancel_answers_while_a_job_runs),
    cmocka_unit_test(bad_lines_are_answered_and_survived),
    cmocka_unit_test(deep_json_is_refused),
    cmocka_unit_test(a_line_that_never_ends_is_refused),
    cmocka_unit_test(paths_stay_in_the_roots),
    cmocka_unit_test(files_are_called_by_their_id),
    cmocka_unit_test(long_values_are_quoted),
    cmocka_unit_test(without_a_root_there_is_base64),
    cmocka_unit_test(every_id_is_echoed),
    cmocka_unit_test(progress_comes_when_asked_for),
    cmocka_unit_test(fields_are_checked),
    cmocka_unit_test(a_receipt_is_a_request),
    cmocka_unit_test(a_receipt_of_something_else_is_told),
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
