/* mask.h - pictures of one channel that say where: 255 is all of it, 0 nothing. In place. */
#ifndef DR_BASE_IMAGE_MASK_H
#define DR_BASE_IMAGE_MASK_H

#include <stdbool.h>

#include "base/image/image.h"

void mask_invert(struct dr_image *mask);

/* What is marked grows by so many pixels in every direction, diagonals too. DR_ENOMEM. */
int mask_grow(struct dr_image *mask, int pixels, struct dr_error *err);

/* Pillow's GaussianBlur, of any number of channels: three box blurs each way. DR_ENOMEM. */
int mask_blur(struct dr_image *mask, double radius, struct dr_error *err);

/* What is at least half marked is marked whole, the rest not at all. */
void mask_cut(struct dr_image *mask);

/* A rectangle of pixels: x and y from the first to before the last. */
struct mask_box {
    int64_t x, y, end_x, end_y;
};

/* The rectangle of what is marked, with `padding` around it, in the proportions of width x height
 * as far as the mask reaches: diffusers' VaeImageProcessor.get_crop_region. False: nothing is. */
bool mask_region(const struct dr_image *mask, int padding, int64_t width, int64_t height,
                 struct mask_box *ret);

/* A copy of that part of any picture. */
int img_cut(const struct dr_image *src, const struct mask_box *box, struct dr_image *ret_image,
            struct dr_error *err);

#endif
