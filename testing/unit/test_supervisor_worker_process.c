/* test_supervisor_worker_process.c - a child that behaves, and children that do not, as shell
 * scripts. */
#include "coordination/supervisor/worker_process.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "core/communication/message.h"
#include "testing/helpers/program.h"

/* Makes a script the worker program. */
static void pretend(const char *script)
{
    program_worker(script);
    signal(SIGPIPE, SIG_IGN);
}

static int begin(struct worker_process *w, struct dr_error *err)
{
    struct worker_options options = { .n_roots = 0 };
    return worker_start(w, &options, NULL, err);
}

static void must_fail_to_start(const char *body, const char *words)
{
    struct worker_process w;
    struct dr_error err = { 0 };
    pretend(body);
    int r = begin(&w, &err);
    if (!r || !strstr(err.text, words))
        fail_msg("%s: %d, %s", body, r, err.text);
    assert_int_equal(w.pid, 0);
}

static void a_good_worker_talks(void **state)
{
    (void)state;
    struct worker_process w;
    struct dr_error err = { 0 };
    json_t *event, *ready;
    const char *roots[] = { "/tmp", "/var" };
    struct worker_options options = {
        .roots = roots, .n_roots = 2, .threads = "3", .kernels = "scalar"
    };
    pretend("echo \"{\\\"success\\\":true,\\\"protocol\\\":1,\\\"args\\\":\\\"$*\\\"}\"\n"
            "read line\necho \"$line\"\n");
    assert_int_equal(worker_start(&w, &options, &ready, &err), 0);
    assert_string_equal(json_string_value(json_object_get(ready, "args")),
                        "--root /tmp --root /var --threads 3 --kernels scalar");
    assert_int_equal(getpgid(w.pid), w.pid); /* a group of its own */
    json_decref(ready);
    assert_int_equal(worker_send(&w, json_pack("{s:s}", "hello", "world"), &err), 0);
    assert_int_equal(worker_receive(&w, 5000, &event, &err), 0);
    assert_string_equal(json_string_value(json_object_get(event, "hello")), "world");
    json_decref(event);
    assert_int_equal(worker_receive(&w, 5000, &event, &err), DR_EIO);
    assert_non_null(strstr(err.text, "status 0"));
    worker_stop(&w);
    worker_stop(&w);
    worker_kill(&w);
}

static void silence_is_a_timeout(void **state)
{
    (void)state;
    struct worker_process w;
    struct dr_error err = { 0 };
    json_t *event;
    pretend(PROGRAM_READY "read line\n");
    assert_int_equal(begin(&w, &err), 0);
    assert_int_equal(worker_receive(&w, 20, &event, &err), DR_ESTATE);
    worker_stop(&w);
}

static void bad_starts_are_told(void **state)
{
    (void)state;
    must_fail_to_start("exit 3\n", "status 3");
    must_fail_to_start("kill -SEGV $$\n", "signal 11");
    must_fail_to_start("echo garbage\n", "message");
    must_fail_to_start("echo '{\"success\":true,\"protocol\":99}'\n", "99");
    must_fail_to_start("echo '{\"success\":false,\"error\":\"no such set\"}'\nexit 1\n",
                       "no such set");
    must_fail_to_start("echo '{}'\n", "success");
}

static void a_missing_program_is_named(void **state)
{
    (void)state;
    struct worker_process w;
    struct dr_error err = { 0 };
    assert_int_equal(setenv("DARKROOM_WORKER", "/nonexistent/worker", 1), 0);
    assert_true(begin(&w, &err) < 0);
    assert_non_null(strstr(err.text, "/nonexistent/worker"));
}

static void a_death_is_told_with_its_signal(void **state)
{
    (void)state;
    struct worker_process w;
    struct dr_error err = { 0 };
    json_t *event;
    pretend(PROGRAM_READY "read line\nkill -SEGV $$\n");
    assert_int_equal(begin(&w, &err), 0);
    assert_int_equal(worker_send(&w, json_object(), &err), 0);
    assert_int_equal(worker_receive(&w, 5000, &event, &err), DR_EIO);
    assert_non_null(strstr(err.text, "the worker was ended by signal 11"));
    worker_stop(&w);
}

/* Is any process of that group left? A zombie that init has not collected counts as gone soon. */
static bool group_gone(pid_t group)
{
    for (int i = 0; i < 3000; i++) {
        if (kill(-group, 0) < 0 && errno == ESRCH)
            return true;
        usleep(10000);
    }
    return false;
}

/* At once: it does not even see the end of its input first. */
static void a_stubborn_worker_is_killed(void **state)
{
    (void)state;
    struct worker_process w;
    struct dr_error err = { 0 };
    char path[300], script[600];
    snprintf(path, sizeof path, "%s/asked", test_dir());
    snprintf(script, sizeof script,
             PROGRAM_DEAF PROGRAM_READY
             "sleep 1000 &\nwhile read line; do :; done\n: >%s\nwhile :; do sleep 1; done\n",
             path);
    pretend(script);
    assert_int_equal(begin(&w, &err), 0);
    pid_t pid = w.pid;
    worker_kill(&w);
    assert_true(group_gone(pid)); /* its children too */
    assert_int_equal(w.pid, 0);
    assert_false(dr_is_file(path));
}

static void too_many_roots_are_refused(void **state)
{
    (void)state;
    struct worker_process w;
    struct dr_error err = { 0 };
    static const char *roots[200];
    for (int i = 0; i < 200; i++)
        roots[i] = "/";
    struct worker_options options = { .roots = roots, .n_roots = 200 };
    pretend(PROGRAM_READY);
    assert_int_equal(worker_start(&w, &options, NULL, &err), DR_ELIMIT);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_good_worker_talks),
    cmocka_unit_test(silence_is_a_timeout),
    cmocka_unit_test(bad_starts_are_told),
    cmocka_unit_test(a_missing_program_is_named),
    cmocka_unit_test(a_death_is_told_with_its_signal),
    cmocka_unit_test(a_stubborn_worker_is_killed),
    cmocka_unit_test(too_many_roots_are_refused),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
