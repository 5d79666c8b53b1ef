/* test_models_digest.c - digests of files and folders, and what is remembered of them. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "models/digest.h"
#include "models/digest_cache.h"
#include "testing/helpers/safetensors_writer.h"
#include "testing/helpers/test.h"

static const char *temporary(const char *name)
{
    static char paths[4][600];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", test_dir(), name);
    return path;
}

/* Longer than the time for which fresh files are not remembered. */
static void settle(void)
{
    nanosleep(&(struct timespec){ .tv_nsec = 150 * 1000 * 1000 }, NULL);
}

static void of_a_file(void **state)
{
    (void)state;
    char hex[SHA256_HEX];
    struct dr_error err;
    const char *path = temporary("abc");
    test_write_text(path, "abc");
    assert_int_equal(digest_path(path, &(struct digest_options){ .cache = "" }, hex, &err), 0);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_int_equal(digest_path(temporary("absent"), NULL, hex, &err), DR_ENOENT);
}

/* (printf 'a 1 %s\n' $(printf x | sha256sum | cut -c-64); printf 'b/c 3 %s\n' $(printf abc |
 * sha256sum | cut -c-64)) | sha256sum */
static void of_a_folder(void **state)
{
    (void)state;
    static const char expected[] =
        "22280bd7601414a685fbc6194d9cd7fd974cbf855b266d78b6af3e7a810ae928";
    char hex[SHA256_HEX];
    struct dr_error err;
    struct digest_options opt = { .cache = "" };
    test_write_text(temporary("folder/b/c"), "abc");
    test_write_text(temporary("elsewhere"), "x");
    assert_int_equal(symlink("../elsewhere", temporary("folder/a")),
                     0);                                          /* a link to a file counts */
    assert_int_equal(symlink("..", temporary("folder/loop")), 0); /* one to a folder does not */
    assert_int_equal(mkfifo(temporary("folder/pipe"), 0600), 0);
    uint64_t blocks = test_blocks();
    assert_int_equal(digest_path(temporary("folder"), &opt, hex, &err), 0);
    assert_string_equal(hex, expected);
    assert_int_equal(test_blocks(), blocks);
    test_write_text(temporary("folder/b/c"), "abd");
    assert_int_equal(digest_path(temporary("folder"), &opt, hex, &err), 0);
    assert_string_not_equal(hex, expected);
}

struct seen {
    uint64_t done, total;
    int calls;
};

static void see(void *ctx, uint64_t done, uint64_t total)
{
    struct seen *s = ctx;
    assert_true(done >= s->done && done <= total);
    *s = (struct seen){ done, total, s->calls + 1 };
}

static void remembered(void **state)
{
    (void)state;
    char hex[SHA256_HEX], again[SHA256_HEX];
    struct dr_error err;
    struct stat st;
    const char *path = temporary("file"), *cache = temporary("cache/darkroom/digests");
    struct seen seen = { 0 };
    struct digest_options opt = { .cache = cache, .progress = see, .ctx = &seen };
    test_write_text(path, "some bytes");
    settle();
    assert_int_equal(digest_path(path, &opt, hex, &err), 0);
    assert_int_equal(seen.done, 10);
    assert_int_equal(seen.total, 10);
    assert_int_equal(stat(path, &st), 0);
    struct digest_key key = digest_key_of(&st);
    assert_true(digest_cache_find(cache, &key, again));
    assert_string_equal(again, hex);
    /* what is remembered is believed */
    digest_cache_add(cache, &key,
                     "00000000000000000000000000000000000000000000000000000000000000ff");
    assert_int_equal(digest_path(path, &opt, again, &err), 0);
    assert_string_equal(again, "00000000000000000000000000000000000000000000000000000000000000ff");
    /* until the file changes in any of size and times */
    assert_int_equal(utimensat(AT_FDCWD, path, (struct timespec[2]){ { 5, 0 }, { 5, 0 } }, 0), 0);
    assert_int_equal(digest_path(path, &opt, again, &err), 0);
    assert_string_equal(again, hex);
}

static void fresh_files_are_not_remembered(void **state)
{
    (void)state;
    char hex[SHA256_HEX];
    struct dr_error err;
    struct stat st;
    struct timespec now;
    const char *path = temporary("fresh"), *cache = temporary("fresh-cache");
    struct digest_options opt = { .cache = cache };
    test_write_text(path, "1");
    /* it would age while a busy machine gets to it */
    assert_int_equal(clock_gettime(CLOCK_REALTIME, &now), 0);
    now.tv_sec += 60;
    assert_int_equal(utimensat(AT_FDCWD, path, (struct timespec[2]){ now, now }, 0), 0);
    assert_int_equal(digest_path(path, &opt, hex, &err), 0);
    assert_int_equal(stat(path, &st), 0);
    struct digest_key key = digest_key_of(&st);
    assert_false(digest_cache_find(cache, &key, hex));
}

static void damaged_cache(void **state)
{
    (void)state;
    static const char *const damages[] = {
        "",
        "darkroom digests 2\n1 1 1 1 1 00\n",
        "darkroom digests 1\n",
        "darkroom digests 1\nx\n\n\n",
        "darkroom digests 1\n1 2 3 4 5 zz\n",
        "darkroom digests 1\n99999999999999999999999 1 1 1 1",
    };
    char hex[SHA256_HEX], good[SHA256_HEX];
    struct dr_error err;
    const char *path = temporary("damaged"), *cache = temporary("damaged-cache");
    struct digest_options opt = { .cache = cache };
    test_write_text(path, "bytes");
    settle();
    assert_int_equal(digest_path(path, &(struct digest_options){ .cache = "" }, good, &err), 0);
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        test_write_text(cache, damages[i]);
        for (int twice = 0; twice < 2; twice++) {
            assert_int_equal(digest_path(path, &opt, hex, &err), 0);
            assert_string_equal(hex, good);
        }
    }
    /* nor does one that cannot be written */
    opt.cache = "/proc/none/digests";
    assert_int_equal(digest_path(path, &opt, hex, &err), 0);
    assert_string_equal(hex, good);
}

static void cache_stays_small(void **state)
{
    (void)state;
    char hex[SHA256_HEX];
    const char *cache = temporary("full-cache");
    static char text[200000];
    size_t n = (size_t)snprintf(text, sizeof text, "darkroom digests 1\n");
    for (int i = 0; i < 1500; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "1 %d 3 4 5 %064d\n", i, i);
    test_write_text(cache, text);
    struct digest_key key = { 1, 2000, 3, 4, 5 };
    digest_cache_add(cache, &key,
                     "00000000000000000000000000000000000000000000000000000000000000ff");
    assert_true(digest_cache_find(cache, &key, hex));
    key.inode = 1499;
    assert_true(digest_cache_find(cache, &key, hex));
    key.inode = 501;
    assert_true(digest_cache_find(cache, &key, hex));
    key.inode = 500;
    assert_false(digest_cache_find(cache, &key, hex));
}

static void stopped(void **state)
{
    (void)state;
    char hex[SHA256_HEX];
    struct dr_error err;
    atomic_int stop = 1;
    const char *path = temporary("stopped");
    test_write_text(path, "bytes");
    struct digest_options opt = { .cache = "", .stop = &stop };
    assert_int_equal(digest_path(path, &opt, hex, &err), DR_ECANCELED);
}

static int digest_both(void *ctx, struct dr_error *err)
{
    char hex[SHA256_HEX];
    struct digest_options opt = { .cache = temporary("oom-cache") };
    (void)ctx;
    return digest_path(temporary("oom"), &opt, hex, err);
}

static void short_of_memory(void **state)
{
    (void)state;
    test_write_text(temporary("oom/a"), "a");
    test_write_text(temporary("oom/b"), "b");
    settle();
    test_oom_walk(digest_both, NULL);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(of_a_file),     cmocka_unit_test(of_a_folder),
    cmocka_unit_test(remembered),    cmocka_unit_test(fresh_files_are_not_remembered),
    cmocka_unit_test(damaged_cache), cmocka_unit_test(cache_stays_small),
    cmocka_unit_test(stopped),       cmocka_unit_test(short_of_memory),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
