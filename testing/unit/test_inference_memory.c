/* test_inference_memory.c - what is given back when a job is large, and when a job is refused. */
#include "testing/helpers/test.h"

#include <stdio.h>
#include <string.h>

#include "inference/memory_optimizer.h"

enum { MB = 1 << 20 };

/* Weights of 100, 60 + 340 (one network's) and 50 MB, workspaces of 10, 20 and 30, 5 of everything
 * else. */
static struct memory_plan example(size_t limit)
{
    struct memory_plan p;
    memset(&p, 0, sizeof p);
    p.stage[STAGE_TEXT] = (struct stage_use){ .mapped = 100 * MB, .workspace = 10 * MB };
    p.stage[STAGE_CONTEXT] = (struct stage_use){ .mapped = 60 * MB, .workspace = MB };
    p.stage[STAGE_DENOISE] = (struct stage_use){ .mapped = 340 * MB, .workspace = 20 * MB };
    p.stage[STAGE_DECODE] = (struct stage_use){ .mapped = 50 * MB, .workspace = 30 * MB };
    p.tagged[DR_TAG_JOB] = 3 * MB;
    p.tagged[DR_TAG_ACTIVATION] = 30 * MB; /* in the stages already */
    p.baseline = 2 * MB;
    p.asked = limit;
    return p;
}

static void nothing_is_dropped_that_fits(void **state)
{
    (void)state;
    struct memory_plan p = example((size_t)4000 * MB);
    p.drop[STAGE_TEXT] = true; /* of an earlier decision */
    memory_decide(&p);
    for (int s = 0; s < STAGE_COUNT; s++)
        assert_false(p.drop[s]);
    assert_int_equal(p.peak, (5 + 100 + 400 + 50 + 30) * (size_t)MB);
}

static void weights_go_in_the_order_of_the_stages(void **state)
{
    (void)state;
    struct memory_plan p = example((size_t)1300 * MB); /* 585 MB are less than half of it */
    memory_decide(&p);
    assert_true(p.drop[STAGE_TEXT] && !p.drop[STAGE_DENOISE] && !p.drop[STAGE_DECODE]);

    p = example((size_t)2 * 500 * MB);
    memory_decide(&p);
    assert_true(p.drop[STAGE_TEXT]);
    assert_false(p.drop[STAGE_DENOISE]);
    assert_int_equal(p.peak, (5 + 400 + 50 + 30) * (size_t)MB);

    p = example((size_t)2 * 430 * MB);
    memory_decide(&p);
    assert_true(p.drop[STAGE_TEXT] && p.drop[STAGE_DENOISE]);
    assert_int_equal(p.peak, (5 + 400 + 20) * (size_t)MB);
}

/* One block for all stages, as large as the largest, where that raises the peak to no more than
 * half of the limit, or not at all. */
static void a_block_is_kept_where_there_is_room(void **state)
{
    (void)state;
    struct memory_plan p = example((size_t)4000 * MB);
    memory_decide(&p);
    assert_true(p.keep && memory_block(&p) == 30 * (size_t)MB);
    assert_int_equal(p.peak, (5 + 100 + 400 + 50 + 30) * (size_t)MB);

    /* weights are given back: the peak is at the third stage, where the block would raise it */
    p = example((size_t)2 * 430 * MB);
    memory_decide(&p);
    assert_false(p.keep);
    assert_int_equal(p.peak, (5 + 400 + 20) * (size_t)MB);
    p = example((size_t)2 * 430 * MB);
    p.stage[STAGE_DECODE].workspace = 20 * MB;
    memory_decide(&p);
    assert_true(p.keep);
    assert_int_equal(p.peak, (5 + 400 + 20) * (size_t)MB);
}

static void pictures_count_when_they_are_touched(void **state)
{
    (void)state;
    struct memory_plan p = example((size_t)2 * 430 * MB);
    p.pictures = 2 * MB; /* of the job's three */
    memory_decide(&p);
    assert_int_equal(p.peak, (5 - 2 + 400 + 20) * (size_t)MB);
}

static void admits_up_to_the_limit(void **state)
{
    (void)state;
    struct dr_error err = { 0 };
    struct memory_plan p = example((size_t)425 * MB);
    memory_decide(&p);
    assert_int_equal(p.peak, p.limit);
    assert_int_equal(memory_admit(&p, &err), 0);
    p.limit--;
    assert_int_equal(memory_admit(&p, &err), DR_ENOMEM);
    assert_non_null(strstr(
        err.text, "needs 445.6 MB, but only 445.6 MB is allowed: limit 445.6 MB (memory_limit)"));
}

static struct system_bound bound(size_t limit, size_t left, const char *source)
{
    struct system_bound b = { .limit = limit, .left = left };
    snprintf(b.source, sizeof b.source, "%s", source);
    return b;
}

static void without_a_limit_three_quarters_of_what_is_left(void **state)
{
    (void)state;
    struct memory_plan p = example(0);
    size_t own = 3 * MB;
    p.held = own; /* is the job's, though not left */
    p.system.machine = bound((size_t)8000 * MB, (size_t)4000 * MB, "the machine");
    memory_decide(&p);
    assert_true(p.limit == ((size_t)4000 * MB + own) / 4 * 3);
    assert_string_equal(p.bound.source, "the machine");
    p.system.group = bound((size_t)2000 * MB, (size_t)400 * MB, "the group");
    memory_decide(&p);
    assert_true(p.limit == ((size_t)400 * MB + own) / 4 * 3);
    assert_string_equal(p.bound.source, "the group");
    assert_int_equal(p.bound.limit, (size_t)2000 * MB);
    p.system.machine.left = (size_t)100 * MB;
    memory_decide(&p);
    assert_string_equal(p.bound.source, "the machine");
}

/* 30 MB of workspace and 3 MB of the job; mapped weights are the kernel's to take back. */
static void what_was_asked_for_does_not_outbid_the_system(void **state)
{
    (void)state;
    enum { NEED = 33 * MB };
    struct dr_error err = { 0 };
    struct memory_plan p = example((size_t)4000 * MB);
    struct system_bound *const places[] = { &p.system.group, &p.system.data, &p.system.address };
    for (size_t i = 0; i < 3; i++) {
        size_t need = i == 2 ? NEED + 70 * MB + (32 << 20) : NEED;
        p.unmapped = 70 * MB;
        *places[i] = bound(200 * MB, need, "there");
        memory_decide(&p);
        assert_int_equal(memory_admit(&p, &err), 0);
        size_t held = p.limit - p.peak; /* what is held already need not be had */
        places[i]->left -= held + 1;
        memory_decide(&p);
        assert_int_equal(p.limit, p.peak - 1);
        assert_int_equal(memory_admit(&p, &err), DR_ENOMEM);
        assert_non_null(strstr(err.text, "limit 209.7 MB (there); try"));
        places[i]->left = 0;
        memory_decide(&p);
        assert_true(p.limit < p.peak);
        memset(places[i], 0, sizeof *places[i]);
    }
    memory_decide(&p);
    assert_string_equal(p.bound.source, MEMORY_ASKED);
    assert_int_equal(memory_admit(&p, &err), 0);
}

static void a_group_has_weights_given_back(void **state)
{
    (void)state;
    struct memory_plan p = example((size_t)4000 * MB);
    p.system.group = bound((size_t)900 * MB, (size_t)900 * MB, "the group");
    memory_decide(&p);
    assert_true(p.drop[STAGE_TEXT] && p.drop[STAGE_DENOISE]);
}

/* Weights in private memory are in the peak: that they are allocated takes nothing from the limit.
 * These are not touched, so what is available stays as it is. */
static void what_is_held_counts_as_available(void **state)
{
    (void)state;
    struct memory_plan before = example(0), after = example(0);
    system_memory("", &before.system);
    after.system = before.system;
    const size_t bytes = (size_t)2048 * MB;
    memory_decide(&before);
    after.held = bytes;
    memory_decide(&after);
    assert_true(after.limit > before.limit + bytes / 2); /* 3/4 */
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_dropped_that_fits),
        cmocka_unit_test(weights_go_in_the_order_of_the_stages),
        cmocka_unit_test(pictures_count_when_they_are_touched),
        cmocka_unit_test(admits_up_to_the_limit),
        cmocka_unit_test(without_a_limit_three_quarters_of_what_is_left),
        cmocka_unit_test(what_was_asked_for_does_not_outbid_the_system),
        cmocka_unit_test(a_group_has_weights_given_back),
        cmocka_unit_test(a_block_is_kept_where_there_is_room),
        cmocka_unit_test(what_is_held_counts_as_available),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
