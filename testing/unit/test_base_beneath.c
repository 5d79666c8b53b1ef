/* test_base_beneath.c - what can be opened from a folder without leaving it, also while another
 * thread swaps folders for links. */
#include "base/beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fs.h"
#include "testing/helpers/test.h"

static int root;

/* ROOT/{file,deep/file} inside, outside/secret beside it; the working folder is ROOT. */
static void enter(const char *name)
{
    char path[DR_PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", test_dir(), name);
    assert_int_equal(mkdir(path, 0777), 0);
    assert_int_equal(chdir(path), 0);
    assert_int_equal(dr_mkdirs("root/deep", NULL) | dr_mkdirs("outside", NULL), 0);
    assert_int_equal(dr_write_file("root/file", "in", 2, NULL), 0);
    assert_int_equal(dr_write_file("root/deep/file", "in", 2, NULL), 0);
    assert_int_equal(dr_write_file("outside/secret", "out", 3, NULL), 0);
    assert_int_equal(chdir("root"), 0);
    root = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    assert_true(root >= 0);
}

/* 0, or the errno of opening it for reading; what opens must be a file inside. */
static int opening(const char *path)
{
    char text[4] = "";
    int fd = dr_open_beneath(root, path, O_RDONLY, 0);
    if (fd < 0)
        return errno;
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    if (read(fd, text, 3) > 0)
        assert_string_equal(text, "in");
    close(fd);
    return 0;
}

static void link_to(const char *target, const char *name)
{
    assert_int_equal(symlink(target, name), 0);
}

static void what_lies_inside_opens(void **state)
{
    (void)state;
    char absolute[DR_PATH_MAX], folder[DR_PATH_MAX];
    enter("inside");
    assert_non_null(getcwd(folder, sizeof folder));
    snprintf(absolute, sizeof absolute, "%.4000s/deep/file", folder);
    link_to("deep/file", "relative");
    link_to("../file", "deep/up");
    link_to(absolute, "absolute");
    link_to(folder, "deep/home");
    static const char *const paths[] = { "file",         "deep/file", "./deep//file",
                                         "deep/../file", "relative",  "deep/up",
                                         "absolute",     ".",         "deep/home/file" };
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        if (opening(paths[i]))
            fail_msg("%s: %s", paths[i], strerror(opening(paths[i])));
    assert_int_equal(opening("none"), ENOENT);
    assert_int_equal(opening("file/x"), ENOTDIR);
    assert_int_equal(opening("deep/home/none"), ENOENT);
    int fd = dr_open_beneath(root, "deep/home/new", O_WRONLY | O_CREAT | O_EXCL, 0640);
    struct stat st;
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(stat("new", &st), 0);
}

static void nothing_outside_opens(void **state)
{
    (void)state;
    char path[DR_PATH_MAX];
    enter("outside");
    link_to("../outside/secret", "file_out");
    link_to("../outside", "folder_out");
    link_to("/etc/passwd", "passwd");
    link_to("/proc/self/cwd/../outside/secret", "by_proc");
    link_to("/", "deep/top");
    link_to("folder_out", "chain");
    snprintf(path, sizeof path, "/proc/self/fd/%d", open("../outside", O_PATH | O_DIRECTORY));
    link_to(path, "magic");
    link_to("loop", "loop");
    static const char *const paths[] = { "..",
                                         "../outside/secret",
                                         "deep/../../outside/secret",
                                         "file_out",
                                         "folder_out/secret",
                                         "chain/secret",
                                         "passwd",
                                         "/etc/passwd",
                                         "by_proc",
                                         "deep/top/etc/passwd",
                                         "magic/secret",
                                         "loop" };
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        int e = opening(paths[i]);
        if (e != EXDEV && e != ELOOP)
            fail_msg("%s: %s", paths[i], strerror(e));
    }
    assert_int_equal(dr_open_beneath(root, "folder_out/new", O_WRONLY | O_CREAT, 0666), -1);
    assert_int_equal(access("../outside/new", F_OK), -1);
}

static atomic_bool done;

/* "swap" is a folder inside and a link outside, in turn. */
static void *swap_all_the_time(void *ctx)
{
    (void)ctx;
    while (!atomic_load(&done)) {
        bool linked = !rename("swap", "kept") && !symlink("../outside", "swap");
        if (!linked || unlink("swap") || rename("kept", "swap"))
            break;
    }
    return NULL;
}

static void a_link_put_in_meanwhile_leads_nowhere(void **state)
{
    (void)state;
    pthread_t thread;
    char name[64];
    struct stat st;
    int opened = 0;
    enter("race");
    assert_int_equal(mkdir("swap", 0777), 0);
    assert_int_equal(pthread_create(&thread, NULL, swap_all_the_time, NULL), 0);
    for (int i = 0; i < 20000; i++) {
        snprintf(name, sizeof name, "swap/%d", i % 100);
        int fd = dr_open_beneath(root, name, O_WRONLY | O_CREAT, 0666);
        opened += fd >= 0;
        if (fd >= 0)
            close(fd);
    }
    atomic_store(&done, true);
    pthread_join(thread, NULL);
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "../outside/%d", i);
        if (!lstat(name, &st))
            fail_msg("%s was written", name);
    }
    assert_true(opened > 0);
}

/* From now on this process's kernel has no openat2, as before Linux 5.6. False: filters are not
 * permitted here. */
static bool forget_openat2(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof code / sizeof *code, code };
    return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
           !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static void old_kernels_follow_no_links(void **state)
{
    (void)state;
    enter("old");
    link_to("../outside/secret", "file_out");
    link_to("../outside", "folder_out");
    link_to("deep", "inside");
    if (!forget_openat2())
        skip();
    static const char *const good[] = { "file", "deep/file", "./deep//file", ".", "deep/" };
    static const char *const bad[] = { "..",         "../outside/secret", "deep/../file",
                                       "file_out",   "folder_out/secret", "inside/file",
                                       "/etc/passwd" };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (opening(good[i]))
            fail_msg("%s: %s", good[i], strerror(opening(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (!opening(bad[i]))
            fail_msg("%s: opened", bad[i]);
}

static void without_a_root_it_is_an_ordinary_open(void **state)
{
    (void)state;
    enter("anywhere");
    int fd = dr_open_beneath(AT_FDCWD, "../outside/secret", O_RDONLY, 0);
    assert_true(fd >= 0);
    close(fd);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(what_lies_inside_opens),
    cmocka_unit_test(nothing_outside_opens),
    cmocka_unit_test(a_link_put_in_meanwhile_leads_nowhere),
    cmocka_unit_test(old_kernels_follow_no_links),
    cmocka_unit_test(without_a_root_it_is_an_ordinary_open),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
