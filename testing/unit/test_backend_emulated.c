/* test_backend_emulated.c - the kernels for instructions that this processor may lack, on emulated
 * ones, against their references; and against the real ones where it has them. */
#include "testing/helpers/test.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "backend/check/op_check.h"
#include "backend/device.h"
#include "backend/cpu/x86/emulated/sets.h"
#include "backend/cpu/kernels.h"
#include "base/alloc.h"
#include "base/clock.h"

/* Builds for debugging and sanitizing leave out the large shapes. */
#if defined(__OPTIMIZE__) && !defined(DR_SANITIZED)
static const double MOST_FLOPS = 0;
#else
static const double MOST_FLOPS = 1e6;
#endif

struct seen {
    int count;
    double error;
};

static void print_result(void *ctx, const struct check_result *r)
{
    struct seen *seen = ctx;
    seen->count++;
    seen->error = r->error > seen->error ? r->error : seen->error;
    if (!r->passed || r->seconds > 3)
        printf("%-14s %-7s %-24s error %.2e worst %.2e of %.0e, %lld outputs, %.2f s %s\n", r->op,
               r->set, r->name, r->error, r->worst, r->tolerance, (long long)r->compared,
               r->seconds, r->why);
}

static bool usable(const char *set)
{
    for (int i = 0; kernel_set_at(i); i++)
        if (!strcmp(kernel_set_at(i)->name, set))
            return kernel_set_usable(i);
    fail_msg("no set %s", set);
    return false;
}

static void check_op(const char *set, enum op_kind kind)
{
    struct check_options opt = {
        .op = op_info(kind)->name, .kernels = set, .most_flops = MOST_FLOPS, .seed = 7
    };
    struct dr_error err = { 0 };
    struct seen seen = { 0, 0 };
    int failed = -1;
    double start = dr_now();
    emulated_sets_add();
    if (!usable(set)) {
        print_message("%s: this processor lacks what the emulation is written in\n", set);
        skip();
    }
    uint64_t blocks = test_blocks();
    if (backend_check(&opt, print_result, &seen, &failed, &err))
        fail_msg("%s: %s", opt.op, err.text);
    printf("%s %s: %d results, largest error %.2e, %.1f s\n", set, opt.op, seen.count, seen.error,
           dr_now() - start);
    assert_int_equal(failed, 0);
    /* Of 8 bits are some of the cases. */
    bool int8 = strstr(set, "int8");
    assert_true(seen.count >= (int8 ? 1 : op_info(kind)->n_cases / 2));
    assert_true(test_blocks() == blocks);
}

#define CHECK(set, op)                                                                             \
    static void set##_##op(void **state)                                                           \
    {                                                                                              \
        (void)state;                                                                               \
        check_op(#set "_emulated", OP_KIND_##op);                                                  \
    }
CHECK(avx512_fp16, linear)
CHECK(avx512_fp16, group_norm)
CHECK(avx512_fp16, layer_norm)
CHECK(avx512_fp16, attention)
CHECK(amx_bf16, linear)
CHECK(amx_bf16, conv2d)
CHECK(amx_bf16, upsample_conv)
CHECK(amx_bf16, group_norm)
CHECK(amx_bf16, layer_norm)
CHECK(amx_bf16, attention)
CHECK(amx_int8, linear)
CHECK(amx_int8, conv2d)
CHECK(amx_int8, upsample_conv)

/* ---- the real instructions ---- */

struct digests {
    struct check_result of[512];
    int count;
};

static void keep_digest(void *ctx, const struct check_result *r)
{
    struct digests *d = ctx;
    assert_true(d->count < 512);
    d->of[d->count++] = *r;
}

static void digests_of(const char *set, const char *op, struct digests *ret)
{
    struct check_options opt = { .op = op, .kernels = set, .most_flops = 1.5e8, .seed = 7 };
    int failed = 0;
    ret->count = 0;
    assert_int_equal(backend_check(&opt, keep_digest, ret, &failed, NULL), 0);
}

enum { ATTENTION = 3 };
static const char *const ops[] = { "linear", "conv2d", "upsample_conv", [ATTENTION] = "attention" };

/* Where the processor has the instructions, they give the bits of their emulation. */
static void same_bits(const char *set)
{
    static struct digests real, emulated;
    size_t n = strstr(set, "int8") ? ATTENTION : sizeof ops / sizeof *ops;
    char name[48];
    emulated_sets_add();
    snprintf(name, sizeof name, "%s_emulated", set);
    if (!usable(set) || !usable(name)) {
        print_message("%s: this processor lacks its instructions, only the emulation was checked\n",
                      set);
        skip();
    }
    for (size_t i = 0; i < n; i++) {
        digests_of(set, ops[i], &real);
        digests_of(name, ops[i], &emulated);
        assert_int_equal(real.count, emulated.count);
        assert_true(real.count > 0 || i > 0); /* 0: convolutions that are another set's */
        for (int j = 0; j < real.count; j++)
            if (real.of[j].digest != emulated.of[j].digest)
                fail_msg("%s: case %d of %s differs from its emulation", set, j, ops[i]);
    }
}

static void avx512_fp16_real(void **state)
{
    (void)state;
    same_bits("avx512_fp16");
}

static void amx_bf16_real(void **state)
{
    (void)state;
    same_bits("amx_bf16");
}

static void amx_int8_real(void **state)
{
    (void)state;
    same_bits("amx_int8");
}

static const struct check_result *find(const struct digests *d, const struct check_result *like)
{
    for (int i = 0; i < d->count; i++)
        if (!strcmp(d->of[i].name, like->name) && d->of[i].narrow == like->narrow)
            return &d->of[i];
    return NULL;
}

/* The vector kernels' bits, from every source that both take: sums are exact and the rest is the
 * same. */
static void amx_int8_as_vectors(void **state)
{
    (void)state;
    static const char *const sets[] = { "avx512_vnni_int8", "avx512_int8" };
    static struct digests vectors, tiles;
    int compared = 0;
    emulated_sets_add();
    for (size_t s = 0; s < sizeof sets / sizeof *sets; s++)
        for (size_t i = 0; i < ATTENTION && usable(sets[s]); i++) {
            digests_of(sets[s], ops[i], &vectors);
            digests_of("amx_int8_emulated", ops[i], &tiles);
            for (int j = 0; j < vectors.count; j++) {
                const struct check_result *v = &vectors.of[j], *t = find(&tiles, v);
                assert_non_null(t);
                if (v->tolerance != t->tolerance) { /* by Winograd's forms, in float32 */
                    assert_true(!strcmp(sets[s], "avx512_int8") && !strcmp(v->op, "conv2d"));
                    continue;
                }
                if (v->digest != t->digest)
                    fail_msg("%s, %s %s: other bits on tiles", sets[s], v->op, v->name);
                compared++;
            }
        }
    if (!usable("avx512_vnni_int8"))
        skip();
    assert_true(compared > 0);
    print_message("%d results\n", compared);
}

/* ---- half precision at its limits ---- */

enum { ROWS = 3, IN = 1300, OUT = 5 };

/* rows [ROWS, IN] times weights [OUT, IN]. */
static void multiply(const float *rows, const float *weights, float *ret)
{
    struct backend *be;
    struct exec x = { 0 };
    struct weight *w;
    struct act in, out;
    struct weight_source source = {
        .name = "w", .data = weights, .dtype = DTYPE_F32, .shape = SHAPE2(OUT, IN)
    };
    struct weight_desc desc = { .kind = WEIGHT_LINEAR, .in = IN, .out = OUT, .parts = 1 };
    struct backend_options options = { .kernels = "avx512_fp16_emulated", .threads = 1 };
    assert_int_equal(backend_open(&options, &be, NULL), 0);
    x.be = be;
    assert_int_equal(workspace_new(be, (size_t)1 << 20, &x.ws, NULL), 0);
    assert_int_equal(weight_prepare(be, &desc, &source, 1, &w, NULL), 0);
    assert_int_equal(act_new(&x, DTYPE_F32, 1, 1, ROWS, IN, &in, NULL), 0);
    assert_int_equal(act_new(&x, DTYPE_F32, 1, 1, ROWS, OUT, &out, NULL), 0);
    assert_int_equal(act_write(&x, in, rows, NULL), 0);
    struct op op = { .kind = OP_KIND_linear, .dst = out, .src = in, .weight = w };
    assert_int_equal(op_run(&x, &op, NULL), 0);
    assert_int_equal(act_read(&x, out, ret, NULL), 0);
    weight_free(w);
    workspace_free(x.ws);
    backend_close(be);
}

static float rows[ROWS * IN], weights[OUT * IN], results[ROWS * OUT];

static bool can_multiply(void)
{
    emulated_sets_add();
    return usable("avx512_fp16_emulated");
}

/* All products of a row at their largest and of one sign, at any magnitude of the source and of the
 * weight whose product a float32 can hold. */
static void halves_never_overflow(void **state)
{
    static const float magnitudes[] = { 3e38f, 1e30f, 70000.0f, 1.0f, 1e-7f, 1e-30f };
    (void)state;
    if (!can_multiply())
        skip();
    for (size_t m = 0; m < sizeof magnitudes / sizeof *magnitudes; m++) {
        float a = magnitudes[m], b = 0.999f / a;
        for (int i = 0; i < ROWS * IN; i++)
            rows[i] = i < IN ? a : i < 2 * IN ? -a : 0;
        for (int i = 0; i < OUT * IN; i++)
            weights[i] = b;
        multiply(rows, weights, results);
        for (int i = 0; i < ROWS * OUT; i++) {
            float want = (i < OUT ? 1 : i < 2 * OUT ? -1 : 0) * 0.999f * IN;
            if (!(fabsf(results[i] - want) <= 2e-3f * IN))
                fail_msg("%g times %g: %g, expected %g", a, b, results[i], want);
        }
    }
}

/* What is not finite stays so, in its row alone. */
static void infinities_stay(void **state)
{
    static const float bad[] = { INFINITY, -INFINITY, NAN };
    (void)state;
    if (!can_multiply())
        skip();
    for (size_t k = 0; k < 3; k++) {
        for (int i = 0; i < ROWS * IN; i++)
            rows[i] = (float)(i % 7) - 3;
        for (int i = 0; i < OUT * IN; i++)
            weights[i] = (float)(i % 5) - 2;
        rows[IN + 1234] = bad[k];
        multiply(rows, weights, results);
        for (int i = 0; i < ROWS * OUT; i++)
            assert_true((bool)isfinite(results[i]) == (i < OUT || i >= 2 * OUT));
        rows[IN + 1234] = 1;
        weights[2 * IN + 7] = bad[k];
        multiply(rows, weights, results);
        for (int i = 0; i < ROWS * OUT; i++)
            assert_true((bool)isfinite(results[i]) == (i % OUT != 2));
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(avx512_fp16_real),       cmocka_unit_test(amx_bf16_real),
    cmocka_unit_test(amx_int8_real),          cmocka_unit_test(amx_int8_as_vectors),
    cmocka_unit_test(halves_never_overflow),  cmocka_unit_test(infinities_stay),
    cmocka_unit_test(avx512_fp16_linear),     cmocka_unit_test(avx512_fp16_group_norm),
    cmocka_unit_test(avx512_fp16_layer_norm), cmocka_unit_test(avx512_fp16_attention),
    cmocka_unit_test(amx_bf16_linear),        cmocka_unit_test(amx_bf16_conv2d),
    cmocka_unit_test(amx_bf16_upsample_conv), cmocka_unit_test(amx_bf16_group_norm),
    cmocka_unit_test(amx_bf16_layer_norm),    cmocka_unit_test(amx_bf16_attention),
    cmocka_unit_test(amx_int8_linear),        cmocka_unit_test(amx_int8_conv2d),
    cmocka_unit_test(amx_int8_upsample_conv),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
