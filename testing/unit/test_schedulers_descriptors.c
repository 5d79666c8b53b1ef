/* test_schedulers_descriptors.c - what a descriptor of a sampler or schedule must have and what it
 * may leave out. */
#include "testing/helpers/test.h"

#include <string.h>

#include "schedulers/scheduler_factory.h"
#include "schedulers/schedules.h"

static void feed(struct sched *s, const struct sched_answer *answer)
{
    (void)s;
    (void)answer;
}

static bool next(const struct sched *s, double *ret_sigma)
{
    (void)s;
    *ret_sigma = 1;
    return false;
}

static void lay_out(const struct schedule_job *job, double *ret_sigmas, double *ret_timesteps)
{
    (void)job;
    (void)ret_sigmas;
    (void)ret_timesteps;
}

static const struct sched_info smallest = { .name = "small", .order = 1, .feed = feed };

static void all_are_whole(void **state)
{
    (void)state;
    struct dr_error err = { 0 };
    if (sched_tables_check(&err))
        fail_msg("%s", err.text);
}

static void what_is_optional_may_be_left_out(void **state)
{
    (void)state;
    static const char *const aliases[] = { "tiny", "wee", NULL };
    struct dr_error err = { 0 };
    assert_int_equal(sched_info_check(&smallest, "small", &err), 0);
    assert_string_equal(sched_title(&smallest), "small");
    assert_string_equal(sched_spelling(&smallest, 0), "small");
    assert_null(sched_spelling(&smallest, 1));
    assert_null(sched_spelling(&smallest, 2));
    struct sched_info more = smallest;
    more.diffusers = "SmallScheduler";
    more.aliases = aliases;
    assert_int_equal(sched_info_check(&more, "small", &err), 0);
    assert_string_equal(sched_spelling(&more, 1), "SmallScheduler");
    assert_string_equal(sched_spelling(&more, 3), "wee");
    assert_null(sched_spelling(&more, 4));
    more.title = "Small";
    assert_string_equal(sched_title(&more), "Small");
    assert_string_equal(sched_spelling(&more, 1), "Small");
    struct schedule_info schedule = { .name = "even", .fill = lay_out };
    assert_int_equal(schedule_info_check(&schedule, "even", &err), 0);
    assert_string_equal(schedule_title(&schedule), "even");
}

static void check_error(int r, const struct dr_error *err, const char *expected)
{
    if (r != DR_EINTERNAL || strcmp(err->text, expected))
        fail_msg("got %d \"%s\", expected \"%s\"", r, err->text, expected);
}

/* A descriptor with one fault, and its error. */
static void faults_are_named(void **state)
{
    (void)state;
    static const struct sched_fixed_key fixed[] = { { "a", "1" }, { "b", NULL }, { NULL, NULL } };
    static const char *const many[] = { "a", "b", "c", "d", "e", "f", "g", "h", "i",
                                        "j", "k", "l", "m", "n", "o", "p", "q", NULL };
    static const struct sched_option eta[] = { { "eta", 0, 1, 1, false, "x", NULL },
                                               { .name = NULL } };
    static const struct sched_option outside[] = { { "r", 0, 1, 2, false, "x", NULL },
                                                   { .name = NULL } };
    static const struct sched_option silent[] = { { "r", 0, 1, 1, false, NULL, NULL },
                                                  { .name = NULL } };
    static const struct sched_option twice[] = { { "r", 0, 1, 1, false, "x", NULL },
                                                 { "r", 0, 2, 1, false, "y", NULL },
                                                 { .name = NULL } };
    struct {
        struct sched_info info;
        const char *expected;
    } cases[] = {
        { { .order = 1, .feed = feed }, "sampler small: member name is missing" },
        { { .name = "big", .order = 1, .feed = feed },
          "sampler small: member name is \"big\", expected \"small\"" },
        { { .name = "small", .feed = feed }, "sampler small: member order is missing" },
        { { .name = "small", .order = 1 }, "sampler small: member feed is missing" },
        { { .name = "small", .order = 1, .feed = feed, .scalars = 1 },
          "sampler small: member begin is missing" },
        { { .name = "small", .order = 1, .feed = feed, .layout.next = next },
          "sampler small: member scalars is missing" },
        { { .name = "small", .order = 1, .feed = feed, .rule = SCHED_RULE_CONSISTENCY },
          "sampler small: members rule and options: no option original_inference_steps" },
        { { .name = "small", .order = 1, .feed = feed, .options = eta },
          "sampler small: members noise and options: noise is missing beside eta" },
        { { .name = "small", .order = 1, .feed = feed, .options = outside },
          "sampler small: member options: r has a default out of its range, no help, or a second "
          "row" },
        { { .name = "small", .order = 1, .feed = feed, .options = silent },
          "sampler small: member options: r has a default out of its range, no help, or a second "
          "row" },
        { { .name = "small", .order = 1, .feed = feed, .options = twice },
          "sampler small: member options: r has a default out of its range, no help, or a second "
          "row" },
        { { .name = "small", .order = 1, .feed = feed, .aux = 2 },
          "sampler small: member prepare is missing" },
        { { .name = "small", .order = 1, .feed = feed, .rule = SCHED_RULE_COUNT },
          "sampler small: member rule is 4, expected 0 to 3" },
        { { .name = "small", .order = 1, .feed = feed, .noise = SCHED_NOISE_COUNT },
          "sampler small: member noise is 3, expected 0 to 2" },
        { { .name = "small", .order = 1, .feed = feed, .vectors = -1 },
          "sampler small: member vectors is -1, expected 0 to 64" },
        { { .name = "small", .order = 1, .feed = feed, .aliases = many },
          "sampler small: member aliases (their number) is 17, expected 0 to 16" },
        { { .name = "small", .order = 1, .feed = feed, .fixed = fixed },
          "sampler small: member fixed: b has no values" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dr_error err = { 0 };
        check_error(sched_info_check(&cases[i].info, "small", &err), &err, cases[i].expected);
    }
    struct dr_error err = { 0 };
    struct schedule_info schedule = { .name = "even" };
    check_error(schedule_info_check(&schedule, "even", &err), &err,
                "schedule even: member fill is missing");
    schedule = (struct schedule_info){ .fill = lay_out };
    check_error(schedule_info_check(&schedule, "even", &err), &err,
                "schedule even: member name is missing");
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(all_are_whole),
    cmocka_unit_test(what_is_optional_may_be_left_out),
    cmocka_unit_test(faults_are_named),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
