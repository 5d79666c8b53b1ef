/* test_worker_requests.c - requests to darkroom-worker: paths, files, progress, receipts. */
#include "testing/helpers/worker_host.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/buf.h"
#include "base/fs.h"
#include "base/image/image.h"
#include "testing/helpers/program.h"

static void paths_stay_in_the_roots(void **state)
{
    (void)state;
    struct host h;
    char root[300], path[400];
    const char *folder = program_folder();
    snprintf(root, sizeof root, "%s/root", folder);
    assert_int_equal(dr_mkdirs("root", NULL), 0);
    assert_int_equal(dr_mkdirs("secret", NULL), 0);
    assert_int_equal(symlink("../secret", "root/out"), 0);
    host_begin(&h, "--root", root);
    static const char *const outside[] = { "/tmp",   "%s/..",    "%s/../secret",
                                           "%s/out", "%s/out/x", "%s/new/../../secret" };
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++) {
        if (outside[i][0] == '%')
            snprintf(path, sizeof path, "%s%s", root, outside[i] + 2);
        else
            snprintf(path, sizeof path, "%s", outside[i]);
        host_ask_picture(&h, "save", json_pack("{s:s}", "save_path", path));
        host_must_fail(&h, "save", "INVALID_VALUE", "save_path");
        host_ask_picture(&h, "dump", json_pack("{s:s}", "dump_stages", path));
        host_must_fail(&h, "dump", "INVALID_VALUE", "dump_stages");
        host_ask_picture(&h, "load", json_pack("{s:{s:s}}", "load_stage", "image", path));
        host_must_fail(&h, "load", "INVALID_VALUE", "load_stage");
    }
    snprintf(path, sizeof path, "%s/new/er", root);
    host_ask_picture(&h, "../../evil", json_pack("{s:s,s:i}", "save_path", path, "batch_size", 2));
    json_t *event = host_answer(&h, "../../evil");
    const json_t *images = json_object_get(json_object_get(event, "data"), "images");
    assert_int_equal(json_array_size(images), 2);
    assert_int_equal(program_entries("root/new/er"), 2);
    assert_memory_equal(json_string_value(json_array_get(images, 0)), path, strlen(path));
    json_decref(event);
    assert_int_equal(program_entries("secret"), 0);
    assert_int_equal(program_entries("."), 2);
    assert_int_equal(host_end(&h), 0);
}

/* Two ids never share a file, whatever is in them. */
static void files_are_called_by_their_id(void **state)
{
    (void)state;
    struct host h;
    char ids[6][256] = { "a_b", "a/b", "a b", "\xe6\x97\xa5" }, path[400];
    for (int i = 4; i < 6; i++) {
        memset(ids[i], 'x', 200);
        ids[i][200] = (char)('0' + i);
    }
    const char *folder = program_folder();
    host_begin(&h, "--root", folder);
    for (int i = 0; i < 6; i++) {
        host_ask_picture(&h, ids[i], json_pack("{s:s}", "save_path", folder));
        json_t *event = host_answer(&h, ids[i]);
        assert_true(json_is_true(json_object_get(event, "success")));
        json_decref(event);
        assert_int_equal(program_entries(folder), i + 1);
    }
    snprintf(path, sizeof path, "%s/a_b_000.png", folder);
    assert_true(dr_is_file(path));
    assert_int_equal(host_end(&h), 0);
}

/* An error that quotes more than there is room for is cut between characters. */
static void long_values_are_quoted(void **state)
{
    (void)state;
    struct host h;
    char value[401] = "";
    for (size_t i = 0; i < 400; i += 2)
        memcpy(value + i, "\xc3\xa9", 3);
    host_begin(&h, NULL, NULL);
    host_ask_picture(&h, "a", json_pack("{s:s}", "sampler", value));
    host_must_fail(&h, "a", "INVALID_VALUE", "sampler");
    host_ask_picture(&h, "b", json_pack("{s:i}", value, 1));
    host_must_fail(&h, "b", "INVALID_VALUE", NULL);
    assert_int_equal(host_end(&h), 0);
}

static void without_a_root_there_is_base64(void **state)
{
    (void)state;
    struct host h;
    struct buf bytes;
    int64_t width, height;
    const char *folder = program_folder();
    host_begin(&h, NULL, NULL);
    host_ask_picture(&h, "a", json_pack("{s:s}", "save_path", folder));
    host_must_fail(&h, "a", "INVALID_VALUE", "save_path");
    host_ask_picture(&h, "b", NULL);
    json_t *event = host_answer(&h, "b");
    const json_t *data = json_object_get(event, "data");
    const char *text = json_string_value(json_array_get(json_object_get(data, "images"), 0));
    assert_non_null(text);
    assert_string_equal(host_text(data, "encoding"), "base64");
    buf_init(&bytes, DR_TAG_TEST, 0);
    assert_int_equal(base64_decode(text, strlen(text), false, &bytes, NULL), 0);
    assert_int_equal(img_sniff(bytes.data, bytes.len), IMG_PNG);
    assert_int_equal(img_probe(bytes.data, bytes.len, &width, &height, NULL), 0);
    assert_int_equal(width, 64);
    assert_int_equal(json_integer_value(json_array_get(json_object_get(data, "seed_used"), 0)), 1);
    buf_free(&bytes);
    json_decref(event);
    assert_int_equal(program_entries(folder), 0);
    assert_int_equal(host_end(&h), 0);
}

static int progress_lines(struct host *h, const char *id)
{
    int n = 0;
    for (;;) {
        json_t *event = host_hear(h);
        assert_non_null(event);
        bool progress = host_is_progress(event);
        assert_string_equal(host_text(event, "request_id"), id);
        json_decref(event);
        if (!progress)
            return n;
        n++;
    }
}

static void progress_comes_when_asked_for(void **state)
{
    (void)state;
    struct host h;
    host_begin(&h, NULL, NULL);
    host_ask_picture(&h, "quiet", NULL);
    assert_int_equal(progress_lines(&h, "quiet"), 0);
    host_ask_picture(&h, "told", json_pack("{s:b}", "stream", 1));
    assert_true(progress_lines(&h, "told") >= 2);
    assert_int_equal(host_end(&h), 0);
}

/* Ninety words: both encoders cut them after 75. */
static json_t *long_prompt(void)
{
    char words[181] = "";
    for (int i = 0; i < 90; i++)
        memcpy(words + 2 * i, "a ", 3);
    return json_string(words);
}

/* Before the first step, and before the seed that says that it begins. */
static void a_cut_prompt_is_told_before_it_is_drawn(void **state)
{
    (void)state;
    static const char first[] = "the prompt has 90 tokens; those after 75 are cut: "
                                "'a a a a a a a a a a a a a a a '";
    struct host h;
    int told = 0;
    bool drawing = false;
    host_begin(&h, NULL, NULL);
    host_ask_picture(
        &h, "a",
        json_pack("{s:o,s:s,s:b}", "prompt", long_prompt(), "prompt_syntax", "plain", "stream", 1));
    for (;;) {
        json_t *event = host_hear(&h);
        assert_non_null(event);
        const json_t *data = json_object_get(event, "data");
        const json_t *warnings = json_object_get(data, "warnings");
        if (!host_is_progress(event)) {
            assert_int_equal(json_array_size(warnings), 1);
            assert_string_equal(json_string_value(json_array_get(warnings, 0)), first);
            json_decref(event);
            break;
        }
        drawing |= json_object_get(data, "seed") ||
                   json_integer_value(json_object_get(data, "step"));
        if (*host_text(data, "warning")) {
            assert_false(drawing);
            if (!told++)
                assert_string_equal(host_text(data, "warning"), first);
        }
        json_decref(event);
    }
    assert_true(drawing);
    assert_int_equal(told, 1);
    assert_int_equal(host_end(&h), 0);
}

/* Nor only by `generate`. */
static void a_cut_prompt_is_told_without_drawing(void **state)
{
    (void)state;
    static const char *const verbs[] = { "validate", "plan" };
    struct host h;
    host_begin(&h, NULL, NULL);
    for (int i = 0; i < 4; i++) {
        int told = 0, stream = i % 2;
        host_say_json(&h, json_pack("{s:s,s:s,s:{s:o,s:s,s:b}}", "type", verbs[i / 2], "request_id",
                                    "v", "data", "prompt", long_prompt(), "prompt_syntax", "plain",
                                    "stream", stream));
        json_t *event = host_hear(&h);
        for (; event && host_is_progress(event); event = host_hear(&h)) {
            told += *host_text(json_object_get(event, "data"), "warning") != '\0';
            json_decref(event);
        }
        const json_t *data = json_object_get(event, "data");
        assert_true(json_is_true(json_object_get(event, "success")));
        assert_int_equal(json_array_size(json_object_get(data, "warnings")), 1);
        assert_int_equal(told, stream ? 1 : 0);
        json_decref(event);
    }
    assert_int_equal(host_end(&h), 0);
}

static void fields_are_checked(void **state)
{
    (void)state;
    struct host h;
    host_begin(&h, NULL, NULL);
    host_ask_picture(&h, "a", json_pack("{s:i}", "widht", 64));
    host_must_fail(&h, "a", "INVALID_VALUE", "widht");
    host_ask_picture(&h, "b", json_pack("{s:i}", "width", 1001));
    host_must_fail(&h, "b", "INVALID_VALUE", "width");
    host_ask_picture(&h, "c", json_pack("{s:i}", "num_inference_steps", 3));
    host_must_fail(&h, "c", "INVALID_VALUE", "num_inference_steps");
    host_ask_picture(&h, "d", json_pack("{s:s}", "model", "/no/such/model"));
    host_must_fail(&h, "d", "NOT_FOUND", "model");
    assert_int_equal(host_end(&h), 0);
}

/* The errors of `validate` have these paths, up to NULL. */
static void must_find(struct host *h, const char *data, const char *const *paths)
{
    json_t *fields = json_loads(data, 0, NULL);
    assert_non_null(fields);
    host_say_json(
        h, json_pack("{s:s,s:s,s:o}", "type", "validate", "request_id", "v", "data", fields));
    json_t *event = host_answer(h, "v"), *answer = json_object_get(event, "data");
    const json_t *errors = json_object_get(answer, "errors");
    size_t n = 0;
    assert_true(json_is_true(json_object_get(event, "success")));
    for (; paths[n]; n++) {
        const json_t *error = json_array_get(errors, n);
        if (strcmp(host_text(error, "path"), paths[n]) ||
            !strstr(host_text(error, "error"), paths[n]) || !*host_text(error, "error_code"))
            fail_msg("%s: error %zu is of \"%s\": %s", data, n, host_text(error, "path"),
                     host_text(error, "error"));
    }
    if (json_array_size(errors) != n)
        fail_msg("%s: and %s", data, host_text(json_array_get(errors, n), "error"));
    assert_true(json_is_true(json_object_get(answer, "valid")) == !n);
    json_decref(event);
}

/* All mistakes of form; without one, the first of the rest. */
static void validate_lists_all_mistakes_of_form(void **state)
{
    (void)state;
    static const struct {
        const char *data;
        const char *paths[12];
    } cases[] = {
        { "{\"prompt\":\"x\"}", { NULL } },
        { "{}", { "prompt" } },
        { "{\"prompt\":\"x\",\"model\":\"\",\"scheduler\":\"karas\"}", { "model" } },
        { "{\"prompt\":\"x\",\"scheduler\":\"karas\"}", { "scheduler" } },
        { "{\"prompt\":\"x\",\"sampler\":\"euler\",\"scheduler\":\"heun\"}", { "scheduler" } },
        { "{\"prompt\":\"x\",\"n_iter\":2,\"scheduler\":\"\"}", { "n_iter", "scheduler" } },
        /* a wrong type, out of range, unknown; not: not a multiple, no such name */
        { "{\"prompt\":7,\"steps\":0,\"widht\":64,\"width\":1001,\"height\":1003,\"sampler\":"
          "\"eular\","
          "\"schedule\":\"karas\",\"preset\":\"comfy\",\"clip_skip\":12}",
          { "prompt", "steps", "widht" } },
        { "{\"prompt\":\"x\",\"model\":\"/no/such\",\"width\":1001}", { "model" } },
        { "{\"prompt\":\"x\",\"model\":\"/no/such\",\"kernels\":\"mmx\"}", { "kernels" } },
        { "{\"prompt\":\"x\",\"model\":7,\"kernels\":\"mmx\",\"batch_size\":99}",
          { "model", "batch_size" } },
        { "{\"prompt\":\"x\",\"width\":1001,\"sampler\":\"eular\"}", { "width" } },
        { "{\"prompt\":\"x\",\"sampler\":\"eular\",\"eta\":0.5}", { "sampler" } },
        { "{\"prompt\":\"x\",\"schedule\":\"karas\"}", { "schedule" } },
        { "{\"prompt\":\"x\",\"preset\":\"comfy\"}", { "preset" } },
        { "{\"prompt\":\"x\",\"clip_skip\":12}", { "clip_skip" } },
        { "{\"prompt\":\"x\",\"sampler\":\"dpmpp_2m\",\"schedule\":\"karras\",\"eta\":0.5}",
          { "eta" } },
        /* paths, of which this worker takes none */
        { "{\"prompt\":\"x\",\"save_path\":\"/tmp\",\"quality\":101}", { "quality" } },
        { "{\"prompt\":\"x\",\"save_path\":\"/tmp\",\"dump_stages\":\"/tmp\"}", { "save_path" } },
        { "{\"prompt\":\"x\",\"dump_stages\":\"/tmp\"}", { "dump_stages" } },
        { "{\"prompt\":\"x\",\"load_stage\":{\"image\":\"/a.npy\"}}", { "load_stage" } },
        { "{\"prompt\":\"x\",\"prediction\":\"sample\",\"steps\":0}", { "steps" } },
        { "{\"prompt\":\"x\",\"prediction\":\"flow\"}", { "prediction" } },
    };
    struct host h;
    host_begin(&h, NULL, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        must_find(&h, cases[i].data, cases[i].paths);
    /* generate stops at the first */
    host_ask_picture(&h, "a", json_pack("{s:i,s:s}", "batch_size", 0, "sampler", "eular"));
    host_must_fail(&h, "a", "INVALID_VALUE", "batch_size");
    assert_int_equal(host_end(&h), 0);
}

static json_int_t held(struct host *h, const char *tag)
{
    host_say(h, "{\"type\":\"health\",\"request_id\":\"health\"}\n");
    json_t *event = host_answer(h, "health");
    const json_t *memory = json_object_get(json_object_get(event, "data"), "memory");
    json_int_t bytes = json_integer_value(json_object_get(json_object_get(memory, tag), "bytes"));
    json_decref(event);
    return bytes;
}

/* The weights, and what is remembered of the prompt that was drawn. */
static void a_wrong_kernel_set_lets_the_model_be(void **state)
{
    (void)state;
    static const char *const wrong[][2] = { { "\"kernels\":\"mmx\"", "kernels" },
                                            { "\"kernels\":7", "kernels" },
                                            { "\"precision\":\"f99\"", "precision" },
                                            { "\"precision\":\"int8\"", "precision" } };
    struct host h;
    host_begin(&h, NULL, NULL);
    host_say_json(&h, json_pack("{s:s,s:s,s:{s:s,s:s}}", "type", "load_model", "request_id", "l",
                                "data", "model", program_model(), "kernels", "avx2"));
    json_decref(host_answer(&h, "l"));
    host_ask_picture(&h, "a", json_pack("{s:s}", "kernels", "avx2"));
    json_decref(host_answer(&h, "a"));
    json_int_t weights = held(&h, "weights"), prompt = held(&h, "prompt"),
               model = held(&h, "model");
    assert_true(weights > 0 && prompt > 0 && model > 0);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        for (int other = 0; other < 2; other++) { /* also of a model that is not loaded */
            char data[600];
            const char *paths[] = { wrong[i][1], NULL };
            snprintf(data, sizeof data, "{\"prompt\":\"x\",\"width\":1001,%s,\"model\":\"%s\"}",
                     wrong[i][0], other ? "tiny" : program_model());
            must_find(&h, data, paths);
            assert_int_equal(held(&h, "weights"), weights);
            assert_int_equal(held(&h, "prompt"), prompt);
            assert_int_equal(held(&h, "model"), model);
        }
    assert_int_equal(host_end(&h), 0);
}

/* A receipt is a request for the same picture. */
static void a_receipt_is_a_request(void **state)
{
    (void)state;
    static const char *const fields[] = {
        "{\"sampler\":\"ddim\",\"eta\":0.5,\"crop\":\"8,4\",\"vae_tiling\":\"on\"}",
        "{\"negative_prompt\":\"\",\"schedule\":\"karras\",\"batch_size\":2,\"clip_skip\":1}",
        "{\"precision\":\"f32\",\"guidance_scale\":7.3,\"guidance_rescale\":0.1,\"rng\":\"cuda\"}",
        "{\"seed\":-1,\"sampler\":\"heun\",\"prompt_2\":\"y\",\"negative_prompt\":\"z\"}",
    };
    struct host h;
    host_begin(&h, "--models", test_source("testing/golden/odd"));
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        host_ask_picture(&h, "first", json_loads(fields[i], 0, NULL));
        json_t *first = host_answer(&h, "first"), *data = json_object_get(first, "data");
        size_t last = json_array_size(json_object_get(data, "images")) - 1;
        json_t *receipt = json_array_get(json_object_get(data, "receipts"), last);
        assert_non_null(receipt);
        host_say_json(&h, json_pack("{s:s,s:s,s:O}", "type", "generate", "request_id", "again",
                                    "data", receipt));
        json_t *again = host_answer(&h, "again"), *repeated = json_object_get(again, "data");
        if (!json_is_true(json_object_get(again, "success")))
            fail_msg("%s", host_text(again, "error"));
        assert_true(json_equal(json_array_get(json_object_get(data, "images"), last),
                               json_array_get(json_object_get(repeated, "images"), 0)));
        assert_true(json_equal(receipt, json_array_get(json_object_get(repeated, "receipts"), 0)));
        assert_int_equal(json_array_size(json_object_get(repeated, "warnings")),
                         json_array_size(json_object_get(data, "warnings")));
        json_decref(first);
        json_decref(again);
    }
    assert_int_equal(host_end(&h), 0);
}

/* Whether `validate` lets a receipt of a model with that digest pass. */
static void must_judge(struct host *h, const char *digest, bool valid)
{
    host_say_json(h, json_pack("{s:s,s:s,s:{s:s,s:s,s:s}}", "type", "validate", "request_id", "v",
                               "data", "prompt", "x", "model", "model", "model_sha256", digest));
    json_t *event = host_answer(h, "v");
    const json_t *data = json_object_get(event, "data");
    const json_t *error = json_array_get(json_object_get(data, "errors"), 0);
    if (json_is_true(json_object_get(data, "valid")) != valid)
        fail_msg("%s", json_dumps(event, 0));
    assert_string_equal(host_text(error, "path"), valid ? "" : "model_sha256");
    json_decref(event);
}

static void a_receipt_of_something_else_is_told(void **state)
{
    (void)state;
    struct host h;
    char digest[65];
    memset(digest, 'a', 64);
    digest[64] = '\0';
    host_begin(&h, "--models", test_source("testing/golden/odd"));
    host_ask_picture(&h, "a", json_pack("{s:s,s:s}", "model", "model", "model_sha256", digest));
    host_must_fail(&h, "a", "INVALID_VALUE", "model_sha256");
    must_judge(&h, digest, false);
    host_ask_picture(&h, "e", NULL);
    json_t *drawn = host_answer(&h, "e");
    const json_t *receipts = json_object_get(json_object_get(drawn, "data"), "receipts");
    const char *own = host_text(json_array_get(receipts, 0), "model_sha256");
    for (int i = 0; i < 64; i++)
        digest[i] = (char)toupper((unsigned char)own[i]);
    must_judge(&h, digest, true);
    json_decref(drawn);
    host_ask_picture(&h, "b", json_pack("{s:s}", "prediction", "flow"));
    host_must_fail(&h, "b", "INVALID_VALUE", "prediction");
    host_ask_picture(&h, "c", json_pack("{s:s,s:i}", "version", "0.0.1", "layout", 1000));
    json_t *event = host_answer(&h, "c");
    const json_t *warnings = json_object_get(json_object_get(event, "data"), "warnings");
    assert_true(json_array_size(warnings) >= 2);
    json_decref(event);
    host_ask_picture(&h, "d", json_pack("{s:s}", "model", "nowhere"));
    host_must_fail(&h, "d", "NOT_FOUND", "model");
    assert_int_equal(host_end(&h), 0);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(paths_stay_in_the_roots),
    cmocka_unit_test(files_are_called_by_their_id),
    cmocka_unit_test(long_values_are_quoted),
    cmocka_unit_test(without_a_root_there_is_base64),
    cmocka_unit_test(progress_comes_when_asked_for),
    cmocka_unit_test(a_cut_prompt_is_told_before_it_is_drawn),
    cmocka_unit_test(a_cut_prompt_is_told_without_drawing),
    cmocka_unit_test(fields_are_checked),
    cmocka_unit_test(validate_lists_all_mistakes_of_form),
    cmocka_unit_test(a_wrong_kernel_set_lets_the_model_be),
    cmocka_unit_test(a_receipt_is_a_request),
    cmocka_unit_test(a_receipt_of_something_else_is_told),
};

int main(int argc, char **argv)
{
    jx_init();
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
