/* test_golden.c - agreement with the reference, stage by stage and run by run.
 *
 * The vectors were made by tools/golden/pipeline.py. Each case is drawn three ways: whole; with
 * every model input taken from the reference, so that each prediction is measured by itself; and
 * with every prediction and the last latents taken from it, so that each sampler step and the
 * decoder are. The limits are those of float32: 1e-5 a stage, 1e-4 after a whole run, pictures
 * within one level and equal for 999 bytes of 1000.
 */
#include "testing/helpers/test.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/json.h"
#include "base/npy.h"
#include "include/darkroom.h"
#include "testing/helpers/made_model.h"
#include "testing/helpers/safetensors_writer.h"
#include "testing/helpers/base_files.h"

static const double STAGE_LIMIT = 1e-5, RUN_LIMIT = 1e-4, EQUAL_BYTES = 0.999;

struct bench {
    struct darkroom *engine;
    json_t *answer; /* the last one */
    char model[1024], runs[1024];
};

static void on_event(void *user, const char *json)
{
    struct bench *b = user;
    struct dr_error err;
    json_decref(b->answer);
    assert_int_equal(jx_parse(json, strlen(json), NULL, "event", &b->answer, &err), 0);
}

static void bench_open(struct bench *b, const char *set, const char *kernels)
{
    char options[3000], error[512];
    memset(b, 0, sizeof *b);
    snprintf(b->model, sizeof b->model, "%s",
             test_source(strcmp(set, "tiny") ? "testing/golden/odd/model" : "share/models/tiny"));
    snprintf(b->runs, sizeof b->runs, "%s/testing/golden/%s/runs", test_source(""), set);
    snprintf(options, sizeof options,
             "{\"kernels\":\"%s\",\"threads\":2,\"roots\":[\"%s\",\"%s\"]}", kernels, test_dir(),
             test_source("testing/golden"));
    if (darkroom_open(options, on_event, b, &b->engine, error, sizeof error) < 0)
        fail_msg("%s", error);
}

static void bench_close(struct bench *b)
{
    darkroom_close(b->engine);
    json_decref(b->answer);
}

static void generate(struct bench *b, json_t *data)
{
    json_t *message = json_pack("{s:s,s:s,s:o}", "type", "generate", "request_id", "golden", "data",
                                data);
    char *text = json_dumps(message, JSON_COMPACT);
    assert_int_equal(darkroom_submit(b->engine, text), 0);
    darkroom_drain(b->engine);
    if (!json_is_true(json_object_get(b->answer, "success")))
        fail_msg("%s", json_string_value(json_object_get(b->answer, "error")));
    dr_free(text);
    json_decref(message);
}

static const char *stage_path(const char *folder, const char *name, int at)
{
    static char path[4][1200];
    static unsigned turn;
    char *p = path[turn++ % 4];
    if (at < 0)
        snprintf(p, sizeof path[0], "%s/%s.npy", folder, name);
    else
        snprintf(p, sizeof path[0], "%s/%s_%03d.npy", folder, name, at);
    return p;
}

static struct npy load(const char *path)
{
    struct npy a;
    struct dr_error err;
    if (npy_load(path, &a, &err) < 0)
        fail_msg("%s", err.text);
    return a;
}

/* Distance of two float stages of one shape. */
static double distance(const char *ours, const char *theirs)
{
    struct npy a = load(ours), b = load(theirs);
    assert_int_equal(a.ndim, b.ndim);
    assert_memory_equal(a.shape, b.shape, (size_t)a.ndim * sizeof *a.shape);
    assert_int_equal(a.dtype, NPY_F32);
    double d = test_rel_l2(a.data, b.data, (size_t)a.count);
    npy_free(&a);
    npy_free(&b);
    return d;
}

static void same_tokens(const char *ours, const char *theirs)
{
    struct npy a = load(ours), b = load(theirs);
    assert_int_equal(a.dtype, NPY_I64);
    assert_int_equal(a.count, b.count);
    assert_memory_equal(a.data, b.data, (size_t)a.count * 8);
    npy_free(&a);
    npy_free(&b);
}

/* Pictures after rounding: at most one level apart, nearly all bytes equal. Returns the share of
 * equal bytes. */
static double same_picture(const char *ours, const char *theirs)
{
    struct npy a = load(ours), b = load(theirs);
    const float *x = a.data, *y = b.data;
    int64_t equal = 0;
    assert_int_equal(a.count, b.count);
    for (int64_t i = 0; i < a.count; i++) {
        double p = nearbyint(x[i] * 255.0), q = nearbyint(y[i] * 255.0);
        assert_true(fabs(x[i] - (double)y[i]) <= 1.0 / 255);
        equal += p == q;
    }
    double share = (double)equal / (double)a.count;
    npy_free(&a);
    npy_free(&b);
    return share;
}

static void check(const char *name, const char *what, double d, double limit)
{
    printf("%-26s %-28s %.2e\n", name, what, d);
    if (!(d <= limit))
        fail_msg("%s: %s is off by %g, allowed %g", name, what, d, limit);
}

struct one {
    struct bench *bench;
    const char *name, *model;
    char ours[1100], theirs[1100];
    const json_t *request;
    int evaluations;
};

/* Stages are never replaced, so those of the run before are removed. */
static void empty(const char *folder)
{
    char path[2200];
    DIR *dir = opendir(folder);
    struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (strstr(entry->d_name, ".npy"))
            assert_int_equal(unlink(path), 0);
    }
    if (dir)
        closedir(dir);
}

/* The request with a dump folder; stages named in `from` (NULL-terminated) come from the reference.
 */
static json_t *request_of(const struct one *c, const char *const *from)
{
    json_t *data = json_deep_copy(c->request), *loads = json_object();
    json_object_set_new(data, "model", json_string(c->model));
    json_object_set_new(data, "dump_stages", json_string(c->ours));
    empty(c->ours);
    json_object_set_new(data, "precision", json_string("f32"));
    json_object_set_new(data, "preset", json_string("diffusers"));
    for (; from && *from; from++) {
        bool counted = !strcmp(*from, "model_input") || !strcmp(*from, "pred");
        for (int at = 0; counted && at < c->evaluations; at++) {
            char stage[40];
            snprintf(stage, sizeof stage, "%s_%03d", *from, at);
            json_object_set_new(loads, stage, json_string(stage_path(c->theirs, *from, at)));
        }
        if (!counted)
            json_object_set_new(loads, *from, json_string(stage_path(c->theirs, *from, -1)));
    }
    json_object_set_new(data, "load_stage", loads);
    return data;
}

/* Whether the reference's run has a stage; ours must have the same ones. */
static bool has_stage(const struct one *c, const char *name)
{
    bool theirs = !access(stage_path(c->theirs, name, -1), F_OK);
    assert_int_equal(!access(stage_path(c->ours, name, -1), F_OK), theirs);
    return theirs;
}

static void whole_run(struct one *c)
{
    static const char *const floats[] = { "prompt_embeds", "pooled", "time_ids",
                                          "timesteps",     "sigmas", "latents_init" };
    generate(c->bench, request_of(c, NULL));
    same_tokens(stage_path(c->ours, "tokens", -1), stage_path(c->theirs, "tokens", -1));
    if (has_stage(c, "tokens_2"))
        same_tokens(stage_path(c->ours, "tokens_2", -1), stage_path(c->theirs, "tokens_2", -1));
    for (size_t i = 0; i < sizeof floats / sizeof *floats; i++)
        if (has_stage(c, floats[i]))
            check(
                c->name, floats[i],
                distance(stage_path(c->ours, floats[i], -1), stage_path(c->theirs, floats[i], -1)),
                STAGE_LIMIT);
    check(c->name, "last latents, whole run",
          distance(stage_path(c->ours, "latents", c->evaluations - 1),
                   stage_path(c->theirs, "latents", c->evaluations - 1)),
          RUN_LIMIT);
    double share = same_picture(stage_path(c->ours, "image", -1),
                                stage_path(c->theirs, "image", -1));
    printf("%-26s %-28s %.5f\n", c->name, "equal bytes, whole run", share);
    assert_true(share >= EQUAL_BYTES);
}

static void each_prediction(struct one *c)
{
    static const char *const two[] = { "prompt_embeds", "pooled", "latents_init", "model_input",
                                       NULL };
    static const char *const one[] = { "prompt_embeds", "latents_init", "model_input", NULL };
    double worst = 0;
    generate(c->bench, request_of(c, has_stage(c, "pooled") ? two : one));
    for (int at = 0; at < c->evaluations; at++) {
        double d = distance(stage_path(c->ours, "pred", at), stage_path(c->theirs, "pred", at));
        worst = d > worst ? d : worst;
    }
    check(c->name, "worst prediction", worst, STAGE_LIMIT);
}

static void each_step(struct one *c)
{
    static const char *const from[] = { "latents_init", "pred", NULL };
    double worst = 0;
    json_t *data = request_of(c, from);
    char last[40];
    snprintf(last, sizeof last, "latents_%03d", c->evaluations - 1);
    generate(c->bench, json_deep_copy(data));
    for (int at = 0; at < c->evaluations; at++) {
        double d = distance(stage_path(c->ours, "latents", at),
                            stage_path(c->theirs, "latents", at));
        worst = d > worst ? d : worst;
    }
    check(c->name, "worst sampler step", worst, STAGE_LIMIT);
    json_object_set_new(json_object_get(data, "load_stage"), last,
                        json_string(stage_path(c->theirs, "latents", c->evaluations - 1)));
    empty(c->ours);
    generate(c->bench, data);
    check(c->name, "decoded picture",
          distance(stage_path(c->ours, "image", -1), stage_path(c->theirs, "image", -1)),
          STAGE_LIMIT);
}

/* The model with the case's own scheduler_config.json, in `folder`. */
static void with_scheduler(const char *model, const json_t *scheduler, const char *folder)
{
    static const char *const parts[] = { "unet",           "vae",       "text_encoder",
                                         "text_encoder_2", "tokenizer", "tokenizer_2" };
    char from[1200], to[1200];
    struct dr_error err;
    json_t *index;
    snprintf(to, sizeof to, "%s/scheduler", folder);
    test_make_dirs(to);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        snprintf(to, sizeof to, "%s/%s", model, parts[i]);
        char *whole = realpath(to, NULL);
        assert_non_null(whole);
        snprintf(from, sizeof from, "%s", whole);
        free(whole);
        snprintf(to, sizeof to, "%s/%s", folder, parts[i]);
        if (symlink(from, to))
            assert_int_equal(errno, EEXIST);
    }
    snprintf(from, sizeof from, "%s/model_index.json", model);
    if (jx_parse_file(from, NULL, &index, &err) < 0)
        fail_msg("%s", err.text);
    json_object_set_new(
        index, "scheduler",
        json_pack("[s, O]", "diffusers", json_object_get(scheduler, "_class_name")));
    const json_t *files[] = { index, scheduler };
    for (int i = 0; i < 2; i++) {
        snprintf(to, sizeof to, "%s/%s", folder,
                 i ? "scheduler/scheduler_config.json" : "model_index.json");
        char *text = json_dumps(files[i], 0);
        test_write_text(to, text);
        dr_free(text);
    }
    json_decref(index);
}

static void run_case(struct bench *b, const json_t *entry)
{
    char model[1200];
    const json_t *scheduler = json_object_get(entry, "scheduler");
    const char *made = json_string_value(json_object_get(entry, "model"));
    struct one c = { .bench = b,
                     .model = b->model,
                     .name = json_string_value(json_object_get(entry, "name")),
                     .request = json_object_get(entry, "request") };
    snprintf(c.ours, sizeof c.ours, "%s/%s", test_dir(), c.name);
    snprintf(c.theirs, sizeof c.theirs, "%s/%s", b->runs, c.name);
    if (scheduler) {
        snprintf(model, sizeof model, "%s/model_%s", test_dir(), c.name);
        with_scheduler(b->model, scheduler, model);
        c.model = model;
    }
    if (made) {
        char folder[1100];
        snprintf(folder, sizeof folder, "%s/%s", test_dir(), made);
        made_model(made, folder, model, sizeof model);
        c.model = model;
    }
    struct npy times = load(stage_path(c.theirs, "timesteps", -1));
    c.evaluations = (int)times.count;
    npy_free(&times);
    whole_run(&c);
    each_prediction(&c);
    each_step(&c);
}

static void run_set(const char *set, const char *kernels)
{
    struct bench b;
    struct dr_error err;
    json_t *cases, *entry;
    size_t i;
    char path[1024];
    bench_open(&b, set, kernels);
    snprintf(path, sizeof path, "%s/testing/golden/%s/cases.json", test_source(""), set);
    if (jx_parse_file(path, NULL, &cases, &err) < 0)
        fail_msg("%s", err.text);
    assert_true(json_array_size(cases) > 0);
    json_array_foreach(cases, i, entry) run_case(&b, entry);
    json_decref(cases);
    bench_close(&b);
}

static void odd_model_with_the_best_kernels(void **state)
{
    (void)state;
    run_set("odd", "auto");
}

static void odd_model_with_scalar_kernels(void **state)
{
    (void)state;
    run_set("odd", "scalar");
}

static void odd_model_with_avx2_kernels(void **state)
{
    (void)state;
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
        skip();
    run_set("odd", "avx2");
}

static void shipped_model(void **state)
{
    (void)state;
    run_set("tiny", "auto");
}

static void other_families(void **state)
{
    (void)state;
    run_set("families", "auto");
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(odd_model_with_the_best_kernels),
        cmocka_unit_test(odd_model_with_scalar_kernels),
        cmocka_unit_test(odd_model_with_avx2_kernels),
        cmocka_unit_test(shipped_model),
        cmocka_unit_test(other_families),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
