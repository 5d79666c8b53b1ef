/* test_base_mapguard.c - a file cut under its map. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mapguard.h"
#include "testing/helpers/test.h"

enum { PAGES = 4 };

static size_t page;

static int make_file(const char *name)
{
    char path[512];
    page = (size_t)sysconf(_SC_PAGESIZE);
    snprintf(path, sizeof path, "%s/%s", test_dir(), name);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    for (size_t i = 0; i < PAGES * page; i++)
        assert_int_equal(write(fd, "x", 1), 1);
    return fd;
}

static const volatile char *map_file(int fd)
{
    void *p = mmap(NULL, PAGES * page, PROT_READ, MAP_PRIVATE, fd, 0);
    assert_ptr_not_equal(p, MAP_FAILED);
    return p;
}

static void cut_file_reads_as_zeros(void **state)
{
    (void)state;
    struct dr_error err;
    int fd = make_file("cut"), slot = -1;
    const volatile char *p = map_file(fd);
    assert_int_equal(mapguard_install(&err), 0);
    assert_int_equal(mapguard_install(&err), 0);
    assert_int_equal(mapguard_add((const void *)p, PAGES * page, &slot, &err), 0);
    assert_int_equal(p[PAGES * page - 1], 'x');
    assert_false(mapguard_damaged(slot));
    assert_int_equal(ftruncate(fd, (off_t)page), 0);
    assert_int_equal(p[2 * page + 5], 0);
    assert_true(mapguard_damaged(slot));
    assert_int_equal(p[PAGES * page - 1], 0);
    assert_int_equal(p[0], 'x');
    mapguard_remove(slot);
    munmap((void *)(uintptr_t)p, PAGES * page);
    close(fd);
}

static void fault_elsewhere_stays_fatal(void **state)
{
    (void)state;
    struct dr_error err;
    int fd = make_file("other"), slot = -1;
    const volatile char *p = map_file(fd);
    assert_int_equal(ftruncate(fd, 0), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (!pid) {
        struct rlimit none = { 0, 0 };
        setrlimit(RLIMIT_CORE, &none);
        signal(SIGBUS, SIG_DFL);
        close(2);
        mapguard_install(&err);
        /* registered, then removed: no longer protected */
        mapguard_add((const void *)p, PAGES * page, &slot, &err);
        mapguard_remove(slot);
        _exit(p[0]);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGBUS);
    close(fd);
}

/* A signal that somebody sent has no address: it ends the process as it would without the guard. */
static void a_sent_signal_stays_fatal(void **state)
{
    (void)state;
    int status;
    pid_t child = fork();
    if (!child) {
        struct rlimit none = { 0, 0 };
        (void)setrlimit(RLIMIT_CORE, &none);
        (void)signal(SIGBUS, SIG_DFL); /* cmocka has a handler of its own */
        (void)mapguard_install(NULL);
        (void)raise(SIGBUS);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
}

static void slots_run_out(void **state)
{
    (void)state;
    struct dr_error err;
    int slot[MAPGUARD_MAX], extra;
    for (int i = 0; i < MAPGUARD_MAX; i++)
        assert_int_equal(mapguard_add(&slot, sizeof slot, &slot[i], &err), 0);
    assert_int_equal(mapguard_add(&slot, sizeof slot, &extra, &err), DR_ELIMIT);
    for (int i = 0; i < MAPGUARD_MAX; i++)
        mapguard_remove(slot[i]);
    mapguard_remove(-1);
    assert_false(mapguard_damaged(-1));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(cut_file_reads_as_zeros),
    cmocka_unit_test(fault_elsewhere_stays_fatal),
    cmocka_unit_test(a_sent_signal_stays_fatal),
    cmocka_unit_test(slots_run_out),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
