/* The configuration file: what is read, and everything of YAML that is not. */
#include "testing/helpers/test.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "cli/config.h"
#include "base/fs.h"

static void reads_two_levels(void **state)
{
    (void)state;
    uint64_t blocks = test_blocks();
    static const char text[] = "# mine\n"
                               "model: ~/models/sdxl.safetensors\n"
                               "generate:\n"
                               "  steps: 20\n"
                               "  prompt: \"a: 'b'\"   # quoted\n"
                               "  seed: null\n"
                               "threads: 3\n";
    struct config c;
    struct dr_error err;
    assert_int_equal(config_parse(text, strlen(text), "config.yaml", &c, &err), 0);
    assert_int_equal(c.count, 5);
    assert_string_equal(config_find(&c, "model")->value, "~/models/sdxl.safetensors");
    const struct config_entry *e = config_find(&c, "generate.prompt");
    assert_string_equal(e->value, "a: 'b'");
    assert_int_equal(e->line, 5);
    assert_true(e->quoted);
    assert_string_equal(config_find(&c, "generate.seed")->value, "");
    assert_string_equal(config_find(&c, "threads")->value, "3");
    assert_null(config_find(&c, "steps"));
    assert_int_equal(config_fail(&c, e, &err, "not a %s", "number"), DR_EINVAL);
    assert_string_equal(err.text, "config.yaml:5: generate.prompt: not a number");
    config_free(&c);
    config_free(NULL);
    /* the key's line: a value that is left out has none */
    static const char spread[] = "? model\n? steps\n:\n\n  5\nthreads:";
    static const int lines[] = { 1, 2, 6 };
    assert_int_equal(config_parse(spread, strlen(spread), "c", &c, &err), 0);
    assert_int_equal(c.count, 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(c.entries[i].line, lines[i]);
    config_free(&c);
    static const char list[] = "lora:\n- a\n- \"b\"\nx: [c]\ny: []\n";
    assert_int_equal(config_parse(list, strlen(list), "c", &c, &err), 0);
    assert_int_equal(c.count, 3);
    assert_string_equal(c.entries[1].key, "lora");
    assert_string_equal(c.entries[1].value, "b");
    assert_true(c.entries[0].listed && c.entries[1].listed && c.entries[2].listed);
    assert_int_equal(c.entries[0].line, c.entries[1].line);
    config_free(&c);
    static const char *const empty[] = { "", "\n# nothing\n", "---\n...\n", "{}" };
    for (size_t i = 0; i < sizeof empty / sizeof *empty; i++) {
        assert_int_equal(config_parse(empty[i], strlen(empty[i]), "c", &c, &err), 0);
        assert_int_equal(c.count, 0);
        config_free(&c);
    }
    assert_int_equal(test_blocks(), blocks);
}

static void hostile_yaml_is_refused(void **state)
{
    (void)state;
    uint64_t blocks = test_blocks();
    static const struct {
        const char *text, *says;
    } bad[] = {
        { "a: &x 1\nb: *x\n", "c:1: anchors" },
        { "a: 1\nb: *x\n", "c:2: " },
        { "a: !!int 3\n", "tags" },
        { "!t {a: 1}\n", "tags" },
        { "a: [[1]]\n", "a list is accepted as the value" },
        { "a: [b: 1]\n", "a list of something else" },
        { "a: [1, 2]\na: 3\n", "c:2: this key appeared" },
        { "a:\n  b: [1]\n", "a list is accepted as the value" },
        { "- a\n- b\n", "a list is accepted as the value" },
        { "a:\n  b:\n    c: 1\n", "c:3: nested deeper" },
        { "a: 1\nb: 2\na: 3\n", "c:3: this key appeared" },
        { "just text\n", "expected 'key: value'" },
        { "a: 1\n---\nb: 2\n", "second document" },
        { "%YAML 1.1\n---\na: 1\n", "directives" },
        { "a: \"unfinished\n", "c:" },
        { "\ta: 1\n", "c:1: " },
        { "a: \"x\\0y\"\n", "zero byte" },
        { "a: \xff\n", "UTF-8" },
        { "? [a]\n: 1\n", "a list is accepted as the value" },
        { "{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{", "nested" },
        { "\"\": 1\n", "empty key" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct config c;
        struct dr_error err;
        int r = config_parse(bad[i].text, strlen(bad[i].text), "c", &c, &err);
        if (!r || !strstr(err.text, bad[i].says))
            fail_msg("%s: %s", bad[i].text, r ? err.text : "taken");
    }
    assert_int_equal(test_blocks(), blocks);
}

static void too_much_is_refused(void **state)
{
    (void)state;
    struct config c;
    struct dr_error err;
    char *text = dr_malloc(DR_TAG_TEST, CONFIG_MAX_BYTES + 1);
    assert_non_null(text);
    memset(text, ' ', CONFIG_MAX_BYTES + 1);
    assert_int_equal(config_parse(text, CONFIG_MAX_BYTES + 1, "c", &c, &err), DR_ELIMIT);
    size_t n = 0;
    for (int i = 0; i <= CONFIG_MAX_ENTRIES; i++)
        n += (size_t)snprintf(text + n, 16, "k%d: 1\n", i);
    assert_int_equal(config_parse(text, n, "c", &c, &err), DR_EFORMAT);
    assert_string_equal(err.text, "c:1025: too many entries");
    dr_free(text);
}

static int scenario(void *ctx, struct dr_error *err)
{
    struct config c = { NULL, NULL, 0 };
    int r = config_load(ctx, &c, err);
    config_free(&c);
    return r;
}

static void survives_no_memory(void **state)
{
    (void)state;
    static const char text[] = "a: 1\nb:\n  c: 2\n  d: 3\ne: 4\n";
    char path[256];
    snprintf(path, sizeof path, "%s/config.yaml", test_dir());
    assert_int_equal(dr_write_file(path, text, sizeof text - 1, NULL), 0);
    test_oom_walk(scenario, path);
    struct config c;
    assert_int_equal(config_load("/nowhere/config.yaml", &c, NULL), DR_ENOENT);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(reads_two_levels),
    cmocka_unit_test(hostile_yaml_is_refused),
    cmocka_unit_test(too_much_is_refused),
    cmocka_unit_test(survives_no_memory),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
