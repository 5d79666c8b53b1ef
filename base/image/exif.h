/* exif.h - one UserComment in an EXIF block, the way AUTOMATIC1111 stores its parameters in JPEG
 * and WebP: TIFF big-endian, ExifIFD tag 0x9286, "UNICODE\0" and UTF-16. */
#ifndef DR_BASE_IMAGE_EXIF_H
#define DR_BASE_IMAGE_EXIF_H

#include "base/buf.h"
#include "base/error.h"

/* Appends a TIFF block (without the "Exif\0\0" that JPEG puts before it). */
int exif_make(const char *comment, struct buf *dst, struct dr_error *err);

/* The comment as UTF-8 appended to dst; either byte order, ASCII too. DR_ENOENT when there is none,
 * DR_EFORMAT when the block is damaged. */
int exif_comment(const void *bytes, size_t n, struct buf *dst);

#endif
