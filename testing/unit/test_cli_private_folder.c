/* test_cli_private_folder.c - folders of runs: made beside the result, removed by whoever comes
 * next when their run was killed. */
#include "cli/private_folder.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "testing/helpers/test.h"

static void enter(const char *name)
{
    char path[DR_PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", test_dir(), name);
    assert_int_equal(mkdir(path, 0777), 0);
    assert_int_equal(chdir(path), 0);
}

static struct private_folder make(const char *place)
{
    struct private_folder p;
    struct dr_error err = { 0 };
    if (private_make(&p, place, &err))
        fail_msg("%s: %s", place, err.text);
    assert_true(dr_is_dir(p.path));
    return p;
}

static void put(const struct private_folder *p, const char *name)
{
    char path[DR_PATH_MAX];
    assert_int_equal(dr_path_join(path, sizeof path, p->path, name), 0);
    assert_int_equal(dr_write_file(path, name, strlen(name), NULL), 0);
}

static void must_lie_in(const char *place, const char *folder)
{
    struct private_folder p = make(place);
    size_t n = strlen(folder);
    if (strncmp(p.path, folder, n) || strncmp(p.path + n, ".darkroom-", 10))
        fail_msg("%s: %s", place, p.path);
    put(&p, "a.png");
    char path[DR_PATH_MAX];
    memcpy(path, p.path, sizeof path);
    private_remove(&p);
    private_remove(&p);
    assert_false(dr_is_dir(path));
}

static void it_lies_where_its_results_will(void **state)
{
    (void)state;
    enter("lies");
    assert_int_equal(dr_mkdirs("there/deep", NULL), 0);
    must_lie_in(".", "./");
    must_lie_in("there", "there/");
    must_lie_in("there/deep/", "there/deep/");
    must_lie_in("there/deep/not/yet", "there/deep/");
    must_lie_in("nowhere", "./");
    must_lie_in("nowhere/at//all/", "./");
    char absolute[DR_PATH_MAX];
    snprintf(absolute, sizeof absolute, "%s/", test_dir());
    must_lie_in(absolute, absolute);
    assert_false(dr_is_dir("nowhere"));
}

static void a_file_is_no_folder(void **state)
{
    (void)state;
    static const char *const places[] = { "plain", "plain/", "plain/x", "" };
    enter("plain");
    assert_int_equal(dr_write_file("plain", "x", 1, NULL), 0);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        struct private_folder p;
        struct dr_error err = { 0 };
        assert_true(private_make(&p, places[i], &err) < 0);
        assert_true(*err.text != 0);
        assert_string_equal(p.path, "");
        private_remove(&p);
    }
}

static void what_is_finished_is_kept(void **state)
{
    (void)state;
    enter("kept");
    struct private_folder p = make("new/place");
    struct dr_error err = { 0 };
    assert_int_equal(private_keep(&p, "new/place", &err), 0);
    assert_false(dr_is_dir("new"));
    put(&p, "pred_000.npy");
    put(&p, "pred_001.npy.7-0.tmp");
    assert_int_equal(private_keep(&p, "new/place", &err), 0);
    assert_true(dr_is_file("new/place/pred_000.npy"));
    assert_false(dr_is_file("new/place/pred_001.npy.7-0.tmp"));
    private_remove(&p);
    assert_int_equal(rmdir("new/place"), -1);
}

/* A child that makes a folder and is killed while it holds it. */
static void killed_run(char path[DR_PATH_MAX])
{
    int to_us[2];
    assert_int_equal(pipe(to_us), 0);
    pid_t child = fork();
    if (!child) {
        struct private_folder p = make(".");
        put(&p, "half.png");
        if (write(to_us[1], p.path, sizeof p.path) < 0)
            _exit(1);
        pause();
    }
    assert_int_equal(read(to_us[0], path, DR_PATH_MAX), DR_PATH_MAX);
    /* it is held: another run leaves it alone */
    struct private_folder p = make(".");
    assert_true(dr_is_dir(path));
    private_remove(&p);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    close(to_us[0]);
    close(to_us[1]);
    assert_true(dr_is_dir(path));
}

static void the_next_run_removes_what_a_killed_one_left(void **state)
{
    (void)state;
    char path[DR_PATH_MAX];
    enter("killed");
    killed_run(path);
    /* alike, but none of ours */
    assert_int_equal(mkdir(".darkroom-abcdefg", 0777), 0);
    assert_int_equal(symlink("..", ".darkroom-abcdef"), 0);
    struct private_folder p = make("not/yet");
    assert_false(dr_is_dir(path));
    assert_true(dr_is_dir(".darkroom-abcdefg"));
    assert_true(dr_is_dir(".darkroom-abcdef"));
    private_remove(&p);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(it_lies_where_its_results_will),
    cmocka_unit_test(a_file_is_no_folder),
    cmocka_unit_test(what_is_finished_is_kept),
    cmocka_unit_test(the_next_run_removes_what_a_killed_one_left),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
