/* test_communication_request.c - the table of fields: every alias, every bound, every wrong kind.
 */
#include "core/communication/request.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "testing/helpers/test.h"

/* A value that a field accepts, as JSON; new reference. */
static json_t *sample(const struct field_info *f)
{
    switch (f->type) {
    case FIELD_TYPE_INT:
        return json_integer(f->lo > 0 ? f->lo : 1);
    case FIELD_TYPE_SEED:
        return json_integer(3);
    case FIELD_TYPE_REAL:
        return json_real(0.25);
    case FIELD_TYPE_FLAG:
        return json_true();
    case FIELD_TYPE_CHOICE:
        return json_stringn(f->choices, strcspn(f->choices, "|="));
    case FIELD_TYPE_SIZE:
        return json_string("640x480");
    case FIELD_TYPE_PAIR:
        return json_string("3,4");
    case FIELD_TYPE_MAP:
        return json_pack("{s:s}", "latents_init", "a.npy");
    case FIELD_TYPE_SPECS:
        return json_pack("[{s:s}]",
                         field_key((enum field_id)(f - field_info((enum field_id)0)), 0)->name,
                         "a.safetensors");
    case FIELD_TYPE_NUMBERS:
        return json_pack("[f,f]", 999.0, 0.5);
    default:
        return json_string("text");
    }
}

/* A value of a kind that the field refuses. */
static json_t *wrong_kind(const struct field_info *f)
{
    return f->type == FIELD_TYPE_FLAG ? json_integer(1) : json_true();
}

/* {"a": {"b": value}} for "a.b". */
static json_t *nested(const char *name, json_t *value)
{
    char group[64];
    const char *dot = strchr(name, '.');
    if (!dot)
        return json_pack("{s:o}", name, value);
    snprintf(group, sizeof group, "%.*s", (int)(dot - name), name);
    return json_pack("{s:o}", group, nested(dot + 1, value));
}

static int parse(const char *text, struct request *r, struct dr_error *err)
{
    json_t *data;
    int code = jx_parse(text, strlen(text), NULL, "test", &data, err);
    if (code < 0)
        return code;
    code = request_parse(data, "data", NULL, r, err);
    json_decref(data);
    return code;
}

static void must_refuse(const char *text, int code, const char *path, const char *words)
{
    struct request r;
    struct dr_error err = { 0 };
    if (parse(text, &r, &err) != code || strcmp(err.path, path) || !strstr(err.text, words))
        fail_msg("%s: code %d, path \"%s\", text \"%s\"", text, err.code, err.path, err.text);
    for (int i = 0; i < FIELD_COUNT; i++)
        assert_false(request_has(&r, (enum field_id)i));
}

static void every_alias_is_its_field(void **state)
{
    (void)state;
    int tried = 0;
    for (int i = 0; i < FIELD_COUNT; i++) {
        const struct field_info *f = field_info((enum field_id)i);
        for (const char *p = f->aliases; *p;) {
            char alias[64];
            struct request r;
            struct dr_error err = { 0 };
            size_t n = strcspn(p, " ");
            snprintf(alias, sizeof alias, "%.*s", (int)n, p);
            p += n + (p[n] == ' ');
            json_t *data = nested(alias, sample(f));
            if (request_parse(data, "", NULL, &r, &err))
                fail_msg("%s: %s", alias, err.text);
            assert_true(request_has(&r, (enum field_id)i));
            json_t *canonical = request_json(&r);
            json_t *expected = json_pack("{s:o}", f->name, sample(f));
            assert_true(json_equal(canonical, expected));
            json_decref(canonical);
            json_decref(expected);
            json_decref(data);
            request_free(&r);
            tried++;
        }
    }
    assert_true(tried > 25);
}

static void two_spellings_must_agree(void **state)
{
    (void)state;
    struct request r;
    struct dr_error err = { 0 };
    assert_int_equal(parse("{\"steps\":7,\"num_inference_steps\":7,\"hyperparameters\":{\"steps\":"
                           "7.0}}",
                           &r, &err),
                     0);
    assert_int_equal(request_int(&r, FIELD_steps), 7);
    request_free(&r);
    assert_int_equal(parse("{\"sampler\":\"dpmpp_2m_sde,eta=0.80,s_noise=1\",\"sampler_name\":"
                           "{\"s_noise\":1.0,\"name\":\"dpmpp_2m_sde\",\"eta\":0.8}}",
                           &r, &err),
                     0);
    request_free(&r);
    must_refuse("{\"sampler\":\"ddim,eta=1\",\"sampler_name\":\"ddim,eta=0.5\"}", DR_EINVAL,
                "data.sampler_name", "sampler is the same field");
    must_refuse("{\"steps\":7,\"num_inference_steps\":8}", DR_EINVAL, "data.num_inference_steps",
                "steps is the same field");
    must_refuse("{\"cfg\":7,\"cfg_scale\":8}", DR_EINVAL, "data.cfg_scale", "(cfg is the same");
    must_refuse("{\"width\":64,\"dimensions\":{\"width\":72}}", DR_EINVAL, "data.dimensions.width",
                "width");
    must_refuse("{\"model\":\"a\",\"model_path\":\"b\"}", DR_EINVAL, "data.model_path", "model");
    must_refuse("{\"seed\":7,\"seed\":8}", DR_EFORMAT, "", "seed");
}

/* The request of the older worker for LoRAs is that of any picture. */
static void one_lora_beside_the_list(void **state)
{
    (void)state;
    struct request r;
    struct dr_error err;
    assert_int_equal(parse("{\"prompt\": \"x\", \"lora_name\": \"lamp\", \"lora_scale\": 0.8, "
                           "\"lora_adapters\": [{\"name\": \"sea\", \"weight\": -0.5}], "
                           "\"num_inference_steps\": 20, \"guidance_scale\": 7.5, "
                           "\"width\": 1024, \"height\": 1024, \"seed\": 5}",
                           &r, &err),
                     0);
    assert_int_equal(request_count(&r, FIELD_loras), 2);
    assert_string_equal(request_item_text(&r, FIELD_loras, 0, "path"), "lamp");
    assert_true(request_item_real(&r, FIELD_loras, 0, "strength") == 0.8);
    assert_string_equal(request_item_text(&r, FIELD_loras, 1, "path"), "sea");
    assert_true(request_item_real(&r, FIELD_loras, 1, "strength") == -0.5);
    request_free(&r);
    assert_int_equal(parse("{\"lora_name\": \"lamp\", \"loras\": \"sea\"}", &r, &err), 0);
    assert_int_equal(request_count(&r, FIELD_loras), 2);
    assert_true(request_item_real(&r, FIELD_loras, 0, "strength") == 1);
    request_free(&r);
    assert_int_equal(parse("{\"lora_name\": null, \"lora_scale\": null}", &r, &err), 0);
    assert_int_equal(request_count(&r, FIELD_loras), 0);
    request_free(&r);
    must_refuse("{\"lora_scale\": 1}", DR_EINVAL, "data.lora_name", "lora_scale");
    must_refuse("{\"lora_name\": 3}", DR_EINVAL, "data.lora_name", "a file");
    must_refuse("{\"lora_name\": \"a\", \"lora_scale\": \"b\"}", DR_EINVAL, "data.lora_scale",
                "a number");
}

static void unknown_fields_name_the_nearest(void **state)
{
    (void)state;
    must_refuse("{\"widht\":64}", DR_EINVAL, "data.widht", "unknown field (nearest: width)");
    must_refuse("{\"hyperparameters\":{\"sampling\":1}}", DR_EINVAL,
                "data.hyperparameters.sampling", "unknown");
    must_refuse("{\"guidance-scale\":1}", DR_EINVAL, "data.guidance-scale", "guidance_scale");
    static const char *const near[][2] = {
        { "promt", "prompt" },
        { "cfgscale", "cfg_scale" },
        { "guidance_scal", "guidance_scale" },
        { "num_inferense_steps", "num_inference_steps" },
        { "sampler_nam", "sampler_name" },
        { "num_image", "num_images" },
        { "shedule", "schedule" },
        { "negativ_prompt", "negative_prompt" },
    };
    for (size_t i = 0; i < sizeof near / sizeof *near; i++) {
        char text[64], path[64], words[64];
        snprintf(text, sizeof text, "{\"%s\":1}", near[i][0]);
        snprintf(path, sizeof path, "data.%s", near[i][0]);
        snprintf(words, sizeof words, "unknown field (nearest: %s)", near[i][1]);
        must_refuse(text, DR_EINVAL, path, words);
    }
    must_refuse("{\"qqqqqqqqqqqq\":1}", DR_EINVAL, "data.qqqqqqqqqqqq", "unknown");
    must_refuse("{\"dimensions\":5}", DR_EINVAL, "data.dimensions", "unknown");
}

static void somebody_elses_members_are_left_alone(void **state)
{
    (void)state;
    static const char *const ignored[] = { "session_id", NULL };
    struct request r;
    struct dr_error err = { 0 };
    json_t *data = json_pack("{s:s,s:n,s:i}", "session_id", "x", "width", "height", 64);
    assert_int_equal(request_parse(data, "", ignored, &r, &err), 0);
    assert_false(request_has(&r, FIELD_width)); /* null is absent */
    assert_int_equal(request_int(&r, FIELD_height), 64);
    request_free(&r);
    assert_int_equal(request_parse(data, "", NULL, &r, &err), DR_EINVAL);
    json_decref(data);
}

/* Each names its field; what is right is there. */
static void a_list_gets_every_error(void **state)
{
    (void)state;
    static const char text[] =
        "{\"width\":\"64\",\"steps\":0,\"widht\":8,\"format\":\"gif\",\"height\":64,\"seed\":1.5,"
        "\"hyperparameters\":{\"guidance_scale\":-1,\"sampling\":1},\"prompt\":7,\"batch_size\":1}";
    static const char *const paths[] = {
        "data.width",
        "data.steps",
        "data.widht",
        "data.format",
        "data.seed",
        "data.hyperparameters.guidance_scale",
        "data.hyperparameters.sampling",
        "data.prompt",
    };
    enum { N = sizeof paths / sizeof *paths };
    struct request r;
    struct dr_error err = { 0 };
    struct error_list list = { .n = 0 };
    json_t *data;
    assert_int_equal(jx_parse(text, strlen(text), NULL, "test", &data, &err), 0);
    assert_int_equal(request_parse_all(data, "data", NULL, &list, &r, &err), 0);
    assert_int_equal(list.n, N);
    for (int i = 0; i < N; i++)
        assert_string_equal(list.error[i].path, paths[i]);
    assert_int_equal(request_int(&r, FIELD_height), 64);
    assert_false(request_has(&r, FIELD_prompt));
    request_free(&r);
    list.n = 0;
    assert_int_equal(request_parse_all(data, "data", NULL, NULL, &r, &err), DR_EINVAL);
    assert_string_equal(err.path, paths[0]);
    assert_false(request_has(&r, FIELD_height));
    json_decref(data);
}

/* A request of nothing but mistakes ends when the list is full. */
static void a_full_list_ends_it(void **state)
{
    (void)state;
    struct request r;
    struct dr_error err = { 0 };
    struct error_list list = { .n = 0 };
    json_t *data = json_object();
    for (int i = 0; i < 2 * ERROR_LIST_MOST; i++) {
        char name[32];
        snprintf(name, sizeof name, "nothing_%d", i);
        assert_int_equal(jx_set(data, name, json_true()), 0);
    }
    assert_int_equal(request_parse_all(data, "", NULL, &list, &r, &err), DR_EINVAL);
    assert_int_equal(list.n, ERROR_LIST_MOST);
    assert_string_equal(list.error[ERROR_LIST_MOST - 1].path, "nothing_31");
    assert_string_equal(err.path, "nothing_32");
    json_decref(data);
}

static int set_number(const struct field_info *f, json_t *value)
{
    struct request r;
    json_t *data = json_pack("{s:o}", f->name, value);
    int code = request_parse(data, "", NULL, &r, NULL);
    json_decref(data);
    request_free(&r);
    return code;
}

static void bounds_are_inclusive_and_kept(void **state)
{
    (void)state;
    for (int i = 0; i < FIELD_COUNT; i++) {
        const struct field_info *f = field_info((enum field_id)i);
        if (f->type == FIELD_TYPE_INT) {
            assert_int_equal(set_number(f, json_integer(f->lo)), 0);
            assert_int_equal(set_number(f, json_integer(f->hi)), 0);
            assert_int_equal(set_number(f, json_integer(f->lo - 1)), DR_EINVAL);
            assert_int_equal(set_number(f, json_integer(f->hi + 1)), DR_EINVAL);
            assert_int_equal(set_number(f, json_real(1.5)), DR_EINVAL);
            assert_int_equal(set_number(f, json_real(1e300)), DR_EINVAL);
        }
        if (f->type == FIELD_TYPE_REAL) {
            assert_int_equal(set_number(f, json_integer(f->lo)), 0);
            assert_int_equal(set_number(f, json_real((double)f->hi)), 0);
            assert_int_equal(set_number(f, json_real((double)f->lo - 1e-9)), DR_EINVAL);
            assert_int_equal(set_number(f, json_real((double)f->hi + 1e-6)), DR_EINVAL);
        }
    }
}

/* As a number or as text, to the last bit, and again in what is sent on. */
static void seeds_are_exact(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        bool given;
        uint64_t seed;
    } good[] = {
        { "0", true, 0 },
        { "-1", false, 0 },
        { "\"-1\"", false, 0 },
        { "7.0", true, 7 },
        { "\"7\"", true, 7 },
        { "9007199254740993", true, 9007199254740993 },
        { "9223372036854775807", true, INT64_MAX },
        { "9223372036854775808", true, (uint64_t)INT64_MAX + 1 },
        { "18446744073709551615", true, UINT64_MAX },
        { "\"18446744073709551615\"", true, UINT64_MAX },
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        char text[100];
        uint64_t seed;
        struct request r;
        struct dr_error err = { 0 };
        snprintf(text, sizeof text, "{\"seed\":%s}", good[i].json);
        if (parse(text, &r, &err))
            fail_msg("%s: %s", text, err.text);
        assert_true(request_seed(&r, &seed) == good[i].given);
        assert_true(!good[i].given || seed == good[i].seed);
        json_t *again = request_json(&r);
        request_free(&r);
        assert_non_null(again);
        assert_int_equal(request_parse(again, "", NULL, &r, &err), 0);
        assert_true(request_seed(&r, &seed) == good[i].given);
        assert_true(!good[i].given || seed == good[i].seed);
        json_decref(again);
        request_free(&r);
    }
    static const char range[] = "an integer from -1 to 2^64-1";
    static const char *const bad[] = {
        "18446744073709551616",
        "\"18446744073709551616\"",
        "1e999",
        "1e19",
        "-2",
        "\"-2\"",
        "1.5",
        "\"1.5\"",
        "\"x\"",
        "\"\"",
        "\" 1\"",
        "\"+1\"",
        "true",
        "[]",
        "{}",
        "-9223372036854775809",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[100];
        snprintf(text, sizeof text, "{\"seed\":%s}", bad[i]);
        must_refuse(text, DR_EINVAL, "data.seed", range);
    }
    must_refuse("{\"seed\":18446744073709551616}", DR_EINVAL, "data.seed",
                "got 18446744073709551616");
    must_refuse("{\"seed\":1e999}", DR_EINVAL, "data.seed", "got 1e999");
    must_refuse("{\"seed\":18446744073709551615,\"hyperparameters\":{\"seed\":-1}}", DR_EINVAL,
                "data.hyperparameters.seed", "seed is the same field");
}

/* Other fields name themselves when a number is too large for any of them. */
static void large_numbers_name_their_field(void **state)
{
    (void)state;
    for (int i = 0; i < FIELD_COUNT; i++) {
        const struct field_info *f = field_info((enum field_id)i);
        char text[200], path[100];
        snprintf(path, sizeof path, "data.%s", f->name);
        snprintf(text, sizeof text, "{\"%s\":18446744073709551616}", f->name);
        must_refuse(text, DR_EINVAL, path, path);
        snprintf(text, sizeof text, "{\"%s\":-1e999}", f->name);
        must_refuse(text, DR_EINVAL, path, path);
    }
    must_refuse("{\"dimensions\":1e999}", DR_EINVAL, "data.dimensions", "unknown");
    must_refuse("{\"steps\":1e999}", DR_EINVAL, "data.steps", "got 1e999");
    must_refuse("{\"cfg\":1e999}", DR_EINVAL, "data.cfg", "got 1e999");
}

static void wrong_kinds_are_refused(void **state)
{
    (void)state;
    for (int i = 0; i < FIELD_COUNT; i++) {
        const struct field_info *f = field_info((enum field_id)i);
        assert_int_equal(set_number(f, wrong_kind(f)), DR_EINVAL);
        assert_int_equal(set_number(f, json_array()), f->type == FIELD_TYPE_SPECS ? 0 : DR_EINVAL);
    }
    must_refuse("[]", DR_EINVAL, "data", "an object");
    must_refuse("{\"width\":\"64\"}", DR_EINVAL, "data.width", "an integer");
    must_refuse("{\"load_stage\":{\"image\":1}}", DR_EINVAL, "data.load_stage", "image");
}

static int set_text(enum field_id id, const char *text)
{
    struct request r;
    request_init(&r);
    int code = request_set_text(&r, id, text, NULL);
    assert_int_equal(request_has(&r, id), code == 0);
    request_free(&r);
    return code;
}

static void text_is_read_whole(void **state)
{
    (void)state;
    static const struct {
        enum field_id id;
        const char *text;
        int code;
    } cases[] = {
        { FIELD_width, "64", 0 },
        { FIELD_width, "64px", DR_EINVAL },
        { FIELD_width, "", DR_EINVAL },
        { FIELD_width, " 64", DR_EINVAL },
        { FIELD_width, "\t64", DR_EINVAL },
        { FIELD_width, "1e2", DR_EINVAL },
        { FIELD_width, "99999999999999999999", DR_EINVAL },
        { FIELD_seed, "-1", 0 },
        { FIELD_seed, "9223372036854775807", 0 },
        { FIELD_seed, "9223372036854775808", 0 },
        { FIELD_seed, "18446744073709551615", 0 },
        { FIELD_seed, "18446744073709551616", DR_EINVAL },
        { FIELD_seed, "-2", DR_EINVAL },
        { FIELD_seed, "1.0", DR_EINVAL },
        { FIELD_seed, "0x10", DR_EINVAL },
        { FIELD_seed, "", DR_EINVAL },
        { FIELD_seed, " 1", DR_EINVAL },
        { FIELD_guidance_scale, "7.5", 0 },
        { FIELD_guidance_scale, "nan", DR_EINVAL },
        { FIELD_guidance_scale, "inf", DR_EINVAL },
        { FIELD_guidance_scale, "0x10", DR_EINVAL },
        { FIELD_guidance_scale, " 5", DR_EINVAL },
        { FIELD_guidance_scale, "-inf", DR_EINVAL },
        { FIELD_guidance_scale, "1e999", DR_EINVAL },
        { FIELD_guidance_scale, "7,5", DR_EINVAL },
        { FIELD_metadata, "true", 0 },
        { FIELD_metadata, "yes", DR_EINVAL },
        { FIELD_original_size, "1024x768", 0 },
        { FIELD_original_size, "1024x", DR_EINVAL },
        { FIELD_original_size, "x768", DR_EINVAL },
        { FIELD_original_size, "1024x768x3", DR_EINVAL },
        { FIELD_original_size, "1024x-768", DR_EINVAL },
        { FIELD_original_size, "1024X768", DR_EINVAL },
        { FIELD_original_size, "0x768", DR_EINVAL },
        { FIELD_original_size, "65537x1", DR_EINVAL },
        { FIELD_crop, "0,0", 0 },
        { FIELD_crop, "0x0", DR_EINVAL },
        { FIELD_crop, "5", DR_EINVAL },
        { FIELD_format, "jpg", 0 },
        { FIELD_format, "JPG", DR_EINVAL },
        { FIELD_format, "jpeg=jpg", DR_EINVAL },
        { FIELD_format, "", DR_EINVAL },
        { FIELD_load_stage, "image=a=b.npy", 0 },
        { FIELD_load_stage, "image", DR_EINVAL },
        { FIELD_load_stage, "=a.npy", DR_EINVAL },
        { FIELD_load_stage, "image=", DR_EINVAL },
        { FIELD_prompt, "", 0 },
        { FIELD_prompt_2, "", 0 },
        { FIELD_negative_prompt, "", 0 },
        { FIELD_model, "", DR_EINVAL },
        { FIELD_dump_stages, "", DR_EINVAL },
        { FIELD_sampler, "", DR_EINVAL },
        { FIELD_scheduler, "", DR_EINVAL },
        { FIELD_kernels, "", DR_EINVAL },
        { FIELD_model, "m\xff.safetensors", 0 },
        { FIELD_load_stage, "image=a\xff.npy", 0 },
        { FIELD_load_stage, "ima\xffge=a.npy", DR_EINVAL },
        { FIELD_sampler, "eul\xff", DR_EINVAL },
        { FIELD_prompt, "\xc3\x28", DR_EINVAL },
        { FIELD_prompt, "\xed\xa0\x80", DR_EINVAL },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (set_text(cases[i].id, cases[i].text) != cases[i].code)
            fail_msg("%s '%s'", field_info(cases[i].id)->name, cases[i].text);
}

/* What other programs send in every request asks for nothing, and something else is refused. */
static void members_that_ask_for_nothing_are_skipped(void **state)
{
    (void)state;
    struct request r;
    struct dr_error err = { 0 };
    if (parse("{\"prompt\":\"x\",\"n_iter\":1,\"send_images\":true,\"save_images\":false,"
              "\"override_settings\":{},\"alwayson_scripts\":{},\"styles\":[],\"subseed\":-1,"
              "\"subseed_strength\":0.0,\"script_name\":\"None\",\"seed\":null,\"eta\":null,"
              "\"s_tmax\":null,\"enable_hr\":false,\"hr_scale\":1.5,\"hr_upscaler\":\"4x\","
              "\"denoising_strength\":0.7,\"width\":1024.0,"
              "\"refiner_checkpoint\":\"\"}",
              &r, &err))
        fail_msg("%s", err.text);
    assert_int_equal(request_int(&r, FIELD_width), 1024);
    assert_false(request_has(&r, FIELD_seed) || request_has(&r, FIELD_eta));
    request_free(&r);
    must_refuse("{\"n_iter\":4}", DR_EUNSUPPORTED, "data.n_iter", "got 4, expected only 1");
    must_refuse("{\"enable_hr\":true}", DR_EUNSUPPORTED, "data.enable_hr", "only false");
    must_refuse("{\"hires\":\"2\"}", DR_EUNSUPPORTED, "data.hires",
                "not supported by darkroom yet");
    must_refuse("{\"count\":4}", DR_EUNSUPPORTED, "data.count", "batch_size");
    must_refuse("{\"styles\":[\"a\"]}", DR_EUNSUPPORTED, "data.styles", "got [\"a\"]");
    must_refuse("{\"override_settings\":{\"sd_vae\":\"x\"}}", DR_EUNSUPPORTED,
                "data.override_settings", "fields of the request");
    must_refuse("{\"send_images\":\"true\"}", DR_EUNSUPPORTED, "data.send_images", "only true");
    must_refuse("{\"hyperparameters\":{\"n_iter\":1}}", DR_EINVAL, "data.hyperparameters.n_iter",
                "unknown");
}

/* Types are JSON's own; the error names the field and shows what came. */
static void numbers_in_strings_are_refused(void **state)
{
    (void)state;
    must_refuse("{\"steps\":\"30\"}", DR_EINVAL, "data.steps",
                "got the string \"30\", expected an integer");
    must_refuse("{\"cfg_scale\":\"7.5\"}", DR_EINVAL, "data.cfg_scale", "expected a number");
    must_refuse("{\"batch_size\":\"2\"}", DR_EINVAL, "data.batch_size", "\"2\"");
    must_refuse("{\"steps\":30.5}", DR_EINVAL, "data.steps", "an integer");
    must_refuse("{\"prompt\":5}", DR_EINVAL, "data.prompt", "a string");
    must_refuse("{\"metadata\":\"true\"}", DR_EINVAL, "data.metadata", "true or false");
}

static void empty_paths_and_names_are_refused(void **state)
{
    (void)state;
    must_refuse("{\"model\":\"\"}", DR_EINVAL, "data.model", "data.model: empty path");
    must_refuse("{\"model_path\":\"\"}", DR_EINVAL, "data.model_path", "empty path");
    must_refuse("{\"save_path\":\"\"}", DR_EINVAL, "data.save_path", "empty path");
    must_refuse("{\"sampler\":\"\"}", DR_EINVAL, "data.sampler", "empty name");
    must_refuse("{\"scheduler\":\"\"}", DR_EINVAL, "data.scheduler", "empty name");
    must_refuse("{\"load_stage\":{\"image\":\"\"}}", DR_EINVAL, "data.load_stage.image",
                "empty path");
    struct request r;
    assert_int_equal(parse("{\"model\":null,\"negative_prompt\":\"\",\"prompt\":\"\"}", &r, NULL),
                     0);
    assert_false(request_has(&r, FIELD_model));
    assert_true(request_has(&r, FIELD_negative_prompt));
    request_free(&r);
}

/* A path of any bytes goes through JSON as a URL and comes back. */
static void paths_of_any_bytes_go_through_json(void **state)
{
    (void)state;
    struct request r;
    struct dr_error err = { 0 };
    assert_int_equal(parse("{\"model\":\"file:///m%FFx/a%20b\",\"load_stage\":{\"image\":"
                           "\"FILE://localhost/a%c3%28.npy\",\"context\":\"plain %41.npy\"}}",
                           &r, &err),
                     0);
    assert_string_equal(request_text(&r, FIELD_model), "/m\xffx/a b");
    json_t *map = r.value[FIELD_load_stage].map;
    assert_string_equal(json_string_value(json_object_get(map, "image")), "/a\xc3\x28.npy");
    assert_string_equal(json_string_value(json_object_get(map, "context")), "plain %41.npy");
    json_t *back = request_json(&r);
    assert_non_null(back);
    assert_string_equal(json_string_value(json_object_get(back, "model")), "file:///m%FFx/a%20b");
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(back, "load_stage"), "image")),
        "file:///a%C3%28.npy");
    json_decref(back);
    request_free(&r);
    must_refuse("{\"model\":\"file:///a%00b\"}", DR_EINVAL, "data.model", "NUL");
    must_refuse("{\"model\":\"file:///a%4\"}", DR_EINVAL, "data.model", "hexadecimal");
    must_refuse("{\"model\":\"file:///a%zz\"}", DR_EINVAL, "data.model", "hexadecimal");
    must_refuse("{\"model\":\"file://server/a\"}", DR_EINVAL, "data.model", "this machine");
    must_refuse("{\"save_path\":\"file://\"}", DR_EINVAL, "data.save_path", "this machine");
}

static void choices_become_canonical(void **state)
{
    (void)state;
    struct request r;
    request_init(&r);
    assert_int_equal(request_set_text(&r, FIELD_precision, "float16", NULL), 0);
    assert_string_equal(request_text(&r, FIELD_precision), "f16");
    assert_int_equal(request_set_text(&r, FIELD_precision, "auto", NULL), 0);
    assert_string_equal(request_text(&r, FIELD_precision), "auto");
    request_free(&r);
}

static void a_map_collects(void **state)
{
    (void)state;
    struct request r;
    struct dr_error err = { 0 };
    request_init(&r);
    assert_int_equal(request_set_text(&r, FIELD_load_stage, "image=a.npy", &err), 0);
    assert_int_equal(request_set_text(&r, FIELD_load_stage, "sigmas=b.npy", &err), 0);
    assert_int_equal(request_set_text(&r, FIELD_load_stage, "image=c.npy", &err), DR_EINVAL);
    assert_int_equal(json_object_size(r.value[FIELD_load_stage].map), 2);
    request_free(&r);
}

static void long_text_is_a_limit(void **state)
{
    (void)state;
    static char text[REQUEST_PROMPT_BYTES + 2];
    struct request r;
    request_init(&r);
    memset(text, 'a', sizeof text - 1);
    assert_int_equal(request_set_text(&r, FIELD_prompt, text, NULL), DR_ELIMIT);
    text[REQUEST_PROMPT_BYTES] = '\0';
    assert_int_equal(request_set_text(&r, FIELD_prompt, text, NULL), 0);
    assert_int_equal(request_set_text(&r, FIELD_model, text, NULL), DR_ELIMIT);
    request_free(&r);
    json_t *data = json_pack("{s:s#}", "prompt", "a\0b", 3);
    assert_int_equal(request_parse(data, "", NULL, &r, NULL), DR_EINVAL);
    json_decref(data);
}

static void defaults_are_the_tables(void **state)
{
    (void)state;
    struct request r;
    request_init(&r);
    assert_int_equal(request_int(&r, FIELD_steps), 30);
    assert_int_equal(request_int(&r, FIELD_seed), -1);
    assert_true(request_real(&r, FIELD_guidance_scale) == 5.0);
    assert_true(request_flag(&r, FIELD_metadata));
    assert_false(request_flag(&r, FIELD_stream));
    assert_string_equal(request_text(&r, FIELD_format), "png");
    assert_string_equal(request_text(&r, FIELD_model), "");
    /* every default that help shows is one that the field accepts */
    for (int i = 0; i < FIELD_COUNT; i++)
        if (*field_info((enum field_id)i)->dflt)
            assert_int_equal(set_text((enum field_id)i, field_info((enum field_id)i)->dflt), 0);
}

static void the_schema_has_every_field(void **state)
{
    (void)state;
    json_t *schema = request_schema();
    const json_t *properties = json_object_get(schema, "properties");
    assert_int_equal(json_object_size(properties), FIELD_COUNT);
    const json_t *width = json_object_get(properties, "width");
    assert_int_equal(json_integer_value(json_object_get(width, "minimum")), 8);
    const json_t *format = json_object_get(properties, "format");
    assert_int_equal(json_array_size(json_object_get(format, "enum")), 4);
    assert_true(json_is_false(json_object_get(schema, "additionalProperties")));
    json_decref(schema);
}

/* All fields at once, through JSON and back. */
static int round_trip(void *ctx, struct dr_error *err)
{
    struct request r;
    json_t *data = ctx;
    int code = request_parse(data, "", NULL, &r, err);
    if (code < 0)
        return code;
    json_t *back = request_json(&r);
    json_t *schema = request_schema();
    code = back && schema ? 0 : dr_fail(err, DR_ENOMEM, "out of memory");
    if (back)
        assert_true(json_equal(back, data));
    json_decref(back);
    json_decref(schema);
    request_free(&r);
    return code;
}

static void memory_may_end_anywhere(void **state)
{
    (void)state;
    json_t *data = json_object();
    for (int i = 0; i < FIELD_COUNT; i++)
        assert_int_equal(
            jx_set(data, field_info((enum field_id)i)->name, sample(field_info((enum field_id)i))),
            0);
    test_oom_walk(round_trip, data);
    json_decref(data);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(members_that_ask_for_nothing_are_skipped),
    cmocka_unit_test(numbers_in_strings_are_refused),
    cmocka_unit_test(empty_paths_and_names_are_refused),
    cmocka_unit_test(paths_of_any_bytes_go_through_json),
    cmocka_unit_test(every_alias_is_its_field),
    cmocka_unit_test(two_spellings_must_agree),
    cmocka_unit_test(one_lora_beside_the_list),
    cmocka_unit_test(unknown_fields_name_the_nearest),
    cmocka_unit_test(somebody_elses_members_are_left_alone),
    cmocka_unit_test(a_list_gets_every_error),
    cmocka_unit_test(a_full_list_ends_it),
    cmocka_unit_test(bounds_are_inclusive_and_kept),
    cmocka_unit_test(seeds_are_exact),
    cmocka_unit_test(large_numbers_name_their_field),
    cmocka_unit_test(wrong_kinds_are_refused),
    cmocka_unit_test(text_is_read_whole),
    cmocka_unit_test(choices_become_canonical),
    cmocka_unit_test(a_map_collects),
    cmocka_unit_test(long_text_is_a_limit),
    cmocka_unit_test(defaults_are_the_tables),
    cmocka_unit_test(the_schema_has_every_field),
    cmocka_unit_test(memory_may_end_anywhere),
};

int main(int argc, char **argv)
{
    jx_init();
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
