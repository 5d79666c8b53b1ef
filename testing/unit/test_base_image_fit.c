/* test_base_image_fit.c - pictures at other sizes and masks, against Pillow's and diffusers' bytes
 * (tools/golden/image_to_image.py). */
#include "testing/helpers/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/image/fit.h"
#include "base/image/mask.h"
#include "base/npy.h"
#include "testing/helpers/base_files.h"

static struct dr_image decoded(const char *name, int channels)
{
    char path[300];
    struct buf file;
    struct dr_image image = { 0 };
    struct dr_error err;
    snprintf(path, sizeof path, "testing/golden/img2img/%s", name);
    buf_init(&file, DR_TAG_FILE, 0);
    if (dr_read_file(test_source(path), 1 << 20, &file, &err) < 0 ||
        img_decode(file.data, file.len, channels, &image, NULL, &err) < 0)
        fail_msg("%s", err.text);
    buf_free(&file);
    return image;
}

/* Largest difference from the reference's pixels. */
static int difference(const struct dr_image *image, const char *name)
{
    char path[300];
    struct npy a;
    struct dr_error err;
    int most = 0;
    snprintf(path, sizeof path, "testing/golden/img2img/%s.npy", name);
    if (npy_load(test_source(path), &a, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(a.shape[0], image->height);
    assert_int_equal(a.shape[1], image->width);
    assert_int_equal(a.shape[2], image->channels);
    for (int64_t i = 0; i < a.count; i++) {
        int d = abs(((const uint8_t *)a.data)[i] - image->pixels[i]);
        most = d > most ? d : most;
    }
    npy_free(&a);
    return most;
}

static void sizes_are_the_references(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum img_fit how;
        int64_t width, height;
    } cases[] = { { "crop", IMG_FIT_CROP, 40, 64 },
                  { "fit_wide", IMG_FIT_WHOLE, 64, 24 },
                  { "fit_high", IMG_FIT_WHOLE, 24, 40 },
                  { "stretch", IMG_FIT_STRETCH, 33, 21 },
                  { "larger", IMG_FIT_CROP, 90, 61 } };
    struct dr_image picture = decoded("picture.png", 3), made;
    struct dr_error err;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (img_fit(&picture, cases[i].how, cases[i].width, cases[i].height, &made, &err) < 0)
            fail_msg("%s", err.text);
        int d = difference(&made, cases[i].name);
        img_free(&made);
        if (d > 0)
            fail_msg("%s: off by %d", cases[i].name, d);
    }
    img_free(&picture);
}

static void blurs_are_the_references(void **state)
{
    (void)state;
    static const double radii[] = { 0.7, 3.5, 20 };
    struct dr_error err;
    for (size_t i = 0; i < sizeof radii / sizeof *radii; i++) {
        char name[32];
        struct dr_image mask = decoded("mask.png", 1);
        snprintf(name, sizeof name, "blur_%g", radii[i]);
        assert_int_equal(mask_blur(&mask, radii[i], &err), 0);
        int d = difference(&mask, name);
        img_free(&mask);
        if (d > 0)
            fail_msg("%s: off by %d", name, d);
    }
}

/* A mask of 12 x 10 with 255 in x 3..5, y 4..4. */
static struct dr_image small_mask(void)
{
    struct dr_image mask;
    assert_int_equal(img_new(12, 10, 1, &mask, NULL), 0);
    memset(mask.pixels, 0, 120);
    memset(mask.pixels + 4 * 12 + 3, 255, 3);
    return mask;
}

/* As the largest value around each place, however wide. */
static void masks_grow_as_defined(void **state)
{
    (void)state;
    enum { N = 37 };
    static const int widths[] = { 1, 5, 36, 37, 400 };
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
        uint8_t before[N], line[N];
        struct dr_image mask = { .pixels = line, .width = N, .height = 1, .channels = 1 };
        for (int i = 0; i < N; i++)
            line[i] = before[i] = (uint8_t)(i % 7 ? i * 151 : 255 - i);
        assert_int_equal(mask_grow(&mask, widths[w], NULL), 0);
        for (int i = 0; i < N; i++) {
            int most = 0;
            for (int k = 0; k < N; k++)
                if (abs(k - i) <= widths[w] && before[k] > most)
                    most = before[k];
            assert_int_equal(line[i], most);
        }
    }
}

static void masks_grow_in_every_direction(void **state)
{
    (void)state;
    struct dr_image mask = small_mask();
    struct mask_box box;
    assert_int_equal(mask_grow(&mask, 2, NULL), 0);
    assert_true(mask_region(&mask, 0, 7, 5, &box));
    assert_true(box.x == 1 && box.end_x == 8 && box.y == 2 && box.end_y == 7);
    assert_int_equal(mask.pixels[2 * 12 + 1], 255); /* the corner too */
    mask_invert(&mask);
    assert_true(mask.pixels[2 * 12 + 1] == 0 && mask.pixels[0] == 255);
    memset(mask.pixels, 0, 120);
    assert_false(mask_region(&mask, 0, 7, 5, &box));
    img_free(&mask);
}

/* Values of diffusers' get_crop_region. */
static void a_region_has_the_pictures_proportions(void **state)
{
    (void)state;
    struct dr_image mask = small_mask();
    struct mask_box box;
    assert_true(mask_region(&mask, 1, 64, 64, &box));
    assert_true(box.x == 2 && box.end_x == 7 && box.y == 2 && box.end_y == 7);
    assert_true(mask_region(&mask, 3, 32, 64, &box)); /* higher than the mask: all of it */
    assert_true(box.x == 0 && box.end_x == 9 && box.y == 0 && box.end_y == 10);
    img_free(&mask);
}

static void what_is_half_marked_is_marked(void **state)
{
    (void)state;
    struct dr_image mask = small_mask();
    mask.pixels[0] = 127;
    mask.pixels[1] = 128;
    mask_cut(&mask);
    assert_true(mask.pixels[0] == 0 && mask.pixels[1] == 255);
    img_free(&mask);
}

/* tools/golden/images.py: Pillow's exif_transpose, and libjpeg's rounding between the two. */
static void pictures_are_put_upright(void **state)
{
    (void)state;
    for (int way = 1; way <= 8; way++) {
        char name[60];
        snprintf(name, sizeof name, "../image/turned_%d.jpg", way);
        struct dr_image image = decoded(name, 0);
        snprintf(name, sizeof name, "../image/turned_%d", way);
        int d = difference(&image, name);
        img_free(&image);
        if (d > 1)
            fail_msg("orientation %d: off by %d", way, d);
    }
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_the_references),
        cmocka_unit_test(blurs_are_the_references),
        cmocka_unit_test(masks_grow_as_defined),
        cmocka_unit_test(masks_grow_in_every_direction),
        cmocka_unit_test(a_region_has_the_pictures_proportions),
        cmocka_unit_test(what_is_half_marked_is_marked),
        cmocka_unit_test(pictures_are_put_upright),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
