/* test_backend_attention.c - attention whose result is known without computing it, in every kernel
 * set, emulated ones too: what the checker's random values come near to but do not hit.
 *
 * All values are 1 or the number of their token, and weights are even, so an output is a mean.
 * Tolerances are those of one rounded exponential, far under those of random operands. */
#include "testing/helpers/test.h"

#include <math.h>

#include "backend/device.h"
#include "backend/cpu/x86/emulated/sets.h"
#include "backend/ops/op.h"
#include "base/alloc.h"

enum { WIDTH = 64 };

struct attend {
    int64_t queries, keys;
    bool causal;
    float query, key; /* all elements of a query, of a key */
    float first_key;  /* those of key 0 */
    double scale;
};

/* Value j is 1, or in a causal one j % 2. */
static double expected(const struct attend *a, int64_t query)
{
    return a->causal ? (double)((query + 1) / 2) / (double)(query + 1) : 1;
}

static void fill(struct exec *x, struct act act, const float *rows)
{
    size_t n = (size_t)(act.w * act.c);
    char *narrow = dr_malloc(DR_TAG_TEST, n * sizeof(float));
    assert_non_null(narrow);
    dtype_from_f32(narrow, act.dtype, rows, (int64_t)n);
    assert_int_equal(act_write(x, act, narrow, NULL), 0);
    dr_free(narrow);
}

static struct act tokens(struct exec *x, enum dtype dtype, int64_t n)
{
    struct act ret;
    assert_int_equal(act_new(x, dtype, 1, 1, n, WIDTH, &ret, NULL), 0);
    return ret;
}

static void attend(struct backend *be, const struct attend *a)
{
    struct exec x = { .be = be };
    enum dtype dtype = backend_operand(be, OP_ATTENTION);
    int64_t most = a->queries > a->keys ? a->queries : a->keys;
    float *rows = dr_malloc(DR_TAG_TEST, (size_t)(most * WIDTH) * sizeof *rows);
    assert_non_null(rows);
    assert_int_equal(workspace_new(be, 64 << 20, &x.ws, NULL), 0);
    struct op op = { .kind = OP_ATTENTION,
                     .heads = 1,
                     .scale = a->scale,
                     .causal = a->causal,
                     .src = tokens(&x, dtype, a->queries),
                     .k = tokens(&x, dtype, a->keys),
                     .v = tokens(&x, dtype, a->keys),
                     .dst = tokens(&x, DTYPE_F32, a->queries) };
    for (int64_t i = 0; i < a->queries * WIDTH; i++)
        rows[i] = a->query;
    fill(&x, op.src, rows);
    for (int64_t i = 0; i < a->keys * WIDTH; i++)
        rows[i] = i < WIDTH ? a->first_key : a->key;
    fill(&x, op.k, rows);
    for (int64_t i = 0; i < a->keys * WIDTH; i++)
        rows[i] = a->causal ? (float)(i / WIDTH % 2) : 1;
    fill(&x, op.v, rows);
    assert_int_equal(op_run(&x, &op, NULL), 0);
    assert_int_equal(act_read(&x, op.dst, rows, NULL), 0);
    double limit = dtype == DTYPE_F32 ? 1e-5 : 2e-4; /* sums of 4096 in float32: 4e-6 */
    for (int64_t i = 0; i < a->queries * WIDTH; i++) {
        double want = expected(a, i / WIDTH);
        if (!(fabs(rows[i] - want) <= limit))
            fail_msg("%s: query %lld is %.8g, expected %.8g", backend_kernel_set(be),
                     (long long)(i / WIDTH), (double)rows[i], want);
    }
    workspace_free(x.ws);
    dr_free(rows);
}

static void in_every_set(const struct attend *cases, int n)
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
        for (int k = 0; k < n; k++)
            attend(be, &cases[k]);
        backend_close(be);
    }
}

/* The largest score is in the first of many blocks of keys; nothing drifts after it. */
static void many_blocks_do_not_drift(void **state)
{
    (void)state;
    /* The first score is larger by ln 2, so the others count half, which rounds to itself. */
    static const struct attend cases[] = {
        { .queries = 7,
          .keys = 4096,
          .query = 0.125f,
          .key = 0.25f,
          .first_key = 0.5f,
          .scale = 0.34657359 },
        { .queries = 7,
          .keys = 4001,
          .query = 0.125f,
          .key = -0.25f,
          .first_key = -0.25f,
          .scale = 0.125 },
    };
    in_every_set(cases, 2);
}

/* Keys past the end, and after the query, count for nothing, also where all scores are 0. */
static void zeros_attend_evenly(void **state)
{
    (void)state;
    static const struct attend cases[] = {
        { .queries = 5, .keys = 77, .scale = 0.125 },
        { .queries = 5, .keys = 77, .key = 1, .first_key = 1, .scale = 0.125 },
        { .queries = 77, .keys = 77, .causal = true, .scale = 0.125 },
        { .queries = 300, .keys = 300, .causal = true, .scale = 0.125 },
        { .queries = 300, .keys = 300, .causal = true, .query = 1, .scale = 0.125 },
        { .queries = 300, .keys = 300, .causal = true, .key = 1, .first_key = 1, .scale = 0.125 },
    };
    in_every_set(cases, 6);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(many_blocks_do_not_drift),
    cmocka_unit_test(zeros_attend_evenly),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
