/* .npy files: a round trip of each type, numpy's own bytes, and headers that lie. */
#include "testing/helpers/test.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/fs.h"
#include "base/npy.h"
#include "testing/helpers/base_files.h"

static const char *file_path(void)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/a.npy", test_dir());
    return path;
}

static void every_type_goes_round(void **state)
{
    (void)state;
    uint64_t blocks = test_blocks();
    static const char types[] = "fdqiB";
    uint8_t data[6 * 8];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 37);
    for (const char *t = types; *t; t++) {
        static const int64_t shapes[][3] = { { 6, 1, 1 }, { 2, 3, 1 }, { 1, 3, 2 }, { 0, 5, 7 } };
        for (int k = 0; k < 4; k++) {
            struct npy a;
            struct dr_error err;
            int ndim = k == 3 ? 3 : k + 1;
            size_t bytes = k == 3 ? 0 : 6 * npy_size_of((enum npy_dtype) * t);
            if (npy_save(file_path(), (enum npy_dtype) * t, shapes[k], ndim, data, &err) ||
                npy_load(file_path(), &a, &err))
                fail_msg("%s", err.text);
            assert_int_equal(a.dtype, *t);
            assert_int_equal(a.ndim, ndim);
            for (int i = 0; i < ndim; i++)
                assert_int_equal(a.shape[i], shapes[k][i]);
            assert_memory_equal(a.data, data, bytes);
            assert_int_equal((uintptr_t)a.data % 64, 0);
            npy_free(&a);
        }
    }
    npy_free(NULL);
    assert_int_equal(test_blocks(), blocks);
}

static void bytes_are_numpys(void **state)
{
    (void)state;
    static const char expected[] =
        "\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }"
        "                                                            \n\0\0\x80?\0\0\0\xc0";
    const float values[] = { 1, -2 };
    struct buf b;
    buf_init(&b, DR_TAG_TEST, 0);
    assert_int_equal(npy_save(file_path(), NPY_F32, (int64_t[]){ 2 }, 1, values, NULL), 0);
    assert_int_equal(dr_read_file(file_path(), 1000, &b, NULL), 0);
    assert_int_equal(b.len, sizeof expected - 1);
    assert_memory_equal(b.data, expected, b.len);
    buf_free(&b);
}

/* A file of this header text and `bytes` zeros behind it. */
static int load_header(const char *text, size_t bytes, struct npy *a, struct dr_error *err)
{
    static const char zeros[64];
    size_t n = strlen(text);
    const char head[10] = {
        '\x93', 'N', 'U', 'M', 'P', 'Y', 1, 0, (char)(n & 255), (char)(n >> 8)
    };
    struct dr_piece pieces[] = { { head, 10 }, { text, n }, { zeros, bytes } };
    assert_int_equal(dr_write_pieces(file_path(), pieces, 3, err), 0);
    return npy_load(file_path(), a, err);
}

static void any_order_of_keys(void **state)
{
    (void)state;
    struct npy a;
    struct dr_error err;
    static const char *const good[] = {
        "{\"shape\": (2, 3), 'fortran_order': False, 'descr': '<i4'}\n",
        "{'fortran_order':False,'descr':'<i4','shape':(2,3,),}",
        " { 'descr' : '<f4' , 'fortran_order' : False , 'shape' : ( 6 , ) } \n",
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        if (load_header(good[i], 24, &a, &err))
            fail_msg("%s", err.text);
        assert_int_equal(a.count, 6);
        npy_free(&a);
    }
    assert_int_equal(
        load_header("{'descr': '|u1', 'fortran_order': False, 'shape': ()}", 1, &a, &err), 0);
    assert_int_equal(a.ndim, 0);
    assert_int_equal(a.count, 1);
    npy_free(&a);
}

static void lying_headers_are_refused(void **state)
{
    (void)state;
    uint64_t blocks = test_blocks();
    static const struct {
        const char *text, *says;
    } bad[] = {
        { "", "dictionary" },
        { "{", "damaged" },
        { "{}", "lacks" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)", "damaged" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), 'x': 1}", "unknown" },
        { "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (6,)}", "repeated" },
        { "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3)}", "Fortran" },
        { "{'descr': '<f4', 'fortran_order': 0, 'shape': (2, 3)}", "neither" },
        { "{'descr': '>f4', 'fortran_order': False, 'shape': (2, 3)}", "element type" },
        { "{'descr': '|O', 'fortran_order': False, 'shape': (2, 3)}", "element type" },
        { "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (6,)}", "structured" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (6)}", "tuple" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (-6,)}", "tuple" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (6.0,)}", "tuple" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,6)}", "tuple" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", "tuple" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4)}", "8 GiB" },
        { "{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296)}", "8 GiB" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807,)}", "8 GiB" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 0)}", "8 GiB" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (7,)}", "24 bytes of data" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (5,)}", "24 bytes of data" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (6,)} x", "data after" },
        { "{'descr': 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'shape': (6,)}",
          "structured" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct npy a;
        struct dr_error err;
        int r = load_header(bad[i].text, 24, &a, &err);
        if (!r || !strstr(err.text, bad[i].says) || !strstr(err.text, "a.npy"))
            fail_msg("%s: %s", bad[i].text, r ? err.text : "taken");
    }
    assert_int_equal(test_blocks(), blocks);
}

static void broken_files_are_refused(void **state)
{
    (void)state;
    struct npy a;
    struct dr_error err;
    static const struct {
        const char *bytes;
        size_t n;
        int code;
    } bad[] = {
        { "", 0, DR_EFORMAT },
        { "\x93NUMPY\x01\x00", 8, DR_EFORMAT },
        { "\x93NUMPY\x01\x00\xff\xff{}", 12, DR_EFORMAT },
        { "\x93NUMPY\x02\x00\x02\x00{}", 12, DR_EUNSUPPORTED },
        { "PK\x03\x04 not an array", 18, DR_EFORMAT },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(dr_write_file(file_path(), bad[i].bytes, bad[i].n, &err), 0);
        assert_int_equal(npy_load(file_path(), &a, &err), bad[i].code);
    }
    assert_int_equal(npy_load("/nowhere.npy", &a, &err), DR_ENOENT);
    assert_int_equal(npy_save(file_path(), (enum npy_dtype)'x', NULL, 0, "", &err), DR_EINVAL);
    assert_int_equal(npy_save(file_path(), NPY_F32, (int64_t[]){ -1 }, 1, "", &err), DR_EINVAL);
    assert_int_equal(npy_save(file_path(), NPY_F32, NULL, 9, "", &err), DR_EINVAL);
}

/* A float array of n elements, opened: nothing of its data is read yet. */
static struct npy_file open_array(int64_t n)
{
    struct npy_file f;
    struct dr_error err;
    float *data = calloc((size_t)n, sizeof *data);
    assert_non_null(data);
    assert_int_equal(npy_save(file_path(), NPY_F32, &n, 1, data, &err), 0);
    free(data);
    int fd = open(file_path(), O_RDONLY);
    assert_true(fd >= 0);
    if (npy_open(fd, file_path(), &f, &err))
        fail_msg("%s", err.text);
    assert_int_equal(f.array.count, n);
    return f;
}

static void files_that_change_are_errors(void **state)
{
    (void)state;
    enum { N = 3 << 18 }; /* 3 MiB: more than one read */
    static float data[N];
    struct dr_error err;
    atomic_int stop = 1;
    struct npy_file f = open_array(N);
    assert_int_equal(npy_read(&f, data, &stop, &err), DR_ECANCELED);
    assert_int_equal(npy_read(&f, data, NULL, &err), 0);
    assert_int_equal(truncate(file_path(), 2 << 20), 0);
    assert_int_equal(npy_read(&f, data, NULL, &err), DR_EIO);
    assert_non_null(strstr(err.text, "a.npy: truncated while"));
    assert_int_equal(truncate(file_path(), 10 << 20), 0);
    assert_int_equal(npy_read(&f, data, NULL, &err), DR_EIO);
    assert_non_null(strstr(err.text, "changed"));
    npy_close(&f);
    npy_close(&f);
    f = open_array(N); /* same length, other contents */
    int fd = open(file_path(), O_WRONLY);
    struct timespec times[2] = { { 0, UTIME_OMIT }, { 1, 0 } };
    assert_int_equal(pwrite(fd, "xxxx", 4, 1 << 20), 4);
    assert_int_equal(futimens(fd, times), 0);
    close(fd);
    assert_int_equal(npy_read(&f, data, NULL, &err), DR_EIO);
    npy_close(&f);
}

/* A file that says it has 2 GiB, and has, costs its header as long as nobody reads it. */
static void a_large_file_costs_nothing(void **state)
{
    (void)state;
    struct dr_error err;
    struct npy_file f = open_array(1);
    struct buf b;
    buf_init(&b, DR_TAG_TEST, 0);
    npy_close(&f);
    assert_int_equal(dr_read_file(file_path(), 4096, &b, NULL), 0);
    char *shape = strstr(b.data + 10, "(1,), }           ");
    assert_non_null(shape);
    memcpy(shape, "(536870912,), }", 15);
    assert_int_equal(dr_write_file(file_path(), b.data, 128, NULL), 0);
    assert_int_equal(truncate(file_path(), 128 + ((off_t)1 << 31)), 0);
    buf_free(&b);
    dr_alloc_reset_peak();
    size_t before = dr_alloc_stats_all().bytes;
    if (npy_open(open(file_path(), O_RDONLY), file_path(), &f, &err))
        fail_msg("%s", err.text);
    assert_int_equal(f.array.count, 1 << 29);
    npy_close(&f);
    assert_true(dr_alloc_stats(DR_TAG_FILE).peak < before + 4096);
    assert_int_equal(unlink(file_path()), 0);
}

static void only_regular_files_are_read(void **state)
{
    (void)state;
    struct npy_file f;
    struct dr_error err;
    static const char *const odd[] = { "/dev/null", "/dev/zero", "/" };
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        int fd = open(odd[i], O_RDONLY);
        assert_true(fd >= 0);
        assert_int_equal(npy_open(fd, odd[i], &f, &err), DR_EINVAL);
        assert_int_equal(f.fd, -1);
        assert_int_equal(fcntl(fd, F_GETFD), -1); /* closed */
    }
    struct npy a;
    unlink(file_path());
    assert_int_equal(mkfifo(file_path(), 0600), 0);
    assert_int_equal(npy_load(file_path(), &a, &err), DR_EINVAL); /* does not wait for a writer */
    assert_int_equal(unlink(file_path()), 0);
}

static int scenario(void *ctx, struct dr_error *err)
{
    struct npy a = { .data = NULL };
    int r = npy_save(ctx, NPY_F64, (int64_t[]){ 1 }, 1, &(double){ 3 }, err);
    r = r ? r : npy_load(ctx, &a, err);
    npy_free(&a);
    return r;
}

static void survives_no_memory(void **state)
{
    (void)state;
    test_oom_walk(scenario, (void *)file_path());
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(every_type_goes_round),      cmocka_unit_test(bytes_are_numpys),
    cmocka_unit_test(any_order_of_keys),          cmocka_unit_test(lying_headers_are_refused),
    cmocka_unit_test(broken_files_are_refused),   cmocka_unit_test(files_that_change_are_errors),
    cmocka_unit_test(a_large_file_costs_nothing), cmocka_unit_test(only_regular_files_are_read),
    cmocka_unit_test(survives_no_memory),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
