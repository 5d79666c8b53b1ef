/* test_core_roots.c - what lies inside a root, and every way out of it. */
#include "core/roots.h"

#include <stdio.h>
#include <string.h>
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

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(inside_is_inside),         cmocka_unit_test(every_way_out_is_refused),
    cmocka_unit_test(an_error_names_the_field), cmocka_unit_test(roots_must_be_folders),
    cmocka_unit_test(long_paths_end),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
