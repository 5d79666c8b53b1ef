/* JSON: strict parsing with places, members, printing that goes round. */
#include "testing/helpers/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/json.h"

static json_t *parse(const char *text)
{
    struct dr_error err;
    json_t *v = NULL;
    if (jx_parse(text, strlen(text), NULL, "test", &v, &err))
        fail_msg("%s", err.text);
    return v;
}

static void bad_json_is_refused(void **state)
{
    (void)state;
    uint64_t blocks = test_blocks();
    static const struct {
        const char *text, *place;
        int code;
    } bad[] = {
        { "", "line 1", DR_EFORMAT },
        { "{", "line 1", DR_EFORMAT },
        { "{\"a\": 1,\n \"a\": 2}", "line 2 column 4", DR_EFORMAT },
        { "[1, 2]\n x", "line 2", DR_EFORMAT },
        { "[01]", "line 1", DR_EFORMAT },
        { "[1,]", "line 1", DR_EFORMAT },
        { "{'a': 1}", "line 1", DR_EFORMAT },
        { "[NaN]", "line 1", DR_EFORMAT },
        { "[1e999,]", "line 1", DR_EFORMAT },
        { "[01e999]", "line 1", DR_EFORMAT },
        { "[-]", "line 1", DR_EFORMAT },
        { "[9223372036854775808, 00]", "line 1", DR_EFORMAT },
        { "[9223372036854775808 1]", "line 1", DR_EFORMAT },
        { "[09223372036854775808]", "line 1", DR_EFORMAT },
        { "{\"a\":1e999,\"a\":2}", "line 1 column 14: duplicate", DR_EFORMAT },
        { "[1e999,\n1e999,18446744073709551616, x]", "line 2 column 29: invalid token",
          DR_EFORMAT },
        { "[\"\xff\"]", "line 1", DR_EFORMAT },
        { "[\"\\ud800\"]", "line 1", DR_EFORMAT },
        { "{\"a\\u0000b\": 1}", "line 1", DR_EFORMAT },
        { "[\"a\nb\"]", "line", DR_EFORMAT },
        { "// comment\n{}", "line 1", DR_EFORMAT },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct dr_error err;
        json_t *v = NULL;
        int r = jx_parse(bad[i].text, strlen(bad[i].text), NULL, "request", &v, &err);
        if (r != bad[i].code || !strstr(err.text, bad[i].place) ||
            strncmp(err.text, "request: ", 9))
            fail_msg("%s: %d, %s", bad[i].text, r, r ? err.text : "taken");
        assert_null(v);
    }
    assert_int_equal(test_blocks(), blocks);
}

/* A number too large for json_t is refused by the code that reads that member. */
static void large_numbers_parse(void **state)
{
    (void)state;
    static const char *const literals[] = {
        "9223372036854775808",
        "-9223372036854775809",
        "18446744073709551615",
        "18446744073709551616",
        "1e999",
        "-1E+999",
        "1.5e400",
        "123456789012345678901e300",
    };
    struct dr_error err;
    for (size_t i = 0; i < sizeof literals / sizeof *literals; i++) {
        char text[200], expected[200];
        struct buf dump;
        int64_t number = 5;
        double real = 5;
        json_t *object = NULL;
        const char *string = NULL;
        snprintf(text, sizeof text, "{\"a\": %s, \"b\": \"%s\", \"c\": [%s,1], \"d\": 7}",
                 literals[i], literals[i], literals[i]);
        json_t *o = parse(text);
        const json_t *v = json_object_get(o, "a");
        assert_string_equal(jx_literal(v), literals[i]);
        assert_string_equal(jx_kind(v), "a number");
        assert_int_equal(jx_get_int(o, "x", "a", 0, INT64_MAX, &number, &err), DR_EINVAL);
        snprintf(expected, sizeof expected, "x.a: got %s, expected an integer of at least 0",
                 literals[i]);
        assert_string_equal(err.text, expected);
        assert_int_equal(jx_opt_number(o, "x", "a", &real, &err), DR_EINVAL);
        assert_int_equal(jx_get_object(o, "x", "a", &object, &err), DR_EINVAL);
        assert_int_equal(jx_get_string(o, "x", "a", &string, &err), DR_EINVAL);
        buf_init(&dump, DR_TAG_TEST, 0);
        assert_int_equal(jx_dump(o, &dump), 0);
        snprintf(expected, sizeof expected, "{\"a\":%s,\"b\":\"%s\",\"c\":[%s,1],\"d\":7}",
                 literals[i], literals[i], literals[i]);
        assert_string_equal(buf_text(&dump), expected);
        buf_free(&dump);
        assert_int_equal(jx_get_string(o, "x", "b", &string, &err), 0);
        assert_string_equal(string, literals[i]);
        assert_int_equal(jx_get_int(o, "x", "d", 0, 9, &number, &err), 0);
        assert_int_equal(number, 7);
        json_decref(o);
    }
}

/* The way they are kept is nobody's way to write something else into our output. */
static void what_only_looks_like_a_literal_is_none(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "{\"\\u0001number\":\"1,\\\"a\\\":2\"}",
        "{\"\\u0001number\":\"\"}",
        "{\"\\u0001number\":12}",
        "{\"\\u0001number\":\"1\",\"b\":2}",
        "{\"number\":\"1\"}",
        "{}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        json_t *v = parse(texts[i]);
        struct buf dump;
        assert_null(jx_literal(v));
        buf_init(&dump, DR_TAG_TEST, 0);
        assert_int_equal(jx_dump(v, &dump), 0);
        assert_string_equal(buf_text(&dump), texts[i]);
        buf_free(&dump);
        json_decref(v);
    }
    assert_null(jx_literal(NULL));
}

static void unsigned_integers_go_round(void **state)
{
    (void)state;
    static const uint64_t values[] = { 0, 1, INT64_MAX, (uint64_t)INT64_MAX + 1, UINT64_MAX };
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        struct buf dump;
        uint64_t back = 3;
        json_t *v = jx_uint(values[i]);
        assert_non_null(v);
        buf_init(&dump, DR_TAG_TEST, 0);
        assert_int_equal(jx_dump(v, &dump), 0);
        json_decref(v);
        v = parse(buf_text(&dump));
        assert_true(jx_as_uint(v, &back) && back == values[i]);
        assert_true(jx_digits(buf_text(&dump), &back) && back == values[i]);
        json_decref(v);
        buf_free(&dump);
    }
    static const char *const none[] = { "-1",    "18446744073709551616", "1e999", "1.0",
                                        "\"1\"", "-9223372036854775809", "{}" };
    uint64_t v;
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        json_t *value = parse(none[i]);
        assert_false(jx_as_uint(value, &v));
        json_decref(value);
    }
    assert_false(jx_digits("", &v) || jx_digits("+1", &v) || jx_digits(" 1", &v) ||
                 jx_digits("1 ", &v) || jx_digits("99999999999999999999", &v));
}

static void bombs_are_refused(void **state)
{
    (void)state;
    struct dr_error err;
    json_t *v = NULL;
    enum { DEEP = 100000 };
    char *deep = dr_malloc(DR_TAG_TEST, DEEP);
    assert_non_null(deep);
    memset(deep, '[', DEEP);
    assert_int_equal(jx_parse(deep, DEEP, NULL, "bomb", &v, &err), DR_ELIMIT);
    assert_string_equal(err.text, "bomb: line 1 column 33: nested deeper than 32");
    assert_int_equal(jx_parse(deep, 40, &(struct jx_limits){ .depth = 50 }, "bomb", &v, &err),
                     DR_EFORMAT);
    memset(deep, ',', DEEP);
    struct jx_limits few = { .members = 1000 };
    assert_int_equal(jx_parse(deep, DEEP, &few, "bomb", &v, &err), DR_ELIMIT);
    assert_int_equal(jx_parse(deep, DEEP, &(struct jx_limits){ .bytes = 99 }, "bomb", &v, &err),
                     DR_ELIMIT);
    dr_free(deep);
    const char *strings = "[\"[[[[{{{{,,,,\\\"[[[[\\\\\"]";
    struct jx_limits shallow = { .depth = 1, .members = 1 };
    assert_int_equal(jx_parse(strings, strlen(strings), &shallow, "fine", &v, &err), 0);
    json_decref(v);
}

static void members_are_typed(void **state)
{
    (void)state;
    json_t *o = parse(
        "{\"s\":\"text\",\"i\":512,\"r\":7.5,\"b\":true,\"n\":null,\"o\":{},\"a\":[1],"
        "\"big\":9223372036854775807}");
    struct dr_error err;
    const char *s = NULL;
    int64_t i = 0;
    double d = 0;
    bool b = false;
    json_t *v = NULL;
    assert_int_equal(jx_get_string(o, "", "s", &s, &err), 0);
    assert_string_equal(s, "text");
    assert_int_equal(jx_get_int(o, "", "i", 1, 512, &i, &err), 0);
    assert_int_equal(i, 512);
    assert_int_equal(jx_get_int(o, "", "big", INT64_MIN, INT64_MAX, &i, &err), 0);
    assert_true(i == INT64_MAX);
    assert_int_equal(jx_opt_number(o, "", "i", &d, &err), 0);
    assert_true(d == 512);
    assert_int_equal(jx_opt_bool(o, "", "b", &b, &err), 0);
    assert_true(b);
    assert_int_equal(jx_get_object(o, "", "o", &v, &err), 0);
    assert_int_equal(jx_get_array(o, "", "a", &v, &err), 0);
    assert_int_equal(jx_get(o, "", "n", &v, &err), 0);
    assert_int_equal(jx_get_int(o, "data", "i", 1, 100, &i, &err), DR_EINVAL);
    assert_string_equal(err.text, "data.i: got 512, expected an integer from 1 to 100");
    assert_string_equal(err.path, "data.i");
    assert_int_equal(jx_get_int(o, "data", "r", 0, INT64_MAX, &i, &err), DR_EINVAL);
    assert_string_equal(err.text, "data.r: got 7.5, expected an integer of at least 0");
    assert_int_equal(jx_get_string(o, NULL, "o", &s, &err), DR_EINVAL);
    assert_string_equal(err.text, "o: got an object, expected a string");
    assert_int_equal(jx_get_string(o, "", "gone", &s, &err), DR_EINVAL);
    assert_string_equal(err.text, "gone: expected a string (required)");
    assert_int_equal(jx_get_array(o, "", "n", &v, &err), DR_EINVAL);
    i = 77;
    assert_int_equal(jx_opt_int(o, "", "gone", 0, 1, &i, &err), 0);
    assert_int_equal(jx_opt_int(o, "", "n", 0, 1, &i, &err), 0);
    assert_int_equal(i, 77);
    assert_int_equal(jx_opt_int(o, "", "s", 0, 1, &i, &err), DR_EINVAL);
    assert_int_equal(jx_opt_string(o, "", "i", &s, &err), DR_EINVAL);
    assert_int_equal(jx_opt_number(o, "", "s", &d, &err), DR_EINVAL);
    assert_int_equal(jx_opt_bool(o, "", "i", &b, &err), DR_EINVAL);
    assert_int_equal(jx_opt_array(o, "", "o", &v, NULL), DR_EINVAL);
    json_decref(o);
}

static void printing_goes_round(void **state)
{
    (void)state;
    static const char text[] =
        "{\"z\":1,\"a\":[0.1,-0.0,1e+300,100.0,5e-324,9223372036854775807,-9223372036854775808],"
        "\"s\":\"\xc3\xa9 \\\"\\\\ \\n\\u0001 "
        "/\",\"o\":{\"t\":true,\"f\":false,\"n\":null},\"e\":{},\"l\":[]}";
    json_t *v = parse(text);
    struct buf b;
    buf_init(&b, DR_TAG_TEST, 0);
    assert_int_equal(jx_dump(v, &b), 0);
    assert_string_equal(
        buf_text(&b),
        "{\"z\":1,\"a\":[0.1,-0.0,1e+300,100.0,4.94065645841247e-324,"
        "9223372036854775807,-9223372036854775808],\"s\":\"\xc3\xa9 \\\"\\\\ "
        "\\n\\u0001 /\",\"o\":{\"t\":true,\"f\":false,\"n\":null},\"e\":{},\"l\":[]}");
    json_t *again = parse(buf_text(&b));
    assert_true(json_equal(v, again));
    json_decref(again);
    json_decref(v);
    buf_free(&b);
}

static void doubles_go_round(void **state)
{
    (void)state;
    uint64_t u = 88172645463325252u;
    struct buf b;
    buf_init(&b, DR_TAG_TEST, 0);
    for (int i = 0; i < 20000; i++) {
        double x;
        u ^= u << 13;
        u ^= u >> 7;
        u ^= u << 17;
        memcpy(&x, &u, sizeof x);
        if (!isfinite(x))
            continue;
        json_t *v = json_real(x);
        buf_clear(&b);
        assert_int_equal(jx_dump(v, &b), 0);
        if (strtod(buf_text(&b), NULL) != x || !strpbrk(buf_text(&b), ".e"))
            fail_msg("%.17g printed as %s", x, buf_text(&b));
        json_decref(v);
    }
    buf_free(&b);
}

/* As json.dump of Python writes it. */
static void infinities_of_python_are_null(void **state)
{
    (void)state;
    static const char text[] = "{\"a\":-Infinity,\"b\":[Infinity],\"c\":\"\\\"Infinity\"}";
    struct jx_limits python = { .python = true };
    json_t *v = NULL;
    assert_int_equal(jx_parse(text, sizeof text - 1, NULL, "t", &v, NULL), DR_EFORMAT);
    assert_int_equal(jx_parse(text, sizeof text - 1, &python, "t", &v, NULL), 0);
    assert_true(json_is_null(json_object_get(v, "a")));
    assert_true(json_is_null(json_array_get(json_object_get(v, "b"), 0)));
    assert_string_equal(json_string_value(json_object_get(v, "c")), "\"Infinity");
    json_decref(v);
    assert_int_equal(jx_parse("[NaN]", 5, &python, "t", &v, NULL), DR_EFORMAT);
    assert_int_equal(jx_parse("Infinit", 7, &python, "t", &v, NULL), DR_EFORMAT);
}

static void building_chains(void **state)
{
    (void)state;
    json_t *o = json_object();
    assert_int_equal(jx_set(o, "a", json_integer(1)), 0);
    assert_int_equal(jx_set(o, "bad", json_string("\xff")), DR_ENOMEM);
    assert_int_equal(jx_set(NULL, "a", json_integer(1)), DR_ENOMEM);
    assert_int_equal(jx_add(o, json_integer(1)), DR_ENOMEM);
    struct buf b;
    buf_init(&b, DR_TAG_TEST, 0);
    assert_int_equal(jx_dump(o, &b), 0);
    assert_string_equal(buf_text(&b), "{\"a\":1}");
    assert_int_equal(jx_dump(NULL, &b), DR_ENOMEM);
    buf_free(&b);
    json_decref(o);
}

static int scenario(void *ctx, struct dr_error *err)
{
    json_t *v = NULL;
    struct buf b;
    buf_init(&b, DR_TAG_TEST, 0);
    int r = jx_parse_file(ctx, NULL, &v, err);
    if (!r) {
        r = jx_dump(v, &b);
        if (r)
            dr_fail(err, r, "dump");
    }
    json_decref(v);
    buf_free(&b);
    return r;
}

static void survives_no_memory(void **state)
{
    (void)state;
    static const char text[] =
        "{\"a\":[1,2.5,\"three\",{\"four\":[null,true]}],\"b\":\"text\",\"c\":{}}";
    char path[256];
    jx_init();
    snprintf(path, sizeof path, "%s/a.json", test_dir());
    assert_int_equal(dr_write_file(path, text, sizeof text - 1, NULL), 0);
    test_oom_walk(scenario, path);
    json_t *v = NULL;
    assert_int_equal(jx_parse_file("/nowhere/at/all.json", NULL, &v, NULL), DR_ENOENT);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(large_numbers_parse),
    cmocka_unit_test(what_only_looks_like_a_literal_is_none),
    cmocka_unit_test(unsigned_integers_go_round),
    cmocka_unit_test(bad_json_is_refused),
    cmocka_unit_test(bombs_are_refused),
    cmocka_unit_test(members_are_typed),
    cmocka_unit_test(printing_goes_round),
    cmocka_unit_test(doubles_go_round),
    cmocka_unit_test(infinities_of_python_are_null),
    cmocka_unit_test(building_chains),
    cmocka_unit_test(survives_no_memory),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
