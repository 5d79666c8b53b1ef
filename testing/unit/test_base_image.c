/* Pictures: what we write comes back, what others wrote is read, what is damaged is refused. */
#include "testing/helpers/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/image/image.h"
#include "base/npy.h"
#include "testing/helpers/base_files.h"

static const char infotext[] = "a red circle, \xc3\xa9"
                               "clair \xe6\x97\xa5\xe6\x9c\xac\nNegative prompt: none\n"
                               "Steps: 20, Seed: 1";

static void read_golden(const char *name, struct buf *dst)
{
    char path[128];
    struct dr_error err;
    snprintf(path, sizeof path, "testing/golden/image/%s", name);
    buf_init(dst, DR_TAG_TEST, 0);
    if (dr_read_file(test_source(path), 1 << 20, dst, &err))
        fail_msg("%s", err.text);
}

/* Smooth colours with some noise. */
static struct dr_image make_picture(int64_t width, int64_t height, int channels)
{
    struct dr_image image = { 0, 0, 0, NULL };
    assert_int_equal(img_new(width, height, channels, &image, NULL), 0);
    for (int64_t i = 0; i < width * height * channels; i++)
        image.pixels[i] = (uint8_t)(i * i / 7 + i * 31);
    return image;
}

static int largest_difference(const struct dr_image *a, const uint8_t *b)
{
    int worst = 0;
    for (int64_t i = 0; i < a->width * a->height * a->channels; i++) {
        int d = abs(a->pixels[i] - b[i]);
        worst = d > worst ? d : worst;
    }
    return worst;
}

static void assert_text(const struct img_texts *texts, const char *key, const char *expected)
{
    const char *found = img_texts_find(texts, key);
    assert_non_null(found);
    assert_string_equal(found, expected);
}

static void pictures_go_round(void **state)
{
    (void)state;
    uint64_t blocks = test_blocks();
    static const int channel_counts[] = { 1, 3, 4 };
    const struct img_text texts[] = { { "parameters", infotext }, { "receipt", "{\"seed\":1}" } };
    for (int i = 0; i < 3; i++) {
        for (int f = 0; f < IMG_FORMAT_COUNT; f++) {
            struct dr_image image = make_picture(33, 21, channel_counts[i]), back;
            struct img_encode_options o = { .lossless = 1, .texts = texts, .text_count = 2 };
            struct img_texts found = { NULL, 0 };
            struct dr_error err;
            struct buf file;
            int64_t w = 0, h = 0;
            buf_init(&file, DR_TAG_TEST, 0);
            if (img_encode(&image, (enum img_format)f, &o, &file, &err) ||
                img_probe(file.data, file.len, &w, &h, &err) ||
                img_decode(file.data, file.len, image.channels, &back, &found, &err))
                fail_msg("%s", err.text);
            assert_int_equal(img_sniff(file.data, file.len), f);
            assert_true(w == 33 && h == 21 && back.width == 33 && back.height == 21);
            assert_text(&found, "parameters", infotext);
            if (f != IMG_JPEG)
                assert_int_equal(largest_difference(&back, image.pixels), 0);
            if (f == IMG_PNG)
                assert_text(&found, "receipt", "{\"seed\":1}");
            img_free(&image);
            img_free(&back);
            img_texts_free(&found);
            buf_free(&file);
        }
    }
    assert_int_equal(test_blocks(), blocks);
}

static void lossy_is_close(void **state)
{
    (void)state;
    for (int f = IMG_JPEG; f <= IMG_WEBP; f++) {
        struct dr_image image = make_picture(64, 64, 3), back;
        for (int i = 0; i < 64 * 64 * 3; i++)
            image.pixels[i] = (uint8_t)(i / 3 % 64 * 2 + i / 192 + i % 3 * 20);
        struct buf fine, coarse;
        buf_init(&fine, DR_TAG_TEST, 0);
        buf_init(&coarse, DR_TAG_TEST, 0);
        assert_int_equal(img_encode(&image, (enum img_format)f, NULL, &fine, NULL), 0);
        struct img_encode_options o = { .quality = 20 };
        assert_int_equal(img_encode(&image, (enum img_format)f, &o, &coarse, NULL), 0);
        assert_true(coarse.len < fine.len);
        assert_int_equal(img_decode(fine.data, fine.len, 0, &back, NULL, NULL), 0);
        assert_int_equal(back.channels, 3);
        assert_true(largest_difference(&back, image.pixels) <= 12);
        img_free(&back);
        img_free(&image);
        buf_free(&fine);
        buf_free(&coarse);
    }
}

static void others_pictures_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *file, *pixels;
        int tolerance; /* JPEG decoders may differ in rounding */
    } known[] = {
        { "rgb_text.png", "rgb_text", 0 },
        { "rgba.png", "rgba", 0 },
        { "grey_alpha.png", "grey_alpha", 0 },
        { "palette.png", "palette", 0 },
        { "palette_alpha.png", "palette_alpha", 0 },
        { "bits1.png", "bits1", 0 },
        { "grey16.png", "grey16", 0 },
        { "interlaced.png", "interlaced", 0 },
        { "plain.jpg", "plain", 2 },
        { "progressive.jpg", "progressive", 2 },
        { "grey.jpg", "grey", 2 },
        { "lossless.webp", "lossless", 0 },
        { "alpha.webp", "alpha", 0 },
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        struct buf file;
        struct dr_image image;
        struct dr_error err;
        struct npy expected;
        char path[128];
        read_golden(known[i].file, &file);
        snprintf(path, sizeof path, "testing/golden/image/%s.npy", known[i].pixels);
        if (img_decode(file.data, file.len, 0, &image, NULL, &err) ||
            npy_load(test_source(path), &expected, &err))
            fail_msg("%s: %s", known[i].file, err.text);
        assert_int_equal(expected.count, image.width * image.height * image.channels);
        if (largest_difference(&image, expected.data) > known[i].tolerance)
            fail_msg("%s: differs by %d", known[i].file, largest_difference(&image, expected.data));
        npy_free(&expected);
        img_free(&image);
        buf_free(&file);
    }
}

static void others_texts_are_read(void **state)
{
    (void)state;
    struct buf file;
    struct dr_image image;
    struct img_texts texts;
    read_golden("rgb_text.png", &file);
    assert_int_equal(img_decode(file.data, file.len, 3, &image, &texts, NULL), 0);
    img_free(&image);
    assert_text(&texts, "parameters", infotext);
    assert_text(&texts, "Software", "na\xc3\xafve");
    assert_null(img_texts_find(&texts, "nothing"));
    img_texts_free(&texts);
    buf_free(&file);
    read_golden("exif_little.jpg", &file); /* little-endian block, big-endian text */
    assert_int_equal(img_decode(file.data, file.len, 3, &image, &texts, NULL), 0);
    assert_text(&texts, "parameters", infotext);
    img_texts_free(&texts);
    img_free(&image);
    buf_free(&file);
    read_golden("text_bomb.png",
                &file); /* 16 MiB from 16 KiB: the picture is fine, the text is dropped */
    assert_int_equal(img_decode(file.data, file.len, 1, &image, &texts, NULL), 0);
    assert_int_equal(image.pixels[0], 0x7f);
    assert_null(img_texts_find(&texts, "bomb"));
    img_texts_free(&texts);
    img_free(&image);
    buf_free(&file);
}

static void channels_are_converted(void **state)
{
    (void)state;
    struct dr_image image = make_picture(1, 1, 4);
    memcpy(image.pixels, "\xff\x80\x00\x07", 4);
    assert_int_equal(img_convert(&image, 3, NULL), 0);
    assert_memory_equal(image.pixels, "\xff\x80\x00", 3);
    assert_int_equal(img_convert(&image, 4, NULL), 0);
    assert_memory_equal(image.pixels, "\xff\x80\x00\xff", 4);
    assert_int_equal(img_convert(&image, 1, NULL), 0);
    assert_int_equal(image.pixels[0], 151); /* 0.299 * 255 + 0.587 * 128 */
    assert_int_equal(img_convert(&image, 3, NULL), 0);
    assert_memory_equal(image.pixels, "\x97\x97\x97", 3);
    assert_int_equal(img_convert(&image, 2, NULL), DR_EINVAL);
    img_free(&image);
    img_free(NULL);
}

static void bad_requests_are_refused(void **state)
{
    (void)state;
    struct dr_image image;
    struct dr_error err;
    assert_int_equal(img_new(0, 5, 3, &image, &err), DR_EINVAL);
    assert_int_equal(img_new(5, -1, 3, &image, &err), DR_EINVAL);
    assert_int_equal(img_new(IMG_MAX_EDGE + 1, 1, 3, &image, &err), DR_ELIMIT);
    assert_int_equal(img_new(IMG_MAX_EDGE, IMG_MAX_EDGE, 3, &image, &err), DR_ELIMIT);
    assert_int_equal(img_new(INT64_MAX, INT64_MAX, 3, &image, &err), DR_ELIMIT);
    assert_int_equal(img_decode("GIF89a..........", 16, 3, &image, NULL, &err), DR_EFORMAT);
    assert_int_equal(img_decode("", 0, 3, &image, NULL, &err), DR_EFORMAT);
    struct buf file;
    read_golden("cmyk.jpg", &file);
    assert_int_equal(img_decode(file.data, file.len, 3, &image, NULL, &err), DR_EUNSUPPORTED);
    buf_free(&file);
    read_golden("animation.webp", &file);
    assert_int_equal(img_decode(file.data, file.len, 3, &image, NULL, &err), DR_EUNSUPPORTED);
    buf_free(&file);
    image = make_picture(8, 8, 3);
    const struct img_text bad[] = { { "", "empty key" }, { "parameters", "\xff" } };
    for (int i = 0; i < 2; i++) {
        struct img_encode_options o = { .texts = &bad[i], .text_count = 1 };
        assert_int_equal(img_encode(&image, IMG_PNG, &o, &file, &err), DR_EINVAL);
        if (i)
            assert_int_equal(img_encode(&image, IMG_JPEG, &o, &file, &err), DR_EINVAL);
        if (i)
            assert_int_equal(img_encode(&image, IMG_WEBP, &o, &file, &err), DR_EINVAL);
    }
    for (int f = 0; f < IMG_FORMAT_COUNT; f++) { /* no room: nothing stays */
        buf_init(&file, DR_TAG_TEST, 40);
        assert_int_equal(buf_puts(&file, "before"), 0);
        assert_true(img_encode(&image, (enum img_format)f, NULL, &file, &err) < 0);
        assert_string_equal(buf_text(&file), "before");
        buf_free(&file);
    }
    img_free(&image);
    assert_int_equal(img_format_of(".JPG"), IMG_JPEG);
    assert_int_equal(img_format_of("webp"), IMG_WEBP);
    assert_int_equal(img_format_of("bmp"), -1);
    assert_string_equal(img_format_name(IMG_JPEG), "jpeg");
}

static void a_stop_ends_the_encoding(void **state)
{
    (void)state;
    atomic_int stop = 1;
    struct img_encode_options o = { .stop = &stop };
    struct dr_image image = make_picture(64, 64, 3);
    for (int f = 0; f < IMG_FORMAT_COUNT; f++) {
        struct dr_error err;
        struct buf file;
        buf_init(&file, DR_TAG_TEST, 0);
        assert_int_equal(buf_puts(&file, "before"), 0);
        assert_int_equal(img_encode(&image, (enum img_format)f, &o, &file, &err), DR_ECANCELED);
        assert_string_equal(buf_text(&file), "before");
        buf_free(&file);
    }
    img_free(&image);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(pictures_go_round),        cmocka_unit_test(lossy_is_close),
    cmocka_unit_test(others_pictures_are_read), cmocka_unit_test(others_texts_are_read),
    cmocka_unit_test(channels_are_converted),   cmocka_unit_test(bad_requests_are_refused),
    cmocka_unit_test(a_stop_ends_the_encoding),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
