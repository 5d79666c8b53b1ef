/* test_inference_presets.c - what the conventions of other programs decide where a request leaves
 * something open, and that a picture with them is drawn again from its receipt. */
#include "testing/helpers/test.h"

#include <math.h>
#include <string.h>

#include "backend/device.h"
#include "base/json.h"
#include "inference/denoise.h"
#include "inference/preset.h"
#include "inference/receipt.h"
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

static int job_of(const char *json, struct request *q, struct job *job, struct dr_error *err)
{
    json_t *data;
    request_init(q);
    int r = jx_parse(json, strlen(json), NULL, "test", &data, err);
    if (r < 0)
        return r;
    r = request_parse(data, "", NULL, q, err);
    json_decref(data);
    return r < 0 ? r : sdxl_job(q, pipeline, job, err);
}

static void must(const char *json, struct request *q, struct job *job)
{
    struct dr_error err = { 0 };
    if (job_of(json, q, job, &err))
        fail_msg("%s: %s", json, err.text);
}

static void end(struct request *q, struct job *job)
{
    job_release(job);
    request_free(q);
}

static void open_fields_follow_the_program(void **state)
{
    (void)state;
    static const struct {
        const char *json, *sampler, *schedule;
        int steps;
        double cfg;
        enum dr_rng_kind noise, step_noise, tree;
    } cases[] = {
        { "{\"prompt\":\"\"}", "euler", "normal", 30, 5, DR_RNG_CPU, DR_RNG_CPU, DR_RNG_CPU },
        { "{\"prompt\":\"\",\"preset\":\"diffusers\"}", "euler", "normal", 30, 5, DR_RNG_CPU,
          DR_RNG_CPU, DR_RNG_CPU },
        { "{\"prompt\":\"\",\"preset\":\"A1111\"}", "dpmpp_2m", "karras", 20, 7, DR_RNG_CUDA,
          DR_RNG_CUDA, DR_RNG_CUDA },
        { "{\"prompt\":\"\",\"preset\":\"AUTOMATIC1111\",\"sampler\":\"DPM++ 2M SDE\"}",
          "dpmpp_2m_sde", "exponential", 20, 7, DR_RNG_CUDA, DR_RNG_CUDA, DR_RNG_CUDA },
        { "{\"prompt\":\"\",\"preset\":\"comfyui\"}", "euler", "normal", 20, 8, DR_RNG_CPU,
          DR_RNG_CUDA, DR_RNG_CPU },
        { "{\"prompt\":\"\",\"preset\":\"comfyui\",\"rng\":\"cpu\",\"steps\":9,\"cfg\":2}", "euler",
          "normal", 9, 2, DR_RNG_CPU, DR_RNG_CPU, DR_RNG_CPU },
        { "{\"prompt\":\"\",\"preset\":\"sdcpp\",\"schedule\":\"karras\"}", "euler_a", "karras", 20,
          7, DR_RNG_CUDA, DR_RNG_CUDA, DR_RNG_CUDA },
        { "{\"prompt\":\"\",\"preset\":\"a1111\",\"sampler\":\"euler_cfg_pp\"}", "euler_cfg_pp",
          "normal", 20, 1, DR_RNG_CUDA, DR_RNG_CUDA, DR_RNG_CUDA },
    };
    open_model();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct request q;
        struct job job;
        must(cases[i].json, &q, &job);
        assert_string_equal(job.sched.sampler->name, cases[i].sampler);
        assert_string_equal(job.sched.schedule->name, cases[i].schedule);
        assert_int_equal(job.sched.steps, cases[i].steps);
        assert_true(job.guidance_scale == cases[i].cfg);
        assert_true(job.rng == cases[i].noise && job.step_rng == cases[i].step_noise);
        assert_true(job.tree_rng == cases[i].tree);
        end(&q, &job);
    }
    close_model();
}

/* Of a model that takes zeros for no negative prompt. */
static void negative_prompts_and_layers_follow_the_program(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        bool zeros, none, both;
    } cases[] = {
        { "{\"prompt\":\"\"}", true, true, false },
        { "{\"prompt\":\"\",\"negative_prompt\":\"\"}", true, false, false },
        { "{\"prompt\":\"\",\"preset\":\"a1111\",\"negative_prompt\":\"\"}", true, true, true },
        { "{\"prompt\":\"\",\"preset\":\"comfyui\"}", false, true, true },
    };
    struct request q;
    struct job job;
    struct dr_error err = { 0 };
    open_model();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        must(cases[i].json, &q, &job);
        assert_true(job.prompt.zero_negative == cases[i].zeros);
        assert_true(!job.prompt.negative == cases[i].none);
        assert_true(job.prompt.skip_both == cases[i].both);
        end(&q, &job);
    }
    assert_int_equal(
        job_of("{\"prompt\":\"\",\"preset\":\"a1111\",\"clip_skip\":1}", &q, &job, &err),
        DR_EINVAL);
    assert_string_equal(err.path, "clip_skip");
    request_free(&q);
    close_model();
}

static void ensd_needs_a_generator_in_the_steps(void **state)
{
    (void)state;
    struct request q;
    struct job job;
    struct dr_error err = { 0 };
    open_model();
    must("{\"prompt\":\"\",\"sampler\":\"euler_a\",\"eta_noise_seed_delta\":31337}", &q, &job);
    assert_true(job.ensd == 31337);
    end(&q, &job);
    static const char *const none[] = { "euler", "dpmpp_sde" };
    for (size_t i = 0; i < 2; i++) {
        char json[96];
        snprintf(json, sizeof json, "{\"prompt\":\"\",\"sampler\":\"%s\",\"ensd\":1}", none[i]);
        assert_int_equal(job_of(json, &q, &job, &err), DR_EINVAL);
        assert_string_equal(err.path, "ensd");
        request_free(&q);
    }
    close_model();
}

/* Member by member: a receipt names the generator only where there is one, and a picture of a batch
 * with one generator by its place. */
static void receipts_lead_back(void **state)
{
    (void)state;
    static const struct receipt_facts facts = {
        .model = "m", .digest = "0123456789abcdef", .kernel_set = "scalar", .version = "1"
    };
    struct request q, again;
    struct job job, second;
    struct dr_error err = { 0 };
    open_model();
    must("{\"prompt\":\"x\",\"preset\":\"comfyui\",\"seed\":7,\"batch_size\":3}", &q, &job);
    json_t *receipt = receipt_json(&job, &facts, 2);
    assert_null(json_object_get(receipt, "rng"));
    assert_int_equal(json_integer_value(json_object_get(receipt, "seed")), 7);
    json_object_del(receipt, "model");
    json_object_del(receipt, "model_sha256");
    request_init(&again);
    assert_int_equal(request_parse(receipt, "", NULL, &again, &err), 0);
    assert_int_equal(sdxl_job(&again, pipeline, &second, &err), 0);
    assert_true(second.seed == 7 && second.batch == 1);
    assert_true(second.drawn == 3 && second.first_drawn == 2);
    assert_true(second.step_rng == DR_RNG_CUDA && second.rng == DR_RNG_CPU);
    job_release(&second);
    request_free(&again);
    json_object_set_new(receipt, "batch_size", json_integer(2));
    request_init(&again);
    assert_int_equal(request_parse(receipt, "", NULL, &again, &err), 0);
    assert_int_equal(sdxl_job(&again, pipeline, &second, &err), DR_EINVAL);
    assert_string_equal(err.path, "batch_size");
    request_free(&again);
    json_decref(receipt);
    end(&q, &job);
    close_model();
}

static void presets_are_found_by_their_names(void **state)
{
    (void)state;
    const struct preset *preset, *found;
    struct dr_error err = { 0 };
    for (int i = 0; (preset = preset_at(i)); i++) {
        assert_int_equal(preset_find(preset->name, &found, &err), 0);
        assert_true(found == preset);
        assert_int_equal(preset_find(preset->title, &found, &err), 0);
        assert_true(found == preset);
        assert_true(!preset->sampler || sched_find(preset->sampler, NULL));
        assert_true(!preset->schedule || schedule_find(preset->schedule));
    }
    assert_int_equal(preset_find("comfi", &found, &err), DR_EINVAL);
    assert_non_null(strstr(err.text, "nearest: comfyui"));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(open_fields_follow_the_program),
    cmocka_unit_test(negative_prompts_and_layers_follow_the_program),
    cmocka_unit_test(ensd_needs_a_generator_in_the_steps),
    cmocka_unit_test(receipts_lead_back),
    cmocka_unit_test(presets_are_found_by_their_names),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
