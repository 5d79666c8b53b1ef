/* test_prompts.c - prompts that change and prompts of several parts, in whole jobs: every
 * evaluation is that of the texts which hold then. */
#include "testing/helpers/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/json.h"
#include "base/npy.h"
#include "include/darkroom.h"
#include "testing/helpers/base_files.h"

struct bench {
    struct darkroom *engine;
    json_t *answer;
    int runs;
};

static void on_event(void *user, const char *json)
{
    struct bench *b = user;
    struct dr_error err;
    json_decref(b->answer);
    assert_int_equal(jx_parse(json, strlen(json), NULL, "event", &b->answer, &err), 0);
}

static void bench_open(struct bench *b)
{
    char error[512], options[1300];
    memset(b, 0, sizeof *b);
    snprintf(options, sizeof options, "{\"kernels\":\"avx2\",\"threads\":2,\"roots\":[\"%s\"]}",
             test_dir());
    if (darkroom_open(options, on_event, b, &b->engine, error, sizeof error) < 0)
        fail_msg("%s", error);
}

static void bench_close(struct bench *b)
{
    darkroom_close(b->engine);
    json_decref(b->answer);
}

/* Draws with these members of the request; ret_out is the folder of its stages. */
static void draw(struct bench *b, const char *members, char ret_out[1200])
{
    char message[4000];
    snprintf(ret_out, 1200, "%s/run%d", test_dir(), b->runs++);
    snprintf(message, sizeof message,
             "{\"type\":\"generate\",\"request_id\":\"x\",\"data\":{\"model\":\"%s\","
             "\"precision\":\"f32\",\"width\":32,\"height\":24,\"steps\":5,"
             "\"dump_stages\":\"%s\"%s,%s}}",
             test_source("testing/golden/odd/model"), ret_out,
             strstr(members, "\"seed\"") ? "" : ",\"seed\":3", members);
    assert_int_equal(darkroom_submit(b->engine, message), 0);
    darkroom_drain(b->engine);
    if (!json_is_true(json_object_get(b->answer, "success")))
        fail_msg("%s: %s", members, json_string_value(json_object_get(b->answer, "error")));
}

static struct npy stage(const char *folder, const char *name, int at)
{
    char path[1400];
    struct npy a;
    struct dr_error err;
    snprintf(path, sizeof path, at < 0 ? "%s/%s.npy" : "%s/%s_%03d.npy", folder, name, at);
    if (npy_load(path, &a, &err) < 0)
        fail_msg("%s", err.text);
    return a;
}

static bool same(const char *a, const char *b, const char *name, int at)
{
    struct npy x = stage(a, name, at), y = stage(b, name, at);
    bool equal = x.count == y.count && !memcmp(x.data, y.data, (size_t)x.count * sizeof(float));
    npy_free(&x);
    npy_free(&y);
    return equal;
}

/* [a:b:2] reads a at evaluations 0, 1 and 2, then b: bit for bit, whatever came before. */
static void editing_is_one_prompt_after_another(void **state)
{
    (void)state;
    struct bench b;
    char first[1200], edited[1200], resumed[1200], second[1500];
    bench_open(&b);
    draw(&b, "\"prompt\":\"the sea\"", first);
    draw(&b, "\"prompt\":\"the [sea:red dog:2]\",\"prompt_syntax\":\"a1111\"", edited);
    snprintf(second, sizeof second,
             "\"prompt\":\"the red dog\",\"load_stage\":{\"latents_002\":\"%s/latents_002.npy\"}",
             first);
    draw(&b, second, resumed);
    for (int e = 0; e < 3; e++)
        assert_true(same(first, edited, "pred", e) && same(first, edited, "latents", e));
    for (int e = 3; e < 5; e++) {
        assert_false(same(first, edited, "pred", e));
        assert_true(same(resumed, edited, "pred", e) && same(resumed, edited, "latents", e));
    }
    /* two evaluations a step: a step of the prompt is one of them */
    draw(&b, "\"prompt\":\"the sea\",\"sampler\":\"heun\"", first);
    draw(&b,
         "\"prompt\":\"the [sea:red dog:0.5]\",\"prompt_syntax\":\"a1111\",\"sampler\":\"heun\"",
         edited);
    assert_true(same(first, edited, "pred", 5) && !same(first, edited, "pred", 6));
    bench_close(&b);
}

/* The prediction is negative + scale * the sum of weight * (part - negative). The parts' and the
 * negative one follow from runs with two scales each. */
static void parts_add_up(void **state)
{
    (void)state;
    struct bench b;
    char out[5][1200];
    static const char *const members[5] = {
        "\"prompt\":\"the sea\",\"guidance_scale\":2",
        "\"prompt\":\"the sea\",\"guidance_scale\":4",
        "\"prompt\":\"a red dog\",\"guidance_scale\":2",
        "\"prompt\":\"the sea AND a red dog "
        ":-0.5\",\"guidance_scale\":3,\"prompt_syntax\":\"a1111\"",
        "\"prompt\":\"the sea AND a red dog "
        ":-0.5\",\"guidance_scale\":1,\"prompt_syntax\":\"a1111\"",
    };
    struct npy p[5];
    bench_open(&b);
    for (int i = 0; i < 5; i++) {
        draw(&b, members[i], out[i]);
        p[i] = stage(out[i], "pred", 0);
    }
    size_t n = (size_t)p[0].count;
    float *want = malloc(n * sizeof *want);
    assert_non_null(want);
    for (int k = 3; k < 5; k++) {
        for (size_t i = 0; i < n; i++) {
            double two = ((float *)p[0].data)[i], four = ((float *)p[1].data)[i];
            double sea = (four - two) / 2, negative = two - 2 * sea;
            double dog = (((float *)p[2].data)[i] - negative) / 2;
            want[i] = (float)(negative + (k == 3 ? 3 : 1) * (sea - 0.5 * dog));
        }
        double error = test_rel_l2(p[k].data, want, n);
        print_message("scale %d: %.2g\n", k == 3 ? 3 : 1, error);
        assert_true(error <= 1e-5);
    }
    free(want);
    for (int i = 0; i < 5; i++)
        npy_free(&p[i]);
    bench_close(&b);
}

/* Pictures of a batch are those drawn alone, although their rows do not fit one forward of two. */
static void a_batch_is_its_pictures(void **state)
{
    (void)state;
    struct bench b;
    char alone[1200], together[1200], members[600];
    static const char prompt[] = "\"prompt\":\"[the|a] (sea:1.3) BREAK old AND a red dog AND x\","
                                 "\"negative_prompt\":\"[y:z:3]\",\"prompt_syntax\":\"a1111\","
                                 "\"seed\":%d%s";
    bench_open(&b);
    snprintf(members, sizeof members, prompt, 8, "");
    draw(&b, members, alone);
    snprintf(members, sizeof members, prompt, 7, ",\"batch_size\":2");
    draw(&b, members, together);
    struct npy one = stage(alone, "latents", 4), two = stage(together, "latents", 4);
    size_t bytes = (size_t)one.count * sizeof(float);
    assert_memory_equal(one.data, (char *)two.data + bytes, bytes);
    npy_free(&one);
    npy_free(&two);
    bench_close(&b);
}

/* All that a job needs is in its receipt. */
static void a_receipt_draws_it_again(void **state)
{
    (void)state;
    struct bench b;
    char first[1200], again[1200];
    bench_open(&b);
    draw(&b,
         "\"prompt\":\"the [sea:(dog:1.4):0.4] AND old :0.8\",\"prompt_syntax\":\"a1111\","
         "\"emphasis\":\"no_norm\"",
         first);
    json_t *receipt = json_deep_copy(
        json_array_get(json_object_get(json_object_get(b.answer, "data"), "receipts"), 0));
    assert_string_equal(json_string_value(json_object_get(receipt, "emphasis")), "no_norm");
    snprintf(again, sizeof again, "%s/again", test_dir());
    json_object_set_new(receipt, "dump_stages", json_string(again));
    json_object_set_new(receipt, "model", json_string(test_source("testing/golden/odd/model")));
    json_t *message = json_pack("{s:s,s:s,s:o}", "type", "generate", "request_id", "y", "data",
                                receipt);
    char *text = json_dumps(message, JSON_COMPACT);
    assert_int_equal(darkroom_submit(b.engine, text), 0);
    darkroom_drain(b.engine);
    if (!json_is_true(json_object_get(b.answer, "success")))
        fail_msg("%s", json_string_value(json_object_get(b.answer, "error")));
    assert_true(same(first, again, "latents", 4));
    dr_free(text);
    json_decref(message);
    bench_close(&b);
}

static void what_makes_no_sense_is_refused(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        { "\"prompt\":\"(a:1.2.3)\",\"prompt_syntax\":\"a1111\"", "prompt: got weight 1.2.3" },
        { "\"prompt\":\"a\",\"prompt_syntax\":\"midjourney\"", "prompt_syntax" },
        { "\"prompt\":\"a\",\"emphasis\":\"ignore\",\"prompt_syntax\":\"plain\"",
          "emphasis: got ignore" },
        { "\"prompt\":\"a\",\"prompt_2\":\"a AND b\",\"prompt_syntax\":\"a1111\"",
          "prompt_2: got AND" },
        { "\"prompt\":\"a clock at 10:30\",\"guidance\":\"pag\"", "a weight of the whole prompt" },
        { "\"prompt\":\"a AND b\",\"guidance\":\"pag\"", "parts with AND" },
        { "\"prompt\":\"a AND b\",\"preset\":\"sdcpp\",\"emphasis\":\"none\"", "emphasis" },
    };
    struct bench b;
    char message[2000];
    bench_open(&b);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(message, sizeof message,
                 "{\"type\":\"generate\",\"request_id\":\"x\",\"data\":{\"model\":\"%s\",%s}}",
                 test_source("testing/golden/odd/model"), cases[i][0]);
        assert_int_equal(darkroom_submit(b.engine, message), 0);
        darkroom_drain(b.engine);
        const char *error = json_string_value(json_object_get(b.answer, "error"));
        if (!error || !strstr(error, cases[i][1]))
            fail_msg("%s: %s", cases[i][0], error ? error : "success");
    }
    bench_close(&b);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(editing_is_one_prompt_after_another),
        cmocka_unit_test(parts_add_up),
        cmocka_unit_test(a_batch_is_its_pictures),
        cmocka_unit_test(a_receipt_draws_it_again),
        cmocka_unit_test(what_makes_no_sense_is_refused),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
