/* test_schedulers_options.c - what a sampler can be given: spelled after its name, checked against
 * its own table. */
#include "testing/helpers/sched_access.h"
#include "testing/helpers/test.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "schedulers/scheduler_manager.h"
#include "schedulers/scheduler_options.h"

static int configure(const char *sampler, double eta, struct sched_config *ret,
                     struct dr_error *err)
{
    struct sched_request request = { .sampler = sampler, .eta = eta, .steps = 8 };
    memset(err, 0, sizeof *err);
    return sched_configure_text(NULL, 0, &request, ret, err);
}

static double value(const char *sampler, double eta, const char *name)
{
    struct sched_config c;
    struct dr_error err;
    if (configure(sampler, eta, &c, &err))
        fail_msg("%s: %s", sampler, err.text);
    int row = sched_option_row(c.sampler, name);
    assert_true(row >= 0);
    return c.option[row];
}

static void values_follow_the_name(void **state)
{
    (void)state;
    assert_true(value("dpmpp_sde", NAN, "r") == 0.5);
    assert_true(value("dpmpp_sde,r=0.25", NAN, "r") == 0.25);
    assert_true(value("dpmpp_sde,r=0.25,eta=.5", NAN, "eta") == 0.5);
    assert_true(value("DPM++ SDE Karras,s_noise=1.003", NAN, "s_noise") == 1.003);
    assert_true(value("dpm_adaptive,order=2,rtol=1e-3", NAN, "rtol") == 0.001);
    assert_true(value("euler_a,eta=0", NAN, "eta") == 0);
    assert_true(value("ddim,eta=0.4", 0.4, "eta") == 0.4); /* both say the same */
    assert_true(value("dpmpp_sde", 0.4, "eta") == 0.4);
}

static void faults_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *sampler;
        double eta;
        const char *path, *text;
    } cases[] = {
        { "dpmpp_sde,s_nois=1", NAN, "sampler.s_nois",
          "has no option s_nois (nearest: s_noise; it has eta, s_noise, r)" },
        { "dpm_adaptive,rtoll=1", NAN, "sampler.rtoll", "nearest: rtol" },
        { "euler,eta=1", NAN, "sampler.eta", "euler has no option eta (it has none)" },
        { "dpmpp_sde,x=1", NAN, "sampler.x", "dpmpp_sde has no option x (it has eta, s_noise, r)" },
        { "dpmpp_sde,r=2", NAN, "sampler.r", "got 2, expected a number from 0.01 to 1" },
        { "dpmpp_sde,eta=-0.1", NAN, "sampler.eta", "expected a number from 0 to 1" },
        { "dpmpp_sde,eta=nan", NAN, "sampler.eta", "got nan" },
        { "dpmpp_sde,eta=0x1", NAN, "sampler.eta", "got 0x1" },
        { "dpmpp_sde,eta=", NAN, "sampler.eta", "expected a number" },
        { "dpm_adaptive,order=2.5", NAN, "sampler.order", "expected an integer from 2 to 3" },
        { "dpmpp_sde,r", NAN, "sampler", "expected key=value after a comma" },
        { "dpmpp_sde,", NAN, "sampler", "expected key=value after a comma" },
        { "dpmpp_sde,=1", NAN, "sampler", "expected key=value after a comma" },
        { "dpmpp_sde,r=0.5,r=0.5", NAN, "sampler.r", "each option once" },
        { "dpmpp_sde,eta=0.5", 0.25, "eta", "got 0.25, expected 0.5, as sampler.eta says" },
        { "dpmpp_sd,r=0.5", NAN, "sampler", "nearest: dpmpp_sde" },
        { "dpmpp_sde,,r=0.5", NAN, "sampler", "got dpmpp_sde,r=0.5" }, /* a comma of the name */
        { "euler", 0.5, "eta", "eta: not used by euler (samplers that take it: euler_a, ddim" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sched_config c = { .steps = -7 };
        struct dr_error err;
        int r = configure(cases[i].sampler, cases[i].eta, &c, &err);
        if (r != DR_EINVAL || strcmp(err.path, cases[i].path) || !strstr(err.text, cases[i].text))
            fail_msg("%s: %d %s: %s", cases[i].sampler, r, err.path, err.text);
        assert_int_equal(c.steps, -7);
    }
}

/* Every sampler's own table: its ends are taken, what lies beyond is not. */
static void every_option_has_its_range(void **state)
{
    (void)state;
    size_t n;
    const struct sched_info *const *all = sched_all(&n);
    int options = 0;
    for (size_t i = 0; i < n; i++) {
        for (int k = 0; k < sched_option_count(all[i]); k++, options++) {
            const struct sched_option *o = &all[i]->options[k];
            const double ends[] = { o->lo, o->hi, o->lo - 0.001, o->hi + 0.001 };
            for (int e = 0; e < 4; e++) {
                struct sched_config c;
                struct dr_error err;
                char text[96];
                snprintf(text, sizeof text, "%s,%s=%.17g", all[i]->name, o->name, ends[e]);
                if (o->names) /* by its name alone: no number, no other word */
                    snprintf(text, sizeof text, "%s,%s=%s", all[i]->name, o->name,
                             e < 2    ? o->names[(int)ends[e]]
                             : e == 2 ? "0"
                                      : "other");
                int r = configure(text, NAN, &c, &err);
                if (e < 2 ? r || c.option[k] != ends[e] : r != DR_EINVAL)
                    fail_msg("%s: %d %s", text, r, err.text);
            }
        }
    }
    assert_true(options >= 16);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(values_follow_the_name),
    cmocka_unit_test(faults_are_named),
    cmocka_unit_test(every_option_has_its_range),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
