/* test_inference_guiders.c - each guider against the vectors of tools/golden/guiders.py, and how
 * they are read, combined and refused. */
#include "testing/helpers/test.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "inference/guidance.h"
#include "inference/guiders/guiders.h"
#include "models/unet.h"
#include "schedulers/scheduler_manager.h"
#include "testing/helpers/base_files.h"
#include "testing/helpers/sched_access.h"

enum { STEPS = 6, H = 5, W = 7, N = 4 * H * W, MEMORY = 8 };

static void request_of(const char *const *options, struct request *q)
{
    struct dr_error err = { 0 };
    request_init(q);
    for (; *options; options++)
        if (request_set_text(q, FIELD_guidance, *options, &err))
            fail_msg("%s", err.text);
}

static void read_list(const char *const *options, struct guiders *ret)
{
    struct dr_error err = { 0 };
    struct request q;
    request_of(options, &q);
    int r = guiders_read(&q, ret, &err);
    request_free(&q);
    if (r)
        fail_msg("%s", err.text);
}

static void read_one(const char *option, struct guiders *ret)
{
    const char *options[2] = { *option ? option : NULL };
    read_list(options, ret);
}

static struct npy array(const char *name)
{
    char path[128];
    struct dr_error err = { 0 };
    struct npy a;
    snprintf(path, sizeof path, "testing/golden/guiders/%s.npy", name);
    if (npy_load(test_source(path), &a, &err))
        fail_msg("%s", err.text);
    assert_int_equal(a.count, STEPS * N);
    return a;
}

static double distance(const float *a, const float *b)
{
    double sum = 0, all = 0;
    for (int i = 0; i < N; i++) {
        sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        all += (double)b[i] * b[i];
    }
    return all > 0 ? sqrt(sum / all) : sqrt(sum);
}

/* The guided predictions of a run: predictions of both rows, the model predicts noise. */
static void run(const struct guidance *g, const double *sigmas, float ret[STEPS][N])
{
    struct npy x = array("x"), positive = array("positive"), negative = array("negative");
    static float memory[MEMORY][N];
    float predictions[2 * N];
    memset(memory, 0, sizeof memory);
    assert_true(guidance_memory(g) <= MEMORY);
    for (int step = 0; step < STEPS; step++) {
        size_t at = (size_t)step * N;
        double s = sigmas[step], root = sqrt(s * s + 1);
        struct sched_ask ask = { (float *)x.data + at, 999 - step, s, step, STEPS, step, STEPS, 0 };
        struct unet_row rows[2];
        int n = guidance_expand(g, &ask, predictions, N, rows);
        memcpy(predictions + (n - 1) * N, (float *)positive.data + at, N * sizeof(float));
        if (n == 2)
            memcpy(predictions, (float *)negative.data + at, N * sizeof(float));
        guidance_combine(g,
                         &(struct guidance_at){ .ask = &ask,
                                                .predictions = predictions,
                                                .n = N,
                                                .channels = 4,
                                                .clean = { root, -s },
                                                .memory = memory[0] },
                         ret[step]);
        guidance_advance(g, N, memory[0]);
    }
    npy_free(&x);
    npy_free(&positive);
    npy_free(&negative);
}

static void agrees_with_the_reference(void **state)
{
    (void)state;
    struct dr_error err = { 0 };
    json_t *file;
    double sigmas[STEPS], worst = 0;
    if (jx_parse_file(test_source("testing/golden/guiders/cases.json"), NULL, &file, &err))
        fail_msg("%s", err.text);
    for (size_t i = 0; i < STEPS; i++)
        sigmas[i] = json_number_value(json_array_get(json_object_get(file, "sigmas"), i));
    json_t *cases = json_object_get(file, "cases"), *one;
    size_t i;
    assert_true(json_array_size(cases) >= 12);
    json_array_foreach(cases, i, one)
    {
        const char *name = json_string_value(json_object_get(one, "name"));
        struct guiders list;
        static float got[STEPS][N];
        read_one(json_string_value(json_object_get(one, "guidance")), &list);
        struct guidance g = { .scale = json_number_value(json_object_get(file, "scale")),
                              .rescale = json_number_value(json_object_get(one, "rescale")),
                              .guiders = list.n ? &list : NULL };
        run(&g, sigmas, got);
        struct npy expected = array(name);
        for (int step = 0; step < STEPS; step++) {
            double d = distance(got[step], (float *)expected.data + (size_t)step * N);
            worst = d > worst ? d : worst;
            if (!(d <= 1e-6))
                fail_msg("%s, step %d: relative distance %.2g", name, step, d);
        }
        npy_free(&expected);
    }
    print_message("largest relative distance from the references: %.2g\n", worst);
    json_decref(file);
}

static double scale_at(const char *option, int step, int steps)
{
    struct guiders list;
    read_one(option, &list);
    double scale = 5;
    struct sched_ask ask = { .step = step, .steps = steps };
    list.item[0].info->scale(&list.item[0], &ask, &scale);
    return scale;
}

static void scale_follows_the_points(void **state)
{
    (void)state;
    static const char points[] = "schedule,points=0.1:1;0.5:9;1:5";
    assert_true(scale_at(points, 0, 10) == 1);
    assert_true(scale_at(points, 1, 10) == 1);
    assert_true(fabs(scale_at(points, 3, 10) - 5) < 1e-12);
    assert_true(scale_at(points, 5, 10) == 9);
    assert_true(fabs(scale_at(points, 9, 10) - 5.8) < 1e-12);
    assert_true(scale_at(points, 0, 0) == 9); /* the most of an unknown number of steps */
    assert_true(scale_at("schedule,points=0:3,start=0.5", 4, 10) == 5);
    assert_true(scale_at("schedule,points=0:3,start=0.5", 5, 10) == 3);
}

/* Steps without guidance have one row, and a plan counts two. */
static void rows_follow_the_interval(void **state)
{
    (void)state;
    static const int expected[10] = { 1, 1, 2, 2, 2, 2, 1, 1, 1, 1 };
    struct guiders list;
    struct unet_row rows[2];
    float predictions[2], x[1] = { 0 };
    read_one("interval,start=0.2,end=0.6", &list);
    struct guidance g = { .scale = 5, .guiders = &list };
    for (int step = 0; step < 10; step++) {
        struct sched_ask ask = { .x = x, .step = step, .steps = 10 };
        assert_int_equal(guidance_expand(&g, &ask, predictions, 1, rows), expected[step]);
    }
    assert_int_equal(guidance_rows(&g), 2);
    assert_int_equal(guidance_expand(&g, &(struct sched_ask){ .x = x }, predictions, 1, rows), 2);
    g.uncond = true; /* the sampler needs the row in any case */
    assert_int_equal(
        guidance_expand(&g, &(struct sched_ask){ .x = x, .steps = 10 }, predictions, 1, rows), 2);
}

/* The momentum that a step leaves is that of the step only when the step was made. */
static void state_moves_with_the_step(void **state)
{
    (void)state;
    struct guiders list;
    static float memory[MEMORY][N], before[N];
    float predictions[2 * N], once[N], twice[N], x[N] = { 0 };
    read_one("apg,momentum=0.5,norm=0", &list);
    struct guidance g = { .scale = 4, .guiders = &list };
    struct sched_ask ask = { .x = x, .steps = 3 };
    assert_int_equal(guidance_state(&g), 1);
    for (int i = 0; i < 2 * N; i++)
        predictions[i] = (float)(i % 13) - (float)(i % 5);
    struct guidance_at at = { &ask, predictions, N, 4, { 1, 1 }, memory[0] };
    guidance_combine(&g, &at, once);
    guidance_combine(&g, &at, twice); /* asked again */
    assert_memory_equal(once, twice, sizeof once);
    guidance_advance(&g, N, memory[0]);
    memcpy(before, memory[0], sizeof before);
    guidance_combine(&g, &at, twice);
    assert_memory_not_equal(once, twice, sizeof once);
    assert_memory_equal(memory[0], before, sizeof before);
}

static void refuse(const char *const *options, const char *text)
{
    struct dr_error err = { 0 };
    struct guiders list;
    struct request q;
    request_of(options, &q);
    assert_int_equal(guiders_read(&q, &list, &err), DR_EINVAL);
    if (!strstr(err.text, text))
        fail_msg("got \"%s\", expected \"%s\" in it", err.text, text);
    request_free(&q);
}

static void what_makes_no_sense_is_refused(void **state)
{
    (void)state;
    refuse((const char *[]){ "agp", NULL }, "nearest: apg");
    refuse((const char *[]){ "apg,alpha=1", NULL }, "apg has no key alpha");
    refuse((const char *[]){ "apg", "apg,eta=1", NULL }, "each guider once");
    refuse((const char *[]){ "apg", "mambo", NULL }, "both replace the formula");
    refuse((const char *[]){ "interval,start=0.5,end=0.5", NULL }, "more than start");
    refuse((const char *[]){ "schedule", NULL }, "guidance[0].points");
    refuse((const char *[]){ "schedule,points=0:1;0:2", NULL }, "FRACTION:SCALE");
    refuse((const char *[]){ "schedule,points=0:1;0.5", NULL }, "FRACTION:SCALE");
    refuse((const char *[]){ "schedule,points=0:nan", NULL }, "FRACTION:SCALE");
}

static int check(const char *option, const char *sampler, int steps, bool on, struct dr_error *err)
{
    struct guiders list;
    struct sched_config config;
    struct sched_request request = { .sampler = sampler, .steps = steps };
    read_one(option, &list);
    assert_int_equal(sched_configure_text(NULL, 0, &request, &config, err), 0);
    return guiders_check(&list, &config, 0, on, err);
}

static void what_cannot_act_is_refused(void **state)
{
    (void)state;
    struct dr_error err = { 0 };
    assert_int_equal(check("interval,start=0.2", "euler", 10, true, &err), 0);
    assert_int_equal(check("interval,start=0.2,end=0.21", "euler", 10, true, &err), DR_EINVAL);
    assert_non_null(strstr(err.text, "some of the 10 steps"));
    assert_int_equal(check("apg", "euler", 10, false, &err), DR_EINVAL);
    assert_non_null(strstr(err.text, "nothing to act on"));
    assert_int_equal(check("apg", "dpm_adaptive", 10, true, &err), 0);
    assert_int_equal(check("apg,end=0.5", "dpm_adaptive", 10, true, &err), DR_EINVAL);
    assert_non_null(strstr(err.text, "decides while it runs"));
}

/* Every option is a key of the field, and what a receipt says reads as the same list. */
static void receipts_read_back(void **state)
{
    (void)state;
    const struct guider_info *info;
    for (int i = 0; (info = guider_at_line(i)); i++) {
        struct dr_error err = { 0 };
        struct guiders list, again;
        struct request q;
        read_one(strcmp(info->name, "schedule") ? info->name : "schedule,points=0:2;1:5", &list);
        json_t *data = json_pack("{s:o}", "guidance", guiders_json(&list));
        if (request_parse(data, "data", NULL, &q, &err) || guiders_read(&q, &again, &err))
            fail_msg("%s: %s", info->name, err.text);
        assert_int_equal(again.n, 1);
        assert_ptr_equal(again.item[0].info, info);
        assert_memory_equal(again.item[0].option, list.item[0].option, sizeof list.item[0].option);
        assert_string_equal(again.item[0].text, list.item[0].text);
        request_free(&q);
        json_decref(data);
    }
}

/* Whatever the order in which they are asked for. */
static void order_is_the_table_s(void **state)
{
    (void)state;
    struct guiders list;
    read_list((const char *[]){ "cfg_norm", "apg", "tcfg", "interval,end=0.5", NULL }, &list);
    assert_int_equal(list.n, 4);
    assert_string_equal(guider_at_line(0)->name, "interval");
    for (int i = 0; i < list.n; i++)
        assert_ptr_equal(list.item[i].info,
                         guider_find((const char *[]){ "interval", "tcfg", "apg", "cfg_norm" }[i]));
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_the_reference),
        cmocka_unit_test(scale_follows_the_points),
        cmocka_unit_test(rows_follow_the_interval),
        cmocka_unit_test(state_moves_with_the_step),
        cmocka_unit_test(what_makes_no_sense_is_refused),
        cmocka_unit_test(what_cannot_act_is_refused),
        cmocka_unit_test(receipts_read_back),
        cmocka_unit_test(order_is_the_table_s),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
