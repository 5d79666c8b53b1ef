/* image.c - see image.h: pictures in memory, and which codec a file wants. */
#include "base/image/image.h"

#include <string.h>
#include <strings.h>

#include "base/alloc.h"
#include "base/image/jpeg.h"
#include "base/image/png.h"
#include "base/image/webp.h"

enum { MAX_TEXTS = 64 };

static const struct {
    const char *name;
    int (*decode)(const void *, size_t, int, struct dr_image *, struct img_texts *,
                  struct dr_error *);
    int (*encode)(const struct dr_image *, const struct img_encode_options *, struct buf *,
                  struct dr_error *);
    int (*size)(const void *, size_t, int64_t *, int64_t *, struct dr_error *);
} formats[IMG_FORMAT_COUNT] = {
    [IMG_PNG] = { "png", png_decode, png_encode, png_size },
    [IMG_JPEG] = { "jpeg", jpeg_decode, jpeg_encode, jpeg_size },
    [IMG_WEBP] = { "webp", webp_decode, webp_encode, webp_size },
};

static int check_size(int64_t width, int64_t height, struct dr_error *err)
{
    if (width < 1 || height < 1)
        return dr_fail(err, DR_EINVAL, "a picture of %lld x %lld pixels", (long long)width,
                       (long long)height);
    if (width > IMG_MAX_EDGE || height > IMG_MAX_EDGE || width * height > IMG_MAX_PIXELS)
        return dr_fail(err, DR_ELIMIT,
                       "a picture of %lld x %lld pixels; at most %d on an edge and %d in all",
                       (long long)width, (long long)height, IMG_MAX_EDGE, IMG_MAX_PIXELS);
    return 0;
}

int img_new(int64_t width, int64_t height, int channels, struct dr_image *ret_image,
            struct dr_error *err)
{
    int r = check_size(width, height, err);
    if (r)
        return r;
    if (channels != 1 && channels != 3 && channels != 4)
        return dr_fail(err, DR_EINVAL, "a picture of %d channels, expected 1, 3 or 4", channels);
    size_t bytes = (size_t)width * (size_t)height * (size_t)channels;
    uint8_t *pixels = dr_malloc(DR_TAG_IMAGE, bytes);
    if (!pixels)
        return dr_fail(err, DR_ENOMEM, "out of memory for a picture of %zu bytes", bytes);
    *ret_image = (struct dr_image){ width, height, channels, pixels };
    return 0;
}

void img_free(struct dr_image *image)
{
    if (!image)
        return;
    dr_free(image->pixels);
    *image = (struct dr_image){ 0, 0, 0, NULL };
}

int img_sniff(const void *bytes, size_t n)
{
    const char *s = bytes;
    if (n >= 8 && !memcmp(s, "\x89PNG\r\n\x1a\n", 8))
        return IMG_PNG;
    if (n >= 3 && !memcmp(s, "\xff\xd8\xff", 3))
        return IMG_JPEG;
    if (n >= 12 && !memcmp(s, "RIFF", 4) && !memcmp(s + 8, "WEBP", 4))
        return IMG_WEBP;
    return -1;
}

const char *img_format_name(enum img_format format)
{
    return formats[format].name;
}

int img_format_of(const char *name)
{
    name += name[0] == '.';
    if (!strcasecmp(name, "jpg"))
        return IMG_JPEG;
    for (int i = 0; i < IMG_FORMAT_COUNT; i++) {
        if (!strcasecmp(name, formats[i].name))
            return i;
    }
    return -1;
}

static int codec_of(const void *bytes, size_t n, int *ret_format, struct dr_error *err)
{
    *ret_format = img_sniff(bytes, n);
    if (*ret_format < 0)
        return dr_fail(err, DR_EFORMAT, "not a PNG, JPEG or WebP picture");
    return 0;
}

int img_decode(const void *bytes, size_t n, int channels, struct dr_image *ret_image,
               struct img_texts *ret_texts, struct dr_error *err)
{
    int f;
    int r = codec_of(bytes, n, &f, err);
    return r ? r : formats[f].decode(bytes, n, channels, ret_image, ret_texts, err);
}

int img_probe(const void *bytes, size_t n, int64_t *ret_width, int64_t *ret_height,
              struct dr_error *err)
{
    int f;
    int r = codec_of(bytes, n, &f, err);
    return r ? r : formats[f].size(bytes, n, ret_width, ret_height, err);
}

const char *img_text_of(const struct img_encode_options *options, const char *key)
{
    for (size_t i = 0; i < options->text_count; i++)
        if (!strcmp(options->texts[i].key, key))
            return options->texts[i].value;
    return NULL;
}

int img_encode(const struct dr_image *image, enum img_format format,
               const struct img_encode_options *options, struct buf *dst, struct dr_error *err)
{
    static const struct img_encode_options usual;
    size_t before = dst->len;
    int r = check_size(image->width, image->height, err);
    if (r)
        return r;
    r = formats[format].encode(image, options ? options : &usual, dst, err);
    if (r && dst->data) { /* a failed file leaves nothing */
        dst->len = before;
        dst->data[before] = '\0';
    }
    return r;
}

static void convert_pixel(const uint8_t *s, int from, uint8_t *d, int to)
{
    uint8_t red = s[0], green = from == 1 ? s[0] : s[1], blue = from == 1 ? s[0] : s[2];
    if (to == 1) {
        d[0] = (uint8_t)((19595u * red + 38470u * green + 7471u * blue + 32768u) >> 16);
        return;
    }
    d[0] = red;
    d[1] = green;
    d[2] = blue;
    if (to == 4)
        d[3] = from == 4 ? s[3] : 255;
}

int img_convert(struct dr_image *image, int channels, struct dr_error *err)
{
    if (!channels || channels == image->channels)
        return 0;
    struct dr_image converted;
    int r = img_new(image->width, image->height, channels, &converted, err);
    if (r)
        return r;
    size_t n = (size_t)image->width * (size_t)image->height;
    for (size_t i = 0; i < n; i++)
        convert_pixel(image->pixels + i * (size_t)image->channels, image->channels,
                      converted.pixels + i * (size_t)channels, channels);
    img_free(image);
    *image = converted;
    return 0;
}

int img_texts_add(struct img_texts *texts, const char *key, const char *value)
{
    if (texts->count == MAX_TEXTS)
        return DR_ELIMIT;
    struct img_pair pair = { dr_strdup(DR_TAG_IMAGE, key), dr_strdup(DR_TAG_IMAGE, value) };
    struct img_pair *pairs = dr_realloc(DR_TAG_IMAGE, texts->pairs,
                                        (texts->count + 1) * sizeof *pairs);
    if (pairs)
        texts->pairs = pairs;
    if (!pairs || !pair.key || !pair.value) {
        dr_free(pair.key);
        dr_free(pair.value);
        return DR_ENOMEM;
    }
    texts->pairs[texts->count++] = pair;
    return 0;
}

void img_texts_free(struct img_texts *texts)
{
    if (!texts)
        return;
    for (size_t i = 0; i < texts->count; i++) {
        dr_free(texts->pairs[i].key);
        dr_free(texts->pairs[i].value);
    }
    dr_free(texts->pairs);
    *texts = (struct img_texts){ NULL, 0 };
}

const char *img_texts_find(const struct img_texts *texts, const char *key)
{
    for (size_t i = 0; i < texts->count; i++) {
        if (!strcmp(texts->pairs[i].key, key))
            return texts->pairs[i].value;
    }
    return NULL;
}
