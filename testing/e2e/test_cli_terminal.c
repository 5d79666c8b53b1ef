/* test_cli_terminal.c - drawing as a person at a terminal sees it. */
#include "testing/helpers/program.h"
#include "testing/helpers/terminal.h"

#include <stdlib.h>
#include <string.h>

#define QUICK                                                                                      \
    "generate", "-m", program_model(), "-p", "a red circle", "-W", "64", "-H", "48", "--steps", "4"

/* The bar is there before the first step, stages have a clock, and the last line says how long it
 * took. */
static void a_bar_from_the_start(void **state)
{
    (void)state;
    struct terminal t;
    const char *argv[] = { QUICK, "-s", "5", "-o", "a.png", NULL };
    program_folder();
    terminal_run(&t, 1 << 2, argv);
    const char *text = terminal_text(&t);
    const char *facts = strstr(text, ": 64x48, 4 steps, euler, schedule normal, cfg 5, kernels ");
    const char *encoding = strstr(text, "encoding the prompt 0:00");
    const char *zero = strstr(text, "0/4 ["), *one = strstr(text, "1/4 [");
    const char *decoding = strstr(text, "decoding 0:00"),
               *wrote = strstr(text, "wrote a.png (seed 5, ");
    if (t.status || !facts || !encoding || !zero || !one || !decoding || !wrote)
        fail_msg("status %d: %s", t.status, text);
    assert_true(facts < encoding && encoding < zero && zero < one && one < decoding);
    assert_true(decoding < wrote);
    terminal_free(&t);
}

static void pictures_are_counted(void **state)
{
    (void)state;
    struct terminal t;
    const char *argv[] = { QUICK, "-s", "5", "--count", "3", "-o", "a.png", NULL };
    program_folder();
    terminal_run(&t, 1 << 2, argv);
    const char *text = terminal_text(&t);
    const char *bar = strstr(text, "picture 2 of 3: 0/4 [");
    const char *first = strstr(text, "wrote a-0.png (picture 1 of 3, seed 5, ");
    const char *second = strstr(text, "wrote a-1.png (picture 2 of 3, seed 6, ");
    if (t.status || !bar || !first || !second || !(first < bar && bar < second))
        fail_msg("status %d: %s", t.status, text);
    terminal_free(&t);
}

static void quiet_is_quiet(void **state)
{
    (void)state;
    struct terminal t;
    const char *argv[] = { QUICK, "-q", "-o", "a.png", NULL };
    program_folder();
    terminal_run(&t, 1 << 1 | 1 << 2, argv);
    assert_int_equal(t.status, 0);
    assert_string_equal(terminal_text(&t), "");
    terminal_free(&t);
}

/* Nothing is drawn for a terminal to be garbled with. */
static void a_terminal_gets_no_bytes(void **state)
{
    (void)state;
    static const char *const names[] = { "-", "/dev/stdout", "/proc/self/fd/1" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct terminal t;
        const char *argv[] = { QUICK, "-o", names[i], NULL };
        program_folder();
        terminal_run(&t, 1 << 1 | 1 << 2, argv);
        if (t.status != 2 || !strstr(terminal_text(&t), "a terminal cannot show") ||
            strstr(terminal_text(&t), "PNG"))
            fail_msg("%s: status %d: %.300s", names[i], t.status, terminal_text(&t));
        terminal_free(&t);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_bar_from_the_start),
    cmocka_unit_test(pictures_are_counted),
    cmocka_unit_test(quiet_is_quiet),
    cmocka_unit_test(a_terminal_gets_no_bytes),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
