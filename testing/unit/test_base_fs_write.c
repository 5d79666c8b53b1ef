/* test_base_fs_write.c - files that are made where nothing is yet: none is replaced, none is half
 * there, whatever the file system can and however full it is. */
#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "testing/helpers/test.h"

enum { THREADS = 4, FILES = 300 };

static int folder;

/* The working folder is a new one of the test, and `folder` its descriptor. */
static void enter(const char *name)
{
    char path[DR_PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", test_dir(), name);
    assert_int_equal(mkdir(path, 0777), 0);
    assert_int_equal(chdir(path), 0);
    folder = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(folder >= 0);
}

static int create(const char *path, const char *text, struct dr_error *err)
{
    struct dr_piece pieces[] = { { text, strlen(text) }, { "!", 1 } };
    return dr_create_file(folder, path, pieces, 2, true, err);
}

static void holds(const char *path, const char *text)
{
    struct buf b;
    buf_init(&b, DR_TAG_TEST, 0);
    assert_int_equal(dr_read_file(path, 1 << 20, &b, NULL), 0);
    assert_string_equal(buf_text(&b), text);
    buf_free(&b);
}

static int entries(void)
{
    int n;
    FILE *f = popen("ls -A | wc -l", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%d", &n), 1);
    pclose(f);
    return n;
}

static void nothing_is_replaced(void **state)
{
    (void)state;
    struct dr_error err = { 0 };
    struct stat st;
    enter("keep");
    umask(027);
    assert_int_equal(create("/shown/as/a", "new", &err), 0);
    holds("a", "new!");
    assert_int_equal(stat("a", &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    assert_int_equal(create("a", "other", &err), DR_EINVAL);
    assert_non_null(strstr(err.text, "exists already"));
    holds("a", "new!");
    /* links, also those to nowhere, and folders are in the way as well */
    assert_int_equal(symlink("a", "link") | symlink("nowhere", "dangling") | mkdir("sub", 0777), 0);
    static const char *const taken[] = { "link", "dangling", "sub" };
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        assert_int_equal(create(taken[i], "x", &err), DR_EINVAL);
    holds("a", "new!");
    assert_int_equal(access("nowhere", F_OK), -1);
    assert_int_equal(entries(), 4);
    umask(022);
}

/* From now on the kernel answers these calls of this process with an error. False: not
 * permitted. */
static bool deny(long number, int error)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof code / sizeof *code, code };
    return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
           !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static void renames_keep_what_is_there(void)
{
    struct dr_error err = { 0 };
    assert_int_equal(create("old", "old", &err) | create("one", "one", &err), 0);
    assert_int_equal(dr_rename_new(folder, "one", folder, "old"), -1);
    assert_int_equal(errno, EEXIST);
    assert_int_equal(dr_rename_new(folder, "one", folder, "two"), 0);
    holds("old", "old!");
    holds("two", "one!");
    assert_int_equal(mkdir("f", 0777) | mkdir("full", 0777) | mkdir("f/in", 0777), 0);
    assert_int_equal(dr_rename_new(folder, "f", folder, "full"), -1);
    assert_int_equal(errno, EEXIST);
    assert_int_equal(dr_rename_new(folder, "f", folder, "g"), 0);
    assert_int_equal(access("g/in", F_OK), 0);
    assert_int_equal(dr_rename_new(folder, "none", folder, "h"), -1);
    assert_int_equal(errno, ENOENT);
    assert_int_equal(access("h", F_OK), -1);
    assert_int_equal(entries(), 4); /* old two full g */
}

static void in_one_step(void **state)
{
    (void)state;
    enter("step");
    renames_keep_what_is_there();
}

static void where_renames_always_replace(void **state)
{
    (void)state;
    enter("links");
    if (!deny(SYS_renameat2, EINVAL))
        skip();
    renames_keep_what_is_there();
}

static void where_there_are_no_links_either(void **state)
{
    (void)state;
    enter("claims");
    if (!deny(SYS_renameat2, ENOSYS) || !deny(SYS_linkat, EPERM))
        skip();
    renames_keep_what_is_there();
}

/* Each thread wants every name and says so in the file. */
static void *create_all(void *ctx)
{
    const char *own = ctx;
    char name[16];
    long won = 0;
    for (int i = 0; i < FILES; i++) {
        snprintf(name, sizeof name, "%d", i);
        won += !create(name, own, NULL);
    }
    return (void *)won;
}

static void a_name_is_taken_once(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    static char own[THREADS][2] = { "a", "b", "c", "d" };
    long won = 0;
    enter("race");
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, create_all, own[i]), 0);
    for (int i = 0; i < THREADS; i++) {
        void *one;
        pthread_join(threads[i], &one);
        won += (long)one;
    }
    assert_int_equal(won, FILES);
    assert_int_equal(entries(), FILES);
}

static void a_file_that_may_not_grow_leaves_nothing(void **state)
{
    (void)state;
    struct dr_error err = { 0 };
    struct rlimit before, small;
    static char bytes[20000];
    struct dr_piece piece = { bytes, sizeof bytes };
    enter("limit");
    assert_int_equal(create("older", "kept", &err), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 8192;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int r = dr_create_file(folder, "/pictures/a.png", &piece, 1, true, &err);
    int over = dr_write_file("older", bytes, sizeof bytes, NULL);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(r, DR_EIO);
    assert_non_null(strstr(err.text, "/pictures/a.png: cannot write"));
    assert_int_equal(over, DR_EIO);
    holds("older", "kept!");
    assert_int_equal(entries(), 1);
}

static void a_full_disk_leaves_nothing(void **state)
{
    (void)state;
    struct dr_error err = { 0 };
    static char bytes[200000];
    struct dr_piece piece = { bytes, sizeof bytes };
    enter("full");
    if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
        mount("tmpfs", ".", "tmpfs", 0, "size=64k"))
        skip();
    char path[DR_PATH_MAX];
    assert_non_null(getcwd(path, sizeof path));
    assert_int_equal(chdir(path), 0); /* into the new file system */
    folder = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(create("older", "kept", &err), 0);
    assert_int_equal(dr_create_file(folder, "a.png", &piece, 1, true, &err), DR_EIO);
    assert_non_null(strstr(err.text, "a.png: cannot write: No space left"));
    assert_int_equal(entries(), 1);
    assert_int_equal(mount("none", ".", NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
    assert_int_equal(create("b", "x", &err), DR_EIO);
    assert_non_null(strstr(err.text, "Read-only"));
    holds("older", "kept!");
    assert_int_equal(chdir("/"), 0);
    close(folder);
    assert_int_equal(umount(path), 0);
}

static void a_folder_that_is_gone_is_an_error(void **state)
{
    (void)state;
    struct dr_error err = { 0 };
    enter("gone");
    assert_int_equal(chdir(".."), 0);
    assert_int_equal(rmdir("gone"), 0);
    assert_int_equal(create("/srv/gone/a", "x", &err), DR_ENOENT);
    assert_non_null(strstr(err.text, "/srv/gone/a"));
    char name[300];
    memset(name, 'n', 260);
    name[260] = '\0';
    enter("long");
    assert_int_equal(create(name, "x", &err), DR_EIO);
    assert_int_equal(entries(), 0);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(nothing_is_replaced),
    cmocka_unit_test(in_one_step),
    cmocka_unit_test(where_renames_always_replace),
    cmocka_unit_test(where_there_are_no_links_either),
    cmocka_unit_test(a_name_is_taken_once),
    cmocka_unit_test(a_file_that_may_not_grow_leaves_nothing),
    cmocka_unit_test(a_full_disk_leaves_nothing),
    cmocka_unit_test(a_folder_that_is_gone_is_an_error),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
