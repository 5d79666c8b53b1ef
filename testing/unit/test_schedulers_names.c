/* test_schedulers_names.c - what samplers and schedules are called: by us, and by the programs
 * whose names people know. */
#include "testing/helpers/test.h"

#include <string.h>

#include "schedulers/scheduler_factory.h"
#include "schedulers/schedules.h"
#include "schedulers/names.h"

static int count_owners(const char *name)
{
    size_t n;
    const struct sched_info *const *samplers = sched_all(&n);
    int owners = 0;
    for (size_t i = 0; i < n; i++) {
        bool has = false;
        for (size_t k = 0; sched_spelling(samplers[i], k); k++)
            has = has || sched_same_name(name, sched_spelling(samplers[i], k));
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
        const char *own;
        for (size_t k = 0; (own = sched_spelling(samplers[i], k)); k++) {
            if (sched_find(own, NULL) != samplers[i] || count_owners(own) != 1)
                fail_msg("\"%s\" of %s is a name of another sampler", own, samplers[i]->name);
        }
    }
    size_t n_schedules;
    const struct schedule_info *const *schedules = schedule_all(&n_schedules);
    for (size_t i = 0; i < n_schedules; i++) {
        assert_true(schedule_find(schedules[i]->name) == schedules[i]);
        assert_true(schedule_find(schedule_title(schedules[i])) == schedules[i]);
        for (const char *const *a = schedules[i]->aliases; a && *a; a++)
            assert_true(schedule_find(*a) == schedules[i]);
    }
}

/* "DPM++ 2M; also DPM++ 2M": an alias that is another spelling of this sampler already. Case,
 * spaces, '-' and '_' do not make another. */
static void check_aliases(const char *owner, const char *name, const char *title,
                          const char *diffusers, const char *const *aliases)
{
    for (const char *const *a = aliases; a && *a; a++) {
        const char *others[] = { name, title, diffusers };
        for (int k = 0; k < 3; k++) {
            if (others[k] && sched_same_name(*a, others[k]))
                fail_msg("%s: alias \"%s\" repeats \"%s\"", owner, *a, others[k]);
        }
        for (const char *const *b = aliases; b < a; b++) {
            if (sched_same_name(*a, *b))
                fail_msg("%s: alias \"%s\" repeats \"%s\"", owner, *a, *b);
        }
    }
}

static void no_alias_repeats_a_name(void **state)
{
    (void)state;
    size_t n, n_schedules;
    const struct sched_info *const *samplers = sched_all(&n);
    const struct schedule_info *const *schedules = schedule_all(&n_schedules);
    for (size_t i = 0; i < n; i++)
        check_aliases(samplers[i]->name, samplers[i]->name, samplers[i]->title,
                      samplers[i]->diffusers, samplers[i]->aliases);
    for (size_t i = 0; i < n_schedules; i++)
        check_aliases(schedules[i]->name, schedules[i]->name, schedules[i]->title, NULL,
                      schedules[i]->aliases);
}

static void names_of_later_are_told(void **state)
{
    (void)state;
    static const char words[] = "is not supported by darkroom yet";
    const struct sched_info *sampler;
    const struct schedule_info *schedule = NULL;
    struct dr_error err = { 0 };
    assert_int_equal(sched_lookup("sampler", "Restart Karras", &sampler, &schedule, &err),
                     DR_EINVAL);
    assert_non_null(strstr(err.text, words));
    assert_int_equal(sched_lookup("sampler", "eulre", &sampler, &schedule, &err), DR_EINVAL);
    assert_null(strstr(err.text, words));
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
        { "DPM++ 2M Karras Exponential", "dpmpp_2m", "karras_exponential" },
        { "DPM++ 2M Align Your Steps", "dpmpp_2m", "align_your_steps" },
        { "DPM++ 2M AYS GITS", "dpmpp_2m", "align_your_steps_gits" },
        { "Euler a Beta", "euler_a", "beta" },
        { "Euler Automatic", "euler", "automatic" },
        { "UniPC Uniform", "unipc", "normal" },
        { "uni_pc", "unipc", NULL },
        { "uni_pc_bh2", "unipc", NULL },
        { "UniPC", "unipc", NULL },
        { "DPM++ 2M SDE", "dpmpp_2m_sde", NULL },
        { "dpmpp_2m_sde_gpu", NULL, NULL },
        { "DPM++ 2M SDE Exponential", "dpmpp_2m_sde", "exponential" },
        { "DPM++ 2M SDE Heun", "dpmpp_2m_sde_heun", NULL },
        { "DPM++ 2M SDE Heun Karras", "dpmpp_2m_sde_heun", "karras" },
        { "dpmpp_2m_sde_heun_gpu", NULL, NULL },
        { "DPM++ 3M SDE Exponential", "dpmpp_3m_sde", "exponential" },
        { "DPM2", "dpm2", NULL },
        { "dpm_2", "dpm2", NULL },
        { "k_dpm_2", "dpm2", NULL },
        { "k_dpm_2_a", "dpm2_a", NULL },
        { "dpm_2_ancestral", "dpm2_a", NULL },
        { "DPM2 a Karras", "dpm2_a", "karras" },
        { "heunpp2", "heunpp2", NULL },
        { "DEIS", "deis", NULL },
        { "IPNDM", "ipndm", NULL },
        { "IPNDM_V", "ipndm_v", NULL },
        { "DPM++ 2M v2", "dpmpp_2m_v2", NULL },
        { "dpm++2mv2", "dpmpp_2m_v2", NULL },
        { "dpm++2s_a", "dpmpp_2s_a", NULL },
        { "dpm++2m_sde", "dpmpp_2m_sde", NULL },
        { "res_multistep_ancestral", "res_multistep_a", NULL },
        { "res_multistep_ancestral_cfg_pp", "res_multistep_a_cfg_pp", NULL },
        { "euler_ge", "gradient_estimation", NULL },
        { "euler_ancestral_cfg_pp", "euler_a_cfg_pp", NULL },
        { "dpmpp_2s_ancestral_cfg_pp", "dpmpp_2s_a_cfg_pp", NULL },
        { "exp_heun_2_x0_sde", "exp_heun_2_x0_sde", NULL },
        { "DPM++ SDE", "dpmpp_sde", NULL },
        { "k_dpmpp_sde", "dpmpp_sde", NULL },
        { "DPM++ SDE Karras", "dpmpp_sde", "karras" },
        { "DPM++ 2S a", "dpmpp_2s_a", NULL },
        { "k_dpmpp_2s_a", "dpmpp_2s_a", NULL },
        { "dpmpp_2s_ancestral", "dpmpp_2s_a", NULL },
        { "DPM++ 2S a Karras", "dpmpp_2s_a", "karras" },
        { "DPM adaptive", "dpm_adaptive", NULL },
        { "k_dpm_ad", NULL, NULL },
        { "euler_cfg_pp", "euler_cfg_pp", NULL },
        { "Euler CFG++", "euler_cfg_pp", NULL },
        { "LCM", "lcm", NULL },
        { "k_lcm", "lcm", NULL },
        { "LCMScheduler", "lcm", NULL },
        { "LCM SGM Uniform", "lcm", "sgm_uniform" },
        { "TCD", "tcd", NULL },
        { "TCDScheduler", "tcd", NULL },
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
    cmocka_unit_test(no_alias_repeats_a_name),
    cmocka_unit_test(names_of_later_are_told),
    cmocka_unit_test(names_of_peers_are_known),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
