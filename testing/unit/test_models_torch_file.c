/* test_models_torch_file.c - files of torch.save: what the reference wrote, and archives and
 * pickles that must be refused. Nothing in them is ever run. Files: tools/golden/torch_files.py. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/formats/pickle.h"
#include "models/formats/torch_file.h"
#include "testing/helpers/model_access.h"
#include "testing/helpers/test.h"

struct bytes {
    unsigned char *p;
    size_t n;
};

static struct bytes read_whole(const char *name)
{
    char path[200];
    struct bytes b = { .n = 0 };
    snprintf(path, sizeof path, "testing/golden/torch/%s", name);
    FILE *f = fopen(test_source(path), "rb");
    assert_non_null(f);
    b.p = malloc(1 << 16);
    assert_non_null(b.p);
    b.n = fread(b.p, 1, 1 << 16, f);
    fclose(f);
    return b;
}

/* ---- what is read ---- */

static void same_tensors(const char *name)
{
    struct bytes b = read_whole(name);
    struct torch_file f;
    struct safetensors want;
    struct dr_error err;
    char element[8];
    if (torch_parse(b.p, b.n, name, &f, &err))
        fail_msg("%s", err.text);
    assert_int_equal(st_open(test_source("testing/golden/torch/values.safetensors"), &want, &err),
                     0);
    assert_int_equal(f.n, want.header.n_tensors);
    for (size_t i = 0; i < f.n; i++) {
        const struct torch_tensor *t = &f.tensors[i];
        const struct st_tensor *w = &want.header.tensors[i];
        const char *data = st_data(&want, w);
        int64_t count = 0;
        assert_string_equal(t->name, w->name);
        assert_int_equal(t->dtype, w->dtype);
        assert_true(shape_equal(&t->shape, &w->shape));
        shape_count(&t->shape, &count);
        for (int64_t k = 0; k < count; k++) {
            torch_copy(t, k, 1, element);
            assert_memory_equal(element, data + (size_t)k * dtype_size(t->dtype),
                                dtype_size(t->dtype));
        }
    }
    st_close(&want);
    torch_file_free(&f);
    free(b.p);
}

static void tensors_of_every_kind(void **state)
{
    (void)state;
    uint64_t blocks = test_blocks();
    same_tensors("plain.pt");
    same_tensors("protocol4.pt");
    same_tensors("nested.ckpt");
    assert_int_equal(test_blocks(), blocks);
}

static void dictionaries_in_dictionaries(void **state)
{
    (void)state;
    static const char *const names[] = {
        "inner.0.bias",         "inner.0.weight",
        "inner.1.bias",         "inner.1.num_batches_tracked",
        "inner.1.running_mean", "inner.1.running_var",
        "inner.1.weight",       "outer",
    };
    struct bytes b = read_whole("parameters.bin");
    struct torch_file f;
    struct dr_error err;
    if (torch_parse(b.p, b.n, "parameters.bin", &f, &err))
        fail_msg("%s", err.text);
    assert_int_equal(f.n, 8);
    for (size_t i = 0; i < 8; i++)
        assert_string_equal(f.tensors[i].name, names[i]);
    torch_file_free(&f);
    free(b.p);
}

/* ---- what is refused ---- */

static void expect_refused(const unsigned char *p, size_t n, int code, const char *words)
{
    struct torch_file f;
    struct dr_error err = { 0 };
    unsigned char *exact = malloc(n + 1); /* for sanitizers */
    uint64_t blocks = test_blocks();
    assert_non_null(exact);
    memcpy(exact, p, n);
    int r = torch_parse(exact, n, "bad.pt", &f, &err);
    if (r != code || !strstr(err.text, words) || !strstr(err.text, "bad.pt"))
        fail_msg("returned %d \"%s\", expected %d \"%s\"", r, r ? err.text : "", code, words);
    assert_int_equal(test_blocks(), blocks);
    free(exact);
}

static void functions_are_not_called(void **state)
{
    (void)state;
    struct bytes b = read_whole("calls.pt"), old = read_whole("legacy.pt");
    expect_refused(b.p, b.n, DR_EUNSUPPORTED, "asks for '__builtin__.print', which is never run");
    expect_refused(old.p, old.n, DR_EUNSUPPORTED, "the form before PyTorch 1.6");
    free(b.p);
    free(old.p);
}

static void cut_anywhere(void **state)
{
    (void)state;
    struct bytes b = read_whole("plain.pt");
    struct torch_file f;
    struct dr_error err;
    for (size_t n = 0; n < b.n; n += n < b.n - 300 ? 13 : 1)
        assert_true(torch_parse(b.p, n, "cut.pt", &f, &err) < 0);
    free(b.p);
}

/* Any byte may be another one: an error or another number, never more than that. */
static void any_byte_changed(void **state)
{
    (void)state;
    struct bytes b = read_whole("plain.pt");
    uint64_t blocks = test_blocks();
    for (size_t i = 0; i < b.n; i++)
        for (unsigned change = 1; change < 256; change *= 5) {
            struct torch_file f;
            struct dr_error err;
            char element[8];
            b.p[i] ^= (unsigned char)change;
            if (!torch_parse(b.p, b.n, "changed.pt", &f, &err)) {
                for (size_t k = 0; k < f.n; k++) {
                    int64_t count = 0;
                    shape_count(&f.tensors[k].shape, &count);
                    if (count)
                        torch_copy(&f.tensors[k], count - 1, 1, element);
                }
                torch_file_free(&f);
            }
            b.p[i] ^= (unsigned char)change;
        }
    assert_int_equal(test_blocks(), blocks);
    free(b.p);
}

/* ---- archives ---- */

/* An archive of files stored as they are, with damage done by `spoil` to it. */
struct archive {
    unsigned char p[8192];
    size_t n, table, first; /* places of the table, of the last file's entry */
};

static void put(struct archive *a, uint64_t v, int n)
{
    for (int i = 0; i < n; i++, v >>= 8)
        a->p[a->n++] = (unsigned char)v;
}

static void put_bytes(struct archive *a, const void *bytes, size_t n)
{
    memcpy(a->p + a->n, bytes, n);
    a->n += n;
}

struct member {
    const char *name;
    const void *bytes;
    size_t n;
};

static void make_archive(struct archive *a, const struct member *files, int count)
{
    size_t at[8];
    *a = (struct archive){ .n = 0 };
    for (int i = 0; i < count; i++) {
        at[i] = a->n;
        put(a, 0x04034b50, 4);
        put(a, 0, 14);
        put(a, files[i].n, 4);
        put(a, files[i].n, 4);
        put(a, strlen(files[i].name), 2);
        put(a, 0, 2);
        put_bytes(a, files[i].name, strlen(files[i].name));
        put_bytes(a, files[i].bytes, files[i].n);
    }
    a->table = a->n;
    for (int i = 0; i < count; i++) {
        a->first = a->n;
        put(a, 0x02014b50, 4);
        put(a, 0, 16);
        put(a, files[i].n, 4);
        put(a, files[i].n, 4);
        put(a, strlen(files[i].name), 2);
        put(a, 0, 12);
        put(a, at[i], 4);
        put_bytes(a, files[i].name, strlen(files[i].name));
    }
    size_t size = a->n - a->table;
    put(a, 0x06054b50, 4);
    put(a, 0, 4);
    put(a, (uint64_t)count, 2);
    put(a, (uint64_t)count, 2);
    put(a, size, 4);
    put(a, a->table, 4);
    put(a, 0, 2);
}

#define TENSOR(offset, sizes, strides, count)                                                      \
    "\x80\x02}X\1\0\0\0tctorch._utils\n_rebuild_tensor_v2\n((X\7\0\0\0storage"                     \
    "ctorch\nFloatStorage\nX\1\0\0\0"                                                              \
    "0X\3\0\0\0cpu" count "tQ" offset sizes strides "\x89"                                         \
    "ccollections\nOrderedDict\n)Rt"                                                               \
    "Rs."

static void expect_pickle(const char *pickle, size_t n, int code, const char *words)
{
    static const float data[4] = { 1, 2, 3, 4 };
    struct archive a;
    struct member files[] = { { "x/data.pkl", pickle, n }, { "x/data/0", data, sizeof data } };
    make_archive(&a, files, 2);
    if (code) {
        expect_refused(a.p, a.n, code, words);
        return;
    }
    struct torch_file f;
    struct dr_error err;
    if (torch_parse(a.p, a.n, "good.pt", &f, &err))
        fail_msg("%s", err.text);
    torch_file_free(&f);
}

#define EXPECT(text, code, words) expect_pickle(text, sizeof text - 1, code, words)

static void tensors_outside_of_their_storage(void **state)
{
    (void)state;
    EXPECT(TENSOR("K\0", "K\2K\2\x86", "K\2K\1\x86", "K\4"), 0, "");
    EXPECT(TENSOR("K\1", "K\3\x85", "K\1\x85", "K\4"), 0, "");
    EXPECT(TENSOR("K\1", "K\4\x85", "K\1\x85", "K\4"), DR_EFORMAT, "'t': reaches outside");
    EXPECT(TENSOR("K\5", "K\0\x85", "K\1\x85", "K\4"), DR_EFORMAT, "begins outside");
    EXPECT(TENSOR("J\xff\xff\xff\xff", "K\1\x85", "K\1\x85", "K\4"), DR_EFORMAT, "begins outside");
    EXPECT(TENSOR("K\0", "K\2\x85", "K\4\x85", "K\4"), DR_EFORMAT, "reaches outside");
    EXPECT(TENSOR("K\0", "K\xff\x85", "K\0\x85", "K\4"), DR_EFORMAT, "more elements than its");
    EXPECT(TENSOR("K\0", "K\2\x85", "J\xff\xff\xff\xff\x85", "K\4"), DR_EFORMAT,
           "a shape or strides that are none");
    EXPECT(TENSOR("K\0", "J\xff\xff\xff\xff\x85", "K\1\x85", "K\4"), DR_EFORMAT, "that are none");
    EXPECT(TENSOR("K\0", "K\2\x85", "K\1K\1\x86", "K\4"), DR_EFORMAT, "that are none");
    EXPECT(TENSOR("K\0",
                  "\x8a\x08\0\0\0\0\0\0\0\x40"
                  "\x8a\x08\0\0\0\0\0\0\0\x40\x86",
                  "K\1K\1\x86", "K\4"),
           DR_EFORMAT, "larger than any file");
    EXPECT(TENSOR("K\0", "K\2\x85", "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85", "K\4"),
           DR_EFORMAT, "reaches outside");
    EXPECT(TENSOR("K\0", "K\2\x85", "K\1\x85", "K\5"), DR_EFORMAT, "another size than the pickle");
    EXPECT(TENSOR("K\0", "K\2\x85", "K\1\x85", "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f"),
           DR_EFORMAT, "another size than the pickle");
}

static void pickles_that_are_refused(void **state)
{
    (void)state;
    EXPECT("\x80\x02}.", DR_EUNSUPPORTED, "has no tensors");
    EXPECT("\x80\x02K\1.", DR_EUNSUPPORTED, "not a dictionary of tensors");
    EXPECT("\x80\x02"
           "cos\nsystem\nX\2\0\0\0ls\x85R.",
           DR_EUNSUPPORTED, "asks for 'os.system'");
    EXPECT("\x80\x04\x8c\2os\x8c\6system\x93.", DR_EUNSUPPORTED, "asks for 'os.system'");
    EXPECT("\x80\x02"
           "ctorch.storage\n_load_from_bytes\n.",
           DR_EUNSUPPORTED, "_load_from_bytes");
    EXPECT("\x80\x02"
           "ccollections\nOrderedDict extra\n.",
           DR_EUNSUPPORTED, "OrderedDict.extra");
    EXPECT("\x80\x02"
           "c\x1b[31m\nx\n.",
           DR_EUNSUPPORTED, "'?[31m.x'");
    EXPECT("\x80\x02"
           "ccollections\nOrderedDict\n)\x81.",
           DR_EFORMAT, "opcode 0x81");
    EXPECT("\x80\x02(ios\nsystem\n.", DR_EFORMAT, "opcode 0x69");
    EXPECT("\x80\x02"
           "ccollections\nOrderedDict\nK\1\x85R.",
           DR_EFORMAT, "with arguments");
    EXPECT("\x80\x01}.", DR_EFORMAT, "protocol");
    EXPECT("\x80\x02}", DR_EFORMAT, "ends inside an opcode");
    EXPECT("", DR_EFORMAT, "ends inside an opcode");
    EXPECT(".", DR_EFORMAT, "other than one value");
    EXPECT("\x80\x02}}.", DR_EFORMAT, "other than one value");
    EXPECT("\x80\x02X\xff\xff\xff\xff"
           "a.",
           DR_EFORMAT, "longer than the rest");
    EXPECT("\x80\x02}h\0.", DR_EFORMAT, "was not remembered");
    EXPECT("\x80\x02}r\xff\xff\xff\xff.", DR_EFORMAT, "remembers more than a million");
    EXPECT("\x80\x02(q\0.", DR_EFORMAT, "nothing to remember");
    EXPECT("\x80\x02}u.", DR_EFORMAT, "no mark");
    EXPECT("\x80\x02}(K\1u.", DR_EFORMAT, "a key without a value");
    EXPECT("\x80\x02K\1(K\1K\1u.", DR_EFORMAT, "items of what is no dictionary");
    EXPECT("\x80\x02(K\1K\1u.", DR_EFORMAT, "items without a dictionary");
    EXPECT("\x80\x02\x85.", DR_EFORMAT, "values that are not there");
    EXPECT("\x80\x02(\x85.", DR_EFORMAT, "values that are not there");
    EXPECT("\x80\x02K\1Q.", DR_EFORMAT, "a storage that is not named");
    EXPECT("\x80\x02K\1K\1R.", DR_EFORMAT, "a call of what is no function");
    EXPECT("\x80\x02}q\0X\1\0\0\0ah\0s.", DR_ELIMIT, "dictionaries in dictionaries");
}

/* A dictionary that has itself many times: looked into a million times at most. */
static void memo_bombs(void **state)
{
    (void)state;
    static char pickle[8000];
    struct archive *a = malloc(sizeof *a);
    size_t n = 0;
    assert_non_null(a);
    memcpy(pickle, "\x80\x02}q", 5);
    n += 5;
    for (int i = 0; i < 600; i++) {
        memcpy(pickle + n, "X\1\0\0\0ah\0s", 9);
        n += 9;
    }
    pickle[n++] = '.';
    struct member file = { "x/data.pkl", pickle, n };
    make_archive(a, &file, 1);
    expect_refused(a->p, a->n, DR_ELIMIT, "dictionaries in dictionaries");
    free(a);
    struct pickle p;
    struct dr_error err = { 0 };
    char *many = malloc(3 << 20); /* more values than accepted */
    assert_non_null(many);
    memset(many, '(', 3 << 20);
    assert_int_equal(pickle_run((uint8_t *)many, 3 << 20, "many", &p, &err), DR_ELIMIT);
    free(many);
}

static void archives_that_are_refused(void **state)
{
    (void)state;
    static const char pickle[] = "\x80\x02}.";
    struct member files[] = { { "x/data.pkl", pickle, 4 }, { "x/data/0", pickle, 4 } };
    static const struct {
        int at, from_end; /* byte of the last entry, or of the record at the end */
        unsigned char value;
        int code;
        const char *words;
    } cases[] = {
        { 10, 0, 8, DR_EFORMAT, "compressed" },
        { 8, 0, 1, DR_EFORMAT, "encrypted" },
        { 24, 0, 5, DR_EFORMAT, "of two sizes" },
        { 28, 0, 200, DR_EFORMAT, "a damaged table" },
        { 42, 0, 1, DR_EFORMAT, "not where its table says" },
        { 43, 0, 200, DR_EFORMAT, "lies outside" },
        { 45, 0, 200, DR_EFORMAT, "lies outside" },
        { 0, 12, 200, DR_EFORMAT, "more files than its table has room for" },
        { 0, 18, 1, DR_EFORMAT, "one of several parts" },
        { 0, 6, 255, DR_EFORMAT, "lies outside" },
        { 0, 2, 1, DR_EFORMAT, "no end of its table" },
    };
    struct archive a;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        make_archive(&a, files, 2);
        a.p[cases[i].from_end ? a.n - (size_t)cases[i].from_end : a.first + (size_t)cases[i].at] =
            cases[i].value;
        expect_refused(a.p, a.n, cases[i].code, cases[i].words);
    }
    struct member twice[] = { { "x/data.pkl", pickle, 4 }, { "y/data.pkl", pickle, 4 } };
    make_archive(&a, twice, 2);
    expect_refused(a.p, a.n, DR_EFORMAT, "more than one data.pkl");
    make_archive(&a, &files[1], 1);
    expect_refused(a.p, a.n, DR_EUNSUPPORTED, "without a data.pkl");
    struct member big[] = { { "x/data.pkl", pickle, 4 }, { "x/byteorder", "big", 3 } };
    make_archive(&a, big, 2);
    expect_refused(a.p, a.n, DR_EUNSUPPORTED, "not little-endian");
    /* both entries lead to the first file */
    struct member same[] = { { "x/data.pkl", pickle, 4 }, { "x/data.pkl", pickle, 4 } };
    make_archive(&a, same, 2);
    a.p[a.first + 42] = 0;
    expect_refused(a.p, a.n, DR_EFORMAT, "two files overlap");
}

static int parse(void *ctx, struct dr_error *err)
{
    struct bytes *b = ctx;
    struct torch_file f;
    int r = torch_parse(b->p, b->n, "file.pt", &f, err);
    if (!r)
        torch_file_free(&f);
    return r;
}

static void short_of_memory(void **state)
{
    (void)state;
    struct bytes b = read_whole("nested.ckpt");
    test_oom_walk(parse, &b);
    free(b.p);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(tensors_of_every_kind),     cmocka_unit_test(dictionaries_in_dictionaries),
    cmocka_unit_test(functions_are_not_called),  cmocka_unit_test(cut_anywhere),
    cmocka_unit_test(any_byte_changed),          cmocka_unit_test(tensors_outside_of_their_storage),
    cmocka_unit_test(pickles_that_are_refused),  cmocka_unit_test(memo_bombs),
    cmocka_unit_test(archives_that_are_refused), cmocka_unit_test(short_of_memory),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
