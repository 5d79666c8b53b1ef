/* test_communication_spec.c - fields that are a name with options: text, or an object that becomes
 * the text. */
#include "testing/helpers/test.h"

#include <stdio.h>
#include <string.h>

#include "base/spec.h"
#include "core/communication/request.h"

static void text_of(const char *json, char *dst, size_t n, struct dr_error *err)
{
    struct request q;
    json_t *data = json_loads(json, 0, NULL);
    assert_non_null(data);
    int r = request_parse(data, "", NULL, &q, err);
    snprintf(dst, n, "%s", r ? "" : request_text(&q, FIELD_sampler));
    request_free(&q);
    json_decref(data);
}

static void an_object_is_the_text(void **state)
{
    (void)state;
    static const struct {
        const char *json, *text;
    } good[] = {
        { "{\"sampler\": \"dpmpp_sde,r=0.3\"}", "dpmpp_sde,r=0.3" },
        { "{\"sampler\": {\"name\": \"dpmpp_sde\", \"r\": 0.3}}", "dpmpp_sde,r=0.3" },
        { "{\"sampler\": {\"r\": 0.3, \"eta\": 1, \"name\": \"a,b\"}}", "a,,b,r=0.3,eta=1" },
        { "{\"sampler\": {\"name\": \"x\", \"r\": \"0.5\", \"q\": null}}", "x,r=0.5" },
        { "{\"sampler_name\": {\"name\": \"x\", \"b\": true}}", "x,b=true" },
    };
    static const struct {
        const char *json, *path;
    } bad[] = {
        { "{\"sampler\": {\"r\": 0.3}}", "sampler.name" },
        { "{\"sampler\": {\"name\": 3}}", "sampler.name" },
        { "{\"sampler\": {\"name\": \"x\", \"r\": [1]}}", "sampler.r" },
        { "{\"sampler\": {\"name\": \"x\", \"r,q\": 1}}", "sampler.r,q" },
        { "{\"sampler\": {\"name\": \"\"}}", "sampler" },
        { "{\"sampler\": 3}", "sampler" },
    };
    char text[96];
    struct dr_error err = { 0 };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        text_of(good[i].json, text, sizeof text, &err);
        if (strcmp(text, good[i].text))
            fail_msg("%s: '%s', %s", good[i].json, text, err.text);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        text_of(bad[i].json, text, sizeof text, &err);
        if (*text || strcmp(err.path, bad[i].path))
            fail_msg("%s: '%s', %s: %s", bad[i].json, text, err.path, err.text);
    }
}

static void text_comes_apart(void **state)
{
    (void)state;
    struct dr_error err = { 0 };
    struct spec s;
    assert_int_equal(spec_parse("f", "a,,b,k=v,,w,x=y=z,,", &s, &err), 0);
    assert_string_equal(s.value, "a,b");
    assert_int_equal(s.n, 2);
    assert_string_equal(s.option[0].key, "k");
    assert_string_equal(s.option[0].value, "v,w");
    assert_string_equal(s.option[1].key, "x");
    assert_string_equal(s.option[1].value, "y=z,");
    spec_release(&s);
    assert_int_equal(spec_parse("f", "", &s, &err), 0);
    assert_true(!*s.value && !s.n);
    spec_release(&s);
    char many[8 * (SPEC_OPTIONS + 2)] = "v";
    for (int i = 0; i <= SPEC_OPTIONS; i++)
        snprintf(many + strlen(many), 8, ",k%d=1", i);
    assert_int_equal(spec_parse("f", many, &s, &err), DR_ELIMIT);
}

/* The list of a request, as canonical JSON; "" after an error. */
static void loras_of(const char *json, char *dst, size_t n, struct dr_error *err)
{
    struct request q;
    json_t *data = json_loads(json, 0, NULL), *back = NULL;
    assert_non_null(data);
    int r = request_parse(data, "", NULL, &q, err);
    *dst = '\0';
    if (!r) {
        back = request_json(&q);
        struct buf text;
        buf_init(&text, DR_TAG_TEST, 0);
        assert_int_equal(jx_dump(json_object_get(back, "loras"), &text), 0);
        snprintf(dst, n, "%s", buf_text(&text));
        buf_free(&text);
    }
    json_decref(back);
    request_free(&q);
    json_decref(data);
}

static void lists_have_one_form(void **state)
{
    (void)state;
    static const char one[] = "[{\"path\":\"a,b.safetensors\",\"strength\":0.5,\"end\":1.0}]";
    static const char *const same[] = {
        "{\"loras\": \"a,,b.safetensors,strength=0.5,end=1\"}",
        "{\"loras\": [\"a,,b.safetensors,end=1,weight=0.5\"]}",
        "{\"loras\": {\"name\": \"a,b.safetensors\", \"scale\": 0.5, \"end\": 1}}",
        "{\"lora_adapters\": [{\"end\": 1, \"path\": \"a,b.safetensors\", \"strength\": 0.5,"
        " \"start\": null}]}",
        "{\"lora\": {\"models\": [{\"lora_name\": \"a,b.safetensors\", \"strength\": 0.5,"
        " \"end\": 1.0}]}}",
    };
    static const struct {
        const char *json, *path, *says;
    } bad[] = {
        { "{\"loras\": 3}", "loras", "" },
        { "{\"loras\": [3]}", "loras[0]", "" },
        { "{\"loras\": [\"a\", \"b,strenght=1\"]}", "loras[1].strenght", "nearest: strength" },
        { "{\"loras\": [{\"path\": \"a\", \"wieght\": 1}]}", "loras[0].wieght", "nearest: weight" },
        { "{\"loras\": [{\"path\": \"a\", \"strength\": \"1\"}]}", "loras[0].strength", "" },
        { "{\"loras\": [{\"path\": \"a\", \"strength\": 101}]}", "loras[0].strength",
          "-100 to 100" },
        { "{\"loras\": [{\"path\": \"a\", \"end\": -0.1}]}", "loras[0].end", "0 to 1" },
        { "{\"loras\": [\"a,strength=nan\"]}", "loras[0].strength", "" },
        { "{\"loras\": [{\"path\": \"a\", \"weight\": 1, \"scale\": 1}]}", "loras[0].scale",
          "each key once" },
        { "{\"loras\": [{\"strength\": 1}]}", "loras[0].path", "nothing" },
        { "{\"loras\": [\"\"]}", "loras[0].path", "empty path" },
        { "{\"loras\": \"a\", \"lora_adapters\": \"b\"}", "lora_adapters", "same field" },
    };
    char text[400];
    struct dr_error err = { 0 };
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        loras_of(same[i], text, sizeof text, &err);
        if (strcmp(text, one))
            fail_msg("%s: '%s', %s", same[i], text, err.text);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        loras_of(bad[i].json, text, sizeof text, &err);
        if (*text || strcmp(err.path, bad[i].path) || !strstr(err.text, bad[i].says))
            fail_msg("%s: '%s', %s: %s", bad[i].json, text, err.path, err.text);
    }
}

static void options_add_to_a_list(void **state)
{
    (void)state;
    struct dr_error err = { 0 };
    struct request q;
    uint64_t blocks = test_blocks();
    request_init(&q);
    assert_int_equal(request_count(&q, FIELD_loras), 0);
    assert_int_equal(request_set_text(&q, FIELD_loras, "\xff.safetensors,strength=-2", &err), 0);
    assert_int_equal(request_set_text(&q, FIELD_loras, "b,start=0.25,blocks=1;0", &err), 0);
    assert_int_equal(request_count(&q, FIELD_loras), 2);
    assert_string_equal(request_item_text(&q, FIELD_loras, 0, "path"), "\xff.safetensors");
    assert_true(request_item_real(&q, FIELD_loras, 0, "strength") == -2);
    assert_true(request_item_real(&q, FIELD_loras, 1, "strength") == 1);
    assert_true(request_item_real(&q, FIELD_loras, 1, "start") == 0.25);
    assert_true(request_item_real(&q, FIELD_loras, 1, "end") == 1);
    assert_string_equal(request_item_text(&q, FIELD_loras, 1, "blocks"), "1;0");
    assert_true(request_item_has(&q, FIELD_loras, 1, "start"));
    assert_false(request_item_has(&q, FIELD_loras, 0, "text_strength"));
    assert_int_equal(request_set_text(&q, FIELD_loras, "b,strngth=1", &err), DR_EINVAL);
    assert_string_equal(err.path, "--lora.strngth");
    assert_int_equal(request_count(&q, FIELD_loras), 2);
    for (int i = 2; i < field_info(FIELD_loras)->hi; i++)
        assert_int_equal(request_set_text(&q, FIELD_loras, "c", &err), 0);
    assert_int_equal(request_set_text(&q, FIELD_loras, "c", &err), DR_ELIMIT);
    json_t *json = request_json(&q), *first = json_array_get(json_object_get(json, "loras"), 0);
    /* a path that is not UTF-8 is a URL */
    const char *url = json_string_value(json_object_get(first, "path"));
    assert_non_null(url);
    assert_memory_equal(url, "file:///", 8);
    json_decref(json);
    request_free(&q);
    assert_int_equal(test_blocks(), blocks);
}

static void texts_of_one_meaning_are_equal(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        bool equal;
    } cases[] = {
        { "v,x=1,y=2", "v,y=2,x=1", true }, { "v,x=0.5", "v,x=5e-1", true },
        { "v,x=a", "v,x=a", true },         { "v,x=", "v,x=", true },
        { "v,x=1", "v,x=2", false },        { "v,x=1", "w,x=1", false },
        { "v,x=1", "v,x=1,y=2", false },    { "v,x=1,y=2", "v,x=1,z=2", false },
        { "v,x=a", "v,x=A", false },        { "v,x=", "v,x=0", false },
        { "v,x=1", "v,broken", false },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (spec_equal(cases[i].a, cases[i].b) != cases[i].equal ||
            spec_equal(cases[i].b, cases[i].a) != cases[i].equal)
            fail_msg("%s and %s", cases[i].a, cases[i].b);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(lists_have_one_form),
    cmocka_unit_test(options_add_to_a_list),
    cmocka_unit_test(texts_of_one_meaning_are_equal),
    cmocka_unit_test(an_object_is_the_text),
    cmocka_unit_test(text_comes_apart),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
