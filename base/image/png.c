/* png.c - see png.h.
 *
 * libpng reports errors by longjmp. Everything that changes after setjmp is a member of the struct
 * that is passed by pointer, never a local of the function that called setjmp, so nothing is lost
 * in a register. */
#include "base/image/png.h"

#include <png.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/utf8.h"

/* Compressed texts of a file together unpack to 64 MiB at most. */
enum { MAX_CHUNKS = 64, MAX_CHUNK_BYTES = 1 << 20, KEY_MAX = 79 };

struct png_coder {
    png_structp png;
    png_infop info;
    const uint8_t *bytes; /* reading: what is left */
    size_t n;
    struct buf *dst; /* writing */
    int code;        /* of the failure; 0: libpng's own, a damaged file */
    bool reported;   /* the caller's error is filled already */
    char message[128];
    struct dr_image image;
    png_bytep *rows;
    png_textp texts; /* writing */
    int text_count;
    char *latin[64]; /* texts converted to Latin-1, owned */
};

static void on_error(png_structp png, png_const_charp message)
{
    struct png_coder *c = png_get_error_ptr(png);
    snprintf(c->message, sizeof c->message, "%s", message);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp message)
{
    (void)png;
    (void)message;
}

static png_voidp on_malloc(png_structp png, png_alloc_size_t size)
{
    struct png_coder *c = png_get_mem_ptr(png);
    void *p = dr_malloc(DR_TAG_IMAGE, size);
    if (!p)
        c->code = DR_ENOMEM;
    return p;
}

static void on_free(png_structp png, png_voidp p)
{
    (void)png;
    dr_free(p);
}

static void on_read(png_structp png, png_bytep dst, size_t n)
{
    struct png_coder *c = png_get_io_ptr(png);
    if (n > c->n)
        png_error(png, "the file ends early");
    memcpy(dst, c->bytes, n);
    c->bytes += n;
    c->n -= n;
}

static void on_write(png_structp png, png_bytep bytes, size_t n)
{
    struct png_coder *c = png_get_io_ptr(png);
    c->code = buf_append(c->dst, bytes, n);
    if (c->code)
        png_error(png, "out of memory for the file");
}

static void on_flush(png_structp png)
{
    (void)png;
}

static int report(const struct png_coder *c, struct dr_error *err)
{
    if (c->reported)
        return c->code;
    if (c->code)
        return dr_fail(err, c->code, "png: %s", c->message[0] ? c->message : "out of memory");
    return dr_fail(err, DR_EFORMAT, "png: %s", c->message);
}

/* Whether every chunk ends within the file, up to the last: libpng reserves what a chunk's header
 * claims before it reads the chunk. */
static bool chunks_fit(const uint8_t *bytes, size_t n)
{
    size_t at = 8;
    while (n - at >= 12) {
        const uint8_t *h = bytes + at;
        size_t length = (size_t)h[0] << 24 | (size_t)h[1] << 16 | (size_t)h[2] << 8 | h[3];
        if (length > n - at - 12)
            return false;
        if (!memcmp(h + 4, "IEND", 4))
            return true;
        at += 12 + length;
    }
    return false;
}

/* The image's header, and what is to be done to its pixels: 8 bits, no palette, 1, 2, 3 or 4
 * channels. */
static void read_header(struct png_coder *c)
{
    png_set_read_fn(c->png, c, on_read);
    png_set_user_limits(c->png, IMG_MAX_EDGE, IMG_MAX_EDGE);
    png_set_chunk_cache_max(c->png, MAX_CHUNKS);
    png_set_chunk_malloc_max(c->png, MAX_CHUNK_BYTES);
    png_set_crc_action(c->png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
    png_set_keep_unknown_chunks(c->png, PNG_HANDLE_CHUNK_NEVER, (png_const_bytep) "iCCP", 1);
    png_read_info(c->png, c->info);
}

static void read_pixels(struct png_coder *c, struct dr_error *err)
{
    png_set_expand(c->png);
    png_set_scale_16(c->png);
    if (png_get_color_type(c->png, c->info) & PNG_COLOR_MASK_ALPHA ||
        png_get_valid(c->png, c->info, PNG_INFO_tRNS))
        png_set_gray_to_rgb(c->png); /* so that grey with alpha becomes RGBA */
    png_set_interlace_handling(c->png);
    png_read_update_info(c->png, c->info);
    int64_t width = png_get_image_width(c->png, c->info);
    int64_t height = png_get_image_height(c->png, c->info);
    int channels = png_get_channels(c->png, c->info);
    c->code = img_new(width, height, channels, &c->image, err);
    c->reported = c->code != 0;
    c->rows = dr_calloc(DR_TAG_IMAGE, (size_t)height, sizeof *c->rows);
    if (!c->rows && !c->reported)
        c->code = DR_ENOMEM;
    if (c->code)
        png_error(c->png, "out of memory for the picture");
    for (int64_t y = 0; y < height; y++)
        c->rows[y] = c->image.pixels + (size_t)y * (size_t)width * (size_t)channels;
    png_read_image(c->png, c->rows);
}

static int latin_to_utf8(const char *s, struct buf *dst)
{
    int r = 0;
    buf_clear(dst);
    for (; *s && !r; s++) {
        char utf8[4];
        size_t len = utf8_encode((unsigned char)*s, utf8);
        r = buf_append(dst, utf8, len);
    }
    return r;
}

/* One chunk of text, whichever kind, as UTF-8; text that is not valid is skipped. */
static int add_text(const png_text *t, struct img_texts *texts)
{
    struct buf key, value;
    buf_init(&key, DR_TAG_IMAGE, 0);
    buf_init(&value, DR_TAG_IMAGE, 0);
    int r = latin_to_utf8(t->key, &key);
    const char *text = t->text ? t->text : "";
    bool is_utf8 = t->compression >= PNG_ITXT_COMPRESSION_NONE;
    if (!r && !is_utf8)
        r = latin_to_utf8(text, &value);
    if (!r && is_utf8 && utf8_valid_prefix(text, strlen(text)) != strlen(text))
        goto out;
    if (!r)
        r = img_texts_add(texts, buf_text(&key), is_utf8 ? text : buf_text(&value));
    r = r == DR_ELIMIT ? 0 : r; /* more than anyone needs: the rest is dropped */
out:
    buf_free(&key);
    buf_free(&value);
    return r;
}

static int collect_texts(struct png_coder *c, struct img_texts *texts)
{
    png_textp t = NULL;
    int n = png_get_text(c->png, c->info, &t, NULL);
    int r = 0;
    for (int i = 0; i < n && !r; i++)
        r = add_text(&t[i], texts);
    return r;
}

static int open_reader(struct png_coder *c, const void *bytes, size_t n, struct dr_error *err)
{
    *c = (struct png_coder){ .bytes = bytes, .n = n };
    c->png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, c, on_error, on_warning, c, on_malloc,
                                      on_free);
    c->info = c->png ? png_create_info_struct(c->png) : NULL;
    if (c->info)
        return 0;
    png_destroy_read_struct(&c->png, NULL, NULL);
    return dr_fail(err, DR_ENOMEM, "png: out of memory");
}

static int run_reader(struct png_coder *c, struct dr_error *err)
{
    if (setjmp(png_jmpbuf(c->png)))
        return report(c, err);
    read_header(c);
    read_pixels(c, err);
    png_read_end(c->png, c->info);
    return c->code ? report(c, err) : 0; /* libpng goes on without a text it has no memory for */
}

int png_decode(const void *bytes, size_t n, int channels, struct dr_image *ret_image,
               struct img_texts *ret_texts, struct dr_error *err)
{
    struct png_coder c;
    struct img_texts texts = { NULL, 0 };
    if (n < 8 || !chunks_fit(bytes, n))
        return dr_fail(err, DR_EFORMAT, "png: the file ends early");
    int r = open_reader(&c, bytes, n, err);
    if (r)
        return r;
    r = run_reader(&c, err);
    if (!r && ret_texts) {
        r = collect_texts(&c, &texts);
        if (r)
            dr_fail(err, r, "png: out of memory for its text");
    }
    if (!r)
        r = img_convert(&c.image, channels, err);
    png_destroy_read_struct(&c.png, &c.info, NULL);
    dr_free(c.rows);
    if (r) {
        img_texts_free(&texts);
        img_free(&c.image);
        return r;
    }
    *ret_image = c.image;
    if (ret_texts)
        *ret_texts = texts;
    return 0;
}

int png_size(const void *bytes, size_t n, int64_t *ret_width, int64_t *ret_height,
             struct dr_error *err)
{
    const uint8_t *s = bytes;
    if (n < 33 || memcmp(s + 12, "IHDR", 4))
        return dr_fail(err, DR_EFORMAT, "png: no header");
    *ret_width = (int64_t)png_get_uint_32(s + 16);
    *ret_height = (int64_t)png_get_uint_32(s + 20);
    return 0;
}

/* True when text fits a tEXt chunk: Latin-1 without controls other than line ends. The copy is in
 * *ret_latin. */
static int to_latin(const char *text, char **ret_latin)
{
    size_t n = strlen(text), len = 0;
    char *latin = dr_malloc(DR_TAG_IMAGE, n + 1);
    if (!latin)
        return DR_ENOMEM;
    for (size_t i = 0; i < n;) {
        uint32_t c;
        i += utf8_decode(text + i, n - i, &c);
        if (c > 0xff || (c >= 0x7f && c < 0xa0) || (c < 0x20 && c != '\n')) {
            dr_free(latin);
            latin = NULL;
            break;
        }
        latin[len++] = (char)c;
    }
    if (latin)
        latin[len] = '\0';
    *ret_latin = latin;
    return 0;
}

static int prepare_texts(struct png_coder *c, const struct img_encode_options *o,
                         struct dr_error *err)
{
    if (!o->text_count)
        return 0;
    if (o->text_count > sizeof c->latin / sizeof *c->latin)
        return dr_fail(err, DR_ELIMIT, "png: more than 64 texts");
    c->texts = dr_calloc(DR_TAG_IMAGE, o->text_count, sizeof *c->texts);
    if (!c->texts)
        return dr_fail(err, DR_ENOMEM, "png: out of memory for its text");
    for (size_t i = 0; i < o->text_count; i++) {
        const struct img_text *t = &o->texts[i];
        size_t key = strlen(t->key);
        if (!key || key > KEY_MAX)
            return dr_fail(err, DR_EINVAL, "png: text key '%.80s' of %zu bytes, expected 1 to 79",
                           t->key, key);
        int r = dr_check_utf8(t->value, strlen(t->value), t->key, err);
        if (!r && to_latin(t->value, &c->latin[i]))
            r = dr_fail(err, DR_ENOMEM, "png: out of memory for its text");
        if (r)
            return r;
        char *latin = c->latin[i];
        c->texts[i] = (png_text){ .compression = latin ? PNG_TEXT_COMPRESSION_NONE
                                                       : PNG_ITXT_COMPRESSION_NONE,
                                  .key = (char *)t->key,
                                  .text = latin ? latin : (char *)t->value };
        c->text_count++;
    }
    return 0;
}

static int run_writer(struct png_coder *c, const struct dr_image *image,
                      const struct img_encode_options *o, struct dr_error *err)
{
    if (setjmp(png_jmpbuf(c->png)))
        return report(c, err);
    png_set_write_fn(c->png, c, on_write, on_flush);
    png_set_user_limits(c->png, IMG_MAX_EDGE, IMG_MAX_EDGE);
    png_set_compression_level(c->png, o->level ? o->level : 6);
    int type = image->channels == 1   ? PNG_COLOR_TYPE_GRAY
               : image->channels == 3 ? PNG_COLOR_TYPE_RGB
                                      : PNG_COLOR_TYPE_RGBA;
    png_set_IHDR(c->png, c->info, (png_uint_32)image->width, (png_uint_32)image->height, 8, type,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    if (c->text_count)
        png_set_text(c->png, c->info, c->texts, c->text_count);
    png_write_info(c->png, c->info);
    size_t row = (size_t)image->width * (size_t)image->channels;
    for (int64_t y = 0; y < image->height; y++) {
        if (o->stop && atomic_load(o->stop)) {
            c->code = DR_ECANCELED;
            png_error(c->png, "stopped");
        }
        png_write_row(c->png, image->pixels + (size_t)y * row);
    }
    png_write_end(c->png, NULL);
    return c->code ? report(c, err) : 0;
}

int png_encode(const struct dr_image *image, const struct img_encode_options *options,
               struct buf *dst, struct dr_error *err)
{
    struct png_coder c = { .dst = dst };
    int r = prepare_texts(&c, options, err);
    if (!r) {
        c.png = png_create_write_struct_2(PNG_LIBPNG_VER_STRING, &c, on_error, on_warning, &c,
                                          on_malloc, on_free);
        c.info = c.png ? png_create_info_struct(c.png) : NULL;
        if (c.info)
            r = run_writer(&c, image, options, err);
        else
            r = dr_fail(err, DR_ENOMEM, "png: out of memory");
        png_destroy_write_struct(&c.png, &c.info);
    }
    for (size_t i = 0; i < sizeof c.latin / sizeof *c.latin; i++)
        dr_free(c.latin[i]);
    dr_free(c.texts);
    return r;
}
