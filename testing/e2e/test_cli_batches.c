/* test_cli_batches.c - several pictures: prompts, counts, names, and what stays when a run ends
 * early. */
#include "testing/helpers/program.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"

#define SMALL "-m", program_model(), "-W", "64", "-H", "48", "--steps", "2", "-q"
#define PICTURE "\x89PNG\r\n\x1a\nbody" /* how one begins */
#define RUN(status, words, ...) run(status, (const char *const[]){ __VA_ARGS__, NULL }, words)

static void run(int status, const char *const *argv, const char *words)
{
    struct program p;
    program_start(&p, argv);
    program_finish(&p);
    if (p.status != status || !strstr(program_err(&p), words))
        fail_msg("status %d, expected %d with '%s': %s", p.status, status, words, program_err(&p));
    program_free(&p);
}

static void put(const char *path, const char *text)
{
    assert_int_equal(dr_write_file(path, text, strlen(text), NULL), 0);
}

static void must_equal(const char *a, const char *b, bool equal)
{
    struct buf x, y;
    struct dr_error err = { 0 };
    buf_init(&x, DR_TAG_TEST, 0);
    buf_init(&y, DR_TAG_TEST, 0);
    if (dr_read_file(a, 64 << 20, &x, &err) || dr_read_file(b, 64 << 20, &y, &err))
        fail_msg("%s", err.text);
    bool same = x.len == y.len && !memcmp(x.data, y.data, x.len);
    buf_free(&x);
    buf_free(&y);
    if (same != equal)
        fail_msg("%s and %s are %s", a, b, same ? "the same" : "different");
}

/* One request after another gives what single requests give. */
static void counts_and_prompts_are_single_requests(void **state)
{
    (void)state;
    program_folder();
    RUN(0, "", "generate", SMALL, "-p", "a red circle", "-p", "a blue square", "-s", "7", "--count",
        "2", "-o", "p-%d-{seed}.png");
    assert_int_equal(program_entries("."), 4);
    RUN(0, "", "generate", SMALL, "-p", "a red circle", "-s", "8", "-o", "one.png");
    RUN(0, "", "generate", SMALL, "-p", "a blue square", "-s", "7", "-o", "two.png");
    must_equal("p-1-8.png", "one.png", true);
    must_equal("p-2-7.png", "two.png", true);
    must_equal("p-0-7.png", "p-2-7.png", false);
    /* batches go on where the last one ended */
    RUN(0, "", "generate", SMALL, "-p", "a red circle", "-s", "6", "-b", "2", "--count", "2", "-o",
        "b.png");
    must_equal("b-2.png", "one.png", true);
    RUN(0, "", "generate", SMALL, "-p", "a red circle", "--count", "3", "-o", "r-%d.png");
    must_equal("r-0.png", "r-1.png", false);
    must_equal("r-1.png", "r-2.png", false);
}

static void prompts_come_from_files(void **state)
{
    (void)state;
    program_folder();
    put("list", "\xef\xbb\xbf# first\na red circle\r\n\n   \t\na blue square\n#a\n  #b");
    RUN(0, "", "generate", SMALL, "-p", "@list", "-p", "@@x", "-s", "1", "-o", "f-%d.png");
    assert_int_equal(program_entries("."), 5); /* the list, two of its lines, "  #b" and "@x" */
    RUN(0, "", "generate", SMALL, "-p", "a blue square", "-s", "1", "-o", "direct.png");
    must_equal("f-1.png", "direct.png", true);
    program_input("list");
    RUN(0, "", "generate", SMALL, "-p", "-", "-s", "1", "-o", "s-%d.png");
    RUN(2, "stdin once only", "generate", SMALL, "-p", "-", "-p", "@-");
    program_input(NULL);
    must_equal("s-1.png", "direct.png", true);
    RUN(2, "stdin, expected one prompt a line", "generate", SMALL, "-p", "-");
    put("empty", "# nothing\n\n");
    RUN(2, "empty, expected one prompt a line", "generate", SMALL, "-p", "@empty");
    RUN(2, "none: No such file", "generate", SMALL, "-p", "@none");
    RUN(2, "@@", "generate", SMALL, "-p", "@");
    RUN(2, ". is a folder, expected a file of prompts", "generate", SMALL, "-p", "@.");
    assert_int_equal(dr_write_file("zero", "a\0b\n", 4, NULL), 0);
    RUN(2, "zero has a zero byte", "generate", SMALL, "-p", "@zero");
    put("latin", "fine\ncaf\xe9\n");
    RUN(2, "latin:2: ", "generate", SMALL, "-p", "@latin");
    RUN(0, "", "plan", SMALL, "-p", "a", "-p", "b", "--count", "2", "-o", "p-%d.png");
    RUN(0, "", "validate", SMALL, "-p", "a", "-p", "b", "--count", "2", "-o", "pictures/");
    RUN(2, "list exists and is not a picture", "plan", SMALL, "-p", "a", "-o", "list");
    RUN(2, "list exists and is not a picture", "validate", SMALL, "-p", "a", "-o", "list");
    RUN(2, "--count: got x", "validate", SMALL, "-p", "a", "--count", "x");
}

/* All of it is checked before the first picture. */
static void mistakes_come_before_the_first(void **state)
{
    (void)state;
    static const char *const counts[] = {
        "0", "-1", "x", "1.5", "", "10001", "99999999999999999999"
    };
    program_folder();
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        RUN(2, *counts[i] ? "--count: got " : "--count: empty value", "generate", SMALL, "-p", "a",
            "--count", counts[i]);
    RUN(2, "--count: got 0", "generate", SMALL, "-p", "a", "--batch-count", "0");
    RUN(2, "--batch-count: got 3, expected the value of --count", "generate", SMALL, "-p", "a",
        "--count", "2", "--batch-count", "3");
    RUN(2, "only one picture", "generate", SMALL, "-p", "a", "-p", "b", "-o", "-");
    RUN(2, "only one picture", "generate", SMALL, "-p", "a", "--count", "2", "-o", "-");
    RUN(2, "--seed: got 18446744073709551615, expected seed + 1 to be", "generate", SMALL, "-p",
        "a", "--count", "2", "-s", "18446744073709551615");
    RUN(2, "--dump-stages: needs a single request", "generate", SMALL, "-p", "a", "--count", "2",
        "--dump-stages", "d");
    RUN(2, "several pictures have the same seed", "generate", SMALL, "-p", "a", "-p", "b", "-o",
        "{seed}.png");
    RUN(2, "--output: got {prompt}, expected {seed}", "generate", SMALL, "-p", "a", "-o",
        "x-{prompt}-%d.png");
    RUN(2, "--quality: applies to jpeg and webp", "generate", SMALL, "-p", "a", "--quality", "80");
    RUN(2, "--quality: applies to jpeg and webp", "generate", SMALL, "-p", "a", "--quality", "80",
        "-o", "a.png");
    assert_int_equal(program_entries("."), 0);
    RUN(0, "", "generate", SMALL, "-p", "a", "--quality", "80", "-o", "a.jpg");
}

/* Only the file that was named is replaced. */
static void numbered_names_replace_nothing(void **state)
{
    (void)state;
    program_folder();
    put("b-1.png", "mine");
    put("q-7.png", "mine");
    RUN(2, "--output: b-1.png exists already", "generate", SMALL, "-p", "a", "-b", "2", "-o",
        "b.png");
    RUN(2, "q-7.png exists already", "generate", SMALL, "-p", "a", "-s", "7", "-o", "q-{seed}.png");
    RUN(2, "b-1.png exists", "generate", SMALL, "-p", "a", "-p", "b", "-o", "b-%d.png");
    put("c-0.png", "");
    put("c-1.png", "");
    put("c-2.png", "");
    put("c-3.png", "");
    RUN(2, "c-0.png, c-1.png, c-2.png and 1 more exist already", "generate", SMALL, "-p", "a",
        "--count", "9", "-o", "c-%d.png");
    assert_int_equal(program_entries("."), 6);
    put("b.png", "a text with a picture's name");
    RUN(2, "b.png exists and is not a picture", "generate", SMALL, "-p", "a", "-o", "b.png");
    put("b.png", PICTURE "old");
    RUN(0, "", "generate", SMALL, "-p", "a", "-o", "b.png");
    struct buf text;
    buf_init(&text, DR_TAG_TEST, 0);
    assert_int_equal(dr_read_file("b-1.png", 100, &text, NULL), 0);
    assert_string_equal(buf_text(&text), "mine");
    buf_free(&text);
}

static void a_replaced_file_keeps_its_mode(void **state)
{
    (void)state;
    struct stat st;
    program_folder();
    mode_t mask = umask(027);
    put("a.png", PICTURE "old");
    assert_int_equal(chmod("a.png", 0604), 0);
    RUN(0, "", "generate", SMALL, "-p", "a", "-o", "a.png");
    RUN(0, "", "generate", SMALL, "-p", "a", "-o", "new.png");
    assert_int_equal(stat("a.png", &st), 0);
    assert_int_equal(st.st_mode & 07777, 0604);
    assert_int_equal(stat("new.png", &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    umask(mask);
    assert_int_equal(chmod("a.png", 0444), 0);
    RUN(1, "--output: a.png is read-only", "generate", SMALL, "-p", "a", "-o", "a.png");
    assert_int_equal(link("new.png", "other"), 0);
    RUN(0, "", "generate", SMALL, "-p", "b", "-o", "new.png");
    must_equal("new.png", "other", false);
    assert_int_equal(symlink("nowhere.png", "dangling.png"), 0);
    RUN(1, "dangling.png is a link to a file that does not exist", "generate", SMALL, "-p", "a",
        "-o", "dangling.png");
}

/* Once a picture was drawn here there is an estimate, and a warning of what takes hours. */
static void plan_tells_the_time(void **state)
{
    (void)state;
    struct program p;
    char cache[300], before[300];
    const char *folder = program_folder(), *was = getenv("XDG_CACHE_HOME");
    snprintf(before, sizeof before, "%s", was ? was : "");
    snprintf(cache, sizeof cache, "%s/cache", folder);
    setenv("XDG_CACHE_HOME", cache, 1);
    program_run(&p, 0, "plan", "-m", program_model(), "-p", "a", "--json", NULL);
    json_t *o = program_json(&p);
    assert_true(json_is_null(json_object_get(o, "estimated_seconds")));
    json_decref(o);
    program_free(&p);
    RUN(0, "", "generate", SMALL, "-p", "a", "-W", "256", "-H", "256", "--steps", "4", "-o",
        "a.png");
    program_run(&p, 0, "plan", "-m", program_model(), "-p", "a", "-W", "256", "-H", "256", NULL);
    assert_non_null(strstr(program_out(&p), "\nabout "));
    assert_non_null(strstr(program_out(&p), " on this machine (from the speed of earlier pict"));
    assert_null(strstr(program_err(&p), "warning"));
    program_free(&p);
    program_run(&p, 0, "plan", "-m", program_model(), "-p", "a", "-W", "4096", "-H", "4096", "-b",
                "16", "--steps", "1000", NULL);
    assert_non_null(strstr(program_err(&p), "warning: this takes about "));
    assert_true(strstr(program_err(&p), " days ") || strstr(program_err(&p), " hours "));
    program_free(&p);
    if (was)
        setenv("XDG_CACHE_HOME", before, 1);
    else
        unsetenv("XDG_CACHE_HOME");
}

/* Until the file is there, a minute at most. */
static void wait_for(const char *path)
{
    double deadline = dr_now() + 60;
    while (access(path, F_OK) && dr_now() < deadline)
        usleep(2000);
    assert_int_equal(access(path, F_OK), 0);
}

static void an_interrupt_keeps_what_is_done(void **state)
{
    (void)state;
    struct program p;
    const char *argv[] = { "generate", "-m",     program_model(),
                           "-p",       "a",      "-W",
                           "64",       "-H",     "64",
                           "--steps",  "20",     "-s",
                           "1",        "--json", "--count",
                           "500",      "-o",     "i-%d.png",
                           NULL };
    program_folder();
    program_adopt();
    program_start(&p, argv);
    wait_for("i-1.png");
    assert_int_equal(kill(p.pid, SIGINT), 0);
    program_finish(&p);
    int n = 0;
    const char *words = strstr(program_err(&p), "darkroom: interrupted; ");
    if (p.status != 130 || !words ||
        sscanf(words, "darkroom: interrupted; %d of 500 pictures were written\n", &n) != 1)
        fail_msg("status %d: %s", p.status, program_err(&p));
    assert_true(n >= 2);
    assert_int_equal(program_entries("."), n);
    json_t *o = program_json(&p);
    assert_int_equal(json_array_size(json_object_get(o, "images")), (size_t)n);
    assert_true(json_is_false(json_object_get(o, "success")));
    json_decref(o);
    program_free(&p);
    assert_true(program_alone());
}

/* The pictures of one batch come one by one, too: the third cannot be put in its place. */
static void a_failure_keeps_what_is_done(void **state)
{
    (void)state;
    static const char script[] =
        "#!/bin/sh\nw=$(for a; do case $a in */.darkroom-*) echo $a;; esac; done)\n"
        "echo '{\"success\":true,\"status\":\"ready\",\"protocol\":1}'\nread line\n"
        "tell() { echo \"{\\\"success\\\":true,\\\"request_id\\\":\\\"darkroom-1\\\",\\\"data\\\":"
        "{\\\"type\\\":\\\"progress\\\",\\\"stage\\\":\\\"write\\\",\\\"picture\\\":$1,"
        "\\\"seed\\\":$1,\\\"path\\\":\\\"$w/$1\\\"}}\"; }\n"
        "touch $w/0 $w/1\ntell 0\ntell 1\n"
        "echo '{\"success\":false,\"request_id\":\"darkroom-1\",\"error\":\"no more\","
        "\"error_code\":\"IO_ERROR\"}'\n";
    const char *folder = program_folder();
    char path[300];
    snprintf(path, sizeof path, "%s/worker", folder);
    put(path, script);
    assert_int_equal(chmod(path, 0755), 0);
    setenv("DARKROOM_WORKER", path, 1);
    RUN(1, "darkroom: no more; 2 of 4 pictures were written\n", "generate", SMALL, "-p", "a", "-b",
        "4", "-o", "x.png");
    unsetenv("DARKROOM_WORKER");
    assert_true(dr_is_file("x-0.png") && dr_is_file("x-1.png"));
    assert_int_equal(program_entries("."), 3);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(counts_and_prompts_are_single_requests),
    cmocka_unit_test(prompts_come_from_files),
    cmocka_unit_test(mistakes_come_before_the_first),
    cmocka_unit_test(numbered_names_replace_nothing),
    cmocka_unit_test(a_replaced_file_keeps_its_mode),
    cmocka_unit_test(plan_tells_the_time),
    cmocka_unit_test(an_interrupt_keeps_what_is_done),
    cmocka_unit_test(a_failure_keeps_what_is_done),
};

int main(int argc, char **argv)
{
    jx_init();
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
