/* test_cli_embeddings.c - pictures with textual inversions: from the command line and from JSON, by
 * path and by name, and drawn again from a receipt. On the files of tools/golden/embeddings.py. */
#include "testing/helpers/program.h"
#include "testing/helpers/worker_host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/image/image.h"
#include "base/json.h"

#define MODEL "-m", program_model()
#define SMALL "-W", "64", "-H", "48", "--steps", "2", "-s", "5"
#define FOLDER "testing/golden/embeddings"

/* One of 8 buffers in turn. */
static const char *file(const char *name)
{
    static char path[8][300];
    static unsigned turn;
    char relative[160], *dst = path[turn++ % 8];
    snprintf(relative, sizeof relative, FOLDER "/%s.safetensors", name);
    snprintf(dst, sizeof path[0], "%s", test_source(relative));
    return dst;
}

static void read_whole(const char *path, struct buf *ret)
{
    struct dr_error err = { 0 };
    buf_init(ret, DR_TAG_TEST, 0);
    if (dr_read_file(path, 64 << 20, ret, &err))
        fail_msg("%s", err.text);
}

static void copy(const char *from, const char *to)
{
    struct buf bytes;
    read_whole(from, &bytes);
    assert_int_equal(dr_write_file(to, bytes.data, bytes.len, NULL), 0);
    buf_free(&bytes);
}

static bool equal(const char *a, const char *b)
{
    struct buf bytes[2];
    struct dr_image image[2];
    struct dr_error err = { 0 };
    for (int i = 0; i < 2; i++) {
        read_whole(i ? b : a, &bytes[i]);
        if (img_decode(bytes[i].data, bytes[i].len, 3, &image[i], NULL, &err))
            fail_msg("%s", err.text);
        buf_free(&bytes[i]);
    }
    bool same = !memcmp(image[0].pixels, image[1].pixels, 3 * 64 * 48);
    img_free(&image[0]);
    img_free(&image[1]);
    return same;
}

static void run(int status, const char *const *argv, const char *words)
{
    struct program p;
    program_start(&p, argv);
    program_finish(&p);
    if (p.status != status || !strstr(program_err(&p), words))
        fail_msg("status %d, expected %d and '%s': %s", p.status, status, words, program_err(&p));
    program_free(&p);
}
#define RUN(status, words, ...) run(status, (const char *const[]){ __VA_ARGS__, NULL }, words)
#define DRAW(prompt, ...) "generate", MODEL, SMALL, "-p", prompt, __VA_ARGS__

static void a_word_changes_the_picture(void **state)
{
    (void)state;
    program_folder();
    const char *pair = file("sea-style");
    char named[400], both[400];
    snprintf(named, sizeof named, "%s,token=<sea>", pair);
    snprintf(both, sizeof both, "%s,token=Sea-Style", file("bad-hand"));
    RUN(0, "", DRAW("a red sea-style", "-q", "-o", "plain.png"));
    RUN(0, "", DRAW("a red sea-style", "-q", "-o", "word.png", "--embedding", pair));
    RUN(0, "", DRAW("a red <sea>", "-q", "-o", "named.png", "--embedding", named));
    assert_false(equal("plain.png", "word.png"));
    assert_true(equal("word.png", "named.png"));
    RUN(0, "bad-hand.safetensors has no vectors for the second text encoder",
        DRAW("a red sea-style", "-n", "bad-hand", "-o", "two.png", "--embedding", pair,
             "--embedding", file("bad-hand")));
    assert_false(equal("word.png", "two.png"));
    RUN(0, "is not used: no prompt has 'sea-style'",
        DRAW("a red sea", "-o", "unused.png", "--embedding", pair));
    RUN(2, "another name than that of the embedding",
        DRAW("x", "-o", "never.png", "--embedding", pair, "--embedding", both));
    RUN(1, "tensor emb_params: got vectors of 28, expected ", "validate", "-p", "x", "--embedding",
        file("bad-hand"), "-m", "tiny"); /* another model */
}

/* The receipt names the file and its digest; a file of that name that is another one is refused. */
static void a_picture_with_a_word_is_drawn_again(void **state)
{
    (void)state;
    program_folder();
    copy(file("sea-style"), "sea-style.safetensors");
    copy(file("learned"), "cat.safetensors");
    RUN(0, "",
        DRAW("a sea-style pet", "-q", "-o", "a.png", "--embedding", "sea-style.safetensors",
             "--embedding", "./cat.safetensors,token=pet"));
    RUN(0, "", "generate", MODEL, "--from", "a.png", "-q", "-o", "b.png");
    assert_true(equal("a.png", "b.png"));
    struct program p;
    program_run(&p, 0, "inspect", "a.png", "--json", NULL);
    json_t *o = program_json(&p), *receipt = json_object_get(o, "receipt");
    const json_t *list = json_object_get(receipt, "embeddings"), *cat = json_array_get(list, 1);
    assert_int_equal(json_array_size(list), 2);
    assert_string_equal(host_text(json_array_get(list, 0), "path"), "sea-style.safetensors");
    assert_null(json_object_get(json_array_get(list, 0), "token"));
    assert_string_equal(host_text(cat, "path"), "cat.safetensors");
    assert_string_equal(host_text(cat, "token"), "pet");
    assert_int_equal(strlen(host_text(cat, "sha256")), 64);
    assert_non_null(strstr(host_text(o, "parameters"), "TI hashes: \"sea-style: "));
    json_decref(o);
    program_free(&p);
    copy(file("bad-hand"), "sea-style.safetensors");
    RUN(2, "sha256: got ", "generate", MODEL, "--from", "a.png", "-o", "never.png");
    assert_int_equal(mkdir("e", 0777), 0);
    copy(file("sea-style"), "e/sea-style.safetensors");
    assert_int_equal(
        unlink("sea-style.safetensors") | rename("cat.safetensors", "e/cat.safetensors"), 0);
    RUN(1, "--embedding: got sea-style.safetensors, expected a file, or the name", "generate",
        MODEL, "--from", "a.png", "-o", "never.png");
    assert_int_equal(setenv("DARKROOM_EMBEDDINGS", "e", 1), 0); /* now by their names */
    RUN(0, "", "generate", MODEL, "--from", "a.png", "-q", "-o", "c.png");
    assert_true(equal("a.png", "c.png"));
    assert_int_equal(mkdir("f", 0777), 0);
    copy("e/cat.safetensors", "f/cat.safetensors");
    assert_int_equal(setenv("DARKROOM_EMBEDDINGS", "e:f", 1), 0);
    RUN(2, "/f/cat.safetensors, expected one file of that name",
        DRAW("x", "-o", "never.png", "--embedding", "cat"));
    unsetenv("DARKROOM_EMBEDDINGS");
    assert_int_equal(access("never.png", F_OK), -1);
}

static void a_receipt_names_no_paths(void **state)
{
    (void)state;
    static const char *const receipts[] = {
        "{\"prompt\":\"x\",\"embeddings\":[{\"path\":\"/etc/passwd\",\"sha256\":\"0\"}]}",
        "{\"prompt\":\"x\",\"embeddings\":\"../secret\"}",
    };
    program_folder();
    for (size_t i = 0; i < sizeof receipts / sizeof *receipts; i++) {
        struct dr_image image;
        struct buf bytes;
        struct img_text text = { "darkroom", receipts[i] };
        struct img_encode_options options = { .texts = &text, .text_count = 1 };
        buf_init(&bytes, DR_TAG_TEST, 0);
        assert_int_equal(img_new(16, 16, 3, &image, NULL), 0);
        memset(image.pixels, 9, 3 * 16 * 16);
        assert_int_equal(img_encode(&image, IMG_PNG, &options, &bytes, NULL), 0);
        assert_int_equal(dr_write_file("x.png", bytes.data, bytes.len, NULL), 0);
        img_free(&image);
        buf_free(&bytes);
        RUN(2, "expected a name, not a path", "generate", MODEL, "--from", "x.png", "-o",
            "never.png");
    }
}

/* The worker: spellings of the field, folders of --models, errors with their codes. */
static void requests_in_json(void **state)
{
    (void)state;
    static const char *const spellings[] = {
        "{\"embeddings\":[{\"path\":\"sea-style\"}]}",
        "{\"textual_inversions\":\"sea-style.safetensors\"}",
        "{\"embeddings\":{\"name\":\"sea-style\",\"token\":\"SEA-STYLE\"}}",
    };
    struct host h;
    char command[600];
    json_t *first = NULL;
    const char *folder = program_folder();
    snprintf(command, sizeof command, "mkdir models && cp -r '%s' models/model", program_model());
    assert_int_equal(system(command), 0);
    copy(file("sea-style"), "models/sea-style.safetensors");
    copy(file("sea-style"), "outside.safetensors");
    snprintf(command, sizeof command, "%s/models", folder);
    host_begin(&h, "--models", command);
    for (size_t i = 0; i < sizeof spellings / sizeof *spellings; i++) {
        json_t *data = json_loads(spellings[i], 0, NULL);
        assert_int_equal(jx_set(data, "model", json_string("model")), 0);
        assert_int_equal(jx_set(data, "prompt", json_string("a sea-style")), 0);
        assert_int_equal(jx_set(data, "metadata", json_false()), 0); /* else spellings show */
        host_ask_picture(&h, "a", data);
        json_t *answer = host_answer(&h, "a");
        json_t *images = json_object_get(json_object_get(answer, "data"), "images");
        if (!json_array_size(images))
            fail_msg("%s: %s", spellings[i], host_text(answer, "error"));
        json_t *pixels = json_array_get(images, 0);
        if (!first)
            first = json_incref(pixels);
        assert_true(json_equal(pixels, first));
        json_decref(answer);
    }
    json_decref(first);
    host_ask_picture(&h, "n", json_pack("{s:s,s:s}", "model", "model", "embeddings", "no-such"));
    host_must_fail(&h, "n", "NOT_FOUND", "embeddings[0]");
    snprintf(command, sizeof command, "%s/outside.safetensors", folder);
    host_ask_picture(&h, "o", json_pack("{s:s,s:s}", "model", "model", "embeddings", command));
    host_must_fail(&h, "o", "NOT_FOUND", "embeddings[0]");
    assert_int_equal(host_end(&h), 0);
}

static void such_a_file_is_described(void **state)
{
    (void)state;
    struct program p;
    program_run(&p, 0, "inspect", file("sea-style"), "--json", NULL);
    json_t *o = program_json(&p), *e = json_object_get(o, "embedding");
    assert_string_equal(host_text(o, "kind"), "textual-inversion");
    const json_t *parts = json_object_get(e, "parts"), *second = json_array_get(parts, 1);
    assert_string_equal(host_text(second, "tensor"), "clip_g");
    assert_int_equal(json_integer_value(json_object_get(second, "vectors")), 3);
    assert_int_equal(json_integer_value(json_object_get(second, "width")), 40);
    assert_non_null(strstr(host_text(e, "fits"), "text encoders of these widths"));
    json_decref(o);
    program_free(&p);
    program_run(&p, 0, "inspect", file("learned"), NULL);
    assert_non_null(strstr(program_out(&p), "a textual inversion (embedding), for --embedding"));
    program_free(&p);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_word_changes_the_picture),
    cmocka_unit_test(a_picture_with_a_word_is_drawn_again),
    cmocka_unit_test(a_receipt_names_no_paths),
    cmocka_unit_test(requests_in_json),
    cmocka_unit_test(such_a_file_is_described),
};

int main(int argc, char **argv)
{
    jx_init();
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
