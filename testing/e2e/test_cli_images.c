/* test_cli_images.c - pictures to begin with and masks, as people and receipts give them. */
#include "testing/helpers/program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/image/image.h"
#include "testing/helpers/base_files.h"

#define QUICK                                                                                      \
    "generate", "-m", program_model(), "-p", "a red circle", "--steps", "4", "--seed", "5", "-q",  \
        "--image", picture()

enum { WIDTH = 72, HEIGHT = 56 };

static const char *picture(void)
{
    return test_source("testing/golden/img2img/picture.png");
}

static const char *mask(const char *options)
{
    static char text[1200];
    snprintf(text, sizeof text, "%s%s", test_source("testing/golden/img2img/mask.png"), options);
    return text;
}

static struct dr_image read_picture(const char *path, int channels)
{
    struct buf bytes;
    struct dr_image image = { 0 };
    struct dr_error err = { 0 };
    buf_init(&bytes, DR_TAG_TEST, 0);
    if (dr_read_file(path, 64 << 20, &bytes, &err) ||
        img_decode(bytes.data, bytes.len, channels, &image, NULL, &err))
        fail_msg("%s: %s", path, err.text);
    buf_free(&bytes);
    return image;
}

static void run(int status, const char *const *argv, const char *words)
{
    struct program p;
    program_start(&p, argv);
    program_finish(&p);
    if (p.status != status || !strstr(program_err(&p), words))
        fail_msg("%s ...: status %d, expected %d: %s", argv[0], p.status, status, program_err(&p));
    program_free(&p);
}
#define RUN(status, words, ...) run(status, (const char *const[]){ __VA_ARGS__, NULL }, words)

static void must_be_equal(const char *a, const char *b)
{
    struct dr_image x = read_picture(a, 3), y = read_picture(b, 3);
    assert_true(x.width == y.width && x.height == y.height);
    assert_memory_equal(x.pixels, y.pixels, (size_t)(3 * x.width * x.height));
    img_free(&x);
    img_free(&y);
}

/* Counts pixels that differ from the picture's where the mask is black, and where it is white. */
static void count_changed(const char *path, int *ret_black, int *ret_white)
{
    struct dr_image drawn = read_picture(path, 3), from = read_picture(picture(), 3);
    struct dr_image where = read_picture(mask(""), 1);
    *ret_black = *ret_white = 0;
    assert_true(drawn.width == WIDTH && drawn.height == HEIGHT);
    for (int i = 0; i < WIDTH * HEIGHT; i++) {
        bool changed = memcmp(drawn.pixels + (ptrdiff_t)3 * i, from.pixels + (ptrdiff_t)3 * i, 3);
        *(where.pixels[i] ? ret_white : ret_black) += changed;
    }
    img_free(&drawn);
    img_free(&from);
    img_free(&where);
}

static void a_receipt_draws_from_the_same_picture(void **state)
{
    (void)state;
    RUN(0, "", QUICK, "--strength", "0.5", "-o", "a.png");
    RUN(0, "", "generate", "-q", "-m", program_model(), "--from", "a.png", "-o", "b.png");
    must_be_equal("a.png", "b.png");
    /* a file that changed since is refused, and one that is typed is taken */
    RUN(0, "", "generate", "-q", "-m", program_model(), "-p", "x", "--steps", "4", "--image",
        "a.png", "-o", "c.png");
    RUN(0, "", QUICK, "--strength", "0.5", "--seed", "6", "-o", "d.png");
    assert_int_equal(rename("d.png", "a.png"), 0);
    RUN(1, "the picture is not the one that was drawn from", "generate", "-q", "-m",
        program_model(), "--from", "c.png", "-o", "d.png");
    RUN(0, "", "generate", "-q", "-m", program_model(), "--from", "c.png", "--image", "a.png", "-o",
        "d.png");
}

static void what_is_not_marked_keeps_its_bytes(void **state)
{
    (void)state;
    int black, white;
    RUN(0, "", QUICK, "--strength", "1", "--mask", mask(""), "-o", "d.png");
    count_changed("d.png", &black, &white);
    assert_int_equal(black, 0);
    assert_true(white > 400);
    RUN(0, "", "generate", "-q", "-m", program_model(), "--from", "d.png", "-o", "e.png");
    must_be_equal("d.png", "e.png");
    RUN(0, "", QUICK, "--strength", "1", "--mask", mask(",only=4"), "-o", "f.png");
    count_changed("f.png", &black, &white);
    assert_int_equal(black, 0);
    assert_true(white > 400);
    RUN(0, "", QUICK, "--strength", "1", "--mask", mask(",paste_back=false"), "-o", "g.png");
    count_changed("g.png", &black, &white);
    assert_true(black > 400);
}

static void copy_file(const char *from, const char *to)
{
    struct buf bytes;
    struct dr_error err;
    buf_init(&bytes, DR_TAG_TEST, 0);
    assert_int_equal(dr_read_file(from, 64 << 20, &bytes, &err), 0);
    assert_int_equal(dr_write_file(to, bytes.data, bytes.len, &err), 0);
    buf_free(&bytes);
}

static void what_is_read_is_not_replaced(void **state)
{
    (void)state;
    program_folder();
    copy_file(picture(), "in.png");
    copy_file(picture(), "where.png");
    RUN(2, "--output: is the picture of --image", "generate", "-m", program_model(), "-p", "x",
        "--image", "in.png", "-o", "./in.png");
    RUN(2, "--output: is the picture of --mask", "generate", "-m", program_model(), "-p", "x",
        "--image", "in.png", "--mask", "where.png,blur=1", "-o", "where.png");
    must_be_equal("in.png", picture());
    must_be_equal("where.png", picture());
}

static void mistakes_say_what_is_wrong(void **state)
{
    (void)state;
    RUN(2, "expected at least 0.25, which is one", QUICK, "--strength", "0.1", "-o", "x.png");
    RUN(2, "unknown", QUICK, "--mask", mask(",feather=3"), "-o", "x.png");
    RUN(1, "no such file", QUICK, "--mask", "missing.png", "-o", "x.png");
    RUN(2, "--resize", "generate", "-m", program_model(), "-p", "x", "--resize", "fit", "-o",
        "x.png");
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_receipt_draws_from_the_same_picture),
        cmocka_unit_test(what_is_not_marked_keeps_its_bytes),
        cmocka_unit_test(what_is_read_is_not_replaced),
        cmocka_unit_test(mistakes_say_what_is_wrong),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
