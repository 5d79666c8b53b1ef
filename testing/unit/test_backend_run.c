/* test_backend_run.c - how ops run: stopping, threads, floating-point environment, plan against
 * real, guarded. */
#include "testing/helpers/test.h"

#include <fenv.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backend/device.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/pool.h"
#include "backend/vtable.h"
#include "testing/helpers/guarded.h"
#include "base/alloc.h"

enum { CHANNELS = 64, ROWS = 256 };

static float values[3 * CHANNELS * CHANNELS];

static void fill_values(void)
{
    uint32_t random = 1;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        random = random * 1664525u + 1013904223u;
        values[i] = ((float)(random >> 8) / 8388608.0f - 1.0f) / 8;
    }
}

/* A little network: norm, three projections, attention, projection onto the input. */
struct net {
    struct weight *norm, *qkv, *out;
};

static int net_prepare(struct backend *be, const float *data, struct net *ret, struct dr_error *err)
{
    struct net n = { NULL, NULL, NULL };
    struct weight_source s[3] = {
        { "q", data, DTYPE_F32, SHAPE2(CHANNELS, CHANNELS), false, NULL },
        { "k", data, DTYPE_F32, SHAPE2(CHANNELS, CHANNELS), false, NULL },
        { "v", data, DTYPE_F32, SHAPE2(CHANNELS, CHANNELS), false, NULL },
    };
    struct weight_source v[2] = { { "scale", data, DTYPE_F32, SHAPE1(CHANNELS), false, NULL },
                                  { "shift", data, DTYPE_F32, SHAPE1(CHANNELS), false, NULL } };
    int r = weight_prepare(be, &(struct weight_desc){ WEIGHT_NORM, .out = CHANNELS, .bias = true },
                           v, 2, &n.norm, err);
    if (!r)
        r = weight_prepare(
            be,
            &(struct weight_desc){ WEIGHT_LINEAR, .in = CHANNELS, .out = 3 * CHANNELS, .parts = 3 },
            s, 3, &n.qkv, err);
    if (!r)
        r = weight_prepare(be,
                           &(struct weight_desc){ WEIGHT_LINEAR, .in = CHANNELS, .out = CHANNELS },
                           s, 1, &n.out, err);
    *ret = n;
    return r;
}

static void net_free(struct net *n)
{
    weight_free(n->norm);
    weight_free(n->qkv);
    weight_free(n->out);
}

static int net_run(struct exec *x, const struct net *n, float *io, struct dr_error *err)
{
    struct act in, normed, qkv, mixed;
    int r = act_new(x, DTYPE_F32, 1, 1, ROWS, CHANNELS, &in, err);
    if (!r)
        r = act_write(x, in, io, err);
    if (!r)
        r = act_new(x, DTYPE_F32, 1, 1, ROWS, CHANNELS, &normed, err);
    if (!r)
        r = op_run(x,
                   &(struct op){ .kind = OP_GROUP_NORM,
                                 .dst = normed,
                                 .src = in,
                                 .groups = 8,
                                 .eps = 1e-5,
                                 .weight = n->norm },
                   err);
    if (!r)
        r = act_new(x, DTYPE_F32, 1, 1, ROWS, 3 * CHANNELS, &qkv, err);
    if (!r)
        r = op_run(
            x, &(struct op){ .kind = OP_LINEAR, .dst = qkv, .src = normed, .weight = n->qkv }, err);
    if (r)
        return r;
    act_free(x, &normed);
    r = act_new(x, DTYPE_F32, 1, 1, ROWS, CHANNELS, &mixed, err);
    if (!r)
        r = op_run(x,
                   &(struct op){ .kind = OP_ATTENTION,
                                 .dst = mixed,
                                 .heads = 4,
                                 .scale = 0.25,
                                 .src = act_channels(qkv, 0, CHANNELS),
                                 .k = act_channels(qkv, CHANNELS, CHANNELS),
                                 .v = act_channels(qkv, 2 * CHANNELS, CHANNELS) },
                   err);
    if (r)
        return r;
    act_free(x, &qkv);
    r = op_run(x,
               &(struct op){
                   .kind = OP_LINEAR, .dst = in, .src = mixed, .residual = in, .weight = n->out },
               err);
    if (!r)
        r = act_read(x, in, io, err);
    act_free(x, &mixed);
    act_free(x, &in);
    return r;
}

static void whole_run(struct backend *be, size_t capacity, float *io, size_t *ret_peak)
{
    struct exec x = { .be = be };
    struct net n;
    struct dr_error err = { 0 };
    if (net_prepare(be, values, &n, &err) || workspace_new(be, capacity, &x.ws, &err) ||
        net_run(&x, &n, io, &err))
        fail_msg("%s", err.text);
    assert_int_equal(workspace_used(x.ws), 0);
    if (ret_peak)
        *ret_peak = workspace_peak(x.ws);
    workspace_free(x.ws);
    net_free(&n);
}

static struct backend *open_cpu(const char *set, int threads)
{
    struct backend *be;
    struct dr_error err = { 0 };
    if (backend_open(&(struct backend_options){ .kernels = set, .threads = threads }, &be, &err))
        fail_msg("%s", err.text);
    return be;
}

static float io[ROWS * CHANNELS];

static void fill_io(void)
{
    for (int i = 0; i < ROWS * CHANNELS; i++)
        io[i] = (float)((i * 7919) % 1000) / 500.0f - 1.0f;
}

static size_t packed_bytes(struct backend *be, int64_t out)
{
    return weight_bytes(be, &(struct weight_desc){ WEIGHT_LINEAR, .in = CHANNELS, .out = out })
        .packed;
}

static void plan_foresees_the_run(void **state)
{
    (void)state;
    bool usable;
    fill_values();
    for (int set = 0; backend_kernel_set_name(set, &usable); set++) {
        if (!usable)
            continue;
        struct backend *cpu = open_cpu(backend_kernel_set_name(set, NULL), 2), *plan;
        size_t planned, peak, weights = dr_alloc_stats(DR_TAG_WEIGHTS).bytes;
        assert_int_equal(backend_open_plan(cpu, &plan, NULL), 0);
        assert_true(backend_is_plan(plan) && !backend_is_plan(cpu));
        assert_string_equal(backend_kernel_set(plan), backend_kernel_set_name(set, NULL));
        struct net n;
        struct exec x = { .be = plan };
        assert_int_equal(net_prepare(plan, NULL, &n, NULL), 0);
        assert_int_equal(dr_alloc_stats(DR_TAG_WEIGHTS).bytes, weights);
        assert_int_equal(workspace_new(plan, SIZE_MAX, &x.ws, NULL), 0);
        for (int i = 0; i < 2; i++)
            assert_int_equal(net_run(&x, &n, io, NULL), 0);
        planned = workspace_peak(x.ws);
        struct plan_totals t = backend_plan_totals(plan);
        assert_int_equal(t.ops, 8);
        size_t packed = packed_bytes(cpu, 3 * CHANNELS) + packed_bytes(cpu, CHANNELS);
        size_t matrices = packed ? 0 : 4 * CHANNELS * CHANNELS;
        assert_int_equal(t.mapped_bytes, (matrices + 2 * CHANNELS) * 4);
        assert_int_equal(t.packed_bytes, packed + 2 * CHANNELS * 4);
        assert_true(t.flops ==
                    2 * (2.0 * ROWS * CHANNELS * CHANNELS * 4 + 4.0 * ROWS * ROWS * CHANNELS));
        backend_plan_reset(plan);
        t = backend_plan_totals(plan);
        assert_true(t.ops == 0 && t.flops == 0 && t.mapped_bytes == 0 && t.packed_bytes != 0);
        workspace_free(x.ws);
        net_free(&n);
        assert_int_equal(backend_plan_totals(plan).packed_bytes, 0);
        backend_close(plan);
        fill_io();
        whole_run(cpu, planned, io, &peak);
        assert_int_equal(peak, planned);
        backend_close(cpu);
    }
}

/* A loaded network can be planned without loading it again. */
static void plan_takes_the_inner_weights(void **state)
{
    (void)state;
    struct backend *cpu = open_cpu("scalar", 1), *plan, *other = open_cpu("scalar", 1);
    struct net n;
    assert_int_equal(backend_open_plan(cpu, &plan, NULL), 0);
    assert_int_equal(net_prepare(cpu, values, &n, NULL), 0);
    struct exec x = { .be = plan };
    assert_int_equal(workspace_new(plan, SIZE_MAX, &x.ws, NULL), 0);
    assert_int_equal(net_run(&x, &n, io, NULL), 0);
    workspace_free(x.ws);
    x.be = other;
    assert_int_equal(workspace_new(other, 1 << 20, &x.ws, NULL), 0);
    assert_int_equal(net_run(&x, &n, io, NULL), DR_EINVAL);
    workspace_free(x.ws);
    net_free(&n);
    backend_close(plan);
    backend_close(other);
    backend_close(cpu);
}

static void guarded_has_the_same_bits(void **state)
{
    (void)state;
    static float plain[ROWS * CHANNELS];
    struct backend *cpu = open_cpu(NULL, 2), *guarded;
    fill_values();
    fill_io();
    whole_run(cpu, 1 << 20, io, NULL);
    memcpy(plain, io, sizeof io);
    backend_close(cpu);
    assert_int_equal(backend_open_guarded(NULL, &guarded, NULL), 0);
    fill_io();
    whole_run(guarded, 1 << 20, io, NULL);
    backend_close(guarded);
    assert_memory_equal(plain, io, sizeof io);
}

static void guarded_catches_a_stray_access(void **state)
{
    (void)state;
    struct backend *be;
    struct exec x = { 0 };
    struct act a;
    float v[4] = { 1, 2, 3, 4 };
    assert_int_equal(backend_open_guarded(NULL, &be, NULL), 0);
    x.be = be;
    assert_int_equal(workspace_new(be, 4096, &x.ws, NULL), 0);
    assert_int_equal(act_new(&x, DTYPE_F32, 1, 1, 1, 4, &a, NULL), 0);
    assert_int_equal(act_write(&x, a, v, NULL), 0);
    for (int write = 0; write < 2; write++) {
        int status;
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (!pid) {
            volatile float *p = (volatile float *)((char *)a.buf->memory + a.offset);
            signal(SIGSEGV, SIG_DFL);
            if (write)
                *p = 1;
            _exit(*p != 0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
    }
    memset(v, 0, sizeof v);
    assert_int_equal(act_read(&x, a, v, NULL), 0);
    assert_true(v[3] == 4);
    workspace_free(x.ws);
    backend_close(be);
}

/* ---- stopping ---- */

struct stopper {
    atomic_int flag;
    double when; /* in processor seconds of the whole test: other programs do not count */
};

static double processor_seconds(void)
{
    return (double)clock() / CLOCKS_PER_SEC;
}

static void *raise_flag(void *arg)
{
    struct stopper *s = arg;
    usleep(30000);
    s->when = processor_seconds();
    atomic_store(&s->flag, 1);
    return NULL;
}

/* Seconds of work in one op, cut short. */
static void stops_promptly(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 2; threads++) {
        struct backend *be = open_cpu("scalar", threads);
        struct stopper s = { 0 };
        struct exec x = { .be = be, .stop = &s.flag };
        struct act in, out;
        struct dr_error err = { 0 };
        pthread_t id;
        assert_int_equal(workspace_new(be, 64 << 20, &x.ws, NULL), 0);
        assert_int_equal(act_new(&x, DTYPE_F32, 1, 1, 9000, 512, &in, NULL), 0);
        assert_int_equal(act_new(&x, DTYPE_F32, 1, 1, 9000, 512, &out, NULL), 0);
        struct op op = {
            .kind = OP_ATTENTION, .dst = out, .src = in, .k = in, .v = in, .heads = 1, .scale = 1
        };
        struct op one = op;
        one.src.w = one.dst.w = 1; /* one query: at least a tile's work */
        double start = processor_seconds();
        assert_int_equal(op_run(&x, &one, &err), 0);
        double tile = processor_seconds() - start;
        assert_int_equal(pthread_create(&id, NULL, raise_flag, &s), 0);
        assert_int_equal(op_run(&x, &op, &err), DR_ECANCELED);
        double seen = processor_seconds();
        pthread_join(id, NULL);
        assert_true(seen - s.when < 0.3 + 10 * tile * threads);
        assert_int_equal(op_run(&x, &op, &err), DR_ECANCELED);
        atomic_store(&s.flag, 0);
        act_free(&x, &in);
        act_free(&x, &out);
        assert_int_equal(workspace_used(x.ws), 0);
        workspace_free(x.ws);
        backend_close(be);
    }
}

/* ---- the pool ---- */

enum { TILES = 10000 };

struct tally {
    atomic_int seen[TILES];
    atomic_int others;
};

static void count_tile(void *ctx, int64_t tile, int thread)
{
    struct tally *t = ctx;
    atomic_fetch_add(&t->seen[tile], 1);
    atomic_fetch_add(&t->others, thread > 0);
    if (fegetround() != FE_TONEAREST)
        atomic_fetch_add(&t->seen[tile], 100);
}

static void pool_runs_each_tile_once(void **state)
{
    (void)state;
    static struct tally t;
    struct pool *p;
    for (int threads = 1; threads <= 5; threads++) {
        assert_int_equal(pool_new(threads, &p, NULL), 0);
        memset(&t, 0, sizeof t);
        assert_int_equal(pool_run(p, count_tile, &t, TILES, NULL), 0);
        for (int i = 0; i < TILES; i++)
            assert_int_equal(t.seen[i], 1);
        for (int run = 0; run < 2000; run++)
            assert_int_equal(pool_run(p, count_tile, &t, run % 4, NULL), 0);
        assert_int_equal(t.seen[0], 1 + 1500);
        assert_int_equal(t.seen[2], 1 + 500);
        pool_free(p);
    }
    assert_int_equal(pool_new(0, &p, NULL), DR_EINVAL);
    assert_int_equal(pool_new(100000, &p, NULL), DR_EINVAL);
}

static void *run_some(void *arg)
{
    static struct tally t;
    for (int i = 0; i < 300; i++)
        pool_run(arg, count_tile, &t, 50, NULL);
    return NULL;
}

static void pool_serves_callers_in_turn(void **state)
{
    (void)state;
    struct pool *p;
    pthread_t ids[3];
    assert_int_equal(pool_new(2, &p, NULL), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&ids[i], NULL, run_some, p), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(ids[i], NULL);
    pool_free(p);
}

/* The caller's rounding mode neither shows in the bits nor is lost. */
static void rounding_mode_does_not_show(void **state)
{
    (void)state;
    static float plain[ROWS * CHANNELS];
    struct backend *be = open_cpu(NULL, 2);
    fill_values();
    fill_io();
    whole_run(be, 1 << 20, io, NULL);
    memcpy(plain, io, sizeof io);
    fill_io();
    fesetround(FE_UPWARD);
    whole_run(be, 1 << 20, io, NULL);
    int mode = fegetround();
    fesetround(FE_TONEAREST);
    assert_int_equal(mode, FE_UPWARD);
    assert_memory_equal(plain, io, sizeof io);
    backend_close(be);
}

/* ---- kernel sets ---- */

static void sets_by_name(void **state)
{
    (void)state;
    struct dr_error err = { 0 };
    struct backend *be = NULL;
    assert_int_equal(
        backend_open(&(struct backend_options){ .kernels = "avx3", .threads = 1 }, &be, &err),
        DR_EINVAL);
    assert_non_null(strstr(err.text, "scalar, avx2, avx512"));
    assert_null(be);
    be = open_cpu("auto", 0);
    assert_int_equal(backend_threads(be), cpu_count());
    assert_true(backend_layout_version(be) > 0);
    backend_close(be);
    be = open_cpu("scalar", 3);
    assert_string_equal(backend_kernel_set(be), "scalar");
    assert_int_equal(backend_threads(be), 3);
    backend_close(be);
    assert_null(backend_kernel_set_name(99, NULL));
    assert_string_equal(backend_kernel_set_name(0, NULL), "scalar");
    backend_close(NULL);
}

static void sets_fall_back_to_the_set_below(void **state)
{
    (void)state;
    for (int kind = 0; kind < OP_KIND_COUNT; kind++) {
        const struct op_info *info = op_info((enum op_kind)kind);
        assert_ptr_equal(kernel_of((enum op_kind)kind, NULL, 0, true)->work, info->reference);
        for (int set = 1; kernel_set_at(set); set++)
            assert_false(kernel_of((enum op_kind)kind, NULL, set, true)->int8);
        assert_true(info->n_cases > 0 && info->check && info->setup);
    }
    assert_null(op_info(OP_KIND_COUNT));
}

static int run_short(void *ctx, struct dr_error *err)
{
    struct exec x = { .be = ctx };
    struct net n;
    int r = net_prepare(ctx, values, &n, err);
    if (!r)
        r = workspace_new(ctx, 1 << 20, &x.ws, err);
    if (!r)
        r = net_run(&x, &n, io, err);
    workspace_free(x.ws);
    net_free(&n);
    return r;
}

static void survives_short_memory(void **state)
{
    (void)state;
    struct backend *be = open_cpu(NULL, 2);
    test_oom_walk(run_short, be);
    backend_close(be);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(plan_foresees_the_run),
    cmocka_unit_test(plan_takes_the_inner_weights),
    cmocka_unit_test(guarded_has_the_same_bits),
    cmocka_unit_test(guarded_catches_a_stray_access),
    cmocka_unit_test(stops_promptly),
    cmocka_unit_test(pool_runs_each_tile_once),
    cmocka_unit_test(pool_serves_callers_in_turn),
    cmocka_unit_test(rounding_mode_does_not_show),
    cmocka_unit_test(sets_by_name),
    cmocka_unit_test(sets_fall_back_to_the_set_below),
    cmocka_unit_test(survives_short_memory),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
