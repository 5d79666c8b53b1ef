/* jpeg.c - see jpeg.h.
 *
 * libjpeg reports errors through error_exit, which may not return: it jumps back, so all that
 * changes after setjmp lives in the struct. libjpeg's "warnings" about data that is missing or
 * wrong are errors here. */
#include "base/image/jpeg.h"

#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>

#include <jerror.h>

#include "base/alloc.h"
#include "base/image/exif.h"
#include "base/image/turn.h"

enum { MAX_SCANS = 200, PIECE = 16 << 10, EXIF_MARKER = JPEG_APP0 + 1, EXIF_HEAD = 6 };
enum { USUAL_QUALITY = 95, FULL_CHROMA_FROM = 90, MAX_MARKER = 65533 };

static const char exif_head[EXIF_HEAD] = "Exif\0"; /* and the array's own last zero */

struct jpeg_coder {
    struct jpeg_error_mgr errors; /* first: libjpeg hands back its address */
    jmp_buf back;
    union {
        struct jpeg_common_struct common;
        struct jpeg_decompress_struct d;
        struct jpeg_compress_struct c;
    } j;
    struct jpeg_progress_mgr progress;
    struct jpeg_destination_mgr destination;
    JOCTET piece[PIECE];
    struct buf *dst;
    int code; /* 0: libjpeg's own, a damaged file */
    char message[JMSG_LENGTH_MAX];
    struct dr_image image;
    struct buf exif;
    uint8_t *row; /* encoding RGBA: a row without its alpha */
};

_Noreturn static void on_error(j_common_ptr j)
{
    struct jpeg_coder *c = (struct jpeg_coder *)j->err;
    if (!c->message[0])
        c->errors.format_message(j, c->message);
    if (c->errors.msg_code == JERR_OUT_OF_MEMORY)
        c->code = DR_ENOMEM;
    longjmp(c->back, 1);
}

static void on_message(j_common_ptr j, int level)
{
    struct jpeg_coder *c = (struct jpeg_coder *)j->err;
    int code = c->errors.msg_code;
    if (level < 0 && (code == JWRN_JPEG_EOF || code == JWRN_HIT_MARKER ||
                      code == JWRN_HUFF_BAD_CODE || code == JWRN_MUST_RESYNC))
        on_error(j);
}

static void on_output(j_common_ptr j)
{
    (void)j;
}

/* A file of a few kilobytes may hold thousands of scans, each as expensive as a whole picture. */
static void on_progress(j_common_ptr j)
{
    struct jpeg_coder *c = (struct jpeg_coder *)j->err;
    if (c->j.d.input_scan_number <= MAX_SCANS)
        return;
    snprintf(c->message, sizeof c->message, "more than %d scans", MAX_SCANS);
    c->code = DR_ELIMIT;
    on_error(j);
}

_Noreturn static void give_up(struct jpeg_coder *c, int code, const char *why)
{
    c->code = code;
    snprintf(c->message, sizeof c->message, "%s", why);
    longjmp(c->back, 1);
}

static void prepare_errors(struct jpeg_coder *c)
{
    c->j.common.err = jpeg_std_error(&c->errors);
    c->errors.error_exit = on_error;
    c->errors.emit_message = on_message;
    c->errors.output_message = on_output;
}

static int report(const struct jpeg_coder *c, struct dr_error *err)
{
    return dr_fail(err, c->code ? c->code : DR_EFORMAT, "jpeg: %s", c->message);
}

static void start_reading(struct jpeg_coder *c, const void *bytes, size_t n)
{
    jpeg_create_decompress(&c->j.d);
    c->progress.progress_monitor = on_progress;
    c->j.d.progress = &c->progress;
    jpeg_mem_src(&c->j.d, bytes, (unsigned long)n);
    jpeg_save_markers(&c->j.d, EXIF_MARKER, 0xffff);
    jpeg_read_header(&c->j.d, TRUE);
    if (c->j.d.jpeg_color_space == JCS_CMYK || c->j.d.jpeg_color_space == JCS_YCCK)
        give_up(c, DR_EUNSUPPORTED, "a CMYK picture; convert it to RGB");
}

static void keep_exif(struct jpeg_coder *c)
{
    for (jpeg_saved_marker_ptr m = c->j.d.marker_list; m; m = m->next) {
        if (m->marker != EXIF_MARKER || m->data_length < EXIF_HEAD ||
            memcmp(m->data, exif_head, EXIF_HEAD))
            continue;
        int r = buf_append(&c->exif, m->data + EXIF_HEAD, m->data_length - EXIF_HEAD);
        if (r)
            give_up(c, r, "out of memory for its metadata");
        return;
    }
}

static int run_reader(struct jpeg_coder *c, const void *bytes, size_t n, struct dr_error *err)
{
    if (setjmp(c->back))
        return report(c, err);
    start_reading(c, bytes, n);
    keep_exif(c);
    bool grey = c->j.d.jpeg_color_space == JCS_GRAYSCALE;
    c->j.d.out_color_space = grey ? JCS_GRAYSCALE : JCS_RGB;
    c->j.d.dct_method = JDCT_ISLOW;
    int r = img_new(c->j.d.image_width, c->j.d.image_height, grey ? 1 : 3, &c->image, err);
    if (r)
        give_up(c, r, err ? err->text : "");
    jpeg_start_decompress(&c->j.d);
    size_t stride = (size_t)c->image.width * (size_t)c->image.channels;
    while (c->j.d.output_scanline < c->j.d.output_height) {
        JSAMPROW row = c->image.pixels + c->j.d.output_scanline * stride;
        jpeg_read_scanlines(&c->j.d, &row, 1);
    }
    jpeg_finish_decompress(&c->j.d);
    return 0;
}

int jpeg_decode(const void *bytes, size_t n, int channels, struct dr_image *ret_image,
                struct img_texts *ret_texts, struct dr_error *err)
{
    struct img_texts texts = { NULL, 0 };
    struct jpeg_coder *c = dr_calloc(DR_TAG_IMAGE, 1, sizeof *c);
    if (!c)
        return dr_fail(err, DR_ENOMEM, "jpeg: out of memory");
    buf_init(&c->exif, DR_TAG_IMAGE, 0);
    prepare_errors(c);
    int r = run_reader(c, bytes, n, err);
    jpeg_destroy_decompress(&c->j.d);
    if (!r)
        r = img_turn(&c->image, exif_orientation(buf_text(&c->exif), c->exif.len), err);
    if (!r && ret_texts) {
        r = exif_texts(buf_text(&c->exif), c->exif.len, &texts);
        if (r)
            dr_fail(err, r, "jpeg: out of memory for its metadata");
    }
    if (!r)
        r = img_convert(&c->image, channels, err);
    if (r) {
        img_free(&c->image);
        img_texts_free(&texts);
    } else {
        *ret_image = c->image;
        if (ret_texts)
            *ret_texts = texts;
    }
    buf_free(&c->exif);
    dr_free(c);
    return r;
}

static int run_header(struct jpeg_coder *c, const void *bytes, size_t n, struct dr_error *err)
{
    if (setjmp(c->back))
        return report(c, err);
    start_reading(c, bytes, n);
    return 0;
}

int jpeg_size(const void *bytes, size_t n, int64_t *ret_width, int64_t *ret_height,
              struct dr_error *err)
{
    struct jpeg_coder *c = dr_calloc(DR_TAG_IMAGE, 1, sizeof *c);
    if (!c)
        return dr_fail(err, DR_ENOMEM, "jpeg: out of memory");
    prepare_errors(c);
    int r = run_header(c, bytes, n, err);
    if (!r) {
        *ret_width = c->j.d.image_width;
        *ret_height = c->j.d.image_height;
    }
    jpeg_destroy_decompress(&c->j.d);
    dr_free(c);
    return r;
}

static void rewind_piece(struct jpeg_coder *c)
{
    c->destination.next_output_byte = c->piece;
    c->destination.free_in_buffer = PIECE;
}

static void destination_init(j_compress_ptr j)
{
    rewind_piece((struct jpeg_coder *)j->err);
}

static boolean destination_empty(j_compress_ptr j)
{
    struct jpeg_coder *c = (struct jpeg_coder *)j->err;
    int r = buf_append(c->dst, c->piece, PIECE);
    if (r)
        give_up(c, r, "out of memory for the file");
    rewind_piece(c);
    return TRUE;
}

static void destination_term(j_compress_ptr j)
{
    struct jpeg_coder *c = (struct jpeg_coder *)j->err;
    int r = buf_append(c->dst, c->piece, PIECE - c->destination.free_in_buffer);
    if (r)
        give_up(c, r, "out of memory for the file");
}

static void write_rows(struct jpeg_coder *c, const struct dr_image *image, const atomic_int *stop)
{
    size_t width = (size_t)image->width, stride = width * (size_t)image->channels;
    for (int64_t y = 0; y < image->height; y++) {
        const uint8_t *s = image->pixels + (size_t)y * stride;
        JSAMPROW row = (JSAMPROW)s;
        if (stop && atomic_load(stop))
            give_up(c, DR_ECANCELED, "stopped");
        if (image->channels == 4) {
            for (size_t x = 0; x < width; x++)
                memcpy(c->row + 3 * x, s + 4 * x, 3);
            row = c->row;
        }
        jpeg_write_scanlines(&c->j.c, &row, 1);
    }
}

static int run_writer(struct jpeg_coder *c, const struct dr_image *image,
                      const struct img_encode_options *o, struct dr_error *err)
{
    if (setjmp(c->back))
        return report(c, err);
    struct jpeg_compress_struct *j = &c->j.c;
    int quality = o->quality ? o->quality : USUAL_QUALITY;
    jpeg_create_compress(j);
    c->destination.init_destination = destination_init;
    c->destination.empty_output_buffer = destination_empty;
    c->destination.term_destination = destination_term;
    j->dest = &c->destination;
    j->image_width = (JDIMENSION)image->width;
    j->image_height = (JDIMENSION)image->height;
    j->input_components = image->channels == 1 ? 1 : 3;
    j->in_color_space = image->channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_set_defaults(j);
    jpeg_set_quality(j, quality, TRUE);
    j->dct_method = JDCT_ISLOW;
    j->optimize_coding = TRUE;
    if (quality >= FULL_CHROMA_FROM)
        j->comp_info[0].h_samp_factor = j->comp_info[0].v_samp_factor = 1;
    jpeg_start_compress(j, TRUE);
    if (c->exif.len)
        jpeg_write_marker(j, EXIF_MARKER, (const JOCTET *)c->exif.data, (unsigned)c->exif.len);
    write_rows(c, image, o->stop);
    jpeg_finish_compress(j);
    return 0;
}

static int prepare_exif(struct jpeg_coder *c, const struct img_encode_options *o,
                        struct dr_error *err)
{
    const char *comment = img_text_of(o, "parameters"), *note = img_text_of(o, "darkroom");
    if (!comment)
        return 0;
    int r = buf_append(&c->exif, exif_head, EXIF_HEAD);
    if (r)
        return dr_fail(err, r, "jpeg: out of memory for its metadata");
    r = exif_make(comment, note, &c->exif, err);
    if (r == DR_ELIMIT)
        return dr_fail(err, r, "jpeg: its metadata is longer than %d bytes", MAX_MARKER);
    return r;
}

int jpeg_encode(const struct dr_image *image, const struct img_encode_options *options,
                struct buf *dst, struct dr_error *err)
{
    struct jpeg_coder *c = dr_calloc(DR_TAG_IMAGE, 1, sizeof *c);
    if (!c)
        return dr_fail(err, DR_ENOMEM, "jpeg: out of memory");
    c->dst = dst;
    buf_init(&c->exif, DR_TAG_IMAGE, MAX_MARKER);
    prepare_errors(c);
    int r = prepare_exif(c, options, err);
    c->row = dr_malloc(DR_TAG_IMAGE, 3 * (size_t)image->width);
    if (!r && !c->row)
        r = dr_fail(err, DR_ENOMEM, "jpeg: out of memory");
    if (!r) {
        r = run_writer(c, image, options, err);
        jpeg_destroy_compress(&c->j.c);
    }
    dr_free(c->row);
    buf_free(&c->exif);
    dr_free(c);
    return r;
}
