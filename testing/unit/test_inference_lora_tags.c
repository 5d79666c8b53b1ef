/* test_inference_lora_tags.c - <lora:NAME:1> in a prompt is a LoRA of the request, and no text. */
#include "testing/helpers/test.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "inference/lora_tags.h"

static int apply(const char *json, struct request *q, struct dr_error *err)
{
    json_t *data;
    request_init(q);
    int r = jx_parse(json, strlen(json), NULL, "test", &data, err);
    if (r < 0)
        return r;
    r = request_parse(data, "", NULL, q, err);
    json_decref(data);
    return r ? r : lora_tags_apply(q, err);
}

static void tags_become_loras(void **state)
{
    (void)state;
    static const struct {
        const char *tag, *name;
        double unet, text;
    } cases[] = {
        { "<lora:moon>", "moon", 1, 1 },
        { "<lora:moon:0.5>", "moon", 0.5, 0.5 },
        { "<lyco:a/b, c:-1:2>", "a/b, c", 2, -1 },
        { "<lora:moon:te=0.25:unet=.75>", "moon", 0.75, 0.25 },
        { "<lora:moon:unet=3>", "moon", 3, 1 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dr_error err = { 0 };
        struct request q;
        char json[128];
        snprintf(json, sizeof json, "{\"prompt\":\"a %s red <b> moon\",\"loras\":[\"first\"]}",
                 cases[i].tag);
        if (apply(json, &q, &err))
            fail_msg("%s: %s", cases[i].tag, err.text);
        assert_string_equal(request_text(&q, FIELD_prompt), "a  red <b> moon");
        assert_int_equal(request_count(&q, FIELD_loras), 2);
        assert_string_equal(request_item_text(&q, FIELD_loras, 0, "path"), "first");
        assert_string_equal(request_item_text(&q, FIELD_loras, 1, "path"), cases[i].name);
        assert_true(request_item_real(&q, FIELD_loras, 1, "strength") == cases[i].unet);
        assert_true(request_item_real(&q, FIELD_loras, 1, "text_strength") == cases[i].text);
        request_free(&q);
    }
}

static void other_languages_have_none(void **state)
{
    (void)state;
    struct dr_error err = { 0 };
    struct request q;
    assert_int_equal(apply("{\"prompt\":\"<lora:a:1>\",\"preset\":\"diffusers\"}", &q, &err), 0);
    assert_string_equal(request_text(&q, FIELD_prompt), "<lora:a:1>");
    assert_int_equal(request_count(&q, FIELD_loras), 0);
    request_free(&q);
}

static void bad_tags_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "{\"prompt\":\"<lora:a:b>\"}",
        "{\"prompt\":\"<lora:a:1:1:8>\"}",
        "{\"prompt\":\"<lora::1>\"}",
        "{\"prompt\":\"<lora:a:>\"}",
        "{\"prompt\":\"<lora:a:te=>\"}",
        "{\"prompt\":\"<lora:a:dyn=4>\"}",
        "{\"prompt\":\"<hypernet:a:1>\"}",
        "{\"prompt\":\"\",\"negative_prompt\":\"<lora:a:1>\"}",
        "{\"prompt\":\"<lora:a:99999999>\"}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct dr_error err = { 0 };
        struct request q;
        if (!apply(bad[i], &q, &err))
            fail_msg("%s: taken", bad[i]);
        request_free(&q);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(tags_become_loras),
    cmocka_unit_test(other_languages_have_none),
    cmocka_unit_test(bad_tags_are_refused),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
