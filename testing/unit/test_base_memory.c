/* Growable buffer and arena: limits, contents, and every allocation failing. */
#include "testing/helpers/test.h"

#include <string.h>

#include "base/arena.h"
#include "base/buf.h"

static void buffer_grows_and_stops(void **state)
{
    (void)state;
    uint64_t blocks = test_blocks();
    struct buf b;
    buf_init(&b, DR_TAG_TEST, 1000);
    assert_string_equal(buf_text(&b), "");
    for (int i = 0; i < 100; i++)
        assert_int_equal(buf_printf(&b, "%09d\n", i), 0);
    assert_int_equal(b.len, 1000);
    assert_int_equal(b.data[1000], 0);
    assert_int_equal(buf_putc(&b, 'x'), DR_ELIMIT);
    assert_int_equal(buf_puts(&b, ""), 0);
    assert_int_equal(b.len, 1000);
    assert_memory_equal(b.data + 420, "000000042\n", 10);
    buf_drop(&b, 990);
    assert_string_equal(buf_text(&b), "000000099\n");
    buf_drop(&b, 11);
    assert_int_equal(b.len, 0);
    buf_free(&b);
    buf_free(NULL);
    assert_int_equal(test_blocks(), blocks);
}

static void buffer_refuses_huge(void **state)
{
    (void)state;
    struct buf b;
    void *room;
    buf_init(&b, DR_TAG_TEST, 0);
    assert_int_equal(buf_puts(&b, "abc"), 0);
    assert_int_equal(buf_reserve(&b, SIZE_MAX, &room), DR_ELIMIT);
    assert_int_equal(buf_reserve(&b, SIZE_MAX - 3, &room), DR_ELIMIT);
    assert_int_equal(buf_reserve(&b, SIZE_MAX / 2, &room), DR_ENOMEM);
    assert_string_equal(buf_text(&b), "abc");
    buf_free(&b);
}

static int fill_buffer(void *ctx, struct dr_error *err)
{
    (void)ctx;
    struct buf b;
    buf_init(&b, DR_TAG_TEST, 0);
    int r = 0;
    for (int i = 0; i < 2000 && !r; i++)
        r = buf_printf(&b, "%d ", i);
    buf_free(&b);
    return r ? dr_fail(err, r, "buffer") : 0;
}

static void buffer_survives_no_memory(void **state)
{
    (void)state;
    test_oom_walk(fill_buffer, NULL);
}

static void arena_pieces_stay(void **state)
{
    (void)state;
    uint64_t blocks = test_blocks();
    struct arena a;
    char *text[500], filler[8192];
    memset(filler, 'x', sizeof filler);
    arena_init(&a, DR_TAG_TEST, 1024, 0);
    for (int i = 0; i < 500; i++) {
        text[i] = arena_printf(&a, "piece %d", i);
        assert_non_null(text[i]);
        if (i % 50 == 0) {
            char *large = arena_strndup(&a, filler, 100u * (unsigned)i / 8);
            assert_non_null(large);
            assert_int_equal(strlen(large), 100u * (unsigned)i / 8);
        }
    }
    assert_string_equal(text[0], "piece 0");
    assert_string_equal(text[333], "piece 333");
    assert_string_equal(arena_strndup(&a, "abcdef", 3), "abc");
    assert_string_equal(arena_strdup(&a, ""), "");
    arena_free(&a);
    assert_int_equal(a.used, 0);
    const char *again = arena_strdup(&a, "again");
    assert_non_null(again);
    assert_string_equal(again, "again");
    arena_free(&a);
    arena_free(NULL);
    assert_int_equal(test_blocks(), blocks);
}

static void arena_keeps_to_its_maximum(void **state)
{
    (void)state;
    struct arena a;
    char text[4096];
    memset(text, 'x', sizeof text);
    arena_init(&a, DR_TAG_TEST, 0, 4096);
    assert_non_null(arena_strndup(&a, text, 3999));
    assert_null(arena_strndup(&a, text, 99));
    assert_non_null(arena_strndup(&a, text, 95));
    assert_null(arena_strdup(&a, ""));
    assert_null(arena_strndup(&a, "", SIZE_MAX));
    arena_free(&a);
}

static int fill_arena(void *ctx, struct dr_error *err)
{
    (void)ctx;
    struct arena a;
    arena_init(&a, DR_TAG_TEST, 256, 0);
    int r = 0;
    for (int i = 0; i < 40 && !r; i++)
        r = arena_printf(&a, "%*d", i * 10, i) ? 0 : DR_ENOMEM;
    arena_free(&a);
    return r ? dr_fail(err, r, "arena") : 0;
}

static void arena_survives_no_memory(void **state)
{
    (void)state;
    test_oom_walk(fill_arena, NULL);
}

/* A block that is asked for again keeps its memory, larger or smaller; others go back. */
static void memory_stays_for_the_next_block(void **state)
{
    (void)state;
    enum { SMALL = 2 << 20, LARGE = 16 << 20 };
    struct dr_tally tally;
    if (TEST_SANITIZED)
        skip();
    dr_tally_init(&tally);
    struct dr_tally *before = dr_tally_use(&tally);
    uint64_t blocks = test_blocks();
    unsigned char *p = dr_malloc_again(DR_TAG_TEST, LARGE);
    assert_non_null(p);
    assert_int_equal(tally.bytes[DR_TAG_TEST], LARGE);
    dr_free(p);
    assert_int_equal(dr_alloc_kept(), 0); /* not unless it is asked for */
    dr_alloc_keep(LARGE);
    p = dr_malloc_again(DR_TAG_TEST, SMALL);
    assert_non_null(p);
    memset(p, 7, SMALL);
    dr_free(p);
    assert_true(dr_alloc_kept() >= SMALL && tally.bytes[DR_TAG_TEST] == 0);
    unsigned char *other = dr_malloc(DR_TAG_TEST, SMALL); /* no such block */
    assert_non_null(other);
    assert_int_equal(other[0], 0);
    p = dr_malloc_again(DR_TAG_TEST, LARGE); /* grows */
    assert_non_null(p);
    assert_int_equal(dr_alloc_kept(), 0);
    assert_true(p[0] == 7 && p[SMALL - 1] == 7 && p[LARGE - 1] == 0);
    p[LARGE - 1] = 9;
    unsigned char *second = dr_malloc_again(DR_TAG_TEST, SMALL);
    assert_non_null(second);
    assert_int_equal(second[0], 0);
    dr_free(p);
    dr_free(second); /* the smaller of two goes back */
    assert_true(dr_alloc_kept() >= LARGE && dr_alloc_kept() < LARGE + SMALL);
    p = dr_malloc_again(DR_TAG_TEST, SMALL); /* inside the large one */
    assert_non_null(p);
    assert_int_equal(tally.bytes[DR_TAG_TEST], 2 * SMALL);
    dr_free(p);
    assert_true(dr_alloc_kept() >= LARGE);
    dr_alloc_keep(SMALL); /* the rest of it goes back */
    assert_true(dr_alloc_kept() >= SMALL && dr_alloc_kept() < SMALL + 65536);
    p = dr_malloc_again(DR_TAG_TEST, LARGE);
    assert_non_null(p);
    assert_int_equal(p[LARGE - 1], 0);
    dr_free(p);
    assert_true(dr_alloc_kept() < SMALL + 65536);
    dr_alloc_keep(0);
    assert_int_equal(dr_alloc_kept(), 0);
    dr_free(other);
    assert_true(test_blocks() == blocks);
    dr_tally_use(before);
}

/* A block in the place of another takes its pages, and fails without leaving either. */
static void a_block_takes_the_place_of_another(void **state)
{
    (void)state;
    enum { SMALL = 100, LARGE = 4 << 20 };
    static const size_t sizes[][2] = { { SMALL, SMALL },
                                       { SMALL, LARGE },
                                       { LARGE, SMALL },
                                       { LARGE, LARGE + 5 },
                                       { LARGE, LARGE / 2 } };
    uint64_t blocks = test_blocks();
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int fails = 0; fails < 2; fails++) {
            size_t before = dr_alloc_stats(DR_TAG_TEST).bytes;
            unsigned char *old = dr_malloc(DR_TAG_TEST, sizes[i][0]);
            assert_non_null(old);
            memset(old, 7, sizes[i][0]);
            dr_alloc_fail_at((uint64_t)fails, 1);
            unsigned char *p = dr_malloc_over(DR_TAG_TEST, sizes[i][1], old);
            dr_alloc_fail_at(0, 0);
            assert_int_equal(p == NULL, fails);
            assert_int_equal(dr_alloc_stats(DR_TAG_TEST).bytes, before + (p ? sizes[i][1] : 0));
            if (p && !TEST_SANITIZED && sizes[i][0] == LARGE && sizes[i][1] > SMALL)
                assert_true(p[LARGE / 2 - 1] == 7); /* the same pages */
            if (p)
                memset(p, 9, sizes[i][1]);
            dr_free(p);
        }
    unsigned char *none = dr_malloc_over(DR_TAG_TEST, SMALL, NULL);
    assert_non_null(none);
    dr_free(none);
    assert_true(test_blocks() == blocks);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(buffer_grows_and_stops),
    cmocka_unit_test(buffer_refuses_huge),
    cmocka_unit_test(buffer_survives_no_memory),
    cmocka_unit_test(arena_pieces_stay),
    cmocka_unit_test(memory_stays_for_the_next_block),
    cmocka_unit_test(arena_keeps_to_its_maximum),
    cmocka_unit_test(arena_survives_no_memory),
    cmocka_unit_test(a_block_takes_the_place_of_another),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
