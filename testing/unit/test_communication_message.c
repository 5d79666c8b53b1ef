/* test_communication_message.c - one line of the protocol, in the spellings of every generation of
 * hosts. */
#include "core/communication/message.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "testing/helpers/test.h"

static const struct {
    const char *name, *spellings;
} verbs[] = {
#define VERB(name, mode, spellings) { #name, spellings },
#include "core/communication/message_verbs.def"
#undef VERB
};

static void must_parse(const char *line, enum verb verb, const char *id)
{
    struct message m;
    struct dr_error err = { 0 };
    if (message_parse(line, strlen(line), &m, &err))
        fail_msg("%s: %s", line, err.text);
    assert_int_equal(m.verb, verb);
    assert_string_equal(message_id(&m.ids), id);
    assert_true(json_is_object(m.data));
    message_free(&m);
}

static void must_refuse(const char *line, size_t n, const char *words)
{
    struct message m;
    struct dr_error err = { 0 };
    int r = message_parse(line, n, &m, &err);
    if (r >= 0 || m.data || !strstr(err.text, words))
        fail_msg("%.80s: code %d, %s", line, r, err.text);
    message_free(&m);
}

static void every_spelling_is_its_verb(void **state)
{
    (void)state;
    static const char *const keys[] = { "type", "message_type", "command", "action" };
    for (size_t v = 0; v < sizeof verbs / sizeof *verbs; v++) {
        char words[512], line[256];
        snprintf(words, sizeof words, "%s %s", verbs[v].name, verbs[v].spellings);
        for (char *p = words; *p;) {
            size_t n = strcspn(p, " ");
            for (size_t k = 0; n && k < 4; k++) {
                snprintf(line, sizeof line, "{\"%s\":\"%.*s\",\"request_id\":\"r\"}", keys[k],
                         (int)n, p);
                must_parse(line, (enum verb)v, "r");
            }
            p += n + (p[n] == ' ');
        }
    }
}

static void every_generation_of_hosts_is_understood(void **state)
{
    (void)state;
    /* the first worker: action and parameters, no id */
    must_parse("{\"action\":\"generate_image\",\"data\":{}}", VERB_generate, "");
    must_parse("{\"action\":\"cleanup_memory\"}", VERB_unload_model, "");
    /* enveloped messages */
    must_parse("{\"message_type\":\"inference_request\",\"request_id\":\"u-1\",\"timestamp\":"
               "\"2025-07-07T00:00:00\",\"data\":{\"prompt\":\"x\"}}",
               VERB_generate, "u-1");
    must_parse("{\"message_type\":\"shutdown_request\",\"request_id\":\"u-2\"}", VERB_shutdown,
               "u-2");
    /* typed messages; the id may be in data */
    must_parse("{\"type\":\"inference\",\"data\":{\"request_id\":\"b\",\"prompt\":\"x\"}}",
               VERB_generate, "b");
    must_parse("{\"type\":\"health\",\"request_id\":7}", VERB_health, "7");
    /* worker types with commands, and correlation ids */
    must_parse("{\"workerType\":\"inference\",\"command\":\"execute_inference\","
               "\"correlationId\":\"0123456789abcdef\",\"data\":{}}",
               VERB_generate, "0123456789abcdef");
    must_parse("{\"workerType\":\"model\",\"action\":\"get_model\",\"correlationId\":\"c\"}",
               VERB_inspect, "c");
    must_parse("{\"workerType\":\"device\",\"action\":\"list_devices\",\"correlationId\":\"c\"}",
               VERB_devices, "c");
    must_parse("{\"workerType\":\"inference\",\"action\":\"cancel_session\",\"request_id\":\"c\"}",
               VERB_cancel, "c");
    must_parse("{\"workerType\":\"inference\",\"request_id\":\"d\"}", VERB_generate, "d");
    must_parse("{\"type\":\"health\",\"request_id\":\"e\",\"session_id\":\"s\",\"steps\":null}",
               VERB_health, "e");
}

static void both_ids_are_echoed(void **state)
{
    (void)state;
    static const char line[] = "{\"type\":\"health\",\"request_id\":\"a\",\"correlationId\":\"b\"}";
    struct message m;
    struct dr_error err = { 0 };
    assert_int_equal(message_parse(line, strlen(line), &m, &err), 0);
    json_t *answer = message_result(&m.ids, json_object());
    assert_non_null(answer);
    assert_string_equal(json_string_value(json_object_get(answer, "request_id")), "a");
    assert_string_equal(json_string_value(json_object_get(answer, "correlationId")), "b");
    json_decref(answer);
    message_free(&m);
}

static void bad_lines_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *line, *words;
    } cases[] = {
        { "", "message" },
        { "garbage", "message" },
        { "{\"type\":\"health\"", "message" },
        { "[]", "an array" },
        { "null", "null" },
        { "\"text\"", "a string" },
        { "{}", "type" },
        { "{\"type\":5}", "type" },
        { "{\"type\":\"generat\"}", "nearest: generate" },
        { "{\"type\":\"\"}", "verb" },
        { "{\"type\":\"health\",\"action\":\"generate\"}", "differ" },
        { "{\"type\":\"health\",\"type\":\"health\"}", "type" },
        { "{\"type\":\"health\",\"data\":[]}", "data" },
        { "{\"type\":\"health\",\"data\":\"x\"}", "data" },
        { "{\"type\":\"health\",\"request_id\":{}}", "request_id" },
        { "{\"type\":\"health\",\"request_id\":1.5}", "request_id" },
        { "{\"type\":\"health\",\"request_id\":\"a\\u0000b\"}", "message" },
        { "{\"type\":\"health\"} x", "message" },
        { "{\"type\":\"he\xff\"}", "message" },
        { "{\"type\":\"generate\",\"steps\":2,\"data\":{}}", "steps: belongs into data" },
        { "{\"type\":\"generate\",\"prompt\":\"x\"}", "prompt: belongs into data" },
        { "{\"type\":\"generate\",\"cfg_scale\":1,\"data\":{}}", "cfg_scale: belongs into" },
        { "{\"type\":\"generate\",\"hyperparameters\":{}}", "hyperparameters: belongs into" },
        { "{\"type\":\"cancel\",\"target\":\"a\"}", "target: no member of a message" },
        { "{\"type\":\"health\",\"requestid\":\"a\"}", "(nearest: request_id)" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        must_refuse(cases[i].line, strlen(cases[i].line), cases[i].words);
    must_refuse("{\"type\":\"health\"}\0", 18, "message");
}

/* The ids of a line that is refused, whatever for. */
static void refused_lines_keep_their_ids(void **state)
{
    (void)state;
#define IDS "\"request_id\":\"r\",\"correlationId\":\"c\""
    static const char *const lines[] = {
        "{\"type\":\"health\"," IDS,
        "{\"type\":\"he\xff\"," IDS "}",
        "{" IDS ",\"type\":\"a\",\"type\":\"b\"}",
        "{\"data\":{\"a\":\"\\u0000\"}," IDS "}",
        "{" IDS "}",
        "{" IDS ",\"type\":1e999}",
        "{" IDS ",\"type\":\"health\",\"data\":1e999}",
        "{" IDS ",\"type\":\"no\"}",
        "{" IDS ",\"a\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    };
    struct message m;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        if (!message_parse(lines[i], strlen(lines[i]), &m, NULL))
            fail_msg("%s: taken", lines[i]);
        if (strcmp(m.ids.request_id, "r") || strcmp(m.ids.correlation_id, "c"))
            fail_msg("%s: \"%s\", \"%s\"", lines[i], m.ids.request_id, m.ids.correlation_id);
        message_free(&m);
    }
    /* one id is wrong, the other is not */
    static const char line[] = "{\"type\":\"health\",\"request_id\":[],\"correlationId\":\"c\"}";
    struct dr_error err = { 0 };
    assert_int_equal(message_parse(line, sizeof line - 1, &m, &err), DR_EPROTO);
    assert_string_equal(m.ids.correlation_id, "c");
    assert_string_equal(err.path, "request_id");
    must_parse("{\"type\":\"health\",\"request_id\":18446744073709551616}", VERB_health,
               "18446744073709551616");
}

static void limits_hold(void **state)
{
    (void)state;
    char line[2048];
    size_t n = 0;
    n += (size_t)snprintf(line, sizeof line, "{\"type\":\"health\",\"data\":{\"a\":");
    for (int i = 0; i < 200; i++)
        line[n++] = '[';
    line[n] = '\0';
    must_refuse(line, n, "");
    n = (size_t)snprintf(line, sizeof line, "{\"type\":\"health\",\"request_id\":\"");
    memset(line + n, 'i', 300);
    n += 300;
    n += (size_t)snprintf(line + n, sizeof line - n, "\"}");
    must_refuse(line, n, "255");
}

static void a_refused_message_keeps_its_id(void **state)
{
    (void)state;
    static const char line[] = "{\"type\":\"nothing\",\"request_id\":\"a\"}";
    struct message m;
    struct dr_error err = { 0 };
    assert_int_equal(message_parse(line, strlen(line), &m, &err), DR_EPROTO);
    assert_string_equal(message_id(&m.ids), "a");
    message_free(&m);
}

static void failures_read_back(void **state)
{
    (void)state;
    struct message_ids ids = { "a", "" };
    struct dr_error said = { 0 }, heard = { 0 };
    json_t *data = NULL;
    dr_fail_field(&said, DR_EINVAL, "width", "1001", "a multiple of 8", "nearest: 1000");
    json_t *line = message_failure(&ids, &said);
    assert_int_equal(message_answer(line, &data, &heard), DR_EINVAL);
    assert_string_equal(heard.text, said.text);
    assert_string_equal(heard.path, "width");
    assert_string_equal(heard.got, "1001");
    assert_string_equal(heard.expected, "a multiple of 8");
    assert_string_equal(heard.hint, "nearest: 1000");
    json_decref(line);
    /* text that is no UTF-8 still becomes an answer */
    dr_fail(&said, DR_EFORMAT, "bad \xff byte");
    line = message_failure(&ids, &said);
    assert_int_equal(message_answer(line, &data, &heard), DR_EFORMAT);
    assert_string_equal(heard.text, "bad ? byte");
    json_decref(line);
    dr_fail_field(&said, DR_EFORMAT, "a\xff", "b\xff", "c\xff", "d\xff");
    line = message_failure(&ids, &said);
    assert_int_equal(message_answer(line, &data, &heard), DR_EFORMAT);
    assert_string_equal(heard.path, "a?");
    assert_string_equal(heard.hint, "d?");
    json_decref(line);
    line = message_error(&said); /* without the envelope */
    assert_int_equal(message_answer(line, &data, &heard), DR_EFORMAT);
    assert_string_equal(heard.got, "b?");
    assert_int_equal(json_object_size(line), 4);
    json_decref(line);
    /* an answer of another program */
    line = json_pack("{s:s}", "hello", "world");
    assert_int_equal(message_answer(line, &data, &heard), DR_EPROTO);
    json_decref(line);
    line = json_pack("{s:b,s:s}", "success", 0, "error_code", "NEVER_HEARD_OF");
    assert_int_equal(message_answer(line, &data, &heard), DR_EINTERNAL);
    json_decref(line);
}

static void progress_says_so(void **state)
{
    (void)state;
    struct message_ids ids = { "a", "" };
    json_t *line = message_progress(&ids, json_pack("{s:i}", "step", 3));
    assert_non_null(line);
    const json_t *data = json_object_get(line, "data");
    assert_string_equal(json_string_value(json_object_get(data, "type")), "progress");
    assert_true(json_is_true(json_object_get(line, "success")));
    json_decref(line);
}

static int talk(void *ctx, struct dr_error *err)
{
    (void)ctx;
    struct message m;
    struct dr_error said = { 0 };
    json_t *data = NULL;
    struct buf text;
    buf_init(&text, DR_TAG_TEST, 0);
    json_t *line = message_request(VERB_generate, "a", json_pack("{s:s}", "prompt", "x"));
    int r = line ? jx_dump(line, &text) : DR_ENOMEM;
    json_decref(line);
    if (!r)
        r = message_parse(text.data, text.len, &m, err);
    else
        dr_fail(err, r, "no memory");
    buf_free(&text);
    if (r < 0)
        return r;
    dr_fail_field(&said, DR_EINVAL, "width", "5", "more", "less");
    json_t *result = message_result(&m.ids, json_object());
    json_t *failure = message_failure(&m.ids, &said);
    r = result && failure ? message_answer(result, &data, err)
                          : dr_fail(err, DR_ENOMEM, "no memory");
    json_decref(result);
    json_decref(failure);
    message_free(&m);
    return r;
}

static void memory_may_end_anywhere(void **state)
{
    (void)state;
    test_oom_walk(talk, NULL);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(every_spelling_is_its_verb),
    cmocka_unit_test(every_generation_of_hosts_is_understood),
    cmocka_unit_test(both_ids_are_echoed),
    cmocka_unit_test(bad_lines_are_refused),
    cmocka_unit_test(refused_lines_keep_their_ids),
    cmocka_unit_test(limits_hold),
    cmocka_unit_test(a_refused_message_keeps_its_id),
    cmocka_unit_test(failures_read_back),
    cmocka_unit_test(progress_says_so),
    cmocka_unit_test(memory_may_end_anywhere),
};

int main(int argc, char **argv)
{
    jx_init();
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
