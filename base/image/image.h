/* image.h - 8-bit pictures and their files: PNG, JPEG, WebP.
 *
 * Decoders trust nothing: the size is checked against the limits before memory is allocated, and a
 * picture that ends early or whose checksum is wrong is an error, never half a picture. Encoders
 * are deterministic. A JPEG that lies on its side by EXIF is put upright; colour profiles and gamma
 * are not applied.
 */
#ifndef DR_BASE_IMAGE_IMAGE_H
#define DR_BASE_IMAGE_IMAGE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"

enum { IMG_MAX_EDGE = 16384, IMG_MAX_PIXELS = 40000000 };

enum img_format { IMG_PNG, IMG_JPEG, IMG_WEBP, IMG_FORMAT_COUNT };

struct dr_image {
    int64_t width, height;
    int channels;    /* 1 grey, 3 RGB, 4 RGBA (not premultiplied) */
    uint8_t *pixels; /* [height][width][channels], tag DR_TAG_IMAGE; owned */
};

/* Textual metadata: PNG text chunks; in JPEG and WebP only "parameters" and with it "darkroom"
 * survive, as EXIF UserComment and MakerNote. */
struct img_text {
    const char *key;   /* 1..79 printable Latin-1 characters */
    const char *value; /* UTF-8, never NULL */
};

struct img_texts { /* what a file held; img_texts_free */
    struct img_pair {
        char *key, *value; /* UTF-8 */
    } * pairs;
    size_t count;
};

/* Pixels undefined. DR_ELIMIT beyond the limits. */
int img_new(int64_t width, int64_t height, int channels, struct dr_image *ret_image,
            struct dr_error *err);
void img_free(struct dr_image *image);

/* By the first bytes; -1 for any other format. */
int img_sniff(const void *bytes, size_t n);

const char *img_format_name(enum img_format format); /* "png" */
int img_format_of(const char *name); /* name, or extension with its dot; -1 unknown */

/* Any of the formats, by its magic, to `channels` 1, 3 or 4, or as stored with 0 (palettes and 16
 * bits become 8-bit RGB(A)). Alpha is dropped, not blended, when 3 are asked for. ret_texts may be
 * NULL. */
int img_decode(const void *bytes, size_t n, int channels, struct dr_image *ret_image,
               struct img_texts *ret_texts, struct dr_error *err);

/* Adds a pair of copies; DR_ENOMEM, or DR_ELIMIT beyond 64 pairs. */
int img_texts_add(struct img_texts *texts, const char *key, const char *value);
void img_texts_free(struct img_texts *texts);
const char *img_texts_find(const struct img_texts *texts, const char *key); /* NULL if absent */

/* To 1, 3 or 4 channels, in place; 0 leaves it. Grey is BT.601 luma, a new alpha is opaque. */
int img_convert(struct dr_image *image, int channels, struct dr_error *err);

/* Size without decoding the pixels. */
int img_probe(const void *bytes, size_t n, int64_t *ret_width, int64_t *ret_height,
              struct dr_error *err);

struct img_encode_options {
    int quality;  /* jpeg and webp 1..100; 0: 95 */
    int level;    /* png compression 1..9; 0: 6 */
    int lossless; /* webp: 1 ignores quality */
    const struct img_text *texts;
    size_t text_count;
    const atomic_int *stop; /* polled by the row: DR_ECANCELED when it is not 0; NULL: never */
};

/* The text to be written under that key; NULL: none. */
const char *img_text_of(const struct img_encode_options *options, const char *key);

/* Appends the file's bytes. options may be NULL. Jpeg: RGBA and grey are accepted, alpha is
 * dropped. */
int img_encode(const struct dr_image *image, enum img_format format,
               const struct img_encode_options *options, struct buf *dst, struct dr_error *err);

#endif
