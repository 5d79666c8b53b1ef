/* fit.h - pictures at another size, with the pixels that Pillow gives (Image.resize, LANCZOS). */
#ifndef DR_BASE_IMAGE_FIT_H
#define DR_BASE_IMAGE_FIT_H

#include "base/image/image.h"

/* How a picture of another shape becomes one of a given size: the middle of it, cut; all of it,
 * with its edges drawn out; all of it, out of proportion. */
enum img_fit { IMG_FIT_CROP, IMG_FIT_WHOLE, IMG_FIT_STRETCH };

/* A new picture of that size; the source stays. diffusers' VaeImageProcessor with resize_mode
 * "crop", "fill" and "default". DR_ELIMIT beyond the limits, DR_ENOMEM. */
int img_fit(const struct dr_image *src, enum img_fit how, int64_t width, int64_t height,
            struct dr_image *ret_image, struct dr_error *err);

#endif
