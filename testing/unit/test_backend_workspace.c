/* test_backend_workspace.c - the workspace, its copies to and from the host, and what a plan knows
 * of it. */
#include "testing/helpers/test.h"

#include <string.h>

#include "backend/device.h"
#include "backend/backend.h"
#include "base/alloc.h"

struct rig {
    struct backend *cpu, *plan;
    struct exec x;
};

static void open_rig(struct rig *r, size_t capacity, bool plan)
{
    memset(r, 0, sizeof *r);
    assert_int_equal(
        backend_open(&(struct backend_options){ .kernels = "scalar", .threads = 1 }, &r->cpu, NULL),
        0);
    if (plan)
        assert_int_equal(backend_open_plan(r->cpu, &r->plan, NULL), 0);
    r->x.be = plan ? r->plan : r->cpu;
    assert_int_equal(workspace_new(r->x.be, capacity, &r->x.ws, NULL), 0);
}

static void close_rig(struct rig *r)
{
    workspace_free(r->x.ws);
    backend_close(r->plan);
    backend_close(r->cpu);
}

static struct act take(struct rig *r, int64_t floats)
{
    struct act a;
    struct dr_error err = { 0 };
    if (act_new(&r->x, DTYPE_F32, 1, 1, 1, floats, &a, &err))
        fail_msg("%s", err.text);
    return a;
}

static void first_fit_by_lowest_offset(void **state)
{
    (void)state;
    struct rig r;
    open_rig(&r, 1 << 16, false);
    struct act a = take(&r, 16), b = take(&r, 64), c = take(&r, 16);
    assert_int_equal(a.offset, 0);
    assert_int_equal(b.offset, 64);
    assert_int_equal(c.offset, 64 + 256);
    assert_int_equal(workspace_used(r.x.ws), 64 + 256 + 64);
    act_free(&r.x, &b);
    assert_null(b.buf);
    struct act d = take(&r, 17), e = take(&r, 32), f = take(&r, 1);
    assert_int_equal(d.offset, 64);       /* 68 bytes take 128 of the hole of 256 */
    assert_int_equal(e.offset, 64 + 128); /* the rest of it */
    assert_int_equal(f.offset, 64 + 256 + 64);
    act_free(&r.x, &a);
    struct act g = take(&r, 16);
    assert_int_equal(g.offset, 0);
    size_t peak = workspace_peak(r.x.ws);
    assert_int_equal(peak, 64 + 256 + 64 + 64);
    act_free(&r.x, &c);
    act_free(&r.x, &d);
    act_free(&r.x, &e);
    act_free(&r.x, &f);
    act_free(&r.x, &g);
    act_free(&r.x, &g);
    assert_int_equal(workspace_used(r.x.ws), 0);
    assert_int_equal(workspace_peak(r.x.ws), peak);
    workspace_reset(r.x.ws);
    assert_int_equal(workspace_peak(r.x.ws), 0);
    close_rig(&r);
}

static void too_small_says_so(void **state)
{
    (void)state;
    struct rig r;
    struct dr_error err = { 0 };
    struct act a, b;
    open_rig(&r, 1024, false);
    a = take(&r, 128);
    assert_int_equal(act_new(&r.x, DTYPE_F32, 1, 4, 4, 16, &b, &err), DR_ENOMEM);
    assert_non_null(strstr(err.text, "1024"));
    assert_int_equal(act_new(&r.x, DTYPE_F32, 1, 1, 1, 129, &b, &err), DR_ENOMEM);
    assert_int_equal(act_new(&r.x, DTYPE_F32, 1, 1, 1, 128, &b, &err), 0);
    act_free(&r.x, &a);
    act_free(&r.x, &b);
    assert_int_equal(act_new(&r.x, DTYPE_F32, 1, 1, 0, 8, &b, &err), DR_EINVAL);
    assert_int_equal(act_new(&r.x, DTYPE_F32, INT64_MAX, 4, 1, 8, &b, &err), DR_EINVAL);
    assert_int_equal(act_new(&r.x, DTYPE_F32, INT64_MAX / 16, 4, 1, 4, &b, &err), DR_EINVAL);
    close_rig(&r);
}

static void views_free_what_they_begin(void **state)
{
    (void)state;
    struct rig r;
    open_rig(&r, 1 << 16, false);
    struct act a, view;
    assert_int_equal(act_new(&r.x, DTYPE_F32, 3, 2, 2, 20, &a, NULL), 0);
    view = act_channels(a, 8, 12);
    assert_int_equal(view.offset, a.offset + 32);
    assert_int_equal(view.ld, 20);
    act_free(&r.x, &view);
    assert_true(workspace_used(r.x.ws) > 0);
    view = act_samples(a, 1, 2);
    assert_int_equal(view.offset, a.offset + 4 * 20 * 4);
    assert_int_equal(view.n, 2);
    view = act_tokens(act_samples(a, 0, 1));
    assert_int_equal(view.h, 1);
    assert_int_equal(view.w, 4);
    act_free(&r.x, &view);
    assert_int_equal(workspace_used(r.x.ws), 0);
    close_rig(&r);
}

/* A scripted mixture of taking and freeing; the peak. */
static size_t scripted(struct rig *r)
{
    struct act live[40];
    int n = 0;
    uint32_t random = 12345;
    for (int i = 0; i < 2000; i++) {
        random = random * 1664525u + 1013904223u;
        if (n < 40 && (random >> 28) < 9) {
            live[n++] = take(r, 1 + (random >> 8) % 5000);
        } else if (n) {
            int k = (int)((random >> 10) % (unsigned)n);
            act_free(&r->x, &live[k]);
            live[k] = live[--n];
        }
    }
    while (n)
        act_free(&r->x, &live[--n]);
    assert_int_equal(workspace_used(r->x.ws), 0);
    return workspace_peak(r->x.ws);
}

static void plan_has_the_same_peak(void **state)
{
    (void)state;
    struct rig real, plan;
    open_rig(&plan, SIZE_MAX, true);
    size_t planned = scripted(&plan);
    close_rig(&plan);
    open_rig(&real, planned, false);
    assert_int_equal(scripted(&real), planned);
    close_rig(&real);
}

static void plan_allocates_nothing(void **state)
{
    (void)state;
    struct rig r;
    open_rig(&r, SIZE_MAX, true);
    size_t before = dr_alloc_stats_all().bytes;
    struct act a;
    assert_int_equal(act_new(&r.x, DTYPE_F32, 1, 1 << 15, 1 << 15, 512, &a, NULL), 0);
    assert_int_equal(dr_alloc_stats_all().bytes, before);
    float out[6] = { 1, 2, 3, 4, 5, 6 };
    struct act small = take(&r, 6);
    assert_int_equal(act_write(&r.x, small, out, NULL), 0);
    assert_int_equal(act_read(&r.x, small, out, NULL), 0);
    assert_true(out[0] == 0 && out[5] == 0);
    close_rig(&r);
}

static void host_copies(void **state)
{
    (void)state;
    enum { N = 2, H = 37, W = 31, C = 3 };
    struct rig r;
    struct dr_error err = { 0 };
    open_rig(&r, 1 << 20, false);
    struct act whole;
    static float nchw[N * C * H * W], back[N * C * H * W], nhwc[N * H * W * C];
    for (int i = 0; i < N * C * H * W; i++)
        nchw[i] = (float)(i % 2048);
    assert_int_equal(act_new(&r.x, DTYPE_F16, N, H, W, C + 2, &whole, &err), 0);
    struct act a = act_channels(whole, 1, C);
    assert_int_equal(act_write_nchw(&r.x, a, nchw, &err), 0);
    assert_int_equal(act_read_nchw(&r.x, a, back, &err), 0);
    assert_memory_equal(nchw, back, sizeof nchw);
    uint16_t rows[N * H * W * C];
    assert_int_equal(act_read(&r.x, a, rows, &err), 0);
    dtype_to_f32(nhwc, rows, DTYPE_F16, N * H * W * C);
    for (int n = 0; n < N; n++)
        for (int p = 0; p < H * W; p++)
            for (int c = 0; c < C; c++)
                assert_true(nhwc[(n * H * W + p) * C + c] == nchw[(n * C + c) * H * W + p]);
    assert_int_equal(act_write(&r.x, a, rows, &err), 0);
    assert_int_equal(act_read_nchw(&r.x, a, back, &err), 0);
    assert_memory_equal(nchw, back, sizeof nchw);
    struct act bad = a;
    bad.h = 1 << 20;
    assert_int_equal(act_read(&r.x, bad, rows, &err), DR_EINVAL);
    assert_int_equal(act_write(&r.x, (struct act){ 0 }, rows, &err), DR_EINVAL);
    bad = take(&r, 4);
    bad.dtype = DTYPE_I32;
    assert_int_equal(act_read_nchw(&r.x, bad, back, &err), DR_EINVAL);
    close_rig(&r);
}

static int make_workspace(void *ctx, struct dr_error *err)
{
    struct backend *cpu = NULL, *plan = NULL;
    struct workspace *ws = NULL;
    (void)ctx;
    int r = backend_open(&(struct backend_options){ .kernels = NULL, .threads = 3 }, &cpu, err);
    if (!r)
        r = backend_open_plan(cpu, &plan, err);
    if (!r)
        r = workspace_new(cpu, 4096, &ws, err);
    workspace_free(ws);
    backend_close(plan);
    backend_close(cpu);
    return r;
}

static void survives_short_memory(void **state)
{
    (void)state;
    test_oom_walk(make_workspace, NULL);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(first_fit_by_lowest_offset), cmocka_unit_test(too_small_says_so),
    cmocka_unit_test(views_free_what_they_begin), cmocka_unit_test(plan_has_the_same_peak),
    cmocka_unit_test(plan_allocates_nothing),     cmocka_unit_test(host_copies),
    cmocka_unit_test(survives_short_memory),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
