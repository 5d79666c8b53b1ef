/* test_cli_cache.c - packed weights as a person meets them: a first start, a second, none at all.
 * With the default kernel set if that packs, else with one of tests. */
#include "testing/helpers/program.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/json.h"

/* The default kernel set packs weights: those of float32 do not. */
static bool set_packs(void)
{
    static const char *const plain[] = { "scalar", "avx2", "avx512" };
    struct program p;
    bool found = false;
    program_run(&p, 0, "devices", "--json", NULL);
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        char member[64];
        snprintf(member, sizeof member, "\"default_kernels\":\"%s\"", plain[i]);
        found |= strstr(program_out(&p), member) != NULL;
    }
    assert_non_null(strstr(program_out(&p), "\"default_kernels\":\""));
    program_free(&p);
    return !found;
}

/* Where the default set packs nothing, a worker of tests whose set packs on any processor. */
static void use_a_worker_that_packs(void)
{
    char script[DR_PATH_MAX], text[DR_PATH_MAX + 100];
    if (set_packs())
        return;
    snprintf(script, sizeof script, "%s/packing.sh", test_dir());
    int n = snprintf(text, sizeof text, "#!/bin/sh\nexec '%s' --kernels scalar_packing \"$@\"\n",
                     getenv("DARKROOM_PACKING_WORKER"));
    assert_int_equal(dr_write_file(script, text, (size_t)n, NULL), 0);
    assert_int_equal(chmod(script, 0755), 0);
    setenv("DARKROOM_WORKER", script, 1);
    assert_true(set_packs());
}

/* The test's own cache and configuration; `config` may be NULL. Returns the folder of the packs. */
static const char *own_cache(const char *config)
{
    static char folder[DR_PATH_MAX];
    char path[DR_PATH_MAX];
    const char *root = program_folder();
    snprintf(path, sizeof path, "%s/config/darkroom", root);
    assert_int_equal(dr_mkdirs(path, NULL), 0);
    snprintf(path, sizeof path, "%s/config", root);
    setenv("XDG_CONFIG_HOME", path, 1);
    snprintf(path, sizeof path, "%s/cache", root);
    setenv("XDG_CACHE_HOME", path, 1);
    snprintf(folder, sizeof folder, "%s/cache/darkroom/weights", root);
    snprintf(path, sizeof path, "%s/config/darkroom/config.yaml", root);
    use_a_worker_that_packs();
    if (config)
        assert_int_equal(dr_write_file(path, config, strlen(config), NULL), 0);
    return folder;
}

static int packs(const char *folder, char path[DR_PATH_MAX])
{
    int n = 0;
    DIR *dir = opendir(folder);
    for (struct dirent *e; dir && (e = readdir(dir));)
        if (e->d_name[0] != '.') {
            n++;
            assert_int_equal(dr_path_join(path, DR_PATH_MAX, folder, e->d_name), 0);
        }
    if (dir)
        closedir(dir);
    return n;
}

static void draw(struct program *p, const char *name)
{
    program_run(p, 0, "generate", "-m", program_model(), "-p", "a red circle", "-W64", "-H64",
                "--steps=1", "-s1", "-o", name, NULL);
}

static void same_files(const char *a, const char *b)
{
    struct buf one, other;
    buf_init(&one, DR_TAG_TEST, 0);
    buf_init(&other, DR_TAG_TEST, 0);
    assert_int_equal(dr_read_file(a, 1 << 24, &one, NULL), 0);
    assert_int_equal(dr_read_file(b, 1 << 24, &other, NULL), 0);
    assert_int_equal(one.len, other.len);
    assert_memory_equal(one.data, other.data, one.len);
    buf_free(&one);
    buf_free(&other);
}

/* A first start. */
static void first_start(const char *folder, const char *name, char path[DR_PATH_MAX])
{
    struct program p;
    draw(&p, name);
    assert_null(strstr(program_err(&p), "warning"));
    program_free(&p);
    assert_int_equal(packs(folder, path), 1);
}

static void two_starts_draw_the_same(void **state)
{
    (void)state;
    char path[DR_PATH_MAX], again[DR_PATH_MAX];
    struct stat before, after;
    struct program p;
    const char *folder = own_cache(NULL);
    first_start(folder, "first.png", path);
    assert_int_equal(stat(path, &before), 0);
    draw(&p, "second.png");
    assert_null(strstr(program_err(&p), "packing weights"));
    program_free(&p);
    assert_int_equal(packs(folder, again), 1);
    assert_string_equal(path, again);
    assert_int_equal(stat(path, &after), 0);
    assert_true(before.st_ino == after.st_ino); /* not rebuilt */
    same_files("first.png", "second.png");

    program_run(&p, 0, "check", "--cache", NULL);
    assert_non_null(strstr(program_out(&p), "✓"));
    assert_non_null(strstr(program_out(&p), "1 file, 0 damaged"));
    program_free(&p);
    program_run(&p, 0, "devices", NULL);
    assert_non_null(strstr(program_out(&p), folder));
    program_free(&p);
}

static void damage_is_found_and_mended(void **state)
{
    (void)state;
    char path[DR_PATH_MAX];
    struct program p;
    const char *folder = own_cache(NULL);
    first_start(folder, "first.png", path);
    assert_int_equal(chmod(path, 0600), 0);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    char byte;
    assert_int_equal(pread(fd, &byte, 1, 5000), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, 5000), 1);
    close(fd);
    program_run(&p, 1, "check", "--cache", "--json", NULL);
    json_t *answer = json_loads(program_out(&p), 0, NULL);
    const json_t *one = json_array_get(json_object_get(answer, "cache"), 0);
    assert_true(json_is_false(json_object_get(one, "passed")));
    assert_string_equal(json_string_value(json_object_get(one, "path")), path);
    assert_non_null(strstr(json_string_value(json_object_get(one, "why")), "damaged"));
    json_decref(answer);
    program_free(&p);
    assert_int_equal(packs(folder, path), 0);
    draw(&p, "second.png");
    program_free(&p);
    assert_int_equal(packs(folder, path), 1);
    same_files("first.png", "second.png");
}

/* What another version of the program made, or what cannot be read now, is not damaged. */
static void what_cannot_be_told_is_not_removed(void **state)
{
    (void)state;
    char path[DR_PATH_MAX];
    struct program p;
    const char *folder = own_cache(NULL);
    first_start(folder, "first.png", path);
    assert_int_equal(chmod(path, 0600), 0);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "\x7f", 1, 16), 1); /* the version */
    close(fd);
    program_run(&p, 1, "check", "--cache", NULL);
    assert_non_null(strstr(program_out(&p), "another version"));
    assert_null(strstr(program_out(&p), "removed"));
    program_free(&p);
    assert_int_equal(packs(folder, path), 1);
    if (geteuid()) { /* who is not kept out by a mode */
        assert_int_equal(chmod(path, 0), 0);
        program_run(&p, 1, "check", "--cache", NULL);
        program_free(&p);
        assert_int_equal(packs(folder, path), 1);
    }
}

static void nothing_is_kept_when_told_so(void **state)
{
    (void)state;
    char path[DR_PATH_MAX];
    struct program p;
    first_start(own_cache(NULL), "first.png", path);
    char first[DR_PATH_MAX];
    assert_non_null(realpath("first.png", first));
    const char *folder = own_cache("cache-limit: 0\n");
    draw(&p, "second.png");
    assert_null(strstr(program_err(&p), "warning"));
    program_free(&p);
    assert_int_equal(packs(folder, path), 0);
    same_files(first, "second.png");
    program_run(&p, 0, "devices", NULL);
    assert_non_null(strstr(program_out(&p), "packed weights are not cached"));
    program_free(&p);

    folder = own_cache("cache: ../../elsewhere\ncache-limit: 1G\n");
    draw(&p, "third.png");
    program_free(&p);
    assert_int_equal(packs(folder, path), 0);
    assert_int_equal(packs("elsewhere", path), 1);
    same_files(first, "third.png");
}

static void a_cache_that_cannot_be_is_a_warning(void **state)
{
    (void)state;
    char path[DR_PATH_MAX];
    struct program p;
    first_start(own_cache(NULL), "first.png", path);
    char first[DR_PATH_MAX];
    assert_non_null(realpath("first.png", first));
    own_cache(NULL);
    assert_int_equal(dr_write_file("cache", "x", 1, NULL), 0); /* a file is in the way */
    draw(&p, "second.png");
    const char *told = strstr(program_err(&p), "packed weights are not cached");
    assert_non_null(told);
    assert_null(strstr(told + 1, "packed weights are not cached")); /* once */
    program_free(&p);
    same_files(first, "second.png");

    own_cache("cache-limit: 100000\n");
    draw(&p, "third.png");
    assert_non_null(strstr(program_err(&p), "packed weights are not cached"));
    program_free(&p);
    same_files(first, "third.png");

    own_cache("cache-limit: much\n");
    program_run(&p, 2, "devices", NULL);
    assert_non_null(strstr(program_err(&p), "config.yaml:1: cache-limit"));
    program_free(&p);
}

/* Its packed form depends on the types of its weights as well. */
static void a_copy_of_8_bits_is_packed(void **state)
{
    (void)state;
    char path[DR_PATH_MAX];
    struct program p;
    const char *folder = own_cache(NULL);
    program_run(&p, 0, "convert", "--int8", "-m", test_source("share/models/tiny"), "-o", "copy",
                NULL);
    program_free(&p);
    for (int start = 0; start < 2; start++) {
        program_run(&p, 0, "generate", "-m", "copy", "-p", "a red circle", "-W64", "-H64",
                    "--steps=1", "-s1", "-o", start ? "second.png" : "first.png", NULL);
        if (strstr(program_err(&p), "not cached"))
            fail_msg("%s", program_err(&p));
        program_free(&p);
    }
    same_files("first.png", "second.png");
    assert_int_equal(packs(folder, path), 1);
}

/* Whatever moment it dies at, the next start finds nothing wrong. */
static void a_killed_first_start_does_no_harm(void **state)
{
    (void)state;
    static const int delays[] = { 10, 20, 30, 40, 60, 80, 120 };
    char path[DR_PATH_MAX];
    const char *argv[] = { "generate", "-m",  program_model(), "-p", "x",         "-W64",
                           "-H64",     "-s1", "--steps=1",     "-o", "other.png", NULL };
    program_adopt();
    for (size_t i = 0; i < sizeof delays / sizeof *delays; i++) {
        struct program p;
        const char *folder = own_cache(NULL);
        program_start(&p, argv);
        usleep((useconds_t)delays[i] * 1000);
        kill(p.pid, SIGKILL);
        program_finish(&p);
        program_free(&p);
        assert_true(program_alone()); /* its worker ends too */
        first_start(folder, "first.png", path);
        program_run(&p, 0, "check", "--cache", NULL);
        program_free(&p);
    }
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_starts_draw_the_same),
        cmocka_unit_test(damage_is_found_and_mended),
        cmocka_unit_test(what_cannot_be_told_is_not_removed),
        cmocka_unit_test(nothing_is_kept_when_told_so),
        cmocka_unit_test(a_cache_that_cannot_be_is_a_warning),
        cmocka_unit_test(a_copy_of_8_bits_is_packed),
        cmocka_unit_test(a_killed_first_start_does_no_harm),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
