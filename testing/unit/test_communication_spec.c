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
    cmocka_unit_test(texts_of_one_meaning_are_equal),
    cmocka_unit_test(an_object_is_the_text),
    cmocka_unit_test(text_comes_apart),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
