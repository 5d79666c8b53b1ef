/* fit.c - see fit.h.
 *
 * Lanczos with three lobes, in two passes: rows, then columns, each rounded to bytes, with weights
 * of 22 bits behind the point. That is Pillow's arithmetic (ImagingResample), so pictures that are
 * brought to size here and there have the same bytes.
 */
#include "base/image/fit.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/dmath.h"

enum { POINT = 22, LOBES = 3 };

static const double pi = 3.14159265358979323846;

/* For each pixel of one axis: which pixels of the source it is made of, and their weights. */
struct taps {
    int64_t width; /* most weights of a pixel */
    int64_t *first, *n;
    int32_t *weight; /* [pixels][width] */
};

static double sinc(double x)
{
    return x == 0 ? 1 : dr_sin(x * pi) / (x * pi);
}

static double lanczos(double x)
{
    return -LOBES <= x && x < LOBES ? sinc(x) * sinc(x / LOBES) : 0;
}

static void taps_release(struct taps *t)
{
    dr_free(t->first);
    dr_free(t->n);
    dr_free(t->weight);
}

/* Weights of pixel i, whose sum is 1. w: room for them. */
static void weigh(const struct taps *t, int64_t from, int64_t to, int64_t i, double *w)
{
    double scale = (double)from / (double)to, wide = scale < 1 ? 1 : scale;
    double center = ((double)i + 0.5) * scale, support = LOBES * wide, sum = 0;
    int64_t first = (int64_t)fmax(center - support + 0.5, 0);
    int64_t end = (int64_t)fmin(center + support + 0.5, (double)from);
    for (int64_t k = 0; k < end - first; k++) {
        w[k] = lanczos(((double)(k + first) - center + 0.5) / wide);
        sum += w[k];
    }
    t->first[i] = first;
    t->n[i] = end - first;
    for (int64_t k = 0; k < end - first; k++) {
        double fixed = w[k] / sum * (1 << POINT);
        t->weight[i * t->width + k] = (int32_t)(fixed < 0 ? fixed - 0.5 : fixed + 0.5);
    }
}

static int taps_init(struct taps *t, int64_t from, int64_t to, struct dr_error *err)
{
    double scale = (double)from / (double)to;
    t->width = (int64_t)ceil(LOBES * (scale < 1 ? 1 : scale)) * 2 + 1;
    double *w = dr_malloc(DR_TAG_IMAGE, (size_t)t->width * sizeof *w);
    t->first = dr_malloc(DR_TAG_IMAGE, (size_t)to * sizeof *t->first);
    t->n = dr_malloc(DR_TAG_IMAGE, (size_t)to * sizeof *t->n);
    t->weight = dr_malloc(DR_TAG_IMAGE, (size_t)(to * t->width) * sizeof *t->weight);
    bool whole = w && t->first && t->n && t->weight;
    for (int64_t i = 0; whole && i < to; i++)
        weigh(t, from, to, i, w);
    dr_free(w);
    return whole ? 0 : dr_fail(err, DR_ENOMEM, "out of memory for a picture of another size");
}

/* Sample i of a line whose pixels lie `stride` bytes apart. */
static uint8_t sample(const struct taps *t, int64_t i, const uint8_t *line, size_t stride)
{
    const int32_t *w = t->weight + i * t->width;
    const uint8_t *s = line + (size_t)t->first[i] * stride;
    int64_t sum = 1 << (POINT - 1);
    for (int64_t k = 0; k < t->n[i]; k++)
        sum += (int64_t)w[k] * s[(size_t)k * stride];
    sum = sum < 0 ? 0 : sum >> POINT;
    return (uint8_t)(sum > 255 ? 255 : sum);
}

static void resize_rows(const struct taps *t, const struct dr_image *src, struct dr_image *dst)
{
    size_t c = (size_t)src->channels;
    for (int64_t y = 0; y < dst->height; y++) {
        const uint8_t *from = src->pixels + (size_t)(y * src->width) * c;
        uint8_t *to = dst->pixels + (size_t)(y * dst->width) * c;
        for (int64_t x = 0; x < dst->width; x++)
            for (size_t k = 0; k < c; k++)
                to[(size_t)x * c + k] = sample(t, x, from + k, c);
    }
}

static void resize_columns(const struct taps *t, const struct dr_image *src, struct dr_image *dst)
{
    size_t row = (size_t)src->width * (size_t)src->channels;
    for (int64_t y = 0; y < dst->height; y++)
        for (size_t k = 0; k < row; k++)
            dst->pixels[(size_t)y * row + k] = sample(t, y, src->pixels + k, row);
}

static int copy(const struct dr_image *src, struct dr_image *ret, struct dr_error *err)
{
    int r = img_new(src->width, src->height, src->channels, ret, err);
    if (!r)
        memcpy(ret->pixels, src->pixels,
               (size_t)src->width * (size_t)src->height * (size_t)src->channels);
    return r;
}

/* One pass along an axis. */
static int resize_pass(const struct dr_image *src, bool rows, int64_t to, struct dr_image *ret,
                       struct dr_error *err)
{
    struct taps t = { .width = 0 };
    int64_t from = rows ? src->width : src->height;
    if (from == to)
        return copy(src, ret, err);
    int r = img_new(rows ? to : src->width, rows ? src->height : to, src->channels, ret, err);
    if (!r)
        r = taps_init(&t, from, to, err);
    if (!r && rows)
        resize_rows(&t, src, ret);
    else if (!r)
        resize_columns(&t, src, ret);
    taps_release(&t);
    if (r < 0)
        img_free(ret);
    return r;
}

static int img_resize(const struct dr_image *src, int64_t width, int64_t height,
                      struct dr_image *ret_image, struct dr_error *err)
{
    struct dr_image wide = { .pixels = NULL };
    *ret_image = (struct dr_image){ .pixels = NULL };
    int r = resize_pass(src, true, width, &wide, err);
    if (!r)
        r = resize_pass(&wide, false, height, ret_image, err);
    img_free(&wide);
    return r;
}

/* What lies beyond an edge: the pixel there, a little away from the one before it, as Pillow's
 * bicubic filter continues a line. */
static uint8_t beyond(uint8_t edge, uint8_t before)
{
    static const int32_t one = 1 << (POINT - 3);
    int64_t v = ((1 << (POINT - 1)) + (int64_t)(9 * one) * edge - (int64_t)one * before) >> POINT;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

/* The edge of a line of n pixels that position i lies beyond; i itself inside. */
static int64_t inside(int64_t i, int64_t n, int64_t *ret_before)
{
    int64_t at = i < 0 ? 0 : i >= n ? n - 1 : i, before = i < 0 ? 1 : n - 2;
    *ret_before = at == i || n < 2 ? at : before;
    return at;
}

/* The part of src at (left, top), which may reach beyond two of its edges. */
static void cut(const struct dr_image *src, int64_t left, int64_t top, struct dr_image *dst)
{
    size_t c = (size_t)src->channels;
    for (int64_t y = 0; y < dst->height; y++)
        for (int64_t x = 0; x < dst->width; x++) {
            int64_t xb, yb, xs = inside(left + x, src->width, &xb);
            int64_t ys = inside(top + y, src->height, &yb);
            const uint8_t *edge = src->pixels + (size_t)(ys * src->width + xs) * c;
            const uint8_t *before = src->pixels + (size_t)(yb * src->width + xb) * c;
            uint8_t *to = dst->pixels + (size_t)(y * dst->width + x) * c;
            for (size_t k = 0; k < c; k++)
                to[k] = edge == before ? edge[k] : beyond(edge[k], before[k]);
        }
}

int img_fit(const struct dr_image *src, enum img_fit how, int64_t width, int64_t height,
            struct dr_image *ret_image, struct dr_error *err)
{
    /* the reference's whole numbers: which edge is the picture's, and the other in proportion */
    double ratio = (double)width / (double)height;
    double own = (double)src->width / (double)src->height;
    bool wider = how == IMG_FIT_CROP ? ratio > own : ratio < own;
    bool higher = how == IMG_FIT_CROP ? ratio <= own : ratio >= own;
    int64_t w = wider ? width : src->width * height / src->height;
    int64_t h = higher ? height : src->height * width / src->width;
    struct dr_image scaled;
    *ret_image = (struct dr_image){ .pixels = NULL };
    if (how == IMG_FIT_STRETCH || (src->width == width && src->height == height))
        return img_resize(src, width, height, ret_image, err);
    int r = img_resize(src, w < 1 ? 1 : w, h < 1 ? 1 : h, &scaled, err);
    if (!r)
        r = img_new(width, height, src->channels, ret_image, err);
    if (!r)
        cut(&scaled, scaled.width / 2 - width / 2, scaled.height / 2 - height / 2, ret_image);
    img_free(&scaled);
    return r;
}
