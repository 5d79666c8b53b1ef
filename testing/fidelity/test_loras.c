/* test_loras.c - pictures with LoRAs and their relatives agree with the reference, whatever trainer
 * wrote the file.
 *
 * The files and the last latents of diffusers with peft, and of lycoris-lora's merged weights, were
 * made by tools/golden/lora.py. The limit is that of a whole run in float32, 1e-4.
 */
#include "testing/helpers/test.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/json.h"
#include "base/npy.h"
#include "include/darkroom.h"
#include "testing/helpers/base_files.h"

static const double LIMIT = 1e-4;

struct bench {
    struct darkroom *engine;
    json_t *answer;
    char golden[1024];
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
    char options[3000], error[512];
    memset(b, 0, sizeof *b);
    snprintf(b->golden, sizeof b->golden, "%s", test_source("testing/golden/lora"));
    snprintf(options, sizeof options, "{\"kernels\":\"auto\",\"threads\":2,\"roots\":[\"%s\"]}",
             test_dir());
    if (darkroom_open(options, on_event, b, &b->engine, error, sizeof error) < 0)
        fail_msg("%s", error);
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

/* Sends the request with the golden folder's files and a folder for stages; takes it over. */
static void submit(struct bench *b, json_t *data, const char *out)
{
    char path[1200];
    json_t *lora;
    size_t i;
    json_array_foreach(json_object_get(data, "loras"), i, lora)
    {
        const char *file = json_string_value(json_object_get(lora, "path"));
        snprintf(path, sizeof path, "%s/%s", b->golden, file);
        json_object_set_new(lora, "path", json_string(*file == '/' ? file : path));
    }
    json_object_set_new(data, "model", json_string(test_source("testing/golden/odd/model")));
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
    assert_true(json_array_size(cases) > 10);
    return cases;
}

static void every_family_agrees(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b);
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
        assert_true(
            json_array_size(json_object_get(json_object_get(b.answer, "data"), "warnings")) == 0);
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

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(every_family_agrees),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
