/* test_quantize_choice.c - the choice of layers for 8 bits keeps to its budget, or says that it
 * cannot. */
#include "testing/helpers/test.h"

#include <string.h>

#include "backend/device.h"
#include "quantize/choice.h"

static int choose(double budget, struct int8_choice *ret, struct dr_error *err)
{
    struct backend_options options = { .kernels = "auto", .precision = PRECISION_F32 };
    struct int8_samples samples = { 0 };
    struct backend *be = NULL;
    struct pipeline *p = NULL;
    memset(ret, 0, sizeof *ret);
    int r = backend_open(&options, &be, err);
    if (!r)
        r = pipeline_open(test_source("testing/golden/odd/model"), be, NULL, &p, err);
    if (!r)
        r = pipeline_load(p, NULL, err);
    if (!r)
        r = int8_samples_make(p, NULL, &samples, err);
    if (!r)
        r = int8_choose(p, &samples, budget, NULL, ret, err);
    int8_samples_release(&samples);
    pipeline_unref(p);
    backend_close(be);
    return r;
}

static void keeps_to_its_budget(void **state)
{
    (void)state;
#ifdef DR_SANITIZED
    skip(); /* minutes */
#endif
    struct int8_choice free_one, c;
    struct dr_error err = { 0 };
    assert_int_equal(choose(1, &free_one, &err), 0);
    assert_true(free_one.error > 0);
    double budget = free_one.error / 4;
    assert_int_equal(choose(budget, &c, &err), 0);
    assert_true(c.error > 0 && c.error <= budget);
    assert_true(c.parameters > 0 && c.parameters < free_one.parameters);
    int8_choice_release(&free_one);
    int8_choice_release(&c);
}

static void says_that_nothing_fits(void **state)
{
    (void)state;
#ifdef DR_SANITIZED
    skip(); /* minutes */
#endif
    struct int8_choice c;
    struct dr_error err = { 0 };
    assert_int_equal(choose(1e-9, &c, &err), DR_EUNSUPPORTED);
    assert_non_null(strstr(err.text, "none of its layers"));
    assert_int_equal(c.parameters, 0);
    int8_choice_release(&c);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(keeps_to_its_budget),
    cmocka_unit_test(says_that_nothing_fits),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
