/* test_backend_int8.c - 8-bit operands: the rounding itself, which weights count, sums at the end
 * of their range, what is not finite. The kernels' cases are the checker's. */
#include "testing/helpers/test.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "backend/device.h"
#include "backend/cpu/kernels.h"
#include "backend/ops/int8.h"

static void rounds_weights_by_row(void **state)
{
    (void)state;
    const float row[6] = { 127, -127, 0.5f, 1.5f, -2.5f, 63.4f }, none[2] = { 0, 0 };
    int8_t q[6];
    float scale;
    int8_weight_row(row, 6, q, &scale);
    assert_true(scale == 1);
    const int8_t want[6] = { 127, -127, 0, 2, -2, 63 };
    assert_memory_equal(q, want, sizeof q);
    int8_weight_row(none, 2, q, &scale);
    assert_true(scale == 0 && q[0] == 0 && q[1] == 0);
    const float odd[2] = { NAN, 1 };
    int8_weight_row(odd, 2, q, &scale);
    assert_true(isnan(scale));
}

static void rounds_sources_by_token_or_sample(void **state)
{
    (void)state;
    float x[4] = { 254, 1, 2.54f, 0.01f };
    struct op op = { .kind = OP_LINEAR, .src = { .n = 1, .h = 1, .w = 2, .c = 2, .ld = 2 } };
    int8_round_source(&op, x);
    assert_true(x[0] == 254 && x[1] == 0); /* 0.5: to even */
    assert_true(fabsf(x[2] - 2.54f) < 1e-6f && x[3] == 0);
    float y[4] = { 254, 3.1f, 2.54f, 0.5f };
    op.kind = OP_CONV2D;
    int8_round_source(&op, y);
    assert_true(y[0] == 254 && y[1] == 4 && y[2] == 2 && y[3] == 0);
    float z[2] = { INFINITY, 1 };
    op.src.w = 1;
    int8_round_source(&op, z);
    assert_false(isfinite(z[0]) || isfinite(z[1]));
}

/* ---- a linear layer on a backend ---- */

enum { IN = 5120, OUT = 40, ROWS = 7 };

struct layer {
    struct backend *be;
    struct exec x;
    struct weight *weight;
    int8_t numbers[OUT * IN];
    float scales[OUT], bias[OUT], src[ROWS * IN], dst[ROWS * OUT];
};

static bool open_set(struct layer *l, const char *kernels)
{
    memset(l, 0, sizeof *l);
    struct dr_error err = { 0 };
    struct backend_options opt = { .kernels = kernels, .threads = 2 };
    int r = backend_open(&opt, &l->be, &err);
    if (r == DR_EUNSUPPORTED)
        return false;
    assert_int_equal(r, 0);
    l->x.be = l->be;
    assert_int_equal(workspace_new(l->be, (size_t)1 << 24, &l->x.ws, &err), 0);
    return true;
}

static void close_set(struct layer *l)
{
    weight_free(l->weight);
    workspace_free(l->x.ws);
    backend_close(l->be);
}

static void run(struct layer *l, struct weight_source w)
{
    struct dr_error err = { 0 };
    struct weight_source s[2] = { w, { "b", l->bias, DTYPE_F32, SHAPE1(OUT), false, NULL } };
    struct weight_desc d = { .kind = WEIGHT_LINEAR, .in = IN, .out = OUT, .bias = true };
    struct op op = { .kind = OP_LINEAR };
    weight_free(l->weight);
    if (weight_prepare(l->be, &d, s, 2, &l->weight, &err) ||
        act_new(&l->x, DTYPE_F32, 1, 1, ROWS, IN, &op.src, &err) ||
        act_new(&l->x, DTYPE_F32, 1, 1, ROWS, OUT, &op.dst, &err) ||
        act_write(&l->x, op.src, l->src, &err))
        fail_msg("%s", err.text);
    op.weight = l->weight;
    if (op_run(&l->x, &op, &err) || act_read(&l->x, op.dst, l->dst, &err))
        fail_msg("%s", err.text);
    act_free(&l->x, &op.src);
    act_free(&l->x, &op.dst);
}

static struct weight_source numbers_of(const struct layer *l)
{
    return (struct weight_source){ "w", l->numbers, DTYPE_I8, SHAPE2(OUT, IN), false, l->scales };
}

/* All products at their largest: 5120 * 127 * 127, in every set that there is, to the last bit. */
static void sums_at_the_end_of_their_range(void **state)
{
    (void)state;
    static struct layer l;
    const char *set;
    bool usable;
    for (int i = 0; (set = backend_kernel_set_name(i, &usable)); i++) {
        if (!usable || !open_set(&l, set))
            continue;
        for (int j = 0; j < OUT * IN; j++)
            l.numbers[j] = (int8_t)(j / IN % 2 ? -127 : 127);
        for (int j = 0; j < OUT; j++)
            l.scales[j] = 0.5f;
        for (int j = 0; j < ROWS * IN; j++)
            l.src[j] = j / IN % 2 ? -127.0f : 127.0f;
        run(&l, numbers_of(&l));
        for (int row = 0; row < ROWS; row++)
            for (int c = 0; c < OUT; c++) {
                double want = (row % 2 == c % 2 ? 1 : -1) * 0.5 * IN * 127 * 127;
                if (fabs(l.dst[row * OUT + c] - want) > 4e-3 * fabs(want))
                    fail_msg("%s: %g, not %g", set, (double)l.dst[row * OUT + c], want);
            }
        close_set(&l);
    }
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

static void keep_what_is_not_finite(const char *set)
{
    static struct layer l;
    assert_true(open_set(&l, set));
    memset(l.numbers, 3, sizeof l.numbers);
    for (int j = 0; j < OUT; j++)
        l.scales[j] = 1;
    l.src[IN + 5] = NAN;
    l.src[3 * IN + 77] = -INFINITY;
    run(&l, numbers_of(&l));
    for (int row = 0; row < ROWS; row++)
        for (int c = 0; c < OUT; c++)
            assert_true(!isfinite(l.dst[row * OUT + c]) == (row == 1 || row == 3));
    close_set(&l);
}

static void what_is_not_finite_stays_so(void **state)
{
    (void)state;
    int i = 0;
    const char *set = next_int8_set(&i);
    if (!set)
        skip();
    for (; set; set = next_int8_set(&i))
        keep_what_is_not_finite(set);
}

/* Layers that are not 8-bit are in float32 in the set for processors without bfloat16, and in 16
 * bits in the others. */
static void the_rest_is_as_the_name_says(void **state)
{
    (void)state;
    static struct layer l;
    int i = 0;
    for (const char *set; (set = next_int8_set(&i));) {
        enum dtype rest = strcmp(set, "avx512_vnni_int8") ? DTYPE_BF16 : DTYPE_F32;
        assert_true(open_set(&l, set));
        assert_int_equal(backend_operand(l.be, OP_LINEAR), rest);
        assert_int_equal(backend_operand(l.be, OP_ATTENTION), rest);
        close_set(&l);
    }
}

static void only_scaled_matrices_are_int8(void **state)
{
    (void)state;
    static struct layer l;
    struct dr_error err = { 0 };
    struct weight *w = NULL;
    struct weight_desc d = { .kind = WEIGHT_LINEAR, .in = IN, .out = OUT };
    struct weight_desc norm = { .kind = WEIGHT_NORM, .out = OUT, .parts = 1 };
    struct weight_desc deep = { .kind = WEIGHT_LINEAR, .in = 70000, .out = 2 };
    static int8_t many[140000];
    assert_true(open_set(&l, "scalar"));
    struct weight_source s = numbers_of(&l), vector = s;
    s.scales = NULL;
    assert_int_equal(weight_prepare(l.be, &d, &s, 1, &w, &err), DR_EINVAL);
    assert_non_null(strstr(err.text, "I8"));
    vector.shape = SHAPE1(OUT);
    assert_int_equal(weight_prepare(l.be, &norm, &vector, 1, &w, &err), DR_EINVAL);
    s.scales = l.scales;
    assert_int_equal(weight_prepare(l.be, &d, &s, 1, &w, &err), 0);
    assert_true(weight_desc(w)->int8);
    weight_free(w);
    s.data = many;
    s.shape = SHAPE2(2, 70000);
    assert_int_equal(weight_prepare(l.be, &deep, &s, 1, &w, &err), 0);
    assert_false(weight_desc(w)->int8); /* its sums could leave 32 bits */
    weight_free(w);
    close_set(&l);
}

/* Which weights the 8-bit sets take in 8 bits; a weight is packed for that kernel. */
static void weights_have_one_kernel(void **state)
{
    (void)state;
    enum { VNNI = 1, VECTORS = 2, TILES = 4, ALL = 7 };
    static const char *const sets[] = { "avx512_vnni_int8", "avx512_int8", "amx_int8" };
    static const struct {
        enum op_kind op;
        struct weight_desc desc;
        int in; /* sets that compute it in 8 bits */
    } cases[] = {
        { OP_KIND_linear, { WEIGHT_LINEAR, .in = 64, .out = 64, .int8 = true }, ALL },
        { OP_KIND_linear, { WEIGHT_LINEAR, .in = 64, .out = 64 }, 0 },
        { OP_KIND_conv2d,
          { WEIGHT_CONV, .in = 64, .out = 64, .kernel = 3, .int8 = true },
          VNNI | TILES },
        { OP_KIND_conv2d, { WEIGHT_CONV, .in = 64, .out = 1280, .kernel = 3, .int8 = true }, ALL },
        { OP_KIND_conv2d, { WEIGHT_CONV, .in = 31, .out = 64, .kernel = 3, .int8 = true }, ALL },
        { OP_KIND_conv2d,
          { WEIGHT_CONV, .in = 64, .out = 64, .kernel = 3, .downsamples = true, .int8 = true },
          ALL },
        { OP_KIND_conv2d, { WEIGHT_CONV, .in = 64, .out = 64, .kernel = 1, .int8 = true }, ALL },
        { OP_KIND_conv2d, { WEIGHT_CONV, .in = 64, .out = 64, .kernel = 3 }, 0 },
        { OP_KIND_upsample_conv,
          { WEIGHT_CONV, .in = 64, .out = 64, .kernel = 3, .upsamples = true, .int8 = true },
          TILES },
    };
    for (int set = 0; kernel_set_at(set); set++)
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            const struct weight_desc *d = &cases[i].desc;
            const struct kernel *k = kernel_of(cases[i].op, d, set, false);
            /* Activations are made of the type that the kernel for other weights takes. */
            assert_true(k->narrow || k->int8 || !kernel_of(cases[i].op, NULL, set, false)->narrow);
            for (int s = 0; s < 3; s++)
                if (!strcmp(kernel_set_at(set)->name, sets[s]))
                    assert_int_equal(k->int8, cases[i].in >> s & 1);
        }
}

static void auto_is_never_int8(void **state)
{
    (void)state;
    struct backend *be;
    struct dr_error err = { 0 };
    assert_int_equal(backend_open(NULL, &be, &err), 0);
    assert_int_not_equal(backend_precision(be), PRECISION_INT8);
    backend_close(be);
    enum precision p;
    assert_int_equal(precision_find("int8", &p, &err), 0);
    assert_int_equal(precision_find("int9", &p, &err), DR_EINVAL);
    for (int i = 0; i < PRECISION_COUNT; i++) /* names all that there are */
        assert_non_null(strstr(err.text, precision_name((enum precision)i)));
    assert_int_equal(p, PRECISION_INT8);
    int r = backend_open(&(struct backend_options){ .precision = p }, &be, &err), i = 0;
    const char *last = NULL;
    for (const char *set; (set = next_int8_set(&i)); last = set)
        ;
    assert_true(!r == (last != NULL));
    if (r == DR_EUNSUPPORTED)
        skip();
    assert_string_equal(backend_kernel_set(be), last);
    backend_close(be);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(rounds_weights_by_row),
    cmocka_unit_test(rounds_sources_by_token_or_sample),
    cmocka_unit_test(sums_at_the_end_of_their_range),
    cmocka_unit_test(what_is_not_finite_stays_so),
    cmocka_unit_test(the_rest_is_as_the_name_says),
    cmocka_unit_test(only_scaled_matrices_are_int8),
    cmocka_unit_test(weights_have_one_kernel),
    cmocka_unit_test(auto_is_never_int8),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
