/* The tokenizer's own rules: padding, hostile folders and bytes, memory failing, time. What it
 * must give for a text is in test_models_tokenizer_vectors.c.
 */
#include "testing/helpers/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "models/tokenizers/clip_tokenizer.h"
#include "models/tokenizers/unicode.h"
#include "models/tokenizers/zst.h"
#include "testing/helpers/model_access.h"

static struct dr_error err;
static int share = 1; /* of the rounds: the runs with failing allocations do a tenth */

/* The files of a folder; NULL: absent. */
struct files {
    const char *vocab, *merges, *config, *map, *added, *whole;
};

#define VOCAB                                                                                      \
    "{\"<|startoftext|>\":0,\"<|endoftext|>\":1,\"a\":2,\"b\":3,\"a</w>\":4,\"b</w>\":5,"          \
    "\"ab</w>\":6,\"!\":7,\"!</w>\":8}"
#define MERGES "#version: 0.2\na b</w>\n"
#define FILES(v, m, c)                                                                             \
    {                                                                                              \
        .vocab = (v), .merges = (m), .config = (c)                                                 \
    }
#define WHOLE(merges) "{\"model\":{\"type\":\"BPE\",\"vocab\":" VOCAB ",\"merges\":" merges "}}"

static const char *make_folder(const struct files *f)
{
    static char folder[300];
    const char *const names[] = {
        "vocab.json",        "merges.txt",    "tokenizer_config.json", "special_tokens_map.json",
        "added_tokens.json", "tokenizer.json"
    };
    const char *const texts[] = { f->vocab, f->merges, f->config, f->map, f->added, f->whole };
    snprintf(folder, sizeof folder, "%s/tok", test_dir());
    mkdir(folder, 0700);
    for (int i = 0; i < 6; i++) {
        char path[400];
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        remove(path);
        FILE *file = texts[i] ? fopen(path, "wb") : NULL;
        if (!file)
            continue;
        fwrite(texts[i], 1, strlen(texts[i]), file);
        fclose(file);
    }
    return folder;
}

static struct tok *open_files(const struct files *f)
{
    struct tok *tok = NULL;
    memset(&err, 0, sizeof err);
    if (tok_open_folder(make_folder(f), &tok, &err))
        fail_msg("%s", err.text);
    return tok;
}

static struct tok *open_builtin(enum tok_builtin which)
{
    struct tok *tok = NULL;
    memset(&err, 0, sizeof err);
    if (tok_open_builtin(which, &tok, &err))
        fail_msg("%s", err.text);
    return tok;
}

static void expect_ids(const struct tok *tok, const char *text, const int32_t *want, int64_t n)
{
    int32_t *ids;
    int64_t got;
    assert_int_equal(tok_encode(tok, text, strlen(text), &ids, &got, &err), 0);
    assert_int_equal(got, n);
    if (n)
        assert_memory_equal(ids, want, (size_t)n * sizeof *ids);
    dr_free(ids);
}

#define EXPECT(tok, text, ...)                                                                     \
    expect_ids(tok, text, (const int32_t[]){ __VA_ARGS__ },                                        \
               sizeof((const int32_t[]){ __VA_ARGS__ }) / sizeof(int32_t))

static void exclamation_marks_pad_the_second_tokenizer(void **state)
{
    (void)state;
    struct tok *one = open_builtin(TOK_CLIP_L), *two = open_builtin(TOK_CLIP_BIGG);
    EXPECT(one, "wow!!! it", 2781, 995, 585);
    EXPECT(two, "wow!!! it", 2781, 0, 0, 0, 585);
    EXPECT(one, "a photo of a cat", 320, 1125, 539, 320, 2368);
    EXPECT(one, "<|endoftext|>A<|startoftext|>", 49407, 320, 49406);
    expect_ids(one, " \t\n", NULL, 0);
    expect_ids(one, "", NULL, 0);
    assert_int_equal(tok_info(one).pad, 49407);
    assert_int_equal(tok_info(two).pad, 0);
    assert_int_equal(tok_info(two).vocab_size, 49408);
    assert_int_equal(tok_info(two).id_limit, 49408);
    assert_int_equal(tok_info(two).max_length, 77);
    assert_string_equal(tok_spelling(one, 2368), "cat</w>");
    assert_null(tok_spelling(one, 49408));
    assert_null(tok_spelling(one, -1));
    tok_free(one);
    tok_free(two);
}

static void padding_cuts_and_keeps_eos(void **state)
{
    (void)state;
    struct tok *tok = open_builtin(TOK_CLIP_BIGG);
    int32_t ids[6];
    int64_t n;
    bool cut;
    assert_int_equal(tok_encode_padded(tok, "cat", 3, 6, ids, &cut, &n, &err), 0);
    assert_memory_equal(ids, ((int32_t[]){ 49406, 2368, 49407, 0, 0, 0 }), sizeof ids);
    assert_false(cut);
    assert_int_equal(n, 1);
    assert_int_equal(tok_encode_padded(tok, "cat cat cat cat", 15, 6, ids, &cut, &n, &err), 0);
    assert_memory_equal(ids, ((int32_t[]){ 49406, 2368, 2368, 2368, 2368, 49407 }), sizeof ids);
    assert_false(cut);
    assert_int_equal(tok_encode_padded(tok, "cat cat cat cat dog", 19, 6, ids, &cut, &n, &err), 0);
    assert_memory_equal(ids, ((int32_t[]){ 49406, 2368, 2368, 2368, 2368, 49407 }), sizeof ids);
    assert_true(cut);
    assert_int_equal(n, 5);
    assert_int_equal(tok_encode_padded(tok, "cat", 3, 2, ids, NULL, NULL, &err), 0);
    assert_int_equal(ids[1], 49407);
    assert_int_equal(tok_encode_padded(tok, "cat", 3, 1, ids, NULL, NULL, &err), DR_EINVAL);
    tok_free(tok);
}

static void bad_text_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *place;
    } cases[] = { { "abc\xff", "3" },
                  { "ab\xc3", "2" },
                  { "a\xc0\x80", "1" },
                  { "\xed\xa0\x80", "0" },
                  { "abcd\xf4\x90\x80\x80", "4" } };
    struct tok *tok = open_builtin(TOK_CLIP_L);
    int32_t *ids = NULL;
    int64_t n = -1;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t len = strlen(cases[i].text);
        assert_int_equal(tok_encode(tok, cases[i].text, len, &ids, &n, &err), DR_EINVAL);
        assert_non_null(strstr(err.text, cases[i].place));
    }
    char *big = calloc(1, (16 << 20) + 1);
    assert_non_null(big);
    assert_int_equal(tok_encode(tok, big, (16 << 20) + 1, &ids, &n, &err), DR_ELIMIT);
    free(big);
    assert_null(ids);
    assert_int_equal(n, -1);
    tok_free(tok);
}

static void hostile_folders_are_refused(void **state)
{
    (void)state;
    static const struct {
        struct files files;
        int code;
        const char *says;
    } cases[] = {
        { { 0 }, DR_ENOENT, "neither tokenizer.json nor vocab.json" },
        { { .vocab = VOCAB }, DR_ENOENT, "merges.txt" },
        { { .merges = MERGES }, DR_ENOENT, "vocab.json" },
        { FILES("{\"a\":1,\"b\":1}", MERGES, NULL), DR_EFORMAT,
          "the same id 1 (while reading vocab.json)" },
        { FILES("{\"a\":-1}", MERGES, NULL), DR_EFORMAT, "id -1" },
        { FILES("{\"a\":1048576}", MERGES, NULL), DR_EFORMAT, "id 1048576" },
        { FILES("{\"a\":9223372036854775807}", MERGES, NULL), DR_EFORMAT,
          "id 9223372036854775807" },
        { FILES("{\"a\":1.5}", MERGES, NULL), DR_EFORMAT, "token 'a' has a number" },
        { FILES("{\"a\":\"0\"}", MERGES, NULL), DR_EFORMAT, "token 'a' has a string" },
        { FILES("{\"\":3}", MERGES, NULL), DR_EFORMAT, "has 0 bytes" },
        { FILES("{\"a\":1,\"a\":2}", MERGES, NULL), 0, "vocab.json" },
        { FILES("{\"a\":99999999999999999999999}", MERGES, NULL), 0, "vocab.json" },
        { FILES("[1]", MERGES, NULL), DR_EFORMAT, "an array, expected an object" },
        { FILES("{}", MERGES, NULL), DR_EFORMAT, "no vocabulary" },
        { FILES("{\"a\":1", MERGES, NULL), 0, "vocab.json" },
        { FILES("", MERGES, NULL), 0, "vocab.json" },
        { FILES(VOCAB, "#version: 0.2\na q\n", NULL), DR_EFORMAT, "line 2" },
        { FILES(VOCAB, "#version: 0.2\na q\n", NULL), DR_EFORMAT, "merges.txt, line 2" },
        { FILES(VOCAB, "b a</w>\n", NULL), DR_EFORMAT, "merge into 'ba</w>'" },
        { FILES(VOCAB, MERGES "a b</w>\n", NULL), DR_EFORMAT, "merges.txt, line 3" },
        { FILES(VOCAB, MERGES "a b</w>\n", NULL), DR_EFORMAT, "a second time" },
        { FILES(VOCAB, "ab</w>\n", NULL), DR_EFORMAT, "two tokens" },
        { FILES(VOCAB, "a b </w>\n", NULL), DR_EFORMAT, "two tokens" },
        { FILES(VOCAB, "\n", NULL), DR_EFORMAT, "line 1" },
        { FILES(VOCAB, "a \xff\n", NULL), DR_EINVAL, "merges.txt" },
        { FILES(VOCAB, MERGES, "[]"), DR_EFORMAT, "tokenizer_config.json" },
        { FILES(VOCAB, MERGES, "{\"pad_token\":null}"), DR_EFORMAT, "pad_token is null" },
        { FILES(VOCAB, MERGES, "{\"pad_token\":\"\"}"), DR_EFORMAT, "pad token '' is empty" },
        { FILES(VOCAB, MERGES, "{\"eos_token\":3}"), DR_EFORMAT, "tokenizer_config.json" },
        { FILES(VOCAB, MERGES, "{\"eos_token\":{\"text\":\"x\"}}"), DR_EINVAL, "content" },
        { FILES(VOCAB, MERGES, "{\"padding_side\":\"left\"}"), DR_EUNSUPPORTED, "padding_side" },
        { FILES(VOCAB, MERGES, "{\"split_special_tokens\":true}"), DR_EUNSUPPORTED,
          "split_special" },
        { FILES(VOCAB, MERGES, "{\"model_max_length\":1}"), DR_EFORMAT, "model_max_length" },
        { FILES(VOCAB, MERGES, "{\"added_tokens_decoder\":[]}"), DR_EFORMAT,
          "added_tokens_decoder" },
        { FILES(VOCAB, MERGES, "{\"added_tokens_decoder\":{\"x\":{\"content\":\"q\"}}}"),
          DR_EFORMAT, "'x' is not an id" },
        { FILES(VOCAB, MERGES, "{\"added_tokens_decoder\":{\"-3\":{\"content\":\"q\"}}}"),
          DR_EFORMAT, "id -3" },
        { FILES(VOCAB, MERGES, "{\"added_tokens_decoder\":{\"3\":\"q\"}}"), DR_EFORMAT,
          "a string" },
        { { .vocab = VOCAB, .merges = MERGES, .added = "{\"q\":\"1\"}" },
          DR_EFORMAT,
          "added_tokens.json" },
        { FILES("{\"a\":0,\"b\":2}", "", "{\"bos_token\":\"c\"}"), DR_EFORMAT, "has holes" },
        { { .whole = "{}" }, DR_EINVAL, "model" },
        { { .whole = "{\"model\":{\"type\":\"Unigram\",\"vocab\":[]}}" },
          DR_EUNSUPPORTED,
          "Unigram" },
        { { .whole = WHOLE("[\"a\"]") }, DR_EFORMAT, "tokenizer.json, merge 1" },
        { { .whole = WHOLE("[[\"a\"]]") }, DR_EFORMAT, "tokenizer.json, merge 1" },
        { { .whole = WHOLE("[[\"a\",1]]") }, DR_EFORMAT, "expected two tokens" },
        { { .whole = WHOLE("[\"a b</w>\", [\"a\",\"b</w>\"]]") }, DR_EFORMAT, "merge 2" },
        { { .whole = WHOLE("[], \"x\": 0") }, 0, NULL },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tok *tok = NULL;
        uint64_t blocks = test_blocks();
        memset(&err, 0, sizeof err);
        int r = tok_open_folder(make_folder(&cases[i].files), &tok, &err);
        if (!cases[i].says) {
            assert_int_equal(r, 0);
            tok_free(tok);
            continue;
        }
        if (r >= 0 || (cases[i].code && r != cases[i].code) || !strstr(err.text, cases[i].says))
            fail_msg("case %zu: returned %d, \"%s\"; expected %d, \"%s\"", i, r, err.text,
                     cases[i].code, cases[i].says);
        assert_null(tok);
        assert_int_equal(test_blocks(), blocks);
    }
    struct tok *tok = NULL;
    assert_int_equal(tok_open_folder("/nowhere/at/all", &tok, &err), DR_ENOENT);
    assert_non_null(strstr(err.text, "/nowhere/at/all"));
}

static void bytes_without_token(void **state)
{
    (void)state;
    int32_t *ids;
    int64_t n;
    struct tok *tok = open_files(&(struct files)FILES(VOCAB, MERGES, NULL));
    EXPECT(tok, "ab Aq!", 6, 2, 1, 8);
    tok_free(tok);
    tok = open_files(&(struct files)FILES(VOCAB, MERGES, "{\"unk_token\":\"<unk>\"}"));
    assert_int_equal(tok_info(tok).unk, 9);
    assert_int_equal(tok_info(tok).id_limit, 10);
    EXPECT(tok, "ab<unk>", 6, 9);
    assert_int_equal(tok_encode(tok, "aq", 2, &ids, &n, &err), DR_EFORMAT);
    assert_non_null(strstr(err.text, "0x71"));
    tok_free(tok);
}

static void lengths_of_folders(void **state)
{
    (void)state;
    static const struct {
        const char *config;
        int64_t length;
    } cases[] = {
        { NULL, 77 },
        { "{}", 77 },
        { "{\"model_max_length\": 32}", 32 },
        { "{\"model_max_length\": 1000000000000000019884624838656}", 77 },
        { "{\"x\":\"1000000000000000019884624838656\\\"\",\"model_max_length\": 1e30}", 77 },
        { "{\"y\":-0.1234567890123456789012,\"model_max_length\": 78}", 78 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tok *tok = open_files(&(struct files)FILES(VOCAB, MERGES, cases[i].config));
        assert_int_equal(tok_info(tok).max_length, cases[i].length);
        tok_free(tok);
    }
}

/* SplitMix64 (Steele, Lea, Flood 2014). */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static double encode_seconds(const struct tok *tok, const char *text, size_t len)
{
    int32_t *ids;
    int64_t n;
    clock_t start = clock();
    assert_int_equal(tok_encode(tok, text, len, &ids, &n, &err), 0);
    assert_true(n > 0);
    dr_free(ids);
    return (double)(clock() - start) / CLOCKS_PER_SEC;
}

/* One word, one run of marks, one run of token beginnings, of 300,000 bytes: were any step
 * quadratic, it would take minutes. */
static void long_texts_take_linear_time(void **state)
{
    (void)state;
    const size_t size = (size_t)(300000 / share);
    static const char *const units[] = { "a",           "ab",  "!",        "\xcc\x81\xcc\xa7",
                                         "<|endoftext", " \t", "\xc3\xa9", "\xea\xb0\x80" };
    struct tok *tok = open_builtin(TOK_CLIP_L);
    uint64_t seed = 1;
    char *text = malloc(size + 16);
    assert_non_null(text);
    for (size_t i = 0; i <= sizeof units / sizeof *units; i++) {
        size_t len = 0;
        while (len < size) {
            const char *unit = i < sizeof units / sizeof *units ? units[i] : NULL;
            char letter[2] = { (char)('a' + next_random(&seed) % 26), 0 };
            unit = unit ? unit : letter;
            memcpy(text + len, unit, strlen(unit));
            len += strlen(unit);
        }
        text[len++] = 'z';
        double seconds = encode_seconds(tok, text, len);
        if (seconds > 5)
            fail_msg("unit %zu: %.1f s for 300,000 bytes", i, seconds);
    }
    free(text);
    tok_free(tok);
}

static void random_bytes_do_no_harm(void **state)
{
    (void)state;
    struct tok *tok = open_builtin(TOK_CLIP_BIGG);
    uint64_t seed = 7;
    int valid = 0;
    for (int round = 0; round < 20000 / share; round++) {
        char text[64];
        size_t len = next_random(&seed) % sizeof text;
        unsigned mask = round % 3 ? 0xff : 0x7f;
        for (size_t i = 0; i < len; i++)
            text[i] = (char)(next_random(&seed) & mask);
        int32_t *ids;
        int64_t n;
        int r = tok_encode(tok, text, len, &ids, &n, &err);
        assert_true(r == 0 || r == DR_EINVAL);
        if (r)
            continue;
        valid++;
        for (int64_t i = 0; i < n; i++)
            assert_in_range(ids[i], 0, 49407);
        dr_free(ids);
    }
    assert_true(valid > 6000 / share);
    tok_free(tok);
}

static void mangled_unicode_tables(void **state)
{
    (void)state;
    char *data;
    size_t size;
    uint64_t seed = 3, blocks;
    assert_int_equal(zst_read_share("tokenizers/unicode.tbl.zst", 1 << 24, &data, &size, &err), 0);
    blocks = test_blocks();
    for (int round = 0; round < 300 / share; round++) {
        struct uni *uni = NULL;
        char *copy = malloc(size);
        assert_non_null(copy);
        memcpy(copy, data, size);
        size_t n = round % 3 ? size : next_random(&seed) % size;
        for (int k = 0; k < 4; k++)
            copy[next_random(&seed) % (round % 2 ? 64 : size)] = (char)next_random(&seed);
        if (!uni_parse(copy, n, "mangled", &uni, &err)) {
            struct buf out;
            buf_init(&out, DR_TAG_TEST, 0);
            assert_int_equal(uni_normalize(uni, "Caf\xc3\xa9 \xcc\x81 \xea\xb0\x80", 12, &out), 0);
            buf_free(&out);
        }
        uni_free(uni);
        free(copy);
        assert_int_equal(test_blocks(), blocks);
    }
    dr_free(data);
    assert_int_equal(zst_read_share("tokenizers/unicode.tbl.zst", 100, &data, &size, &err),
                     DR_ELIMIT);
    assert_int_equal(zst_read_share("tokenizers/README.md", 100, &data, &size, &err), DR_EFORMAT);
}

/* A folder's JSON and merges with a byte changed: an error or a tokenizer, nothing else. */
static void mangled_folders(void **state)
{
    (void)state;
    static const char config[] =
        "{\"added_tokens_decoder\":{\"0\":{\"content\":\"Ab\",\"lstrip\":true,"
        "\"normalized\":true}},\"pad_token\":\"!\",\"cls_token\":\"x\"}";
    static const char bytes[] = "\"{}[]:,0 a\\\xff\x01\n-9";
    uint64_t seed = 11, blocks = test_blocks();
    for (int round = 0; round < 400 / share; round++) {
        char vocab[] = VOCAB, merges[] = MERGES, cfg[sizeof config],
             whole[] = WHOLE("[\"a b</w>\"]");
        memcpy(cfg, config, sizeof cfg);
        char *const target[] = { vocab, merges, cfg, whole };
        char *chosen = target[round % 4];
        chosen[next_random(&seed) % strlen(chosen)] =
            bytes[next_random(&seed) % (sizeof bytes - 1)];
        struct files files = FILES(vocab, merges, cfg);
        files.whole = round % 4 == 3 ? whole : NULL;
        struct tok *tok = NULL;
        memset(&err, 0, sizeof err);
        int r = tok_open_folder(make_folder(&files), &tok, &err);
        assert_true(r == 0 || err.text[0]);
        if (!r) {
            int32_t *ids;
            int64_t n;
            if (!tok_encode(tok, " ab AB!x", 8, &ids, &n, &err))
                dr_free(ids);
        }
        tok_free(tok);
        assert_int_equal(test_blocks(), blocks);
    }
}

static int scenario_builtin(void *ctx, struct dr_error *e)
{
    (void)ctx;
    struct tok *tok;
    int32_t ids[16];
    int r = tok_open_builtin(TOK_CLIP_BIGG, &tok, e);
    if (r)
        return r;
    r = tok_encode_padded(tok, "A caf\xc3\xa9 e\xcc\x81 at night!", 22, 16, ids, NULL, NULL, e);
    tok_free(tok);
    return r;
}

static int scenario_folder(void *ctx, struct dr_error *e)
{
    struct tok *tok;
    int32_t *ids;
    int64_t n;
    int r = tok_open_folder(ctx, &tok, e);
    if (r)
        return r;
    r = tok_encode(tok, " <left> Cat WORDY castle <right> ", 33, &ids, &n, e);
    if (!r)
        dr_free(ids);
    tok_free(tok);
    return r;
}

static void memory_failing(void **state)
{
    (void)state;
    test_oom_walk(scenario_builtin, NULL);
    struct files files = FILES(VOCAB, MERGES, "{\"pad_token\":\"!\"}");
    files.map = "{\"cls_token\":\"<left>\"}";
    files.added = "{\"Cat\":9}";
    test_oom_walk(scenario_folder, (void *)make_folder(&files));
    files =
        (struct files){ .whole = WHOLE("[[\"a\",\"b</w>\"]]"),
                        .config = "{\"added_tokens_decoder\":{\"5\":{\"content\":\"<right>\"}}}" };
    test_oom_walk(scenario_folder, (void *)make_folder(&files));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(exclamation_marks_pad_the_second_tokenizer),
    cmocka_unit_test(padding_cuts_and_keeps_eos),
    cmocka_unit_test(bad_text_is_refused),
    cmocka_unit_test(hostile_folders_are_refused),
    cmocka_unit_test(bytes_without_token),
    cmocka_unit_test(lengths_of_folders),
    cmocka_unit_test(long_texts_take_linear_time),
    cmocka_unit_test(random_bytes_do_no_harm),
    cmocka_unit_test(mangled_unicode_tables),
    cmocka_unit_test(mangled_folders),
    cmocka_unit_test(memory_failing),
};

int main(int argc, char **argv)
{
    share = argc > 1 && !strcmp(argv[1], "--oom") ? 10 : 1;
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
