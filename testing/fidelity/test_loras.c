/* test_loras.c - pictures with LoRAs and their relatives agree with the reference, whatever trainer
 * wrote the file.
 *
 * The files and the last latents of diffusers with peft, and of lycoris-lora's merged weights, were
 * made by tools/golden/lora.py and lora_sd1.py. The limit is that of a whole run in float32, 1e-4.
 */
#include "testing/helpers/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/json.h"
#include "base/npy.h"
#include "include/darkroom.h"
#include "testing/helpers/base_files.h"
#include "testing/helpers/made_model.h"

static const double LIMIT = 1e-4;

struct bench {
    struct darkroom *engine;
    json_t *answer;
    char golden[1024], model[1024];
};

static void on_event(void *user, const char *json)
{
    struct bench *b = user;
    struct dr_error err;
    json_decref(b->answer);
    assert_int_equal(jx_parse(json, strlen(json), NULL, "event", &b->answer, &err), 0);
}

/* With the files of a golden folder; `made`: the model of that name (made_model.h), NULL: the odd
 * one. */
static void bench_open_with(struct bench *b, const char *golden, const char *made)
{
    char options[3000], folder[1024], error[512];
    memset(b, 0, sizeof *b);
    snprintf(b->golden, sizeof b->golden, "%s/%s", test_source("testing/golden"), golden);
    snprintf(b->model, sizeof b->model, "%s", test_source("testing/golden/odd/model"));
    snprintf(folder, sizeof folder, "%s/%s", test_dir(), made ? made : "");
    if (made)
        made_model(made, folder, b->model, sizeof b->model);
    snprintf(options, sizeof options,
             "{\"kernels\":\"auto\",\"threads\":2,\"roots\":[\"%s\",\"%s\"]}", test_dir(),
             test_source("testing/golden"));
    if (darkroom_open(options, on_event, b, &b->engine, error, sizeof error) < 0)
        fail_msg("%s", error);
}

static void bench_open(struct bench *b)
{
    bench_open_with(b, "lora", NULL);
}

static void bench_close(struct bench *b)
{
    darkroom_close(b->engine);
    json_decref(b->answer);
}

static struct npy load(const char *folder, const char *name)
{
    char path[1200];
    struct npy a;
    struct dr_error err;
    snprintf(path, sizeof path, "%s/%s.npy", folder, name);
    if (npy_load(path, &a, &err) < 0)
        fail_msg("%s", err.text);
    return a;
}

/* Sends the request with a folder for stages; takes it over. */
static void submit_as_it_is(struct bench *b, json_t *data, const char *out)
{
    json_object_set_new(data, "model", json_string(b->model));
    json_object_set_new(data, "precision", json_string("f32"));
    json_object_set_new(data, "dump_stages", json_string(out));
    json_t *message = json_pack("{s:s,s:s,s:o}", "type", "generate", "request_id", "lora", "data",
                                data);
    char *text = json_dumps(message, JSON_COMPACT);
    assert_int_equal(darkroom_submit(b->engine, text), 0);
    darkroom_drain(b->engine);
    dr_free(text);
    json_decref(message);
}

/* The same with files of the golden folder. */
static void submit(struct bench *b, json_t *data, const char *out)
{
    char path[1200];
    json_t *item;
    size_t i;
    json_array_foreach(json_object_get(data, "loras"), i, item)
    {
        const char *file = json_string_value(json_object_get(item, "path"));
        snprintf(path, sizeof path, "%s/%s", b->golden, file);
        json_object_set_new(item, "path", json_string(path));
    }
    submit_as_it_is(b, data, out);
}

/* The last latents of a request with these LoRAs (taken over; NULL: none). */
static struct npy draw(struct bench *b, const char *name, const json_t *request, json_t *loras)
{
    char out[1100];
    snprintf(out, sizeof out, "%s/%s", test_dir(), name);
    json_t *data = json_deep_copy(request);
    json_object_del(data, "loras");
    if (loras)
        json_object_set_new(data, "loras", loras);
    submit(b, data, out);
    if (!json_is_true(json_object_get(b->answer, "success")))
        fail_msg("%s: %s", name, json_string_value(json_object_get(b->answer, "error")));
    return load(out, "latents_001");
}

static double apart(const struct npy *a, const struct npy *b)
{
    assert_int_equal(a->count, b->count);
    return test_rel_l2(a->data, b->data, (size_t)a->count);
}

static json_t *cases_of(const struct bench *b)
{
    char path[1200];
    json_t *cases;
    struct dr_error err;
    snprintf(path, sizeof path, "%s/cases.json", b->golden);
    if (jx_parse_file(path, NULL, &cases, &err) < 0)
        fail_msg("%s", err.text);
    assert_true(json_array_size(cases) >= 4);
    return cases;
}

/* Nothing is said of the LoRA: all of it was used. */
static void no_warning_of(const struct bench *b, const char *name)
{
    const json_t *warnings = json_object_get(json_object_get(b->answer, "data"), "warnings");
    json_t *text;
    size_t i;
    json_array_foreach(warnings, i, text)
    {
        printf("%s\n", json_string_value(text));
        assert_null(strstr(json_string_value(text), name));
    }
}

static void all_agree(const char *golden, const char *made)
{
    struct bench b;
    bench_open_with(&b, golden, made);
    json_t *cases = cases_of(&b), *entry;
    struct npy base = load(b.golden, "base");
    double worst = 0;
    size_t i;
    json_array_foreach(cases, i, entry)
    {
        const char *name = json_string_value(json_object_get(entry, "name"));
        const json_t *request = json_object_get(entry, "request");
        struct npy theirs = load(b.golden, name);
        struct npy ours = draw(&b, name, request,
                               json_deep_copy(json_object_get(request, "loras")));
        double error = apart(&ours, &theirs), change = apart(&theirs, &base);
        printf("%-16s error %.2e, change of the latents %.2e\n", name, error, change);
        no_warning_of(&b, name);
        if (change < 100 * LIMIT)
            fail_msg("%s changes too little to be seen", name);
        worst = error > worst ? error : worst;
        npy_free(&ours);
        npy_free(&theirs);
    }
    struct npy plain = draw(&b, "without", json_object_get(json_array_get(cases, 0), "request"),
                            NULL);
    printf("%-16s error %.2e\n", "base", apart(&plain, &base));
    assert_true(apart(&plain, &base) <= LIMIT);
    if (!(worst <= LIMIT))
        fail_msg("off by %g", worst);
    npy_free(&plain);
    npy_free(&base);
    json_decref(cases);
    bench_close(&b);
}

static void every_family_agrees(void **state)
{
    (void)state;
    all_agree("lora", NULL);
}

static void stable_diffusion_1_agrees(void **state)
{
    (void)state;
    all_agree("lora_sd1", "sd1");
}

/* A request's LoRA with what is said of it. */
static json_t *lora(const char *file, double strength, double text, double start, double end)
{
    return json_pack("{s:s,s:f,s:f,s:f,s:f}", "path", file, "strength", strength, "text_strength",
                     text, "start", start, "end", end);
}

static json_t *request_of(const struct bench *b)
{
    json_t *cases = cases_of(b);
    json_t *request = json_deep_copy(json_object_get(json_array_get(cases, 0), "request"));
    json_decref(cases);
    return request;
}

static struct npy draw_with(struct bench *b, const json_t *request, json_t *loras)
{
    static int turn;
    char name[32];
    snprintf(name, sizeof name, "drawn_%d", turn++);
    return draw(b, name, request, loras);
}

static void must_equal(struct npy a, struct npy b, bool equal, const char *what)
{
    assert_int_equal(a.count, b.count);
    if (!memcmp(a.data, b.data, (size_t)a.count * sizeof(float)) != equal)
        fail_msg("%s: %s", what, equal ? "other bits" : "the same bits");
    npy_free(&a);
    npy_free(&b);
}

#define KOHYA "kohya.safetensors"
#define LOHA "loha.safetensors"

/* What changes nothing has the base's bits; the order of those that add does not matter. */
static void sets_that_are_equal_give_equal_bits(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b);
    json_t *q = request_of(&b);
    must_equal(draw_with(&b, q, NULL), draw_with(&b, q, json_array()), true, "an empty list");
    must_equal(draw_with(&b, q, NULL), draw_with(&b, q, json_pack("[o]", lora(KOHYA, 0, 0, 0, 1))),
               true, "strength 0");
    must_equal(
        draw_with(&b, q, json_pack("[o,o]", lora(KOHYA, 0.5, 1, 0, 1), lora(LOHA, -0.25, 1, 0, 1))),
        draw_with(&b, q, json_pack("[o,o]", lora(LOHA, -0.25, 1, 0, 1), lora(KOHYA, 0.5, 1, 0, 1))),
        true, "two in another order");
    must_equal(draw_with(&b, q, json_pack("[o]", lora(KOHYA, 0.5, 0.5, 0, 1))),
               draw_with(&b, q, json_pack("[{s:s,s:f}]", "path", KOHYA, "strength", 0.5)), true,
               "text_strength left out");
    must_equal(draw_with(&b, q, json_pack("[o]", lora(KOHYA, 0.5, 0.5, 0, 1))),
               draw_with(&b, q, json_pack("[o]", lora(KOHYA, 0.5, 0, 0, 1))), false,
               "the text encoders are changed");
    must_equal(draw_with(&b, q, json_pack("[o]", lora(KOHYA, 0, 0.5, 0, 1))),
               draw_with(&b, q, json_pack("[o]", lora(KOHYA, 0.5, 0.5, 0, 1))), false,
               "the UNet is changed");
    must_equal(
        draw_with(&b, q,
                  json_pack("[{s:s,s:s}]", "path", LOHA, "blocks", "0;1;1;1;1;1;1;1;1;1;1;1")),
        draw_with(&b, q, json_pack("[{s:s,s:s}]", "path", LOHA, "blocks", "none")), false,
        "some blocks are changed");
    json_decref(q);
    bench_close(&b);
}

static void stage_of(int run, const char *stage, struct npy *ret)
{
    char folder[1100];
    snprintf(folder, sizeof folder, "%s/phase_%d", test_dir(), run);
    *ret = load(folder, stage);
}

/* In the first of two evaluations as with it for the whole run, in the second as without it. */
static void a_span_of_evaluations_is_a_phase(void **state)
{
    (void)state;
    static const double spans[][2] = { { 0, 1 }, { 0, 0.5 }, { 0.5, 1 } };
    struct bench b;
    struct npy all, first, second, one, other;
    bench_open(&b);
    json_t *q = request_of(&b);
    for (int i = 0; i < 3; i++) {
        char name[32];
        snprintf(name, sizeof name, "phase_%d", i);
        struct npy latents = draw(&b, name, q,
                                  json_pack("[o]", lora(LOHA, 1, 1, spans[i][0], spans[i][1])));
        npy_free(&latents);
    }
    struct npy latents = draw(&b, "phase_3", q, NULL);
    npy_free(&latents);
    stage_of(0, "pred_000", &all);
    stage_of(1, "pred_000", &first);
    must_equal(all, first, true, "the first half of its span");
    stage_of(3, "pred_000", &one);
    stage_of(2, "pred_000", &second);
    must_equal(one, second, true, "before its span");
    stage_of(0, "pred_001", &one);
    stage_of(1, "pred_001", &other);
    must_equal(one, other, false, "after its span");
    stage_of(3, "pred_001", &one);
    stage_of(2, "pred_001", &other);
    must_equal(one, other, false, "in its span");
    latents = draw(&b, "phase_4", q, json_pack("[o]", lora(LOHA, 1, 0, 0.6, 0.9)));
    npy_free(&latents);
    const json_t *warnings = json_object_get(json_object_get(b.answer, "data"), "warnings");
    assert_non_null(json_string_value(json_array_get(warnings, 0)));
    assert_non_null(strstr(json_string_value(json_array_get(warnings, 0)),
                           "none of the 2 evaluations is between start 0.6 and end 0.9"));
    json_decref(q);
    bench_close(&b);
}

/* A hundred LoRAs come and go, two at a time: the base is what it was. */
static void the_base_is_left_alone(void **state)
{
    (void)state;
    static const char *const files[] = { KOHYA, LOHA, "dora.safetensors", "oft.safetensors",
                                         "full.safetensors" };
    struct bench b;
    bench_open(&b);
    json_t *q = request_of(&b);
    json_object_set_new(q, "steps", json_integer(2));
    struct npy base = draw_with(&b, q, NULL);
    for (int i = 0; i < 50; i++) {
        double strength = (i % 7 - 3) * 0.25;
        struct npy with = draw_with(&b, q,
                                    json_pack("[o,o]", lora(files[i % 5], strength, 1, 0, 1),
                                              lora(files[(i + 2) % 5], -strength, 0.5, 0, 1)));
        npy_free(&with);
    }
    must_equal(base, draw_with(&b, q, NULL), true, "after a hundred LoRAs");
    json_decref(q);
    bench_close(&b);
}

/* Another file by the name of one that is in a receipt, in a folder that is looked at first. */
static void add_decoy(const struct bench *b, const char *file, const char *name)
{
    char from[1200], folder[1100], to[1300];
    struct buf bytes;
    struct dr_error err;
    buf_init(&bytes, DR_TAG_TEST, 1 << 22);
    snprintf(from, sizeof from, "%s/%s", b->golden, file);
    snprintf(folder, sizeof folder, "%s/decoy", test_dir());
    snprintf(to, sizeof to, "%s/%s", folder, name);
    if (dr_read_file(from, 1 << 22, &bytes, &err) || dr_mkdirs(folder, &err) ||
        dr_write_file(to, bytes.data, bytes.len, &err))
        fail_msg("%s", err.text);
    buf_free(&bytes);
    snprintf(to, sizeof to, "%s:%s", folder, b->golden);
    assert_int_equal(setenv("DARKROOM_LORAS", to, 1), 0);
}

/* A receipt names each file by name and digest; with it the picture is drawn again, whatever else
 * has the name. */
static void receipts_draw_it_again(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b);
    assert_int_equal(setenv("DARKROOM_LORAS", b.golden, 1), 0);
    json_t *q = request_of(&b), *receipt, *item;
    struct npy once = draw_with(&b, q,
                                json_pack("[o,{s:s,s:f,s:s}]", lora(KOHYA, 0.5, -1, 0, 0.5), "path",
                                          LOHA, "strength", 0.25, "blocks", "outall"));
    receipt = json_array_get(json_object_get(json_object_get(b.answer, "data"), "receipts"), 0);
    json_t *again = json_deep_copy(json_object_get(receipt, "loras"));
    assert_int_equal(json_array_size(again), 2);
    item = json_array_get(again, 1);
    assert_string_equal(json_string_value(json_object_get(item, "path")), "loha");
    assert_string_equal(json_string_value(json_object_get(item, "blocks")), "outall");
    assert_int_equal(strlen(json_string_value(json_object_get(item, "sha256"))), 64);
    char out[1100];
    snprintf(out, sizeof out, "%s/again", test_dir());
    json_t *data = json_deep_copy(q);
    add_decoy(&b, KOHYA, LOHA);
    json_object_set(data, "loras", again);
    submit_as_it_is(&b, data, out);
    must_equal(once, load(out, "latents_001"), true, "drawn again");
    json_object_set_new(json_array_get(again, 0), "sha256", json_string("00"));
    data = json_deep_copy(q);
    json_object_set_new(data, "loras", again);
    snprintf(out, sizeof out, "%s/refused", test_dir());
    submit_as_it_is(&b, data, out);
    assert_false(json_is_true(json_object_get(b.answer, "success")));
    assert_non_null(strstr(json_string_value(json_object_get(b.answer, "error")), "expected 00"));
    json_decref(q);
    bench_close(&b);
}

/* Memory of the variant is in the plan, once. */
static double number_at(const struct bench *b, const char *object, const char *key)
{
    return json_number_value(
        json_object_get(json_object_get(json_object_get(b->answer, "data"), object), key));
}

static void plan_with(struct bench *b, const json_t *request, json_t *loras)
{
    json_t *data = json_deep_copy(request);
    json_object_set_new(data, "loras", loras);
    json_object_set_new(data, "model", json_string(b->model));
    json_object_set_new(data, "precision", json_string("f32"));
    json_t *message = json_pack("{s:s,s:s,s:o}", "type", "plan", "request_id", "plan", "data",
                                data);
    char *text = json_dumps(message, JSON_COMPACT);
    assert_int_equal(darkroom_submit(b->engine, text), 0);
    darkroom_drain(b->engine);
    dr_free(text);
    json_decref(message);
}

/* What a plan says of second weights, before they are made and afterwards; half of the run without
 * the LoRA makes no difference. */
static void plans_count_the_changed_weights(void **state)
{
    (void)state;
    struct bench b;
    char path[1200];
    bench_open(&b);
    json_t *q = request_of(&b);
    snprintf(path, sizeof path, "%s/" LOHA, b.golden);
    plan_with(&b, q, json_array());
    double base = number_at(&b, "tagged", "weights");
    assert_true(base > 0 && number_at(&b, "variants", "bytes") == 0);
    plan_with(&b, q, json_pack("[{s:s,s:f}]", "path", path, "end", 0.5));
    double bytes = number_at(&b, "variants", "bytes");
    printf("weights: %.0f bytes, of the LoRA %.0f\n", base, bytes);
    assert_true(number_at(&b, "variants", "layers") == 8 && bytes > 10000);
    assert_true(number_at(&b, "variants", "missing_bytes") == bytes);
    assert_true(number_at(&b, "tagged", "weights") == base + bytes);
    struct npy latents = draw_with(&b, q, json_pack("[{s:s,s:f}]", "path", LOHA, "end", 0.5));
    npy_free(&latents);
    plan_with(&b, q, json_pack("[{s:s}]", "path", path));
    assert_true(number_at(&b, "variants", "bytes") == bytes);
    assert_true(number_at(&b, "variants", "missing_bytes") == 0);
    json_decref(q);
    bench_close(&b);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(every_family_agrees),
    cmocka_unit_test(stable_diffusion_1_agrees),
    cmocka_unit_test(sets_that_are_equal_give_equal_bits),
    cmocka_unit_test(a_span_of_evaluations_is_a_phase),
    cmocka_unit_test(the_base_is_left_alone),
    cmocka_unit_test(receipts_draw_it_again),
    cmocka_unit_test(plans_count_the_changed_weights),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
