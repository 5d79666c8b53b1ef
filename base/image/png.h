/* png.h - PNG through libpng. See image.h for what the parameters mean. */
#ifndef DR_BASE_IMAGE_PNG_H
#define DR_BASE_IMAGE_PNG_H

#include "base/image/image.h"

int png_decode(const void *bytes, size_t n, int channels, struct dr_image *ret_image,
               struct img_texts *ret_texts, struct dr_error *err);
int png_encode(const struct dr_image *image, const struct img_encode_options *options,
               struct buf *dst, struct dr_error *err);

int png_size(const void *bytes, size_t n, int64_t *ret_width, int64_t *ret_height,
             struct dr_error *err);

#endif
