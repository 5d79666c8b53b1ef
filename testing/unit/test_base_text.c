/* UTF-8, base64, nearest names, log lines, timestamps. */
#include "testing/helpers/test.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/nearest.h"
#include "base/utf8.h"

static void every_scalar_goes_round(void **state)
{
    (void)state;
    for (uint32_t c = 0; c <= 0x110000; c++) {
        char s[4];
        uint32_t back = ~c;
        size_t n = utf8_encode(c, s);
        bool scalar = c <= 0x10ffff && (c < 0xd800 || c > 0xdfff);
        if (!n != !scalar)
            fail_msg("U+%04X: %zu bytes", c, n);
        if (n && (utf8_decode(s, n, &back) != n || back != c || utf8_decode(s, n - 1, &back)))
            fail_msg("U+%04X does not come back", c);
    }
}

static void bad_utf8_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "\x80",
        "\xbf",
        "\xc0\x80",
        "\xc1\xbf",
        "\xe0\x80\x80",
        "\xe0\x9f\xbf",
        "\xed\xa0\x80",
        "\xed\xbf\xbf",
        "\xf0\x80\x80\x80",
        "\xf0\x8f\xbf\xbf",
        "\xf4\x90\x80\x80",
        "\xf5\x80\x80\x80",
        "\xff",
        "\xfe",
        "\xc3",
        "\xe2\x82",
        "\xf0\x9f\x98",
        "\xc3(",
        "\xe2(\xa1",
        "\xf8\x88\x80\x80\x80",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        uint32_t c;
        if (utf8_decode(bad[i], strlen(bad[i]), &c))
            fail_msg("bad sequence %zu was taken for U+%04X", i, c);
    }
    struct dr_error err;
    const char text[] = "h\xc3\xa9 \xe2\x82\xac\xff!";
    assert_int_equal(utf8_valid_prefix(text, sizeof text - 1), 7);
    assert_int_equal(utf8_count(text, 7), 4);
    assert_int_equal(utf8_check(text, sizeof text - 1, "prompt", &err), DR_EINVAL);
    assert_string_equal(err.text, "prompt: not valid UTF-8 at byte 7 (0xff)");
}

static void base64_goes_round(void **state)
{
    (void)state;
    static const char *const known[] = { "",         "Zg==",     "Zm8=",    "Zm9v",
                                         "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy" };
    uint8_t bytes[256];
    for (int i = 0; i < 256; i++)
        bytes[i] = (uint8_t)(i * 7);
    for (size_t n = 0; n <= 256; n++) {
        struct buf text, back;
        buf_init(&text, DR_TAG_TEST, 0);
        buf_init(&back, DR_TAG_TEST, 0);
        assert_int_equal(base64_encode(bytes, n, &text), 0);
        assert_int_equal(text.len, base64_length(n));
        assert_int_equal(base64_decode(buf_text(&text), text.len, false, &back, NULL), 0);
        assert_int_equal(back.len, n);
        assert_memory_equal(buf_text(&back), bytes, n);
        if (n < 7) { /* RFC 4648, 10 */
            buf_clear(&text);
            assert_int_equal(base64_encode("foobar", n, &text), 0);
            assert_string_equal(buf_text(&text), known[n]);
        }
        buf_free(&text);
        buf_free(&back);
    }
}

static void bad_base64_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = { "Zg",   "Zg=",  "Z",     "====",  "Zg==Zg==",
                                       "Zh==", "Zm9=", "Zm9v=", "Zm 9v", "Zm-v",
                                       "Zg=a", "=m9v", "Z=9v",  "Zg===", "Zm9vZg==\n" };
    struct buf back;
    struct dr_error err;
    buf_init(&back, DR_TAG_TEST, 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (base64_decode(bad[i], strlen(bad[i]), false, &back, &err) != DR_EFORMAT || back.len)
            fail_msg("'%s' was taken", bad[i]);
    }
    assert_int_equal(base64_decode(" Zm\r\n9v\tZg = =\n", 15, true, &back, &err), 0);
    assert_string_equal(buf_text(&back), "foof");
    buf_free(&back);
    buf_init(&back, DR_TAG_TEST, 8);
    assert_int_equal(base64_decode("Zm9vYmFyZm9vYmFy", 16, false, &back, &err), DR_ELIMIT);
    buf_free(&back);
}

static void nearest_name(void **state)
{
    (void)state;
    static const char *const names[] = { "euler", "euler_a", "heun", "dpmpp_2m", "unipc", "ddim" };
    enum { N = sizeof names / sizeof *names };
    assert_string_equal(dr_nearest("eular", names, N), "euler");
    assert_string_equal(dr_nearest("EULER A", names, N), "euler_a");
    assert_string_equal(dr_nearest("dpmpp-2m", names, N), "dpmpp_2m");
    assert_string_equal(dr_nearest("ehun", names, N), "heun");
    assert_string_equal(dr_nearest("un", names, N), "unipc");
    assert_null(dr_nearest("", names, N));
    assert_null(dr_nearest("xyzzy", names, N));
    assert_null(dr_nearest("steps", names, 0));
    char longest[300];
    memset(longest, 'e', sizeof longest);
    longest[299] = '\0';
    assert_null(dr_nearest(longest, names, N));
}

static void log_lines_are_whole(void **state)
{
    (void)state;
    int ends[2];
    char text[4096] = "";
    assert_int_equal(pipe(ends), 0);
    dr_log_to(ends[1]);
    dr_log_set_level(DR_LOG_INFO);
    assert_true(dr_log_on(DR_LOG_WARN) && !dr_log_on(DR_LOG_DEBUG) && !dr_log_on(DR_LOG_OFF));
    dr_log_line(DR_LOG_DEBUG, "loader", "not written");
    dr_log_line(DR_LOG_WARN, "loader", "two\nlines and a \x1b[1m");
    dr_log_json(true);
    dr_log_line(DR_LOG_ERROR, "loader", "a \"quote\" and \\ and \x01");
    dr_log_json(false);
    dr_log_to(2);
    ssize_t n = read(ends[0], text, sizeof text - 1);
    close(ends[0]);
    close(ends[1]);
    assert_true(n > 0);
    assert_int_equal(strlen(text), n);
    char *second = strchr(text, '\n');
    assert_non_null(second);
    *second++ = '\0';
    assert_string_equal(text + 8, " warn loader: two\\nlines and a \\x1b[1m");
    assert_non_null(strstr(second, "\"level\":\"error\",\"component\":\"loader\""));
    assert_non_null(strstr(second, "\"text\":\"a \\\"quote\\\" and \\\\ and \\u0001\"}\n"));
    assert_int_equal(dr_log_level_of("Debug"), DR_LOG_DEBUG);
    assert_int_equal(dr_log_level_of("loud"), -1);
}

/* What was logged by `lines`, at level info. */
static const char *logged(void (*lines)(void))
{
    static char text[32768];
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    dr_log_to(ends[1]);
    dr_log_set_level(DR_LOG_INFO);
    lines();
    dr_log_to(2);
    close(ends[1]);
    ssize_t n = read(ends[0], text, sizeof text - 1);
    close(ends[0]);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static void two_lines(void)
{
    for (int json = 0; json < 2; json++) {
        struct dr_log_fields f = { .n = 0 };
        dr_log_json(json);
        dr_log_job("a \"b\"");
        dr_log_text(&f, "verb", "generate");
        dr_log_text(&f, "error", "no\nsuch \xff file");
        dr_log_int(&f, "bytes", INT64_MIN);
        dr_log_real(&f, "seconds", 1.5);
        dr_log_event(DR_LOG_INFO, "worker", &f, "job %s", "done");
        dr_log_job("");
        dr_log_event(DR_LOG_DEBUG, "worker", &f, "not written");
        dr_log_event(DR_LOG_INFO, "worker", NULL, "bare \xff");
    }
    dr_log_json(false);
}

static void facts_are_fields(void **state)
{
    (void)state;
    const char *text = logged(two_lines);
    static const char *const parts[] = {
        " info worker: job done id=\"a \\\"b\\\"\" verb=generate error=\"no\\nsuch ? file\" "
        "bytes=-9223372036854775808 seconds=1.500\n",
        " info worker: bare ?\n{\"time\":",
        "\"text\":\"job done\",\"id\":\"a \\\"b\\\"\",\"verb\":\"generate\",\"error\":\"no\\nsuch "
        "? "
        "file\",\"bytes\":-9223372036854775808,\"seconds\":1.500}\n",
        "\"text\":\"bare ?\"}\n",
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!strstr(text, parts[i]))
            fail_msg("%s is not in %s", parts[i], text);
    assert_null(strstr(text, "not written"));
}

static void many_fields(void)
{
    struct dr_log_fields f = { .n = 0 };
    char longest[2000];
    memset(longest, 1, sizeof longest);
    longest[1999] = '\0';
    for (int i = 0; i < 400; i++)
        dr_log_text(&f, "long", longest);
    for (int i = 0; i < 400; i++)
        dr_log_int(&f, "n", i);
    dr_log_job(longest);
    dr_log_event(DR_LOG_INFO, "worker", &f, "%s", longest);
    dr_log_job("");
}

static void a_log_line_has_its_bounds(void **state)
{
    (void)state;
    const char *text = logged(many_fields);
    assert_true(strlen(text) > 4000 && text[strlen(text) - 1] == '\n');
    assert_non_null(strstr(text, " n="));
    assert_null(strstr(text, "n=399"));
}

static void time_passes(void **state)
{
    (void)state;
    char when[32], cut[5];
    double a = dr_now();
    assert_true(dr_now() >= a);
    assert_true(dr_epoch() > 1.6e9);
    dr_timestamp(when, sizeof when);
    assert_int_equal(strlen(when), 20);
    assert_int_equal(when[10], 'T');
    assert_int_equal(when[19], 'Z');
    dr_timestamp(cut, sizeof cut);
    assert_int_equal(strlen(cut), 4);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(every_scalar_goes_round),
    cmocka_unit_test(bad_utf8_is_refused),
    cmocka_unit_test(base64_goes_round),
    cmocka_unit_test(bad_base64_is_refused),
    cmocka_unit_test(nearest_name),
    cmocka_unit_test(log_lines_are_whole),
    cmocka_unit_test(facts_are_fields),
    cmocka_unit_test(a_log_line_has_its_bounds),
    cmocka_unit_test(time_passes),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
