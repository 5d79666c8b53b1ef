/* test_inference_recipe.c - a recipe is values for what a request leaves open; what is typed wins.
 * On the model of the golden vectors. */
#include "testing/helpers/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/device.h"
#include "base/json.h"
#include "core/communication/recipe.h"
#include "inference/job_plan.h"
#include "inference/recipe_apply.h"
#include "inference/sdxl_worker.h"
#include "schedulers/scheduler_factory.h"
#include "schedulers/schedules.h"

static struct backend *backend;
static struct pipeline *pipeline;

static void open_model(void)
{
    struct dr_error err = { 0 };
    struct backend_options options = { .kernels = "scalar", .threads = 1 };
    if (backend_open(&options, &backend, &err) ||
        pipeline_open(test_source("testing/golden/odd/model"), backend, NULL, &pipeline, &err)) {
        backend_close(backend);
        backend = NULL;
        fail_msg("%s", err.text);
    }
}

static void close_model(void)
{
    pipeline_unref(pipeline);
    backend_close(backend);
    pipeline = NULL;
    backend = NULL;
}

static int read_request(const char *json, struct request *q, struct dr_error *err)
{
    json_t *data;
    request_init(q);
    int r = jx_parse(json, strlen(json), NULL, "test", &data, err);
    if (r < 0)
        return r;
    r = request_parse(data, "", NULL, q, err);
    json_decref(data);
    return r ? r : recipe_apply(q, err);
}

/* Every row makes a job of the values that it states, without a negative where cfg is 1. */
static void every_recipe_makes_its_job(void **state)
{
    (void)state;
    const struct recipe *recipe;
    open_model();
    for (int i = 0; (recipe = recipe_at(i)); i++) {
        struct dr_error err = { 0 };
        struct request q;
        struct job job;
        char json[128];
        snprintf(json, sizeof json, "{\"prompt\":\"\",\"recipe\":\"%s\"}", recipe->name);
        if (read_request(json, &q, &err) || sdxl_job(&q, pipeline, &job, &err))
            fail_msg("%s: %s", recipe->name, err.text);
        double cfg = strtod(recipe->cfg, NULL);
        bool listed = job.sched.listed == SCHED_LISTED_TIMESTEPS;
        assert_string_equal(job.sched.sampler->name, recipe->sampler);
        assert_string_equal(job.sched.schedule->name, "normal");
        assert_int_equal(job.sched.steps, strtol(recipe->steps, NULL, 10));
        assert_int_equal(listed, *recipe->timesteps != '\0');
        assert_true(job.guidance_scale == cfg && job.prompt.guidance == (cfg > 1));
        if (*recipe->spacing)
            assert_string_equal(sched_spacing_name(job.sched.spacing), recipe->spacing);
        if (recipe->size)
            assert_true(job.width == recipe->size && job.height == recipe->size);
        /* the odd model is of SDXL's family and predicts epsilon */
        int r = recipe_check(&q, pipeline, &job, &err);
        bool unet = !strcmp(recipe->files, "unet"), lora = !strcmp(recipe->files, "lora");
        if (unet || lora) {
            assert_int_equal(r, DR_EINVAL);
            assert_non_null(strstr(err.text, "expected a file of the kind it is made for: "));
            enum field_id field = unet ? FIELD_unet : FIELD_loras;
            assert_int_equal(request_set_text(&q, field, "x.safetensors", NULL), 0);
            r = recipe_check(&q, pipeline, &job, &err);
        }
        assert_int_equal(r, strstr(recipe->families, "sdxl") ? 0 : DR_EINVAL);
        if (r)
            assert_non_null(strstr(err.text, "recipe: got sd-turbo, expected one for an SDXL"));
        job.sched.prediction = SCHED_V_PREDICTION;
        assert_int_equal(recipe_check(&q, pipeline, &job, &err), DR_EINVAL);
        job_release(&job);
        request_free(&q);
    }
    close_model();
}

/* The fields of a request after its recipe. */
static void what_is_given_wins(void **state)
{
    (void)state;
    static const struct {
        const char *given, *expected;
    } cases[] = {
        { "\"recipe\":\"DMD2 4\"", "\"guidance_scale\":1.0,\"sampler\":\"lcm\",\"timesteps\":"
                                   "[999.0,749.0,499.0,249.0]" },
        { "\"recipe\":\"dmd2-4\",\"steps\":8",
          "\"steps\":8,\"guidance_scale\":1.0,\"sampler\":\"lcm\",\"schedule\":\"normal\"" },
        { "\"recipe\":\"dmd2-4\",\"timesteps\":[999,500]",
          "\"guidance_scale\":1.0,\"sampler\":\"lcm\",\"timesteps\":[999.0,500.0]" },
        { "\"recipe\":\"dmd2-4\",\"schedule\":\"karras\",\"cfg\":1.5",
          "\"steps\":4,\"guidance_scale\":1.5,\"sampler\":\"lcm\",\"schedule\":\"karras\"" },
        { "\"recipe\":\"dmd2-4\",\"sampler\":\"euler\"",
          "\"guidance_scale\":1.0,\"sampler\":\"euler\",\"timesteps\":[999.0,749.0,499.0,249.0]" },
        { "\"recipe\":\"dmd2-4\",\"sampler\":\"ddim\"",
          "\"steps\":4,\"guidance_scale\":1.0,\"sampler\":\"ddim\",\"schedule\":\"normal\"" },
        { "\"recipe\":\"lightning-4\",\"sampler\":\"lcm\"",
          "\"steps\":4,\"guidance_scale\":1.0,\"sampler\":\"lcm\",\"schedule\":\"normal\"" },
        { "\"recipe\":\"lightning-4\",\"sampler\":\"DPM++ SDE Karras\"",
          "\"steps\":4,\"guidance_scale\":1.0,\"sampler\":\"DPM++ SDE Karras\",\"spacing\":"
          "\"trailing\"" },
        { "\"recipe\":\"lightning-4\",\"scheduler\":\"sgm_uniform\"",
          "\"steps\":4,\"guidance_scale\":1.0,\"sampler\":\"euler\",\"scheduler\":"
          "\"sgm_uniform\"" },
        { "\"recipe\":\"tcd\",\"sampler\":\"tcd,eta=1\"",
          "\"steps\":4,\"guidance_scale\":1.0,\"sampler\":\"tcd,eta=1\",\"schedule\":"
          "\"normal\"" },
        { "\"recipe\":\"tcd\",\"eta\":0.5",
          "\"steps\":4,\"guidance_scale\":1.0,\"sampler\":\"tcd\",\"schedule\":\"normal\","
          "\"eta\":0.5" },
        { "\"recipe\":\"turbo\",\"width\":256",
          "\"width\":256,\"steps\":4,\"guidance_scale\":1.0,\"sampler\":\"euler_a\",\"schedule\":"
          "\"normal\",\"spacing\":\"trailing\"" },
    };
    open_model();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dr_error err = { 0 };
        struct request q;
        struct job job;
        char json[256];
        snprintf(json, sizeof json, "{\"prompt\":\"\",%s}", cases[i].given);
        if (read_request(json, &q, &err) || sdxl_job(&q, pipeline, &job, &err))
            fail_msg("%s: %s", cases[i].given, err.text);
        json_t *after = request_json(&q), *expected;
        snprintf(json, sizeof json, "{%s}", cases[i].expected);
        assert_int_equal(jx_parse(json, strlen(json), NULL, "test", &expected, &err), 0);
        json_object_del(after, "prompt");
        json_object_del(after, "recipe");
        if (!json_equal(after, expected)) {
            struct buf text;
            buf_init(&text, DR_TAG_TEST, 0);
            assert_int_equal(jx_dump(after, &text), 0);
            fail_msg("%s: %s, expected %s", cases[i].given, buf_text(&text), json);
        }
        json_decref(after);
        json_decref(expected);
        job_release(&job);
        request_free(&q);
    }
    close_model();
}

static void refused(const char *json, const char *path, const char *words)
{
    struct dr_error err = { 0 };
    struct request q;
    struct job job;
    int r = read_request(json, &q, &err);
    if (!r && !(r = sdxl_job(&q, pipeline, &job, &err))) {
        struct memory_plan plan;
        struct memory_budget budget = { .limit = (size_t)1 << 40 };
        r = job_plan(pipeline, &job, &budget, NULL, &plan, &err);
        job_release(&job);
    }
    request_free(&q);
    if (r >= 0 || strcmp(err.path, path) || !strstr(err.text, words))
        fail_msg("%s: %d, path '%s': %s", json, r, err.path, err.text);
}

static void mistakes_name_the_field(void **state)
{
    (void)state;
    open_model();
    refused("{\"prompt\":\"\",\"recipe\":\"lightening-4\"}", "recipe", "nearest: lightning-4");
    refused("{\"prompt\":\"\",\"recipe\":\"lcm\",\"steps\":60}", "steps",
            "original_inference_steps");
    refused("{\"prompt\":\"\",\"timesteps\":[999,1],\"sampler\":\"ddim\"}", "timesteps",
            "ddim takes no list of them (samplers that do: euler, heun, dpmpp_2m, lcm, tcd)");
    refused("{\"prompt\":\"\",\"sigmas\":\"9,1\",\"sampler\":\"lcm\"}", "sigmas",
            "lcm takes no list of them");
    refused("{\"prompt\":\"\",\"timesteps\":[999,1],\"steps\":3}", "steps",
            "expected 2, as many as timesteps has");
    refused("{\"prompt\":\"\",\"timesteps\":[999,1],\"sigmas\":[2,1]}", "sigmas", "timesteps");
    refused("{\"prompt\":\"\",\"timesteps\":[999,1],\"schedule\":\"karras\"}", "schedule",
            "timesteps are listed");
    refused("{\"prompt\":\"\",\"timesteps\":[1,999]}", "timesteps", "falling");
    refused("{\"prompt\":\"\",\"timesteps\":[1000]}", "timesteps", "0 to 999");
    refused("{\"prompt\":\"\",\"timesteps\":[10.5],\"sampler\":\"tcd\"}", "timesteps", "integers");
    refused("{\"prompt\":\"\",\"timesteps\":[]}", "timesteps", "numbers");
    refused("{\"prompt\":\"\",\"timesteps\":\"9,,1\"}", "timesteps", "''");
    refused("{\"prompt\":\"\",\"timesteps\":\"0x10\"}", "timesteps", "'0x10'");
    refused("{\"prompt\":\"\",\"timesteps\":[9,\"1\"]}", "timesteps", "a string");
    refused("{\"prompt\":\"\",\"timesteps\":[1e999]}", "timesteps", "numbers");
    refused("{\"prompt\":\"\",\"sigmas\":[0]}", "sigmas", "above 0");
    refused("{\"prompt\":\"\",\"sigmas\":[2,0,0]}", "sigmas", "above 0");
    refused("{\"prompt\":\"\",\"sigmas\":[2,-1]}", "sigmas", "above 0");
    close_model();
}

/* What a job computes, by stage. */
static struct memory_plan planned(const char *json)
{
    struct dr_error err = { 0 };
    struct request q;
    struct job job;
    struct memory_plan plan = { .peak = 0 };
    struct memory_budget budget = { .limit = (size_t)1 << 40 };
    if (read_request(json, &q, &err) || sdxl_job(&q, pipeline, &job, &err) ||
        job_plan(pipeline, &job, &budget, NULL, &plan, &err))
        fail_msg("%s", err.text);
    job_release(&job);
    request_free(&q);
    return plan;
}

/* Without guidance nothing of the negative prompt is computed: not its text, not its keys and
 * values, not its rows; a text of two chunks would show in all of them. */
static void without_guidance_there_is_no_negative(void **state)
{
    (void)state;
    char json[1200], negative[800];
    open_model();
    for (int i = 0; i < 90; i++)
        snprintf(negative + 7 * i, sizeof negative - 7 * (size_t)i, "square ");
    struct memory_plan bare = planned("{\"prompt\":\"x\",\"cfg\":1,\"steps\":4}");
    snprintf(json, sizeof json,
             "{\"prompt\":\"x\",\"cfg\":1,\"steps\":4,\"negative_prompt\":\"%s\"}", negative);
    struct memory_plan with = planned(json);
    struct memory_plan guided = planned(
        "{\"prompt\":\"x\",\"cfg\":2,\"steps\":4,\"negative_prompt\":\"y\"}");
    for (int s = 0; s < STAGE_COUNT; s++) {
        assert_true(with.stage[s].flops == bare.stage[s].flops);
        assert_true(with.stage[s].workspace == bare.stage[s].workspace);
        assert_true(with.stage[s].kept == bare.stage[s].kept);
        if (s != STAGE_DECODE && s != STAGE_INIT_IMAGE)
            assert_true(guided.stage[s].flops > 1.9 * bare.stage[s].flops);
    }
    assert_true(bare.stage[STAGE_TEXT].flops > 0);
    assert_int_equal(with.rows, 1);
    close_model();
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(every_recipe_makes_its_job),
    cmocka_unit_test(what_is_given_wins),
    cmocka_unit_test(mistakes_name_the_field),
    cmocka_unit_test(without_guidance_there_is_no_negative),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
