/* test_communication_id_scan.c - the ids of lines that are no JSON, and hostile bytes. */
#include "core/communication/id_scan.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/utf8.h"
#include "testing/helpers/test.h"

static void must_find(const char *line, size_t n, const char *request_id, const char *correlation)
{
    struct message_ids ids;
    /* a copy of exactly that size, so that a checker of memory sees a byte read too many */
    char *copy = dr_malloc(DR_TAG_TEST, n ? n : 1);
    assert_non_null(copy);
    memcpy(copy, line, n);
    id_scan(copy, n, &ids);
    dr_free(copy);
    if (strcmp(ids.request_id, request_id) || strcmp(ids.correlation_id, correlation))
        fail_msg("%.200s: found \"%s\" and \"%s\"", line, ids.request_id, ids.correlation_id);
}

static void find(const char *line, const char *request_id, const char *correlation)
{
    must_find(line, strlen(line), request_id, correlation);
}

static void ids_are_found_in_broken_lines(void **state)
{
    (void)state;
    find("{\"type\":\"generate\",\"request_id\":\"a\",\"data\":{\"prompt\":\"x", "a", "");
    find("{\"request_id\":\"a\",\"seed\":1e999}", "a", "");
    find("{\"seed\":\"\\u0000\",\"request_id\":\"a\"}", "a", "");
    find("{\"a\":1,\"a\":2,\"request_id\" \t: \"b c\" }", "b c", "");
    find("{\"p\":\"\xff\xfe\",\"request_id\":\"a\"}", "a", "");
    find("{\"p\":[[[{}]],{\"q\":[1,2]}],\"correlationId\":\"c\",\"request_id\":\"r\"}", "r", "c");
    find("{\"request_id\":\"a\",}", "a", "");
    find("{\"type\":\"health\"\"request_id\":\"a\"}", "a", "");
    find("{\"type\":health,\"request_id\":17}", "17", "");
    find("{\"request_id\":-5,\"x\":nan}", "-5", "");
    find("{\"request_id\":18446744073709551616}", "18446744073709551616", "");
    find("{\"request_id\":\"a\"}{\"request_id\":\"b\"}", "a", "");
    find("{\"request_id\":\"a\",\"request_id\":\"b\"}", "a", "");
    find("{\"r\\u0065quest_id\":\"\\ud83d\\ude00\\u00e9\\n\\\"\"} x",
         "\xf0\x9f\x98\x80\xc3\xa9\n\"", "");
    find("{\"data\":{\"request_id\":\"d\",\"prompt\":\"x", "d", "");
    find("{\"data\":{\"request_id\":\"d\"},\"request_id\":\"a\"", "a", "");
    find("{\"data\":{\"request_id\":\"d\"},\"correlationId\":\"c\"", "", "c");
    find("  {\"request_id\":null,\"data\":{\"request_id\":4}}", "4", "");
}

static void what_is_no_id_is_not_taken(void **state)
{
    (void)state;
    find("", "", "");
    find("request_id", "", "");
    find("\"request_id\":\"a\"", "", "");
    find("[{\"request_id\":\"a\"}]", "", "");
    find("[\"request_id\",\"a\"]", "", "");
    /* in a string, whatever it looks like */
    find("{\"prompt\":\"{\\\"request_id\\\":\\\"a\\\"}\",\"x\":", "", "");
    find("{\"prompt\":\",\\\"request_id\\\":\\\"a\\\"", "", "");
    find("{\"prompt\":\"request_id\":\"a\"}", "", "");
    find("{\"prompt\":\"request_id\",\"a\":1", "", "");
    find("{\"prompt\":[\"request_id\",\"a\"]", "", "");
    /* deeper than it may stand */
    find("{\"data\":{\"x\":{\"request_id\":\"a\"}}", "", "");
    find("{\"x\":{\"request_id\":\"a\"}}", "", "");
    find("{\"data\":[{\"request_id\":\"a\"}]", "", "");
    find("{\"data\":[\"request_id\":\"a\"]", "", "");
    find("{\"data\":{\"correlationId\":\"a\"}", "", "");
    find("{\"data\":1,\"x\":{\"request_id\":\"a\"}", "", "");
    find("{\"data\":\"x\" {\"request_id\":\"a\"}", "", "");
    /* brackets that do not match */
    find("{\"x\":{\"y\":[}},\"request_id\":\"a\"", "", "");
    find("{\"x\":1]\"request_id\":\"a\"}", "", "");
    find("}{\"request_id\":\"a\"}", "", "");
    /* not acceptable, or not whole */
    find("{\"request_id\":\"a", "", "");
    find("{\"request_id\":12", "", "");
    find("{\"request_id\":\"a\\u0000b\"}", "", "");
    find("{\"request_id\":\"\\ud800\"}", "", "");
    find("{\"request_id\":\"\\x\"}", "", "");
    find("{\"request_id\":\"\xff\"}", "", "");
    find("{\"request_id\":1.5}", "", "");
    find("{\"request_id\":1e5}", "", "");
    find("{\"request_id\":{\"a\":\"b\"}}", "", "");
    find("{\"request_id\":[\"b\"]}", "", "");
    find("{\"request_id\":true}", "", "");
    must_find("{\"request_id\":\"a\0b\"}", 20, "", "");
}

static void the_longest_id_fits(void **state)
{
    (void)state;
    char line[400], id[MESSAGE_ID_BYTES + 1];
    for (int extra = 0; extra < 2; extra++) {
        memset(id, 'x', sizeof id);
        id[MESSAGE_ID_BYTES - 1 + extra] = '\0';
        snprintf(line, sizeof line, "{\"request_id\":\"%s\",", id);
        find(line, extra ? "" : id, "");
    }
}

static void depth_has_no_end(void **state)
{
    (void)state;
    enum { DEEP = 100000 };
    char *line = dr_malloc(DR_TAG_TEST, 2 * DEEP + 100);
    assert_non_null(line);
    size_t n = (size_t)snprintf(line, 100, "{\"a\":");
    memset(line + n, '[', DEEP);
    memset(line + n + DEEP, ']', DEEP);
    n += 2 * DEEP;
    n += (size_t)snprintf(line + n, 50, ",\"request_id\":\"z\"}");
    must_find(line, n, "z", "");
    dr_free(line);
}

/* Any bytes: no crash, and what is found is text that an answer can carry. */
static void hostile_bytes_are_survived(void **state)
{
    (void)state;
    static const char *const pieces[] = {
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"",
        "\\",
        "\\u",
        "d83d",
        "\"request_id\"",
        "\"correlationId\":",
        "\"data\":{",
        "\"a\"",
        "-",
        "12",
        "\xff",
        "\xc3",
        " ",
        "\\u0000",
    };
    enum { PIECES = sizeof pieces / sizeof *pieces, ROUNDS = 200000, MOST = 24 };
    uint32_t seed = 12345;
    for (int round = 0; round < ROUNDS; round++) {
        char line[MOST * 20];
        size_t n = 0;
        struct message_ids ids;
        for (int i = 0; i < MOST; i++) {
            seed = seed * 1664525u + 1013904223u;
            const char *piece = pieces[(seed >> 8) % PIECES];
            memcpy(line + n, piece, strlen(piece));
            n += strlen(piece);
            if ((seed >> 24) == 7)
                line[n - 1] = (char)(seed >> 12);
        }
        id_scan(line, n, &ids);
        size_t a = strlen(ids.request_id), b = strlen(ids.correlation_id);
        assert_true(a < MESSAGE_ID_BYTES && utf8_valid_prefix(ids.request_id, a) == a);
        assert_true(b < MESSAGE_ID_BYTES && utf8_valid_prefix(ids.correlation_id, b) == b);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(ids_are_found_in_broken_lines), cmocka_unit_test(what_is_no_id_is_not_taken),
    cmocka_unit_test(the_longest_id_fits),           cmocka_unit_test(depth_has_no_end),
    cmocka_unit_test(hostile_bytes_are_survived),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
