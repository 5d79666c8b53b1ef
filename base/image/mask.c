/* mask.c - see mask.h.
 *
 * The blur is Pillow's (BoxBlur.c): Gwosdek et al. 2011, "Theoretical Foundations of Gaussian
 * Convolution by Extended Box Filtering", in fixed point with 24 bits, so masks that are blurred
 * here and there have the same bytes.
 */
#include "base/image/mask.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"

enum { PASSES = 3, POINT = 24 };

void mask_invert(struct dr_image *mask)
{
    size_t n = (size_t)mask->width * (size_t)mask->height;
    for (size_t i = 0; i < n; i++)
        mask->pixels[i] = (uint8_t)(255 - mask->pixels[i]);
}

void mask_cut(struct dr_image *mask)
{
    size_t n = (size_t)mask->width * (size_t)mask->height;
    for (size_t i = 0; i < n; i++)
        mask->pixels[i] = mask->pixels[i] >= 128 ? 255 : 0;
}

/* A line of n samples `stride` bytes apart. */
struct line {
    uint8_t *at;
    size_t stride;
    int64_t n;
};

typedef void line_fn(const struct line *line, const void *how, uint8_t *copy);

/* fn for every row, then every column, of each channel. */
static int each_line(struct dr_image *image, line_fn *fn, const void *how, struct dr_error *err)
{
    size_t c = (size_t)image->channels, row = (size_t)image->width * c;
    int64_t most = image->width > image->height ? image->width : image->height;
    uint8_t *copy = dr_malloc(DR_TAG_IMAGE, (size_t)most);
    if (!copy)
        return dr_fail(err, DR_ENOMEM, "out of memory for a mask");
    for (int64_t y = 0; y < image->height; y++)
        for (size_t k = 0; k < c; k++) {
            struct line line = { image->pixels + (size_t)y * row + k, c, image->width };
            fn(&line, how, copy);
        }
    for (size_t k = 0; k < row; k++) {
        struct line line = { image->pixels + k, row, image->height };
        fn(&line, how, copy);
    }
    dr_free(copy);
    return 0;
}

static void take_copy(const struct line *line, uint8_t *copy)
{
    for (int64_t i = 0; i < line->n; i++)
        copy[i] = line->at[(size_t)i * line->stride];
}

/* The largest value of a sliding window, by how often each of the 256 is in it. */
static void grow_line(const struct line *line, const void *how, uint8_t *copy)
{
    int64_t pixels = *(const int *)how, count[256] = { 0 };
    int most = 0;
    take_copy(line, copy);
    for (int64_t i = 0; i < pixels && i < line->n; i++) {
        count[copy[i]]++;
        most = copy[i] > most ? copy[i] : most;
    }
    for (int64_t i = 0; i < line->n; i++) {
        if (i + pixels < line->n) {
            int in = copy[i + pixels];
            count[in]++;
            most = in > most ? in : most;
        }
        if (i > pixels)
            count[copy[i - pixels - 1]]--;
        while (most > 0 && !count[most])
            most--;
        line->at[(size_t)i * line->stride] = (uint8_t)most;
    }
}

int mask_grow(struct dr_image *mask, int pixels, struct dr_error *err)
{
    return pixels > 0 ? each_line(mask, grow_line, &pixels, err) : 0;
}

/* A box of 2 radius + 1 whole samples, and a share of the ones beside it. */
struct box {
    int64_t radius;
    uint32_t whole, part;
};

static uint8_t at(const uint8_t *line, int64_t n, int64_t i)
{
    return line[i < 0 ? 0 : i >= n ? n - 1 : i];
}

static void box_line(const struct line *line, const struct box *b, uint8_t *copy)
{
    uint32_t sum = 0;
    take_copy(line, copy);
    for (int64_t i = -b->radius; i <= b->radius; i++)
        sum += at(copy, line->n, i);
    for (int64_t i = 0; i < line->n; i++) {
        uint32_t beside = (uint32_t)at(copy, line->n, i - b->radius - 1) +
                          at(copy, line->n, i + b->radius + 1);
        uint32_t v = sum * b->whole + beside * b->part + (1u << (POINT - 1));
        line->at[(size_t)i * line->stride] = (uint8_t)(v >> POINT);
        sum += at(copy, line->n, i + b->radius + 1);
        sum -= at(copy, line->n, i - b->radius);
    }
}

static void blur_line(const struct line *line, const void *how, uint8_t *copy)
{
    for (int i = 0; i < PASSES; i++)
        box_line(line, how, copy);
}

int mask_blur(struct dr_image *mask, double radius, struct dr_error *err)
{
    double variance = radius * radius / PASSES;
    double whole = floor((sqrt(12 * variance + 1) - 1) / 2);
    double share = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance) /
                   (6 * (variance - (whole + 1) * (whole + 1)));
    float size = (float)(whole + share);
    struct box b = { .radius = (int64_t)size };
    if (!(radius > 0))
        return 0;
    b.whole = (uint32_t)((float)(1 << POINT) / (size * 2 + 1));
    b.part = ((1u << POINT) - (uint32_t)(b.radius * 2 + 1) * b.whole) / 2;
    return each_line(mask, blur_line, &b, err);
}

/* The smallest rectangle around what is marked. */
static bool bounds(const struct dr_image *mask, struct mask_box *ret)
{
    *ret = (struct mask_box){ mask->width, mask->height, 0, 0 };
    for (int64_t y = 0; y < mask->height; y++)
        for (int64_t x = 0; x < mask->width; x++) {
            if (!mask->pixels[y * mask->width + x])
                continue;
            ret->x = x < ret->x ? x : ret->x;
            ret->y = y < ret->y ? y : ret->y;
            ret->end_x = x + 1 > ret->end_x ? x + 1 : ret->end_x;
            ret->end_y = y + 1 > ret->end_y ? y + 1 : ret->end_y;
        }
    return ret->end_x > 0;
}

/* Widens first..end to `wanted`, moved where it would leave 0..n. */
static void widen(int64_t *first, int64_t *end, int64_t wanted, int64_t n)
{
    int64_t more = wanted - (*end - *first);
    *first -= more / 2;
    *end += more - more / 2;
    int64_t over = *end - n;
    if (over > 0) {
        *end -= over;
        *first -= over;
    }
    if (*first < 0) {
        *end -= *first;
        *first = 0;
    }
    *end = *end < n ? *end : n;
}

bool mask_region(const struct dr_image *mask, int padding, int64_t width, int64_t height,
                 struct mask_box *ret)
{
    if (!bounds(mask, ret))
        return false;
    ret->x = ret->x > padding ? ret->x - padding : 0;
    ret->y = ret->y > padding ? ret->y - padding : 0;
    ret->end_x = ret->end_x + padding < mask->width ? ret->end_x + padding : mask->width;
    ret->end_y = ret->end_y + padding < mask->height ? ret->end_y + padding : mask->height;
    double w = (double)(ret->end_x - ret->x), h = (double)(ret->end_y - ret->y);
    double ratio = (double)width / (double)height;
    if (w / h > ratio)
        widen(&ret->y, &ret->end_y, (int64_t)(w / ratio), mask->height);
    else
        widen(&ret->x, &ret->end_x, (int64_t)(h * ratio), mask->width);
    return true;
}

int img_cut(const struct dr_image *src, const struct mask_box *box, struct dr_image *ret_image,
            struct dr_error *err)
{
    size_t c = (size_t)src->channels, width = (size_t)(box->end_x - box->x) * c;
    int r = img_new(box->end_x - box->x, box->end_y - box->y, src->channels, ret_image, err);
    for (int64_t y = 0; !r && y < ret_image->height; y++)
        memcpy(ret_image->pixels + (size_t)y * width,
               src->pixels + (size_t)((box->y + y) * src->width + box->x) * c, width);
    return r;
}
