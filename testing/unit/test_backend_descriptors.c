/* test_backend_descriptors.c - ops and kernels have what they must have, and what is missing is
 * named. */
#include "testing/helpers/test.h"

#include <string.h>

#include "backend/cpu/kernels.h"
#include "backend/device.h"

static void all_are_whole(void **state)
{
    (void)state;
    struct dr_error err = { 0 };
    if (device_tables_check(&err))
        fail_msg("%s", err.text);
}

static void check_error(int r, const struct dr_error *err, const char *expected)
{
    if (r != DR_EINTERNAL || strcmp(err->text, expected))
        fail_msg("got %d \"%s\", expected \"%s\"", r, err->text, expected);
}

static void what_an_op_lacks_is_named(void **state)
{
    (void)state;
    const struct op_info whole = *op_info(OP_LAYER_NORM);
    const struct op_work no_run = { .phases = 1, .tiles = whole.reference->tiles };
    struct op_info broken[7];
    for (int i = 0; i < 7; i++)
        broken[i] = whole;
    broken[0].name = NULL;
    broken[1].check = NULL;
    broken[2].reference = NULL;
    broken[3].setup = NULL;
    broken[4].cases = NULL;
    broken[5].n_cases = 0;
    broken[6].reference = &no_run;
    static const char *const expected[] = {
        "op layer_norm: member name is missing",      "op layer_norm: member check is missing",
        "op layer_norm: member reference is missing", "op layer_norm: member setup is missing",
        "op layer_norm: member cases is missing",     "op layer_norm: member n_cases is missing",
        "kernel layer_norm: member run is missing",
    };
    for (int i = 0; i < 7; i++) {
        struct dr_error err = { 0 };
        check_error(op_info_check(&broken[i], "layer_norm", &err), &err, expected[i]);
    }
    struct dr_error err = { 0 };
    check_error(op_info_check(&whole, "add", &err), &err,
                "op add: member name is \"layer_norm\", expected \"add\"");
}

static void what_a_kernel_lacks_is_named(void **state)
{
    (void)state;
    const struct op_work whole = *op_info(OP_LAYER_NORM)->reference;
    struct op_work work[] = { whole, whole, whole };
    const struct kernel broken[] = {
        { .work = &work[0] }, { .work = &work[1] }, { .work = &work[2] }, { .work = NULL }
    };
    work[0].phases = 0;
    work[1].tiles = NULL;
    work[2].run = NULL;
    static const char *const expected[] = {
        "kernel cpu_add__avx2: member phases is missing",
        "kernel cpu_add__avx2: member tiles is missing",
        "kernel cpu_add__avx2: member run is missing",
        "kernel cpu_add__avx2: member work is missing",
    };
    for (int i = 0; i < 4; i++) {
        struct dr_error err = { 0 };
        check_error(kernel_check(&broken[i], "cpu_add__avx2", &err), &err, expected[i]);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(all_are_whole),
    cmocka_unit_test(what_an_op_lacks_is_named),
    cmocka_unit_test(what_a_kernel_lacks_is_named),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
