/* test_communication_docs.c - docs/api_documentation.md has a row for every field, verb and error
 * of the tables, word for word. */
#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "core/communication/message.h"
#include "core/communication/request.h"
#include "testing/helpers/test.h"

static struct buf page;

static int read_page(void **state)
{
    (void)state;
    buf_init(&page, DR_TAG_TEST, 0);
    return dr_read_file(test_source("docs/api_documentation.md"), 1 << 20, &page, NULL);
}

static int drop_page(void **state)
{
    (void)state;
    buf_free(&page);
    return 0;
}

/* Missing rows are printed as they should be, for pasting. */
static int missing(const char *row)
{
    if (strstr(buf_text(&page), row))
        return 0;
    print_message("%s", row);
    return 1;
}

/* "a b" becomes "`a` `b`"; bars would end the cell. */
static void code_list(const char *words, const char *separators, char *dst, size_t n)
{
    size_t used = 0;
    dst[0] = '\0';
    for (const char *p = words; *p && used < n;) {
        size_t len = strcspn(p, separators);
        used += (size_t)snprintf(dst + used, n - used, "%s`%.*s`", used ? " " : "", (int)len, p);
        p += len;
        p += *p != '\0';
    }
}

static void values_of(const struct field_info *f, char *dst, size_t n)
{
    static const char *const kinds[] = {
        [FIELD_TYPE_TEXT] = "text",
        [FIELD_TYPE_INT] = "integer",
        [FIELD_TYPE_SEED] = "integer, -1 to 2^64-1",
        [FIELD_TYPE_REAL] = "number",
        [FIELD_TYPE_FLAG] = "boolean",
        [FIELD_TYPE_CHOICE] = "",
        [FIELD_TYPE_NAME] = "name",
        [FIELD_TYPE_SPEC] = "name with options",
        [FIELD_TYPE_SIZE] = "\"WxH\"",
        [FIELD_TYPE_PAIR] = "\"TOP,LEFT\"",
        [FIELD_TYPE_MAP] = "object of texts",
    };
    bool number = f->type == FIELD_TYPE_INT || f->type == FIELD_TYPE_REAL;
    if (f->type == FIELD_TYPE_CHOICE)
        code_list(f->choices, "|", dst, n);
    else if (number)
        snprintf(dst, n, "%s, %lld to %lld", kinds[f->type], (long long)f->lo, (long long)f->hi);
    else
        snprintf(dst, n, "%s", kinds[f->type]);
}

static void every_field_is_described(void **state)
{
    (void)state;
    int absent = 0;
    for (int i = 0; i < FIELD_COUNT; i++) {
        const struct field_info *f = field_info((enum field_id)i);
        char values[200], aliases[300], row[1000];
        values_of(f, values, sizeof values);
        code_list(f->aliases, " ", aliases, sizeof aliases);
        snprintf(row, sizeof row, "| `%s` | %s | %s%s%s | %s | %s |\n", f->name, values,
                 *f->dflt ? "`" : "", f->dflt, *f->dflt ? "`" : "", aliases, f->help);
        absent += missing(row);
    }
    assert_int_equal(absent, 0);
}

static void every_verb_is_described(void **state)
{
    (void)state;
    int absent = 0;
    static const char *const spellings[] = {
#define VERB(name, mode, words) words,
#include "core/communication/verbs.def"
#undef VERB
    };
    for (int v = 0; v < VERB_COUNT; v++) {
        char words[600], row[800];
        code_list(spellings[v], " ", words, sizeof words);
        snprintf(row, sizeof row, "| `%s` | %s | %s |\n", verb_name((enum verb)v),
                 verb_immediate((enum verb)v) ? "at once" : "in turn", words);
        absent += missing(row);
    }
    assert_int_equal(absent, 0);
}

static void every_error_is_described(void **state)
{
    (void)state;
    int absent = 0;
    static const struct {
        const char *wire, *meaning;
    } errors[] = {
#define X(name, value, wire, meaning) { wire, meaning },
#include "base/errors.def"
#undef X
    };
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        char row[200];
        snprintf(row, sizeof row, "| `%s` | %s |\n", errors[i].wire, errors[i].meaning);
        absent += missing(row);
    }
    assert_int_equal(absent, 0);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(every_field_is_described, read_page, drop_page),
    cmocka_unit_test_setup_teardown(every_verb_is_described, read_page, drop_page),
    cmocka_unit_test_setup_teardown(every_error_is_described, read_page, drop_page),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
