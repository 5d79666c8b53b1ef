/* inpaint.c - see inpaint.h. */
#include "conditioning/inpaint.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/image/mask.h"

void inpaint_latent_mask(const struct dr_image *mask, int64_t factor, bool soft, float *ret)
{
    int64_t w = mask->width / factor, h = mask->height / factor;
    /* bilinear without antialiasing at a whole factor: the mean of the four in the middle */
    int64_t a = factor > 1 ? factor / 2 - 1 : 0, b = factor / 2;
    for (int64_t y = 0; y < h; y++)
        for (int64_t x = 0; x < w; x++) {
            const uint8_t *block = mask->pixels + y * factor * mask->width + x * factor;
            int sum = block[a * mask->width + a] + block[a * mask->width + b] +
                      block[b * mask->width + a] + block[b * mask->width + b];
            ret[y * w + x] = soft ? (float)sum / 1020.0f : block[0] >= 128;
        }
}

/* The picture without what is marked: premultiplied, with what is left in a fourth channel. */
static int unmarked(const struct dr_image *picture, const struct dr_image *mask,
                    struct dr_image *ret, struct dr_error *err)
{
    int r = img_new(picture->width, picture->height, 4, ret, err);
    size_t n = (size_t)picture->width * (size_t)picture->height;
    for (size_t i = 0; !r && i < n; i++) {
        int left = 255 - mask->pixels[i];
        for (size_t k = 0; k < 3; k++)
            ret->pixels[4 * i + k] = (uint8_t)((picture->pixels[3 * i + k] * left + 127) / 255);
        ret->pixels[4 * i + 3] = (uint8_t)left;
    }
    return r;
}

/* Lays `top`, which is premultiplied, over the sums of color [n][3] and opacity [n]. */
static void lay_over(const struct dr_image *top, float *color, float *opacity)
{
    size_t n = (size_t)top->width * (size_t)top->height;
    for (size_t i = 0; i < n; i++) {
        float share = (float)top->pixels[4 * i + 3] / 255.0f, rest = 1 - share;
        for (size_t k = 0; k < 3; k++)
            color[3 * i + k] = (float)top->pixels[4 * i + k] + color[3 * i + k] * rest;
        opacity[i] = share + opacity[i] * rest;
    }
}

static int draw_out(struct dr_image *picture, const struct dr_image *clear, float *color,
                    float *opacity, struct dr_error *err)
{
    static const struct {
        double radius;
        int times;
    } layers[] = { { 256, 1 }, { 64, 1 }, { 16, 2 }, { 4, 4 }, { 2, 2 }, { 0, 1 } };
    size_t n = (size_t)picture->width * (size_t)picture->height;
    struct mask_box all = { 0, 0, picture->width, picture->height };
    int r = 0;
    for (size_t k = 0; !r && k < sizeof layers / sizeof *layers; k++) {
        struct dr_image layer = { .pixels = NULL };
        r = img_cut(clear, &all, &layer, err);
        if (!r)
            r = mask_blur(&layer, layers[k].radius, err);
        for (int i = 0; !r && i < layers[k].times; i++)
            lay_over(&layer, color, opacity);
        img_free(&layer);
    }
    for (size_t i = 0; !r && i < 3 * n; i++) {
        float v = opacity[i / 3] > 0 ? color[i] / opacity[i / 3] : 0;
        picture->pixels[i] = (uint8_t)nearbyintf(v > 255 ? 255 : v);
    }
    return r;
}

int inpaint_draw_out(struct dr_image *picture, const struct dr_image *mask, struct dr_error *err)
{
    struct dr_image clear = { .pixels = NULL };
    size_t n = (size_t)picture->width * (size_t)picture->height;
    float *sums = dr_calloc(DR_TAG_JOB, 4 * n, sizeof *sums);
    int r = sums ? unmarked(picture, mask, &clear, err)
                 : dr_fail(err, DR_ENOMEM, "out of memory for a mask's filling");
    if (!r)
        r = draw_out(picture, &clear, sums, sums + 3 * n, err);
    img_free(&clear);
    dr_free(sums);
    return r;
}
