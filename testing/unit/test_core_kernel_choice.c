/* test_core_kernel_choice.c - "auto" is the fastest of the sets, timed once and remembered. */
#include "core/kernel_choice.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "testing/helpers/test.h"

struct rates {
    const char *fast; /* the set that is twice as fast as the others */
    int asked;
};

static double rate(const char *set, void *ctx)
{
    struct rates *r = ctx;
    r->asked++;
    return r->fast && !strcmp(set, r->fast) ? 2e9 : 1e9;
}

static const char *choose(const char *cache, const char *processor, struct rates *rates)
{
    static char set[KERNEL_NAME_MAX];
    struct device_facts facts;
    const struct device_info *device = device_best(&facts);
    snprintf(facts.name, sizeof facts.name, "%s", processor);
    kernel_choice_make(&(struct kernel_choice){ .cache = cache,
                                                .device = device,
                                                .facts = &facts,
                                                .precision = PRECISION_AUTO,
                                                .rate = rate,
                                                .ctx = rates },
                       set);
    return set;
}

/* The last set that this machine runs and that need not be asked for, and the one before it; skips
 * where there is one only. */
static void last_two(const char **ret_last, const char **ret_before)
{
    bool usable;
    const char *name;
    *ret_last = *ret_before = NULL;
    for (int i = 1; (name = backend_kernel_set_name(i, &usable)); i++)
        if (usable && backend_kernel_set_precision(i) != PRECISION_INT8) {
            *ret_before = *ret_last;
            *ret_last = name;
        }
    if (!*ret_before)
        skip();
}

static const char *cache_file(void)
{
    static char path[DR_PATH_MAX];
    assert_int_equal(dr_path_join(path, sizeof path, test_dir(), "new/kernels"), 0);
    unlink(path);
    return path;
}

static void fastest_is_chosen(void **state)
{
    (void)state;
    const char *last, *before;
    last_two(&last, &before);
    struct rates even = { NULL, 0 }, other = { before, 0 };
    assert_string_equal(choose(cache_file(), "one", &even), last);
    assert_true(even.asked >= 2);
    assert_string_equal(choose(cache_file(), "one", &other), before);
}

/* Each start would time again and might choose otherwise. */
static void what_cannot_be_kept_is_not_timed(void **state)
{
    (void)state;
    const char *last, *before;
    last_two(&last, &before);
    char under_file[DR_PATH_MAX];
    const char *file = cache_file();
    struct rates made = { before, 0 }, nowhere = { before, 0 };
    assert_string_equal(choose(file, "one", &made), before);
    snprintf(under_file, sizeof under_file, "%.200s/kernels", file);
    assert_string_equal(choose(under_file, "one", &nowhere), last);
    assert_string_equal(choose("/proc/none/kernels", "one", &nowhere), last);
    assert_string_equal(choose(NULL, "one", &nowhere), last);
    assert_int_equal(nowhere.asked, 0);
}

static void choice_is_remembered(void **state)
{
    (void)state;
    const char *last, *before, *cache = cache_file();
    last_two(&last, &before);
    struct rates first = { before, 0 }, second = { last, 0 }, third = { last, 0 };
    assert_string_equal(choose(cache, "one", &first), before);
    assert_string_equal(choose(cache, "one", &second), before);
    assert_int_equal(second.asked, 0);
    assert_string_equal(choose(cache, "two", &third), last); /* another processor's */
    assert_true(third.asked > 0);
    assert_string_equal(choose(cache, "one", &second), before);
    assert_string_equal(choose(cache, "two", &second), last);
    assert_int_equal(second.asked, 0);
}

/* A file that goes with its user from machine to machine does not fill up. */
static void the_newest_are_kept(void **state)
{
    (void)state;
    const char *last, *before, *cache = cache_file();
    last_two(&last, &before);
    struct buf text;
    struct rates r = { before, 0 };
    char name[32];
    int lines = 0;
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof name, "processor %d", i);
        assert_string_equal(choose(cache, name, &r), before);
    }
    buf_init(&text, DR_TAG_FILE, 1 << 16);
    assert_int_equal(dr_read_file(cache, 1 << 16, &text, NULL), 0);
    for (const char *p = buf_text(&text); *p; p++)
        lines += *p == '\n';
    assert_int_equal(lines, 1 + 16);
    buf_free(&text);
    r.asked = 0;
    choose(cache, "processor 39", &r);
    choose(cache, "processor 24", &r);
    assert_int_equal(r.asked, 0);
    choose(cache, "processor 23", &r);
    assert_true(r.asked > 0);
}

static void damage_counts_for_nothing(void **state)
{
    (void)state;
    const char *last, *before, *cache = cache_file();
    last_two(&last, &before);
    struct buf text;
    buf_init(&text, DR_TAG_FILE, 1 << 16);
    struct rates start = { before, 0 };
    assert_string_equal(choose(cache, "one", &start), before);
    assert_int_equal(dr_read_file(cache, 1 << 16, &text, NULL), 0);
    char *whole = (char *)buf_text(&text), cut[512];
    for (size_t n = 0; n + 1 < text.len; n += 7) { /* cut short */
        struct rates r = { last, 0 };
        assert_int_equal(dr_write_file(cache, whole, n, NULL), 0);
        assert_string_equal(choose(cache, "one", &r), last);
        assert_true(r.asked > 0);
    }
    int line = (int)(strchr(whole, '\n') + 1 - whole); /* a set that does not exist */
    snprintf(cut, sizeof cut, "%.*savx1024%s", line, whole, strchr(whole, '\t'));
    struct rates r = { last, 0 };
    assert_int_equal(dr_write_file(cache, cut, strlen(cut), NULL), 0);
    assert_string_equal(choose(cache, "one", &r), last);
    assert_true(r.asked > 0);
    buf_free(&text);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(fastest_is_chosen),         cmocka_unit_test(what_cannot_be_kept_is_not_timed),
    cmocka_unit_test(choice_is_remembered),      cmocka_unit_test(the_newest_are_kept),
    cmocka_unit_test(damage_counts_for_nothing),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
