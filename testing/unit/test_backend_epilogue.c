/* test_backend_epilogue.c - what products do on the way to dst, in every kernel set, emulated ones
 * too: activations value by value, where the checker's distances see large results only, and which
 * products give moments. */
#include "testing/helpers/test.h"

#include <math.h>
#include <string.h>

#include "backend/device.h"
#include "backend/cpu/x86/emulated/sets.h"
#include "backend/ops/op.h"
#include "base/alloc.h"

static void in_every_set(void (*check)(struct backend *be))
{
    const char *name;
    bool usable;
    emulated_sets_add();
    for (int i = 0; (name = backend_kernel_set_name(i, &usable)); i++) {
        struct backend *be;
        if (!usable)
            continue;
        const struct backend_options opt = { .kernels = name, .threads = 2 };
        assert_int_equal(backend_open(&opt, &be, NULL), 0);
        check(be);
        backend_close(be);
    }
}

/* ---- activations ---- */

enum { STEPS = 193, SPECIAL = 8, VALUES = STEPS + SPECIAL };

/* -6, -6 + 1/16, ... 6, exact in every type; then what is far and what is not a number. */
static void values(float x[VALUES])
{
    static const float special[SPECIAL] = { -20, -1000, -57344, 20, 1000, 57344, NAN, INFINITY };
    for (int i = 0; i < STEPS; i++)
        x[i] = (float)(i - STEPS / 2) / 16;
    memcpy(x + STEPS, special, sizeof special);
}

static double expected(enum activation kind, double x)
{
    if (kind == ACT_GELU)
        return 0.5 * x * erfc(-x / sqrt(2));
    return x / (1 + exp(kind == ACT_SILU ? -x : -1.702 * x));
}

/* dst = activation(1 * src), as the next product takes it. */
static void activate(struct backend *be, enum activation kind, const float *x, float *ret)
{
    static const float one = 1;
    static const struct weight_desc desc = { WEIGHT_LINEAR, .in = 1, .out = 1, .parts = 1 };
    const struct weight_source source = { .data = &one, .dtype = DTYPE_F32, .shape = SHAPE2(1, 1) };
    enum dtype dtype = backend_operand(be, OP_LINEAR);
    struct exec exec = { .be = be };
    struct op op = { .kind = OP_LINEAR, .activation = kind };
    struct weight *weight;
    char stored[VALUES * sizeof(float)];
    assert_int_equal(weight_prepare(be, &desc, &source, 1, &weight, NULL), 0);
    assert_int_equal(workspace_new(be, 16 << 20, &exec.ws, NULL), 0);
    assert_int_equal(act_new(&exec, dtype, 1, 1, VALUES, 1, &op.src, NULL), 0);
    assert_int_equal(act_new(&exec, dtype, 1, 1, VALUES, 1, &op.dst, NULL), 0);
    dtype_from_f32(stored, dtype, x, VALUES);
    assert_int_equal(act_write(&exec, op.src, stored, NULL), 0);
    op.weight = weight;
    assert_int_equal(op_run(&exec, &op, NULL), 0);
    assert_int_equal(act_read(&exec, op.dst, stored, NULL), 0);
    dtype_to_f32(ret, stored, dtype, VALUES);
    workspace_free(exec.ws);
    weight_free(weight);
}

static void check_activations(struct backend *be)
{
    static const enum activation kinds[] = { ACT_SILU, ACT_GELU, ACT_QUICK_GELU };
    float x[VALUES], y[VALUES];
    bool narrow = backend_operand(be, OP_LINEAR) != DTYPE_F32;
    double relative = narrow ? 4.1e-3 : 2e-6, absolute = 1e-7;
    values(x);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        activate(be, kinds[k], x, y);
        for (int i = 0; i < VALUES; i++) {
            double want = expected(kinds[k], x[i]);
            bool equal = isnan(want)   ? isnan(y[i])
                         : isinf(want) ? !isfinite(y[i])
                                       : fabs(y[i] - want) <= relative * fabs(want) + absolute;
            if (!equal)
                fail_msg("%s: activation %d of %g is %g, expected %g", backend_kernel_set(be),
                         (int)kinds[k], (double)x[i], (double)y[i], want);
        }
    }
}

static void activations_are_exact_where_they_are_small(void **state)
{
    (void)state;
    in_every_set(check_activations);
}

/* ---- moments ---- */

static int64_t runs_of(struct backend *be, const struct weight_desc *d, enum activation activation,
                       enum dtype dst, int64_t samples)
{
    static float zeros[64 * 64 * 9];
    const struct weight_source source = { .data = zeros,
                                          .dtype = DTYPE_F32,
                                          .shape = d->kernel ? SHAPE4(d->out, d->in, 3, 3)
                                                             : SHAPE2(d->out, d->in) };
    struct op op = { .kind = d->kernel ? OP_CONV2D : OP_LINEAR, .activation = activation };
    struct weight *weight;
    assert_int_equal(weight_prepare(be, d, &source, 1, &weight, NULL), 0);
    op.src = (struct act){ .n = samples, .h = 40, .w = 36, .c = d->in, .ld = d->in };
    op.dst = op.src;
    op.dst.dtype = dst;
    op.dst.c = op.dst.ld = d->gated ? d->out / 2 : d->out;
    op.pad_low = op.pad_high = 1;
    op.weight = weight;
    int64_t runs = backend_stat_chunks(be, &op);
    weight_free(weight);
    return runs;
}

static void check_runs(struct backend *be)
{
    static const struct weight_desc conv = { WEIGHT_CONV, .in = 64, .out = 64, .kernel = 3,
                                             .parts = 1 };
    static const struct weight_desc linear = { WEIGHT_LINEAR, .in = 64, .out = 64, .parts = 1 };
    static const struct weight_desc gated = { WEIGHT_LINEAR, .in = 64, .out = 64, .parts = 1,
                                              .gated = true };
    enum dtype operand = backend_operand(be, OP_LINEAR);
    bool scalar = !strcmp(backend_kernel_set(be), "scalar");
    int64_t runs = runs_of(be, &conv, ACT_NONE, DTYPE_F32, 1);
    assert_int_equal(runs > 0 && runs <= 40 * 36 / 16, !scalar);
    assert_int_equal(runs_of(be, &conv, ACT_NONE, DTYPE_F32, 3), runs);
    runs = runs_of(be, &linear, ACT_NONE, DTYPE_F32, 1);
    assert_int_equal(runs > 0 && runs <= 40 * 36 / 16, !scalar);
    assert_int_equal(runs_of(be, &linear, ACT_NONE, DTYPE_F32, 3), runs);
    assert_int_equal(runs_of(be, &gated, ACT_GEGLU, DTYPE_F32, 1), 0);
    if (operand != DTYPE_F32)
        assert_int_equal(runs_of(be, &linear, ACT_NONE, operand, 1), 0);
}

static void products_give_moments(void **state)
{
    (void)state;
    in_every_set(check_runs);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(activations_are_exact_where_they_are_small),
    cmocka_unit_test(products_give_moments),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
