/* Files, paths, SHA-256. */
#include "testing/helpers/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/sha256.h"
#include "testing/helpers/base_files.h"

static const char *in_dir(const char *name)
{
    static char paths[4][256];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", test_dir(), name);
    return path;
}

static void write_then_map(void **state)
{
    (void)state;
    struct dr_error err;
    struct dr_map m;
    const char *path = in_dir("file");
    assert_int_equal(dr_write_file(path, "first", 5, &err), 0);
    struct dr_piece pieces[] = { { "sec", 3 }, { "", 0 }, { "ond!", 4 } };
    assert_int_equal(dr_write_pieces(path, pieces, 3, &err), 0);
    assert_int_equal(dr_map_open(&m, path, &err), 0);
    assert_int_equal(m.size, 7);
    assert_memory_equal(m.data, "second!", 7);
    assert_int_equal(dr_map_check(&m, path, &err), 0);
    assert_int_equal(truncate(path, 3), 0);
    assert_int_equal(dr_map_check(&m, path, &err), DR_EIO);
    dr_map_close(&m);
    dr_map_close(&m);
    dr_map_close(NULL);
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(dr_map_open(&m, path, &err), 0);
    assert_null(m.data);
    assert_int_equal(m.size, 0);
    dr_map_close(&m);
}

static void odd_files_are_refused(void **state)
{
    (void)state;
    struct dr_error err;
    struct dr_map m;
    assert_int_equal(dr_map_open(&m, in_dir("absent"), &err), DR_ENOENT);
    assert_non_null(strstr(err.text, "absent"));
    dr_map_close(&m);
    assert_int_equal(dr_map_open(&m, test_dir(), &err), DR_EINVAL);
    assert_non_null(strstr(err.text, "directory"));
    assert_int_equal(mkfifo(in_dir("fifo"), 0600), 0);
    assert_int_equal(dr_map_open(&m, in_dir("fifo"), &err), DR_EINVAL);
    assert_int_equal(dr_map_open(&m, "/dev/zero", &err), DR_EINVAL);
    char hex[SHA256_HEX];
    assert_int_equal(sha256_file("/dev/zero", NULL, NULL, NULL, hex, &err), DR_EINVAL);
    assert_int_equal(dr_write_file("/nowhere/at/all", "x", 1, &err), DR_ENOENT);
    assert_int_equal(dr_write_file(test_dir(), "x", 1, &err), DR_EIO);
    char left[300]; /* the temporary file of the failed replacement is gone */
    snprintf(left, sizeof left, "ls %s.*.tmp >/dev/null 2>&1", test_dir());
    assert_int_not_equal(system(left), 0);
}

static void read_whole_with_limit(void **state)
{
    (void)state;
    struct dr_error err;
    struct buf b;
    char bytes[40000];
    memset(bytes, 'q', sizeof bytes);
    assert_int_equal(dr_write_file(in_dir("big"), bytes, sizeof bytes, &err), 0);
    buf_init(&b, DR_TAG_TEST, sizeof bytes);
    assert_int_equal(dr_read_file(in_dir("big"), sizeof bytes, &b, &err), 0);
    assert_int_equal(b.len, sizeof bytes);
    buf_clear(&b);
    assert_int_equal(dr_read_file(in_dir("big"), SIZE_MAX, &b, &err), 0);
    assert_int_equal(b.len, sizeof bytes);
    assert_int_equal(dr_read_file(in_dir("big"), 10, &b, &err), DR_ELIMIT);
    assert_int_equal(b.len, sizeof bytes);
    assert_int_equal(dr_read_file(in_dir("big"), sizeof bytes, &b, &err), DR_ELIMIT);
    assert_int_equal(b.len, sizeof bytes);
    buf_clear(&b);
    assert_int_equal(dr_read_file("/proc/self/status", 10, &b, &err), DR_ELIMIT);
    assert_int_equal(b.len, 0); /* its size is said to be 0 */
    buf_free(&b);
}

static void paths(void **state)
{
    (void)state;
    char p[32];
    assert_int_equal(dr_path_join(p, sizeof p, "a", "b"), 0);
    assert_string_equal(p, "a/b");
    assert_int_equal(dr_path_join(p, sizeof p, "a/", "b"), 0);
    assert_string_equal(p, "a/b");
    assert_int_equal(dr_path_join(p, sizeof p, "a", "/b"), 0);
    assert_string_equal(p, "/b");
    assert_int_equal(dr_path_join(p, sizeof p, "", "b"), 0);
    assert_string_equal(p, "b");
    assert_int_equal(dr_path_join(p, 3, "a", "b"), DR_ELIMIT);
    assert_int_equal(dr_path_trimmed("/x/y//"), 4);
    assert_int_equal(dr_path_trimmed("y"), 1);
    assert_int_equal(dr_path_trimmed("//"), 1);
    assert_int_equal(dr_path_trimmed(""), 0);
    assert_string_equal(dr_path_base("/x/y.png"), "y.png");
    assert_string_equal(dr_path_base("y.png"), "y.png");
    assert_string_equal(dr_path_extension("/x.d/y.tar.gz"), ".gz");
    assert_string_equal(dr_path_extension("/x.d/y"), "");
    assert_string_equal(dr_path_extension(".hidden"), "");
}

static void folders(void **state)
{
    (void)state;
    struct dr_error err;
    assert_int_equal(dr_mkdirs(in_dir("a/b/c"), &err), 0);
    assert_int_equal(dr_mkdirs(in_dir("a/b/c/"), &err), 0);
    assert_true(dr_is_dir(in_dir("a/b/c")));
    assert_false(dr_is_file(in_dir("a/b/c")));
    assert_int_equal(dr_write_file(in_dir("a/f"), "", 0, &err), 0);
    assert_true(dr_is_file(in_dir("a/f")));
    assert_int_equal(dr_mkdirs(in_dir("a/f"), &err), DR_EIO);
    assert_int_equal(dr_mkdirs(in_dir("a/f/g"), &err), DR_EIO);
    assert_int_equal(dr_mkdirs("", &err), DR_EINVAL);
    char real[DR_PATH_MAX];
    assert_int_equal(dr_realpath(real, sizeof real, in_dir("a/b/../b/c/.."), &err), 0);
    assert_string_equal(dr_path_base(real), "b");
    assert_int_equal(dr_realpath(real, 3, in_dir("a"), &err), DR_ELIMIT);
    assert_int_equal(dr_realpath(real, sizeof real, in_dir("z"), &err), DR_ENOENT);
}

static void places(void **state)
{
    (void)state;
    struct dr_error err;
    char p[DR_PATH_MAX];
    setenv("XDG_CACHE_HOME", "/c", 1);
    assert_int_equal(dr_cache_path(p, sizeof p, "x/y", &err), 0);
    assert_string_equal(p, "/c/darkroom/x/y");
    setenv("XDG_CONFIG_HOME", "relative", 1);
    setenv("HOME", "/h", 1);
    assert_int_equal(dr_config_path(p, sizeof p, "config.yaml", &err), 0);
    assert_string_equal(p, "/h/.config/darkroom/config.yaml");
    unsetenv("XDG_CONFIG_HOME");
    unsetenv("HOME");
    assert_int_equal(dr_config_path(p, sizeof p, "config.yaml", &err), DR_ENOENT);
    assert_int_equal(dr_cache_path(p, 5, "x", &err), DR_ELIMIT);

    assert_int_equal(dr_write_file(in_dir("shipped"), "", 0, &err), 0);
    setenv("DARKROOM_SHARE", test_dir(), 1);
    assert_int_equal(dr_share_path(p, sizeof p, "shipped", &err), 0);
    assert_string_equal(p, in_dir("shipped"));
    assert_int_equal(dr_share_path(p, sizeof p, "lost", &err), DR_ENOENT);
    assert_non_null(strstr(err.text, "DARKROOM_SHARE"));
    unsetenv("DARKROOM_SHARE");
    assert_int_equal(dr_share_path(p, sizeof p, "no/such/thing", &err), DR_ENOENT);
    assert_non_null(strstr(err.text, "../../share"));
    assert_int_equal(dr_binary_dir(p, sizeof p, &err), 0);
    assert_int_equal(p[0], '/');
}

/* FIPS 180-4 examples, and a million times "a". */
static void sha256_known_answers(void **state)
{
    (void)state;
    static const char *const known[][2] = {
        { "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
        { "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
        { "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
          "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
    };
    uint8_t digest[SHA256_BYTES];
    char hex[SHA256_HEX];
    for (int i = 0; i < 3; i++) {
        assert_int_equal(sha256_bytes(known[i][0], strlen(known[i][0]), digest), 0);
        sha256_hex(digest, hex);
        assert_string_equal(hex, known[i][1]);
    }
    struct sha256 *s = sha256_new();
    assert_non_null(s);
    for (int i = 0; i < 100000; i++)
        assert_int_equal(sha256_update(s, "aaaaaaaaaa", 10), 0);
    assert_int_equal(sha256_finish(s, digest), 0);
    sha256_free(s);
    sha256_free(NULL);
    sha256_hex(digest, hex);
    assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

struct watch {
    atomic_int stop;
    uint64_t done, total;
    int calls;
};

static void on_progress(void *ctx, uint64_t done, uint64_t total)
{
    struct watch *w = ctx;
    w->done = done;
    w->total = total;
    if (++w->calls == 2)
        atomic_store(&w->stop, 1);
}

static void sha256_of_a_file_stops(void **state)
{
    (void)state;
    struct dr_error err;
    char hex[SHA256_HEX] = "untouched";
    struct watch w = { .calls = INT32_MIN }; /* never the second */
    const char *path = in_dir("nine");
    assert_int_equal(dr_write_file(path, "", 0, &err), 0);
    assert_int_equal(truncate(path, 9 << 20), 0);
    assert_int_equal(sha256_file(path, &w.stop, on_progress, &w, hex, &err), 0);
    assert_int_equal(w.done, 9 << 20);
    assert_int_equal(w.total, 9 << 20);
    assert_string_equal(hex, "d2ee4703cd9698945ca7b9fe1689ea3095597eac1a0afd8dba00cac7894fdc43");
    memcpy(hex, "untouched", 10);
    w.calls = 0;
    assert_int_equal(sha256_file(path, &w.stop, on_progress, &w, hex, &err), DR_ECANCELED);
    assert_string_equal(hex, "untouched");
    assert_int_equal(sha256_file(in_dir("absent"), NULL, NULL, NULL, hex, &err), DR_ENOENT);
}

static int scenario(void *ctx, struct dr_error *err)
{
    char hex[SHA256_HEX];
    struct buf b;
    buf_init(&b, DR_TAG_TEST, 0);
    int r = sha256_file(ctx, NULL, NULL, NULL, hex, err);
    r = r ? r : dr_read_file(ctx, 1 << 20, &b, err);
    buf_free(&b);
    return r;
}

static void survives_no_memory(void **state)
{
    (void)state;
    char path[256];
    snprintf(path, sizeof path, "%s", in_dir("file"));
    assert_int_equal(dr_write_file(path, "contents", 8, NULL), 0);
    test_oom_walk(scenario, path);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(write_then_map),
    cmocka_unit_test(odd_files_are_refused),
    cmocka_unit_test(read_whole_with_limit),
    cmocka_unit_test(paths),
    cmocka_unit_test(folders),
    cmocka_unit_test(places),
    cmocka_unit_test(sha256_known_answers),
    cmocka_unit_test(sha256_of_a_file_stops),
    cmocka_unit_test(survives_no_memory),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
