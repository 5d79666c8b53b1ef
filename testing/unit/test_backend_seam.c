/* test_backend_seam.c - the seam between networks and devices: what a second backend gets to see,
 * and that it is enough. */
#include "testing/helpers/test.h"

#include <stdio.h>
#include <string.h>

#include "backend/check/op_check.h"
#include "backend/device.h"
#include "backend/ops/op.h"
#include "backend/vtable.h"
#include "testing/helpers/remote_backend.h"

enum { N = 2, H = 5, W = 7, C = 3, VALUES = N * H * W * C };

static struct backend *open_remote(void)
{
    struct backend *be;
    struct dr_error err = { 0 };
    remote_device_add();
    remote_device_add(); /* twice is once */
    if (backend_open(&(struct backend_options){ .kernels = REMOTE_SET }, &be, &err))
        fail_msg("%s", err.text);
    return be;
}

static void devices_are_listed_once(void **state)
{
    (void)state;
    struct kernel_set_facts set;
    struct device_facts facts;
    int devices = 0, found = 0;
    const struct device_info *best = device_best(&facts);
    remote_device_add();
    remote_device_add();
    while (device_at(devices))
        devices++;
    assert_int_equal(devices, 2);
    for (int i = 0; kernel_set_facts(i, &set); i++)
        found += !strcmp(set.name, REMOTE_SET);
    assert_int_equal(found, 1);
    assert_true(best == device_best(&facts)); /* auto never means an added one */
    assert_true(best == device_at(0) && facts.name[0]);
    assert_false(kernel_set_facts(-1, &set));
    assert_null(device_at(-1));
}

/* A view with room between its pixels, so that every stride counts. */
static void a_picture_is_one_transfer(void **state)
{
    (void)state;
    static const enum dtype types[] = { DTYPE_F32, DTYPE_F16 };
    float picture[VALUES], back[VALUES], pixels[VALUES];
    for (int i = 0; i < VALUES; i++)
        picture[i] = (float)i;
    struct backend *be = open_remote();
    struct exec x = { .be = be };
    assert_int_equal(workspace_new(be, 1 << 16, &x.ws, NULL), 0);
    for (int t = 0; t < 2; t++) {
        struct act whole;
        assert_int_equal(act_new(&x, types[t], N, H, W, C + 2, &whole, NULL), 0);
        struct act a = act_channels(whole, 1, C);
        long before = remote_transfers();
        memset(back, 0, sizeof back);
        assert_int_equal(act_write_nchw(&x, a, picture, NULL), 0);
        assert_int_equal(remote_transfers() - before, 1);
        assert_int_equal(act_read_nchw(&x, a, back, NULL), 0);
        assert_int_equal(remote_transfers() - before, 2);
        assert_memory_equal(picture, back, sizeof back);
        if (types[t] == DTYPE_F32) {
            assert_int_equal(act_read(&x, a, pixels, NULL), 0);
            for (int i = 0; i < VALUES; i++) {
                int c = i % C, p = i / C % (H * W), n = i / C / (H * W);
                assert_true(pixels[i] == picture[(n * C + c) * H * W + p]);
            }
        }
        act_free(&x, &whole);
    }
    workspace_free(x.ws);
    backend_close(be);
}

static void what_a_device_lacks_is_refused(void **state)
{
    (void)state;
    struct backend *be = open_remote();
    struct exec x = { .be = be };
    struct dr_error err = { 0 };
    const float values[4] = { 1, 2, 3, 4 };
    const struct weight_source source = { .name = "w", .data = values, .shape = SHAPE2(2, 2) };
    struct weight *w;
    struct op op = { .kind = OP_LINEAR };
    assert_int_equal(workspace_new(be, 4096, &x.ws, NULL), 0);
    assert_int_equal(weight_prepare(be, &(struct weight_desc){ WEIGHT_LINEAR, .in = 2, .out = 2 },
                                    &source, 1, &w, NULL),
                     0);
    op.weight = w;
    assert_int_equal(act_new(&x, DTYPE_F16, 1, 1, 1, 2, &op.src, NULL), 0);
    assert_int_equal(act_new(&x, DTYPE_F32, 1, 1, 1, 2, &op.dst, NULL), 0);
    assert_int_equal(op_run(&x, &op, &err), DR_EUNSUPPORTED);
    assert_non_null(strstr(err.text, "linear: 16-bit activations"));
    weight_free(w);
    workspace_free(x.ws);
    backend_close(be);
}

struct seen {
    int count;
    char failed[160];
};

static void see(void *ctx, const struct check_result *r)
{
    struct seen *seen = ctx;
    seen->count++;
    if (!r->passed || strcmp(r->set, REMOTE_SET))
        snprintf(seen->failed, sizeof seen->failed, "%s, %s, %s: %s", r->op, r->set, r->name,
                 r->why);
}

/* Its results are the references', through memory and weights that only it can read. */
static void every_op_reaches_the_device(void **state)
{
    (void)state;
    remote_device_add();
    const struct check_options opt = { .kernels = REMOTE_SET, .most_flops = 2e5 };
    struct seen seen = { 0 };
    struct dr_error err = { 0 };
    int failed;
    if (backend_check(&opt, see, &seen, &failed, &err))
        fail_msg("%s", err.text);
    if (failed || seen.failed[0])
        fail_msg("%s", seen.failed);
    assert_true(seen.count > 60);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(devices_are_listed_once),
    cmocka_unit_test(a_picture_is_one_transfer),
    cmocka_unit_test(what_a_device_lacks_is_refused),
    cmocka_unit_test(every_op_reaches_the_device),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
