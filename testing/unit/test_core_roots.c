/* test_core_roots.c - what lies inside a root, and every way out of it. */
#include "core/roots.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "testing/helpers/test.h"

/* inside/ (the root), inside/sub, inside/file, inside-not/, secret/, links in and out. */
static const char *tree(void)
{
    static char root[256];
    char path[512];
    static const char *const folders[] = { "inside/sub", "inside-not", "secret" };
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", test_dir(), folders[i]);
        assert_int_equal(dr_mkdirs(path, NULL), 0);
    }
    snprintf(root, sizeof root, "%s/inside", test_dir());
    snprintf(path, sizeof path, "%s/file", root);
    assert_int_equal(dr_write_file(path, "x", 1, NULL), 0);
    static const char *const links[][2] = {
        { "../secret", "out" },           { "/", "slash" },   { "sub", "in" },
        { "../secret/none", "dangling" }, { "loop", "loop" },
    };
    for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
        snprintf(path, sizeof path, "%s/%s", root, links[i][1]);
        unlink(path);
        assert_int_equal(symlink(links[i][0], path), 0);
    }
    return root;
}

static int check(const struct roots *r, const char *format, const char *root)
{
    char path[600];
    snprintf(path, sizeof path, format, root);
    return roots_check(r, "save_path", path, NULL);
}

static void inside_is_inside(void **state)
{
    (void)state;
    struct roots r = { .n = 0 };
    const char *root = tree();
    assert_int_equal(roots_add(&r, root, NULL), 0);
    static const char *const good[] = {
        "%s",           "%s/",     "%s/file",          "%s/sub/new",
        "%s/new/newer", "%s/in/x", "%s/./sub/../file", "%s//sub///x"
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (check(&r, good[i], root))
            fail_msg("%s", good[i]);
    roots_free(&r);
}

static void every_way_out_is_refused(void **state)
{
    (void)state;
    struct roots r = { .n = 0 };
    const char *root = tree();
    assert_int_equal(roots_add(&r, root, NULL), 0);
    static const char *const bad[] = {
        "%s/..",
        "%s/../secret/x",
        "%s/out",
        "%s/out/x",
        "%s/slash/etc/passwd",
        "%s-not",
        "%s-not/x",
        "%s/new/../../secret",
        "%s/new/../../../etc",
        "%s/dangling",
        "%s/loop",
        "%s/loop/x",
        "%s/file/x",
        "%s/sub/../../secret",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (!check(&r, bad[i], root))
            fail_msg("%s", bad[i]);
    assert_true(roots_check(&r, "f", "/etc/passwd", NULL) < 0);
    assert_true(roots_check(&r, "f", "/", NULL) < 0);
    assert_true(roots_check(&r, "f", "", NULL) < 0);
    assert_true(roots_check(&r, "f", "relative", NULL) < 0);
    roots_free(&r);
}

static void an_error_names_the_field(void **state)
{
    (void)state;
    struct roots r = { .n = 0 };
    struct dr_error err = { 0 };
    assert_int_equal(roots_check(&r, "save_path", "/tmp", &err), DR_EINVAL);
    assert_string_equal(err.path, "save_path");
    assert_non_null(strstr(err.text, "--root"));
    assert_int_equal(roots_add(&r, tree(), NULL), 0);
    assert_int_equal(roots_check(&r, "dump_stages", "/etc", &err), DR_EINVAL);
    assert_string_equal(err.path, "dump_stages");
    roots_free(&r);
}

static void roots_must_be_folders(void **state)
{
    (void)state;
    struct roots r = { .n = 0 };
    char path[512];
    snprintf(path, sizeof path, "%s/file", tree());
    assert_int_equal(roots_add(&r, path, NULL), DR_EINVAL);
    snprintf(path, sizeof path, "%s/none", test_dir());
    assert_int_equal(roots_add(&r, path, NULL), DR_ENOENT);
    assert_int_equal(r.n, 0);
    for (int i = 0; i < ROOTS_MAX; i++)
        assert_int_equal(roots_add(&r, test_dir(), NULL), 0);
    assert_int_equal(roots_add(&r, test_dir(), NULL), DR_ELIMIT);
    roots_free(&r);
    roots_free(&r);
}

static void long_paths_end(void **state)
{
    (void)state;
    static char path[3 * DR_PATH_MAX];
    struct roots r = { .n = 0 };
    const char *root = tree();
    assert_int_equal(roots_add(&r, root, NULL), 0);
    size_t n = (size_t)snprintf(path, sizeof path, "%s", root);
    while (n + 3 < sizeof path) {
        memcpy(path + n, "/a", 2);
        n += 2;
    }
    assert_true(roots_check(&r, "f", path, NULL) < 0);
    path[n = strlen(root)] = '/';
    memset(path + n + 1, 'n', 300); /* longer than a name may be */
    path[n + 301] = '\0';
    assert_true(roots_check(&r, "f", path, NULL) < 0);
    roots_free(&r);
}

/* 0 and the descriptor's contents, or the code. */
static int read_one(const struct roots *r, const char *path, char text[8], struct dr_error *err)
{
    int fd, code = roots_open(r, "load_stage", path, O_RDONLY | O_NONBLOCK, 0, &fd, err);
    memset(text, 0, 8);
    if (code)
        return code;
    if (read(fd, text, 7) < 0)
        text[0] = '\0';
    close(fd);
    return 0;
}

static void files_open_beneath_the_roots(void **state)
{
    (void)state;
    struct roots r = { .n = 0 };
    struct dr_error err = { 0 };
    char path[600], alias[600], text[8];
    const char *root = tree();
    /* the root itself may be named by a link, and so may paths */
    snprintf(alias, sizeof alias, "%s/alias", test_dir());
    unlink(alias);
    assert_int_equal(symlink("inside", alias), 0);
    assert_int_equal(roots_add(&r, alias, NULL), 0);
    static const char *const good[] = { "%s/file", "%s//./file", "%s/sub/../file",
                                        "%s/in/../file" };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        for (int k = 0; k < 2; k++) {
            snprintf(path, sizeof path, good[i], k ? alias : root);
            if (read_one(&r, path, text, &err) || strcmp(text, "x"))
                fail_msg("%s: %s", path, err.text);
        }
    static const char *const bad[] = {
        "%s/out/x",
        "%s/slash/etc/passwd",
        "%s/../secret",
        "%s/file/",
        "%s/dangling",
        "%s/loop",
        "%s-not/x",
        "/etc/passwd",
        "/proc/self/environ",
        "/proc/1/root/etc/passwd",
        "/dev/zero",
        "",
        "/proc/self/root/etc/passwd",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(path, sizeof path, bad[i][0] == '%' ? bad[i] : "%.0s%s", root, bad[i]);
        if (!read_one(&r, path, text, &err))
            fail_msg("%s: opened", path);
        assert_null(strstr(err.text, "root:"));
    }
    roots_free(&r);
}

/* Paths of /proc that stand for descriptors or roots of processes lead where they lead: inside or
 * not at all. */
static void descriptors_of_the_process_are_no_way_out(void **state)
{
    (void)state;
    struct roots r = { .n = 0 };
    char path[600], text[8];
    const char *root = tree();
    snprintf(path, sizeof path, "%s/secret", test_dir());
    int outside = open(path, O_RDONLY | O_DIRECTORY);
    assert_true(outside >= 0);
    int file = openat(outside, "words", O_RDWR | O_CREAT, 0666);
    assert_int_equal(write(file, "secret", 6), 6);
    assert_int_equal(roots_add(&r, root, NULL), 0);
    static const char *const forms[] = { "/proc/self/fd/%d", "/dev/fd/%d",
                                         "/proc/thread-self/fd/%d" };
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        snprintf(path, sizeof path, forms[i], file);
        assert_true(read_one(&r, path, text, NULL) < 0);
        snprintf(path, sizeof path, forms[i], outside);
        assert_true(roots_try_folder(&r, "save_path", path, NULL) < 0);
    }
    snprintf(path, sizeof path, "%s/magic", root);
    unlink(path);
    snprintf(text, sizeof text, "%d", outside);
    char target[64];
    snprintf(target, sizeof target, "/proc/self/fd/%d", outside);
    assert_int_equal(symlink(target, path), 0);
    assert_true(roots_try_folder(&r, "save_path", path, NULL) < 0);
    int fd;
    assert_true(roots_open_folder(&r, "save_path", path, true, &fd, NULL) < 0);
    close(file);
    close(outside);
    roots_free(&r);
}

static void folders_are_made_beneath_the_roots(void **state)
{
    (void)state;
    struct roots r = { .n = 0 };
    struct dr_error err = { 0 };
    struct stat st;
    char path[600];
    int fd;
    const char *root = tree();
    assert_int_equal(roots_add(&r, root, NULL), 0);
    static const char *const good[] = { "%s", "%s/", "%s/sub", "%s/in/a/b", "%s/c/d///", "%s/./e" };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        snprintf(path, sizeof path, good[i], root);
        if (roots_try_folder(&r, "save_path", path, &err) ||
            roots_open_folder(&r, "save_path", path, true, &fd, &err))
            fail_msg("%s: %s", path, err.text);
        assert_int_equal(fstat(fd, &st), 0);
        assert_true(S_ISDIR(st.st_mode));
        close(fd);
    }
    snprintf(path, sizeof path, "%s/sub/a/b", root);
    assert_int_equal(stat(path, &st), 0);
    static const char *const bad[] = {
        "%s/..",     "%s/../x",     "%s/out",        "%s/out/x",  "%s/file",
        "%s/file/x", "%s/dangling", "%s/dangling/x", "%s/loop/x", "%s/none/../../secret/x",
        "%s-not/x"
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(path, sizeof path, bad[i], root);
        if (!roots_try_folder(&r, "save_path", path, NULL) ||
            !roots_open_folder(&r, "save_path", path, true, &fd, NULL))
            fail_msg("%s: taken", path);
    }
    snprintf(path, sizeof path, "%s/none", root);
    assert_int_equal(roots_open_folder(&r, "save_path", path, false, &fd, &err), DR_ENOENT);
    assert_int_equal(roots_try_folder(&r, "save_path", path, &err), 0);
    assert_int_equal(stat(path, &st), -1); /* looking makes nothing */
    snprintf(path, sizeof path, "%s/secret/x", test_dir());
    assert_int_equal(stat(path, &st), -1);
    roots_free(&r);
}

/* What another file system's folder has behind a mount inside a root is inside. */
static void mounts_inside_are_inside(void **state)
{
    (void)state;
    struct roots r = { .n = 0 };
    char from[600], to[600];
    int fd;
    const char *root = tree();
    snprintf(from, sizeof from, "%s/secret", test_dir());
    snprintf(to, sizeof to, "%s/sub", root);
    if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
        mount(from, to, NULL, MS_BIND, NULL))
        skip();
    assert_int_equal(roots_add(&r, root, NULL), 0);
    snprintf(to, sizeof to, "%s/sub/mounted", root);
    assert_int_equal(roots_open_folder(&r, "save_path", to, true, &fd, NULL), 0);
    close(fd);
    snprintf(from, sizeof from, "%s/secret/mounted", test_dir());
    assert_int_equal(access(from, F_OK), 0);
    /* a mount that can only be read is known beforehand */
    snprintf(to, sizeof to, "%s/sub", root);
    if (!mount("none", to, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL)) {
        struct dr_error err;
        snprintf(from, sizeof from, "%s/new", to);
        assert_int_equal(roots_try_folder(&r, "save_path", from, &err), DR_EINVAL);
        assert_string_equal(err.path, "save_path");
        assert_non_null(strstr(err.text, "Read-only"));
    }
    assert_int_equal(umount(to), 0);
    roots_free(&r);
}

static atomic_bool done;
static char way[600], other[600];

static void *swap_all_the_time(void *ctx)
{
    (void)ctx;
    while (!atomic_load(&done))
        renameat2(AT_FDCWD, way, AT_FDCWD, other, RENAME_EXCHANGE);
    return NULL;
}

static void a_link_put_in_meanwhile_leads_nowhere(void **state)
{
    (void)state;
    struct roots r = { .n = 0 };
    pthread_t thread;
    char path[700], words[8];
    const char *root = tree();
    int made = 0, fd;
    snprintf(path, sizeof path, "%s/secret/file", test_dir());
    assert_int_equal(dr_write_file(path, "out", 3, NULL), 0);
    snprintf(way, sizeof way, "%s/way", root);
    snprintf(other, sizeof other, "%s/other", root);
    assert_int_equal(mkdir(way, 0777) | symlink("../secret", other), 0);
    assert_int_equal(roots_add(&r, root, NULL), 0);
    assert_int_equal(pthread_create(&thread, NULL, swap_all_the_time, NULL), 0);
    for (int i = 0; i < 5000; i++) {
        struct dr_piece piece = { "in", 2 };
        snprintf(path, sizeof path, "%s/%d/deep", way, i % 50);
        if (!roots_try_folder(&r, "save_path", path, NULL) &&
            !roots_open_folder(&r, "save_path", path, true, &fd, NULL)) {
            made += !dr_create_file(fd, i % 2 ? "a" : "b", &piece, 1, false, NULL);
            close(fd);
        }
        snprintf(path, sizeof path, "%s/file", way);
        assert_true(read_one(&r, path, words, NULL) < 0); /* there is one outside only */
    }
    atomic_store(&done, true);
    pthread_join(thread, NULL);
    assert_true(made > 0);
    snprintf(path, sizeof path, "test \"$(ls %s/secret)\" = file", test_dir());
    assert_int_equal(system(path), 0);
    roots_free(&r);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(inside_is_inside),
    cmocka_unit_test(every_way_out_is_refused),
    cmocka_unit_test(an_error_names_the_field),
    cmocka_unit_test(roots_must_be_folders),
    cmocka_unit_test(long_paths_end),
    cmocka_unit_test(files_open_beneath_the_roots),
    cmocka_unit_test(descriptors_of_the_process_are_no_way_out),
    cmocka_unit_test(folders_are_made_beneath_the_roots),
    cmocka_unit_test(mounts_inside_are_inside),
    cmocka_unit_test(a_link_put_in_meanwhile_leads_nowhere),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
