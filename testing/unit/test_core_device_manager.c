/* test_core_device_manager.c - which backend a request gets: the worker's own options apply, and
 * no backend exists twice. */
#include "testing/helpers/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

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

/* To ask whether a request is right times nothing: what is remembered of kernels stays. */
static void a_check_times_nothing(void **state)
{
    (void)state;
    char path[200];
    struct stat st;
    struct dr_error err = { 0 };
    snprintf(path, sizeof path, "%s/darkroom/kernels", test_dir());
    setenv("XDG_CACHE_HOME", test_dir(), 1);
    struct device_manager *m = manager("scalar");
    assert_int_equal(device_manager_check(m, "auto", PRECISION_AUTO, &err), 0);
    assert_int_equal(device_manager_check(m, "mmx", PRECISION_AUTO, &err), DR_EINVAL);
    assert_string_equal(err.path, "kernels");
    assert_int_equal(device_manager_check(m, "auto", PRECISION_BF16, &err), DR_EINVAL);
    assert_string_equal(err.path, "precision");
    device_manager_free(m);
    m = manager(NULL);
    off_t size = stat(path, &st) ? 0 : st.st_size;
    assert_int_equal(device_manager_check(m, "auto", PRECISION_F32, &err), 0);
    assert_true((stat(path, &st) ? 0 : st.st_size) == size);
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

/* What the processor lacks is a mistake of the request, and the error says what it has. */
static void what_the_machine_lacks_is_refused(void **state)
{
    (void)state;
    struct device_manager *m = manager(NULL);
    struct backend *be;
    const char *name;
    bool usable, has[PRECISION_COUNT] = { false };
    for (int i = 0; (name = backend_kernel_set_name(i, &usable)); i++)
        has[backend_kernel_set_precision(i)] |= usable;
    for (int i = 0; (name = backend_kernel_set_name(i, &usable)); i++) {
        struct dr_error err = { 0 };
        if (usable)
            continue;
        assert_int_equal(device_manager_backend(m, name, PRECISION_AUTO, &be, &err), DR_EINVAL);
        assert_string_equal(err.path, "kernels");
        assert_non_null(strstr(err.expected, "scalar"));
        assert_null(strstr(err.expected, name));
        struct device_manager *none;
        struct dr_error told = { 0 };
        assert_int_equal(device_manager_new(name, 1, &none, &told), DR_EINVAL);
        assert_string_equal(told.text, err.text);
    }
    for (int p = PRECISION_AUTO + 1; p < PRECISION_COUNT; p++) {
        struct dr_error err = { 0 };
        if (has[p])
            continue;
        assert_int_equal(device_manager_backend(m, "auto", (enum precision)p, &be, &err),
                         DR_EINVAL);
        assert_string_equal(err.path, "precision");
        assert_string_equal(err.got, precision_name((enum precision)p));
        for (int q = PRECISION_AUTO + 1; q < PRECISION_COUNT; q++) {
            char listed[16];
            snprintf(listed, sizeof listed, ", %s", precision_name((enum precision)q));
            assert_int_equal(strstr(err.expected, listed) != NULL, has[q]);
        }
    }
    device_manager_free(m);
}

static void sets_of_8_bits_are_told_apart(void **state)
{
    (void)state;
    struct device_manager *m = manager("scalar");
    const char *name;
    assert_null(device_manager_int8_set(m, "auto"));
    assert_null(device_manager_int8_set(m, "scaler"));
    for (int i = 0; (name = backend_kernel_set_name(i, NULL)); i++) {
        bool int8 = backend_kernel_set_precision(i) == PRECISION_INT8;
        assert_int_equal(device_manager_int8_set(m, name) != NULL, int8);
    }
    device_manager_free(m);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_told_stands),
        cmocka_unit_test(no_two_are_alike),
        cmocka_unit_test(a_check_times_nothing),
        cmocka_unit_test(float32_is_always_there),
        cmocka_unit_test(what_the_machine_lacks_is_refused),
        cmocka_unit_test(sets_of_8_bits_are_told_apart),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
