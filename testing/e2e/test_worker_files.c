/* test_worker_files.c - files that darkroom-worker makes and reads for requests: no name is used
 * twice, nothing that exists is replaced or removed, and nothing lies outside the roots. */
#include "testing/helpers/worker_host.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/npy.h"
#include "testing/helpers/program.h"

enum { RACE_REQUESTS = 1000 };

static void write_text(const char *path, const char *text)
{
    struct dr_error err;
    if (dr_write_file(path, text, strlen(text), &err))
        fail_msg("%s", err.text);
}

static void must_hold(const char *path, const char *text)
{
    struct buf b;
    buf_init(&b, DR_TAG_TEST, 0);
    assert_int_equal(dr_read_file(path, 1 << 24, &b, NULL), 0);
    assert_string_equal(buf_text(&b), text);
    buf_free(&b);
}

/* The name of picture i of the answer to `id`, which succeeds; the path begins with `folder`. */
static const char *picture(struct host *h, const char *id, const char *folder, size_t i)
{
    static char names[4][100];
    static unsigned turn;
    char *name = names[turn++ % 4];
    json_t *event = host_answer(h, id);
    const json_t *images = json_object_get(json_object_get(event, "data"), "images");
    const char *path = json_string_value(json_array_get(images, i));
    if (!path)
        fail_msg("%s: %s", id, host_text(event, "error"));
    assert_memory_equal(path, folder, strlen(folder));
    assert_true(dr_is_file(path));
    snprintf(name, sizeof names[0], "%s", dr_path_base(path));
    json_decref(event);
    return name;
}

static void names_are_never_used_twice(void **state)
{
    (void)state;
    struct host h, other;
    struct stat st;
    const char *folder = program_folder();
    host_begin(&h, "--root", folder);
    host_begin(&other, "--root", folder);
    write_text("a_000.png", "mine");
    assert_int_equal(symlink("/tmp/nowhere/at/all", "b_000.png") | mkdir("c_000.png", 0777), 0);
    static const char *const expected[][2] = {
        { "", "picture_000.png" },   { "", "picture_000_2.png" }, { "", "picture_000_3.png" },
        { "a", "a_000_2.png" },      { "a", "a_000_3.png" },      { "b", "b_000_2.png" },
        { "c", "c_000_2.png" },      { "", "picture_000_4.png" }, { "", "picture_000_5.png" },
        { "a_000", "a_000_000.png" }
    };
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        struct host *one = i % 2 ? &h : &other;
        host_ask_picture(one, expected[i][0], json_pack("{s:s}", "save_path", folder));
        assert_string_equal(picture(one, expected[i][0], folder, 0), expected[i][1]);
    }
    must_hold("a_000.png", "mine");
    assert_int_equal(lstat("b_000.png", &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    assert_int_equal(host_end(&h), 0);
    assert_int_equal(host_end(&other), 0);
    assert_int_equal(program_entries(folder), 13);
}

/* Both begin at once with the same id and the same four names. */
static void two_workers_with_one_id_keep_all_pictures(void **state)
{
    (void)state;
    struct host h[2];
    const char *folder = program_folder();
    for (int i = 0; i < 2; i++)
        host_begin(&h[i], "--root", folder);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 2; i++)
            host_ask_picture(
                &h[i], "x",
                json_pack("{s:s,s:i,s:i}", "save_path", folder, "batch_size", 4, "steps", 1));
        for (int i = 0; i < 2; i++) {
            json_t *event = host_answer(&h[i], "x");
            assert_true(json_is_true(json_object_get(event, "success")));
            json_decref(event);
        }
        assert_int_equal(program_entries(folder), 8 * (round + 1));
    }
    for (int i = 0; i < 2; i++)
        assert_int_equal(host_end(&h[i]), 0);
}

static void new_files_have_the_usual_mode(void **state)
{
    (void)state;
    struct host h;
    struct stat st;
    const char *folder = program_folder();
    mode_t before = umask(027);
    host_begin(&h, "--root", folder);
    umask(before);
    host_ask_picture(
        &h, "m",
        json_pack("{s:s+,s:s+}", "save_path", folder, "/made", "dump_stages", folder, "/stages"));
    picture(&h, "m", folder, 0);
    assert_int_equal(host_end(&h), 0);
    static const char *const files[] = { "made/m_000.png", "stages/image.npy" };
    for (int i = 0; i < 2; i++) {
        assert_int_equal(stat(files[i], &st), 0);
        assert_int_equal(st.st_mode & 07777, 0640);
    }
    assert_int_equal(stat("made", &st), 0);
    assert_int_equal(st.st_mode & 07777, 0750);
}

/* Files may not become larger than this in a worker that is started now. */
static void limit_files(rlim_t bytes)
{
    struct rlimit limit;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes ? bytes : limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void a_picture_that_cannot_be_written_is_an_error(void **state)
{
    (void)state;
    struct host h;
    const char *folder = program_folder();
    write_text("full_000.png", "mine");
    write_text("full_001.png", "mine too");
    limit_files(512);
    host_begin(&h, "--root", folder);
    limit_files(0);
    host_ask_picture(&h, "full", json_pack("{s:s,s:i}", "save_path", folder, "batch_size", 2));
    json_t *event = host_answer(&h, "full");
    assert_string_equal(host_text(event, "error_code"), "IO_ERROR");
    assert_non_null(strstr(host_text(event, "error"), "full_000.png: cannot write"));
    json_decref(event);
    host_ask_picture(&h, "dump", json_pack("{s:s+}", "dump_stages", folder, "/stages"));
    event = host_answer(&h, "dump");
    assert_string_equal(host_text(event, "error_code"), "IO_ERROR");
    assert_non_null(strstr(host_text(event, "error"), ".npy: cannot write"));
    json_decref(event);
    host_must_be_healthy(&h);
    assert_int_equal(host_end(&h), 0);
    must_hold("full_000.png", "mine");
    must_hold("full_001.png", "mine too");
    assert_int_equal(program_entries(folder), 3);
    char path[300]; /* what was whole may be there, what was not may not */
    snprintf(path, sizeof path, "test -z \"$(find %s -name '*.tmp')\"", folder);
    assert_int_equal(system(path), 0);
}

/* Cancelled while it draws a batch: what lies there stays as it is. */
static void a_cancelled_job_removes_nothing_of_others(void **state)
{
    (void)state;
    struct host h;
    const char *folder = program_folder();
    write_text("long_000.png", "mine");
    host_begin(&h, "--root", folder);
    host_ask_picture(&h, "long",
                     json_pack("{s:s,s:i,s:i,s:b}", "save_path", folder, "steps", 500, "batch_size",
                               3, "stream", 1));
    json_t *event;
    do
        event = host_hear(&h);
    while (!json_integer_value(json_object_get(json_object_get(event, "data"), "step")) &&
           (json_decref(event), true));
    json_decref(event);
    host_say(&h, "{\"type\":\"cancel\",\"data\":{\"target\":\"long\"}}\n");
    host_must_fail(&h, "long", "CANCELED", NULL);
    assert_int_equal(host_end(&h), 0);
    must_hold("long_000.png", "mine");
    assert_int_equal(program_entries(folder), 1);
}

/* The folder goes away while the job draws: it is created again, as it would have been. */
static void a_folder_may_go_while_a_job_draws(void **state)
{
    (void)state;
    struct host h;
    char path[300];
    const char *folder = program_folder();
    snprintf(path, sizeof path, "%s/here/there", folder);
    assert_int_equal(dr_mkdirs(path, NULL), 0);
    host_begin(&h, "--root", folder);
    host_ask_picture(&h, "a",
                     json_pack("{s:s,s:i,s:b}", "save_path", path, "steps", 60, "stream", 1));
    json_t *event;
    do
        event = host_hear(&h);
    while (!json_integer_value(json_object_get(json_object_get(event, "data"), "step")) &&
           (json_decref(event), true));
    json_decref(event);
    assert_int_equal(rmdir("here/there") | rmdir("here"), 0);
    assert_string_equal(picture(&h, "a", path, 0), "a_000.png");
    assert_int_equal(host_end(&h), 0);
}

static void stages_are_never_replaced(void **state)
{
    (void)state;
    struct host h;
    char path[300];
    const char *folder = program_folder();
    snprintf(path, sizeof path, "%s/stages", folder);
    host_begin(&h, "--root", folder);
    host_ask_picture(&h, "a", json_pack("{s:s}", "dump_stages", path));
    json_decref(host_answer(&h, "a"));
    assert_true(dr_is_file("stages/image.npy"));
    int n = program_entries("stages");
    write_text("stages/image.npy", "mine");
    host_ask_picture(&h, "b", json_pack("{s:s,s:i}", "dump_stages", path, "steps", 3));
    host_must_fail(&h, "b", "INVALID_VALUE", "dump_stages");
    must_hold("stages/image.npy", "mine");
    assert_int_equal(program_entries("stages"), n);
    assert_int_equal(host_end(&h), 0);
}

/* An array of `n` floats that takes no room on the disk. */
static void write_sparse(const char *path, long long n)
{
    char head[200];
    int len = snprintf(head, sizeof head,
                       "{'descr': '<f4', 'fortran_order': False, 'shape': (%lld,), }", n);
    memset(head + len, ' ', sizeof head - (size_t)len);
    head[117] = '\n';
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "\x93NUMPY\x01\x00\x76\x00", 10), 10);
    assert_int_equal(write(fd, head, 118), 118);
    assert_int_equal(ftruncate(fd, 128 + 4 * (off_t)n), 0);
    close(fd);
}

static long peak_kb(const struct host *h)
{
    char path[64], line[200];
    long kb = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)h->pid);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f))
        sscanf(line, "VmHWM: %ld", &kb);
    fclose(f);
    return kb;
}

static void hostile_stages_are_refused_before_a_step(void **state)
{
    (void)state;
    struct host h;
    char path[400];
    const char *folder = program_folder();
    write_sparse("huge.npy", 1LL << 29);
    write_sparse("tokens.npy", 4 << 20);
    assert_int_equal(mkfifo("pipe", 0600) | symlink("/etc/passwd", "passwd") |
                         symlink("/dev/zero", "zero") | symlink("loop", "loop") |
                         mkdir("dir", 0777),
                     0);
    write_text("words.npy", "secret words\n");
    host_begin(&h, "--root", folder);
    host_ask_picture(&h, "usual", NULL);
    json_decref(host_answer(&h, "usual"));
    long before = peak_kb(&h);
    static const char *const files[][3] = {
        { "image", "huge.npy", "INVALID_VALUE" },
        { "latents_001", "huge.npy", "INVALID_VALUE" },
        { "prompt_embeds", "huge.npy", "INVALID_VALUE" },
        { "tokens", "tokens.npy", "INVALID_VALUE" },
        { "image", "pipe", "INVALID_VALUE" },
        { "image", "passwd", "INVALID_VALUE" },
        { "image", "zero", "INVALID_VALUE" },
        { "image", "loop", NULL },
        { "image", "dir", "INVALID_VALUE" },
        { "image", "words.npy", "BAD_FORMAT" },
        { "image", "none.npy", "NOT_FOUND" },
        { "image", "../../etc/passwd", NULL },
        { "image", "words.npy/", NULL },
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        for (int plan = 0; plan < 2; plan++) {
            snprintf(path, sizeof path, "%s/%s", folder, files[i][1]);
            json_t *data = json_pack("{s:s,s:s,s:i,s:i,s:i,s:{s:s}}", "model", program_model(),
                                     "prompt", "x", "width", 64, "height", 48, "steps", 2,
                                     "load_stage", files[i][0], path);
            host_say_json(&h, json_pack("{s:s,s:s,s:o}", "type", plan ? "plan" : "generate",
                                        "request_id", "one", "data", data));
            json_t *event = host_answer(&h, "one");
            if (json_is_true(json_object_get(event, "success")))
                fail_msg("%s", files[i][1]);
            if (files[i][2])
                assert_string_equal(host_text(event, "error_code"), files[i][2]);
            assert_null(strstr(host_text(event, "error"), "secret"));
            assert_null(strstr(host_text(event, "error"), "root:"));
            json_decref(event);
        }
    if (peak_kb(&h) > before + 8192)
        fail_msg("%ld kB became %ld", before, peak_kb(&h));
    assert_int_equal(host_end(&h), 0);
}

/* What is too long is refused by its length, at the cost of reading the line. */
static void long_texts_cost_their_line(void **state)
{
    (void)state;
    enum { BYTES = 16 << 20 };
    struct host h;
    char *text = malloc(BYTES + 1);
    assert_non_null(text);
    memset(text, 'a', BYTES);
    for (int i = 1; i < BYTES; i += 2)
        text[i] = ' ';
    text[BYTES] = '\0';
    host_begin(&h, "--root", program_folder());
    host_say_json(&h, json_pack("{s:s,s:s,s:{s:s}}", "type", "tokens", "request_id", "t", "data",
                                "text", text));
    host_must_fail(&h, "t", "LIMIT_EXCEEDED", "data.text");
    host_ask_picture(&h, "p", json_pack("{s:s}", "prompt", text));
    host_must_fail(&h, "p", "LIMIT_EXCEEDED", NULL);
    host_ask_picture(&h, "s", json_pack("{s:s}", "save_path", text));
    host_must_fail(&h, "s", "LIMIT_EXCEEDED", NULL);
    if (peak_kb(&h) > 5 * (BYTES >> 10))
        fail_msg("%ld kB", peak_kb(&h));
    free(text);
    host_must_be_healthy(&h);
    assert_int_equal(host_end(&h), 0);
}

/* ---- a link that comes and goes ---- */

static atomic_bool done;
static atomic_long swaps;

/* "way" and "other" are a folder inside and a link to outside, in turn. */
/* "inspect" of a path: "" and its kind, or the error's code. */
static const char *inspected(struct host *h, const char *id, const char *path, const char *kind)
{
    static char code[40];
    host_say_json(h, json_pack("{s:s,s:s,s:{s:s}}", "type", "inspect", "request_id", id, "data",
                               "path", path));
    json_t *event = host_answer(h, id);
    snprintf(code, sizeof code, "%s", host_text(event, "error_code"));
    if (!*code)
        assert_string_equal(host_text(json_object_get(event, "data"), "kind"), kind);
    json_decref(event);
    return code;
}

/* In a root and in a folder of models, and nowhere else. */
static void pictures_are_inspected_where_files_may_lie(void **state)
{
    (void)state;
    char root[300], models[300];
    struct host h;
    const char *folder = program_folder();
    snprintf(root, sizeof root, "--root=%.200s/root", folder);
    snprintf(models, sizeof models, "--models=%.200s/models", folder);
    assert_int_equal(dr_mkdirs("root", NULL) | dr_mkdirs("models", NULL), 0);
    struct program p;
    program_run(&p, 0, "generate", "-p", "x", "-W", "64", "-H", "64", "--steps", "1", "-o",
                "outside.png", NULL);
    program_free(&p);
    assert_int_equal(link("outside.png", "root/x.png") | link("outside.png", "models/y.png"), 0);
    assert_int_equal(symlink("../outside.png", "root/out.png"), 0);
    assert_int_equal(symlink("../outside.png", "models/out.png"), 0);
    host_begin(&h, root, models);
    assert_string_equal(inspected(&h, "a", "root/x.png", "picture"), "");
    assert_string_equal(inspected(&h, "b", "models/y.png", "picture"), "");
    static const char *const outside[] = { "outside.png", "root/out.png", "models/out.png",
                                           "root/../outside.png", "/etc/passwd" };
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++)
        if (!*inspected(&h, "c", outside[i], ""))
            fail_msg("%s: read", outside[i]);
    assert_int_equal(host_end(&h), 0);
}

static void *swap_all_the_time(void *ctx)
{
    (void)ctx;
    while (!atomic_load(&done) &&
           !renameat2(AT_FDCWD, "root/way", AT_FDCWD, "root/other", RENAME_EXCHANGE))
        atomic_fetch_add(&swaps, 1);
    return NULL;
}

static void a_link_put_in_meanwhile_leads_nowhere(void **state)
{
    (void)state;
    struct host h;
    pthread_t thread;
    char root[300], path[400], id[20];
    int drawn = 0;
    const char *folder = program_folder();
    snprintf(root, sizeof root, "%s/root", folder);
    assert_int_equal(mkdir("root", 0777) | mkdir("root/way", 0777) | mkdir("outside", 0777) |
                         symlink("../outside", "root/other"),
                     0);
    write_sparse("outside/image.npy", 3 * 48 * 64);
    host_begin(&h, "--root", root);
    assert_int_equal(pthread_create(&thread, NULL, swap_all_the_time, NULL), 0);
    int i = 0; /* until both sides had their chances */
    for (; i < RACE_REQUESTS && (i < 40 || drawn < 5 || atomic_load(&swaps) < 2000); i++) {
        snprintf(id, sizeof id, "r%d", i);
        snprintf(path, sizeof path, "%s/way/%d", root, i);
        host_ask_picture(
            &h, id, json_pack("{s:s,s:i}", i % 2 ? "save_path" : "dump_stages", path, "steps", 1));
        json_t *event = host_answer(&h, id);
        drawn += json_is_true(json_object_get(event, "success"));
        json_decref(event);
        snprintf(path, sizeof path, "%s/way/image.npy", root);
        host_ask_picture(&h, id,
                         json_pack("{s:{s:s},s:i}", "load_stage", "image", path, "steps", 1));
        event = host_answer(&h, id); /* its contents would say another shape */
        assert_true(json_is_false(json_object_get(event, "success")));
        assert_null(strstr(host_text(event, "error"), "9216"));
        json_decref(event);
        snprintf(path, sizeof path, "%s/way/copy%d", root, i);
        host_say_json(&h, json_pack("{s:s,s:s,s:{s:s,s:s,s:b}}", "type", "convert", "request_id",
                                    id, "data", "model", "/nowhere", "output", path, "int8", 1));
        json_decref(host_answer(&h, id));
    }
    atomic_store(&done, true);
    pthread_join(thread, NULL);
    assert_int_equal(host_end(&h), 0);
    print_message("%d of %d drawn, %ld swaps\n", drawn, i, atomic_load(&swaps));
    assert_int_equal(program_entries("outside"), 1);
    assert_true(drawn > 0 && atomic_load(&swaps) >= 2000);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(names_are_never_used_twice),
    cmocka_unit_test(two_workers_with_one_id_keep_all_pictures),
    cmocka_unit_test(new_files_have_the_usual_mode),
    cmocka_unit_test(a_picture_that_cannot_be_written_is_an_error),
    cmocka_unit_test(a_cancelled_job_removes_nothing_of_others),
    cmocka_unit_test(a_folder_may_go_while_a_job_draws),
    cmocka_unit_test(stages_are_never_replaced),
    cmocka_unit_test(hostile_stages_are_refused_before_a_step),
    cmocka_unit_test(long_texts_cost_their_line),
    cmocka_unit_test(pictures_are_inspected_where_files_may_lie),
    cmocka_unit_test(a_link_put_in_meanwhile_leads_nowhere),
};

int main(int argc, char **argv)
{
    jx_init();
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
