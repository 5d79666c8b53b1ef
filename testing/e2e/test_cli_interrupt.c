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

#define READY "echo '{\"success\":true,\"status\":\"ready\",\"protocol\":1}'\n"

enum { SOON = 5 /* seconds, on a machine that does other things as well */ };

/* Long enough for any delay below. `more`: further options, NULL at the end. */
static const char *const *long_job_with(const char *const *more)
{
    static const char *argv[24];
    int n = 0;
    argv[n++] = "generate";
    argv[n++] = "-m";
    argv[n++] = program_model();
    argv[n++] = "-p";
    argv[n++] = "a red circle";
    argv[n++] = "-W512";
    argv[n++] = "-H512";
    argv[n++] = "--steps=500";
    argv[n++] = "-s1";
    argv[n++] = "-b4";
    argv[n++] = "-o";
    argv[n++] = "out.png";
    while (*more)
        argv[n++] = *more++;
    argv[n] = NULL;
    return argv;
}

static const char *const nothing_more[] = { NULL };

static const char *const *long_job(void)
{
    return long_job_with(nothing_more);
}

static void interrupt_after(int delay_ms, int number, const char *const *more)
{
    struct program p;
    const char *folder = program_folder();
    program_start(&p, long_job_with(more));
    usleep((useconds_t)delay_ms * 1000);
    double sent = dr_now();
    assert_int_equal(kill(p.pid, number), 0);
    program_finish(&p);
    double took = dr_now() - sent;
    /* before it could catch anything the signal itself ends it */
    if (p.status != 130 && !(delay_ms < 50 && p.status == 128 + number))
        fail_msg("%d ms: status %d: %s", delay_ms, p.status, program_err(&p));
    if (took > SOON)
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
        interrupt_after(delays[i], SIGINT, nothing_more);
    interrupt_after(400, SIGTERM, nothing_more);
    interrupt_after(400, SIGHUP, nothing_more);
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
    program_start(&p, long_job_with(more));
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
    program_start(&p, long_job_with(quiet));
    usleep(500000);
    assert_int_equal(kill(p.pid, SIGINT), 0);
    program_finish(&p);
    assert_int_equal(p.status, 130);
    assert_int_equal(p.err.len, 0);
    program_free(&p);
}

static void pretend(const char *body)
{
    char path[300], text[1024];
    snprintf(path, sizeof path, "%s/worker", test_dir());
    snprintf(text, sizeof text, "#!/bin/sh\n%s", body);
    assert_int_equal(dr_write_file(path, text, strlen(text), NULL), 0);
    assert_int_equal(chmod(path, 0755), 0);
    assert_int_equal(setenv("DARKROOM_WORKER", path, 1), 0);
}

/* One that hears nothing is killed by the second signal. */
static void a_second_interrupt_kills(void **state)
{
    (void)state;
    struct program p;
    program_adopt();
    pretend("trap '' INT TERM HUP PIPE\n" READY "while :; do sleep 1; done\n");
    const char *folder = program_folder();
    program_start(&p, long_job());
    usleep(300000);
    assert_int_equal(kill(p.pid, SIGINT), 0);
    usleep(300000);
    double sent = dr_now();
    assert_int_equal(kill(p.pid, SIGINT), 0);
    program_finish(&p);
    assert_true(dr_now() - sent < SOON);
    assert_int_equal(p.status, 130);
    assert_int_equal(program_entries(folder), 0);
    assert_true(program_alone());
    program_free(&p);
}

/* One that never becomes ready is killed by the first. */
static void an_interrupt_during_the_start_kills(void **state)
{
    (void)state;
    struct program p;
    program_adopt();
    pretend("trap '' INT TERM HUP PIPE\nwhile :; do sleep 1; done\n");
    const char *folder = program_folder();
    program_start(&p, long_job());
    usleep(300000);
    double sent = dr_now();
    assert_int_equal(kill(p.pid, SIGINT), 0);
    program_finish(&p);
    assert_true(dr_now() - sent < SOON);
    assert_int_equal(p.status, 130);
    assert_int_equal(program_entries(folder), 0);
    assert_true(program_alone());
    program_free(&p);
}

static void must_end(const char *body, const char *words)
{
    struct program p;
    pretend(body);
    const char *folder = program_folder();
    program_start(&p, long_job());
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
    must_end(READY "read line\nkill -SEGV $$\n", "darkroom: the worker was ended by signal 11");
    must_end(READY "read line\nexit 7\n", "darkroom: the worker ended with status 7");
    must_end(READY "exit 0\n", "darkroom: the worker ended with status 0");
    must_end("exit 7\n", "status 7");
    must_end("echo nonsense\n", "the worker's message");
    must_end(READY "read line\necho nonsense\nsleep 100\n", "the worker's message");
    must_end(READY "read line\necho '{\"success\":true,\"request_id\":\"darkroom-1\",\"data\":{"
                   "\"images\":[5]}}'\n",
             "did not report every picture");
    must_end(READY "read line\necho '{\"success\":true,\"request_id\":\"darkroom-1\",\"data\":{"
                   "\"type\":\"progress\",\"stage\":\"write\",\"path\":\"/nonexistent/x\"}}'\n"
                   "echo '{\"success\":true,\"request_id\":\"darkroom-1\",\"data\":{}}'\n",
             "No such file");
    must_end(
        READY
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
