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
    put(&p, "darkroom-1_000.png");
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

static void nothing_is_replaced_by_what_is_kept(void **state)
{
    (void)state;
    char name[256];
    enter("used");
    struct private_folder p = make("place");
    struct dr_error err = { 0 };
    assert_false(private_find_stage("place", name));
    assert_int_equal(mkdir("place", 0777), 0);
    assert_int_equal(dr_write_file("place/notes.txt", "mine", 4, NULL), 0);
    assert_int_equal(dr_write_file("place/my_array.npy", "mine", 4, NULL), 0);
    assert_false(private_find_stage("place", name));
    assert_int_equal(dr_write_file("place/pred_000.npy", "older", 5, NULL), 0);
    assert_true(private_find_stage("place", name));
    assert_string_equal(name, "pred_000.npy");
    put(&p, "pred_000.npy");
    assert_int_equal(private_keep(&p, "place", &err), DR_EINVAL);
    assert_non_null(strstr(err.text, "place/pred_000.npy: exists already"));
    private_remove(&p);
    struct buf b;
    buf_init(&b, DR_TAG_TEST, 0);
    assert_int_equal(dr_read_file("place/pred_000.npy", 100, &b, NULL), 0);
    assert_string_equal(buf_text(&b), "older");
    buf_free(&b);
}

/* A child that makes a folder and is killed while it holds it. */
static void killed_run(char path[DR_PATH_MAX])
{
    int to_us[2];
    assert_int_equal(pipe(to_us), 0);
    pid_t child = fork();
    if (!child) {
        struct private_folder p = make(".");
        put(&p, "darkroom-1_000.png.7-0.tmp");
        put(&p, "darkroom-1_001.jpg.7-0.tmp");
        put(&p, "latents_003.npy");
        put(&p, "pred_004.npy.7-1.tmp");
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
    struct private_folder p = make("not/yet");
    assert_false(dr_is_dir(path));
    private_remove(&p);
}

static void put_file(const char *folder, const char *name)
{
    char file[DR_PATH_MAX];
    assert_int_equal(dr_path_join(file, sizeof file, folder, name), 0);
    assert_int_equal(dr_write_file(file, "x", 1, NULL), 0);
}

static void must_have(const char *folder, const char *name)
{
    char file[DR_PATH_MAX];
    assert_int_equal(dr_path_join(file, sizeof file, folder, name), 0);
    if (!dr_is_file(file))
        fail_msg("%s was removed", file);
}

/* "cp -a FROM TO" of the marker. */
static void copy_marker(const char *from, const char *to)
{
    char path[DR_PATH_MAX];
    struct buf text;
    buf_init(&text, DR_TAG_FILE, 0);
    assert_int_equal(dr_path_join(path, sizeof path, from, ".owner"), 0);
    assert_int_equal(dr_read_file(path, 1 << 10, &text, NULL), 0);
    assert_int_equal(dr_path_join(path, sizeof path, to, ".owner"), 0);
    assert_int_equal(dr_write_file(path, text.data, text.len, NULL), 0);
    buf_free(&text);
}

/* Finished, but not yet in its place: nobody has seen it. */
static void a_finished_picture_of_a_killed_run_stays(void **state)
{
    (void)state;
    char path[DR_PATH_MAX], file[DR_PATH_MAX];
    enter("finished");
    killed_run(path);
    assert_int_equal(dr_path_join(file, sizeof file, path, "darkroom-1_000.png"), 0);
    assert_int_equal(dr_write_file(file, "x", 1, NULL), 0);
    for (int i = 0; i < 2; i++) {
        struct private_folder p = make(".");
        private_remove(&p);
        assert_true(dr_is_file(file));
    }
    assert_int_equal(dr_path_join(file, sizeof file, path, "latents_003.npy"), 0);
    assert_false(dr_is_file(file));
}

static void folders_of_the_user_are_never_removed(void **state)
{
    (void)state;
    static const char *const names[] = { ".darkroom-backup", ".darkroom-abcdef",
                                         ".darkroom-abcdefg", ".darkroom-copied",
                                         ".darkroom-config" };
    char path[DR_PATH_MAX];
    enter("user");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_int_equal(mkdir(names[i], 0700), 0);
        put_file(names[i], "letters.txt");
        put_file(names[i], "darkroom-1_000.png");
    }
    assert_int_equal(mkdir(".darkroom-empty1", 0700), 0);
    assert_int_equal(symlink("..", ".darkroom-linked"), 0);
    killed_run(path);
    copy_marker(path, ".darkroom-copied"); /* names the folder that it was copied from */
    copy_marker(path, ".darkroom-linked/user/.darkroom-config");
    struct private_folder p = make("not/yet");
    assert_false(dr_is_dir(path));
    private_remove(&p);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        must_have(names[i], "letters.txt");
        must_have(names[i], "darkroom-1_000.png");
    }
    assert_true(dr_is_dir(".darkroom-empty1"));
    assert_true(dr_is_dir(".darkroom-linked"));
}

static void files_of_the_user_in_it_stay(void **state)
{
    (void)state;
    static const char *const names[] = { "holiday.png",        "darkroom-1_000.png.txt",
                                         "notes.npy.tmp",      "darkroom-x_000.png",
                                         "darkroom-1_000.gif", "Latents.npy",
                                         "my_results.npy" };
    char killed[DR_PATH_MAX], own[DR_PATH_MAX], file[DR_PATH_MAX];
    enter("inside");
    killed_run(killed);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        put_file(killed, names[i]);
    struct private_folder mine = make("."); /* sweeps */
    memcpy(own, mine.path, sizeof own);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        put_file(own, names[i]);
    put(&mine, "darkroom-1_000.png");
    private_remove(&mine);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        must_have(killed, names[i]);
        must_have(own, names[i]);
    }
    assert_int_equal(dr_path_join(file, sizeof file, own, "darkroom-1_000.png"), 0);
    assert_false(dr_is_file(file));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(it_lies_where_its_results_will),
    cmocka_unit_test(a_file_is_no_folder),
    cmocka_unit_test(what_is_finished_is_kept),
    cmocka_unit_test(nothing_is_replaced_by_what_is_kept),
    cmocka_unit_test(the_next_run_removes_what_a_killed_one_left),
    cmocka_unit_test(a_finished_picture_of_a_killed_run_stays),
    cmocka_unit_test(folders_of_the_user_are_never_removed),
    cmocka_unit_test(files_of_the_user_in_it_stay),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
