/* test_models_deltas.c - the kinds of changes, and those that the interface carries beside them, on
 * one layer of several slabs. */
#include "models/adapters/weight_variant.h"

#include <math.h>
#include <string.h>

#include "backend/device.h"
#include "base/alloc.h"
#include "testing/backends/packing.h"
#include "testing/helpers/test.h"

static void must(int r, const struct dr_error *err)
{
    if (r)
        fail_msg("%s", err->text);
}

static float *numbers(int64_t n, unsigned seed)
{
    float *p = dr_malloc(DR_TAG_TEST, (size_t)n * sizeof *p);
    assert_non_null(p);
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        p[i] = (float)(seed >> 8) / (1 << 23) - 1;
    }
    return p;
}

static struct weight_source source(float *data, struct shape shape)
{
    return (struct weight_source){
        .name = "a tensor", .data = data, .dtype = DTYPE_F32, .shape = shape
    };
}
/* ---- kinds of tests ---- */

static int no_check(const struct weight_delta *d, const struct shape *shape, struct dr_error *err)
{
    (void)d;
    (void)shape;
    (void)err;
    return 0;
}

/* Copies the value out: its tensor's data say where. */
static int copy_out(const struct weight_delta *d, const struct delta_target *t,
                    struct dr_error *err)
{
    (void)err;
    memcpy((void *)d->tensor[0].data, t->value, (size_t)(t->rows * t->cols) * sizeof(float));
    return 0;
}

static const struct delta_kind copies = { .name = "copies", .check = no_check, .apply = copy_out };

/* A change that needs the whole matrix: the columns of value + up down get given lengths (Liu et
 * al. 2024, DoRA). Two passes in slabs; the second tensor is down, the third the lengths. */
static void scale_columns(const struct weight_delta *d, const double *squares, float *value,
                          const float *product, int64_t n, int64_t cols)
{
    const float *lengths = d->tensor[2].data;
    for (int64_t i = 0; i < n * cols; i++) {
        double v = value[i], moved = v + product[i];
        moved *= lengths[i % cols] / sqrt(squares[i % cols]);
        value[i] = (float)(v + d->strength * (moved - v));
    }
}

static int set_lengths(const struct weight_delta *d, const struct delta_target *t,
                       struct dr_error *err)
{
    int64_t rank = d->tensor[0].shape.d[1], slab = delta_slab_rows(t);
    float *left = dr_malloc(DR_TAG_TEST, (size_t)(slab * rank) * sizeof *left);
    const float *product = NULL;
    double *squares = dr_calloc(DR_TAG_TEST, (size_t)t->cols, sizeof *squares);
    struct delta_product p = { .rank = 0 };
    int r = left && squares ? 0 : dr_fail(err, DR_ENOMEM, "no memory");
    if (!r)
        r = delta_product_open(&p, t, &d->tensor[1], rank, err);
    for (int pass = 0; pass < 2; pass++)
        for (int64_t first = 0; !r && first < t->rows; first += slab) {
            int64_t n = t->rows - first < slab ? t->rows - first : slab;
            float *value = t->value + first * t->cols;
            delta_read_rows(&d->tensor[0], first, n, rank, left);
            r = delta_product_rows(&p, left, n, &product, err);
            for (int64_t i = 0; !r && !pass && i < n * t->cols; i++) {
                double moved = (double)value[i] + product[i];
                squares[i % t->cols] += moved * moved;
            }
            if (!r && pass)
                scale_columns(d, squares, value, product, n, t->cols);
        }
    delta_product_close(&p);
    dr_free(squares);
    dr_free(left);
    return r;
}

static const struct delta_kind column_lengths = { .name = "column_lengths",
                                                  .check = no_check,
                                                  .apply = set_lengths };

/* ---- one large layer, in several slabs ---- */

enum { BIG_ROWS = 1051, BIG_COLS = 1499, RANK = 5 };

struct one_layer {
    struct layer l;
};

static int one_layer_visit(void *network, const struct visitor *v)
{
    struct one_layer *n = network;
    return visit_layer(v, &n->l, "big");
}

struct big {
    struct one_layer net;
    float *base, *up, *down, *difference, *lengths, *out;
    struct weight_delta low_rank, whole, columns, copy;
};

static void big_init(struct big *b)
{
    memset(b, 0, sizeof *b);
    const struct shape shape = SHAPE2(BIG_ROWS, BIG_COLS);
    b->base = numbers(BIG_ROWS * BIG_COLS, 1);
    b->up = numbers(BIG_ROWS * RANK, 2);
    b->down = numbers(RANK * BIG_COLS, 3);
    b->difference = numbers(BIG_ROWS * BIG_COLS, 4);
    b->lengths = numbers(BIG_COLS, 5);
    b->out = numbers(BIG_ROWS * BIG_COLS, 6);
    b->net.l = layer_linear(BIG_COLS, BIG_ROWS, false);
    b->net.l.weight[0].src = source(b->base, shape);
    b->low_rank = b->whole = b->columns = b->copy = (struct weight_delta){ .param = "big.weight",
                                                                           .strength = 0.7 };
    b->low_rank.kind = &delta_kind_low_rank;
    b->low_rank.alpha = 3;
    b->low_rank.tensor[LOW_RANK_UP] = source(b->up, SHAPE2(BIG_ROWS, RANK));
    b->low_rank.tensor[LOW_RANK_DOWN] = source(b->down, SHAPE2(RANK, BIG_COLS));
    b->whole.kind = &delta_kind_difference;
    b->whole.tensor[DIFFERENCE] = source(b->difference, shape);
    b->columns.kind = &column_lengths;
    b->columns.tensor[0] = b->low_rank.tensor[0];
    b->columns.tensor[1] = b->low_rank.tensor[1];
    b->columns.tensor[2] = source(b->lengths, SHAPE2(1, BIG_COLS));
    b->copy.kind = &copies;
    b->copy.tensor[0].data = b->out;
}

static void big_release(struct big *b)
{
    dr_free(b->base);
    dr_free(b->up);
    dr_free(b->down);
    dr_free(b->difference);
    dr_free(b->lengths);
    dr_free(b->out);
}

/* Element (row, col) of up down. */
static double product_at(const struct big *b, int64_t row, int64_t col)
{
    double sum = 0;
    for (int64_t k = 0; k < RANK; k++)
        sum += (double)b->up[row * RANK + k] * b->down[k * BIG_COLS + col];
    return sum;
}

/* What these two deltas make of the base, leaving it in b->out. */
static void make_big(struct big *b, struct backend *be, const struct weight_delta *first,
                     const struct weight_delta *second)
{
    struct dr_error err = { 0 };
    struct weight_variant *v;
    const struct weight_delta *list[] = { first, second, &b->copy };
    struct variant_spec spec = {
        .network = &b->net, .visit = one_layer_visit, .be = be, .deltas = list, .n = 3
    };
    must(weight_variant_open(&spec, &v, &err), &err);
    weight_variant_close(v);
}

static void compare_big(const struct big *b, const float *expected, double tolerance)
{
    double d = test_rel_l2(b->out, expected, BIG_ROWS * BIG_COLS);
    if (!(d <= tolerance))
        fail_msg("distance %g", d);
}

static void expect_sum(const struct big *b, float *expected)
{
    for (int64_t i = 0; i < BIG_ROWS * BIG_COLS; i++)
        expected[i] = (float)(b->base[i] +
                              0.7 * 3 / RANK * product_at(b, i / BIG_COLS, i % BIG_COLS) +
                              0.7 * b->difference[i]);
}

/* Of base + 0.7 difference. */
static void expect_columns(const struct big *b, float *expected)
{
    for (int64_t col = 0; col < BIG_COLS; col++) {
        double squares = 0;
        for (int64_t row = 0; row < BIG_ROWS; row++) {
            double v = b->base[row * BIG_COLS + col] + 0.7 * b->difference[row * BIG_COLS + col] +
                       product_at(b, row, col);
            squares += v * v;
        }
        for (int64_t row = 0; row < BIG_ROWS; row++) {
            double v = b->base[row * BIG_COLS + col] + 0.7 * b->difference[row * BIG_COLS + col];
            double moved = (v + product_at(b, row, col)) * b->lengths[col] / sqrt(squares);
            expected[row * BIG_COLS + col] = (float)(v + 0.7 * (moved - v));
        }
    }
}

/* In every kernel set, for any number of threads, with an error of rounding. */
static void slabs_and_threads_leave_no_trace(void **state)
{
    (void)state;
    struct big b;
    const char *name;
    bool usable;
    packing_set_add();
    uint64_t blocks = test_blocks();
    big_init(&b);
    float *sum = numbers(BIG_ROWS * BIG_COLS, 0), *columns = numbers(BIG_ROWS * BIG_COLS, 0),
          *first = numbers(BIG_ROWS * BIG_COLS, 0);
    expect_sum(&b, sum);
    expect_columns(&b, columns);
    for (int i = 0; (name = backend_kernel_set_name(i, &usable)); i++)
        for (int threads = 1; usable && threads <= 3; threads += 2) {
            struct backend *be;
            struct backend_options options = { .kernels = name, .threads = threads };
            if (backend_open(&options, &be, NULL))
                fail_msg("%s", name);
            make_big(&b, be, &b.low_rank, &b.whole);
            compare_big(&b, sum, 2e-7);
            if (threads == 1)
                memcpy(first, b.out, BIG_ROWS * BIG_COLS * sizeof *first);
            assert_memory_equal(first, b.out, BIG_ROWS * BIG_COLS * sizeof *first);
            make_big(&b, be, &b.whole, &b.columns);
            compare_big(&b, columns, 5e-7);
            backend_close(be);
        }
    dr_free(first);
    dr_free(columns);
    dr_free(sum);
    big_release(&b);
    assert_int_equal(test_blocks(), blocks);
}

/* The order that is given holds where a kind does not add. */
static void kinds_that_do_not_add_follow_each_other(void **state)
{
    (void)state;
    struct big b;
    struct backend *be;
    struct dr_error err = { 0 };
    struct variant_facts facts[2];
    must(backend_open(&(struct backend_options){ .kernels = "scalar", .threads = 2 }, &be, &err),
         &err);
    big_init(&b);
    float *one = numbers(BIG_ROWS * BIG_COLS, 0);
    make_big(&b, be, &b.whole, &b.columns);
    memcpy(one, b.out, BIG_ROWS * BIG_COLS * sizeof *one);
    make_big(&b, be, &b.columns, &b.whole);
    assert_memory_not_equal(one, b.out, BIG_ROWS * BIG_COLS * sizeof *one);
    for (int i = 0; i < 2; i++) {
        const struct weight_delta *list[] = { i ? &b.whole : &b.columns,
                                              i ? &b.columns : &b.whole };
        struct variant_spec spec = {
            .network = &b.net, .visit = one_layer_visit, .be = be, .deltas = list, .n = 2
        };
        must(weight_variant_check(&spec, &facts[i], &err), &err);
    }
    assert_memory_not_equal(facts[0].key, facts[1].key, SHA256_BYTES);
    dr_free(one);
    big_release(&b);
    backend_close(be);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(slabs_and_threads_leave_no_trace),
        cmocka_unit_test(kinds_that_do_not_add_follow_each_other),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
