/* test_cli_interrupt.c - Ctrl-C at any moment, and workers that die: nothing is left, and the
 * status says so. */
#include "testing/helpers/program.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"

static void interrupt_after(int delay_ms, int number, const char *const *more)
{
    struct program p;
    const char *folder = program_folder();
    program_start(&p, program_long_job(more));
    usleep((useconds_t)delay_ms * 1000);
    double sent = dr_now();
    assert_int_equal(kill(p.pid, number), 0);
    program_finish(&p);
    double took = dr_now() - sent;
    /* before it could catch anything the signal itself ends it */
    if (p.status != 130 && !(delay_ms < 50 && p.status == 128 + number))
        fail_msg("%d ms: status %d: %s", delay_ms, p.status, program_err(&p));
    if (took > PROGRAM_SOON)
        fail_msg("%d ms: ended after %.1f seconds", delay_ms, took);
    assert_int_equal(p.out.len, 0);
    if (program_entries(folder))
        fail_msg("%d ms: something is left", delay_ms);
    if (!program_alone())
        fail_msg("%d ms: the worker still lives", delay_ms);
    program_free(&p);
}

static void an_interrupt_leaves_nothing(void **state)
{
    (void)state;
    static const int delays[] = { 0, 1, 2, 4, 7, 11, 16, 25, 40, 60, 90, 150, 300, 600, 1100 };
    program_adopt();
    for (size_t i = 0; i < sizeof delays / sizeof *delays; i++)
        interrupt_after(delays[i], SIGINT, NULL);
    interrupt_after(400, SIGTERM, NULL);
    interrupt_after(400, SIGHUP, NULL);
}

/* Neither folders that were to be made nor stages. */
static void an_interrupt_leaves_no_folders(void **state)
{
    (void)state;
    static const char *const more[] = { "-o", "new/folder/", "--dump-stages", "stages/here", NULL };
    program_adopt();
    interrupt_after(0, SIGINT, more);
    interrupt_after(400, SIGINT, more);
    interrupt_after(1100, SIGINT, more);
}

/* A killed run can tidy nothing; the next one does it. */
static void the_next_run_tidies_up_after_a_killed_one(void **state)
{
    (void)state;
    static const char *const more[] = { "--dump-stages", "stages", NULL };
    struct program p;
    program_adopt();
    const char *folder = program_folder();
    program_start(&p, program_long_job(more));
    usleep(600000);
    assert_int_equal(kill(p.pid, SIGKILL), 0);
    program_finish(&p);
    assert_true(program_alone()); /* the worker goes with it */
    program_free(&p);
    assert_int_equal(program_entries(folder), 2);
    program_run(&p, 0, "generate", "-m", program_model(), "-px", "-W64", "-H64", "--steps=1",
                "-oa.png", NULL);
    program_free(&p);
    assert_int_equal(program_entries(folder), 1);
}

static void quiet_is_quiet_when_interrupted(void **state)
{
    (void)state;
    struct program p;
    static const char *const quiet[] = { "-q", NULL };
    program_folder();
    program_start(&p, program_long_job(quiet));
    usleep(500000);
    assert_int_equal(kill(p.pid, SIGINT), 0);
    program_finish(&p);
    assert_int_equal(p.status, 130);
    assert_int_equal(p.err.len, 0);
    program_free(&p);
}

/* One that hears nothing is killed by the second signal. */
static void a_second_interrupt_kills(void **state)
{
    (void)state;
    struct program p;
    program_adopt();
    program_worker(PROGRAM_DEAF PROGRAM_READY "while :; do sleep 1; done\n");
    const char *folder = program_folder();
    program_start(&p, program_long_job(NULL));
    usleep(300000);
    assert_int_equal(kill(p.pid, SIGINT), 0);
    usleep(300000);
    program_interrupt(&p, SIGINT, folder);
}

/* One that never becomes ready is killed by the first. */
static void an_interrupt_during_the_start_kills(void **state)
{
    (void)state;
    struct program p;
    program_adopt();
    program_worker(PROGRAM_DEAF "while :; do sleep 1; done\n");
    const char *folder = program_folder();
    program_start(&p, program_long_job(NULL));
    usleep(300000);
    program_interrupt(&p, SIGINT, folder);
}

static void must_end(const char *body, const char *words)
{
    struct program p;
    program_worker(body);
    const char *folder = program_folder();
    program_start(&p, program_long_job(NULL));
    program_finish(&p);
    if (p.status != 1 || !strstr(program_err(&p), words) || p.out.len)
        fail_msg("%s: status %d: %s", body, p.status, program_err(&p));
    assert_int_equal(program_entries(folder), 0);
    assert_true(program_alone());
    program_free(&p);
}

static void a_dead_worker_is_one_line(void **state)
{
    (void)state;
    program_adopt();
    must_end(PROGRAM_READY "read line\nkill -SEGV $$\n",
             "darkroom: the worker was ended by signal 11");
    must_end(PROGRAM_READY "read line\nexit 7\n", "darkroom: the worker ended with status 7");
    must_end(PROGRAM_READY "exit 0\n", "darkroom: the worker ended with status 0");
    must_end("exit 7\n", "status 7");
    must_end("echo nonsense\n", "the worker's message");
    must_end(PROGRAM_READY "read line\necho nonsense\nsleep 100\n", "the worker's message");
    must_end(PROGRAM_READY
             "read line\necho '{\"success\":true,\"request_id\":\"darkroom-1\",\"data\":{"
             "\"images\":[5]}}'\n",
             "did not report every picture");
    must_end(PROGRAM_READY
             "read line\necho '{\"success\":true,\"request_id\":\"darkroom-1\",\"data\":{"
             "\"type\":\"progress\",\"stage\":\"write\",\"path\":\"/nonexistent/x\"}}'\n"
             "echo '{\"success\":true,\"request_id\":\"darkroom-1\",\"data\":{}}'\n",
             "No such file");
    must_end(
        PROGRAM_READY
        "read line\nprintf '%s\\n' '{\"success\":false,\"request_id\":\"darkroom-1\",\"error\":"
        "\"a\\u001b[2Jb\\nc\",\"error_code\":\"IO_ERROR\"}'\n",
        "darkroom: a\\x1b[2Jb\\nc\n");
    unsetenv("DARKROOM_WORKER");
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(an_interrupt_leaves_nothing),
    cmocka_unit_test(an_interrupt_leaves_no_folders),
    cmocka_unit_test(the_next_run_tidies_up_after_a_killed_one),
    cmocka_unit_test(quiet_is_quiet_when_interrupted),
    cmocka_unit_test(a_second_interrupt_kills),
    cmocka_unit_test(an_interrupt_during_the_start_kills),
    cmocka_unit_test(a_dead_worker_is_one_line),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
