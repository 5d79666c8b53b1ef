/* test_inference_pipeline.c - models kept and opened anew, failing loads, and which stages a run
 * computes when some are given. On the model of the golden vectors. */
#include "testing/helpers/model_access.h"
#include "testing/helpers/odd_model.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend/device.h"
#include "base/fs.h"
#include "base/json.h"
#include "inference/job_run.h"
#include "inference/pipeline_manager.h"
#include "inference/sdxl_worker.h"
#include "models/formats/safetensors.h"
#include "schedulers/scheduler_factory.h"
#include "testing/helpers/base_files.h"
#include "testing/helpers/safetensors_writer.h"

static struct backend *open_set(const char *kernels)
{
    struct dr_error err = { 0 };
    struct backend *be;
    struct backend_options options = { .kernels = kernels, .threads = 1 };
    if (backend_open(&options, &be, &err))
        fail_msg("%s", err.text);
    return be;
}

static struct backend *open_backend(void)
{
    return open_set("scalar");
}

/* ---- the manager ---- */

static const char *const files[] = {
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "text_encoder_2/config.json",
    "text_encoder_2/model.safetensors",
    "tokenizer/merges.txt",
    "tokenizer/special_tokens_map.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
    "tokenizer_2/merges.txt",
    "tokenizer_2/special_tokens_map.json",
    "tokenizer_2/tokenizer_config.json",
    "tokenizer_2/vocab.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
};

/* A copy of one file of the model; text of it may be replaced by as much. */
static void copy_file(const char *folder, const char *name, const char *from, const char *to)
{
    char path[600], source[200];
    struct buf bytes;
    struct dr_error err = { 0 };
    snprintf(source, sizeof source, "testing/golden/odd/model/%s", name);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    buf_init(&bytes, DR_TAG_TEST, 0);
    if (dr_read_file(test_source(source), 64 << 20, &bytes, &err))
        fail_msg("%s", err.text);
    if (from) {
        char *at = strstr(bytes.data, from);
        assert_non_null(at);
        memcpy(at, to, strlen(to));
    }
    char *slash = strrchr(path, '/');
    *slash = '\0';
    assert_int_equal(dr_mkdirs(path, &err), 0);
    *slash = '/';
    if (dr_write_file(path, bytes.data, bytes.len, &err))
        fail_msg("%s", err.text);
    buf_free(&bytes);
}

static const char *copy_model(void)
{
    static char folder[200];
    snprintf(folder, sizeof folder, "%s/model", test_dir());
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        copy_file(folder, files[i], NULL, NULL);
    return folder;
}

/* One tensor of a file of the model with another size of one dimension: cut, or filled with zeros.
 */
static void resize(const char *folder, const char *name, const char *tensor, int dim, int64_t size)
{
    char path[600];
    struct safetensors st;
    struct dr_error err = { 0 };
    struct st_writer *w = st_writer_new();
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_RDONLY);
    if (fd < 0 || st_open_fd(fd, path, &st, &err))
        fail_msg("%s", err.text);
    close(fd);
    for (size_t i = 0; i < st.header.n_tensors; i++) {
        const struct st_tensor *t = &st.header.tensors[i];
        struct shape s = t->shape;
        if (strcmp(t->name, tensor) != 0) {
            st_writer_add(w, t->name, dtype_name(t->dtype), s.n, s.d, st_data(&st, t));
            continue;
        }
        int64_t outer = 1, inner = (int64_t)dtype_size(t->dtype), before = s.d[dim];
        for (int k = 0; k < s.n; k++)
            *(k < dim ? &outer : &inner) *= k == dim ? 1 : s.d[k];
        s.d[dim] = size;
        char *data = dr_calloc(DR_TAG_TEST, 1, (size_t)(outer * size * inner));
        assert_non_null(data);
        for (int64_t k = 0; k < outer; k++)
            memcpy(data + k * size * inner, (const char *)st_data(&st, t) + k * before * inner,
                   (size_t)((before < size ? before : size) * inner));
        st_writer_add(w, t->name, dtype_name(t->dtype), s.n, s.d, data);
        dr_free(data);
    }
    st_close(&st);
    st_writer_save(w, path);
    st_writer_free(w);
}

/* The channels of a UNet that takes more than latents say what it is. */
static void models_that_need_a_picture_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *channels, *words;
    } cases[] = { { "8", "8 channels and the VAE gives 4: an instruct-pix2pix model" },
                  { "9", "9 channels and the VAE gives 4: an inpainting model" },
                  { "5", "5 channels and the VAE gives 4: a depth model needs" },
                  { "7", "7 channels and the VAE gives 4: expected the same number" } };
    static const char weights[] = "unet/diffusion_pytorch_model.safetensors";
    struct backend *be = open_backend();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dr_error err = { 0 };
        struct pipeline *p;
        char config[40];
        const char *folder = copy_model();
        snprintf(config, sizeof config, "\"in_channels\": %s", cases[i].channels);
        copy_file(folder, "unet/config.json", "\"in_channels\": 4", config);
        resize(folder, weights, "conv_in.weight", 1, strtol(cases[i].channels, NULL, 10));
        assert_int_equal(pipeline_open(folder, be, NULL, &p, &err), DR_EUNSUPPORTED);
        if (!strstr(err.text, cases[i].words))
            fail_msg("%s", err.text);
    }
    backend_close(be);
}

/* A text is as long as the encoders' positions, or as their tokenizers say. */
static void the_encoder_says_how_long_a_text_is(void **state)
{
    (void)state;
    static const char position[] = "text_model.embeddings.position_embedding.weight";
    struct backend *be = open_backend();
    for (int i = 0; i < 2; i++) {
        struct dr_error err = { 0 };
        struct pipeline *p;
        const char *folder = copy_model();
        if (i) {
            copy_file(folder, "tokenizer/tokenizer_config.json", "\"model_max_length\": 77",
                      "\"model_max_length\": 20");
        } else {
            copy_file(folder, "text_encoder_2/config.json", "\"max_position_embeddings\": 77",
                      "\"max_position_embeddings\": 30");
            resize(folder, "text_encoder_2/model.safetensors", position, 0, 30);
        }
        if (pipeline_open(folder, be, NULL, &p, &err))
            fail_msg("%s", err.text);
        assert_int_equal(p->encoders.chunk, i ? 20 : 30);
        pipeline_unref(p);
    }
    backend_close(be);
}

static void a_model_is_kept_until_it_changes(void **state)
{
    (void)state;
    struct backend *be = open_backend();
    struct pipeline_manager *m;
    struct pipeline *p;
    struct dr_error err = { 0 };
    const char *folder = copy_model();
    assert_int_equal(pipeline_manager_new(&m, &err), 0);
    if (pipeline_manager_get(m, MODEL_AT(folder), be, NULL, &p, &err))
        fail_msg("%s", err.text);
    pipeline_unref(p);
    uint64_t made = dr_alloc_stats_all().total;
    const struct unet *unet = p->unet;
    assert_int_equal(pipeline_manager_get(m, MODEL_AT(folder), be, NULL, &p, &err), 0);
    assert_ptr_equal(p->unet, unet);
    pipeline_unref(p);
    uint64_t kept = dr_alloc_stats_all().total - made;

    copy_file(folder, "unet/diffusion_pytorch_model.safetensors", NULL, NULL); /* renamed over */
    made = dr_alloc_stats_all().total;
    assert_int_equal(pipeline_manager_get(m, MODEL_AT(folder), be, NULL, &p, &err), 0);
    assert_true(dr_alloc_stats_all().total - made > kept + 100);
    pipeline_unref(p);
    pipeline_manager_free(m);
    backend_close(be);
}

/* What is loaded stays, and what fails leaves nothing. */
static void a_failing_open_leaves_the_others(void **state)
{
    (void)state;
    struct backend *be = open_backend();
    struct pipeline_manager *m;
    struct pipeline *p, *again;
    struct dr_error err = { 0 };
    const char *model = test_source("testing/golden/odd/model");
    atomic_int stop = 1;
    struct pipeline_options stopped = { .stop = &stop };
    uint64_t blocks = test_blocks();
    assert_int_equal(pipeline_manager_new(&m, &err), 0);
    uint64_t empty = test_blocks();
    assert_int_equal(pipeline_manager_get(m, MODEL_AT("/nonexistent/model"), be, NULL, &p, &err),
                     DR_ENOENT);
    assert_int_equal(pipeline_manager_get(m, MODEL_AT(model), be, &stopped, &p, &err),
                     DR_ECANCELED);
    assert_true(test_blocks() == empty);
    if (pipeline_manager_get(m, MODEL_AT(model), be, NULL, &p, &err))
        fail_msg("%s", err.text);
    uint64_t one = test_blocks();
    assert_int_equal(
        pipeline_manager_get(m, MODEL_AT("/nonexistent/model"), be, NULL, &again, &err), DR_ENOENT);
    assert_int_equal(test_blocks(), one);
    assert_int_equal(pipeline_manager_get(m, MODEL_AT(model), be, NULL, &again, &err), 0);
    assert_ptr_equal(again, p);
    pipeline_unref(p);
    pipeline_unref(again);
    pipeline_manager_free(m);
    assert_true(test_blocks() == blocks);
    backend_close(be);
}

/* Ten backends, so ten pipelines of one model. */
enum { MANY = PIPELINES_MOST + 2 };

static void those_not_used_for_longest_go(void **state)
{
    (void)state;
    struct backend *be[MANY];
    struct pipeline_manager *m;
    struct pipeline *p[MANY], *again;
    const char *model = test_source("testing/golden/odd/model");
    uint64_t opened;
    assert_int_equal(pipeline_manager_new(&m, NULL), 0);
    for (int i = 0; i < MANY; i++) {
        be[i] = open_backend();
        assert_int_equal(pipeline_manager_get(m, MODEL_AT(model), be[i], NULL, &p[i], NULL), 0);
        if (i) /* the first is referenced to the end: others go before it */
            pipeline_unref(p[i]);
    }
    opened = dr_alloc_stats_all().total;
    assert_int_equal(pipeline_manager_get(m, MODEL_AT(model), be[0], NULL, &again, NULL), 0);
    assert_ptr_equal(again, p[0]);
    pipeline_unref(again);
    assert_int_equal(pipeline_manager_get(m, MODEL_AT(model), be[MANY - 1], NULL, &again, NULL), 0);
    assert_ptr_equal(again, p[MANY - 1]);
    pipeline_unref(again);
    uint64_t found = dr_alloc_stats_all().total - opened;
    assert_int_equal(pipeline_manager_get(m, MODEL_AT(model), be[1], NULL, &again, NULL),
                     0); /* is gone */
    assert_true(dr_alloc_stats_all().total - opened > found + 100);
    pipeline_unref(again);

    size_t own, each = pipeline_bytes(p[0]);
    size_t idle = pipeline_manager_idle(m, p[0], &own);
    assert_true(own == idle && idle >= 7 * each && idle < 8 * each);
    pipeline_manager_trim(m, p[0], 2 * each);
    assert_true(pipeline_manager_idle(m, p[0], NULL) <= 2 * each);
    assert_true(pipeline_manager_idle(m, p[0], NULL) > each);
    assert_int_equal(pipeline_manager_busy(m, NULL), each);
    opened = dr_alloc_stats_all().total;
    assert_int_equal(pipeline_manager_get(m, MODEL_AT(model), be[1], NULL, &again, NULL),
                     0); /* used last */
    pipeline_unref(again);
    assert_int_equal(dr_alloc_stats_all().total - opened, found);
    pipeline_manager_clear(m);
    assert_string_equal(checkpoint_path(p[0]->checkpoint), model); /* its job goes on */
    assert_int_equal(pipeline_bytes(p[0]), each);
    pipeline_unref(p[0]);
    pipeline_manager_free(m);
    for (int i = 0; i < MANY; i++)
        backend_close(be[i]);
}

/* The decoder would write a plane more than a picture has. */
static void a_vae_of_four_colours_is_refused(void **state)
{
    (void)state;
    struct backend *be = open_backend();
    struct pipeline *p;
    struct dr_error err = { 0 };
    const char *folder = copy_model();
    copy_file(folder, "vae/config.json", "\"out_channels\": 3", "\"out_channels\": 4");
    assert_true(pipeline_open(folder, be, NULL, &p, &err) < 0);
    assert_non_null(strstr(err.text, "VAE gives 4 channels"));
    backend_close(be);
}

static int open_scenario(void *ctx, struct dr_error *err)
{
    struct pipeline *p;
    int r = pipeline_open(test_source("testing/golden/odd/model"), ctx, NULL, &p, err);
    if (!r)
        pipeline_unref(p);
    return r;
}

static void opening_survives_failing_allocations(void **state)
{
    (void)state;
    struct backend *be = open_backend();
    test_oom_walk(open_scenario, be);
    backend_close(be);
}

/* ---- runs ---- */

struct run {
    struct backend *be;
    struct pipeline *p;
    struct request q;
    struct job job;
    struct memory_plan plan;
    struct dr_image images[JOB_BATCH];
    struct job_timing timing;
    const char *sampler; /* NULL: euler */
    bool may_fail;       /* planning: the code is returned */
    int batch;
    uint64_t allocations[SCHED_MAX_OPEN]; /* ever made, when each step was done */
    int steps, warnings;
    char warning[240]; /* the last one */
};

static void on_step(void *ctx, int evaluation, int evaluations, double seconds)
{
    struct run *r = ctx;
    (void)seconds;
    assert_true(r->steps < SCHED_MAX_OPEN);
    r->allocations[r->steps++] = dr_alloc_stats_all().total;
    assert_true(evaluation == r->steps && (!evaluations || evaluation <= evaluations));
}

static void on_warning(void *ctx, const char *text)
{
    struct run *r = ctx;
    snprintf(r->warning, sizeof r->warning, "%s", text);
    r->warnings++;
}

static void run_open_set(struct run *r, const char *kernels)
{
    struct dr_error err = { 0 };
    memset(r, 0, sizeof *r);
    r->batch = 1;
    r->be = open_set(kernels);
    if (pipeline_open(test_source("testing/golden/odd/model"), r->be, NULL, &r->p, &err) ||
        pipeline_load(r->p, NULL, &err))
        fail_msg("%s", err.text);
}

static void run_open(struct run *r)
{
    run_open_set(r, "scalar");
}

/* 32x16, two steps, with these stages. Returns job_run's code. */
static int run_job(struct run *r, const char *dump, const json_t *load, struct dr_error *err)
{
    json_t *data = json_pack("{s:s,s:s,s:i,s:i,s:i,s:i,s:i,s:s}", "prompt", "a red circle",
                             "negative_prompt", "dog", "width", 32, "height", 16, "batch_size",
                             r->batch, "steps", r->sampler ? 4 : 2, "seed", 5, "sampler",
                             r->sampler ? r->sampler : "euler");
    assert_non_null(data);
    if (dump)
        assert_int_equal(jx_set(data, "dump_stages", json_string(dump)), 0);
    if (load)
        assert_int_equal(jx_set(data, "load_stage", json_deep_copy(load)), 0);
    int code = request_parse(data, "", NULL, &r->q, err);
    json_decref(data);
    if (code || (code = sdxl_job(&r->q, r->p, &r->job, err)))
        fail_msg("%s", err->text);
    struct job_events events = { .step = on_step, .warning = on_warning, .ctx = r };
    code = job_plan(r->p, &r->job, &(struct memory_budget){ 0 }, &events, &r->plan, err);
    if (code && !r->may_fail)
        fail_msg("%s", err->text);
    atomic_int stop = 0;
    r->steps = 0;
    if (!code)
        code = job_run(r->p, &r->job, &r->plan, &events, &stop, r->images, &r->timing, err);
    job_release(&r->job);
    request_free(&r->q);
    return code;
}

static void run_close(struct run *r)
{
    for (int i = 0; i < JOB_BATCH; i++)
        img_free(&r->images[i]);
    pipeline_unref(r->p);
    backend_close(r->be);
}

static const char *stage_file(const char *name)
{
    static char path[4][300];
    static unsigned turn;
    char *dst = path[turn++ % 4];
    snprintf(dst, sizeof path[0], "%s/dump/%s.npy", test_dir(), name);
    return dst;
}

/* A stage that was not computed leaves no new file. */
static void a_given_image_needs_no_model(void **state)
{
    (void)state;
    struct run r;
    struct dr_error err = { 0 };
    char dump[200], again[200];
    snprintf(dump, sizeof dump, "%s/dump", test_dir());
    snprintf(again, sizeof again, "%s/again", test_dir());
    run_open(&r);
    assert_int_equal(run_job(&r, dump, NULL, &err), 0);
    assert_int_equal(r.steps, 2);
    struct dr_image first = r.images[0];
    memset(r.images, 0, sizeof r.images);

    json_t *load = json_pack("{s:s}", "image", stage_file("image"));
    assert_non_null(load);
    if (run_job(&r, again, load, &err))
        fail_msg("%s", err.text);
    json_decref(load);
    assert_int_equal(r.steps, 0);
    assert_int_equal(r.warnings, 0);
    char path[300];
    snprintf(path, sizeof path, "%s/latents_000.npy", again);
    assert_false(dr_is_file(path));
    assert_memory_equal(r.images[0].pixels, first.pixels, 3 * 32 * 16);
    img_free(&first);
    run_close(&r);
}

/* Nothing that is given is passed over in silence, whatever the sampler. */
static void stages_before_a_given_image_are_named(void **state)
{
    (void)state;
    static const char *const samplers[] = { NULL, "dpm_adaptive" };
    struct run r;
    struct dr_error err = { 0 };
    char dump[200];
    snprintf(dump, sizeof dump, "%s/dump", test_dir());
    run_open(&r);
    assert_int_equal(run_job(&r, dump, NULL, &err), 0);
    for (size_t i = 0; i < 2; i++) {
        json_t *load = json_pack("{s:s,s:s,s:s}", "image", stage_file("image"),
                                 i ? "pred_999" : "pred_001", stage_file("latents_000"), "tokens",
                                 stage_file("tokens"));
        assert_non_null(load);
        img_free(&r.images[0]);
        r.sampler = samplers[i];
        r.warnings = 0;
        if (run_job(&r, NULL, load, &err))
            fail_msg("%s", err.text);
        json_decref(load);
        assert_int_equal(r.warnings, 1);
        if (!strstr(r.warning, i ? "load_stage: pred_999: not" : "load_stage: pred_001: not"))
            fail_msg("%s", r.warning);
    }
    run_close(&r);
}

static void must_refuse_stage(struct run *r, const char *stage, const char *file, const char *words)
{
    struct dr_error err = { 0 };
    json_t *load = json_pack("{s:s}", stage, stage_file(file));
    assert_non_null(load);
    r->may_fail = true;
    if (run_job(r, NULL, load, &err) != DR_EINVAL || !strstr(err.text, words))
        fail_msg("%s: %s", stage, err.text);
    r->may_fail = false;
    json_decref(load);
}

/* An adaptive sampler: pictures of a batch end when they are done, its evaluations are in the
 * stages, and nothing of the plan is a number that nobody knows. */
static void an_open_number_of_evaluations(void **state)
{
    (void)state;
    struct run r;
    struct dr_error err = { 0 };
    char dump[200], name[32], past[32];
    snprintf(dump, sizeof dump, "%s/dump", test_dir());
    run_open(&r);
    r.batch = 2;
    r.sampler = "dpm_adaptive,rtol=0.4,atol=0.1,h_init=1.5";
    if (run_job(&r, dump, NULL, &err))
        fail_msg("%s", err.text);
    int evaluations = r.steps;
    assert_true(evaluations > 4);
    assert_true(r.plan.stage[STAGE_DENOISE].flops == 0 && r.plan.flops == 0);
    assert_true(r.plan.stage[STAGE_DENOISE].workspace > 0);
    assert_false(dr_is_file(stage_file("timesteps")));
    assert_true(dr_is_file(stage_file("sigmas")));
    snprintf(name, sizeof name, "latents_%03d", evaluations - 1);
    snprintf(past, sizeof past, "latents_%03d", evaluations);
    assert_true(dr_is_file(stage_file(name)));
    assert_false(dr_is_file(stage_file(past)));

    struct dr_image first = r.images[1];
    json_t *load = json_pack("{s:s,s:s}", "sigmas", stage_file("sigmas"), "pred_001",
                             stage_file("pred_001"));
    img_free(&r.images[0]);
    memset(r.images, 0, sizeof r.images);
    if (run_job(&r, NULL, load, &err))
        fail_msg("%s", err.text);
    json_decref(load);
    assert_int_equal(r.steps, evaluations);
    assert_memory_equal(r.images[1].pixels, first.pixels, 3 * 32 * 16);
    for (int i = 0; i < 2; i++)
        img_free(&r.images[i]);
    must_refuse_stage(&r, "timesteps", "sigmas", "the sampler chooses its own");
    must_refuse_stage(&r, past, name, "the run ended before it");
    must_refuse_stage(&r, "latents_2000", name, "an evaluation from 000 to 1999");
    img_free(&first);
    run_close(&r);
}

/* Predictions given: their bits decide, whatever the text would have said. */
static void given_predictions_replace_the_model(void **state)
{
    (void)state;
    struct run r;
    struct dr_error err = { 0 };
    char dump[200];
    const int64_t shape[4] = { 1, 4, 2, 4 };
    float zeros[32] = { 0 };
    struct npy init, last;
    snprintf(dump, sizeof dump, "%s/dump", test_dir());
    run_open(&r);
    assert_int_equal(run_job(&r, NULL, NULL, &err), 0);
    img_free(&r.images[0]);
    char zero[300];
    snprintf(zero, sizeof zero, "%s/zero.npy", test_dir());
    assert_int_equal(npy_save(zero, NPY_F32, shape, 4, zeros, &err), 0);
    json_t *load = json_pack("{s:s,s:s}", "pred_000", zero, "pred_001", zero);
    assert_non_null(load);
    if (run_job(&r, dump, load, &err))
        fail_msg("%s", err.text);
    json_decref(load);
    assert_int_equal(r.steps, 2);
    /* Euler with no noise predicted moves nothing */
    assert_int_equal(npy_load(stage_file("latents_init"), &init, &err), 0);
    assert_int_equal(npy_load(stage_file("latents_001"), &last, &err), 0);
    assert_true(test_rel_l2(last.data, init.data, 32) < 1e-6);
    npy_free(&init);
    npy_free(&last);
    run_close(&r);
}

static void what_is_not_finite_is_an_error(void **state)
{
    (void)state;
    struct run r;
    struct dr_error err = { 0 };
    char file[300];
    const int64_t shape[4] = { 1, 4, 2, 4 };
    float latents[32] = { 0 };
    latents[7] = NAN;
    snprintf(file, sizeof file, "%s/nan.npy", test_dir());
    run_open(&r);
    assert_int_equal(npy_save(file, NPY_F32, shape, 4, latents, &err), 0);
    json_t *load = json_pack("{s:s}", "latents_init", file);
    assert_non_null(load);
    int code = run_job(&r, NULL, load, &err);
    json_decref(load);
    assert_int_equal(code, DR_EFORMAT);
    assert_non_null(strstr(err.text, "not finite at evaluation 0"));
    assert_null(r.images[0].pixels);
    load = json_pack("{s:s}", "latents_001", file);
    assert_non_null(load);
    code = run_job(&r, NULL, load, &err);
    json_decref(load);
    assert_int_equal(code, DR_EFORMAT);
    assert_non_null(strstr(err.text, "decoded picture is not finite"));
    assert_null(r.images[0].pixels);
    run_close(&r);
}

/* Weights are packed by weight_prepare alone, which allocates, so this says too that none is packed
 * again. */
static void a_step_allocates_nothing(void **state)
{
    (void)state;
    if (TEST_SANITIZED) /* counts only */
        skip();
    const char *kernels;
    bool usable;
    size_t n;
    const struct sched_info *const *all = sched_all(&n);
    for (int set = 0; (kernels = backend_kernel_set_name(set, &usable)); set++) {
        struct run r;
        struct dr_error err = { 0 };
        if (!usable)
            continue;
        run_open_set(&r, kernels);
        r.batch = 2;
        for (size_t i = 0; i < n; i++) {
            r.sampler = all[i]->name;
            if (run_job(&r, NULL, NULL, &err))
                fail_msg("%s", err.text);
            assert_true(r.steps >= 4);
            for (int k = 1; k < r.steps; k++)
                if (r.allocations[k] != r.allocations[0])
                    fail_msg("%s, %s: %d allocations up to evaluation %d", kernels, r.sampler,
                             (int)(r.allocations[k] - r.allocations[0]), k);
            for (int k = 0; k < r.batch; k++)
                img_free(&r.images[k]);
        }
        run_close(&r);
    }
}

/* The second time, and for more pictures, no encoder is needed: it would fail without weights. */
static void a_prompt_is_encoded_once(void **state)
{
    (void)state;
    struct run r;
    struct dr_error err = { 0 };
    run_open(&r);
    assert_int_equal(run_job(&r, NULL, NULL, &err), 0);
    assert_int_equal(r.plan.tagged[DR_TAG_PROMPT], r.timing.tagged[DR_TAG_PROMPT]);
    assert_true(r.plan.stage[STAGE_TEXT].flops > 0 && r.p->text_read);
    size_t mapped = r.plan.stage[STAGE_TEXT].mapped;
    struct dr_image first = r.images[0];
    assert_int_equal(run_job(&r, NULL, NULL, &err), 0);
    assert_true(r.plan.stage[STAGE_TEXT].flops == 0);
    assert_int_equal(r.plan.stage[STAGE_TEXT].mapped, mapped); /* still there */
    img_free(&r.images[0]);

    r.p->text_read = false; /* as if given back */
    for (int i = 0; i < PROMPT_ENCODERS; i++)
        params_unprepare(r.p->encoders.encoder[i].text, clip_text_visit);
    r.batch = 2;
    if (run_job(&r, NULL, NULL, &err))
        fail_msg("%s", err.text);
    assert_memory_equal(r.images[0].pixels, first.pixels, 3 * 32 * 16);
    assert_int_equal(r.plan.stage[STAGE_TEXT].mapped, 0);
    assert_int_equal(r.plan.tagged[DR_TAG_PROMPT], r.timing.tagged[DR_TAG_PROMPT]);
    img_free(&first);
    run_close(&r);
}

static void plan_of(struct run *r, const char *negative, size_t limit, struct memory_plan *ret)
{
    struct dr_error err = { 0 };
    json_t *data = json_pack("{s:s,s:s*,s:i,s:i,s:i,s:s}", "prompt", "a red circle",
                             "negative_prompt", negative, "width", 64, "height", 64, "batch_size",
                             14, "prompt_syntax", "plain");
    struct job_events events = { .warning = on_warning, .ctx = r };
    struct memory_budget budget = { .limit = limit };
    r->warnings = 0;
    if (request_parse(data, "", NULL, &r->q, &err) || sdxl_job(&r->q, r->p, &r->job, &err) ||
        job_plan(r->p, &r->job, &budget, &events, ret, &err))
        fail_msg("%s", err.text);
    json_decref(data);
    job_release(&r->job);
    request_free(&r->q);
}

/* However the rows are cut, they are the same work, also where the negative's need less. */
static void a_plan_of_odd_rows_has_the_same_flops(void **state)
{
    (void)state;
    static const char *const negatives[] = { NULL, "dog" };
    struct run r;
    struct memory_plan whole, odd;
    double flops[2];
    run_open(&r);
    for (int i = 0; i < 2; i++) {
        plan_of(&r, negatives[i], (size_t)1 << 40, &whole);
        assert_int_equal(whole.rows, 28);
        odd = whole;
        for (size_t limit = 2 * whole.peak; odd.rows > 7; limit -= limit / 50)
            plan_of(&r, negatives[i], limit, &odd);
        assert_int_equal(odd.rows, 7);
        flops[i] = whole.stage[STAGE_DENOISE].flops;
        assert_true(odd.stage[STAGE_DENOISE].flops == flops[i]);
    }
    assert_true(flops[0] < flops[1]);
    run_close(&r);
}

/* Both encoders cut it; however often rows are planned anew, there is one warning. */
static void a_plan_warns_once(void **state)
{
    (void)state;
    char words[201] = "";
    struct run r;
    struct memory_plan plan;
    for (int i = 0; i < 100; i++)
        memcpy(words + 2 * i, "a ", 3);
    run_open(&r);
    plan_of(&r, "dog", (size_t)1 << 40, &plan);
    assert_int_equal(r.warnings, 0);
    plan_of(&r, words, (size_t)1 << 40, &plan);
    assert_int_equal(r.warnings, 1);
    int rows = plan.rows;
    plan_of(&r, words, plan.peak, &plan);
    assert_true(plan.rows < rows);
    assert_int_equal(r.warnings, 1);
    run_close(&r);
}

/* Rows of three pictures, a text of zeros and a text for each, through forwards of 1 to 8 rows. */
static void check_cuts(const char *kernels)
{
    enum { ROWS = 6, N = 4 * 6 * 8 };
    struct odd m;
    struct dr_error err = { 0 };
    static float latent[ROWS / 2][N], whole[ROWS][N], cut[ROWS][N];
    struct unet_row rows[ROWS];
    struct unet_context *c[2];
    struct unet_conditioning prompt[2];
    odd_must(&m, ODD_CPU, kernels, 2);
    struct npy text = odd_vector("unet_text"), pooled = odd_vector("unet_pooled"),
               ids = odd_vector("unet_time_ids");
    float *zeros = dr_calloc(DR_TAG_TEST, (size_t)text.count, sizeof *zeros);
    assert_non_null(zeros);
    for (int i = 0; i < 2; i++) {
        if (unet_context_new(m.unet, &m.x, i ? text.data : zeros, text.shape[1], pooled.data,
                             ids.data, &c[i], &err))
            fail_msg("%s", err.text);
        prompt[i] = unet_prompt(c[i]);
    }
    for (int i = 0; i < ROWS; i++) {
        for (int k = 0; k < N; k++)
            latent[i / 2][k] = (float)((i / 2 * N + k) * 37 % 101) / 50 - 1;
        rows[i] = (struct unet_row){ .latent = latent[i / 2],
                                     .timestep = 900 - 200 * (i / 2),
                                     .conditioning = &prompt[i % 2] };
        rows[i].pred = whole[i];
        assert_int_equal(unet_forward(m.unet, &m.x, &rows[i], 1, 6, 8, &err), 0);
    }
    for (int most = 1; most < ROWS + 3; most++) {
        memset(cut, 0, sizeof cut);
        for (int i = 0; i < ROWS; i++)
            rows[i].pred = cut[i];
        for (int first = 0; first < ROWS; first += most) {
            int n = ROWS - first < most ? ROWS - first : most;
            assert_int_equal(unet_forward(m.unet, &m.x, rows + first, n, 6, 8, &err), 0);
        }
        if (memcmp(cut, whole, sizeof whole))
            fail_msg("%s: other bits in forwards of %d rows", kernels, most);
    }
    dr_free(zeros);
    npy_free(&text);
    npy_free(&pooled);
    npy_free(&ids);
    unet_context_free(c[0]);
    unet_context_free(c[1]);
    odd_close(&m);
}

/* However the rows are cut, each gets the bits it has alone. */
static void forwards_are_cut_without_a_trace(void **state)
{
    (void)state;
    bool usable;
    const char *name;
    for (int i = 0; (name = backend_kernel_set_name(i, &usable)); i++)
        if (usable)
            check_cuts(name);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_is_kept_until_it_changes),
        cmocka_unit_test(models_that_need_a_picture_are_named),
        cmocka_unit_test(the_encoder_says_how_long_a_text_is),
        cmocka_unit_test(a_plan_warns_once),
        cmocka_unit_test(a_plan_of_odd_rows_has_the_same_flops),
        cmocka_unit_test(a_failing_open_leaves_the_others),
        cmocka_unit_test(those_not_used_for_longest_go),
        cmocka_unit_test(a_vae_of_four_colours_is_refused),
        cmocka_unit_test(opening_survives_failing_allocations),
        cmocka_unit_test(a_given_image_needs_no_model),
        cmocka_unit_test(stages_before_a_given_image_are_named),
        cmocka_unit_test(given_predictions_replace_the_model),
        cmocka_unit_test(what_is_not_finite_is_an_error),
        cmocka_unit_test(a_step_allocates_nothing),
        cmocka_unit_test(an_open_number_of_evaluations),
        cmocka_unit_test(a_prompt_is_encoded_once),
        cmocka_unit_test(forwards_are_cut_without_a_trace),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
