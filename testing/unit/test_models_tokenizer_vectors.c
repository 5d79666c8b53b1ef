/* The tokenizer against the reference's answers (tools/golden/tokenizer.py): every Unicode scalar
 * value by hash, and some 19,000 generated strings by id, under the built-in tables and under
 * small folders.
 */
#include "testing/helpers/test.h"

#include <stdio.h>
#include <string.h>

#include <zstd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/utf8.h"
#include "models/tokenizers/clip_tokenizer.h"
#include "testing/helpers/model_access.h"

enum { BLOCK = 1024, SCALARS = 0x110000 };

static struct dr_error err;
static bool brief; /* runs with failing allocations need only the beginning */

static uint64_t fnv(uint64_t h, uint32_t value)
{
    return (h ^ value) * 0x100000001b3u;
}

/* Hash of the ids of one block's scalars, each between `before` and `after`. */
static uint64_t hash_block(const struct tok *tok, uint32_t first, const char *before,
                           const char *after)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (uint32_t c = first; c < first + BLOCK; c++) {
        char text[8];
        size_t n = strlen(before);
        memcpy(text, before, n);
        size_t used = utf8_encode(c, text + n);
        if (!used)
            continue;
        n += used;
        memcpy(text + n, after, strlen(after));
        n += strlen(after);
        int32_t *ids;
        int64_t n_ids;
        assert_int_equal(tok_encode(tok, text, n, &ids, &n_ids, &err), 0);
        h = fnv(h, (uint32_t)n_ids);
        for (int64_t i = 0; i < n_ids; i++)
            h = fnv(h, (uint32_t)ids[i]);
        dr_free(ids);
    }
    return first == 0xD800 || first == 0xDC00 ? 0xcbf29ce484222325u : h;
}

static void every_scalar_value(void **state)
{
    (void)state;
    struct tok *tok;
    struct buf want;
    buf_init(&want, DR_TAG_TEST, 0);
    assert_int_equal(
        dr_read_file(test_source("testing/golden/tokenizer/scalars.bin"), 1 << 20, &want, &err), 0);
    assert_int_equal(want.len, SCALARS / BLOCK * 2 * sizeof(uint64_t));
    assert_int_equal(tok_open_builtin(TOK_CLIP_L, &tok, &err), 0);
    for (uint32_t first = 0; first < (brief ? BLOCK : SCALARS); first += BLOCK) {
        uint64_t alone, between;
        const char *at = want.data + first / BLOCK * 2 * sizeof alone;
        memcpy(&alone, at, sizeof alone);
        memcpy(&between, at + sizeof alone, sizeof between);
        if (hash_block(tok, first, "", "") != alone)
            fail_msg("a scalar of U+%04X + 1024, alone, has other ids", first);
        if (hash_block(tok, first, "a", "b") != between)
            fail_msg("a scalar of U+%04X + 1024, between letters, has other ids", first);
    }
    tok_free(tok);
    buf_free(&want);
}

/* The vectors, read from left to right. */
static const char *cursor, *cursor_end;

static const void *take(size_t n)
{
    assert_true((size_t)(cursor_end - cursor) >= n);
    cursor += n;
    return cursor - n;
}

static uint32_t take_u32(void)
{
    uint32_t v;
    memcpy(&v, take(sizeof v), sizeof v);
    return v;
}

static uint16_t take_u16(void)
{
    uint16_t v;
    memcpy(&v, take(sizeof v), sizeof v);
    return v;
}

/* One string: the ids, and what the padded form makes of them. */
static void check_string(const struct tok *tok, const char *name, uint32_t number)
{
    enum { LENGTH = 77 };
    size_t len = take_u16();
    const char *text = take(len);
    size_t n = take_u16();
    const char *want = take(n * sizeof(uint16_t));
    int32_t *ids, padded[LENGTH];
    int64_t got;
    bool cut;
    assert_int_equal(tok_encode(tok, text, len, &ids, &got, &err), 0);
    if ((size_t)got != n)
        fail_msg("%s, string %u '%.*s': %lld ids, expected %zu", name, number, (int)len, text,
                 (long long)got, n);
    for (size_t i = 0; i < n; i++) {
        uint16_t id;
        memcpy(&id, want + i * sizeof id, sizeof id);
        if (ids[i] != id)
            fail_msg("%s, string %u '%.*s': id %zu is %d, expected %d", name, number, (int)len,
                     text, i, ids[i], id);
    }
    assert_int_equal(tok_encode_padded(tok, text, len, LENGTH, padded, &cut, NULL, &err), 0);
    assert_int_equal(cut, n > LENGTH - 2);
    for (size_t i = 0; i < LENGTH; i++) {
        size_t kept = cut ? LENGTH - 2 : n;
        int32_t expected = i == 0          ? tok_info(tok).bos
                           : i <= kept     ? ids[i - 1]
                           : i == kept + 1 ? tok_info(tok).eos
                                           : tok_info(tok).pad;
        assert_int_equal(padded[i], expected);
    }
    dr_free(ids);
}

static void check_set(void)
{
    char name[256] = "", folder[300];
    struct tok *tok;
    size_t n_name = *(const unsigned char *)take(1);
    memcpy(name, take(n_name), n_name);
    snprintf(folder, sizeof folder, "testing/golden/tokenizer/folders/%s", name);
    int r = !strcmp(name, "1")   ? tok_open_builtin(TOK_CLIP_L, &tok, &err)
            : !strcmp(name, "2") ? tok_open_builtin(TOK_CLIP_BIGG, &tok, &err)
                                 : tok_open_folder(test_source(folder), &tok, &err);
    if (r)
        fail_msg("%s: %s", name, err.text);
    struct tok_info info = tok_info(tok);
    assert_int_equal(info.vocab_size, (int32_t)take_u32());
    assert_int_equal(info.bos, (int32_t)take_u32());
    assert_int_equal(info.eos, (int32_t)take_u32());
    assert_int_equal(info.pad, (int32_t)take_u32());
    assert_int_equal(info.unk, (int32_t)take_u32());
    assert_int_equal(info.max_length, (int32_t)take_u32());
    uint32_t n = take_u32();
    assert_true(n > 600);
    for (uint32_t i = 0; i < (brief ? 100 : n); i++)
        check_string(tok, name, i);
    tok_free(tok);
}

static void generated_strings(void **state)
{
    (void)state;
    struct buf packed;
    buf_init(&packed, DR_TAG_TEST, 0);
    assert_int_equal(dr_read_file(test_source("testing/golden/tokenizer/strings.bin.zst"), 4 << 20,
                                  &packed, &err),
                     0);
    unsigned long long size = ZSTD_getFrameContentSize(packed.data, packed.len);
    assert_in_range(size, 1, 64 << 20);
    char *data = dr_malloc(DR_TAG_TEST, (size_t)size);
    assert_non_null(data);
    assert_int_equal(ZSTD_decompress(data, (size_t)size, packed.data, packed.len), size);
    cursor = data;
    cursor_end = data + size;
    assert_memory_equal(take(4), "DRTV", 4);
    uint32_t n_sets = take_u32();
    assert_int_equal(n_sets, 9);
    for (uint32_t i = 0; i < (brief ? 1 : n_sets); i++)
        check_set();
    if (!brief)
        assert_ptr_equal(cursor, cursor_end);
    dr_free(data);
    buf_free(&packed);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(every_scalar_value),
    cmocka_unit_test(generated_strings),
};

int main(int argc, char **argv)
{
    brief = argc > 1 && !strcmp(argv[1], "--oom");
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
