/* test_inference_family.c - jobs of models that are no SDXL: what they take for granted, which
 * fields they refuse, what their receipts leave out. (That they draw what the reference draws:
 * fidelity/test_golden.c.) */
#include "testing/helpers/test.h"

#include <stdio.h>
#include <string.h>

#include "backend/device.h"
#include "base/json.h"
#include "inference/receipt.h"
#include "inference/sdxl_worker.h"
#include "testing/helpers/made_model.h"

static struct backend *backend;
static struct pipeline *pipeline;

static void open_model(const char *name)
{
    struct dr_error err = { 0 };
    struct backend_options options = { .kernels = "scalar", .threads = 1 };
    char folder[600], path[700];
    snprintf(folder, sizeof folder, "%s/%s", test_dir(), name);
    made_model(name, folder, path, sizeof path);
    if (backend_open(&options, &backend, &err) ||
        pipeline_open(path, backend, NULL, &pipeline, &err))
        fail_msg("%s", err.text);
}

static void close_model(void)
{
    pipeline_unref(pipeline);
    backend_close(backend);
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

static void refused(const char *json, const char *path, const char *words)
{
    struct request q;
    struct job job;
    struct dr_error err = { 0 };
    int r = job_of(json, &q, &job, &err);
    request_free(&q);
    if (r != DR_EINVAL || strcmp(err.path, path) || !strstr(err.text, words))
        fail_msg("%s: %d, path '%s': %s", json, r, err.path, err.text);
}

static void options_without_a_meaning_are_refused(void **state)
{
    (void)state;
    open_model("sd1");
    refused("{\"prompt\":\"\",\"prompt_2\":\"a\"}", "prompt_2", "one text encoder");
    refused("{\"prompt\":\"\",\"negative_prompt_2\":\"b\"}", "negative_prompt_2",
            "got b, expected nothing with this model");
    refused("{\"prompt\":\"\",\"original_size\":\"200x100\"}", "original_size",
            "got 200x100, expected nothing with this model (it has no size conditioning");
    refused("{\"prompt\":\"\",\"target_size\":\"64x64\"}", "target_size", "no size conditioning");
    refused("{\"prompt\":\"\",\"crop\":\"0,0\"}", "crop", "got 0,0");
    refused("{\"prompt\":\"\",\"clip_skip\":4}", "clip_skip", "1 to 3");
    close_model();
}

/* A receipt, given back as a request, leads to the same job. */
static void defaults_and_receipts(void **state)
{
    (void)state;
    static const struct receipt_facts facts = {
        .model = "sd1", .digest = "", .kernel_set = "scalar", .layout = 1, .version = "1"
    };
    struct request q;
    struct job job;
    struct dr_error err = { 0 };
    char warning[SCHED_WARNING];
    open_model("sd1");
    if (job_of("{\"prompt\":\"fox\",\"seed\":1,\"steps\":4}", &q, &job, &err))
        fail_msg("%s", err.text);
    request_free(&q);
    assert_int_equal(job.width, 64);
    assert_int_equal(job.prompt.clip_skip, 1);
    assert_true(!job.prompt.zero_negative && !job.prompt.original_width);
    assert_true(sched_warning(&job.sched, 0, warning));
    assert_non_null(strstr(warning, "class PNDMScheduler has no sampler here; using euler"));
    json_t *receipt = receipt_json(&job, &facts, 0);
    assert_non_null(receipt);
    assert_null(json_object_get(receipt, "original_size"));
    assert_null(json_object_get(receipt, "crop"));
    char *text = json_dumps(receipt, 0);
    struct job again;
    if (job_of(text, &q, &again, &err))
        fail_msg("%s", err.text);
    request_free(&q);
    assert_true(again.width == job.width && again.prompt.clip_skip == 1 && again.seed == 1);
    assert_memory_equal(&again.sched.spacing, &job.sched.spacing, sizeof job.sched.spacing);
    dr_free(text);
    json_decref(receipt);
    job_release(&again);
    job_release(&job);
    close_model();
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(options_without_a_meaning_are_refused),
    cmocka_unit_test(defaults_and_receipts),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
