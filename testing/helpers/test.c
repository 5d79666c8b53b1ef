/* test.c - see test.h. */
#include "testing/helpers/test.h"

#include <math.h>
#include <fcntl.h>
#include <ftw.h>
#include <openssl/crypto.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"

enum { OOM_STEPS_EACH = 64, OOM_MAX_RUNS = 160, OOM_SECONDS = 60, EXIT_NOT_HIT = 100 };
/* Seconds for the walks of one program: on a busy machine fewer allocations are tried. */
enum { OOM_PROGRAM_SECONDS = 20, WALK_SECONDS = 20 };

static int run_one(const struct CMUnitTest *test)
{
    return _cmocka_run_group_tests(test->name, test, 1, NULL, NULL);
}

static char dir[64];
static pid_t dir_owner;

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void remove_dir(void)
{
    if (getpid() == dir_owner)
        nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static bool in_oom_child;

/* What the child of one run says to its parent. */
static struct oom_report {
    uint64_t before, made; /* allocations before the test, and in it */
} * report;

/* However the child of one run ends, short of a crash: its exit status. What it wrote goes. */
static void oom_end(void)
{
    report->made = dr_alloc_stats_all().total - report->before;
    remove_dir();
    _exit(dr_alloc_fail_hit() ? 0 : EXIT_NOT_HIT);
}

/* The child of one run: the test with its k-th allocation failing (0: none), silent. The test
 * function is called without cmocka's runner, which would catch the signal of a crash and call it a
 * failed assertion; a failed assertion ends the process by exit(), maybe while other threads hash,
 * so libcrypto must not clean up at exit. */
static void oom_child(const struct CMUnitTest *test, uint64_t k)
{
    int null = open("/dev/null", O_WRONLY);
    if (null >= 0) {
        dup2(null, 1);
        dup2(null, 2);
    }
    OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, NULL);
    atexit(oom_end);
    alarm(OOM_SECONDS);
    in_oom_child = true;
    void *state = test->initial_state;
    report->before = dr_alloc_stats_all().total;
    dr_alloc_fail_at(k, 1);
    if (!test->setup_func || !test->setup_func(&state)) {
        test->test_func(&state);
        if (test->teardown_func)
            test->teardown_func(&state);
    }
    oom_end();
}

/* The exit status of a run, negative when it crashed or hung. */
static int oom_run(const struct CMUnitTest *test, uint64_t k)
{
    int status;
    fflush(NULL);
    pid_t pid = fork();
    if (!pid)
        oom_child(test, k);
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return -1;
    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    printf("%s: signal %d with allocation %llu failing\n", test->name, WTERMSIG(status),
           (unsigned long long)k);
    return -1;
}

/* How far a program got. */
struct oom_sum {
    uint64_t tried, made;
    int cut; /* tests of which not even the first allocations were tried: there was no time */
};

/* 1 when a child crashed or hung. Every k up to 64, then in growing strides, while `seconds`
 * last. */
static int oom_test(const struct CMUnitTest *test, double seconds, struct oom_sum *sum)
{
    uint64_t k = 1;
    double end = dr_now() + seconds;
    int run = 0, status = 0;
    report->made = 0;
    if (oom_run(test, 0) < 0)
        return 1;
    uint64_t made = report->made;
    while (run < OOM_MAX_RUNS && dr_now() < end && (status = oom_run(test, k)) >= 0 &&
           status != EXIT_NOT_HIT) {
        k += k < OOM_STEPS_EACH ? 1 : k / 8;
        run++;
    }
    bool cut = status >= 0 && status != EXIT_NOT_HIT && run < OOM_STEPS_EACH;
    printf("%s: %d of %llu allocations failed one by one%s\n", test->name, run,
           (unsigned long long)made, cut ? ", then time was up" : "");
    sum->tried += (uint64_t)run;
    sum->made += made > (uint64_t)run ? made : (uint64_t)run;
    sum->cut += cut;
    return status < 0;
}

/* All tests, each with an equal part of the time that is left. A program that had too little of it
 * counts as skipped (cmake/tests.cmake looks for the word). */
static int oom_main(const struct CMUnitTest *tests, size_t n)
{
    struct oom_sum sum = { 0 };
    int bad = 0;
    double end = dr_now() + OOM_PROGRAM_SECONDS;
    report = mmap(NULL, sizeof *report, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (report == MAP_FAILED)
        return 1;
    for (size_t i = 0; i < n; i++) {
        double left = end - dr_now();
        bad += oom_test(&tests[i], left / (double)(n - i), &sum);
    }
    printf("coverage: %llu of %llu allocations, %.0f %%\n", (unsigned long long)sum.tried,
           (unsigned long long)sum.made,
           sum.made ? 100.0 * (double)sum.tried / (double)sum.made : 100.0);
    if (sum.cut && !bad)
        printf("[  SKIPPED ] no time for the first %d allocations of %d tests\n", OOM_STEPS_EACH,
               sum.cut);
    return bad;
}

int test_main(int argc, char **argv, const struct CMUnitTest *tests, size_t n)
{
    if (argc < 2)
        return _cmocka_run_group_tests(argv[0], tests, n, NULL, NULL);
    if (!strcmp(argv[1], "--oom"))
        return oom_main(tests, n) != 0;
    int bad = 0, ran = 0;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(argv[1], tests[i].name))
            continue;
        ran++;
        bad += run_one(&tests[i]);
    }
    if (!ran)
        fprintf(stderr, "%s: no test named '%s'\n", argv[0], argv[1]);
    return bad || !ran;
}

/* Each allocation in its turn for WALK_SECONDS, then a sample of the rest; under sanitizers a
 * sample from OOM_STEPS_EACH on. */
static uint64_t walk_step(uint64_t k, double end)
{
    if (TEST_SANITIZED)
        return k < OOM_STEPS_EACH ? 1 : k / 8;
    return dr_now() < end ? 1 : 1 + k / 64;
}

void test_oom_walk(int (*scenario)(void *ctx, struct dr_error *err), void *ctx)
{
    struct dr_error err;
    if (in_oom_child) /* a walk of its own inside each step of one would only take long */
        return;
    memset(&err, 0, sizeof err);
    uint64_t blocks = test_blocks(); /* before the first run, so that caches count as leaks */
    double end = dr_now() + WALK_SECONDS;
    for (uint64_t k = 1;; k += walk_step(k, end)) {
        memset(&err, 0, sizeof err);
        dr_alloc_fail_at(k, 1);
        int r = scenario(ctx, &err);
        bool hit = dr_alloc_fail_hit();
        dr_alloc_fail_at(0, 0);
        if (hit && r != 0 && (r != DR_ENOMEM || !err.text[0]))
            fail_msg("allocation %llu failing: returned %d, \"%s\"", (unsigned long long)k, r,
                     err.text);
        if (!hit && r != 0)
            fail_msg("no allocation failed, yet it returned %d: %s", r, err.text);
        if (test_blocks() != blocks)
            fail_msg("allocation %llu failing: %lld blocks leaked", (unsigned long long)k,
                     (long long)(test_blocks() - blocks));
        if (!hit) {
            assert_true(k > 1);
            return;
        }
    }
}

uint64_t test_blocks(void)
{
    return dr_alloc_stats_all().blocks;
}

const char *test_source(const char *relative)
{
    static char paths[4][1024];
    static unsigned turn;
    const char *root = getenv("DARKROOM_SOURCE");
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", root ? root : ".", relative);
    return path;
}

const char *test_dir(void)
{
    if (dir[0])
        return dir;
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, sizeof dir, "%.40s/drtest.XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(dir))
        fail_msg("cannot make %s", dir);
    dir_owner = getpid();
    atexit(remove_dir);
    return dir;
}

int test_stderr_to(int fd)
{
    int saved = dup(STDERR_FILENO);
    if (saved < 0 || dup2(fd, STDERR_FILENO) < 0)
        fail_msg("cannot redirect stderr");
    return saved;
}

void test_stderr_back(int saved)
{
    dup2(saved, STDERR_FILENO);
    close(saved);
}

double test_rel_l2(const float *a, const float *b, size_t n)
{
    double diff = 0, ref = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)a[i] - b[i];
        diff += d * d;
        ref += (double)b[i] * b[i];
    }
    return ref > 0 ? sqrt(diff / ref) : sqrt(diff);
}
