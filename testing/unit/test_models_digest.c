/* test_models_digest.c - digests of models' files, and what is remembered of them. */
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

/* Of a file; of a folder whose files "a" and "b/c" are the model's, the first of them a text. */
static int digest_path(const char *path, const struct digest_options *opt, char hex[SHA256_HEX],
                       struct dr_error *err)
{
    struct model_files *m;
    const struct model_file *f;
    int r = model_files_open(NULL, path, &m, err);
    if (r)
        return r;
    bool folder = model_files_is_folder(m);
    r = model_files_need(m, folder ? "b/c" : "", 0, &f, err);
    if (!r && folder)
        r = model_files_need(m, "a", 1000, &f, err);
    if (!r && folder)
        r = model_files_find(m, "absent", 1000, &f, err);
    if (!r)
        r = digest_files(m, opt, hex, err);
    model_files_close(m);
    return r;
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

/* (printf 'darkroom model 2\n'; printf 'a 1 %s\n' $(printf x | sha256sum | cut -c-64); printf 'b/c
 * 3 %s\n' $(printf abc | sha256sum | cut -c-64)) | sha256sum */
static void of_a_folder(void **state)
{
    (void)state;
    static const char expected[] =
        "ec347c03de180233510132529f09691281b2bba5fa289d039025eec547b3879f";
    char hex[SHA256_HEX];
    struct dr_error err;
    struct digest_options opt = { .cache = "" };
    test_write_text(temporary("folder/b/c"), "abc");
    test_write_text(temporary("elsewhere"), "x");
    assert_int_equal(symlink("../elsewhere", temporary("folder/a")), 0);
    uint64_t blocks = test_blocks();
    assert_int_equal(digest_path(temporary("folder"), &opt, hex, &err), 0);
    assert_string_equal(hex, expected);
    assert_int_equal(test_blocks(), blocks);
    test_write_text(temporary("folder/README.md"), "not the model's"); /* nor links to nowhere */
    assert_int_equal(symlink("/nowhere", temporary("folder/dangling")), 0);
    assert_int_equal(mkfifo(temporary("folder/pipe"), 0600), 0);
    assert_int_equal(digest_path(temporary("folder"), &opt, hex, &err), 0);
    assert_string_equal(hex, expected);
    test_write_text(temporary("elsewhere"), "y");
    assert_int_equal(digest_path(temporary("folder"), &opt, hex, &err), 0);
    assert_string_not_equal(hex, expected);
}

/* A component that is a link counts by what was opened behind it. */
static void of_a_folder_with_links(void **state)
{
    (void)state;
    char hex[2][SHA256_HEX];
    struct dr_error err;
    struct digest_options opt = { .cache = "" };
    test_write_text(temporary("linked/a"), "x");
    test_write_text(temporary("one/c"), "abc");
    test_write_text(temporary("other/c"), "abd");
    for (int i = 0; i < 2; i++) {
        unlink(temporary("linked/b"));
        assert_int_equal(symlink(i ? "../other" : "../one", temporary("linked/b")), 0);
        assert_int_equal(digest_path(temporary("linked"), &opt, hex[i], &err), 0);
    }
    assert_string_not_equal(hex[0], hex[1]);
}

/* What was opened is hashed, whatever the path leads to by then; what is written into it is an
 * error for weights, and does not reach a text, which was hashed as it was read. */
static void of_what_was_opened(void **state)
{
    (void)state;
    char before[SHA256_HEX], hex[SHA256_HEX];
    struct dr_error err;
    struct digest_options opt = { .cache = "" };
    struct model_files *m;
    const struct model_file *f;
    test_write_text(temporary("opened/a"), "x");
    test_write_text(temporary("opened/b/c"), "abc");
    assert_int_equal(digest_path(temporary("opened"), &opt, before, &err), 0);
    assert_int_equal(model_files_open(NULL, temporary("opened"), &m, &err), 0);
    assert_int_equal(model_files_need(m, "a", 1000, &f, &err), 0);
    assert_int_equal(model_files_need(m, "b/c", 0, &f, &err), 0);
    test_write_text(temporary("new"), "abd");
    assert_int_equal(rename(temporary("new"), temporary("opened/b/c")), 0);
    int fd = open(temporary("opened/a"), O_WRONLY);
    assert_int_equal(write(fd, "y", 1), 1);
    close(fd);
    assert_int_equal(digest_files(m, &opt, hex, &err), 0);
    assert_string_equal(hex, before);
    assert_false(model_files_current(m));
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", f->fd);
    settle();
    fd = open(link, O_WRONLY);
    assert_int_equal(write(fd, "z", 1), 1);
    close(fd);
    assert_int_equal(digest_files(m, &opt, hex, &err), DR_EIO);
    model_files_close(m);
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
    test_write_text(temporary("oom/b/c"), "b");
    settle();
    test_oom_walk(digest_both, NULL);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(of_a_file),
    cmocka_unit_test(of_a_folder),
    cmocka_unit_test(of_a_folder_with_links),
    cmocka_unit_test(of_what_was_opened),
    cmocka_unit_test(remembered),
    cmocka_unit_test(fresh_files_are_not_remembered),
    cmocka_unit_test(damaged_cache),
    cmocka_unit_test(cache_stays_small),
    cmocka_unit_test(stopped),
    cmocka_unit_test(short_of_memory),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
