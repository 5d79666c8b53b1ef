/* test_inference_job.c - a request becomes a job, or an error that names the field; and what a
 * picture says of its making leads back to the same job. On the model of the golden vectors. */
#include "testing/helpers/test.h"

#include <regex.h>
#include <stdio.h>
#include <string.h>

#include "backend/device.h"
#include "base/json.h"
#include "inference/receipt.h"
#include "inference/sdxl_worker.h"
#include "models/vae_manager.h"
#include "schedulers/scheduler_factory.h"

static struct backend *backend;
static struct pipeline *pipeline;

static int open_model(void **state)
{
    (void)state;
    struct dr_error err = { 0 };
    struct backend_options options = { .kernels = "scalar", .threads = 1 };
    if (backend_open(&options, &backend, &err) ||
        pipeline_open(test_source("testing/golden/odd/model"), backend, NULL, &pipeline, &err)) {
        backend_close(backend);
        backend = NULL;
        fail_msg("%s", err.text);
    }
    return 0;
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
        fail_msg("%s", err.text);
}

static void refused(const char *json, int code, const char *path, const char *words)
{
    struct request q;
    struct job job;
    struct dr_error err = { 0 };
    uint64_t blocks = test_blocks();
    int r = job_of(json, &q, &job, &err);
    request_free(&q);
    if (r != code || strcmp(err.path, path) || !strstr(err.text, words))
        fail_msg("%s: %d, path '%s': %s", json, r, err.path, err.text);
    assert_true(test_blocks() == blocks);
}

static void errors_name_the_field_and_the_nearest(void **state)
{
    open_model(state);
    refused("{}", DR_EINVAL, "prompt", "prompt is missing");
    refused("{\"prompt\":\"\",\"width\":100}", DR_EINVAL, "width", "nearest: 104");
    refused("{\"prompt\":\"\",\"width\":99}", DR_EINVAL, "width", "nearest: 96");
    refused("{\"prompt\":\"\",\"height\":4095}", DR_EINVAL, "height", "nearest: 4096");
    refused("{\"prompt\":\"\",\"height\":9}", DR_EINVAL, "height", "nearest: 8");
    refused("{\"prompt\":\"\",\"seed\":18446744073709551615,\"batch_size\":2}", DR_EINVAL, "seed",
            "2^64-1");
    refused("{\"prompt\":\"\",\"sampler\":\"eular\"}", DR_EINVAL, "sampler", "euler");
    refused("{\"prompt\":\"\",\"schedule\":\"karas\"}", DR_EINVAL, "schedule", "karras");
    refused("{\"prompt\":\"\",\"schedule\":\"sgm_uniform\",\"spacing\":\"linspace\"}", DR_EINVAL,
            "spacing", "");
    refused("{\"prompt\":\"\",\"preset\":\"comfy\"}", DR_EINVAL, "preset", "nearest: comfyui");
    refused("{\"prompt\":\"\",\"clip_skip\":4}", DR_EINVAL, "clip_skip", "1 to 3");
    refused("{\"prompt\":\"\",\"clip_skip\":0}", DR_EINVAL, "clip_skip", "");
    close_model();
}

static void defaults_are_the_model_s(void **state)
{
    struct request q;
    struct job job;
    open_model(state);
    must("{\"prompt\":\"\"}", &q, &job);
    int64_t edge = checkpoint_default_size(pipeline->checkpoint);
    assert_true(job.width == edge && job.height == edge);
    assert_true(job.prompt.original_width == edge && job.prompt.target_height == edge);
    assert_int_equal(job.sched.steps, 30);
    assert_true(job.guidance_scale == 5 && job.prompt.guidance && job.prompt.zero_negative);
    assert_true(job.seed <= UINT32_MAX && job.batch == 1 && job.prompt.clip_skip == 2);
    assert_null(job.prompt.negative);
    assert_string_equal(job.prompt.prompt, "");
    job_release(&job);
    request_free(&q);
    must("{\"prompt\":\"\",\"sampler\":\"euler_cfg_pp\"}", &q, &job);
    assert_true(job.guidance_scale == 1 && job.prompt.guidance); /* the sampler's own, two rows */
    job_release(&job);
    request_free(&q);
    must("{\"prompt\":\"x\",\"seed\":18446744073709551600,\"batch_size\":16,\"cfg\":1}", &q, &job);
    assert_true(job.seed + 15 == UINT64_MAX && !job.prompt.guidance);
    job_release(&job);
    request_free(&q);
    close_model();
}

/* ---- receipts ---- */

static const struct receipt_facts facts = { .model = "odd, \"model\"",
                                            .digest = "0123456789abcdef",
                                            .kernel_set = "scalar",
                                            .layout = 3,
                                            .version = "1.2.3" };

static const char everything[] =
    "{\"prompt\":\"a \\\"red\\\" circle: big,\\nSteps: 3, two\",\"prompt_2\":\" sea, \\\\ sun\\n\","
    "\"negative_prompt\":\"green\\ndog: 1, 2\",\"negative_prompt_2\":\"\\\"q\\\"\",\"width\":104,"
    "\"height\":72,\"steps\":7,\"guidance_scale\":7.1,\"guidance_rescale\":0.7,"
    "\"seed\":18446744073709551612,\"batch_size\":3,\"sampler\":\"ddim\",\"eta\":0.3,"
    "\"spacing\":\"trailing\",\"original_size\":\"200x100\",\"target_size\":\"96x80\","
    "\"crop\":\"8,24\",\"clip_skip\":3,\"rng\":\"cuda\",\"vae_tiling\":\"on\"}";

/* AUTOMATIC1111's rule for one pair at `text`, which it takes apart; 0 at the end. */
static int pair(const regex_t *rule, const char *text, char *name, char *value, size_t n)
{
    regmatch_t m[4];
    if (regexec(rule, text, 4, m, 0))
        return 0;
    snprintf(name, n, "%.*s", (int)(m[1].rm_eo - m[1].rm_so), text + m[1].rm_so);
    snprintf(value, n, "%.*s", (int)(m[2].rm_eo - m[2].rm_so), text + m[2].rm_so);
    return (int)m[0].rm_eo;
}

/* The value of a pair of infotext's last line, unquoted; "" when there is none. Counts pairs. */
static const char *infotext_value(const char *line, const char *wanted, int *ret_pairs)
{
    static char value[2000];
    char name[2000];
    static const char rule[] =
        "[[:space:]]*([[:alnum:]_][[:alnum:]_ /-]+):[[:space:]]*(\"(\\\\.|[^\\\"])+\"|[^,]*)(,|$)";
    regex_t r;
    bool found = false;
    assert_int_equal(regcomp(&r, rule, REG_EXTENDED), 0);
    *ret_pairs = 0;
    for (int n; *line && !found && (n = pair(&r, line, name, value, sizeof value)); line += n) {
        ++*ret_pairs;
        found = !strcmp(name, wanted);
    }
    regfree(&r);
    if (found && *value == '"') {
        json_t *s = json_loads(value, JSON_DECODE_ANY, NULL);
        assert_non_null(s);
        snprintf(value, sizeof value, "%s", json_string_value(s));
        json_decref(s);
    }
    return found ? value : "";
}

static void has(const char *line, const char *name, const char *expected)
{
    int pairs;
    const char *got = infotext_value(line, name, &pairs);
    if (strcmp(got, expected))
        fail_msg("%s: '%s', expected '%s', in: %s", name, got, expected, line);
}

static void infotext_is_read_by_others(void **state)
{
    struct request q;
    struct job job;
    struct buf text;
    int pairs;
    open_model(state);
    must(everything, &q, &job);
    buf_init(&text, DR_TAG_TEST, 0);
    assert_int_equal(receipt_infotext(&job, &facts, 2, &text), 0);
    const char *all = buf_text(&text), *last = strrchr(all, '\n');
    assert_non_null(last++);
    static const char head[] =
        "a \"red\" circle: big,\nSteps: 3, two\nNegative prompt: green\ndog: 1, 2\n";
    assert_int_equal(last - all, sizeof head - 1);
    assert_memory_equal(all, head, sizeof head - 1);
    infotext_value(last, "", &pairs);
    assert_true(pairs >= 3);
    has(last, "Steps", "7");
    has(last, "Sampler", job.sched.sampler->title);
    has(last, "CFG scale", "7.1");
    has(last, "Seed", "18446744073709551614");
    has(last, "Size", "104x72");
    has(last, "Model hash", "0123456789");
    has(last, "Model", "odd, \"model\"");
    has(last, "Clip skip", "3");
    has(last, "RNG", "GPU");
    has(last, "Prompt 2", " sea, \\ sun\n");
    has(last, "Negative prompt 2", "\"q\"");
    has(last, "Crop", "8,24");
    has(last, "Original size", "200x100");
    has(last, "Version", "darkroom 1.2.3");
    buf_free(&text);
    job_release(&job);
    request_free(&q);
    close_model();
}

static bool same_text(const char *a, const char *b)
{
    return a && b ? !strcmp(a, b) : a == b;
}

/* The receipt of picture `index`, read as a request, is that picture's job. */
static void leads_back(const char *json, int index)
{
    static const char *const told[] = { "model", "model_sha256", "layout", "version",
                                        "prediction" };
    struct request q, again;
    struct job a, b;
    struct dr_error err = { 0 };
    must(json, &q, &a);
    json_t *receipt = receipt_json(&a, &facts, index);
    assert_non_null(receipt);
    for (size_t i = 0; i < sizeof told / sizeof *told; i++)
        assert_int_equal(json_object_del(receipt, told[i]), 0);
    if (request_parse(receipt, "", NULL, &again, &err) || sdxl_job(&again, pipeline, &b, &err))
        fail_msg("%s", err.text);
    json_decref(receipt);
    assert_int_equal(b.batch, 1);
    assert_true(b.seed == a.seed + (uint64_t)index && b.rng == a.rng);
    assert_true(a.width == b.width && a.height == b.height && a.vae_tiling == b.vae_tiling);
    assert_true(a.guidance_scale == b.guidance_scale && a.guidance_rescale == b.guidance_rescale);
    assert_true(a.sched.sampler == b.sched.sampler && a.sched.schedule == b.sched.schedule);
    assert_true(a.sched.spacing == b.sched.spacing && a.sched.steps == b.sched.steps);
    assert_memory_equal(a.sched.option, b.sched.option, sizeof a.sched.option);
    assert_true(a.sched.listed == b.sched.listed);
    assert_memory_equal(a.sched.level, b.sched.level, sizeof a.sched.level);
    assert_true(a.sched.prediction == b.sched.prediction);
    const struct prompt_request *p = &a.prompt, *s = &b.prompt;
    assert_true(same_text(p->prompt, s->prompt) && same_text(p->prompt_2, s->prompt_2));
    assert_true(same_text(p->negative, s->negative) && same_text(p->negative_2, s->negative_2));
    assert_true(p->guidance == s->guidance && p->clip_skip == s->clip_skip);
    assert_true(p->original_width == s->original_width && p->crop_top == s->crop_top);
    assert_true(p->original_height == s->original_height && p->crop_left == s->crop_left);
    assert_true(p->target_width == s->target_width && p->target_height == s->target_height);
    job_release(&a);
    job_release(&b);
    request_free(&q);
    request_free(&again);
}

static void a_receipt_makes_the_same_job(void **state)
{
    open_model(state);
    leads_back(everything, 0);
    leads_back(everything, 2);
    leads_back("{\"prompt\":\"\"}", 0);
    leads_back("{\"prompt\":\"x\",\"sampler\":\"dpmpp_sde,eta=0.3,r=0.1,s_noise=1.003\"}", 0);
    leads_back(
        "{\"prompt\":\"x\",\"sampler\":{\"name\":\"DPM adaptive\",\"rtol\":0.01,\"order\":2},"
        "\"eta\":0.25}",
        0);
    leads_back(
        "{\"prompt\":\"x\",\"sampler\":\"euler_cfg_pp\",\"negative_prompt\":\"y\",\"cfg\":0.7}", 0);
    leads_back("{\"prompt\":\"x\",\"sampler\":\"lcm\",\"timesteps\":[999,749,499,249],\"cfg\":1}",
               0);
    leads_back("{\"prompt\":\"x\",\"sigmas\":\"14.61, 3.0001, 0.7\",\"spacing\":\"trailing\"}", 0);
    leads_back("{\"prompt\":\"x\",\"negative_prompt\":\"\",\"sampler\":\"dpmpp_2m\","
               "\"schedule\":\"karras\",\"cfg\":1}",
               0);
    close_model();
}

static void the_samplers_options_are_in_infotext(void **state)
{
    struct request q;
    struct job job;
    struct buf text;
    open_model(state);
    must("{\"prompt\":\"x\",\"sampler\":\"dpmpp_sde,r=0.25,eta=0.5\"}", &q, &job);
    buf_init(&text, DR_TAG_TEST, 0);
    assert_int_equal(receipt_infotext(&job, &facts, 0, &text), 0);
    assert_non_null(strstr(buf_text(&text), "Sampler: DPM++ SDE, "));
    assert_non_null(strstr(buf_text(&text), ", Eta: 0.5, Sampler options: \"s_noise=1,r=0.25\""));
    buf_free(&text);
    job_release(&job);
    request_free(&q);
    close_model();
}

static int scenario(void *ctx, struct dr_error *err)
{
    struct request q;
    struct job job;
    struct buf text;
    (void)ctx;
    int r = job_of(everything, &q, &job, err);
    if (!r) {
        buf_init(&text, DR_TAG_TEST, 0);
        json_t *receipt = receipt_json(&job, &facts, 0);
        r = receipt_infotext(&job, &facts, 0, &text);
        if (!receipt || r)
            r = dr_fail(err, DR_ENOMEM, "no memory for a receipt");
        json_decref(receipt);
        buf_free(&text);
        job_release(&job);
    }
    request_free(&q);
    return r;
}

static void survives_failing_allocations(void **state)
{
    open_model(state);
    test_oom_walk(scenario, NULL);
    close_model();
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_name_the_field_and_the_nearest),
        cmocka_unit_test(defaults_are_the_model_s),
        cmocka_unit_test(infotext_is_read_by_others),
        cmocka_unit_test(the_samplers_options_are_in_infotext),
        cmocka_unit_test(a_receipt_makes_the_same_job),
        cmocka_unit_test(survives_failing_allocations),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
