/* test_conditioning_syntax.c - which prompts have syntax of other programs, and which only look
 * so. */
#include "testing/helpers/test.h"

#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "conditioning/prompt_processor.h"
#include "conditioning/prompt_syntax.h"

static const char *warning_of(const char *text)
{
    static char warning[PROMPT_WARNING];
    return prompt_syntax(&prompt_plain, &text, 1, warning, sizeof warning) ? warning : NULL;
}

static void syntax_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        { "a (red:1.3) car", "weight '(red:1.3)'" },
        { "(masterpiece: 1.2), a cat", "weight '(masterpiece: 1.2)'" },
        { "a (dark blue sky:.8)", "weight '(dark blue sky:.8)'" },
        { "(cat:2) and a dog", "weight '(cat:2)'" },
        { "((a (b:1.1)))", "weight '(b:1.1)'" },
        { "(photo 16:1.2)", "weight" },
        { "a (red)1.4 ball", "weight '(red)1.4'" },
        { "a (red)++ ball", "weight '(red)++'" },
        { "a ((red)) ball", "emphasis '((red))'" },
        { "a [[dull]] ball", "emphasis '[[dull]]'" },
        { "{{{vivid}}} ball", "emphasis '{{{vivid}}}'" },
        { "1girl, (best quality), smile", "emphasis '(best quality)'" },
        { "(best quality)", "emphasis" },
        { "1girl, [blurry]", "emphasis '[blurry]'" },
        { "a [cat:dog:0.5] in grass", "prompt editing '[cat:dog:0.5]'" },
        { "a [hat:10] man", "prompt editing '[hat:10]'" },
        { "a [cow|horse] in a field", "prompt editing '[cow|horse]'" },
        { "a cat BREAK a dog", "separator 'BREAK'" },
        { "a cat, BREAK, a dog", "separator 'BREAK'" },
        { "a cat AND a dog", "separator 'AND'" },
        { "a cat <lora:add_detail:0.8>", "LoRA tag '<lora:add_detail:0.8>'" },
        { "a cat <LORA:x:1>", "LoRA tag" },
        { "<hypernet:anime:1> cat", "LoRA tag '<hypernet:anime:1>'" },
        { "cat <lyco:x>", "LoRA tag" },
        { "ugly, embedding:EasyNegative", "embedding 'embedding:EasyNegative'" },
        { "a __colour__ car", "wildcard '__colour__'" },
        { "a __animals/cats__ car", "wildcard" },
        { "a {red|blue} car", "choice '{red|blue}'" },
        { "a {2$$red|blue} car", "choice" },
        { "a ${colour} car", "choice '${colour}'" },
        { "a cat::2 dog::1", "parameter '::2'" },
        { "a cat --ar 16:9", "parameter '--ar'" },
        { "ganyu \\(genshin impact\\)", "escape" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *got = warning_of(cases[i].text);
        if (!got || !strstr(got, cases[i].says) || !strstr(got, "drawn as plain words"))
            fail_msg("%s: \"%s\", expected %s", cases[i].text, got ? got : "", cases[i].says);
    }
}

static void ordinary_prompts_are_let_be(void **state)
{
    (void)state;
    static const char *const prompts[] = {
        "",
        "a cat (sitting)",
        "a cat (sitting) on a mat (red)",
        "portrait of a woman (30 years old), soft light",
        "a clock at (10:30) in the morning",
        "a screen of ratio (16:9)",
        "a clock showing 10:30",
        "Mission: Impossible, film poster",
        "SALT AND PEPPER shakers",
        "a sign that says \"SALT AND PEPPER\"",
        "a poster: PRISON BREAK",
        "a cup of tea and a break",
        "rock and roll",
        "THE QUICK AND THE DEAD, AND THE LIVING",
        "a C++ book on a desk",
        "a face :) smiling :(",
        "an equation f(x) = 2x + 1",
        "a [brand] logo on a cup",
        "a {smooth} curve",
        "a long dash -- between words",
        "a fork--and a knife",
        "snake_case and __init",
        "a <b> tag on a screen",
        "x < 3 > 2",
        "embedding: the technique of an inlay",
        "a ratio of 3:1.5",
        "((",
        "))",
        "(((",
        "(a:",
        "a | b",
        "\xe6\x97\xa5\xe6\x9c\xac\xe3\x81\xae\xe5\x9f\x8e\xef\xbc\x88\xe5\xa4\x9c\xef\xbc\x89",
        "____",
        "BRAND new car",
        "an ANDROID phone",
        "half::light",
        "back\\slash",
        "$100 {",
    };
    for (size_t i = 0; i < sizeof prompts / sizeof *prompts; i++) {
        const char *got = warning_of(prompts[i]);
        if (got)
            fail_msg("%s: \"%s\"", prompts[i], got);
    }
}

/* One warning for all texts, each kind once, whatever their length. */
static void one_warning(void **state)
{
    (void)state;
    const char *texts[] = { "a (red:1.3) (blue:1.2) cat BREAK dog", NULL,
                            "(ugly:1.4), <lora:x:1>, __a__, {b|c}, [d|e], embedding:f, ((g))",
                            "a AND b, h::2, \\(i\\), "
                            "(\xe6\x97\xa5\xe6\x9c\xac\xe6\x97\xa5\xe6\x9c\xac\xe6\x97\xa5\xe6\x9c"
                            "\xac\xe6\x97\xa5\xe6\x9c\xac\xe6\x97\xa5\xe6\x9c\xac\xe6\x97\xa5)" };
    char warning[PROMPT_WARNING];
    assert_true(prompt_syntax(&prompt_plain, texts, 4, warning, sizeof warning));
    assert_non_null(strstr(warning, "weight '(red:1.3)'"));
    assert_null(strstr(warning, "blue"));
    assert_null(strstr(warning, "ugly"));
    assert_non_null(strstr(warning, "embedding 'embedding:f'"));
    assert_non_null(strstr(warning, "escape '\\('"));
    assert_int_equal(utf8_valid_prefix(warning, strlen(warning)), strlen(warning));
    char *long_text = test_malloc(1 << 20);
    memset(long_text, '(', (1 << 20) - 1);
    long_text[(1 << 20) - 1] = '\0';
    const char *one = long_text;
    assert_false(prompt_syntax(&prompt_plain, &one, 1, warning, sizeof warning));
    test_free(long_text);
}

/* What a language reads is no other program's. */
static void languages_know_their_own(void **state)
{
    (void)state;
    static const char *const text = "(a:1.2) [b:c:4] <lora:x:1>, d BREAK e AND f";
    char warning[400];
    assert_true(prompt_syntax(&prompt_comfyui, &text, 1, warning, sizeof warning));
    assert_null(strstr(warning, "(a:1.2)"));
    assert_non_null(strstr(warning, "[b:c:4]"));
    assert_non_null(strstr(warning, "<lora:x:1>"));
    assert_non_null(strstr(warning, "BREAK"));
    assert_true(prompt_syntax(&prompt_sdcpp, &text, 1, warning, sizeof warning));
    assert_null(strstr(warning, "BREAK"));
    assert_null(strstr(warning, "lora"));
    assert_non_null(strstr(warning, "AND"));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(languages_know_their_own),
    cmocka_unit_test(syntax_is_named),
    cmocka_unit_test(ordinary_prompts_are_let_be),
    cmocka_unit_test(one_warning),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
