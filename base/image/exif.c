/* exif.c - see exif.h. Reference: Exif 2.32 (CIPA DC-008), TIFF 6.0. */
#include "base/image/exif.h"

#include <stdbool.h>
#include <string.h>

#include "base/utf8.h"

enum {
    TAG_ORIENTATION = 0x0112,
    TAG_EXIF_IFD = 0x8769,
    TAG_MAKER_NOTE = 0x927c,
    TAG_USER_COMMENT = 0x9286,
    TYPE_SHORT = 3,
    TYPE_LONG = 4,
    TYPE_UNDEFINED = 7
};
enum { ENTRY = 12, CODE = 8, AT_EXIF_IFD = 26, MAX_ENTRIES = 512, BYTE_ORDER_MARK = 0xfeff };

static const char maker[] = "darkroom"; /* and its zero */

static int put(struct buf *dst, uint32_t value, int bytes)
{
    char b[4];
    for (int i = 0; i < bytes; i++)
        b[i] = (char)(value >> 8 * (bytes - 1 - i));
    return buf_append(dst, b, (size_t)bytes);
}

static int put_entry(struct buf *dst, uint32_t tag, uint32_t type, uint32_t count, uint32_t value)
{
    int r = put(dst, tag, 2);
    r = r ? r : put(dst, type, 2);
    r = r ? r : put(dst, count, 4);
    return r ? r : put(dst, value, 4);
}

/* The directories: the first names the second, which has the note (0 bytes: none) and the comment,
 * their bytes behind it in this order. */
static int put_directories(struct buf *dst, uint32_t note, uint32_t comment)
{
    uint32_t entries = note ? 2 : 1, at = AT_EXIF_IFD + 2 + entries * ENTRY + 4;
    int r = put(dst, 1, 2);
    r = r ? r : put_entry(dst, TAG_EXIF_IFD, TYPE_LONG, 1, AT_EXIF_IFD);
    r = r ? r : put(dst, 0, 4);
    r = r ? r : put(dst, entries, 2);
    if (note && !r)
        r = put_entry(dst, TAG_MAKER_NOTE, TYPE_UNDEFINED, note, at);
    r = r ? r : put_entry(dst, TAG_USER_COMMENT, TYPE_UNDEFINED, comment, at + note + note % 2);
    return r ? r : put(dst, 0, 4);
}

static int put_utf16(struct buf *dst, uint32_t c)
{
    if (c < 0x10000)
        return put(dst, c, 2);
    c -= 0x10000;
    return put(dst, (0xd800 + (c >> 10)) << 16 | (0xdc00 + (c & 0x3ff)), 4);
}

static uint32_t get(const uint8_t *s, int bytes, bool little)
{
    uint32_t v = 0;
    for (int i = 0; i < bytes; i++)
        v |= (uint32_t)s[i] << 8 * (little ? i : bytes - 1 - i);
    return v;
}

/* Writers disagree about the byte order of the text: a mark decides, else the order that makes more
 * of the characters Latin, else the block's own. */
static bool text_is_little(const uint8_t *s, size_t n, bool block_little)
{
    if (n >= 2 && ((s[0] == 0xff && s[1] == 0xfe) || (s[0] == 0xfe && s[1] == 0xff)))
        return s[0] == 0xff;
    size_t zero_even = 0, zero_odd = 0;
    for (size_t i = 0; i + 1 < n; i += 2) {
        zero_even += !s[i];
        zero_odd += !s[i + 1];
    }
    return zero_even == zero_odd ? block_little : zero_odd > zero_even;
}

/* A comment's text, with the mark of its byte order only where it would be taken for another: other
 * programs do not write it either. */
static int put_text(const char *comment, size_t n, bool mark, struct buf *dst)
{
    uint32_t c;
    int r = mark ? put(dst, BYTE_ORDER_MARK, 2) : 0;
    for (size_t i = 0; i < n && !r;) {
        i += utf8_decode(comment + i, n - i, &c);
        r = put_utf16(dst, c);
    }
    const uint8_t *text = (const uint8_t *)dst->data;
    bool clear = !dst->len ||
                 (!text_is_little(text, dst->len, false) && get(text, 2, false) != BYTE_ORDER_MARK);
    if (r || mark || clear)
        return r;
    buf_clear(dst);
    return put_text(comment, n, true, dst);
}

int exif_make(const char *comment, const char *note, struct buf *dst, struct dr_error *err)
{
    size_t n = strlen(comment), note_bytes = note ? sizeof maker + strlen(note) : 0;
    if (n > UINT32_MAX / 8 || note_bytes > UINT32_MAX / 8)
        return dr_fail(err, DR_ELIMIT, "the picture's metadata is too long");
    struct buf text;
    int r = dr_check_utf8(comment, n, "comment", err);
    if (r)
        return r;
    buf_init(&text, DR_TAG_IMAGE, 0);
    r = put_text(comment, n, false, &text);
    r = r ? r : buf_append(dst, "MM\0*\0\0\0\x08", 8);
    r = r ? r : put_directories(dst, (uint32_t)note_bytes, (uint32_t)(CODE + text.len));
    if (note && !r)
        r = buf_append(dst, maker, sizeof maker);
    if (note && !r)
        r = buf_append(dst, note, strlen(note));
    if (note_bytes % 2 && !r)
        r = put(dst, 0, 1);
    r = r ? r : buf_append(dst, "UNICODE", CODE);
    r = r ? r : buf_append(dst, buf_text(&text), text.len);
    buf_free(&text);
    return r ? dr_fail(err, r, "out of memory for the picture's metadata") : 0;
}

/* A TIFF block being read. */
struct exif_block {
    const uint8_t *bytes;
    size_t n;
    bool little;
};

/* The entry of `tag` in the directory at `at`; NULL when absent. *ret_code is DR_EFORMAT for a
 * damaged one. */
static const uint8_t *find_entry(const struct exif_block *b, size_t at, uint32_t tag, int *ret_code)
{
    *ret_code = DR_EFORMAT;
    if (at > b->n || b->n - at < 2)
        return NULL;
    uint32_t entries = get(b->bytes + at, 2, b->little);
    if (entries > MAX_ENTRIES || b->n - at - 2 < (size_t)entries * ENTRY)
        return NULL;
    for (uint32_t i = 0; i < entries; i++) {
        const uint8_t *e = b->bytes + at + 2 + i * ENTRY;
        if (get(e, 2, b->little) == tag)
            return e;
    }
    *ret_code = DR_ENOENT;
    return NULL;
}

static int append_utf16(const uint8_t *s, size_t n, bool little, struct buf *dst)
{
    for (size_t i = 0; i + 1 < n; i += 2) {
        uint32_t c = get(s + i, 2, little);
        if (c == BYTE_ORDER_MARK && !i)
            continue;
        if (c >= 0xd800 && c < 0xdc00 && i + 3 < n) {
            uint32_t low = get(s + i + 2, 2, little);
            if (low < 0xdc00 || low > 0xdfff)
                return DR_EFORMAT;
            c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
            i += 2;
        }
        char utf8[4];
        size_t len = utf8_encode(c, utf8);
        if (!len || !c)
            return DR_EFORMAT;
        int r = buf_append(dst, utf8, len);
        if (r)
            return r;
    }
    return 0;
}

static int open_block(const void *bytes, size_t n, struct exif_block *b)
{
    *b = (struct exif_block){ bytes, n, false };
    if (n < 8)
        return DR_EFORMAT;
    b->little = b->bytes[0] == 'I';
    return memcmp(bytes, b->little ? "II*\0" : "MM\0*", 4) ? DR_EFORMAT : 0;
}

int exif_orientation(const void *bytes, size_t n)
{
    struct exif_block b;
    int r = open_block(bytes, n, &b);
    const uint8_t *e = r ? NULL
                         : find_entry(&b, get(b.bytes + 4, 4, b.little), TAG_ORIENTATION, &r);
    if (!e || get(e + 2, 2, b.little) != TYPE_SHORT || get(e + 4, 4, b.little) != 1)
        return 1;
    int orientation = (int)get(e + 8, 2, b.little);
    return orientation >= 1 && orientation <= 8 ? orientation : 1;
}

/* The bytes of an UNDEFINED entry of the second directory. */
static int find_bytes(const void *bytes, size_t n, uint32_t tag, struct exif_block *b,
                      const uint8_t **ret, size_t *ret_len)
{
    int r = open_block(bytes, n, b);
    if (r < 0)
        return r;
    const uint8_t *e = find_entry(b, get(b->bytes + 4, 4, b->little), TAG_EXIF_IFD, &r);
    if (e)
        e = find_entry(b, get(e + 8, 4, b->little), tag, &r);
    if (!e)
        return r;
    size_t len = get(e + 4, 4, b->little), at = get(e + 8, 4, b->little);
    if (get(e + 2, 2, b->little) != TYPE_UNDEFINED || len < CODE || at > n || len > n - at)
        return DR_EFORMAT;
    *ret = b->bytes + at;
    *ret_len = len;
    return 0;
}

int exif_comment(const void *bytes, size_t n, struct buf *dst)
{
    struct exif_block b;
    const uint8_t *text;
    size_t len;
    int r = find_bytes(bytes, n, TAG_USER_COMMENT, &b, &text, &len);
    if (r)
        return r;
    text += CODE;
    len -= CODE;
    if (!memcmp(text - CODE, "UNICODE", CODE))
        return append_utf16(text, len, text_is_little(text, len, b.little), dst);
    if (memcmp(text - CODE, "ASCII\0\0", CODE) || memchr(text, 0, len) ||
        utf8_valid_prefix((const char *)text, len) != len)
        return DR_EFORMAT;
    return buf_append(dst, text, len);
}

static int add_note(const void *bytes, size_t n, struct img_texts *texts)
{
    struct exif_block b;
    const uint8_t *note;
    size_t len;
    struct buf text;
    if (find_bytes(bytes, n, TAG_MAKER_NOTE, &b, &note, &len) || len < sizeof maker ||
        memcmp(note, maker, sizeof maker))
        return 0;
    note += sizeof maker;
    len -= sizeof maker;
    if (memchr(note, 0, len) || utf8_valid_prefix((const char *)note, len) != len)
        return 0;
    buf_init(&text, DR_TAG_IMAGE, 0);
    int r = buf_append(&text, note, len);
    if (!r)
        r = img_texts_add(texts, "darkroom", buf_text(&text));
    buf_free(&text);
    return r;
}

int exif_texts(const void *bytes, size_t n, struct img_texts *texts)
{
    struct buf comment;
    buf_init(&comment, DR_TAG_IMAGE, 0);
    int r = exif_comment(bytes, n, &comment);
    if (!r)
        r = img_texts_add(texts, "parameters", buf_text(&comment));
    buf_free(&comment);
    if (r != DR_ENOMEM)
        r = add_note(bytes, n, texts);
    return r == DR_ENOMEM ? r : 0;
}
