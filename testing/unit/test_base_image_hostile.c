/* Pictures from strangers: cut at every byte, every byte changed, sizes that lie, bombs. */
#include "testing/helpers/test.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/image/exif.h"
#include "base/image/image.h"

static const char *const files[] = {
    "rgb_text.png",    "palette_alpha.png", "interlaced.png",  "grey16.png",    "plain.jpg",
    "progressive.jpg", "grey.jpg",          "exif_little.jpg", "lossless.webp", "alpha.webp",
};

enum { FILES = sizeof files / sizeof *files };

static void read_golden(const char *name, struct buf *dst)
{
    char path[128];
    struct dr_error err;
    snprintf(path, sizeof path, "testing/golden/image/%s", name);
    buf_init(dst, DR_TAG_TEST, 0);
    if (dr_read_file(test_source(path), 1 << 20, dst, &err))
        fail_msg("%s", err.text);
}

/* Decodes a copy of exactly n bytes, so that a sanitizer sees a read past the end. */
static int try_decode(const void *bytes, size_t n, struct dr_error *err)
{
    struct dr_image image = { 0, 0, 0, NULL };
    struct img_texts texts = { NULL, 0 };
    void *copy = dr_malloc(DR_TAG_TEST, n);
    assert_non_null(copy);
    memcpy(copy, bytes, n);
    int r = img_decode(copy, n, 4, &image, &texts, err);
    img_free(&image);
    img_texts_free(&texts);
    dr_free(copy);
    return r;
}

static void cut_files_are_refused(void **state)
{
    (void)state;
    uint64_t blocks = test_blocks();
    for (int i = 0; i < FILES; i++) {
        struct buf file;
        read_golden(files[i], &file);
        for (size_t n = 0; n < file.len; n++) {
            struct dr_error err;
            memset(&err, 0, sizeof err);
            int r = try_decode(file.data, n, &err);
            if (!r || !err.text[0])
                fail_msg("%s cut to %zu of %zu bytes: %d '%s'", files[i], n, file.len, r, err.text);
        }
        buf_free(&file);
    }
    assert_int_equal(test_blocks(), blocks);
}

/* A changed byte may go unnoticed where the format has no checksum; nothing worse. PNG notices all.
 * (Some changes make libwebp ask for half a gigabyte of tables for a moment; these do not.) */
static void changed_files_do_no_harm(void **state)
{
    (void)state;
    uint64_t blocks = test_blocks();
    for (int i = 0; i < FILES; i++) {
        struct buf file;
        read_golden(files[i], &file);
        for (size_t at = 0; at < file.len; at++) {
            char was = file.data[at];
            file.data[at] = (char)(was ^ 1 << at * 3 % 8);
            int64_t w = 1, h = 1; /* pictures that became large only take time */
            (void)!img_probe(file.data, file.len, &w, &h, NULL);
            int r = w * h > 1 << 16 ? DR_ELIMIT : try_decode(file.data, file.len, NULL);
            if (!r && img_sniff(file.data, file.len) == IMG_PNG)
                fail_msg("%s: byte %zu changed, unnoticed", files[i], at);
            file.data[at] = was;
        }
        buf_free(&file);
    }
    assert_int_equal(test_blocks(), blocks);
}

static uint32_t crc(const uint8_t *s, size_t n)
{
    uint32_t c = ~0u;
    for (size_t i = 0; i < n; i++) {
        c ^= s[i];
        for (int k = 0; k < 8; k++)
            c = c >> 1 ^ (c & 1 ? 0xedb88320u : 0);
    }
    return ~c;
}

static void put32(char *dst, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        dst[i] = (char)(v >> 8 * (3 - i));
}

static void giant_sizes_are_refused_first(void **state)
{
    (void)state;
    static const uint32_t sizes[][2] = { { 0x7fffffff, 0x7fffffff }, { 16385, 1 },   { 1, 16385 },
                                         { 16384, 16384 },           { 7000, 7000 }, { 0, 5 },
                                         { 0x80000000u, 1 } };
    struct buf file;
    read_golden("rgb_text.png", &file);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        put32(file.data + 16, sizes[i][0]);
        put32(file.data + 20, sizes[i][1]);
        put32(file.data + 29, crc((const uint8_t *)file.data + 12, 17));
        dr_alloc_reset_peak();
        struct dr_error err;
        if (!try_decode(file.data, file.len, &err))
            fail_msg("%u x %u was taken", sizes[i][0], sizes[i][1]);
        assert_true(dr_alloc_stats(DR_TAG_IMAGE).peak < 1 << 20);
    }
    buf_free(&file);
    read_golden("plain.jpg", &file);
    char *frame = memmem(file.data, file.len, "\xff\xc0\x00\x11\x08", 5);
    assert_non_null(frame);
    memcpy(frame + 5, "\xff\xdc\xff\xdc", 4);
    struct dr_error err;
    assert_int_equal(try_decode(file.data, file.len, &err), DR_ELIMIT);
    assert_true(dr_alloc_stats(DR_TAG_IMAGE).peak < 1 << 20);
    buf_free(&file);
}

/* The first scan of a progressive picture, a thousand times. */
static void scan_bomb_is_refused(void **state)
{
    (void)state;
    struct buf file, bomb;
    struct dr_error err;
    read_golden("progressive.jpg", &file);
    const char *scan = memmem(file.data, file.len, "\xff\xda", 2), *end = file.data + file.len;
    assert_non_null(scan);
    const char *next = memmem(scan, (size_t)(end - scan), "\xff\xc4", 2);
    assert_non_null(next);
    buf_init(&bomb, DR_TAG_TEST, 0);
    assert_int_equal(buf_append(&bomb, file.data, (size_t)(scan - file.data)), 0);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(buf_append(&bomb, scan, (size_t)(next - scan)), 0);
    assert_int_equal(buf_append(&bomb, next, (size_t)(end - next)), 0);
    assert_int_equal(try_decode(bomb.data, bomb.len, &err), DR_ELIMIT);
    assert_non_null(strstr(err.text, "scans"));
    buf_free(&bomb);
    buf_free(&file);
}

static void exif_is_bounded(void **state)
{
    (void)state;
    struct buf block, text;
    struct dr_error err;
    buf_init(&block, DR_TAG_TEST, 0);
    buf_init(&text, DR_TAG_TEST, 0);
    assert_int_equal(exif_make("caf\xc3\xa9 \xf0\x9f\x98\x80", NULL, &block, &err), 0);
    assert_int_equal(exif_comment(block.data, block.len, &text), 0);
    assert_string_equal(buf_text(&text), "caf\xc3\xa9 \xf0\x9f\x98\x80");
    for (size_t n = 0; n < block.len; n++) {
        void *copy = dr_malloc(DR_TAG_TEST, n);
        assert_non_null(copy);
        memcpy(copy, block.data, n);
        assert_true(exif_comment(copy, n, &text) < 0);
        dr_free(copy);
    }
    for (size_t at = 0; at < block.len; at++) {
        for (int v = 0; v < 256; v += 15) {
            char was = block.data[at];
            block.data[at] = (char)v;
            buf_clear(&text);
            (void)!exif_comment(block.data, block.len, &text);
            block.data[at] = was;
        }
    }
    assert_int_equal(exif_make("\xff", NULL, &block, &err), DR_EINVAL);
    buf_free(&block);
    buf_free(&text);
}

/* Both texts come back; whatever is cut or changed in the block, nothing is read beside it. */
/* Also one in which low bytes of zero outnumber the high ones, or that begins as a byte order mark
 * does; no mark where none is needed. */
static void exif_keeps_any_text(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t units; /* of UTF-16 */
    } cases[] = {
        { "", 0 },
        { "Steps: 20", 9 },
        { "\xe4\xb8\x80", 2 },              /* U+4E00 */
        { "a\xe4\xb8\x80\xe4\xbc\x80", 4 }, /* a U+4E00 U+4F00 */
        { "\xef\xbb\xbf"
          "a",
          3 },                 /* U+FEFF a */
        { "\xef\xbf\xbe", 2 }, /* U+FFFE */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf block, text;
        buf_init(&block, DR_TAG_TEST, 0);
        buf_init(&text, DR_TAG_TEST, 0);
        assert_int_equal(exif_make(cases[i].text, NULL, &block, NULL), 0);
        assert_int_equal(exif_comment(block.data, block.len, &text), 0);
        assert_string_equal(buf_text(&text), cases[i].text);
        assert_int_equal(block.len, 52 + 2 * cases[i].units);
        buf_free(&block);
        buf_free(&text);
    }
}

static void exif_notes_are_bounded(void **state)
{
    (void)state;
    struct buf block;
    struct img_texts texts = { NULL, 0 };
    buf_init(&block, DR_TAG_TEST, 0);
    assert_int_equal(exif_make("words", "{\"a\":\"caf\xc3\xa9\"}", &block, NULL), 0);
    assert_int_equal(exif_texts(block.data, block.len, &texts), 0);
    assert_string_equal(img_texts_find(&texts, "parameters"), "words");
    assert_string_equal(img_texts_find(&texts, "darkroom"), "{\"a\":\"caf\xc3\xa9\"}");
    img_texts_free(&texts);
    for (size_t n = 0; n < block.len; n++) {
        void *copy = dr_malloc(DR_TAG_TEST, n);
        assert_non_null(copy);
        memcpy(copy, block.data, n);
        assert_int_equal(exif_texts(copy, n, &texts), 0);
        img_texts_free(&texts);
        dr_free(copy);
    }
    for (size_t at = 0; at < block.len; at++)
        for (int v = 0; v < 256; v += 15) {
            char was = block.data[at];
            block.data[at] = (char)v;
            assert_int_equal(exif_texts(block.data, block.len, &texts), 0);
            img_texts_free(&texts);
            block.data[at] = was;
        }
    buf_free(&block);
}

/* ---- a text that unpacks to 8 MB ---- */

struct bits {
    uint8_t *bytes;
    size_t n; /* bits */
};

static void put_bits(struct bits *b, unsigned value, int count)
{
    for (int i = 0; i < count; i++, b->n++)
        b->bytes[b->n / 8] |= (uint8_t)((value >> i & 1) << b->n % 8);
}

static void put_be(struct buf *dst, uint32_t v)
{
    char b[4] = { (char)(v >> 24), (char)(v >> 16), (char)(v >> 8), (char)v };
    assert_int_equal(buf_append(dst, b, 4), 0);
}

static uint32_t crc_of(const char *p, size_t n)
{
    uint32_t c = 0xffffffff;
    for (size_t i = 0; i < n; i++) {
        c ^= (uint8_t)p[i];
        for (int k = 0; k < 8; k++)
            c = c & 1 ? 0xedb88320 ^ c >> 1 : c >> 1;
    }
    return ~c;
}

/* A zTXt chunk: one 'x' and REPEATS times 258 more, as a block of fixed codes. */
enum { REPEATS = 32000 };

static void put_bomb(struct buf *dst)
{
    static const char head[] = "zTXtdarkroom\0"; /* and its own zero: deflate */
    struct bits b = { dr_calloc(DR_TAG_TEST, REPEATS * 2, 1), 0 };
    struct buf chunk;
    uint32_t sum = 1, high = 0;
    assert_non_null(b.bytes);
    buf_init(&chunk, DR_TAG_TEST, 0);
    put_bits(&b, 0x78, 8);
    put_bits(&b, 0x01, 8);
    put_bits(&b, 3, 3);    /* the last block, fixed codes */
    put_bits(&b, 0x15, 8); /* 'x' is 0x30 + 120 = 10101000, its bits in turn */
    for (int i = 0; i < REPEATS; i++) {
        put_bits(&b, 0xa3, 8); /* 285, 258 bytes: 11000101 */
        put_bits(&b, 0, 5);    /* from one byte before */
    }
    put_bits(&b, 0, 7); /* the end */
    for (int i = 0; i < 1 + REPEATS * 258; i++) {
        sum = (sum + 'x') % 65521;
        high = (high + sum) % 65521;
    }
    assert_int_equal(buf_append(&chunk, head, sizeof head), 0);
    assert_int_equal(buf_append(&chunk, b.bytes, (b.n + 7) / 8), 0);
    put_be(&chunk, high << 16 | sum);
    put_be(dst, (uint32_t)chunk.len - 4);
    assert_int_equal(buf_append(dst, chunk.data, chunk.len), 0);
    put_be(dst, crc_of(chunk.data, chunk.len));
    buf_free(&chunk);
    dr_free(b.bytes);
}

static void text_bombs_are_bounded(void **state)
{
    (void)state;
    enum { AFTER_HEADER = 33, BOMBS = 8, ROOM = 12 << 20 };
    struct buf file, bombs, one;
    struct dr_image image = { 0, 0, 0, NULL };
    struct img_texts texts = { NULL, 0 };
    read_golden("rgb_text.png", &file);
    buf_init(&bombs, DR_TAG_TEST, 0);
    assert_int_equal(buf_append(&bombs, file.data, AFTER_HEADER), 0);
    buf_init(&one, DR_TAG_TEST, 0);
    put_bomb(&one);
    for (int i = 0; i < BOMBS; i++)
        assert_int_equal(buf_append(&bombs, one.data, one.len), 0);
    assert_int_equal(buf_append(&bombs, file.data + AFTER_HEADER, file.len - AFTER_HEADER), 0);
    dr_alloc_reset_peak();
    (void)!img_decode(bombs.data, bombs.len, 3, &image, &texts, NULL);
    if (dr_alloc_stats(DR_TAG_IMAGE).peak > ROOM)
        fail_msg("%zu bytes for texts", dr_alloc_stats(DR_TAG_IMAGE).peak);
    assert_null(img_texts_find(&texts, "darkroom"));
    img_texts_free(&texts);
    img_free(&image);
    buf_free(&one);
    buf_free(&bombs);
    buf_free(&file);
}

static int scenario(void *ctx, struct dr_error *err)
{
    enum img_format format = *(enum img_format *)ctx;
    const struct img_text texts[] = { { "parameters", "a \xe2\x82\xac" }, { "darkroom", "{}" } };
    const struct img_encode_options o = { .texts = texts, .text_count = 2 };
    struct dr_image image = { 0, 0, 0, NULL }, back = { 0, 0, 0, NULL };
    struct img_texts found = { NULL, 0 };
    struct buf file;
    buf_init(&file, DR_TAG_TEST, 0);
    int r = img_new(20, 10, 4, &image, err);
    if (!r)
        memset(image.pixels, 99, 800);
    r = r ? r : img_encode(&image, format, &o, &file, err);
    r = r ? r : img_decode(file.data, file.len, 1, &back, &found, err);
    img_free(&image);
    img_free(&back);
    img_texts_free(&found);
    buf_free(&file);
    return r;
}

/* A chunk that claims more bytes than the file has takes no memory. */
static void claimed_chunks_take_nothing(void **state)
{
    (void)state;
    static const char *const types[] = { "tEXt", "zTXt", "iTXt", "sPLT", "pCAL", "iCCP", "IDAT" };
    static const uint8_t head[] = { 0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n', 0,    0,    0,
                                    13,   'I', 'H', 'D', 'R',  0,    0,    0,    8,    0,    0,
                                    0,    8,   8,   2,   0,    0,    0,    0x4b, 0x6d, 0x29, 0xdc };
    uint8_t file[48] = { 0 };
    memcpy(file, head, sizeof head);
    memcpy(file + sizeof head, "\x7f\xff\xff\xf0", 4);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        struct dr_image image = { 0, 0, 0, NULL };
        memcpy(file + sizeof head + 4, types[i], 4);
        dr_alloc_reset_peak();
        size_t before = dr_alloc_stats_all().bytes;
        assert_int_equal(img_decode(file, sizeof file, 0, &image, NULL, NULL), DR_EFORMAT);
        assert_true(dr_alloc_stats_all().peak - before < 1 << 20);
    }
}

static void survives_no_memory(void **state)
{
    (void)state;
    for (int f = 0; f < IMG_FORMAT_COUNT; f++)
        test_oom_walk(scenario, &(enum img_format){ (enum img_format)f });
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(cut_files_are_refused),
    cmocka_unit_test(changed_files_do_no_harm),
    cmocka_unit_test(giant_sizes_are_refused_first),
    cmocka_unit_test(scan_bomb_is_refused),
    cmocka_unit_test(exif_is_bounded),
    cmocka_unit_test(exif_keeps_any_text),
    cmocka_unit_test(exif_notes_are_bounded),
    cmocka_unit_test(text_bombs_are_bounded),
    cmocka_unit_test(claimed_chunks_take_nothing),
    cmocka_unit_test(survives_no_memory),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
