/* test_cli_life.c - the command line and its worker: stopped, hung, killed; outputs that cannot be
 * written; seeds to the last bit. */
#include "testing/helpers/program.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"

enum { PATIENCE = 30 };

/* State and parent from /proc/PID/stat; false: no such process. */
static bool process(pid_t pid, char *ret_state, pid_t *ret_parent)
{
    char path[64], text[512];
    int parent;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "r");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f)
        fclose(f);
    text[n] = '\0';
    char *name_end = strrchr(text, ')');
    if (!name_end || sscanf(name_end + 1, " %c %d", ret_state, &parent) != 2)
        return false;
    *ret_parent = parent;
    return true;
}

/* The child of that process. */
static pid_t worker_of(pid_t parent)
{
    double deadline = dr_now() + PATIENCE;
    while (dr_now() < deadline) {
        DIR *dir = opendir("/proc");
        assert_non_null(dir);
        pid_t found = 0;
        for (struct dirent *e; (e = readdir(dir));) {
            pid_t pid = (pid_t)strtol(e->d_name, NULL, 10), of;
            char state;
            if (pid > 0 && process(pid, &state, &of) && of == parent)
                found = pid;
        }
        closedir(dir);
        if (found)
            return found;
        usleep(5000);
    }
    fail_msg("no worker");
    return 0;
}

/* Until it is stopped, or is not. */
static void await_stopped(pid_t pid, bool wanted)
{
    double deadline = dr_now() + PATIENCE;
    char state = '?';
    pid_t parent;
    while (dr_now() < deadline && process(pid, &state, &parent)) {
        if ((state == 'T') == wanted)
            return;
        usleep(5000);
    }
    fail_msg("process %d is in state %c", (int)pid, state);
}

/* It has begun, and its worker. */
static pid_t start(struct program *p, const char *const *argv)
{
    program_start(p, argv);
    pid_t worker = worker_of(p->pid);
    usleep(400000);
    return worker;
}

static void ctrl_z_stops_the_worker_too(void **state)
{
    (void)state;
    static const int signals[] = { SIGTSTP, SIGTTOU };
    setpgid(0, 0); /* so that the program's group is not an orphaned one, which cannot be stopped */
    program_adopt();
    const char *folder = program_folder();
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        struct program p;
        int status;
        pid_t worker = start(&p, program_long_job(NULL));
        for (int turn = 0; turn < 2; turn++) {
            assert_int_equal(kill(p.pid, signals[i]), 0);
            assert_int_equal(waitpid(p.pid, &status, WUNTRACED), p.pid);
            assert_true(WIFSTOPPED(status) &&
                        WSTOPSIG(status) == signals[i]); /* as a shell sees it */
            await_stopped(worker, true);
            assert_int_equal(kill(p.pid, SIGCONT), 0);
            await_stopped(worker, false);
        }
        program_interrupt(&p, SIGINT, folder);
    }
}

/* A stop and an interrupt while stopped: both are followed. */
static void an_interrupt_while_stopped_counts(void **state)
{
    (void)state;
    struct program p;
    int status;
    setpgid(0, 0);
    program_adopt();
    const char *folder = program_folder();
    start(&p, program_long_job(NULL));
    assert_int_equal(kill(p.pid, SIGTSTP), 0);
    assert_int_equal(waitpid(p.pid, &status, WUNTRACED), p.pid);
    assert_true(WIFSTOPPED(status));
    assert_int_equal(kill(p.pid, SIGINT), 0);
    assert_int_equal(kill(p.pid, SIGCONT), 0);
    program_finish(&p);
    assert_int_equal(p.status, 130);
    assert_int_equal(program_entries(folder), 0);
    assert_true(program_alone());
    program_free(&p);
}

static void a_stopped_worker_does_not_keep_it(void **state)
{
    (void)state;
    static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
    program_adopt();
    const char *folder = program_folder();
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        struct program p;
        pid_t worker = start(&p, program_long_job(NULL));
        assert_int_equal(kill(worker, SIGSTOP), 0);
        program_interrupt(&p, signals[i], folder);
    }
}

static void a_deaf_worker_does_not_keep_it(void **state)
{
    (void)state;
    struct program p;
    char prompt[16001];
    memset(prompt, 'x', sizeof prompt);
    prompt[sizeof prompt - 1] = '\0';
    /* more than a pipe holds: the request itself is stuck */
    const char *argv[] = { "generate", "-p",           prompt, "--prompt-2",    prompt, "-n",
                           prompt,     "--negative-2", prompt, "--dump-stages", "s",    "-oout.png",
                           NULL };
    program_adopt();
    program_worker(PROGRAM_DEAF PROGRAM_READY "while :; do sleep 1; done\n");
    const char *folder = program_folder();
    start(&p, argv);
    program_interrupt(&p, SIGINT, folder);
    start(&p, program_long_job(NULL));
    program_interrupt(&p, SIGTERM, folder);
}

static void a_killed_worker_hints_at_memory(void **state)
{
    (void)state;
    struct program p;
    program_adopt();
    program_worker(PROGRAM_READY "read line\nkill -KILL $$\n");
    program_folder();
    program_start(&p, program_long_job(NULL));
    program_finish(&p);
    assert_int_equal(p.status, 1);
    assert_non_null(strstr(program_err(&p), "ended by signal 9 (Killed); often the system ran out "
                                            "of memory (see darkroom plan)"));
    program_free(&p);
}

/* Runs a line of /bin/sh; $D is the program, $M a model. */
static int shell(const char *line)
{
    setenv("D", getenv("DARKROOM_BIN"), 1);
    setenv("M", program_model(), 1);
    int status = system(line);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void must_fail(const char *line, const char *words)
{
    struct buf err;
    buf_init(&err, DR_TAG_TEST, 0);
    int status = shell(line);
    assert_int_equal(dr_read_file("err", 1 << 20, &err, NULL), 0);
    if (status != 1 || !strstr(buf_text(&err), words))
        fail_msg("%s: status %d: %s", line, status, buf_text(&err));
    buf_free(&err);
}

/* Whatever a verb prints, and however. */
static void an_output_that_cannot_be_written_is_a_failure(void **state)
{
    (void)state;
    static const char *const verbs[] = {
        "help",
        "help generate",
        "generate --help",
        "version",
        "devices",
        "devices --json",
        "completion bash",
        "man",
        "tokens x",
        "plan -m $M -px",
        "plan -m $M -px --json",
        "validate -m $M -px",
        "validate -m $M -px --json",
        "inspect $M",
        "inspect $M --json",
        "generate -m $M -px -W64 -H64 --steps 1 -q -o -",
        "generate -m $M -px -W64 -H64 --steps 1 -q -o a.png --json",
    };
    static const char *const ways[][2] = { { ">&-", "Bad file descriptor" },
                                           { ">/dev/full", "No space left" },
                                           { "1</dev/null", "Bad file descriptor" } };
    program_folder();
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        for (size_t k = 0; k < 3; k++) {
            char line[300];
            snprintf(line, sizeof line, "\"$D\" %s %s </dev/null 2>err", verbs[i], ways[k][0]);
            must_fail(line, ways[k][1]);
        }
    must_fail("\"$D\" bench --only op_layer_norm_1280 >/dev/full 2>err", "No space left");
    must_fail("\"$D\" check --cache >&- 2>err", "Bad file descriptor");
    must_fail("\"$D\" worker --version >&- 2>err", "stdout is closed");
    /* nothing to write there: nothing wrong */
    assert_int_equal(shell("\"$D\" generate -m $M -px -W64 -H64 --steps 1 -ob.png <&- >&- 2>&-"),
                     0);
    assert_true(dr_is_file("b.png"));
    assert_int_equal(shell("\"$D\" help generate | head -n 1 >/dev/null"), 0);
}

/* SIGXFSZ would end the program without a word. */
static void a_file_limit_is_an_error(void **state)
{
    (void)state;
    program_folder();
    must_fail("ulimit -f 1; (\"$D\" generate -m $M -px -W128 -H128 --steps 1 -q -oa.png 2>&1; echo "
              "$? >status) | cat >err; exit $(cat status)",
              "File too large");
    assert_false(dr_is_file("a.png"));
    must_fail("ulimit -f 1; (\"$D\" man 2>&1 >man; echo $? >status) | cat >err; exit $(cat status)",
              "stdout: cannot write: File too large");
    assert_int_equal(program_entries("."), 3); /* err, status, man */
}

static void seeds_are_exact(void **state)
{
    (void)state;
    static const char *const seeds[] = { "18446744073709551615", "9223372036854775808", "0" };
    struct program p;
    char name[80];
    uint64_t seed;
    program_folder();
    for (size_t i = 0; i < sizeof seeds / sizeof *seeds; i++) {
        program_run(&p, 0, "generate", "-m", program_model(), "-px", "-W64", "-H64", "--steps=1",
                    "-s", seeds[i], "--json", NULL);
        snprintf(name, sizeof name, "./darkroom-%s.png", seeds[i]);
        assert_true(dr_is_file(name));
        json_t *o = program_json(&p), *image = json_array_get(json_object_get(o, "images"), 0);
        assert_string_equal(json_string_value(json_object_get(image, "path")), name);
        assert_true(jx_as_uint(json_object_get(image, "seed"), &seed));
        assert_true(seed == strtoull(seeds[i], NULL, 10));
        snprintf(name, sizeof name, "seed %s\n", seeds[i]);
        assert_non_null(strstr(program_err(&p), name));
        json_decref(o);
        program_free(&p);
    }
    program_run(&p, 2, "generate", "-m", program_model(), "-px", "-s", "18446744073709551616",
                NULL);
    assert_non_null(strstr(program_err(&p), "--seed: got 18446744073709551616, expected an integer "
                                            "from -1 to 2^64-1"));
    program_free(&p);
    program_run(&p, 2, "generate", "-m", program_model(), "-px", "-W64", "-H64", "--steps=1", "-s",
                "18446744073709551615", "-b2", NULL);
    assert_non_null(strstr(program_err(&p), "seed + batch_size - 1 to be at most 2^64-1"));
    program_free(&p);
}

/* Also those of the configuration; and none that nobody chose is longer than ten digits. */
static void seeds_of_the_configuration_are_exact(void **state)
{
    (void)state;
    struct program p;
    static const char text[] = "seed: 18446744073709551614\n";
    program_configure(program_folder());
    assert_int_equal(dr_mkdirs("darkroom", NULL), 0);
    assert_int_equal(dr_write_file("darkroom/config.yaml", text, sizeof text - 1, NULL), 0);
    program_run(&p, 0, "generate", "-m", program_model(), "-px", "-W64", "-H64", "--steps=1", "-b2",
                NULL);
    assert_true(dr_is_file("darkroom-18446744073709551614.png"));
    assert_true(dr_is_file("darkroom-18446744073709551615.png"));
    program_free(&p);
    program_configure(NULL);
    for (int i = 0; i < 4; i++) {
        program_run(&p, 0, "generate", "-m", program_model(), "-px", "-W64", "-H64", "--steps=1",
                    "-s-1", NULL);
        const char *at = strstr(program_err(&p), "seed ");
        assert_non_null(at);
        assert_true(strtoull(at + 5, NULL, 10) <= UINT32_MAX);
        program_free(&p);
    }
}

static int times(const char *text, const char *words)
{
    int n = 0;
    for (; (text = strstr(text, words)); text++)
        n++;
    return n;
}

/* By the worker's log and by the program. */
static void nothing_is_said_twice(void **state)
{
    (void)state;
    struct program p;
    char words[181] = "";
    for (int i = 0; i < 90; i++)
        memcpy(words + 2 * i, "a ", 3);
    program_folder();
    program_run(&p, 0, "generate", "-m", program_model(), "-p", words, "-W64", "-H64", "--steps=1",
                "--prompt-syntax=plain", "-oa.png", NULL);
    assert_int_equal(times(program_err(&p), "the prompt has 90 tokens"), 1);
    assert_int_equal(times(program_err(&p), " info "), 0);
    program_free(&p);
    setenv("DARKROOM_LOG", "loud", 1);
    program_run(&p, 0, "devices", NULL);
    assert_int_equal(times(program_err(&p), "DARKROOM_LOG: got loud"), 1);
    program_free(&p);
    unsetenv("DARKROOM_LOG");
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(ctrl_z_stops_the_worker_too),
    cmocka_unit_test(an_interrupt_while_stopped_counts),
    cmocka_unit_test(a_stopped_worker_does_not_keep_it),
    cmocka_unit_test(a_deaf_worker_does_not_keep_it),
    cmocka_unit_test(a_killed_worker_hints_at_memory),
    cmocka_unit_test(an_output_that_cannot_be_written_is_a_failure),
    cmocka_unit_test(a_file_limit_is_an_error),
    cmocka_unit_test(seeds_are_exact),
    cmocka_unit_test(seeds_of_the_configuration_are_exact),
    cmocka_unit_test(nothing_is_said_twice),
};

int main(int argc, char **argv)
{
    jx_init();
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
