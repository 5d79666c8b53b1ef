/* test_backend_weights.c - which sources make a weight, and what the plan and the system get to
 * know of it. */
#include "testing/helpers/test.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backend/cpu/cpu.h"
#include "backend/device.h"
#include "backend/ops/op.h"
#include "base/alloc.h"

static struct backend *open_cpu(void)
{
    struct backend *be;
    assert_int_equal(
        backend_open(&(struct backend_options){ .kernels = "scalar", .threads = 1 }, &be, NULL), 0);
    return be;
}

static const float zeros[64 * 64];

static struct weight_source source(const char *name, struct shape shape)
{
    return (struct weight_source){ .name = name, .data = zeros, .shape = shape };
}

struct misfit {
    struct weight_desc desc;
    struct weight_source sources[6];
    int n;
    const char *text; /* must occur in the error */
};

static void misfits_name_the_tensor(void **state)
{
    (void)state;
    const struct weight_desc linear = { WEIGHT_LINEAR, .in = 4, .out = 6, .parts = 2,
                                        .bias = true };
    const struct weight_desc conv = { WEIGHT_CONV, .in = 4, .out = 6, .kernel = 3, .parts = 1 };
    const struct weight_desc norm = { WEIGHT_NORM, .out = 6, .parts = 1, .bias = true };
    const struct weight_desc table = { WEIGHT_TABLE, .in = 9, .out = 6, .parts = 1 };
    struct weight_source w24 = source("q", SHAPE2(2, 4)), w44 = source("k", SHAPE2(4, 4));
    struct weight_source b2 = source("qb", SHAPE1(2)), b4 = source("kb", SHAPE1(4));
    struct weight_source ints = source("ints", SHAPE1(6)), none = source("none", SHAPE1(6));
    ints.dtype = DTYPE_I32;
    none.data = NULL;
    const struct misfit cases[] = {
        { linear, { w24, w24, b2, b2 }, 4, "q" },
        { linear, { w24, w44, b4, b2 }, 4, "kb" },
        { linear, { w24, source("k", SHAPE2(4, 5)), b2, b4 }, 4, "[4, 5]" },
        { linear, { w24, source("k", SHAPE3(4, 4, 2)), b2, b4 }, 4, "[4, 4, 2]" },
        { linear, { source("r", SHAPE2(0, 4)), w44, source("z", SHAPE1(0)), b4 }, 4, "r" },
        { linear, { w24, w44 }, 2, "2 sources" },
        { conv, { source("conv.weight", SHAPE4(6, 4, 1, 1)) }, 1, "conv.weight" },
        { conv, { source("conv.weight", SHAPE4(6, 4, 1, 1)) }, 1, "[6, 4, 3, 3]" },
        { norm, { none, source("shift", SHAPE1(6)) }, 2, "none" },
        { norm, { ints, source("shift", SHAPE1(6)) }, 2, "I32" },
        { norm, { source("scale", SHAPE1(6)), source("shift", SHAPE1(7)) }, 2, "shift" },
        { table, { source("table", SHAPE2(6, 9)) }, 1, "table" },
    };
    struct backend *be = open_cpu();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dr_error err = { 0 };
        struct weight *w = NULL;
        int r = weight_prepare(be, &cases[i].desc, cases[i].sources, cases[i].n, &w, &err);
        assert_int_equal(r, DR_EINVAL);
        assert_null(w);
        if (!strstr(err.text, cases[i].text))
            fail_msg("case %zu: \"%s\" does not say \"%s\"", i, err.text, cases[i].text);
    }
    backend_close(be);
}

static void bad_descs_are_refused(void **state)
{
    (void)state;
    const struct weight_desc descs[] = {
        { WEIGHT_LINEAR, .in = 4, .out = 0, .parts = 1 },
        { WEIGHT_LINEAR, .in = 0, .out = 4, .parts = 1 },
        { WEIGHT_LINEAR, .in = 4, .out = 4, .parts = 4 },
        { WEIGHT_CONV, .in = 4, .out = 4, .kernel = 5, .parts = 1 },
        { WEIGHT_CONV, .in = 4, .out = 4, .kernel = 3, .parts = 2 },
        { WEIGHT_TABLE, .in = 4, .out = 4, .parts = 1, .bias = true },
        { WEIGHT_LINEAR, .in = INT64_MAX / 4, .out = 8, .parts = 1 },
        { (enum weight_kind)9, .in = 4, .out = 4, .parts = 1 },
    };
    struct backend *be = open_cpu();
    for (size_t i = 0; i < sizeof descs / sizeof *descs; i++) {
        struct weight_source s[2] = { source("w", SHAPE2(4, 4)), source("b", SHAPE1(4)) };
        struct weight *w;
        assert_int_equal(weight_prepare(be, &descs[i], s, descs[i].bias ? 2 : 1, &w, NULL),
                         DR_EINVAL);
    }
    weight_free(NULL);
    backend_close(be);
}

static void trailing_ones_do_not_matter(void **state)
{
    (void)state;
    struct backend *be = open_cpu();
    struct weight *w;
    const struct weight_desc linear = { WEIGHT_LINEAR, .in = 4, .out = 6 };
    const struct weight_desc conv = { WEIGHT_CONV, .in = 4, .out = 6, .kernel = 1 };
    const struct weight_desc thin = { WEIGHT_LINEAR, .in = 1, .out = 6 };
    struct weight_source four = source("w", SHAPE4(6, 4, 1, 1)), two = source("w", SHAPE2(6, 4));
    struct weight_source one = source("w", SHAPE2(6, 1));
    const struct {
        const struct weight_desc *desc;
        const struct weight_source *source;
    } fits[] = {
        { &linear, &four }, { &linear, &two }, { &conv, &four }, { &conv, &two }, { &thin, &one }
    };
    for (size_t i = 0; i < sizeof fits / sizeof *fits; i++) {
        assert_int_equal(weight_prepare(be, fits[i].desc, fits[i].source, 1, &w, NULL), 0);
        assert_int_equal(weight_desc(w)->parts, 1);
        weight_free(w);
    }
    backend_close(be);
}

static void vectors_are_widened(void **state)
{
    (void)state;
    struct backend *be = open_cpu();
    const uint16_t q[2] = { 0x3c00, 0x4000 }, k[1] = { 0xc200 }; /* 1, 2 and -3 in F16 */
    struct weight_source s[4] = { source("q", SHAPE2(2, 4)),
                                  source("k", SHAPE2(1, 4)),
                                  { "qb", q, DTYPE_F16, SHAPE1(2), false, NULL },
                                  { "kb", k, DTYPE_F16, SHAPE1(1), false, NULL } };
    const struct weight_desc desc = { WEIGHT_LINEAR, .in = 4, .out = 3, .parts = 2, .bias = true };
    struct weight *w;
    size_t before = dr_alloc_stats(DR_TAG_WEIGHTS).bytes;
    assert_int_equal(weight_prepare(be, &desc, s, 4, &w, NULL), 0);
    const float *bias = ((const struct cpu_weight *)w->own)->host.bias;
    assert_true(bias[0] == 1 && bias[1] == 2 && bias[2] == -3);
    assert_int_equal(dr_alloc_stats(DR_TAG_WEIGHTS).bytes - before, 64);
    weight_free(w);
    assert_int_equal(dr_alloc_stats(DR_TAG_WEIGHTS).bytes, before);
    backend_close(be);
}

/* Pages of a mapping that are in this process's page tables. */
static long resident(const void *p)
{
    char line[256];
    long kb = -1;
    bool inside = false;
    FILE *f = fopen("/proc/self/smaps", "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        unsigned long first, last;
        if (sscanf(line, "%lx-%lx ", &first, &last) == 2)
            inside = (unsigned long)p >= first && (unsigned long)p < last;
        else if (inside && sscanf(line, "Rss: %ld kB", &kb) == 1)
            break;
    }
    fclose(f);
    return kb;
}

static void release_gives_pages_back(void **state)
{
    (void)state;
    enum { ROWS = 512, COLUMNS = 1024, BYTES = ROWS * COLUMNS * 4 };
    char path[512];
    snprintf(path, sizeof path, "%s/weights", test_dir());
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    assert_true(fd >= 0 && ftruncate(fd, BYTES) == 0);
    const float one = 1;
    assert_int_equal(pwrite(fd, &one, sizeof one, 0), sizeof one);
    volatile float *p = mmap(NULL, BYTES, PROT_READ, MAP_PRIVATE, fd, 0);
    assert_true(p != MAP_FAILED);
    struct backend *be = open_cpu();
    struct weight_source s = {
        "w", (const float *)p, DTYPE_F32, SHAPE2(ROWS, COLUMNS), true, NULL
    };
    const struct weight_desc desc = { WEIGHT_LINEAR, .in = COLUMNS, .out = ROWS };
    struct weight *w;
    assert_int_equal(weight_prepare(be, &desc, &s, 1, &w, NULL), 0);
    float sum = 0;
    for (size_t i = 0; i < BYTES / 4; i += 1024)
        sum += p[i];
    assert_true(sum == 1);
    weight_release(w, false);
    assert_true(resident((const void *)p) >= BYTES / 1024);
    weight_release(w, true);
    assert_true(resident((const void *)p) <= 64);
    assert_true(p[0] == 1);
    weight_free(w);
    backend_close(be);
    munmap((void *)p, BYTES);
    close(fd);
}

static void private_memory_is_never_dropped(void **state)
{
    (void)state;
    enum { N = 64 * 1024 };
    float *p = mmap(NULL, N * 4, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(p != MAP_FAILED);
    p[0] = p[N - 1] = 3;
    struct backend *be = open_cpu();
    struct weight_source s = { "w", p, DTYPE_F32, SHAPE2(256, 256), false, NULL };
    const struct weight_desc desc = { WEIGHT_LINEAR, .in = 256, .out = 256 };
    struct weight *w;
    assert_int_equal(weight_prepare(be, &desc, &s, 1, &w, NULL), 0);
    weight_release(w, true);
    assert_true(p[0] == 3 && p[N - 1] == 3);
    weight_free(w);
    backend_close(be);
    munmap(p, N * 4);
}

static int prepare_one(void *ctx, struct dr_error *err)
{
    struct weight_source s[2] = { source("w", SHAPE1(6)), source("b", SHAPE1(6)) };
    const struct weight_desc desc = { WEIGHT_NORM, .out = 6, .bias = true };
    struct weight *w = NULL;
    int r = weight_prepare(ctx, &desc, s, 2, &w, err);
    weight_free(w);
    return r;
}

static void survives_short_memory(void **state)
{
    (void)state;
    struct backend *be = open_cpu();
    test_oom_walk(prepare_one, be);
    backend_close(be);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(misfits_name_the_tensor),
    cmocka_unit_test(bad_descs_are_refused),
    cmocka_unit_test(trailing_ones_do_not_matter),
    cmocka_unit_test(vectors_are_widened),
    cmocka_unit_test(release_gives_pages_back),
    cmocka_unit_test(private_memory_is_never_dropped),
    cmocka_unit_test(survives_short_memory),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
