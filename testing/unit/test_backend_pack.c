/* test_backend_pack.c - packs: whole or not at all, and nothing that was not written. */
#include "testing/helpers/test.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backend/cache/pack_store.h"
#include "backend/cache/pack.h"
#include "base/alloc.h"
#include "base/mapguard.h"

enum { BLOBS = 3, HEADER = 4096, ENTRY = PACK_NAME + 24 };

static const struct {
    const char *name;
    size_t bytes;
} blobs[BLOBS] = { { "unet/conv_in", 100 }, { "unet/norm", 64 }, { "vae/conv_out", 70000 } };

static const struct pack_spec spec = {
    .key = "model a\nkernels b\n", .blobs = BLOBS, .bytes = 128 + 64 + 70016, .largest = 70016
};

static unsigned char value(int blob, size_t i)
{
    return (unsigned char)(i * 31 + i / 251 + (size_t)blob * 7 + 1);
}

/* An empty folder of its own for each test. */
static const struct pack_store *store(void)
{
    static struct pack_store s;
    static int turn;
    char folder[DR_PATH_MAX];
    snprintf(folder, sizeof folder, "%s/store%d", test_dir(), turn++);
    assert_int_equal(dr_mkdirs(folder, NULL), 0);
    assert_int_equal(pack_store_init(&s, folder, 1 << 20, NULL), 0);
    return &s;
}

static const char *path_in(const struct pack_store *s, const char *name)
{
    static char paths[4][DR_PATH_MAX];
    static unsigned turn;
    char *path = paths[turn++ % 4], whole[100];
    snprintf(whole, sizeof whole, "0123456789abcdef-%s-2-fedcba9876543210", name);
    assert_int_equal(pack_store_path(s, whole, path, DR_PATH_MAX, NULL), 0);
    return path;
}

static int entries(const struct pack_store *s)
{
    int n = 0;
    DIR *dir = opendir(s->folder);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));)
        n += e->d_name[0] != '.';
    closedir(dir);
    return n;
}

static int add(struct pack *p, int blob, const void **ret, struct dr_error *err)
{
    unsigned char *stage = pack_stage(p);
    for (size_t i = 0; i < blobs[blob].bytes; i++)
        stage[i] = value(blob, i);
    return pack_add(p, blobs[blob].name, blobs[blob].bytes, ret, err);
}

static bool holds(const void *at, int blob)
{
    const unsigned char *bytes = at;
    for (size_t i = 0; i < blobs[blob].bytes; i++)
        if (bytes[i] != value(blob, i))
            return false;
    return true;
}

static int make(const char *path, struct dr_error *err)
{
    struct pack *p;
    const void *at;
    int r = pack_create(path, &spec, &p, err);
    if (r)
        return r;
    for (int i = 0; !r && i < BLOBS; i++)
        r = add(p, i, &at, err);
    if (!r)
        r = pack_finish(p, err);
    pack_close(p);
    return r;
}

static void must_make(const char *path)
{
    struct dr_error err = { 0 };
    if (make(path, &err))
        fail_msg("%s", err.text);
}

static void what_was_added_is_found(void **state)
{
    (void)state;
    const struct pack_store *s = store();
    const char *path = path_in(s, "one");
    struct pack *p;
    struct pack_facts facts;
    const void *at[BLOBS];
    uint64_t blocks = test_blocks();
    assert_int_equal(pack_open(path, spec.key, &p, NULL), DR_ENOENT);
    assert_int_equal(pack_create(path, &spec, &p, NULL), 0);
    assert_true(pack_building(p));
    for (int i = 0; i < BLOBS; i++)
        assert_int_equal(add(p, i, &at[i], NULL), 0);
    assert_null(pack_find(p, blobs[0].name, blobs[0].bytes)); /* not before it is whole */
    assert_int_equal(pack_finish(p, NULL), 0);
    for (int i = 0; i < BLOBS; i++)
        assert_true(holds(at[i], i));
    assert_int_equal(pack_check(p, NULL), 0);
    pack_close(p);
    assert_int_equal(entries(s), 1);

    assert_int_equal(pack_open(path, spec.key, &p, NULL), 0);
    assert_false(pack_building(p));
    for (int turn = 0; turn < 2; turn++)
        for (int i = 0; i < BLOBS; i++) {
            int blob = turn ? BLOBS - 1 - i : i;
            const void *found = pack_find(p, blobs[blob].name, blobs[blob].bytes);
            assert_non_null(found);
            assert_int_equal((uintptr_t)found % PACK_ALIGN, 0);
            assert_true(holds(found, blob));
        }
    assert_null(pack_find(p, blobs[0].name, blobs[0].bytes + 1));
    assert_null(pack_find(p, "unet/conv", 100));
    pack_close(p);
    assert_int_equal(pack_verify(path, NULL, &facts, NULL), 0);
    assert_string_equal(facts.key, spec.key);
    assert_int_equal(facts.blobs, BLOBS);
    assert_int_equal(facts.file_bytes, pack_file_bytes(&spec));
    assert_int_equal(test_blocks(), blocks);
}

static void another_key_is_another_pack(void **state)
{
    (void)state;
    const char *path = path_in(store(), "one");
    struct pack *p;
    must_make(path);
    assert_int_equal(pack_open(path, "model a\nkernels c\n", &p, NULL), DR_EFORMAT);
}

static void a_cut_pack_is_refused(void **state)
{
    (void)state;
    const char *path = path_in(store(), "one");
    const long long size = (long long)pack_file_bytes(&spec), index = size - BLOBS * ENTRY;
    const long long cuts[] = { 0,         1,     HEADER - 1, HEADER,   HEADER + 50,
                               index - 1, index, index + 1,  size - 1, size + 1 };
    struct pack *p;
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        must_make(path);
        assert_int_equal(chmod(path, 0600), 0);
        assert_int_equal(truncate(path, cuts[i]), 0);
        if (pack_open(path, spec.key, &p, NULL) != DR_EFORMAT)
            fail_msg("cut to %lld: accepted", cuts[i]);
        assert_int_equal(unlink(path), 0);
    }
}

/* Flips a bit, has a look, flips it back. */
static void flipped(int fd, const char *path, long at, bool opens, bool verifies)
{
    unsigned char byte;
    struct pack *p = NULL;
    struct pack_facts facts;
    struct dr_error err = { 0 };
    const int refused = at >= 16 && at < 24 ? DR_EUNSUPPORTED : DR_EFORMAT; /* the version */
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= (unsigned char)(1 << at % 8);
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    int r = pack_open(path, spec.key, &p, NULL);
    if (r != (opens ? 0 : refused))
        fail_msg("byte %ld: pack_open gives %d", at, r);
    if (!r)
        pack_close(p);
    r = pack_verify(path, NULL, &facts, &err);
    if (r != (verifies ? 0 : refused))
        fail_msg("byte %ld: pack_verify gives %d", at, r);
    if (opens)
        assert_non_null(strstr(err.text, "is damaged"));
    byte ^= (unsigned char)(1 << at % 8);
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
}

static void no_byte_can_change_unseen(void **state)
{
    (void)state;
    const char *path = path_in(store(), "one");
    const long size = (long)pack_file_bytes(&spec), index = size - BLOBS * ENTRY;
    must_make(path);
    assert_int_equal(chmod(path, 0600), 0);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    for (long at = 0; at < HEADER; at += at < 700 || at > HEADER - 10 ? 1 : 97)
        flipped(fd, path, at, false, false);
    for (long at = index; at < size; at++)
        flipped(fd, path, at, false, false);
    for (long at = HEADER; at < index; at += at < HEADER + 200 ? 1 : 1009) /* gaps included */
        flipped(fd, path, at, true, false);
    close(fd);
    struct pack_facts facts;
    assert_int_equal(pack_verify(path, NULL, &facts, NULL), 0);
    atomic_int stop = 1;
    assert_int_equal(pack_verify(path, &stop, &facts, NULL), DR_ECANCELED);
}

static void what_is_not_finished_is_not_there(void **state)
{
    (void)state;
    const struct pack_store *s = store();
    const char *path = path_in(s, "one");
    struct pack *p;
    const void *at;
    uint64_t blocks = test_blocks();
    assert_int_equal(pack_create(path, &spec, &p, NULL), 0);
    assert_int_equal(add(p, 0, &at, NULL), 0);
    assert_int_equal(pack_finish(p, NULL), DR_EINTERNAL);
    assert_int_equal(pack_add(p, "more", 1 << 20, &at, NULL), DR_EINTERNAL);
    pack_close(p);
    assert_int_equal(entries(s), 0);
    assert_int_equal(test_blocks(), blocks);

    assert_int_equal(pack_create(path, &spec, &p, NULL), 0);
    for (int i = 0; i < BLOBS; i++)
        assert_int_equal(add(p, i, &at, NULL), 0);
    assert_int_equal(add(p, 0, &at, NULL), DR_EINTERNAL);
    pack_close(p);
    assert_int_equal(entries(s), 0);
    pack_close(NULL);
}

static void no_room_is_said_at_once(void **state)
{
    (void)state;
    const struct pack_store *s = store();
    struct pack *p;
    struct rlimit before, small = { .rlim_cur = pack_file_bytes(&spec) - 1 };
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small.rlim_max = before.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int r = pack_create(path_in(s, "one"), &spec, &p, NULL);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(r, DR_ELIMIT);
    assert_int_equal(entries(s), 0);
    assert_true(pack_create("/nonexistent/folder/one", &spec, &p, NULL) < 0);
    struct pack_spec huge = spec; /* larger than any disk */
    huge.bytes = UINT64_C(1) << 59;
    assert_true(pack_create(path_in(s, "one"), &huge, &p, NULL) < 0);
    assert_int_equal(entries(s), 0);
}

static void two_makers_do_not_meet(void **state)
{
    (void)state;
    const struct pack_store *s = store();
    const char *path = path_in(s, "one");
    struct pack *p[2];
    const void *at[2][BLOBS];
    for (int k = 0; k < 2; k++)
        assert_int_equal(pack_create(path, &spec, &p[k], NULL), 0);
    for (int i = 0; i < BLOBS; i++)
        for (int k = 0; k < 2; k++)
            assert_int_equal(add(p[k], i, &at[k][i], NULL), 0);
    assert_int_equal(pack_store_room(s, 1, NULL), 0); /* takes neither for stale */
    assert_int_equal(entries(s), 2);
    for (int k = 0; k < 2; k++)
        assert_int_equal(pack_finish(p[k], NULL), 0);
    assert_int_equal(entries(s), 1);
    for (int k = 0; k < 2; k++) {
        assert_int_equal(pack_check(p[k], NULL), 0);
        for (int i = 0; i < BLOBS; i++)
            assert_true(holds(at[k][i], i));
        pack_close(p[k]);
    }
    assert_int_equal(entries(s), 1);
    assert_int_equal(pack_open(path, spec.key, &p[0], NULL), 0);
    pack_close(p[0]);
}

static void a_dead_maker_leaves_litter_that_goes(void **state)
{
    (void)state;
    const struct pack_store *s = store();
    const char *path = path_in(s, "one");
    pid_t child = fork();
    if (!child) {
        struct pack *p;
        const void *at;
        if (!pack_create(path, &spec, &p, NULL) && !add(p, 0, &at, NULL))
            raise(SIGKILL);
        _exit(1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(entries(s), 1);
    struct pack *p;
    assert_int_equal(pack_open(path, spec.key, &p, NULL), DR_ENOENT);
    assert_int_equal(pack_store_room(s, 1, NULL), 0);
    assert_int_equal(entries(s), 0);
}

static void used_at(const char *path, time_t when)
{
    struct timespec times[2] = { { when, 0 }, { when, 0 } };
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static int sum_bytes(void *ctx, const char *path, const struct stat *st)
{
    (void)path;
    *(uint64_t *)ctx += (uint64_t)st->st_size;
    return 0;
}

static void what_was_used_longest_ago_goes_first(void **state)
{
    (void)state;
    struct pack_store s = *store();
    const uint64_t each = pack_file_bytes(&spec);
    const char *paths[3] = { path_in(&s, "a"), path_in(&s, "b"), path_in(&s, "c") };
    struct pack *p;
    uint64_t sum = 0;
    for (int i = 0; i < 3; i++) {
        must_make(paths[i]);
        used_at(paths[i], 1000 + i);
    }
    assert_int_equal(pack_open(paths[0], spec.key, &p, NULL), 0); /* now the newest */
    assert_int_equal(pack_store_each(&s, sum_bytes, &sum, NULL), 0);
    assert_int_equal(sum, 3 * each);
    s.limit = 4 * each;
    assert_int_equal(pack_store_room(&s, each, NULL), 0);
    assert_int_equal(entries(&s), 3);
    s.limit = 3 * each;
    assert_int_equal(pack_store_room(&s, each, NULL), 0);
    assert_int_equal(entries(&s), 2);
    assert_true(dr_is_file(paths[0]) && !dr_is_file(paths[1]) && dr_is_file(paths[2]));
    assert_int_equal(pack_store_room(&s, 3 * each + 1, NULL), DR_ELIMIT); /* and nothing goes */
    assert_int_equal(entries(&s), 2);
    assert_int_equal(pack_store_room(&s, 3 * each, NULL), 0);
    assert_int_equal(entries(&s), 0);
    assert_true(holds(pack_find(p, blobs[2].name, blobs[2].bytes), 2)); /* in use all the same */
    assert_int_equal(pack_check(p, NULL), 0);
    pack_close(p);
    s.limit = UINT64_MAX;
    assert_int_equal(pack_store_room(&s, UINT64_C(1) << 60, NULL), DR_ELIMIT); /* half the disk */
}

/* Workers that start together on a folder that is too full: each finds room. */
static void several_may_make_room_at_once(void **state)
{
    (void)state;
    enum { PACKS = 200, WORKERS = 6 };
    struct pack_store s = *store();
    pid_t workers[WORKERS];
    int turn[2];
    for (int i = 0; i < PACKS; i++) {
        char name[20];
        snprintf(name, sizeof name, "set%d", i);
        assert_int_equal(dr_write_file(path_in(&s, name), "darkroom weights", 16, NULL), 0);
    }
    s.limit = 16;
    assert_int_equal(pipe(turn), 0);
    for (int i = 0; i < WORKERS; i++) {
        workers[i] = fork();
        if (workers[i])
            continue;
        char byte;
        close(turn[1]);
        _exit(read(turn[0], &byte, 1) || pack_store_room(&s, 16, NULL));
    }
    close(turn[0]);
    close(turn[1]); /* all go */
    for (int i = 0; i < WORKERS; i++) {
        int status;
        assert_int_equal(waitpid(workers[i], &status, 0), workers[i]);
        assert_int_equal(status, 0);
    }
    assert_int_equal(entries(&s), 0);
}

/* Whoever names a folder that holds other things loses none of them. */
static void what_is_not_the_stores_stays(void **state)
{
    (void)state;
    static const char *const names[] = {
        "notes.tmp",
        "yolo.weights",
        "yolo.weights.12-3.tmp",
        "0123456789abcdef-set-2-fedcba987654321.weights",
        "0123456789abcdeg-set-2-fedcba9876543210.weights",
        "0123456789abcdef-set-x-fedcba9876543210.weights",
        "0123456789abcdef-2-fedcba9876543210.weights",
        "0123456789abcdef-fedcba9876543210.weights",
        "0123456789abcdef.weights",
        "0123456789abcdef-set-2-fedcba9876543210.weights.12.tmp",
        "0123456789abcdef-set-2-fedcba9876543210.weights.12-3.tmp.tmp",
        "0123456789abcdef-set-2-fedcba9876543210.weights",          /* the name, but no pack */
        "0123456789abcdef-set-2-fedcba9876543210.weights.12-3.tmp", /* nor a temporary one */
    };
    enum { N = sizeof names / sizeof *names };
    struct pack_store s = *store();
    char path[DR_PATH_MAX];
    static char bytes[10000];
    for (int i = 0; i < N; i++) {
        assert_int_equal(dr_path_join(path, sizeof path, s.folder, names[i]), 0);
        assert_int_equal(dr_write_file(path, bytes, sizeof bytes, NULL), 0);
        used_at(path, 1000);
    }
    const char *pack = path_in(&s, "avx512-bf16_x");
    must_make(pack);
    snprintf(path, sizeof path, "%.200s.12-3.tmp", pack);
    assert_int_equal(dr_write_file(path, "darkroom weights", 16, NULL), 0);
    s.limit = pack_file_bytes(&spec);
    assert_int_equal(pack_store_room(&s, 1, NULL), 0); /* only the pack and its stale files go */
    assert_false(dr_is_file(pack) || dr_is_file(path));
    assert_int_equal(entries(&s), N);
}

/* A file of the user's that lies where a pack belongs. */
static void another_file_in_its_place_is_not_replaced(void **state)
{
    (void)state;
    struct pack_store s = *store();
    const char *path = path_in(&s, "one");
    struct pack *p;
    struct dr_error err = { 0 };
    assert_int_equal(dr_write_file(path, "my own file", 11, NULL), 0);
    assert_int_equal(pack_create(path, &spec, &p, &err), DR_EIO);
    assert_non_null(strstr(err.text, "not a file of packed weights"));
    assert_int_equal(entries(&s), 1);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("elsewhere", path), 0);
    assert_int_equal(pack_create(path, &spec, &p, NULL), DR_EIO);
}

static void a_pack_made_since_it_was_seen_stays(void **state)
{
    (void)state;
    const char *path = path_in(store(), "one"), *other = path_in(store(), "other");
    struct stat seen;
    must_make(path);
    assert_int_equal(stat(path, &seen), 0);
    must_make(other);
    assert_int_equal(rename(other, path), 0);
    assert_int_equal(pack_remove(path, &seen, NULL), 0);
    assert_true(dr_is_file(path));
    assert_int_equal(stat(path, &seen), 0);
    assert_int_equal(pack_remove(path, &seen, NULL), 0);
    assert_false(dr_is_file(path));
    assert_int_equal(pack_remove(path, &seen, NULL), 0);
}

static void a_pack_cut_in_use_is_noticed(void **state)
{
    (void)state;
    const char *path = path_in(store(), "one");
    struct pack *p;
    assert_int_equal(mapguard_install(NULL), 0);
    must_make(path);
    assert_int_equal(pack_open(path, spec.key, &p, NULL), 0);
    const volatile char *last = pack_find(p, blobs[2].name, blobs[2].bytes);
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(truncate(path, HEADER), 0);
    assert_int_equal(last[65000], 0); /* and no signal */
    assert_int_equal(pack_check(p, NULL), DR_EIO);
    pack_close(p);
}

static int make_and_open(void *ctx, struct dr_error *err)
{
    struct pack *p;
    unlink(ctx);
    int r = make(ctx, err);
    if (!r)
        r = pack_open(ctx, spec.key, &p, err);
    if (!r)
        pack_close(p);
    return r;
}

static void survives_short_memory(void **state)
{
    (void)state;
    const struct pack_store *s = store();
    test_oom_walk(make_and_open, (void *)path_in(s, "one"));
    assert_int_equal(entries(s), 1);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_added_is_found),
        cmocka_unit_test(another_key_is_another_pack),
        cmocka_unit_test(a_cut_pack_is_refused),
        cmocka_unit_test(no_byte_can_change_unseen),
        cmocka_unit_test(what_is_not_finished_is_not_there),
        cmocka_unit_test(no_room_is_said_at_once),
        cmocka_unit_test(two_makers_do_not_meet),
        cmocka_unit_test(a_dead_maker_leaves_litter_that_goes),
        cmocka_unit_test(what_was_used_longest_ago_goes_first),
        cmocka_unit_test(several_may_make_room_at_once),
        cmocka_unit_test(what_is_not_the_stores_stays),
        cmocka_unit_test(another_file_in_its_place_is_not_replaced),
        cmocka_unit_test(a_pack_made_since_it_was_seen_stays),
        cmocka_unit_test(a_pack_cut_in_use_is_noticed),
        cmocka_unit_test(survives_short_memory),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
