/* test_image_to_image.c - jobs that begin with a picture agree with the reference's.
 *
 * The vectors were made by tools/golden/image_to_image.py. The limits are those of float32: 1e-5
 * for what a run begins with, 1e-4 for its last latents.
 */
#include "testing/helpers/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/npy.h"
#include "include/darkroom.h"
#include "testing/helpers/base_files.h"
#include "testing/helpers/made_model.h"

static const double STAGE_LIMIT = 1e-5, RUN_LIMIT = 1e-4;

struct bench {
    struct darkroom *engine;
    json_t *answer; /* the last one */
};

static void on_event(void *user, const char *json)
{
    struct bench *b = user;
    struct dr_error err;
    json_decref(b->answer);
    assert_int_equal(jx_parse(json, strlen(json), NULL, "event", &b->answer, &err), 0);
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

static struct npy load(const char *folder, const char *stage)
{
    char path[2400];
    struct npy a;
    struct dr_error err;
    snprintf(path, sizeof path, "%s/%s.npy", folder, stage);
    if (npy_load(path, &a, &err) < 0)
        fail_msg("%s", err.text);
    return a;
}

static void compare(const char *name, const char *ours, const char *stage, const char *theirs,
                    const char *reference, double limit)
{
    struct npy a = load(ours, stage), b = load(theirs, reference);
    assert_int_equal(a.ndim, b.ndim);
    assert_memory_equal(a.shape, b.shape, (size_t)a.ndim * sizeof *a.shape);
    double d = test_rel_l2(a.data, b.data, (size_t)a.count);
    printf("%-24s %-14s %.2e\n", name, reference, d);
    if (!(d <= limit))
        fail_msg("%s: %s is off by %g, allowed %g", name, reference, d, limit);
    npy_free(&a);
    npy_free(&b);
}

/* The stage with the latents after the last evaluation. */
static void last_stage(const char *folder, char ret[32])
{
    char path[2400];
    int at = 0;
    FILE *f;
    for (;; at++) {
        snprintf(path, sizeof path, "%s/latents_%03d.npy", folder, at);
        if (!(f = fopen(path, "rb")))
            break;
        fclose(f);
    }
    assert_true(at > 0);
    snprintf(ret, 32, "latents_%03d", at - 1);
}

/* A path of the request's pictures, in the golden folder. */
static void place_file(json_t *data, const char *field)
{
    char path[1200];
    const char *name = json_string_value(json_object_get(data, field));
    snprintf(path, sizeof path, "%s/%s", test_source("testing/golden/img2img"), name ? name : "");
    if (name)
        json_object_set_new(data, field, json_string(path));
}

static const json_t *data_of(const json_t *entry)
{
    return json_object_get(entry, "request");
}

static double strength_of(const json_t *entry)
{
    return json_number_value(json_object_get(data_of(entry), "strength"));
}

static void run_case(struct bench *b, const json_t *entry)
{
    char model[1200], folder[1200], ours[1200], theirs[1200], last[32];
    const char *name = json_string_value(json_object_get(entry, "name"));
    const char *made = json_string_value(json_object_get(entry, "model"));
    json_t *data = json_deep_copy(data_of(entry));
    snprintf(ours, sizeof ours, "%s/%s", test_dir(), name);
    snprintf(theirs, sizeof theirs, "%s/%s", test_source("testing/golden/img2img"), name);
    snprintf(model, sizeof model, "%s", test_source("testing/golden/odd/model"));
    if (strcmp(made, "odd") != 0) {
        snprintf(folder, sizeof folder, "%s/%s", test_dir(), made);
        made_model(made, folder, model, sizeof model);
    }
    place_file(data, "image");
    bool soft = json_is_object(json_object_get(data, "mask"));
    place_file(soft ? json_object_get(data, "mask") : data, soft ? "path" : "mask");
    json_object_set_new(data, "model", json_string(model));
    json_object_set_new(data, "dump_stages", json_string(ours));
    json_object_set_new(data, "precision", json_string("f32"));
    generate(b, data);
    compare(name, ours, "init_latents", theirs, "init_latents", STAGE_LIMIT);
    bool pure = json_is_string(json_object_get(data_of(entry), "mask")) && strength_of(entry) >= 1;
    if (!pure) /* else the reference has none */
        compare(name, ours, "latents_init", theirs, "latents_init", STAGE_LIMIT);
    last_stage(ours, last);
    compare(name, ours, last, theirs, "latents", RUN_LIMIT);
}

static void runs_agree_with_the_reference(void **state)
{
    (void)state;
    struct bench b = { .answer = NULL };
    struct dr_error err;
    json_t *cases, *entry;
    size_t i;
    char options[3000], error[512];
    snprintf(options, sizeof options, "{\"threads\":2,\"roots\":[\"%s\",\"%s\"]}", test_dir(),
             test_source("testing/golden"));
    if (darkroom_open(options, on_event, &b, &b.engine, error, sizeof error) < 0)
        fail_msg("%s", error);
    if (jx_parse_file(test_source("testing/golden/img2img/cases.json"), NULL, &cases, &err) < 0)
        fail_msg("%s", err.text);
    assert_true(json_array_size(cases) > 0);
    json_array_foreach(cases, i, entry) run_case(&b, entry);
    json_decref(cases);
    darkroom_close(b.engine);
    json_decref(b.answer);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_agree_with_the_reference),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
