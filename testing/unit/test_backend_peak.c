/* test_backend_peak.c - the vector kernels use the machine: a matrix product and a convolution of
 * SDXL's shapes against the peak measured in the same run. They reach three quarters of it and
 * more; the bound leaves room for busy neighbours and still catches a register block in memory. */
#include "testing/helpers/test.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backend/device.h"
#include "backend/backend.h"
#include "backend/cpu/peak.h"
#include "backend/ops/op.h"
#include "base/alloc.h"

enum { ROUNDS = 8 };

/* The calling thread's own time: with one thread, what the kernel took, whoever else runs. */
static double thread_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool usable(const char *set)
{
    bool ok = false;
    const char *name;
    for (int i = 0; (name = backend_kernel_set_name(i, &ok)); i++)
        if (!strcmp(name, set))
            return ok;
    return false;
}

static float *noise(size_t n)
{
    float *p = dr_malloc(DR_TAG_BASE, n * sizeof *p);
    uint32_t state = 7;
    assert_non_null(p);
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        p[i] = (float)(state >> 8) * 0x1p-23f - 1.0f;
    }
    return p;
}

/* FLOP/s of the op, the best of a few runs. */
static double rate(struct exec *x, const struct op *op)
{
    double best = 0;
    for (int i = 0; i < ROUNDS; i++) {
        double start = thread_seconds();
        assert_int_equal(op_run(x, op, NULL), 0);
        double now = op_info(op->kind)->flops(op) / (thread_seconds() - start);
        best = now > best ? now : best;
    }
    return best;
}

static double own_peak(struct backend *be)
{
    return backend_peak(be, backend_family(be)).flops;
}

/* channels in and out, size x size pixels; kernel 1: as a linear. */
static void reaches(const char *set, int64_t channels, int64_t size, int kernel, double fraction)
{
    struct backend *be;
    struct exec x = { .be = NULL };
    struct weight *w;
    struct act in, out;
    size_t elements = (size_t)(channels * channels * kernel * kernel);
    assert_int_equal(
        backend_open(&(struct backend_options){ .kernels = set, .threads = 1 }, &be, NULL), 0);
    x.be = be;
    assert_int_equal(workspace_new(be, (size_t)1 << 26, &x.ws, NULL), 0);
    float *weight = noise(elements), *pixels = noise((size_t)(channels * size * size));
    struct weight_source source = { .name = "w",
                                    .data = weight,
                                    .dtype = DTYPE_F32,
                                    .shape = kernel == 1 ? SHAPE2(channels, channels)
                                                         : SHAPE4(channels, channels, 3, 3) };
    struct weight_desc desc = { .kind = kernel == 1 ? WEIGHT_LINEAR : WEIGHT_CONV,
                                .in = channels,
                                .out = channels,
                                .kernel = kernel,
                                .parts = 1 };
    assert_int_equal(weight_prepare(be, &desc, &source, 1, &w, NULL), 0);
    assert_int_equal(act_new(&x, DTYPE_F32, 1, size, size, channels, &in, NULL), 0);
    assert_int_equal(act_new(&x, DTYPE_F32, 1, size, size, channels, &out, NULL), 0);
    assert_int_equal(act_write(&x, in, pixels, NULL), 0);
    struct op op = {
        .kind = kernel == 1 ? OP_KIND_linear : OP_KIND_conv2d, .dst = out, .src = in, .weight = w
    };
    if (kernel == 3)
        op.pad_low = op.pad_high = 1;
    double before = own_peak(be), reached = rate(&x, &op), after = own_peak(be);
    double peak = before > after ? before : after;
    print_message("%s %lldx%lld %dx%d: %.1f of %.1f GFLOP/s, %.0f %%\n", set, (long long)channels,
                  (long long)channels, kernel, kernel, reached * 1e-9, peak * 1e-9,
                  100 * reached / peak);
    weight_free(w);
    dr_free(weight);
    dr_free(pixels);
    workspace_free(x.ws);
    backend_close(be);
    assert_true(peak > 1e9);
    assert_true(reached > fraction * peak);
}

static void set_reaches(const char *set)
{
#if defined(DR_SANITIZED) || !defined(__OPTIMIZE__)
    skip();
#endif
    if (!usable(set))
        skip();
    reaches(set, 1280, 16, 1, 0.4);
    reaches(set, 320, 32, 3, 0.4);
}

static void avx2_is_near_the_peak(void **state)
{
    (void)state;
    set_reaches("avx2");
}

static void avx512_is_near_the_peak(void **state)
{
    (void)state;
    set_reaches("avx512");
}

/* Every set says whose fraction it is, and a machine that runs the set has that family. */
static void every_set_has_a_family(void **state)
{
    (void)state;
    struct kernel_set_facts set;
    for (int i = 0; kernel_set_facts(i, &set); i++) {
        assert_non_null(cpu_peak_family(set.family));
        if (set.usable && strcmp(set.name, "scalar"))
            assert_true(cpu_peak_usable(set.family));
    }
    assert_int_equal(cpu_peak_family_of(&(struct kernel_set){ .family = "none" }), -1);
    assert_int_equal(cpu_peak_family_of(&(struct kernel_set){ .family = NULL }), -1);
    assert_null(cpu_peak_family(-1));
}

/* An instruction is issued once or twice a cycle, a tile's product in 16; a loop that waits for its
 * own results or for memory shows less. What a busy neighbour leaves is for people to look at. */
static void families_are_measured(void **state)
{
    (void)state;
    struct backend *be;
    const char *name;
    assert_int_equal(backend_open(NULL, &be, NULL), 0);
    for (int i = 0; (name = backend_family_name(be, i)); i++) {
        struct device_peak p = backend_peak(be, i);
        print_message("%-12s %.4f TFLOP/s, %.2f GHz, %.3f instructions and %.1f FLOPs a cycle\n",
                      name, p.flops * 1e-12, p.hz * 1e-9, p.instructions, p.per_cycle);
        assert_true(cpu_peak_usable(i) ? p.flops > 1e8 && p.hz > 1e7 : p.flops == 0);
        assert_true(p.instructions < 4);
    }
    backend_close(be);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(every_set_has_a_family),
    cmocka_unit_test(families_are_measured),
    cmocka_unit_test(avx2_is_near_the_peak),
    cmocka_unit_test(avx512_is_near_the_peak),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
