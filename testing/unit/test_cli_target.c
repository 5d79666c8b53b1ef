/* test_cli_target.c - names of pictures, and what may be overwritten. */
#include "cli/target.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "testing/helpers/test.h"

#define PICTURE "\x89PNG\r\n\x1a\nbody" /* how one begins */

/* Inside the test's own folder. */
static const char *at(const char *name)
{
    static char paths[4][600];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", test_dir(), name);
    return path;
}

static void enter(void)
{
    assert_int_equal(chdir(test_dir()), 0);
}

static void put(const char *path, const char *text)
{
    assert_int_equal(dr_write_file(path, text, strlen(text), NULL), 0);
}

static void must_hold(const char *path, const char *text)
{
    struct buf b;
    buf_init(&b, DR_TAG_TEST, 0);
    assert_int_equal(dr_read_file(path, 1000, &b, NULL), 0);
    assert_string_equal(buf_text(&b), text);
    buf_free(&b);
}

static void must_name(const char *to, int batch, int index, const char *expected)
{
    struct target o;
    struct dr_error err = { 0 };
    char path[DR_PATH_MAX];
    if (target_plan(to, NULL, true, batch, &o, &err) ||
        target_path(&o, index, 42, path, sizeof path, &err))
        fail_msg("%s: %s", to ? to : "(none)", err.text);
    if (strcmp(path, expected))
        fail_msg("%s: %s, expected %s", to ? to : "(none)", path, expected);
}

static void names_follow_the_option(void **state)
{
    (void)state;
    enter();
    must_name(NULL, 1, 0, "./darkroom-42.png");
    must_name(NULL, 3, 2, "./darkroom-42.png"); /* each has a seed of its own */
    must_name("a.png", 1, 0, "a.png");
    must_name("./a.png", 1, 0, "a.png");
    must_name("a.png", 3, 2, "a-2.png");
    must_name("a", 3, 2, "a-2");
    must_name("a.b.png", 2, 1, "a.b-1.png");
    must_name("p-%d.png", 3, 2, "p-2.png");
    must_name("p-%03d.png", 3, 2, "p-002.png");
    must_name("p-%3d.png", 3, 2, "p-002.png");
    must_name("p-{seed}.png", 3, 2, "p-42.png");
    must_name("p-{seed}-%d%d.png", 3, 2, "p-42-22.png");
    must_name("100%.png", 1, 0, "100%.png");
    must_name("100%s.png", 2, 1, "100%s-1.png");
    must_name("%99999999999d.png", 1, 0, "%99999999999d.png");
    must_name("{seed.png", 1, 0, "{seed.png");
    must_name("new/", 1, 0, "new/darkroom-42.png");
    assert_false(dr_is_dir("new"));
    assert_int_equal(mkdir("new", 0777), 0);
    must_name("new", 1, 0, "new/darkroom-42.png");
    must_name("new/deep/er/", 1, 0, "new/deep/er/darkroom-42.png");
    must_name("new/x.png", 1, 0, "new/x.png");
    must_name("/tmp", 1, 0, "/tmp/darkroom-42.png");
}

static void must_format(const char *to, const char *format, const char *expected)
{
    struct target o;
    struct dr_error err = { 0 };
    if (target_plan(to, format, true, 1, &o, &err))
        fail_msg("%s: %s", to, err.text);
    assert_string_equal(o.format, expected);
}

static void formats_follow_the_name(void **state)
{
    (void)state;
    enter();
    must_format("a.png", NULL, "png");
    must_format("a.jpg", NULL, "jpeg");
    must_format("a.JPEG", NULL, "jpeg");
    must_format("a.webp", NULL, "webp");
    must_format("a.jpg", "jpeg", "jpeg");
    must_format("a.v2", "webp", "webp");
    must_format("a", NULL, "png");
    must_format("a.v2", NULL, "png");
    must_format("%d.webp", NULL, "webp");
    must_format("-", NULL, "png");
    must_format("-", "jpeg", "jpeg");
    must_format(NULL, "jpeg", "jpeg");
    struct target o;
    char path[DR_PATH_MAX];
    assert_int_equal(target_plan("f/", "jpeg", true, 1, &o, NULL), 0);
    assert_int_equal(target_path(&o, 0, 1, path, sizeof path, NULL), 0);
    assert_string_equal(path, "f/darkroom-1.jpg");
}

static void a_format_must_be_the_names(void **state)
{
    (void)state;
    static const char *const names[] = { "a.png", "p-%03d.png", "b.PNG" };
    enter();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct target o;
        struct dr_error err = { 0 };
        assert_int_equal(target_plan(names[i], "jpeg", true, 1, &o, &err), DR_EINVAL);
        assert_string_equal(err.path, "--format");
        assert_non_null(strstr(err.text, "got jpeg, expected png, as --output ends in ."));
    }
    struct target habit;
    assert_int_equal(target_plan("p-%d.jpg", "webp", false, 1, &habit, NULL), 0);
    assert_string_equal(habit.format, "webp");
    assert_int_equal(mkdir("c.png", 0777), 0);
    must_format("c.png", "jpeg", "jpeg"); /* a folder */
}

static void must_refuse(const char *to, int batch, int code, const char *words)
{
    struct target o;
    struct dr_error err = { 0 };
    int r = target_plan(to, NULL, true, batch, &o, &err);
    if (r != code || !strstr(err.text, words))
        fail_msg("%s: %d, %s", to, r, err.text);
}

static void what_makes_no_sense_is_refused(void **state)
{
    (void)state;
    static char longest[DR_PATH_MAX + 10];
    enter();
    must_refuse("", 1, DR_EINVAL, "--output");
    must_refuse("-", 2, DR_EINVAL, "only one picture");
    must_refuse("/dev/null", 2, DR_EINVAL, "only one picture");
    must_refuse("missing/a.png", 1, DR_ENOENT, "missing: no such folder");
    must_refuse("{seed}/a.png", 1, DR_EINVAL, "file's name");
    must_refuse("a.gif", 1, DR_EINVAL, ".png, .jpg or .webp");
    put(at("plain"), "x");
    must_refuse("plain/a.png", 1, DR_ENOENT, "plain: no such folder");
    must_refuse("plain/", 1, DR_EINVAL, "plain is a file, not a folder");
    must_refuse("plain/more/", 1, DR_EINVAL, "plain is a file, not a folder");
    memset(longest, 'a', 254);
    must_refuse(longest, 2, DR_EINVAL, "a shorter name"); /* with -1 behind */
    assert_int_equal(target_plan(longest, NULL, true, 1, &(struct target){ 0 }, NULL), 0);
    memset(longest, 'a', sizeof longest - 1);
    assert_true(target_plan(longest, NULL, true, 1, &(struct target){ 0 }, NULL) < 0);
    assert_false(dr_is_dir("missing"));
}

static void devices_are_streams(void **state)
{
    (void)state;
    struct target o;
    assert_int_equal(target_plan("/dev/null", NULL, true, 1, &o, NULL), 0);
    assert_int_equal(o.kind, TARGET_STREAM);
    assert_string_equal(o.name, "/dev/null");
}

static void place(const char *to, const char *text, const char *expected)
{
    struct target o;
    struct dr_error err = { 0 };
    char path[DR_PATH_MAX];
    put(at("finished"), text);
    if (target_plan(to, NULL, true, 1, &o, &err) ||
        target_place(&o, at("finished"), 0, 7, path, sizeof path, &err))
        fail_msg("%s: %s", to, err.text);
    assert_string_equal(path, expected);
    must_hold(expected, text);
    assert_false(dr_is_file(at("finished")));
}

static void folders_keep_what_they_have(void **state)
{
    (void)state;
    enter();
    place("keep/", "first", "keep/darkroom-7.png");
    place("keep/", "second", "keep/darkroom-7-1.png");
    place("keep/", "third", "keep/darkroom-7-2.png");
    must_hold("keep/darkroom-7.png", "first");
}

/* "-o" may replace what was meant to be a picture, and nothing else. */
static void other_files_are_not_replaced(void **state)
{
    (void)state;
    static const char *const names[] = { "model.safetensors", "prompts.txt", "latents.npy",
                                         "config.yaml",       "Makefile",    "keep.png" };
    struct target o;
    struct dr_error err = { 0 };
    enter();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        put(at(names[i]), "something of the user's");
        assert_int_equal(target_plan(names[i], "png", true, 1, &o, &err), DR_EINVAL);
        assert_non_null(strstr(err.text, "is not a picture"));
        must_hold(names[i], "something of the user's");
    }
    put(at("untitled"), PICTURE "and so on");
    assert_int_equal(target_plan("untitled", "png", true, 1, &o, NULL), 0);
    put(at("empty.png"), "");
    assert_int_equal(target_plan("empty.png", "png", true, 1, &o, NULL), 0);
}

static void what_came_since_the_start_is_not_replaced(void **state)
{
    (void)state;
    char path[DR_PATH_MAX];
    struct target o;
    enter();
    assert_int_equal(target_plan("late.png", NULL, true, 1, &o, NULL), 0);
    put(at("late.png"), PICTURE "somebody's");
    put(at("finished"), "new");
    assert_int_equal(target_place(&o, at("finished"), 0, 7, path, sizeof path, NULL), 0);
    assert_string_equal(path, "late-1.png");
    must_hold("late.png", PICTURE "somebody's");
    assert_int_equal(target_plan("late.png", NULL, true, 1, &o, NULL), 0);
    put(at("other"), "another one");
    assert_int_equal(rename("other", "late.png"), 0);
    put(at("finished"), "new");
    assert_int_equal(target_place(&o, at("finished"), 0, 7, path, sizeof path, NULL), 0);
    assert_string_equal(path, "late-2.png");
    must_hold("late.png", "another one");
}

static void files_are_replaced(void **state)
{
    (void)state;
    enter();
    place("mine.png", PICTURE "first", "mine.png");
    place("mine.png", PICTURE "second", "mine.png");
    place("n-%d.png", "first", "n-0.png"); /* a name made up from a number is never replaced */
    place("n-%d.png", "second", "n-0-1.png");
    must_hold("n-0.png", "first");
}

static int check(const char *to, int total, int each, int64_t seed, struct dr_error *err)
{
    struct target o;
    uint64_t first = (uint64_t)seed;
    memset(err, 0, sizeof *err);
    assert_int_equal(target_plan(to, NULL, true, total, &o, err), 0);
    return target_check(&o, seed < 0 ? NULL : &first, each, err);
}

/* Names that a number or a seed made up; those in a folder get another one instead. */
static void names_that_exist_are_refused(void **state)
{
    (void)state;
    struct dr_error err;
    enter();
    put(at("r-1.png"), "mine");
    put(at("s-8.png"), "mine");
    assert_int_equal(check("r.png", 1, 1, 7, &err), 0);
    assert_int_equal(check("r.png", 2, 2, 7, &err), DR_EINVAL);
    assert_non_null(strstr(err.text, "--output: r-1.png exists already"));
    assert_string_equal(err.path, "--output");
    assert_int_equal(check("r-%d.png", 2, 2, 7, &err), DR_EINVAL);
    assert_int_equal(check("r-%03d.png", 2, 2, 7, &err), 0);
    assert_int_equal(check("s-{seed}.png", 2, 2, 7, &err), DR_EINVAL);
    assert_int_equal(check("s-{seed}.png", 1, 1, 7, &err), 0);
    assert_int_equal(check("s-{seed}.png", 2, 2, -1, &err), 0); /* target_place looks */
    assert_int_equal(check("s-{seed}.png", 4, 2, 17, &err), DR_EINVAL);
    assert_non_null(strstr(err.text, "the same seed"));
    assert_int_equal(check("s-{seed}-%d.png", 4, 2, 17, &err), 0);
    assert_int_equal(symlink("nothing", "t-0.png"), 0); /* a name in use, whatever is behind it */
    assert_int_equal(check("t-%d.png", 1, 1, 7, &err), DR_EINVAL);
    assert_int_equal(check("./", 3, 3, 7, &err), 0);
    must_refuse("dangling-t-0.png/x.png", 1, DR_ENOENT, "no such folder");
    must_refuse("t-0.png", 2, DR_ENOENT, "a link to a file that does not exist");
}

static void unknown_words_are_refused(void **state)
{
    (void)state;
    static const char *const names[] = { "{prompt}.png", "a-{date}-%d.png", "{Seed}.png",
                                         "{seed}{model}.png", "{seed_2}.png" };
    enter();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        must_refuse(names[i], 1, DR_EINVAL, "expected {seed}");
    must_name("{}.png", 1, 0, "{}.png");
    must_name("{a b}.png", 1, 0, "{a b}.png");
}

static void replaced_files_keep_what_they_are(void **state)
{
    (void)state;
    struct stat st;
    char value[10];
    enter();
    put(at("kept.png"), PICTURE "old");
    assert_int_equal(chmod("kept.png", 0600), 0);
    bool root = !geteuid() && !chown("kept.png", 65534, 65533);
    bool attributes = !setxattr("kept.png", "user.note", "mine", 4, 0);
    place("kept.png", PICTURE "new", "kept.png");
    assert_int_equal(stat("kept.png", &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    if (root)
        assert_true(st.st_uid == 65534 && st.st_gid == 65533);
    if (attributes)
        assert_int_equal(getxattr("kept.png", "user.note", value, sizeof value), 4);
    assert_int_equal(chmod("kept.png", 0444), 0);
    must_refuse("kept.png", 1, DR_EIO, "kept.png is read-only");
    mode_t mask = umask(002);
    place("fresh.png", "new", "fresh.png");
    umask(mask);
    assert_int_equal(stat("fresh.png", &st), 0);
    assert_int_equal(st.st_mode & 07777, 0664);
}

/* A file that another user owns and lets us write stays theirs. */
static void anothers_file_is_written_into(void **state)
{
    (void)state;
    struct stat before, after;
    int status;
    if (geteuid())
        skip();
    enter();
    assert_int_equal(chmod(".", 0777), 0);
    put(at("theirs.png"), PICTURE "a long old text");
    put(at("finished"), "new");
    assert_int_equal(chmod("theirs.png", 0666), 0);
    assert_int_equal(chown("finished", 65534, 65534), 0);
    assert_int_equal(stat("theirs.png", &before), 0);
    pid_t child = fork();
    if (!child) {
        struct target o;
        char path[DR_PATH_MAX];
        bool ok = !setgid(65534) && !setuid(65534) &&
                  !target_plan("theirs.png", NULL, true, 1, &o, NULL) &&
                  !target_place(&o, "finished", 0, 7, path, sizeof path, NULL);
        _exit(!ok);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(stat("theirs.png", &after), 0);
    assert_true(before.st_ino == after.st_ino && after.st_uid == 0);
    assert_int_equal(after.st_mode & 07777, 0666);
    must_hold("theirs.png", "new");
    assert_false(dr_is_file("finished"));
}

static void links_are_written_through(void **state)
{
    (void)state;
    struct stat st;
    char path[DR_PATH_MAX];
    struct target o;
    enter();
    put(at("target.png"), PICTURE "old");
    unlink("link.png");
    assert_int_equal(symlink("target.png", "link.png"), 0);
    put(at("finished"), "new");
    assert_int_equal(target_plan("link.png", NULL, true, 1, &o, NULL), 0);
    assert_int_equal(target_place(&o, at("finished"), 0, 7, path, sizeof path, NULL), 0);
    must_hold("target.png", "new");
    assert_int_equal(lstat("link.png", &st), 0);
    assert_true(S_ISLNK(st.st_mode));
}

static void a_failed_move_is_told(void **state)
{
    (void)state;
    struct target o;
    struct dr_error err = { 0 };
    char path[DR_PATH_MAX];
    enter();
    assert_int_equal(target_plan("x.png", NULL, true, 1, &o, &err), 0);
    assert_true(target_place(&o, at("nothing"), 0, 7, path, sizeof path, &err) < 0);
    assert_non_null(strstr(err.text, "x.png"));
    assert_true(target_place(&o, at("nothing"), 0, 7, path, 3, &err) < 0);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(names_follow_the_option),
    cmocka_unit_test(formats_follow_the_name),
    cmocka_unit_test(a_format_must_be_the_names),
    cmocka_unit_test(what_makes_no_sense_is_refused),
    cmocka_unit_test(devices_are_streams),
    cmocka_unit_test(folders_keep_what_they_have),
    cmocka_unit_test(other_files_are_not_replaced),
    cmocka_unit_test(what_came_since_the_start_is_not_replaced),
    cmocka_unit_test(files_are_replaced),
    cmocka_unit_test(links_are_written_through),
    cmocka_unit_test(a_failed_move_is_told),
    cmocka_unit_test(names_that_exist_are_refused),
    cmocka_unit_test(unknown_words_are_refused),
    cmocka_unit_test(replaced_files_keep_what_they_are),
    cmocka_unit_test(anothers_file_is_written_into),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
