/* webp.c - see webp.h. */
#include "base/image/webp.h"

#include <stdbool.h>
#include <string.h>

#include <webp/decode.h>
#include <webp/encode.h>
#include <webp/mux.h>

#include "base/alloc.h"
#include "base/image/exif.h"

enum { USUAL_QUALITY = 95, USUAL_METHOD = 4 };

/* The stream's features; refuses what is not supported. */
static int examine(const void *bytes, size_t n, WebPBitstreamFeatures *ret_features,
                   struct dr_error *err)
{
    VP8StatusCode status = WebPGetFeatures(bytes, n, ret_features);
    if (status == VP8_STATUS_NOT_ENOUGH_DATA)
        return dr_fail(err, DR_EFORMAT, "webp: the file ends early");
    if (status != VP8_STATUS_OK)
        return dr_fail(err, DR_EFORMAT, "webp: not a valid file");
    if (ret_features->has_animation)
        return dr_fail(err, DR_EUNSUPPORTED, "webp: an animation, expected a still picture");
    return 0;
}

/* The texts of the EXIF block. A damaged block is no error of the picture. */
static int texts_of(const void *bytes, size_t n, struct img_texts *texts)
{
    WebPData file = { bytes, n }, exif;
    WebPMux *mux = WebPMuxCreate(&file, 0);
    if (!mux)
        return 0;
    int r = 0;
    if (WebPMuxGetChunk(mux, "EXIF", &exif) == WEBP_MUX_OK) {
        bool head = exif.size >= 6 && !memcmp(exif.bytes, "Exif\0", 6); /* some write JPEG's head */
        r = exif_texts(exif.bytes + 6 * head, exif.size - 6 * (size_t)head, texts);
    }
    WebPMuxDelete(mux);
    return r;
}

int webp_decode(const void *bytes, size_t n, int channels, struct dr_image *ret_image,
                struct img_texts *ret_texts, struct dr_error *err)
{
    WebPBitstreamFeatures f;
    struct dr_image image;
    struct img_texts texts = { NULL, 0 };
    int r = examine(bytes, n, &f, err);
    r = r ? r : img_new(f.width, f.height, f.has_alpha ? 4 : 3, &image, err);
    if (r)
        return r;
    int stride = (int)image.width * image.channels;
    size_t size = (size_t)stride * (size_t)image.height;
    uint8_t *done = f.has_alpha ? WebPDecodeRGBAInto(bytes, n, image.pixels, size, stride)
                                : WebPDecodeRGBInto(bytes, n, image.pixels, size, stride);
    if (!done)
        r = dr_fail(err, DR_EFORMAT, "webp: damaged, or the file ends early");
    if (!r && ret_texts) {
        r = texts_of(bytes, n, &texts);
        if (r)
            dr_fail(err, r, "webp: out of memory for its metadata");
    }
    r = r ? r : img_convert(&image, channels, err);
    if (r) {
        img_free(&image);
        img_texts_free(&texts);
        return r;
    }
    *ret_image = image;
    if (ret_texts)
        *ret_texts = texts;
    return 0;
}

int webp_size(const void *bytes, size_t n, int64_t *ret_width, int64_t *ret_height,
              struct dr_error *err)
{
    WebPBitstreamFeatures f;
    int r = examine(bytes, n, &f, err);
    if (r)
        return r;
    *ret_width = f.width;
    *ret_height = f.height;
    return 0;
}

/* 0 ends the encoding. */
static int on_progress(int percent, const WebPPicture *picture)
{
    (void)percent;
    const atomic_int *stop = picture->user_data;
    return !stop || !atomic_load(stop);
}

/* Encodes RGB or RGBA through the picture's writer. */
static int encode_picture(WebPPicture *picture, const struct dr_image *image,
                          const WebPConfig *config, struct dr_error *err)
{
    int stride = (int)image->width * image->channels;
    int ok = image->channels == 4 ? WebPPictureImportRGBA(picture, image->pixels, stride)
                                  : WebPPictureImportRGB(picture, image->pixels, stride);
    if (!ok)
        return dr_fail(err, DR_ENOMEM, "webp: out of memory");
    if (WebPEncode(config, picture))
        return 0;
    if (picture->error_code == VP8_ENC_ERROR_USER_ABORT)
        return dr_fail(err, DR_ECANCELED, "webp: stopped");
    bool memory = picture->error_code == VP8_ENC_ERROR_OUT_OF_MEMORY ||
                  picture->error_code == VP8_ENC_ERROR_BITSTREAM_OUT_OF_MEMORY ||
                  picture->error_code == VP8_ENC_ERROR_BAD_WRITE;
    return dr_fail(err, memory ? DR_ENOMEM : DR_EINTERNAL, "webp: encoder error %d",
                   (int)picture->error_code);
}

/* Puts the bare stream and the EXIF block into one file. */
static int add_exif(const struct buf *stream, const char *comment, const char *note,
                    struct buf *dst, struct dr_error *err)
{
    struct buf exif;
    buf_init(&exif, DR_TAG_IMAGE, 0);
    WebPData whole = { NULL, 0 };
    WebPMux *mux = NULL;
    int r = exif_make(comment, note, &exif, err);
    if (r)
        goto out;
    WebPData picture = { (const uint8_t *)stream->data, stream->len };
    WebPData block = { (const uint8_t *)exif.data, exif.len };
    mux = WebPMuxCreate(&picture, 0);
    if (!mux || WebPMuxSetChunk(mux, "EXIF", &block, 0) != WEBP_MUX_OK ||
        WebPMuxAssemble(mux, &whole) != WEBP_MUX_OK)
        r = dr_fail(err, DR_ENOMEM, "webp: out of memory for its metadata");
    else if ((r = buf_append(dst, whole.bytes, whole.size)))
        dr_fail(err, r, "webp: out of memory for the file");
out:
    WebPDataClear(&whole);
    WebPMuxDelete(mux);
    buf_free(&exif);
    return r;
}

static int on_write(const uint8_t *bytes, size_t n, const WebPPicture *picture)
{
    return !buf_append(picture->custom_ptr, bytes, n);
}

static int encode_colour(const struct dr_image *image, const struct img_encode_options *o,
                         struct buf *dst, struct dr_error *err)
{
    WebPConfig config;
    WebPPicture picture;
    struct buf stream;
    if (image->width > WEBP_MAX_DIMENSION || image->height > WEBP_MAX_DIMENSION)
        return dr_fail(err, DR_ELIMIT, "webp: at most %d pixels on an edge", WEBP_MAX_DIMENSION);
    if (!WebPConfigInit(&config) || !WebPPictureInit(&picture))
        return dr_fail(err, DR_EINTERNAL, "webp: header and library disagree");
    config.quality = (float)(o->quality ? o->quality : USUAL_QUALITY);
    config.method = USUAL_METHOD;
    config.lossless = o->lossless;
    config.exact = o->lossless;
    config.quality = o->lossless ? 75 : config.quality; /* effort, when lossless */
    buf_init(&stream, DR_TAG_IMAGE, 0);
    picture.use_argb = o->lossless;
    picture.width = (int)image->width;
    picture.height = (int)image->height;
    picture.writer = on_write;
    picture.custom_ptr = &stream;
    picture.progress_hook = on_progress;
    picture.user_data = (void *)o->stop;
    int r = encode_picture(&picture, image, &config, err);
    WebPPictureFree(&picture);
    const char *comment = img_text_of(o, "parameters");
    if (!r && comment)
        r = add_exif(&stream, comment, img_text_of(o, "darkroom"), dst, err);
    else if (!r && (r = buf_append(dst, stream.data, stream.len)))
        dr_fail(err, r, "webp: out of memory for the file");
    buf_free(&stream);
    return r;
}

int webp_encode(const struct dr_image *image, const struct img_encode_options *options,
                struct buf *dst, struct dr_error *err)
{
    if (image->channels != 1)
        return encode_colour(image, options, dst, err);
    struct dr_image rgb; /* WebP has no grey */
    int r = img_new(image->width, image->height, 3, &rgb, err);
    if (r)
        return r;
    for (int64_t i = 0; i < image->width * image->height; i++)
        memset(rgb.pixels + 3 * i, image->pixels[i], 3);
    r = encode_colour(&rgb, options, dst, err);
    img_free(&rgb);
    return r;
}
