/* test_communication_lines.c - lines over pipes: however they are cut on the way. */
#include "core/communication/lines.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "testing/helpers/test.h"

enum { LONGEST = 1000, WRITERS = 4, EACH = 200 };

struct wire {
    int in, out;
    struct line_reader reader;
};

static void wire_open(struct wire *w)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    w->in = ends[1];
    w->out = ends[0];
    line_reader_init(&w->reader, w->out, LONGEST);
}

static void wire_close(struct wire *w)
{
    line_reader_free(&w->reader);
    close(w->out);
    if (w->in >= 0)
        close(w->in);
}

static void put(struct wire *w, const char *text)
{
    assert_int_equal(write(w->in, text, strlen(text)), (ssize_t)strlen(text));
}

static void must_read(struct wire *w, const char *expected)
{
    const char *line;
    size_t n;
    struct dr_error err = { 0 };
    int r = line_read(&w->reader, 1000, &line, &n, &err);
    if (r != 1)
        fail_msg("expected %s: %d, %s", expected, r, err.text);
    assert_int_equal(n, strlen(expected));
    assert_memory_equal(line, expected, n);
}

static int read_code(struct wire *w, int timeout_ms)
{
    const char *line;
    size_t n;
    return line_read(&w->reader, timeout_ms, &line, &n, NULL);
}

static void lines_come_whole(void **state)
{
    (void)state;
    struct wire w;
    wire_open(&w);
    put(&w, "one\ntwo\r\n\n\r\nthr");
    must_read(&w, "one");
    must_read(&w, "two");
    assert_int_equal(read_code(&w, 0), DR_ESTATE);
    put(&w, "e");
    assert_int_equal(read_code(&w, 10), DR_ESTATE);
    put(&w, "e\nlast without end");
    must_read(&w, "three");
    close(w.in);
    w.in = -1;
    must_read(&w, "last without end");
    assert_int_equal(read_code(&w, 100), 0);
    assert_int_equal(read_code(&w, 100), 0);
    wire_close(&w);
}

static void bytes_are_not_text(void **state)
{
    (void)state;
    struct wire w;
    const char *line;
    size_t n;
    wire_open(&w);
    assert_int_equal(write(w.in, "a\0b\rc\n", 6), 6);
    assert_int_equal(line_read(&w.reader, 100, &line, &n, NULL), 1);
    assert_int_equal(n, 5);
    assert_memory_equal(line, "a\0b\rc", 5);
    wire_close(&w);
}

static void a_byte_order_mark_is_no_text(void **state)
{
    (void)state;
    struct wire w;
    wire_open(&w);
    put(&w, "\xef\xbb\xbfone\n\xef\xbb\xbf\r\n\xef\xbb\xbftwo\r\nin \xef\xbb\xbf it\n\xef\xbb\n");
    must_read(&w, "one");
    must_read(&w, "two");
    must_read(&w, "in \xef\xbb\xbf it");
    must_read(&w, "\xef\xbb");
    wire_close(&w);
}

/* Of a line that is too long the beginning is shown, of one that is not finished what is there. */
static void what_was_read_is_shown(void **state)
{
    (void)state;
    struct wire w;
    const char *line;
    size_t n;
    struct dr_error err = { 0 };
    char text[LONGEST + 2];
    wire_open(&w);
    memset(text, 'x', sizeof text);
    memcpy(text, "begin", 5);
    assert_int_equal(write(w.in, text, sizeof text), (ssize_t)sizeof text);
    assert_int_equal(line_read(&w.reader, 1000, &line, &n, &err), DR_ELIMIT);
    assert_int_equal(n, sizeof text);
    assert_memory_equal(line, "beginx", 6);
    assert_false(line_rest(&w.reader, &line, &n)); /* it was shown */
    line_reader_free(&w.reader);
    line_reader_init(&w.reader, w.out, LONGEST);
    put(&w, "whole\nhalf");
    must_read(&w, "whole");
    assert_int_equal(line_read(&w.reader, 0, &line, &n, &err), DR_ESTATE);
    assert_null(line);
    assert_true(line_rest(&w.reader, &line, &n));
    assert_int_equal(n, 4);
    assert_memory_equal(line, "half", 4);
    assert_false(line_rest(&w.reader, &line, &n));
    wire_close(&w);
}

static void a_long_line_is_skipped_once(void **state)
{
    (void)state;
    struct wire w;
    char line[500];
    wire_open(&w);
    memset(line, 'x', sizeof line);
    put(&w, "before\n");
    for (int i = 0; i < 20; i++)
        assert_int_equal(write(w.in, line, sizeof line), (ssize_t)sizeof line);
    must_read(&w, "before");
    assert_int_equal(read_code(&w, 100), DR_ELIMIT);
    assert_int_equal(read_code(&w, 0), DR_ESTATE); /* its end has not come */
    put(&w, "still the long one\nafter\n");
    must_read(&w, "after");
    wire_close(&w);
}

static void the_longest_line_fits(void **state)
{
    (void)state;
    struct wire w;
    char line[LONGEST + 1];
    wire_open(&w);
    memset(line, 'x', LONGEST);
    line[LONGEST] = '\0';
    put(&w, line);
    put(&w, "\n");
    must_read(&w, line);
    wire_close(&w);
}

static void waiting_ends_in_time(void **state)
{
    (void)state;
    struct wire w;
    wire_open(&w);
    double before = dr_now();
    assert_int_equal(read_code(&w, 50), DR_ESTATE);
    assert_true(dr_now() - before >= 0.045); /* that it ends at all is the other half */
    wire_close(&w);
}

static void *write_many(void *writer)
{
    json_t *value = json_pack("{s:s}", "text", "as long as it takes to be cut in the middle");
    for (int i = 0; value && i < EACH; i++)
        if (line_write(writer, value, NULL) < 0)
            break;
    json_decref(value);
    return NULL;
}

static void writers_do_not_interleave(void **state)
{
    (void)state;
    struct wire w;
    struct line_writer writer;
    pthread_t threads[WRITERS];
    wire_open(&w);
    assert_int_equal(line_writer_init(&writer, w.in), 0);
    for (int i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_many, &writer), 0);
    for (int i = 0; i < WRITERS * EACH; i++)
        if (read_code(&w, 2000) != 1) {
            close(w.out); /* so that the writers end */
            fail_msg("line %d", i);
        }
    for (int i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    line_writer_free(&writer);
    wire_close(&w);
}

static void a_gone_reader_is_an_error(void **state)
{
    (void)state;
    struct wire w;
    struct line_writer writer;
    json_t *value = json_object();
    signal(SIGPIPE, SIG_IGN);
    wire_open(&w);
    assert_int_equal(line_writer_init(&writer, w.in), 0);
    close(w.out);
    assert_int_equal(line_write(&writer, value, NULL), DR_EIO);
    assert_int_equal(line_write(&writer, NULL, NULL), DR_ENOMEM);
    json_decref(value);
    line_writer_free(&writer);
    line_reader_free(&w.reader);
    close(w.in);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(lines_come_whole),
    cmocka_unit_test(bytes_are_not_text),
    cmocka_unit_test(a_byte_order_mark_is_no_text),
    cmocka_unit_test(what_was_read_is_shown),
    cmocka_unit_test(a_long_line_is_skipped_once),
    cmocka_unit_test(the_longest_line_fits),
    cmocka_unit_test(waiting_ends_in_time),
    cmocka_unit_test(writers_do_not_interleave),
    cmocka_unit_test(a_gone_reader_is_an_error),
};

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    jx_init();
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
