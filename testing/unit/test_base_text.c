/* UTF-8, base64, nearest names, log lines, timestamps. */
#include "testing/helpers/test.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/nearest.h"
#include "base/path_text.h"
#include "base/size_text.h"
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
    assert_int_equal(dr_check_utf8(text, sizeof text - 1, "prompt", &err), DR_EINVAL);
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

static void terminals_are_not_commanded(void **state)
{
    (void)state;
    static const struct {
        const char *text, *line, *lines, *string, *json;
    } cases[] = {
        { "plain \u00e9 \u65e5", "plain \u00e9 \u65e5", "plain \u00e9 \u65e5",
          "plain \u00e9 \u65e5", "plain \u00e9 \u65e5" },
        { "\x1b]0;title\x07", "\\x1b]0;title\\x07", "\\x1b]0;title\\x07", "\\u001b]0;title\\u0007",
          "\\u001b]0;title\\u0007" },
        { "a\nb\tc\rd", "a\\nb\\tc\\x0dd", "a\nb\tc\\x0dd", "a\\nb\\tc\\u000dd",
          "a\nb\tc\\u000dd" },
        { "\x7f", "\\x7f", "\\x7f", "\\u007f", "\\u007f" },
        { "\xc2\x9b"
          "1m",
          "\\u009b1m", "\\u009b1m", "\\u009b1m", "\\u009b1m" }, /* C1 CSI */
        { "\x9b"
          "1m",
          "\\x9b1m", "\\x9b1m", "\\ufffd1m", "\\ufffd1m" }, /* as a byte */
        { "\u202egnp.exe", "\\u202egnp.exe", "\\u202egnp.exe", "\\u202egnp.exe", "\\u202egnp.exe" },
        { "\u2066\u2069\u200f\u061c", "\\u2066\\u2069\\u200f\\u061c",
          "\\u2066\\u2069\\u200f\\u061c", "\\u2066\\u2069\\u200f\\u061c",
          "\\u2066\\u2069\\u200f\\u061c" },
        { "\u2028\u2029", "\\u2028\\u2029", "\\u2028\\u2029", "\\u2028\\u2029", "\\u2028\\u2029" },
        { "\"\\", "\"\\", "\"\\", "\\\"\\\\", "\"\\" },
        { "\xe2\x80", "\\xe2\\x80", "\\xe2\\x80", "\\ufffd\\ufffd", "\\ufffd\\ufffd" },
    };
    char got[200];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t n = strlen(cases[i].text);
        const char *expected[] = { cases[i].line, cases[i].lines, cases[i].string, cases[i].json };
        for (int how = UTF8_LINE; how <= UTF8_JSON; how++) {
            size_t written = utf8_show(cases[i].text, n, (enum utf8_shown)how, got);
            assert_string_equal(got, expected[how]);
            assert_int_equal(written, strlen(got));
            assert_true(written <= UTF8_SHOWN_MOST * n);
        }
    }
    assert_int_equal(utf8_show("a\0b", 3, UTF8_LINE, got), 6);
    assert_string_equal(got, "a\\x00b");
}

static void log_lines_are_whole(void **state)
{
    (void)state;
    int ends[2];
    char text[4096] = "";
    assert_int_equal(pipe(ends), 0);
    int saved = test_stderr_to(ends[1]);
    dr_log_set_level(DR_LOG_INFO);
    assert_true(dr_log_on(DR_LOG_WARN) && !dr_log_on(DR_LOG_DEBUG) && !dr_log_on(DR_LOG_OFF));
    dr_log_line(DR_LOG_DEBUG, "loader", "not written");
    dr_log_line(DR_LOG_WARN, "loader", "two\nlines and a \x1b[1m");
    dr_log_json(true);
    dr_log_line(DR_LOG_ERROR, "loader", "a \"quote\" and \\ and \x01");
    dr_log_json(false);
    test_stderr_back(saved);
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
    int saved = test_stderr_to(ends[1]);
    dr_log_set_level(DR_LOG_INFO);
    lines();
    test_stderr_back(saved);
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
        " info worker: job done id=\"a \\\"b\\\"\" verb=generate error=\"no\\nsuch \\ufffd file\" "
        "bytes=-9223372036854775808 seconds=1.500\n",
        " info worker: bare \\xff\n{\"time\":",
        "\"text\":\"job done\",\"id\":\"a \\\"b\\\"\",\"verb\":\"generate\",\"error\":\"no\\nsuch "
        "\\ufffd "
        "file\",\"bytes\":-9223372036854775808,\"seconds\":1.500}\n",
        "\"text\":\"bare \\ufffd\"}\n",
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

static void sizes_are_read_in_one_way(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t bytes; /* -1: refused */
    } cases[] = {
        { "0", 0 },
        { "1234", 1234 },
        { "12B", 12 },
        { "64G", (int64_t)64 << 30 },
        { "64g", (int64_t)64 << 30 },
        { "500M", (int64_t)500 << 20 },
        { "3K", 3072 },
        { "3kB", 3000 },
        { "20GB", 20000000000 },
        { "20gb", 20000000000 },
        { "20GiB", (int64_t)20 << 30 },
        { "1.5G", 1610612736 },
        { "0.5GB", 500000000 },
        { "0.1GB", 100000000 },
        { "2T", (int64_t)2 << 40 },
        { "9223372036854775807", INT64_MAX },
        { "9223372036854775808", -1 },
        { "8388608T", -1 },
        { "99999999999G", -1 },
        { "", -1 },
        { "G", -1 },
        { "-1", -1 },
        { "+1", -1 },
        { " 1", -1 },
        { "1 G", -1 },
        { "1.5", -1 },
        { "1.G", -1 },
        { ".5G", -1 },
        { "1,5G", -1 },
        { "1e9", -1 },
        { "0x10", -1 },
        { "5X", -1 },
        { "5GG", -1 },
        { "5GiBs", -1 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t bytes = -1;
        bool read = size_text_read(cases[i].text, &bytes);
        if (bytes != cases[i].bytes || read != (bytes >= 0))
            fail_msg("'%s': %lld", cases[i].text, (long long)bytes);
    }
}

static void paths_become_text_and_back(void **state)
{
    (void)state;
    static const struct {
        const char *path, *text;
    } cases[] = {
        { "/a/b.png", "/a/b.png" },
        { "a b%41", "a b%41" },
        { "/h\xc3\xa9", "/h\xc3\xa9" },
        { "/\xff", "file:///%FF" },
        { "/a b/\xc3\x28%", "file:///a%20b/%C3%28%25" },
        { "/\xed\xa0\x80.npy", "file:///%ED%A0%80.npy" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf text;
        char path[DR_PATH_MAX];
        buf_init(&text, DR_TAG_TEST, 0);
        assert_int_equal(path_text_write(cases[i].path, &text), 0);
        assert_string_equal(buf_text(&text), cases[i].text);
        assert_int_equal(path_text_read("f", buf_text(&text), path, NULL), 0);
        assert_string_equal(path, cases[i].path);
        buf_free(&text);
    }
    /* a path that looks like a URL is written as one; a relative one becomes absolute */
    static const char *const relative[] = { "file://x", "sub/\xfe" };
    for (size_t i = 0; i < 2; i++) {
        struct buf text;
        char path[DR_PATH_MAX], here[DR_PATH_MAX], whole[2 * DR_PATH_MAX];
        buf_init(&text, DR_TAG_TEST, 0);
        assert_non_null(getcwd(here, sizeof here));
        assert_int_equal(path_text_write(relative[i], &text), 0);
        assert_int_equal(path_text_read("f", buf_text(&text), path, NULL), 0);
        snprintf(whole, sizeof whole, "%s/%s", here, relative[i]);
        assert_string_equal(path, whole);
        buf_free(&text);
    }
    char longest[PATH_TEXT_BYTES + DR_PATH_MAX], path[DR_PATH_MAX];
    memset(longest, 'a', sizeof longest);
    longest[DR_PATH_MAX] = '\0';
    assert_int_equal(path_text_read("f", longest, path, NULL), DR_ELIMIT);
    longest[DR_PATH_MAX] = 'a';
    longest[sizeof longest - 1] = '\0';
    memcpy(longest, "file:///", 8);
    assert_int_equal(path_text_read("f", longest, path, NULL), DR_ELIMIT);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(sizes_are_read_in_one_way),
    cmocka_unit_test(paths_become_text_and_back),
    cmocka_unit_test(every_scalar_goes_round),
    cmocka_unit_test(bad_utf8_is_refused),
    cmocka_unit_test(base64_goes_round),
    cmocka_unit_test(bad_base64_is_refused),
    cmocka_unit_test(nearest_name),
    cmocka_unit_test(terminals_are_not_commanded),
    cmocka_unit_test(log_lines_are_whole),
    cmocka_unit_test(facts_are_fields),
    cmocka_unit_test(a_log_line_has_its_bounds),
    cmocka_unit_test(time_passes),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
