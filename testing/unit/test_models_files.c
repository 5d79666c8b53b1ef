/* test_models_files.c - the files of a model: opened once, beneath a folder, and noticed when any
 * of them changes. */
#include "testing/helpers/test.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "models/model_files.h"
#include "testing/helpers/safetensors_writer.h"

static struct dr_error err;

static const char *at(const char *name)
{
    static char paths[4][600];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", test_dir(), name);
    return path;
}

static struct model_root root_at(const char *name)
{
    static char real[DR_PATH_MAX];
    assert_int_equal(dr_realpath(real, sizeof real, at(name), &err), 0);
    int fd = open(real, O_PATH | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    return (struct model_root){ fd, real };
}

static const char *in_root(const struct model_root *root, const char *name)
{
    static char path[DR_PATH_MAX];
    assert_int_equal(dr_path_join(path, sizeof path, root->folder, name), 0);
    return path;
}

/* ---- what is noticed ---- */

enum { PARTS = 5 };
static const char *const part[PARTS] = { "model_index.json", "unet/config.json", "unet/w", "absent",
                                         "tokenizer/absent" };

/* A model that is read, with two files that are not there and two folders, one there. */
static struct model_files *open_model(void)
{
    struct model_files *m;
    const struct model_file *f;
    bool is;
    assert_int_equal(model_files_open(NULL, at("model"), &m, &err), 0);
    for (int i = 0; i < PARTS; i++) {
        assert_int_equal(model_files_find(m, part[i], i == 2 ? 0 : 1000, &f, &err), 0);
        assert_int_equal(f != NULL, i < 3);
    }
    assert_int_equal(model_files_has_folder(m, "unet", &is, &err), 0);
    assert_true(is);
    assert_int_equal(model_files_has_folder(m, "tokenizer_2", &is, &err), 0);
    assert_false(is);
    assert_true(model_files_current(m));
    return m;
}

static void make_model(void)
{
    test_write_text(at("model/model_index.json"), "{}");
    test_write_text(at("model/unet/config.json"), "{\"a\":1}");
    test_write_text(at("model/unet/w"), "weights");
    test_write_text(at("model/tokenizer/x"), "");
    unlink(at("model/absent"));
    unlink(at("model/tokenizer/absent"));
    rmdir(at("model/tokenizer_2"));
}

static void edit(const char *path)
{
    int fd = open(path, O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "!", 1, 0), 1);
    close(fd);
}

/* In place, with the same size and the old time of modification. */
static void edit_in_secret(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    usleep(20000);
    edit(path);
    struct timespec times[2] = { st.st_atim, st.st_mtim };
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void replace(const char *path)
{
    test_write_text(at("new"), "{\"a\":1}");
    assert_int_equal(rename(at("new"), path), 0);
}

static void put_link(const char *path)
{
    assert_int_equal(rename(path, at("moved")), 0);
    test_write_text(at("target"), "{\"a\":1}");
    assert_int_equal(symlink(at("target"), path), 0);
}

static void remove_it(const char *path)
{
    assert_int_equal(unlink(path), 0);
}

static void every_change_is_noticed(void **state)
{
    (void)state;
    static void (*const changes[])(const char *path) = { edit, edit_in_secret, replace, put_link,
                                                         remove_it };
    uint64_t blocks = test_blocks();
    for (size_t k = 0; k < sizeof changes / sizeof *changes; k++)
        for (int i = 0; i < 3; i++) {
            char path[600];
            make_model();
            struct model_files *m = open_model();
            snprintf(path, sizeof path, "%s/%s", at("model"), part[i]);
            usleep(20000); /* times of files are kept in steps */
            changes[k](path);
            if (model_files_current(m))
                fail_msg("change %zu of %s was not noticed", k, part[i]);
            model_files_close(m);
            unlink(path);
        }
    assert_int_equal(test_blocks(), blocks);
}

static void what_appears_is_noticed(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        make_model();
        struct model_files *m = open_model();
        if (i == 0)
            test_write_text(at("model/absent"), "{}");
        else if (i == 1)
            test_write_text(at("model/tokenizer/absent"), "");
        else if (i == 2)
            assert_int_equal(mkdir(at("model/tokenizer_2"), 0777), 0);
        else
            assert_int_equal(rename(at("model/unet"), at("gone")), 0);
        assert_false(model_files_current(m));
        model_files_close(m);
    }
}

static void a_link_that_is_swapped_is_noticed(void **state)
{
    (void)state;
    make_model();
    assert_int_equal(rename(at("model/unet"), at("unet1")), 0);
    test_write_text(at("unet2/config.json"), "{\"a\":1}");
    test_write_text(at("unet2/w"), "weights");
    assert_int_equal(symlink("../unet1", at("model/unet")), 0);
    struct model_files *m = open_model();
    assert_int_equal(unlink(at("model/unet")), 0);
    assert_int_equal(symlink("../unet2", at("model/unet")), 0);
    assert_false(model_files_current(m));
    model_files_close(m);
}

static void other_files_do_not_matter(void **state)
{
    (void)state;
    make_model();
    struct model_files *m = open_model();
    test_write_text(at("model/README.md"), "x");
    test_write_text(at("model/unet/other.safetensors"), "x");
    assert_int_equal(symlink("/nowhere", at("model/dangling")), 0);
    assert_int_equal(chmod(at("model"), 0700), 0);
    assert_true(model_files_current(m));
    model_files_close(m);
    /* a file where a folder was looked for: still no folder */
    test_write_text(at("model/tokenizer_2"), "x");
    m = open_model();
    assert_true(model_files_current(m));
    model_files_close(m);
    unlink(at("model/tokenizer_2"));
}

/* ---- what is opened ---- */

static void a_name_is_opened_once(void **state)
{
    (void)state;
    const struct model_file *a, *b;
    make_model();
    struct model_files *m = open_model();
    assert_int_equal(model_files_find(m, part[1], 1000, &a, &err), 0);
    replace(at("model/unet/config.json"));
    assert_int_equal(model_files_find(m, part[1], 1000, &b, &err), 0);
    assert_ptr_equal(a, b);
    assert_string_equal(a->text, "{\"a\":1}");
    test_write_text(at("model/absent"), "{}");
    assert_int_equal(model_files_find(m, "absent", 1000, &b, &err), 0);
    assert_null(b);
    model_files_close(m);
}

static void what_cannot_be_a_file(void **state)
{
    (void)state;
    struct model_files *m;
    const struct model_file *f;
    json_t *o = NULL;
    static const struct jx_limits limits = { .bytes = 10 };
    make_model();
    assert_int_equal(mkfifo(at("model/fifo"), 0600), 0);
    test_write_text(at("model/long"), "12345678901");
    test_write_text(at("model/array"), "[]");
    test_write_text(at("model/empty"), "");
    assert_int_equal(model_files_open(NULL, at("absent"), &m, &err), DR_ENOENT);
    assert_int_equal(model_files_open(NULL, at("model"), &m, &err), 0);
    assert_int_equal(model_files_find(m, "unet", 10, &f, &err), DR_EINVAL);
    assert_int_equal(model_files_find(m, "fifo", 10, &f, &err), DR_EINVAL);
    assert_int_equal(model_files_find(m, "long", 10, &f, &err), DR_ELIMIT);
    assert_int_equal(model_files_find(m, "empty", 10, &f, &err), 0);
    assert_int_equal(f->bytes, 0);
    assert_int_equal(model_files_need(m, "absent", 10, &f, &err), DR_ENOENT);
    assert_int_equal(model_files_need(m, "unet/w/x", 10, &f, &err), DR_ENOENT);
    assert_int_equal(model_files_json(m, "array", false, &limits, &o, &err), DR_EFORMAT);
    assert_int_equal(model_files_json(m, "absent", true, &limits, &o, &err), 0);
    assert_null(o);
    model_files_forget_texts(m);
    assert_true(model_files_json(m, "array", false, &limits, &o, &err) < 0);
    model_files_close(m);
}

/* A JSON error says where and what, and quotes nothing of what may be any file. */
static void errors_do_not_quote(void **state)
{
    (void)state;
    struct model_files *m;
    json_t *o = NULL;
    static const struct jx_limits limits = { .bytes = 1000 };
    static const char *const texts[] = { "secret:x:0:0", "{\"a\":1, secret}",
                                         "{\"secret\":1,\"secret\":2}", "{\"a\" \"secret\"}",
                                         "[1] secret" };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        test_write_text(at("model/quoted"), texts[i]);
        assert_int_equal(model_files_open(NULL, at("model"), &m, &err), 0);
        assert_int_equal(model_files_json(m, "quoted", false, &limits, &o, &err), DR_EFORMAT);
        assert_non_null(strstr(err.text, "line 1 column"));
        if (strstr(err.text, "secret"))
            fail_msg("%s", err.text);
        model_files_close(m);
    }
}

static void nothing_leads_out_of_the_root(void **state)
{
    (void)state;
    static const char *const links[][2] = { { "../../outside", "model/unet" },
                                            { "/etc", "model/etc" },
                                            { "../../outside/secret", "model/file" },
                                            { "/proc/self/root/etc", "model/magic" } };
    static const char *const names[] = { "unet/secret",  "etc/passwd",           "file",
                                         "magic/passwd", "../../outside/secret", "/etc/passwd" };
    struct model_files *m;
    const struct model_file *f;
    char link[600], target[600];
    test_write_text(at("outside/secret"), "secret");
    test_write_text(at("root/model/good"), "good");
    test_write_text(at("root/common/blob"), "blob");
    for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
        snprintf(link, sizeof link, "%s/%s", at("root"), links[i][1]);
        assert_int_equal(symlink(links[i][0], link), 0);
    }
    struct model_root root = root_at("root");
    assert_int_equal(symlink("../common/blob", at("root/model/relative")), 0);
    snprintf(target, sizeof target, "%s/common", root.folder);
    assert_int_equal(symlink(target, at("root/model/absolute")), 0);
    assert_int_equal(model_files_open(&root, in_root(&root, "model"), &m, &err), 0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        memset(&err, 0, sizeof err);
        if (model_files_find(m, names[i], 1000, &f, &err) != DR_EINVAL)
            fail_msg("%s: %s", names[i], err.text);
        assert_non_null(strstr(err.text, "leads out of"));
    }
    assert_int_equal(model_files_find(m, "relative", 1000, &f, &err), 0);
    assert_string_equal(f->text, "blob");
    assert_int_equal(model_files_find(m, "absolute/blob", 1000, &f, &err), 0);
    assert_string_equal(f->text, "blob");
    assert_true(model_files_current(m));
    /* a target that leaves later is a change */
    assert_int_equal(unlink(at("root/model/relative")), 0);
    assert_int_equal(symlink("../../outside/secret", at("root/model/relative")), 0);
    assert_false(model_files_current(m));
    model_files_close(m);
    /* the model itself */
    assert_int_equal(symlink("../outside", at("root/out")), 0);
    assert_int_equal(model_files_open(&root, in_root(&root, "out"), &m, &err), DR_EINVAL);
    assert_int_equal(model_files_open(&root, at("outside"), &m, &err), DR_EINVAL);
    close(root.fd);
}

struct swapper {
    atomic_bool end;
    char name[600];
};

static void *swap_links(void *arg)
{
    struct swapper *s = arg;
    char next[700];
    snprintf(next, sizeof next, "%s.next", s->name);
    for (unsigned i = 0; !atomic_load(&s->end); i++) {
        unlink(next);
        if (symlink(i % 2 ? "../../race-outside" : "../inside", next) || rename(next, s->name))
            break;
    }
    return NULL;
}

/* A link that is swapped all the time: what is read is never from outside. */
static void a_race_reads_nothing_outside(void **state)
{
    (void)state;
    static struct swapper s;
    pthread_t thread;
    int inside = 0, refused = 0;
    test_write_text(at("race-outside/file"), "secret");
    test_write_text(at("race/inside/file"), "inside");
    test_write_text(at("race/model/x"), "x");
    snprintf(s.name, sizeof s.name, "%s", at("race/model/part"));
    struct model_root root = root_at("race");
    assert_int_equal(pthread_create(&thread, NULL, swap_links, &s), 0);
    for (int i = 0; i < 3000; i++) {
        struct model_files *m;
        const struct model_file *f;
        assert_int_equal(model_files_open(&root, in_root(&root, "model"), &m, &err), 0);
        int r = model_files_find(m, "part/file", 1000, &f, &err);
        if (!r && f) {
            assert_string_equal(f->text, "inside");
            inside++;
        }
        refused += r != 0;
        model_files_close(m);
    }
    atomic_store(&s.end, true);
    pthread_join(thread, NULL);
    assert_true(inside + refused > 0);
    close(root.fd);
}

static int open_and_read(void *ctx, struct dr_error *e)
{
    struct model_files *m;
    json_t *o = NULL;
    const struct model_file *f;
    bool is;
    static const struct jx_limits limits = { .bytes = 1000 };
    (void)ctx;
    int r = model_files_open(NULL, at("model"), &m, e);
    if (r)
        return r;
    r = model_files_json(m, "model_index.json", false, &limits, &o, e);
    if (!r)
        r = model_files_need(m, "unet/w", 0, &f, e);
    if (!r)
        r = model_files_has_folder(m, "unet", &is, e);
    json_decref(o);
    model_files_close(m);
    return r;
}

static void short_of_memory(void **state)
{
    (void)state;
    make_model();
    jx_init();
    test_oom_walk(open_and_read, NULL);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(every_change_is_noticed),
    cmocka_unit_test(what_appears_is_noticed),
    cmocka_unit_test(a_link_that_is_swapped_is_noticed),
    cmocka_unit_test(other_files_do_not_matter),
    cmocka_unit_test(a_name_is_opened_once),
    cmocka_unit_test(what_cannot_be_a_file),
    cmocka_unit_test(errors_do_not_quote),
    cmocka_unit_test(nothing_leads_out_of_the_root),
    cmocka_unit_test(a_race_reads_nothing_outside),
    cmocka_unit_test(short_of_memory),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
