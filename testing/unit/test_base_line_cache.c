/* test_base_line_cache.c - a cache of lines replaces its own files and no others. */
#include "base/line_cache.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "testing/helpers/test.h"

static char path[DR_PATH_MAX];
static const struct line_cache cache = { path, "darkroom facts 2\n", 1000 };

/* Writes one line over a file with that text; whether it was replaced. */
static bool replaces(const char *text)
{
    struct buf lines, after;
    buf_init(&lines, DR_TAG_FILE, 0);
    buf_init(&after, DR_TAG_FILE, 0);
    assert_int_equal(dr_write_file(path, text, strlen(text), NULL), 0);
    assert_int_equal(buf_puts(&lines, "one\n"), 0);
    int r = line_cache_write(&cache, &lines);
    assert_int_equal(dr_read_file(path, 10000, &after, NULL), 0);
    bool written = !strcmp(buf_text(&after), "darkroom facts 2\none\n");
    if (!written)
        assert_string_equal(buf_text(&after), text);
    assert_int_equal(r, written ? 0 : DR_EIO);
    buf_free(&lines);
    buf_free(&after);
    return written;
}

static void its_own_files_are_replaced(void **state)
{
    (void)state;
    snprintf(path, sizeof path, "%s/own", test_dir());
    assert_true(replaces(""));
    assert_true(replaces("darkroom facts 2\nold\n"));
    assert_true(replaces("darkroom facts 1\nof an earlier version\n"));
    assert_true(replaces("darkroom facts 2\n\1\2 damaged"));
}

static void files_of_others_stay(void **state)
{
    (void)state;
    static char large[5000];
    memset(large, 'x', sizeof large - 1);
    memcpy(large, "darkroom facts 2\n", 17);
    snprintf(path, sizeof path, "%s/others", test_dir());
    assert_false(replaces("my notes\n"));
    assert_false(replaces("darkroom pictures 2\n"));
    assert_false(replaces("darkroom"));
    assert_false(replaces("\n"));
    assert_false(replaces(large));
    struct buf none;
    struct stat st;
    buf_init(&none, DR_TAG_FILE, 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("nowhere", path), 0);
    assert_int_equal(line_cache_write(&cache, &none), DR_EIO);
    assert_int_equal(lstat(path, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(its_own_files_are_replaced),
    cmocka_unit_test(files_of_others_stay),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
