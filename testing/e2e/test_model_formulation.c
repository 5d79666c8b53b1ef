/* test_model_formulation.c - what users see of models that are trained for something else, of
 * settings that a model leaves open, and of names that come in thousands. */
#include "testing/helpers/program.h"
#include "testing/helpers/sgm_maker.h"
#include "testing/helpers/worker_host.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"

/* The random model with another scheduler file, whose class model_index.json does not name. */
static void model_with(const char *settings)
{
    static const char *const parts[] = { "text_encoder", "text_encoder_2", "tokenizer",
                                         "tokenizer_2",  "unet",           "vae" };
    char from[400], to[100];
    struct dr_error err;
    json_t *index;
    program_folder();
    assert_int_equal(dr_mkdirs("model/scheduler", NULL), 0);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        snprintf(from, sizeof from, "%s/%s", program_model(), parts[i]);
        snprintf(to, sizeof to, "model/%s", parts[i]);
        assert_int_equal(symlink(from, to), 0);
    }
    snprintf(from, sizeof from, "%s/model_index.json", program_model());
    if (jx_parse_file(from, NULL, &index, &err) < 0)
        fail_msg("%s", err.text);
    json_object_del(index, "scheduler");
    char *text = json_dumps(index, 0);
    test_write_text("model/model_index.json", text);
    test_write_text("model/scheduler/scheduler_config.json", settings);
    dr_free(text);
    json_decref(index);
}

static void foreign_models_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *settings, *says;
    } cases[] = {
        { "{\"_class_name\":\"FlowMatchEulerDiscreteScheduler\",\"shift\":3.0}", "FlowMatch" },
        { "{\"_class_name\":\"EDMNewScheduler\",\"prediction_type\":\"epsilon\"}", "EDM" },
        { "{\"_class_name\":\"DPMSolverMultistepScheduler\",\"use_flow_sigmas\":true}",
          "use_flow_sigmas" },
        { "{\"_class_name\":\"EulerDiscreteScheduler\",\"timestep_type\":\"continuous\"}",
          "timestep_type" },
        { "{\"_class_name\":\"Unheard\"}", "Unheard" },
    };
    static const char *const samplers[] = { NULL, "euler", "ddim", "dpmpp_2m", "unipc" };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct host h;
        model_with(cases[i].settings);
        host_begin(&h, NULL, NULL);
        for (size_t k = 0; k < sizeof samplers / sizeof *samplers; k++) {
            json_t *more = json_pack("{s:s}", "model", "model");
            if (samplers[k])
                json_object_set_new(more, "sampler", json_string(samplers[k]));
            host_ask_picture(&h, "a", more);
            json_t *event = host_answer(&h, "a");
            if (json_is_true(json_object_get(event, "success")) ||
                !strstr(host_text(event, "error"), cases[i].says))
                fail_msg("%s with %s: %s", cases[i].settings, samplers[k] ? samplers[k] : "its own",
                         host_text(event, "error"));
            json_decref(event);
        }
        assert_int_equal(host_end(&h), 0);
    }
}

/* The answer to `generate` with these fields, which must be a picture. */
static json_t *drawn(struct host *h, json_t *more)
{
    host_ask_picture(h, "a", more);
    json_t *event = host_answer(h, "a");
    if (!json_is_true(json_object_get(event, "success")))
        fail_msg("%s", host_text(event, "error"));
    return event;
}

static const char *warning(const json_t *event, size_t i)
{
    const json_t *list = json_object_get(json_object_get(event, "data"), "warnings");
    const char *text = json_string_value(json_array_get(list, i));
    return text ? text : "";
}

static void a_missing_class_is_told(void **state)
{
    (void)state;
    struct host h;
    model_with("{\"_class_name\":\"PNDMScheduler\",\"beta_schedule\":\"scaled_linear\"}");
    host_begin(&h, NULL, NULL);
    json_t *event = drawn(&h, json_pack("{s:s}", "model", "model"));
    assert_non_null(strstr(warning(event, 0), "PNDMScheduler has no sampler here; using euler"));
    json_decref(event);
    assert_int_equal(host_end(&h), 0);
}

/* The receipt names what stood in for keys, and is a request for the same picture. */
static void assumed_keys_are_in_the_receipt(void **state)
{
    (void)state;
    static const char names[] = "beta_start, beta_end, num_train_timesteps, prediction_type, "
                                "set_alpha_to_one, clip_sample";
    struct host h;
    model_with("{\"_class_name\":\"EulerDiscreteScheduler\",\"beta_schedule\":\"scaled_linear\","
               "\"timestep_spacing\":\"leading\",\"steps_offset\":1}");
    host_begin(&h, NULL, NULL);
    json_t *own = drawn(&h, json_pack("{s:s}", "model", "model"));
    const json_t *receipts = json_object_get(json_object_get(own, "data"), "receipts");
    assert_null(json_object_get(json_array_get(receipts, 0), "scheduler_defaults"));
    json_decref(own);
    json_t *first = drawn(&h, json_pack("{s:s,s:s}", "model", "model", "sampler", "ddim"));
    json_t *data = json_object_get(first, "data");
    json_t *receipt = json_array_get(json_object_get(data, "receipts"), 0);
    assert_string_equal(host_text(receipt, "scheduler_defaults"), names);
    json_t *again = drawn(&h, json_deep_copy(receipt));
    assert_true(json_equal(json_object_get(data, "images"),
                           json_object_get(json_object_get(again, "data"), "images")));
    assert_string_equal(warning(again, 0), "");
    json_decref(again);
    json_t *other = json_deep_copy(receipt);
    json_object_set_new(other, "scheduler_defaults", json_string("beta_start"));
    again = drawn(&h, other);
    assert_non_null(strstr(warning(again, 0), "defaults were assumed for 'beta_start'"));
    json_decref(again);
    json_decref(first);
    assert_int_equal(host_end(&h), 0);
}

/* In every verb, once, before a step. */
static void prompt_syntax_is_told(void **state)
{
    (void)state;
    static const char *const verbs[] = { "validate", "plan", "generate" };
    struct host h;
    host_begin(&h, NULL, NULL);
    for (int i = 0; i < 3; i++) {
        host_say_json(&h, json_pack("{s:s,s:s,s:{s:s,s:s,s:s,s:i,s:i,s:i}}", "type", verbs[i],
                                    "request_id", "a", "data", "prompt_syntax", "plain", "prompt",
                                    "a (red:1.3) circle", "negative_prompt", "<lora:x:1>", "steps",
                                    1, "width", 64, "height", 64));
        json_t *event = host_answer(&h, "a");
        assert_non_null(strstr(warning(event, 0), "weight '(red:1.3)', LoRA tag '<lora:x:1>'"));
        assert_string_equal(warning(event, 1), "");
        json_decref(event);
    }
    json_t *event = drawn(&h, json_pack("{s:s}", "prompt", "a cat (sitting)"));
    assert_string_equal(warning(event, 0), "");
    json_decref(event);
    assert_int_equal(host_end(&h), 0);
}

/* Sixty thousand unknown tensors are a handful of lines: in the answer, in progress, in the log. */
static void thousands_of_names_are_few_lines(void **state)
{
    (void)state;
    enum { MANY = 60000, FEW = 4 };
    struct st_writer *w = st_writer_new();
    struct sgm_spec spec = sgm_tiny;
    struct host h;
    size_t told = 0;
    spec.vocab = 49408;
    spec.clip_l.layers = spec.clip_g.layers = 2;
    program_folder();
    st_writer_sparse(w);
    sgm_add(w, &spec);
    for (int i = 0; i < MANY; i++) {
        char name[40];
        snprintf(name, sizeof name, "stray.%d", i);
        st_writer_add_text(w, name, "F16", "");
    }
    st_writer_save(w, "many.safetensors");
    st_writer_free(w);
    host_begin(&h, NULL, NULL);
    host_say_json(&h, json_pack("{s:s,s:s,s:{s:s,s:s,s:b}}", "type", "plan", "request_id", "a",
                                "data", "prompt", "x", "model", "many.safetensors", "stream", 1));
    json_t *event = host_hear(&h);
    for (; event && host_is_progress(event); event = host_hear(&h)) {
        told++;
        json_decref(event);
    }
    if (!json_is_true(json_object_get(event, "success")))
        fail_msg("%s", host_text(event, "error"));
    assert_non_null(strstr(warning(event, 0), "60000 tensors are not used: 'stray.0', "));
    const json_t *warnings = json_object_get(json_object_get(event, "data"), "warnings");
    assert_true(json_array_size(warnings) <= FEW && told <= FEW);
    json_decref(event);
    assert_int_equal(host_end(&h), 0);
    struct program p;
    program_run(&p, 0, "plan", "-m", "many.safetensors", "-p", "x", NULL);
    int lines = 0;
    for (const char *c = program_err(&p); *c; c++)
        lines += *c == '\n';
    assert_true(lines >= 1 && lines <= FEW);
    program_free(&p);
}

/* What inspect quotes of a file commands no terminal, as text and as JSON. */
static void inspect_commands_no_terminal(void **state)
{
    (void)state;
    struct st_writer *w = st_writer_new();
    struct program p;
    program_folder();
    st_writer_add_text(w, "t", "F32", "1");
    st_writer_metadata(w, "key\\u001b]0;x\\u0007", "a\\u202eb\\u009bc\\u007fd\\u000ae\\u0000f");
    st_writer_save(w, "evil.safetensors");
    st_writer_free(w);
    for (int json = 0; json < 2; json++) {
        program_run(&p, 0, "inspect", "evil.safetensors", json ? "--json" : NULL, NULL);
        const char *out = program_out(&p);
        for (const unsigned char *c = (const unsigned char *)out; *c; c++)
            assert_true((*c >= 0x20 && *c != 0x7f) || *c == '\n');
        assert_null(strstr(out, "\xe2\x80\xae"));
        assert_null(strstr(out, "\xc2\x9b"));
        assert_non_null(strstr(out, "\\u202eb\\u009bc"));
        assert_non_null(strstr(out, json ? "key\\u001b]0;x\\u0007" : "key\\x1b]0;x\\x07"));
        program_free(&p);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(foreign_models_are_refused),
    cmocka_unit_test(a_missing_class_is_told),
    cmocka_unit_test(assumed_keys_are_in_the_receipt),
    cmocka_unit_test(prompt_syntax_is_told),
    cmocka_unit_test(thousands_of_names_are_few_lines),
    cmocka_unit_test(inspect_commands_no_terminal),
};

int main(int argc, char **argv)
{
    jx_init();
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
