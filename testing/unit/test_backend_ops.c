/* test_backend_ops.c - the references against values worked out by hand, and the calls that
 * contracts forbid.
 *
 * The checker holds kernels against references; this holds references against something else. */
#include "testing/helpers/test.h"

#include <math.h>
#include <string.h>

#include "backend/device.h"
#include "backend/ops/op.h"

static struct backend *be;
static struct exec x;
static struct weight *weights[8];
static int n_weights;

static int begin(void **state)
{
    (void)state;
    n_weights = 0;
    x = (struct exec){ 0 };
    if (backend_open(&(struct backend_options){ .kernels = "scalar", .threads = 2 }, &be, NULL))
        return -1;
    x.be = be;
    return workspace_new(be, 1 << 20, &x.ws, NULL);
}

static int end(void **state)
{
    (void)state;
    while (n_weights)
        weight_free(weights[--n_weights]);
    workspace_free(x.ws);
    backend_close(be);
    return 0;
}

static struct act act_of(int64_t n, int64_t h, int64_t w, int64_t c, const float *values)
{
    struct act a;
    assert_int_equal(act_new(&x, DTYPE_F32, n, h, w, c, &a, NULL), 0);
    if (values)
        assert_int_equal(act_write(&x, a, values, NULL), 0);
    return a;
}

static const struct weight *weight_of(struct weight_desc desc, const float *w, const float *b)
{
    struct weight_source s[2] = { { "w", w, DTYPE_F32, SHAPE2(desc.out, desc.in), false, NULL },
                                  { "b", b, DTYPE_F32, SHAPE1(desc.out), false, NULL } };
    struct dr_error err = { 0 };
    if (desc.kind == WEIGHT_CONV)
        s[0].shape = SHAPE4(desc.out, desc.in, desc.kernel, desc.kernel);
    if (desc.kind == WEIGHT_NORM)
        s[0].shape = SHAPE1(desc.out);
    if (desc.kind == WEIGHT_TABLE)
        s[0].shape = SHAPE2(desc.in, desc.out);
    desc.bias = b != NULL;
    if (weight_prepare(be, &desc, s, b ? 2 : 1, &weights[n_weights], &err))
        fail_msg("%s", err.text);
    return weights[n_weights++];
}

/* Runs and compares dst with n values, to a few units in the last place. */
static void expect(const struct op *op, const float *want, int n)
{
    float got[64];
    struct dr_error err = { 0 };
    if (op_run(&x, op, &err))
        fail_msg("%s", err.text);
    assert_int_equal(act_read(&x, op->dst, got, NULL), 0);
    for (int i = 0; i < n; i++)
        if (!(fabsf(got[i] - want[i]) <= 3e-7f * (1 + fabsf(want[i]))))
            fail_msg("output %d: %.9g, expected %.9g", i, got[i], want[i]);
}

static void refuse(const struct op *op, const char *text)
{
    struct dr_error err = { 0 };
    assert_int_equal(op_run(&x, op, &err), DR_EINVAL);
    if (!strstr(err.text, text))
        fail_msg("\"%s\" does not say \"%s\"", err.text, text);
}

static void linear_by_hand(void **state)
{
    (void)state;
    const float in[] = { 1, 2, -1, 0.5f }, w[] = { 1, 10, 2, 20, 3, 30, 4, 40 },
                b[] = { 0, 1, 2, 3 };
    struct op op = { .kind = OP_LINEAR, .src = act_of(1, 1, 2, 2, in) };
    op.weight = weight_of((struct weight_desc){ WEIGHT_LINEAR, .in = 2, .out = 4 }, w, b);
    op.dst = act_of(1, 1, 2, 4, NULL);
    expect(&op, (float[]){ 21, 43, 65, 87, 4, 9, 14, 19 }, 8);
    op.residual = act_of(1, 1, 2, 4, (float[]){ 1, 1, 1, 1, -4, -9, -14, -19 });
    expect(&op, (float[]){ 22, 44, 66, 88, 0, 0, 0, 0 }, 8);
    op.dst = op.residual;
    expect(&op, (float[]){ 22, 44, 66, 88, 0, 0, 0, 0 }, 8);
}

static void activations_by_hand(void **state)
{
    (void)state;
    const float in[] = { -2, 0, 1, 3 };
    struct op op = { .kind = OP_ADD, .src = act_of(1, 1, 1, 4, in), .activation = ACT_SILU };
    op.dst = act_of(1, 1, 1, 4, NULL);
    expect(&op, (float[]){ -0.238405844f, 0, 0.731058579f, 2.857722379f }, 4);
    op.activation = ACT_GELU;
    expect(&op, (float[]){ -0.045500264f, 0, 0.841344746f, 2.995950306f }, 4);
    op.activation = ACT_QUICK_GELU;
    expect(&op, (float[]){ -0.064341377f, 0, 0.845795765f, 2.981928690f }, 4);
    op.activation = ACT_SILU;
    op.residual = act_of(1, 1, 1, 4, (float[]){ 3, 1, 2, -3 });
    expect(&op, (float[]){ 0.731058579f, 0.731058579f, 2.857722379f, 0 }, 4);
}

/* The value half comes first, the gate half second. */
static void geglu_by_hand(void **state)
{
    (void)state;
    const float w[] = { 1, 0, 0, 1, 2, 0, 0, -2 }, b[] = { 0, 1, 1, 0 };
    struct op op = { .kind = OP_LINEAR,
                     .activation = ACT_GEGLU,
                     .src = act_of(1, 1, 1, 2, (float[]){ 1, -0.5f }) };
    op.weight = weight_of((struct weight_desc){ WEIGHT_LINEAR, .in = 2, .out = 4, .gated = true },
                          w, b);
    op.dst = act_of(1, 1, 1, 2, NULL);
    expect(&op, (float[]){ 2.995950306f, 0.5f * 0.841344746f }, 2);
}

static void conv_by_hand(void **state)
{
    (void)state;
    /* 1..6 in 2 x 3; the window's left and lower neighbours, told apart by weight. */
    const float in[] = { 1, 2, 3, 4, 5, 6 };
    const float w[] = { 0, 0, 0, 100, 1, 0, 0, 10, 0 }, b[] = { 0.5f };
    struct op op = {
        .kind = OP_CONV2D, .pad_low = 1, .pad_high = 1, .src = act_of(1, 2, 3, 1, in)
    };
    op.weight = weight_of((struct weight_desc){ WEIGHT_CONV, .in = 1, .out = 1, .kernel = 3 }, w,
                          b);
    op.dst = act_of(1, 2, 3, 1, NULL);
    expect(&op, (float[]){ 41.5f, 152.5f, 263.5f, 4.5f, 405.5f, 506.5f }, 6);
    op.channel_add = act_of(1, 1, 1, 1, (float[]){ -0.5f });
    op.residual = act_of(1, 2, 3, 1, in);
    expect(&op, (float[]){ 42, 154, 266, 8, 410, 512 }, 6);
    struct op half = {
        .kind = OP_CONV2D, .pad_high = 1, .src = op.src, .dst = act_of(1, 1, 1, 1, NULL)
    };
    half.weight = weight_of(
        (struct weight_desc){ WEIGHT_CONV, .in = 1, .out = 1, .kernel = 3, .downsamples = true }, w,
        b);
    /* Padded below only, the window's middle lies on row 1, column 1. */
    expect(&half, (float[]){ 405.5f }, 1);
    half.pad_low = 1;
    half.dst = act_of(1, 1, 2, 1, NULL);
    expect(&half, (float[]){ 41.5f, 263.5f }, 2);
}

static void upsampling_by_hand(void **state)
{
    (void)state;
    float w[9] = { 0, 0, 0, 0, 1, 0, 0, 0, 0 };
    struct op op = { .kind = OP_UPSAMPLE_CONV, .src = act_of(1, 1, 3, 1, (float[]){ 1, 2, 3 }) };
    op.weight = weight_of(
        (struct weight_desc){ WEIGHT_CONV, .in = 1, .out = 1, .kernel = 3, .upsamples = true }, w,
        NULL);
    op.dst = act_of(1, 2, 5, 1, NULL);
    expect(&op, (float[]){ 1, 1, 2, 2, 3, 1, 1, 2, 2, 3 }, 10);
    struct op resize = { .kind = OP_RESIZE, .src = op.src, .dst = op.dst };
    expect(&resize, (float[]){ 1, 1, 2, 2, 3, 1, 1, 2, 2, 3 }, 10);
    w[4] = 0;
    w[3] = 1; /* the left neighbour, zero beyond the border of the enlarged picture */
    expect(&op, (float[]){ 0, 1, 1, 2, 2, 0, 1, 1, 2, 2 }, 10);
}

static void norms_by_hand(void **state)
{
    (void)state;
    const float scale[] = { 1, 2 }, shift[] = { 0, 10 };
    struct op op = { .kind = OP_LAYER_NORM,
                     .eps = 3,
                     .src = act_of(1, 1, 2, 2, (float[]){ 1, 3, -2, 0 }) };
    op.weight = weight_of((struct weight_desc){ WEIGHT_NORM, .out = 2 }, scale, shift);
    op.dst = act_of(1, 1, 2, 2, NULL);
    expect(&op, (float[]){ -0.5f, 11, -0.5f, 11 }, 4); /* variance 1 + eps 3: deviation 2 */
    op.kind = OP_GROUP_NORM;
    op.groups = 2;
    op.eps = 1.75; /* each channel: mean -0.5 and 1.5, variance 2.25 */
    expect(&op, (float[]){ 0.75f, 11.5f, -0.75f, 8.5f }, 4);
    op.groups = 1; /* mean 0.5, variance 3.25 */
    op.eps = 3;
    expect(&op, (float[]){ 0.2f, 12, -1, 9.6f }, 4);
    op.dst = op.src;
    expect(&op, (float[]){ 0.2f, 12, -1, 9.6f }, 4);
}

static void attention_by_hand(void **state)
{
    (void)state;
    const float log3 = 1.098612289f;
    struct op op = { .kind = OP_ATTENTION,
                     .heads = 2,
                     .scale = 0.5,
                     .src = act_of(1, 1, 2, 2, (float[]){ 2, 0, 2, 4 }) };
    op.k = act_of(1, 1, 2, 2, (float[]){ 0, 1, log3, 1 });
    op.v = act_of(1, 1, 2, 2, (float[]){ 4, 10, 8, 20 });
    op.dst = act_of(1, 1, 2, 2, NULL);
    /* Head 0 weighs the keys 1 : 3, head 1 evenly. */
    expect(&op, (float[]){ 7, 15, 7, 15 }, 4);
    op.causal = true;
    expect(&op, (float[]){ 4, 10, 7, 15 }, 4);
}

static void embedding_by_hand(void **state)
{
    (void)state;
    const float table[] = { 1, 2, 3, 4, 5, 6 }, positions[] = { 10, 20, 30, 40 };
    const int32_t ids[] = { 2, 0, 1, 3, -1, 2 };
    struct act src;
    float got[12];
    assert_int_equal(act_new(&x, DTYPE_I32, 3, 1, 2, 1, &src, NULL), 0);
    assert_int_equal(act_write(&x, src, ids, NULL), 0);
    struct op op = { .kind = OP_EMBEDDING, .src = src, .dst = act_of(3, 1, 2, 2, NULL) };
    op.weight = weight_of((struct weight_desc){ WEIGHT_TABLE, .in = 3, .out = 2 }, table, NULL);
    op.position = weight_of((struct weight_desc){ WEIGHT_TABLE, .in = 2, .out = 2 }, positions,
                            NULL);
    expect(&op, (float[]){ 15, 26, 31, 42, 13, 24 }, 6);
    assert_int_equal(act_read(&x, op.dst, got, NULL), 0);
    for (int i = 6; i < 10; i++)
        assert_true(isnan(got[i])); /* ids 3 and -1 */
    assert_true(got[10] == 35 && got[11] == 46);
}

static void shapes_are_checked(void **state)
{
    (void)state;
    static const float w[64];
    struct act a4 = act_of(1, 1, 4, 4, w), a8 = act_of(1, 1, 4, 8, w), d = act_of(1, 1, 4, 8, w);
    const struct weight *l = weight_of((struct weight_desc){ WEIGHT_LINEAR, .in = 4, .out = 8 }, w,
                                       NULL);
    const struct weight *n = weight_of((struct weight_desc){ WEIGHT_NORM, .out = 8 }, w, w);
    struct op op = { .kind = OP_LINEAR, .weight = l, .src = a4, .dst = d };
    assert_int_equal(op_run(&x, &op, NULL), 0);
    refuse(&(struct op){ .kind = OP_LINEAR, .weight = l, .src = a8, .dst = d }, "src");
    refuse(&(struct op){ .kind = OP_LINEAR, .weight = l, .src = a4, .dst = a4 }, "share");
    refuse(&(struct op){ .kind = OP_LINEAR, .weight = n, .src = a4, .dst = d }, "norm");
    refuse(&(struct op){ .kind = OP_LINEAR, .src = a4, .dst = d }, "no weight");
    refuse(&(struct op){ .kind = OP_LINEAR, .weight = l, .src = a4 }, "no dst");
    op.residual = a4;
    refuse(&op, "residual");
    op.residual = act_channels(d, 0, 8);
    op.residual.offset += 4;
    refuse(&op, "residual");
    op = (struct op){
        .kind = OP_GROUP_NORM, .weight = n, .src = a8, .dst = d, .groups = 3, .eps = 1
    };
    refuse(&op, "3 groups");
    op.groups = 4;
    op.eps = 0;
    refuse(&op, "eps");
    op = (struct op){ .kind = OP_ATTENTION, .src = a8, .k = a8, .v = a8, .dst = d, .heads = 3 };
    refuse(&op, "3 heads");
    op.heads = 2;
    op.v = act_tokens(act_of(1, 1, 3, 8, w));
    refuse(&op, "length");
    refuse(&(struct op){ .kind = (enum op_kind)77 }, "77");
    struct act outside = d;
    outside.offset = (1 << 20) - 4;
    refuse(&(struct op){ .kind = OP_ADD, .src = a8, .dst = outside }, "outside");
    outside = d;
    outside.ld = 2;
    refuse(&(struct op){ .kind = OP_ADD, .src = a8, .dst = outside }, "no such shape");
    outside = d;
    outside.dtype = DTYPE_F16;
    refuse(&(struct op){ .kind = OP_ADD, .src = a8, .dst = outside }, "F16");
}

/* Slices of one concatenation lie among each other and yet apart. */
static void slices_do_not_overlap(void **state)
{
    (void)state;
    const float in[] = { 1, 2, 3, 4, 5, 6, 7, 8 };
    struct act whole = act_of(1, 1, 2, 4, in);
    struct op op = { .kind = OP_RESIZE,
                     .src = act_channels(whole, 0, 2),
                     .dst = act_channels(whole, 2, 2) };
    expect(&op, (float[]){ 1, 2, 5, 6 }, 4);
    op.dst = act_channels(whole, 1, 2);
    refuse(&op, "share");
    op.src = act_channels(whole, 2, 2);
    refuse(&op, "share");
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(linear_by_hand, begin, end),
    cmocka_unit_test_setup_teardown(activations_by_hand, begin, end),
    cmocka_unit_test_setup_teardown(geglu_by_hand, begin, end),
    cmocka_unit_test_setup_teardown(conv_by_hand, begin, end),
    cmocka_unit_test_setup_teardown(upsampling_by_hand, begin, end),
    cmocka_unit_test_setup_teardown(norms_by_hand, begin, end),
    cmocka_unit_test_setup_teardown(attention_by_hand, begin, end),
    cmocka_unit_test_setup_teardown(embedding_by_hand, begin, end),
    cmocka_unit_test_setup_teardown(shapes_are_checked, begin, end),
    cmocka_unit_test_setup_teardown(slices_do_not_overlap, begin, end),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
