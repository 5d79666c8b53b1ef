/* test_inference_samplers.c - sampler, schedule and scheduler as diffusers, AUTOMATIC1111 and
 * ComfyUI send them. */
#include "testing/helpers/test.h"

#include <stdio.h>
#include <string.h>

#include "inference/sampler_names.h"
#include "schedulers/scheduler_factory.h"

static int names_of(const char *json, struct request *q, const char **sampler,
                    const char **schedule, struct dr_error *err)
{
    json_t *data;
    int r = jx_parse(json, strlen(json), NULL, "test", &data, err);
    if (r < 0)
        return r;
    r = request_parse(data, "", NULL, q, err);
    json_decref(data);
    return r < 0 ? r : sampler_names(q, sampler, schedule, err);
}

static bool same(const char *a, const char *b)
{
    return !a == !b && (!a || !strcmp(a, b));
}

static void combinations_are_understood(void **state)
{
    (void)state;
    static const struct {
        const char *json, *sampler, *schedule;
    } cases[] = {
        { "{}", NULL, NULL },
        { "{\"scheduler\":\"EulerDiscreteScheduler\"}", "EulerDiscreteScheduler", NULL },
        { "{\"scheduler\":\"UniPCMultistep\"}", "UniPCMultistep", NULL },
        { "{\"scheduler\":\"euler_a\"}", "euler_a", NULL },
        { "{\"scheduler\":\"DPM++ 2M Karras\"}", "DPM++ 2M Karras", "karras" },
        { "{\"scheduler\":\"karras\"}", NULL, "karras" },
        { "{\"scheduler\":\"SGM Uniform\"}", NULL, "sgm_uniform" },
        { "{\"scheduler\":\"Automatic\"}", NULL, NULL },
        { "{\"scheduler\":\"karras\",\"schedule\":\"Karras\"}", NULL, "karras" },
        { "{\"scheduler\":\"EulerDiscreteScheduler\",\"schedule\":\"karras\"}",
          "EulerDiscreteScheduler", "karras" },
        { "{\"sampler_name\":\"DPM++ 2M\",\"scheduler\":\"Karras\"}", "DPM++ 2M", "karras" },
        { "{\"sampler_name\":\"DPM++ 2M\",\"scheduler\":\"Exponential\"}", "DPM++ 2M",
          "exponential" },
        { "{\"sampler_name\":\"Euler a\",\"scheduler\":\"SGM Uniform\"}", "Euler a",
          "sgm_uniform" },
        { "{\"sampler_name\":\"Euler a\",\"scheduler\":\"Uniform\"}", "Euler a", "normal" },
        { "{\"sampler_name\":\"DPM++ 2M Karras\",\"scheduler\":\"Automatic\"}", "DPM++ 2M Karras",
          NULL },
        { "{\"sampler_name\":\"DPM++ 2M Karras\",\"scheduler\":\"karras\"}", "DPM++ 2M Karras",
          "karras" },
        { "{\"sampler_name\":\"dpmpp_2m\",\"scheduler\":\"karras\"}", "dpmpp_2m", "karras" },
        { "{\"sampler_name\":\"euler_ancestral\",\"scheduler\":\"normal\"}", "euler_ancestral",
          "normal" },
        { "{\"sampler_name\":\"uni_pc\",\"scheduler\":\"sgm_uniform\"}", "uni_pc", "sgm_uniform" },
        { "{\"sampler\":\"k_euler\",\"scheduler\":\"exponential\"}", "k_euler", "exponential" },
        { "{\"sampler\":\"euler\",\"scheduler\":\"EulerDiscreteScheduler\"}", "euler", NULL },
        { "{\"sampler\":\"dpmpp_2m\",\"scheduler\":\"DPM++ 2M Karras\"}", "dpmpp_2m", "karras" },
        { "{\"scheduler\":null,\"sampler_name\":\"Euler\"}", "Euler", NULL },
        /* a receipt's, which give way to what is asked for and to what that brings */
        { "{\"receipt_sampler\":\"ddim\",\"receipt_schedule\":\"normal\",\"sampler\":"
          "\"DPM++ SDE Karras\"}",
          "DPM++ SDE Karras", NULL },
        { "{\"receipt_sampler\":\"ddim\",\"receipt_schedule\":\"karras\",\"sampler\":\"euler\"}",
          "euler", "karras" },
        { "{\"receipt_sampler\":\"ddim,eta=0.5\",\"receipt_schedule\":\"normal\","
          "\"scheduler\":\"karras\"}",
          "ddim,eta=0.5", "karras" },
        { "{\"receipt_sampler\":\"ddim\",\"receipt_schedule\":\"normal\",\"scheduler\":"
          "\"DPM++ 2M Karras\"}",
          "DPM++ 2M Karras", "karras" },
        { "{\"receipt_sampler\":\"ddim\",\"schedule\":\"normal\",\"sampler\":\"euler\"}", "euler",
          "normal" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct request q;
        struct dr_error err = { 0 };
        const char *sampler = "", *schedule = "";
        int r = names_of(cases[i].json, &q, &sampler, &schedule, &err);
        if (r || !same(sampler, cases[i].sampler) || !same(schedule, cases[i].schedule))
            fail_msg("%s: %s, %s (%s)", cases[i].json, sampler ? sampler : "none",
                     schedule ? schedule : "none", err.text);
        request_free(&q);
    }
}

static void contradictions_and_strangers_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *json, *words;
    } cases[] = {
        { "{\"sampler_name\":\"DPM++ 2M Karras\",\"scheduler\":\"Exponential\"}",
          "scheduler: Exponential contradicts sampler DPM++ 2M Karras" },
        { "{\"sampler\":\"euler\",\"scheduler\":\"UniPCMultistepScheduler\"}",
          "contradicts sampler euler" },
        { "{\"sampler\":\"euler\",\"schedule\":\"normal\",\"scheduler\":\"karras\"}",
          "contradicts schedule normal" },
        { "{\"schedule\":\"normal\",\"scheduler\":\"karras\"}", "contradicts schedule normal" },
        { "{\"schedule\":\"normal\",\"scheduler\":\"DPM++ 2M Karras\"}", "schedule normal" },
        { "{\"sampler_name\":\"euler\",\"scheduler\":\"no_such_one\"}",
          "scheduler: got no_such_one, expected a noise schedule: normal, karras" },
        { "{\"sampler_name\":\"euler\",\"scheduler\":\"made_up_name\"}",
          "expected a noise schedule" },
        { "{\"scheduler\":\"karas\"}", "(nearest: karras)" },
        { "{\"scheduler\":\"nothing at all\"}", "or a sampler: euler" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct request q;
        struct dr_error err = { 0 };
        const char *sampler, *schedule;
        int r = names_of(cases[i].json, &q, &sampler, &schedule, &err);
        if (r != DR_EINVAL || strcmp(err.path, "scheduler") || !strstr(err.text, cases[i].words))
            fail_msg("%s: %d, %s", cases[i].json, r, err.text);
        request_free(&q);
    }
}

/* What is asked for wins; a receipt's that was its sampler's default does not. */
static void guidance_follows_the_sampler(void **state)
{
    (void)state;
    static const struct {
        const char *json, *sampler;
        double scale;
    } cases[] = {
        { "{}", "euler", 5 },
        { "{}", "euler_cfg_pp", 1 },
        { "{\"cfg\":3}", "euler_cfg_pp", 3 },
        { "{\"receipt_sampler\":\"euler_cfg_pp\",\"receipt_guidance_scale\":1}", "euler", 5 },
        { "{\"receipt_sampler\":\"euler_cfg_pp\",\"receipt_guidance_scale\":1.5}", "euler", 1.5 },
        { "{\"receipt_sampler\":\"euler_cfg_pp\",\"receipt_guidance_scale\":1,\"cfg\":1}", "euler",
          1 },
        { "{\"receipt_sampler\":\"euler\",\"receipt_guidance_scale\":5}", "euler_cfg_pp", 1 },
        { "{\"receipt_sampler\":\"euler\",\"receipt_guidance_scale\":1}", "ddim", 1 },
        { "{\"receipt_sampler\":\"dpmpp_sde,r=0.4\",\"receipt_guidance_scale\":7}", "ddim", 7 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct request q;
        struct dr_error err = { 0 };
        const char *sampler, *schedule;
        assert_int_equal(names_of(cases[i].json, &q, &sampler, &schedule, &err), 0);
        double scale = sampler_guidance_scale(&q, sched_find(cases[i].sampler, NULL), 0);
        if (scale != cases[i].scale)
            fail_msg("%s, %s: %g", cases[i].json, cases[i].sampler, scale);
        request_free(&q);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(guidance_follows_the_sampler),
    cmocka_unit_test(combinations_are_understood),
    cmocka_unit_test(contradictions_and_strangers_are_refused),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
