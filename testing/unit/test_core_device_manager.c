/* test_core_device_manager.c - which backend a request gets: what the worker was told stands, and
 * no two backends are alike. */
#include "testing/helpers/test.h"

#include "core/device_manager.h"

static struct device_manager *manager(const char *kernels)
{
    struct device_manager *m;
    struct dr_error err = { 0 };
    if (device_manager_new(kernels, 1, &m, &err) < 0)
        fail_msg("%s", err.text);
    return m;
}

static struct backend *backend(struct device_manager *m, const char *kernels,
                               enum precision precision)
{
    struct backend *be;
    struct dr_error err = { 0 };
    if (device_manager_backend(m, kernels, precision, &be, &err) < 0)
        fail_msg("%s", err.text);
    return be;
}

static void what_was_told_stands(void **state)
{
    (void)state;
    struct device_manager *m = manager("scalar");
    struct backend *be;
    struct dr_error err = { 0 };
    assert_string_equal(backend_kernel_set(backend(m, "auto", PRECISION_AUTO)), "scalar");
    assert_string_equal(backend_kernel_set(backend(m, "auto", PRECISION_F32)), "scalar");
    assert_int_equal(device_manager_backend(m, "auto", PRECISION_BF16, &be, &err), DR_EINVAL);
    assert_string_equal(err.path, "precision");
    assert_int_equal(device_manager_backend(m, "scaler", PRECISION_AUTO, &be, &err), DR_EINVAL);
    device_manager_free(m);
}

static void no_two_are_alike(void **state)
{
    (void)state;
    struct device_manager *m = manager(NULL);
    const char *name;
    bool usable;
    for (int i = 0; (name = backend_kernel_set_name(i, &usable)); i++) {
        enum precision own = backend_kernel_set_precision(i);
        if (!usable)
            continue;
        struct backend *fast = backend(m, name, PRECISION_AUTO), *exact = backend(m, name, own);
        assert_true(fast == backend(m, name, PRECISION_AUTO));
        assert_true((fast == exact) == (own != PRECISION_F32));
    }
    struct backend *best = backend(m, "auto", PRECISION_AUTO);
    assert_true(best == backend(m, backend_kernel_set(best), PRECISION_AUTO));
    device_manager_free(m);
}

/* A set that rounds has nothing to say to a request for float32. */
static void float32_is_always_there(void **state)
{
    (void)state;
    const char *name;
    bool usable;
    for (int i = 0; (name = backend_kernel_set_name(i, &usable)); i++) {
        if (!usable)
            continue;
        struct device_manager *m = manager(name);
        struct backend *be = backend(m, "auto", PRECISION_F32);
        assert_int_equal(backend_precision(be), PRECISION_F32);
        assert_string_equal(backend_kernel_set(backend(m, "auto", PRECISION_AUTO)), name);
        device_manager_free(m);
    }
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_told_stands),
        cmocka_unit_test(no_two_are_alike),
        cmocka_unit_test(float32_is_always_there),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
