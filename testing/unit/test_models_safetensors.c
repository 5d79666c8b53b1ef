/* test_models_safetensors.c - the container: what is read, and every way a file can be bad. */
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/mapguard.h"
#include "models/formats/safetensors.h"
#include "testing/helpers/safetensors_writer.h"
#include "testing/helpers/test.h"
#include "testing/helpers/model_access.h"

static const char *temporary(const char *name)
{
    static char path[600];
    snprintf(path, sizeof path, "%s/%s", test_dir(), name);
    return path;
}

static void good_file(void **state)
{
    (void)state;
    struct st_writer *w = st_writer_new();
    const float values[6] = { 1, 2, 3, 4, 5, 6 };
    st_writer_add_text(w, "z.scalar", "F16", "");
    st_writer_add(w, "a.weight", "F32", 2, (const int64_t[]){ 2, 3 }, values);
    st_writer_add_text(w, "empty", "BF16", "0x7");
    st_writer_add_text(w, "ids", "I64", "1x4");
    st_writer_add_text(w, "f8", "F8_E4M3", "5");
    st_writer_metadata(w, "format", "pt");
    st_writer_metadata(w, "author", "n\\u00f3 one \\ud83d\\ude00");
    const char *path = temporary("good");
    st_writer_save(w, path);
    st_writer_free(w);

    struct dr_error err;
    struct safetensors st;
    uint64_t blocks = test_blocks();
    assert_int_equal(st_open(path, &st, &err), 0);
    assert_int_equal(st.header.n_tensors, 5);
    assert_string_equal(st.header.tensors[0].name, "a.weight");
    const struct st_tensor *t = st_find(&st.header, "a.weight");
    assert_non_null(t);
    assert_int_equal(t->dtype, DTYPE_F32);
    assert_int_equal(t->shape.n, 2);
    assert_int_equal(t->shape.d[1], 3);
    assert_memory_equal(st_data(&st, t), values, sizeof values);
    assert_int_equal(st_find(&st.header, "z.scalar")->shape.n, 0);
    assert_int_equal(st_find(&st.header, "empty")->end, st_find(&st.header, "empty")->begin);
    assert_null(st_find(&st.header, "a.weigh"));
    assert_int_equal(st.header.n_metadata, 2);
    assert_string_equal(st.header.metadata[0].key, "author");
    assert_string_equal(st.header.metadata[0].value, "n\xc3\xb3 one \xf0\x9f\x98\x80");
    assert_int_equal(st_check(&st, &err), 0);
    st_close(&st);
    assert_int_equal(test_blocks(), blocks);
}

#define ONE(dtype, shape, offsets)                                                                 \
    "{\"one\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
#define PAIR(a, b)                                                                                 \
    "{\"one\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" a "},"                            \
    "\"two\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" b "}}"

struct bad_case {
    const char *header;
    size_t data_n;
    int code;
    const char *words; /* what the error must say */
};

static const struct bad_case bad_cases[] = {
    /* not this grammar */
    { "  ", 0, DR_EFORMAT, "expected '{'" },
    { " {}", 0, DR_EFORMAT, "expected '{'" },
    { "[]", 0, DR_EFORMAT, "expected '{'" },
    { "{}x", 0, DR_EFORMAT, "data after the object" },
    { "{},", 0, DR_EFORMAT, "data after the object" },
    { "{\"", 0, DR_EFORMAT, "an unterminated string" },
    { "{\"a", 0, DR_EFORMAT, "an unterminated string" },
    { "{\"a\"", 0, DR_EFORMAT, "ends where ':'" },
    { "{\"a\":", 0, DR_EFORMAT, "ends where '{'" },
    { "{\"a\":1}", 0, DR_EFORMAT, "expected '{'" },
    { "{\"a\":{}}", 0, DR_EFORMAT, "tensor 'a': dtype is missing" },
    { ONE("\"F32\"", "[1]", "[0,4]") "}", 4, DR_EFORMAT, "data after the object" },
    { "{\"one\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},}", 4, DR_EFORMAT,
      "expected '\"'" },
    { "{\"one\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],}}", 4, DR_EFORMAT,
      "expected '\"'" },
    { "{\"one\":{\"dtype\":\"F32\" \"shape\":[1],\"data_offsets\":[0,4]}}", 4, DR_EFORMAT,
      "expected '}'" },
    { "{\"one\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", 4, DR_EFORMAT, "expected '{'" },
    { ONE("\"F32\"", "[[[[[[[[1]]]]]]]]", "[0,4]"), 4, DR_EFORMAT, "'one': shape: expected int" },
    { ONE("\"F32\"", "{\"a\":{\"b\":{}}}", "[0,4]"), 4, DR_EFORMAT, "expected '['" },
    /* texts */
    { "{\"\xc3\":{}}", 0, DR_EFORMAT, "not UTF-8" },
    { "{\"\xed\xa0\x80\":{}}", 0, DR_EFORMAT, "not UTF-8" },
    { "{\"\xc0\x80\":{}}", 0, DR_EFORMAT, "not UTF-8" },
    { "{\"\\ud800\":{}}", 0, DR_EFORMAT, "surrogate" },
    { "{\"\\ud800\\u0041\":{}}", 0, DR_EFORMAT, "surrogate" },
    { "{\"\\udc00\":{}}", 0, DR_EFORMAT, "surrogate" },
    { "{\"a\\u00g0\":{}}", 0, DR_EFORMAT, "hexadecimal" },
    { "{\"a\\x\":{}}", 0, DR_EFORMAT, "escape" },
    { "{\"a\nb\":{}}", 0, DR_EFORMAT, "control character" },
    /* fields */
    { "{\"one\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, DR_EFORMAT,
      "'one': dtype is missing" },
    { "{\"one\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, DR_EFORMAT, "shape is missing" },
    { "{\"one\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, DR_EFORMAT, "data_offsets is missing" },
    { "{\"one\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
      DR_EFORMAT, "dtype appears twice" },
    { "{\"one\":{\"dtype\":\"F32\",\"stride\":[1]}}", 4, DR_EFORMAT, "shape is missing" },
    { "{\"one\":{\"stride\":,\"dtype\":\"F32\"}}", 4, DR_EFORMAT, "expected a value" },
    { "{\"one\":{\"stride\":[1", 4, DR_EFORMAT, "ends inside a value" },
    { "{\"one\":{\"stride\":]}}", 4, DR_EFORMAT, "expected a value" },
    { "{\"__metadata__\":nul}", 0, DR_EFORMAT, "expected '{'" },
    { ONE("\"F99\"", "[1]", "[0,4]"), 4, DR_EUNSUPPORTED, "'one': dtype 'F99' is unknown" },
    { ONE("\"f32\"", "[1]", "[0,4]"), 4, DR_EUNSUPPORTED, "dtype 'f32' is unknown" },
    { ONE("7", "[1]", "[0,4]"), 4, DR_EFORMAT, "expected '\"'" },
    /* shapes */
    { ONE("\"U8\"", "[4294967296,4294967296]", "[0,0]"), 0, DR_EFORMAT, "larger than any file" },
    { ONE("\"U8\"", "[4294967296,4294967296]", "[0,4]"), 4, DR_EFORMAT, "larger than any file" },
    { ONE("\"F64\"", "[2305843009213693952]", "[0,0]"), 0, DR_EFORMAT, "2^53" },
    { ONE("\"F64\"", "[4503599627370496,512]", "[0,0]"), 0, DR_EFORMAT, "larger than any file" },
    { ONE("\"F32\"", "[-1]", "[0,4]"), 4, DR_EFORMAT, "expected integers" },
    { ONE("\"F32\"", "[1.0]", "[0,4]"), 4, DR_EFORMAT, "expected integers" },
    { ONE("\"F32\"", "[1.5]", "[0,4]"), 4, DR_EFORMAT, "expected integers" },
    { ONE("\"F32\"", "[1e400]", "[0,4]"), 4, DR_EFORMAT, "expected integers" },
    { ONE("\"F32\"", "[01]", "[0,4]"), 4, DR_EFORMAT, "expected integers" },
    { ONE("\"F32\"", "[9007199254740992]", "[0,4]"), 4, DR_EFORMAT, "2^53" },
    { ONE("\"F32\"", "[99999999999999999999999999]", "[0,4]"), 4, DR_EFORMAT, "2^53" },
    { ONE("\"F32\"", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, DR_ELIMIT, "more than 8 dimensions" },
    { ONE("\"F32\"", "[1,]", "[0,4]"), 4, DR_EFORMAT, "expected integers" },
    { ONE("\"F32\"", "[\"1\"]", "[0,4]"), 4, DR_EFORMAT, "expected integers" },
    { ONE("\"F32\"", "1", "[0,4]"), 4, DR_EFORMAT, "expected '['" },
    /* places */
    { ONE("\"F32\"", "[1]", "[4,0]"), 4, DR_EFORMAT, "'one': data_offsets [4, 0] are reversed" },
    { ONE("\"F32\"", "[1]", "[0,8]"), 8, DR_EFORMAT, "[1] of F32 is 4 bytes, data_offsets give 8" },
    { ONE("\"U8\"", "[1024]", "[0,65536]"), 65536, DR_EFORMAT, "data_offsets give 65536" },
    { ONE("\"F32\"", "[2]", "[0,8]"), 4, DR_EFORMAT, "file is truncated: the header describes" },
    { ONE("\"F32\"", "[1]", "[0]"), 4, DR_EFORMAT, "expected ','" },
    { ONE("\"F32\"", "[1]", "[0,4,8]"), 4, DR_EFORMAT, "expected ']'" },
    { ONE("\"F32\"", "[1]", "[-4,0]"), 4, DR_EFORMAT, "data_offsets: expected integers" },
    { ONE("\"F32\"", "[1]", "[18446744073709551612,18446744073709551616]"), 4, DR_EFORMAT, "2^53" },
    { ONE("\"F32\"", "[1]", "[4,8]"), 8, DR_EFORMAT, "'one': 4 bytes before it belong to no" },
    { ONE("\"F32\"", "[1]", "[0,4]"), 5, DR_EFORMAT, "1 bytes after the last tensor" },
    { "{}", 1, DR_EFORMAT, "1 bytes after the last tensor" },
    { PAIR("[0,4]", "[2,6]"), 6, DR_EFORMAT, "'two': overlaps tensor 'one'" },
    { PAIR("[0,4]", "[0,4]"), 4, DR_EFORMAT, "overlaps tensor" },
    { PAIR("[0,4]", "[5,9]"), 9, DR_EFORMAT, "'two': 1 bytes before it" },
    { PAIR("[4,8]", "[8,12]"), 12, DR_EFORMAT, "'one': 4 bytes before it" },
    /* names */
    { "{\"one\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
      "\"\\u006fne\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}}",
      8, DR_EFORMAT, "'one': the name appears twice" },
    { "{\"__metadata__\":{},\"__metadata__\":{}}", 0, DR_EFORMAT, "__metadata__ appears twice" },
    { "{\"__metadata__\":{\"a\":1}}", 0, DR_EFORMAT, "expected '\"'" },
    { "{\"__metadata__\":{\"a\":{\"b\":\"c\"}}}", 0, DR_EFORMAT, "expected '\"'" },
    { "{\"__metadata__\":[]}", 0, DR_EFORMAT, "expected '{'" },
};

static void expect_bad(const char *path, const struct bad_case *c)
{
    struct dr_error err = { 0 };
    struct safetensors st;
    uint64_t blocks = test_blocks();
    int r = st_open(path, &st, &err);
    if (r != c->code || !strstr(err.text, c->words) || !strstr(err.text, path))
        fail_msg("%.80s: returned %d \"%s\", expected %d \"%s\"", c->header, r, err.text, c->code,
                 c->words);
    assert_int_equal(test_blocks(), blocks);
}

/* What the reference's reader takes, although the format's text does not say so. */
static void read_as_the_reference_reads(void **state)
{
    (void)state;
    static const char *const headers[] = {
        "{\"__metadata__\":null,\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
        "{\"__metadata__\":{\"k\":\"a\\u0000b\",\"n\\u0000\":\"\"},"
        "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
        "{\"a\\u0000b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
        "{\"__metadata__\":{\"k\":\"1\",\"j\":\"x\",\"k\":\"2\",\"k\":\"3\"},"
        "\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}",
        "{\"a\":{\"x\":{\"y\":[1,\"]}\",{}]},\"dtype\":\"F32\",\"z\":-1.5e3,\"shape\":[1],"
        "\"n\":null , \"data_offsets\":[0,4],\"s\":\"t\"}}",
        "{\"e\":{\"dtype\":\"F16\",\"shape\":[0,7],\"data_offsets\":[4,4]},"
        "\"a\":{\"dtype\":\"U32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
        "{\"\":{\"dtype\":\"F8_E8M0\",\"shape\":[4],\"data_offsets\":[0,4]}}   \n",
    };
    struct dr_error err;
    struct safetensors st;
    const char *path = temporary("lenient");
    uint64_t blocks = test_blocks();
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        st_write_raw(path, -1, headers[i], strlen(headers[i]), 4);
        if (st_open(path, &st, &err))
            fail_msg("%s: %s", headers[i], err.text);
        if (i == 1) {
            assert_int_equal(st.header.n_metadata, 2);
            assert_string_equal(st.header.metadata[0].value, "a\xef\xbf\xbd"
                                                             "b");
        }
        if (i == 2)
            assert_non_null(st_find(&st.header, "a\xef\xbf\xbd"
                                                "b"));
        if (i == 3) {
            assert_int_equal(st.header.n_metadata, 2);
            assert_string_equal(st.header.metadata[0].key, "j");
            assert_string_equal(st.header.metadata[1].value, "3"); /* the last holds */
        }
        st_close(&st);
    }
    assert_int_equal(test_blocks(), blocks);
}

static void bad_headers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_cases / sizeof *bad_cases; i++) {
        const struct bad_case *c = &bad_cases[i];
        const char *path = temporary("bad");
        st_write_raw(path, -1, c->header, strlen(c->header), c->data_n);
        expect_bad(path, c);
    }
}

static void bad_lengths(void **state)
{
    (void)state;
    static const struct {
        int64_t length;
        struct bad_case c;
    } cases[] = {
        { 0, { "{}", 0, DR_EFORMAT, "header of 0 bytes, too short" } },
        { 1, { "{}", 0, DR_EFORMAT, "header of 1 bytes, too short" } },
        { 3, { "{}", 0, DR_EFORMAT, "truncated: the header has 3 bytes, the file has 10 " } },
        { ST_HEADER_MAX, { "{}", 0, DR_EFORMAT, "the file has 10 (incomplete download?)" } },
        { ST_HEADER_MAX + 1, { "{}", 0, DR_ELIMIT, "at most 26214400 accepted" } },
        { INT64_C(1) << 62, { "{}", 0, DR_ELIMIT, "accepted" } },
        { INT64_MAX, { "{}", 0, DR_ELIMIT, "accepted" } },
    };
    const char *path = temporary("length");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        st_write_raw(path, cases[i].length, cases[i].c.header, 2, 0);
        expect_bad(path, &cases[i].c);
    }
    /* 2^63 and lengths that wrap when 8 is added */
    static const char *const wraps[] = { "\0\0\0\0\0\0\0\x80{}",
                                         "\xf8\xff\xff\xff\xff\xff\xff\xff{}",
                                         "\xff\xff\xff\xff\xff\xff\xff\xff{}" };
    for (size_t i = 0; i < 3; i++) {
        FILE *f = fopen(path, "wb");
        assert_non_null(f);
        fwrite(wraps[i], 1, 10, f);
        fclose(f);
        expect_bad(path, &(struct bad_case){ "wrap", 0, DR_ELIMIT, "accepted" });
    }
    for (int n = 0; n < 8; n++) {
        FILE *f = fopen(path, "wb");
        assert_non_null(f);
        fwrite("\2\0\0\0\0\0\0", 1, (size_t)n, f);
        fclose(f);
        expect_bad(path, &(struct bad_case){ "short", 0, DR_EFORMAT, "too few" });
    }
}

static void limits_of_count_and_name(void **state)
{
    (void)state;
    const char *path = temporary("many");
    enum { HEADER = 12 << 20 };
    char *header = malloc(HEADER);
    assert_non_null(header);
    size_t n = 0;
    for (int i = 0; i <= ST_TENSORS_MAX; i++)
        n += (size_t)snprintf(header + n, HEADER - n,
                              "%s\"t%d\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}",
                              i ? "," : "{", i);
    header[n++] = '}';
    st_write_raw(path, -1, header, n, 0);
    expect_bad(path, &(struct bad_case){ "many", 0, DR_ELIMIT, "more than 65536 tensors" });
    n = 0;
    for (int i = 0; i <= ST_TENSORS_MAX; i++)
        n += (size_t)snprintf(header + n, HEADER - n, "%s\"%d\":\"\"",
                              i ? "," : "{\"__metadata__\":{", i);
    n += (size_t)snprintf(header + n, HEADER - n, "}}");
    st_write_raw(path, -1, header, n, 0);
    expect_bad(path, &(struct bad_case){ "many", 0, DR_ELIMIT, "more than 65536 entries" });
    n = (size_t)snprintf(header, HEADER, "{\"%0*d\":{}}", ST_NAME_MAX + 1, 0);
    st_write_raw(path, -1, header, n, 0);
    expect_bad(path,
               &(struct bad_case){ "name", 0, DR_ELIMIT, "a name of 513 bytes, at most 512" });
    free(header);
}

static void impostors(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
        const char *words;
    } cases[] = {
        { "PK\3\4\x14\0\0\0\10\10aaaaaaaaa", 20, "pickles can run code" },
        { "\x80\2}q\0(X\5\0\0\0statedict", 20, "Python pickle" },
        { "GGUF\3\0\0\0\0\0\0\0\0\0\0\0\0", 17, "GGUF" },
        { "version https://git-lfs.github.com/spec/v1\noid", 46, "not downloaded" },
        { "<!DOCTYPE html><html>", 21, "HTML" },
        { "{\"weight_map\": {}}", 18, "JSON" },
        /* a length of 123 begins like JSON, of 0x280 like a pickle */
        { "{\0\0\0\0\0\0\0{\"a\":{", 14, "the header has 123 bytes" },
        { "\x80\2\0\0\0\0\0\0{\"a\":{", 14, "the header has 640 bytes" },
    };
    const char *path = temporary("model.safetensors");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        FILE *f = fopen(path, "wb");
        assert_non_null(f);
        fwrite(cases[i].bytes, 1, cases[i].n, f);
        fclose(f);
        expect_bad(path, &(struct bad_case){ "impostor", 0, DR_EFORMAT, cases[i].words });
    }
}

static void no_file(void **state)
{
    (void)state;
    struct dr_error err;
    struct safetensors st;
    assert_int_equal(st_open(temporary("absent"), &st, &err), DR_ENOENT);
    assert_int_equal(st_open(test_dir(), &st, &err), DR_EINVAL);
}

/* Every prefix of a good file, and every single byte of its header changed: an answer, never a
 * crash. */
static void cut_and_flipped(void **state)
{
    (void)state;
    struct st_writer *w = st_writer_new();
    st_writer_add_text(w, "first.weight", "F16", "3x2");
    st_writer_add_text(w, "second.\\u00e9", "F32", "2");
    st_writer_metadata(w, "k", "v");
    const char *path = temporary("base");
    st_writer_save(w, path);
    st_writer_free(w);
    static uint8_t file[1024];
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(file, 1, sizeof file, f);
    fclose(f);
    struct dr_error err;
    struct st_header h;
    for (size_t cut = 0; cut < n; cut++) {
        uint8_t *exact = malloc(cut ? cut : 1); /* so that a sanitizer sees a read past the end */
        assert_non_null(exact);
        memcpy(exact, file, cut);
        assert_int_not_equal(st_parse(exact, cut, cut, "cut", &h, &err), 0);
        free(exact);
    }
    uint64_t blocks = test_blocks();
    for (size_t i = 0; i < n; i++)
        for (int bit = 0; bit < 8; bit++) {
            file[i] ^= (uint8_t)(1 << bit);
            if (!st_parse(file, n, n, "flipped", &h, &err))
                st_header_free(&h);
            file[i] ^= (uint8_t)(1 << bit);
        }
    assert_int_equal(test_blocks(), blocks);
}

static void file_cut_while_open(void **state)
{
    (void)state;
    struct st_writer *w = st_writer_new();
    st_writer_add_text(w, "weight", "F32", "20000");
    const char *path = temporary("cut");
    st_writer_save(w, path);
    st_writer_free(w);
    struct dr_error err;
    struct safetensors st;
    assert_int_equal(mapguard_install(&err), 0);
    assert_int_equal(st_open(path, &st, &err), 0);
    assert_int_equal(truncate(path, 4096), 0);
    const volatile float *data = st_data(&st, st_find(&st.header, "weight"));
    assert_true(data[19999] == 0);
    assert_int_equal(st_check(&st, &err), DR_EIO);
    assert_non_null(strstr(err.text, "file changed while in use"));
    st_close(&st);
}

/* What the fuzzer kept: each file of the corpus is parsed as it would be there. */
static void fuzz_corpus(void **state)
{
    (void)state;
    const char *dir = test_source("testing/fuzz/corpus/safetensors");
    DIR *d = opendir(dir);
    assert_non_null(d);
    int seen = 0;
    static uint8_t bytes[1 << 16];
    for (struct dirent *e; (e = readdir(d));) {
        char path[1200];
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        FILE *f = e->d_name[0] == '.' ? NULL : fopen(path, "rb");
        if (!f)
            continue;
        size_t n = fread(bytes, 1, sizeof bytes, f);
        fclose(f);
        struct st_header h;
        struct dr_error err;
        uint64_t blocks = test_blocks();
        if (!st_parse(bytes, n, n, e->d_name, &h, &err))
            st_header_free(&h);
        assert_int_equal(test_blocks(), blocks);
        seen++;
    }
    closedir(d);
    assert_true(seen >= 20);
}

static int open_and_close(void *path, struct dr_error *err)
{
    struct safetensors st;
    int r = st_open(path, &st, err);
    if (!r)
        st_close(&st);
    return r;
}

static void short_of_memory(void **state)
{
    (void)state;
    struct st_writer *w = st_writer_new();
    for (int i = 0; i < 200; i++) {
        char name[32];
        snprintf(name, sizeof name, "layers.%d.weight", i);
        st_writer_add_text(w, name, "F16", "2x2");
        st_writer_metadata(w, name, "x");
    }
    const char *path = temporary("oom");
    st_writer_save(w, path);
    st_writer_free(w);
    test_oom_walk(open_and_close, (void *)path);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(good_file),
    cmocka_unit_test(read_as_the_reference_reads),
    cmocka_unit_test(bad_headers),
    cmocka_unit_test(bad_lengths),
    cmocka_unit_test(limits_of_count_and_name),
    cmocka_unit_test(impostors),
    cmocka_unit_test(no_file),
    cmocka_unit_test(cut_and_flipped),
    cmocka_unit_test(file_cut_while_open),
    cmocka_unit_test(fuzz_corpus),
    cmocka_unit_test(short_of_memory),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
