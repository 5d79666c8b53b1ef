/* test_schedulers_names.c - what samplers and schedules are called: by us, and by the programs
 * whose names people know. */
#include "testing/helpers/test.h"

#include "schedulers/scheduler_factory.h"
#include "schedulers/schedules.h"

static int count_owners(const char *name)
{
    size_t n;
    const struct sched_info *const *samplers = sched_all(&n);
    int owners = 0;
    for (size_t i = 0; i < n; i++) {
        bool has = sched_same_name(name, samplers[i]->name) ||
                   sched_same_name(name, samplers[i]->title) ||
                   sched_same_name(name, samplers[i]->diffusers);
        for (const char *const *alias = samplers[i]->aliases; *alias; alias++)
            has = has || sched_same_name(name, *alias);
        owners += has;
    }
    return owners;
}

static void every_name_finds_one_sampler(void **state)
{
    (void)state;
    size_t n;
    const struct sched_info *const *samplers = sched_all(&n);
    for (size_t i = 0; i < n; i++) {
        const char *own[] = { samplers[i]->name, samplers[i]->title, samplers[i]->diffusers };
        for (int k = 0; k < 3; k++) {
            assert_true(sched_find(own[k], NULL) == samplers[i]);
            assert_int_equal(count_owners(own[k]), 1);
        }
        for (const char *const *alias = samplers[i]->aliases; *alias; alias++) {
            assert_true(sched_find(*alias, NULL) == samplers[i]);
            assert_int_equal(count_owners(*alias), 1);
        }
    }
    size_t n_schedules;
    const struct schedule_info *const *schedules = schedule_all(&n_schedules);
    for (size_t i = 0; i < n_schedules; i++) {
        assert_true(schedule_find(schedules[i]->name) == schedules[i]);
        assert_true(schedule_find(schedules[i]->title) == schedules[i]);
        for (const char *const *alias = schedules[i]->aliases; *alias; alias++)
            assert_true(schedule_find(*alias) == schedules[i]);
    }
}

static void names_of_peers_are_known(void **state)
{
    (void)state;
    static const struct {
        const char *name, *sampler, *schedule;
    } cases[] = {
        { "Euler a", "euler_a", NULL },
        { "euler_ancestral", "euler_a", NULL },
        { "EulerAncestralDiscrete", "euler_a", NULL },
        { "k_euler_a", "euler_a", NULL },
        { "k_euler", "euler", NULL },
        { "EulerDiscreteScheduler", "euler", NULL },
        { "Heun", "heun", NULL },
        { "LMS", "lms", NULL },
        { "DDIM", "ddim", NULL },
        { "DPM++ 2M", "dpmpp_2m", NULL },
        { "dpm++2m", "dpmpp_2m", NULL },
        { "DPMSolverMultistep", "dpmpp_2m", NULL },
        { "k_dpmpp_2m", "dpmpp_2m", NULL },
        { "DPM++ 2M Karras", "dpmpp_2m", "karras" },
        { "Euler SGM Uniform", "euler", "sgm_uniform" },
        { "uni_pc", "unipc", NULL },
        { "uni_pc_bh2", "unipc", NULL },
        { "UniPC", "unipc", NULL },
        { "DPM++ 2M SDE", NULL, NULL },
        { "dpmpp_2m_sde", NULL, NULL },
        { "karras", NULL, NULL },
        { "", NULL, NULL },
        { "k_", NULL, NULL },
        { "Euler a really very long name that goes on and on and on and on, and on", NULL, NULL },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct schedule_info *schedule = NULL;
        const struct sched_info *info = sched_find(cases[i].name, &schedule);
        if (!cases[i].sampler) {
            assert_null(info);
            continue;
        }
        if (!info)
            fail_msg("%s is unknown", cases[i].name);
        assert_string_equal(info->name, cases[i].sampler);
        assert_string_equal(schedule ? schedule->name : "none",
                            cases[i].schedule ? cases[i].schedule : "none");
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(every_name_finds_one_sampler),
    cmocka_unit_test(names_of_peers_are_known),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
