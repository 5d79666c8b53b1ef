/* Errors as values, checked sizes, counted allocation. */
#include "testing/helpers/test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/checked.h"
#include "base/error_list.h"
#include "base/utf8.h"

static void words_and_fields(void **state)
{
    (void)state;
    struct dr_error err;
    assert_int_equal(dr_fail(&err, DR_EIO, "disk %d", 7), DR_EIO);
    assert_string_equal(err.text, "disk 7");
    assert_int_equal(err.code, DR_EIO);
    assert_int_equal(dr_while(&err, DR_EIO, "reading %s", "x"), DR_EIO);
    assert_string_equal(err.text, "disk 7 (while reading x)");
    assert_int_equal(dr_fail_field(&err, DR_EINVAL, "width", "1001", "a multiple of 8", "use 1000"),
                     DR_EINVAL);
    assert_string_equal(err.text, "width: got 1001, expected a multiple of 8 (use 1000)");
    assert_string_equal(err.path, "width");
    assert_string_equal(err.got, "1001");
    assert_string_equal(err.hint, "use 1000");
    assert_int_equal(dr_fail_field(&err, DR_EINVAL, "prompt", NULL, "a string", NULL), DR_EINVAL);
    assert_string_equal(err.text, "prompt: expected a string");
    assert_string_equal(err.got, "");
    errno = ENOENT;
    assert_int_equal(dr_fail_errno(&err, "/x", "open"), DR_ENOENT);
    assert_non_null(strstr(err.text, "/x: cannot open: "));
    errno = EACCES;
    assert_int_equal(dr_fail_errno(NULL, "/x", "open"), DR_EIO);
    assert_int_equal(dr_fail(NULL, DR_ELIMIT, "x"), DR_ELIMIT);
    assert_int_equal(dr_while(NULL, DR_ELIMIT, "x"), DR_ELIMIT);
}

static void long_words_are_cut(void **state)
{
    (void)state;
    struct dr_error err;
    char many[2000];
    memset(many, 'a', sizeof many - 1);
    many[sizeof many - 1] = '\0';
    assert_int_equal(dr_fail(&err, DR_EIO, "%s", many), DR_EIO);
    assert_int_equal(strlen(err.text), sizeof err.text - 1);
    for (int i = 0; i < 50; i++)
        assert_int_equal(dr_while(&err, DR_EIO, "%s", many), DR_EIO);
    assert_int_equal(dr_fail_field(&err, DR_EIO, many, many, many, many), DR_EIO);
    assert_int_equal(strlen(err.path), sizeof err.path - 1);
    memset(&err, 0, sizeof err);
    assert_int_equal(dr_while(&err, DR_ENOMEM, "loading"), DR_ENOMEM);
    assert_string_equal(err.text, "not enough memory (while loading)");
}

/* An answer in JSON takes whole characters only. */
static void words_are_cut_between_characters(void **state)
{
    (void)state;
    static const char *const letters[] = { "\xc3\xa9", "\xe6\x97\xa5", "\xf0\x9f\x8e\xa8" };
    struct dr_error err;
    char many[2000];
    for (size_t k = 0; k < sizeof letters / sizeof *letters; k++) {
        size_t n = strlen(letters[k]);
        for (size_t ahead = 0; ahead < 4; ahead++) {
            memset(many, 'a', ahead);
            size_t used = ahead;
            for (; used + n < sizeof many; used += n)
                memcpy(many + used, letters[k], n);
            many[used] = '\0';
            dr_fail_field(&err, DR_EINVAL, many, many, many, many);
            const char *const texts[] = { err.text, err.path, err.got, err.expected, err.hint };
            for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
                assert_true(strlen(texts[i]) > 150);
                assert_int_equal(utf8_valid_prefix(texts[i], strlen(texts[i])), strlen(texts[i]));
            }
            dr_fail(&err, DR_EIO, "disk");
            dr_while(&err, DR_EIO, "%s", many);
            assert_int_equal(utf8_valid_prefix(err.text, strlen(err.text)), strlen(err.text));
        }
    }
}

static void every_code_has_words(void **state)
{
    (void)state;
    static const int codes[] = {
#define X(name, value, wire, meaning) DR_##name,
#include "base/errors.def"
#undef X
    };
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        assert_true(codes[i] < 0);
        assert_true(strlen(dr_code_wire(codes[i])) > 3 && strlen(dr_code_meaning(codes[i])) > 5);
        for (size_t k = 0; k < i; k++) {
            assert_int_not_equal(codes[i], codes[k]);
            assert_string_not_equal(dr_code_wire(codes[i]), dr_code_wire(codes[k]));
        }
    }
    assert_string_equal(dr_code_wire(0), "OK");
    assert_string_equal(dr_code_wire(-9999), "INTERNAL_ERROR");
}

static void sizes_do_not_wrap(void **state)
{
    (void)state;
    size_t n = 0;
    int64_t i = 0;
    assert_true(dr_mul_size(6, 7, &n) && n == 42);
    assert_false(dr_mul_size(SIZE_MAX, 2, &n));
    assert_false(dr_add_size(SIZE_MAX, 1, &n));
    assert_false(dr_mul_i64(INT64_MIN, -1, &i));
    assert_false(dr_add_i64(INT64_MAX, 1, &i));
    assert_true(dr_add_i64(INT64_MAX, 0, &i) && i == INT64_MAX);
}

static void allocations_are_counted(void **state)
{
    (void)state;
    struct dr_alloc_stats before = dr_alloc_stats(DR_TAG_TEST);
    char *p = dr_malloc(DR_TAG_TEST, 1000), *z = dr_malloc(DR_TAG_TEST, 0);
    assert_non_null(p);
    assert_non_null(z);
    assert_int_equal((uintptr_t)p % 64, 0);
    memset(p, 'x', 1000);
    char *q = dr_realloc(DR_TAG_TEST, p, 5000);
    assert_non_null(q);
    assert_int_equal(q[999], 'x');
    struct dr_alloc_stats now = dr_alloc_stats(DR_TAG_TEST);
    assert_int_equal(now.bytes - before.bytes, 5000);
    assert_int_equal(now.blocks - before.blocks, 2);
    assert_true(now.peak >= before.bytes + 6000);
    char *s = dr_strndup(DR_TAG_TEST, "abcdef", 3);
    assert_non_null(s);
    assert_string_equal(s, "abc");
    assert_null(dr_malloc(DR_TAG_TEST, SIZE_MAX));
    assert_null(dr_calloc(DR_TAG_TEST, SIZE_MAX / 2, 3));
    assert_null(dr_realloc(DR_TAG_TEST, q, SIZE_MAX - 100));
    assert_int_equal(q[999], 'x');
    dr_free(q);
    dr_free(z);
    dr_free(s);
    dr_free(NULL);
    now = dr_alloc_stats(DR_TAG_TEST);
    assert_int_equal(now.bytes, before.bytes);
    assert_int_equal(now.blocks, before.blocks);
    for (int tag = 0; tag < DR_TAG_COUNT; tag++)
        assert_true(strlen(dr_tag_name((enum dr_tag)tag)) > 2);
}

static void the_kth_fails(void **state)
{
    (void)state;
    dr_alloc_fail_at(2, 2);
    void *p[4];
    for (int i = 0; i < 4; i++)
        p[i] = dr_malloc(DR_TAG_TEST, 8);
    bool hit = dr_alloc_fail_hit();
    dr_alloc_fail_at(0, 0);
    assert_true(hit && p[0] && !p[1] && !p[2] && p[3]);
    dr_free(p[0]);
    dr_free(p[3]);
}

static void a_list_goes_on_where_it_makes_sense(void **state)
{
    (void)state;
    struct error_list list = { .n = 0 };
    struct dr_error e = { 0 };
    dr_fail_field(&e, DR_EINVAL, "width", "1", "8", NULL);
    assert_int_equal(error_list_take(NULL, DR_EINVAL, &e), DR_EINVAL);
    assert_int_equal(error_list_count(NULL), 0);
    assert_int_equal(error_list_take(&list, DR_EINVAL, &e), 0);
    assert_int_equal(error_list_take(&list, DR_EINVAL, &e), 0); /* the same words */
    assert_int_equal(error_list_count(&list), 1);
    assert_string_equal(list.error[0].path, "width");
    snprintf(e.path, sizeof e.path, "height"); /* the same words about something else */
    assert_int_equal(error_list_take(&list, DR_EINVAL, &e), 0);
    assert_int_equal(list.n, 2);
    assert_string_equal(list.error[1].path, "height");
    assert_int_equal(error_list_take(&list, DR_ENOMEM, &e), DR_ENOMEM);
    assert_int_equal(error_list_take(&list, DR_ECANCELED, &e), DR_ECANCELED);
    for (int i = list.n; i < ERROR_LIST_MOST; i++) {
        dr_fail(&e, DR_ENOENT, "%d", i);
        assert_int_equal(error_list_take(&list, DR_ENOENT, &e), 0);
    }
    dr_fail(&e, DR_ENOENT, "one more");
    assert_int_equal(error_list_take(&list, DR_ENOENT, &e), DR_ENOENT);
    assert_int_equal(error_list_go_on(&list, DR_ENOENT, &e), 0); /* counted */
    error_list_add(&list, &e);
    assert_int_equal(list.n, ERROR_LIST_MOST);
    assert_int_equal(error_list_count(&list), ERROR_LIST_MOST + 2);
    assert_string_equal(list.error[ERROR_LIST_MOST - 1].text, "31");
    assert_int_equal(error_list_go_on(&list, DR_ENOMEM, &e), DR_ENOMEM);
    assert_int_equal(error_list_go_on(NULL, DR_ENOENT, &e), DR_ENOENT);
}

/* Errors quote files and paths of any bytes, and go into JSON. */
static void texts_are_utf8(void **state)
{
    (void)state;
    struct dr_error err;
    dr_fail(&err, DR_EIO, "a\xff\xfe\xc3\xa9\xc3(%s\xe2\x82", "\x80");
    assert_string_equal(err.text, "a??\xc3\xa9?(???");
    dr_fail_field(&err, DR_EINVAL, "m\xffodel", "\xc0\x80", "b", NULL);
    assert_string_equal(err.text, "m?odel: got ??, expected b");
    assert_string_equal(err.path, "m?odel");
    assert_string_equal(err.got, "??");
    char longest[600];
    memset(longest, 0xff, sizeof longest);
    longest[sizeof longest - 1] = '\0';
    dr_fail(&err, DR_EIO, "%s", longest);
    assert_int_equal(strspn(err.text, "?"), strlen(err.text));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(texts_are_utf8),
    cmocka_unit_test(words_and_fields),
    cmocka_unit_test(long_words_are_cut),
    cmocka_unit_test(words_are_cut_between_characters),
    cmocka_unit_test(a_list_goes_on_where_it_makes_sense),
    cmocka_unit_test(every_code_has_words),
    cmocka_unit_test(sizes_do_not_wrap),
    cmocka_unit_test(allocations_are_counted),
    cmocka_unit_test(the_kth_fails),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
