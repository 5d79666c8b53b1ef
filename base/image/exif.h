/* exif.h - how a picture lies, and two texts, in an EXIF block: "parameters" as UserComment, as
 * AUTOMATIC1111 stores it in JPEG and WebP (TIFF big-endian, ExifIFD tag 0x9286, "UNICODE\0" and
 * UTF-16), and "darkroom" as MakerNote (tag 0x927c, "darkroom\0" and UTF-8), which is for the
 * maker's own use. */
#ifndef DR_BASE_IMAGE_EXIF_H
#define DR_BASE_IMAGE_EXIF_H

#include "base/buf.h"
#include "base/error.h"
#include "base/image/image.h"

/* Appends a TIFF block, without the "Exif\0\0" that JPEG puts before it. note: NULL for none. */
int exif_make(const char *comment, const char *note, struct buf *dst, struct dr_error *err);

/* The comment as UTF-8 appended to dst; either byte order, ASCII too. DR_ENOENT when there is none,
 * DR_EFORMAT when the block is damaged. */
int exif_comment(const void *bytes, size_t n, struct buf *dst);

/* EXIF's number of how the picture lies, 1 to 8; 1 (upright) where there is none. */
int exif_orientation(const void *bytes, size_t n);

/* Adds the texts that exist. A damaged block is not an error of the picture: 0, or DR_ENOMEM. */
int exif_texts(const void *bytes, size_t n, struct img_texts *texts);

#endif
