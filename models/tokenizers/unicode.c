/* unicode.c - see unicode.h. Composition is that of UAX 15, "The Composition Algorithm". utf8proc's
 * whole-string functions allocate by malloc and order marks by a quadratic sort, so only its
 * per-character decomposition and its composition of an ordered run are used.
 */
#include "models/tokenizers/unicode.h"

#include <stdbool.h>
#include <string.h>
#include <utf8proc.h>

#include "base/alloc.h"
#include "base/utf8.h"
#include "models/tokenizers/zst.h"

enum {
    HEADER = 16,
    MAX_TABLE = 4 << 20,
    MAX_PARTS = 18, /* longest decomposition of one scalar that any Unicode version has */
    SHORT_SORT = 16 /* marks in a row up to which insertion is the faster sort */
};

static const utf8proc_option_t compose = UTF8PROC_STABLE | UTF8PROC_COMPOSE;

/* Scalars waiting for a neighbour that they may join with. */
struct code_run {
    const struct uni *uni;
    struct buf *dst;
    utf8proc_int32_t *scalars;
    utf8proc_int32_t *sorted; /* scratch of the same capacity */
    size_t n, cap;
    bool after_space;
};

static uint32_t u32_at(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static bool scalar_valid(uint32_t c)
{
    return c < UNI_SCALARS && (c < 0xD800 || c > 0xDFFF);
}

static int fill(struct uni *uni, const uint8_t *p, const char *what, struct dr_error *err)
{
    for (size_t i = 0; i < UNI_SCALARS / UNI_BLOCK; i++, p += 2) {
        uni->index[i] = (uint16_t)(p[0] | p[1] << 8);
        if (uni->index[i] >= uni->n_blocks)
            return dr_fail(err, DR_EFORMAT, "%s: block %u of %u", what, uni->index[i],
                           uni->n_blocks);
    }
    memcpy(uni->blocks, p, (size_t)uni->n_blocks * UNI_BLOCK);
    p += (size_t)uni->n_blocks * UNI_BLOCK;
    for (uint32_t i = 0; i < uni->n_lower; i++, p += 12) {
        struct uni_lower *low = &uni->lower[i];
        *low = (struct uni_lower){ u32_at(p), u32_at(p + 4), u32_at(p + 8) };
        if (!scalar_valid(low->from) || !scalar_valid(low->to) || !scalar_valid(low->second) ||
            (i && low->from <= low[-1].from))
            return dr_fail(err, DR_EFORMAT, "%s: lower-case entry %u is wrong", what, i);
    }
    return 0;
}

int uni_parse(const void *bytes, size_t n, const char *what, struct uni **ret_uni,
              struct dr_error *err)
{
    const uint8_t *p = bytes;
    if (n < HEADER || memcmp(p, "DRUT", 4) || u32_at(p + 4) != 1)
        return dr_fail(err, DR_EFORMAT, "%s: not a Unicode table of version 1", what);
    uint32_t n_blocks = u32_at(p + 8), n_lower = u32_at(p + 12);
    if (!n_blocks || n_blocks > UNI_SCALARS / UNI_BLOCK || n_lower > UNI_SCALARS ||
        n != HEADER + UNI_SCALARS / UNI_BLOCK * 2 + (size_t)n_blocks * UNI_BLOCK +
                 (size_t)n_lower * 12)
        return dr_fail(err, DR_EFORMAT,
                       "%s: %zu bytes do not fit %u blocks and %u lower-case entries", what, n,
                       n_blocks, n_lower);
    struct uni *uni = dr_calloc(DR_TAG_TOKENIZER, 1, sizeof *uni);
    if (!uni)
        return dr_fail(err, DR_ENOMEM, "%s: no memory", what);
    uni->n_blocks = n_blocks;
    uni->n_lower = n_lower;
    uni->blocks = dr_malloc(DR_TAG_TOKENIZER, (size_t)n_blocks * UNI_BLOCK);
    uni->lower = dr_malloc(DR_TAG_TOKENIZER, n_lower * sizeof *uni->lower);
    int r = uni->blocks && uni->lower ? fill(uni, p + HEADER, what, err)
                                      : dr_fail(err, DR_ENOMEM, "%s: no memory", what);
    if (r)
        uni_free(uni);
    else
        *ret_uni = uni;
    return r;
}

int uni_open(struct uni **ret_uni, struct dr_error *err)
{
    static const char name[] = "tokenizers/unicode.tbl.zst";
    char *data;
    size_t size;
    int r = zst_read_share(name, MAX_TABLE, &data, &size, err);
    if (r)
        return r;
    r = uni_parse(data, size, name, ret_uni, err);
    dr_free(data);
    return r;
}

void uni_free(struct uni *uni)
{
    if (!uni)
        return;
    dr_free(uni->blocks);
    dr_free(uni->lower);
    dr_free(uni);
}

static int put(struct buf *dst, uint32_t scalar)
{
    char bytes[4];
    return buf_append(dst, bytes, utf8_encode(scalar, bytes));
}

/* A composed scalar: white space collapses, the rest goes to lower case. */
static int emit(struct code_run *run, uint32_t scalar)
{
    unsigned flags = uni_flags(run->uni, scalar);
    if (flags & UNI_COLLAPSE) {
        if (run->after_space)
            return 0;
        run->after_space = true;
        return buf_putc(run->dst, ' ');
    }
    run->after_space = false;
    if (!(flags & UNI_LOWER))
        return put(run->dst, scalar);
    size_t low = 0, high = run->uni->n_lower;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (run->uni->lower[mid].from < scalar)
            low = mid + 1;
        else
            high = mid;
    }
    if (low == run->uni->n_lower || run->uni->lower[low].from != scalar)
        return put(run->dst, scalar);
    int r = put(run->dst, run->uni->lower[low].to);
    if (!r && run->uni->lower[low].second)
        r = put(run->dst, run->uni->lower[low].second);
    return r;
}

static unsigned combining_class(utf8proc_int32_t scalar)
{
    return (unsigned)utf8proc_get_property(scalar)->combining_class & 255;
}

/* Stable sort of n marks by combining class. */
static void sort_marks(utf8proc_int32_t *marks, utf8proc_int32_t *scratch, size_t n)
{
    if (n <= SHORT_SORT) {
        for (size_t i = 1; i < n; i++) {
            utf8proc_int32_t mark = marks[i];
            size_t j = i;
            for (; j && combining_class(marks[j - 1]) > combining_class(mark); j--)
                marks[j] = marks[j - 1];
            marks[j] = mark;
        }
        return;
    }
    size_t at[257] = { 0 };
    for (size_t i = 0; i < n; i++)
        at[combining_class(marks[i]) + 1]++;
    for (size_t i = 1; i < 257; i++)
        at[i] += at[i - 1];
    for (size_t i = 0; i < n; i++)
        scratch[at[combining_class(marks[i])]++] = marks[i];
    memcpy(marks, scratch, n * sizeof *marks);
}

/* Orders and composes the run, emits it and empties it. */
static int flush(struct code_run *run)
{
    size_t start = 0;
    for (size_t i = 0; i <= run->n; i++) {
        if (i < run->n && combining_class(run->scalars[i]))
            continue;
        sort_marks(run->scalars + start, run->sorted + start, i - start);
        start = i + 1;
    }
    utf8proc_ssize_t n = utf8proc_normalize_utf32(run->scalars, (utf8proc_ssize_t)run->n, compose);
    if (n < 0)
        return DR_EINTERNAL;
    run->n = 0;
    for (utf8proc_ssize_t i = 0; i < n; i++) {
        int r = emit(run, (uint32_t)run->scalars[i]);
        if (r)
            return r;
    }
    return 0;
}

/* Room for one more decomposed scalar. The lists grow only while the run does. */
static int reserve(struct code_run *run)
{
    if (run->cap - run->n >= MAX_PARTS)
        return 0;
    size_t cap = run->cap ? run->cap * 2 : 256;
    void *scalars = dr_realloc(DR_TAG_TOKENIZER, run->scalars, cap * sizeof *run->scalars);
    if (!scalars)
        return DR_ENOMEM;
    run->scalars = scalars;
    void *sorted = dr_realloc(DR_TAG_TOKENIZER, run->sorted, cap * sizeof *run->sorted);
    if (!sorted)
        return DR_ENOMEM;
    run->sorted = sorted;
    run->cap = cap;
    return 0;
}

static int hold(struct code_run *run, uint32_t scalar)
{
    int boundclass = 0;
    int r = reserve(run);
    if (r)
        return r;
    utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)scalar, run->scalars + run->n,
                                                 (utf8proc_ssize_t)(run->cap - run->n), compose,
                                                 &boundclass);
    if (n < 0 || (size_t)n > run->cap - run->n)
        return DR_EINTERNAL;
    run->n += (size_t)n;
    return 0;
}

int uni_normalize(const struct uni *uni, const char *text, size_t len, struct buf *dst)
{
    struct code_run run = { .uni = uni, .dst = dst };
    size_t used;
    int r = 0;
    for (size_t i = 0; i < len && !r; i += used) {
        uint32_t scalar = (unsigned char)text[i];
        used = 1;
        if (scalar >= 0x80 && !(used = utf8_decode(text + i, len - i, &scalar))) {
            r = DR_EINVAL;
            break;
        }
        if (uni_flags(uni, scalar) & UNI_NFC) {
            r = hold(&run, scalar);
            continue;
        }
        if (run.n)
            r = flush(&run);
        if (!r)
            r = emit(&run, scalar);
    }
    if (!r && run.n)
        r = flush(&run);
    dr_free(run.scalars);
    dr_free(run.sorted);
    return r;
}
