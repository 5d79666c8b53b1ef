/* test_quantize_emulation.c - a layer emulated in 8 bits gives what the definition of 8-bit
 * operands says, and what the 8-bit kernels give where the processor has them. */
#include "testing/helpers/test.h"

#include <math.h>
#include <string.h>

#include "backend/device.h"
#include "backend/ops/int8.h"
#include "quantize/emulation.h"

enum { IN = 640, OUT = 40, ROWS = 7 };

struct fixture {
    struct backend *be;
    struct exec x;
    struct weight *weight;
    struct op op;
    float matrix[OUT * IN], bias[OUT], src[ROWS * IN], dst[ROWS * OUT];
    int8_t numbers[OUT * IN]; /* the matrix in 8 bits, with scales */
    float scales[OUT];
};

/* false: this processor lacks the set. */
static bool open_set(struct fixture *f, const char *kernels)
{
    uint32_t seed = 1;
    struct dr_error err = { 0 };
    struct backend_options opt = { .kernels = kernels, .threads = 2 };
    memset(f, 0, sizeof *f);
    int r = backend_open(&opt, &f->be, &err);
    if (r == DR_EUNSUPPORTED)
        return false;
    assert_int_equal(r, 0);
    f->x.be = f->be;
    assert_int_equal(workspace_new(f->be, (size_t)1 << 22, &f->x.ws, &err), 0);
    for (int i = 0; i < OUT * IN; i++)
        f->matrix[i] = (float)((seed = seed * 1664525u + 1013904223u) >> 8) * 0x1p-24f - 0.5f;
    for (int i = 0; i < ROWS * IN; i++)
        f->src[i] = (float)((seed = seed * 1664525u + 1013904223u) >> 8) * 0x1p-20f - 7;
    for (int i = 0; i < OUT; i++) {
        f->bias[i] = (float)i;
        int8_weight_row(f->matrix + i * IN, IN, f->numbers + i * IN, &f->scales[i]);
    }
    return true;
}

static void close_set(struct fixture *f)
{
    act_free(&f->x, &f->op.src);
    act_free(&f->x, &f->op.dst);
    weight_free(f->weight);
    workspace_free(f->x.ws);
    backend_close(f->be);
}

/* The linear layer as an op, with this matrix. */
static void make_op(struct fixture *f, struct weight_source matrix)
{
    struct dr_error err = { 0 };
    struct weight_source s[2] = { matrix, { "b", f->bias, DTYPE_F32, SHAPE1(OUT), false, NULL } };
    struct weight_desc d = { .kind = WEIGHT_LINEAR, .in = IN, .out = OUT, .bias = true };
    f->op = (struct op){ .kind = OP_LINEAR };
    if (weight_prepare(f->be, &d, s, 2, &f->weight, &err) ||
        act_new(&f->x, DTYPE_F32, 1, 1, ROWS, IN, &f->op.src, &err) ||
        act_new(&f->x, DTYPE_F32, 1, 1, ROWS, OUT, &f->op.dst, &err) ||
        act_write(&f->x, f->op.src, f->src, &err))
        fail_msg("%s", err.text);
    f->op.weight = f->weight;
}

static void run_emulated(struct fixture *f)
{
    struct dr_error err = { 0 };
    make_op(f, (struct weight_source){ "w", f->matrix, DTYPE_F32, SHAPE2(OUT, IN), false, NULL });
    assert_true(trial_possible(&f->op));
    if (trial_run(&f->x, &f->op, &err) || act_read(&f->x, f->op.dst, f->dst, &err))
        fail_msg("%s", err.text);
}

static double distance(const float *a, const float *b, int n)
{
    double difference = 0, sum = 0;
    for (int i = 0; i < n; i++) {
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        sum += (double)a[i] * a[i];
    }
    return sqrt(difference / sum);
}

/* The layer from its definition: rounded tokens times rounded rows, in double. */
static void from_definition(const struct fixture *f, bool rounded, float *ret)
{
    static float src[ROWS * IN];
    memcpy(src, f->src, sizeof src);
    if (rounded)
        int8_round_source(&f->op, src);
    for (int row = 0; row < ROWS; row++)
        for (int c = 0; c < OUT; c++) {
            double sum = 0;
            for (int i = 0; i < IN; i++)
                sum += (double)src[row * IN + i] *
                       (rounded ? (double)f->numbers[c * IN + i] * f->scales[c]
                                : (double)f->matrix[c * IN + i]);
            ret[row * OUT + c] = (float)(sum + f->bias[c]);
        }
}

static void gives_what_the_definition_says(void **state)
{
    (void)state;
    static struct fixture f;
    static float want[ROWS * OUT], plain[ROWS * OUT];
    struct dr_error err = { 0 };
    double difference = 0, result = 0;
    assert_true(open_set(&f, "scalar"));
    run_emulated(&f);
    from_definition(&f, true, want);
    from_definition(&f, false, plain);
    if (distance(want, f.dst, ROWS * OUT) > 1e-6)
        fail_msg("distance %g", distance(want, f.dst, ROWS * OUT));
    double error = distance(plain, want, ROWS * OUT);
    assert_true(error > 1e-4); /* rounding is to be seen */
    assert_int_equal(trial_measure(&f.x, &f.op, &difference, &result, &err), 0);
    assert_true(fabs(sqrt(difference / result) - error) < 1e-3 * error);
    close_set(&f);
}

/* The next usable 8-bit set from *i on, which moves past it; NULL: no more. */
static const char *next_int8_set(int *i)
{
    const char *set;
    bool usable;
    while ((set = backend_kernel_set_name(*i, &usable)))
        if (backend_kernel_set_precision((*i)++) == PRECISION_INT8 && usable)
            return set;
    return NULL;
}

static void agrees_with_kernels(void **state)
{
    (void)state;
    static struct fixture a, b;
    int i = 0;
    const char *set = next_int8_set(&i);
    struct dr_error err = { 0 };
    if (!set)
        skip();
    for (; set; set = next_int8_set(&i)) {
        assert_true(open_set(&a, "avx512") && open_set(&b, set));
        run_emulated(&a);
        make_op(&b, (struct weight_source){ "w", b.numbers, DTYPE_I8, SHAPE2(OUT, IN), false,
                                            b.scales });
        if (op_run(&b.x, &b.op, &err) || act_read(&b.x, b.op.dst, b.dst, &err))
            fail_msg("%s", err.text);
        if (distance(a.dst, b.dst, ROWS * OUT) > 3e-6)
            fail_msg("%s: distance %g", set, distance(a.dst, b.dst, ROWS * OUT));
        close_set(&a);
        close_set(&b);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(gives_what_the_definition_says),
    cmocka_unit_test(agrees_with_kernels),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
