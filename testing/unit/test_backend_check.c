/* test_backend_check.c - the kernels of this machine against their references; and that the checker
 * can fail. */
#include "testing/helpers/test.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "backend/check/op_check.h"
#include "backend/device.h"
#include "backend/cpu/cpu.h"
#include "base/clock.h"

/* Builds for debugging and sanitizing leave out the large shapes. */
#if defined(__OPTIMIZE__) && !defined(DR_SANITIZED)
static const double MOST_FLOPS = 0;
enum { SEEDS = 6 };
#else
static const double MOST_FLOPS = 1e6;
enum { SEEDS = 1 };
#endif

static void print_result(void *ctx, const struct check_result *r)
{
    int *count = ctx;
    ++*count;
    if (!r->passed || r->seconds > 3)
        printf("%-14s %-7s %-24s%s error %.2e worst %.2e of %.0e, %lld outputs, %.2f s %s\n", r->op,
               r->set, r->name, r->narrow ? " (16 bit)" : "", r->error, r->worst, r->tolerance,
               (long long)r->compared, r->seconds, r->why);
}

static void check_op(enum op_kind kind)
{
    struct check_options opt = {
        .op = op_info(kind)->name, .most_flops = MOST_FLOPS, .scalar_flops = 1e8, .seed = 7
    };
    struct dr_error err = { 0 };
    int failed = -1, count = 0;
    double start = dr_now();
    uint64_t blocks = test_blocks();
    if (backend_check(&opt, print_result, &count, &failed, &err))
        fail_msg("%s: %s", opt.op, err.text);
    printf("%s: %d results, %.1f s\n", opt.op, count, dr_now() - start);
    assert_int_equal(failed, 0);
    assert_true(count >= op_info(kind)->n_cases / 2);
    assert_true(test_blocks() == blocks);
}

/* Whatever the values are, the smallest cases too, where sums may cancel. */
static void any_values_will_do(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct check_options opt = { .most_flops = 5e3, .seed = seed };
        struct dr_error err = { 0 };
        int failed = -1, count = 0;
        if (backend_check(&opt, print_result, &count, &failed, &err))
            fail_msg("%s", err.text);
        assert_int_equal(failed, 0);
        assert_true(count > 0);
    }
}

#define OP(name)                                                                                   \
    static void name##_kernels(void **state)                                                       \
    {                                                                                              \
        (void)state;                                                                               \
        check_op(OP_KIND_##name);                                                                  \
    }
#include "backend/ops/ops.def"
#undef OP

/* ---- a backend that does its ops almost right ---- */

enum fault {
    FAULT_NONE,
    FAULT_VALUE,
    FAULT_NAN,
    FAULT_OUTSIDE,
    FAULT_GAP,
    FAULT_THREADS,
    FAULT_BATCH,
    FAULT_ERROR
};
static enum fault fault;

static int faulty_run(struct backend *be, const struct op *op, struct buffer *scratch_buf,
                      size_t scratch_offset, const atomic_int *stop, struct dr_error *err)
{
    int r = cpu_vtable.run(be, op, scratch_buf, scratch_offset, stop, err);
    float *dst = (float *)((char *)op->dst.buf->memory + op->dst.offset);
    int64_t rows = op->dst.n * op->dst.h * op->dst.w;
    bool big = fault == FAULT_VALUE || (fault == FAULT_THREADS && be->threads == 3) ||
               (fault == FAULT_BATCH && op->dst.n > 1);
    if (big)
        dst[0] = dst[0] + (fault == FAULT_VALUE ? 0.01f : 1e-7f);
    if (fault == FAULT_NAN)
        dst[(rows - 1) * op->dst.ld + op->dst.c - 1] = NAN;
    if (fault == FAULT_OUTSIDE)
        dst[rows * op->dst.ld] = 0;
    if (fault == FAULT_GAP && op->dst.ld > op->dst.c)
        dst[op->dst.c] = 0;
    if (fault == FAULT_ERROR)
        return dr_fail(err, DR_EINTERNAL, "broken");
    return r;
}

static int faulty_open(const struct backend_options *opt, struct backend **ret,
                       struct dr_error *err)
{
    static struct backend_vtable vtable;
    int r = backend_open(opt, ret, err);
    if (!r) {
        vtable = *(*ret)->v;
        vtable.run = faulty_run;
        (*ret)->v = &vtable;
    }
    return r;
}

static void keep_why(void *ctx, const struct check_result *r)
{
    if (!r->passed)
        snprintf(ctx, sizeof r->why, "%s", r->why);
}

static void finds_faults(void **state)
{
    (void)state;
    static const struct {
        enum fault fault;
        const char *why;
    } faults[] = {
        { FAULT_NONE, "" },
        { FAULT_VALUE, "relative error" },
        { FAULT_NAN, "relative error" },
        { FAULT_OUTSIDE, "writes outside" },
        { FAULT_GAP, "writes outside" },
        { FAULT_THREADS, "3 threads give other bits" },
        { FAULT_BATCH, "alone has other bits" },
        { FAULT_ERROR, "broken" },
    };
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        struct check_options opt = { .op = "layer_norm", .kernels = "scalar", .open = faulty_open };
        char why[200] = "";
        int failed = -1;
        fault = faults[i].fault;
        assert_int_equal(backend_check(&opt, keep_why, why, &failed, NULL), 0);
        assert_true((failed > 0) == (fault != FAULT_NONE));
        if (!strstr(why, faults[i].why))
            fail_msg("fault %d: \"%s\"", (int)fault, why);
    }
}

static void names_unknown_things(void **state)
{
    (void)state;
    struct dr_error err = { 0 };
    int failed;
    struct check_options opt = { .op = "layernorm" };
    assert_int_equal(backend_check(&opt, keep_why, NULL, &failed, &err), DR_EINVAL);
    assert_string_equal(err.hint, "layer_norm");
    opt = (struct check_options){ .kernels = "avx1024" };
    assert_int_equal(backend_check(&opt, keep_why, NULL, &failed, &err), DR_EINVAL);
    assert_non_null(strstr(err.expected, "avx512"));
}

static int small_check(void *ctx, struct dr_error *err)
{
    struct check_options opt = { .op = "embedding", .kernels = "scalar" };
    int failed;
    char why[200];
    (void)ctx;
    return backend_check(&opt, keep_why, why, &failed, err);
}

static void survives_short_memory(void **state)
{
    (void)state;
    test_oom_walk(small_check, NULL);
}

enum { CHECKER_TESTS = 3 };

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(any_values_will_do),    cmocka_unit_test(finds_faults),
    cmocka_unit_test(names_unknown_things),  cmocka_unit_test(survives_short_memory),
    cmocka_unit_test(linear_kernels),        cmocka_unit_test(conv2d_kernels),
    cmocka_unit_test(upsample_conv_kernels), cmocka_unit_test(group_norm_kernels),
    cmocka_unit_test(layer_norm_kernels),    cmocka_unit_test(attention_kernels),
    cmocka_unit_test(embedding_kernels),     cmocka_unit_test(resize_kernels),
    cmocka_unit_test(add_kernels),           cmocka_unit_test(weigh_kernels),
    cmocka_unit_test(low_scale_kernels),     cmocka_unit_test(wrap_kernels),
};

static void print_digest(void *ctx, const struct check_result *r)
{
    (void)ctx;
    printf("%s %s %016" PRIx64 " %s\n", r->op, r->set, r->digest, r->name);
}

/* `--digests`: bits of every case, for comparing builds of two compilers. */
static int print_digests(void)
{
    struct check_options opt = { .most_flops = 1.5e8, .seed = 7 };
    int failed = 0;
    return backend_check(&opt, print_digest, NULL, &failed, NULL) || failed;
}

/* The walk over failing allocations is for the checker; the kernels behind it allocate nothing. */
int main(int argc, char **argv)
{
    size_t n = sizeof tests / sizeof *tests;
    if (argc > 1 && !strcmp(argv[1], "--digests"))
        return print_digests();
    return test_main(argc, argv, tests, argc > 1 && !strcmp(argv[1], "--oom") ? CHECKER_TESTS : n);
}
