/* test_schedulers_runs.c - what a run depends on: its levels from where it begins to where it is,
 * its own latents, and nothing else. Walked over schedulers.def. */
#include "testing/helpers/test.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "schedulers/scheduler_factory.h"
#include "schedulers/scheduler_options.h"
#include "schedulers/schedules.h"
#include "testing/helpers/sched_access.h"
#include "testing/helpers/sched_levels.h"

enum { VALUES = 12, MAX_EVALUATIONS = 32 };

static struct sched *make_with(const struct sched_info *sampler, int steps, double eta)
{
    struct dr_error err = { 0 };
    struct sched *s = NULL;
    struct sched_config config = {
        .sampler = sampler,
        .schedule = schedule_find("karras"),
        .spacing = SCHED_LEADING,
        .steps = steps,
        .prediction = SCHED_V_PREDICTION,
        .betas = SCHED_SCALED_LINEAR,
        .beta_start = 0.00085,
        .beta_end = 0.012,
        .train_steps = 1000,
        .steps_offset = 1,
        .set_alpha_to_one = true,
    };
    if (sched_option_row(sampler, "eta") < 0)
        eta = NAN;
    if (sched_options_apply(NULL, eta, &config, &err) || sched_new(&config, VALUES, &s, &err))
        fail_msg("%s: %s", sampler->name, err.text);
    return s;
}

static struct sched *make(const struct sched_info *sampler, int steps)
{
    return make_with(sampler, steps, 0.7);
}

static void walk(void (*each)(const struct sched_info *))
{
    size_t n;
    const struct sched_info *const *samplers = sched_all(&n);
    for (size_t i = 0; i < n; i++)
        each(samplers[i]);
}

/* A run in progress, of latents and noise that follow from `seed`. */
struct run {
    struct sched *s;
    struct dr_rng rng;
};

static struct run begin(struct sched *s, uint64_t seed, int first)
{
    struct dr_error err = { 0 };
    struct run run = { .s = s };
    float x[VALUES];
    dr_rng_seed(&run.rng, DR_RNG_CPU, seed);
    dr_rng_normal(&run.rng, x, VALUES);
    assert_int_equal(sched_begin(s, x, first, &err), 0);
    return run;
}

/* One evaluation; false at the end. */
static bool advance(struct run *run, int *ret_step)
{
    struct dr_error err = { 0 };
    struct sched_ask ask;
    float pred[VALUES];
    if (!sched_next(run->s, &ask))
        return false;
    *ret_step = ask.step;
    for (int i = 0; i < VALUES; i++)
        pred[i] = (float)(0.6 * ask.x[i] - 0.2 * ask.x[(i + 5) % VALUES] + 0.1 * ask.sigma);
    assert_int_equal(sched_feed(run->s, pred, pred, &run->rng, &err), 0);
    return true;
}

static void check_same(struct sched *a, struct sched *b, const char *what)
{
    if (memcmp(sched_latents(a), sched_latents(b), VALUES * sizeof(float)))
        fail_msg("%s: %s", sched_config_of(a)->sampler->name, what);
}

static void check_middle(const struct sched_info *sampler)
{
    enum { STEPS = 9, FIRST = 4 };
    /* Its reference makes the weights of a start in the middle as if there were a history, and
     * golden vectors hold it to that. */
    if (!strcmp(sampler->name, "lms"))
        return;
    struct dr_error err = { 0 };
    int step;
    struct sched *whole = make(sampler, STEPS), *rest = make(sampler, STEPS - FIRST);
    int skipped = sched_levels(whole) - sched_levels(rest);
    const float *timesteps = sched_evaluations(whole) ? sched_timesteps(whole) + skipped : NULL;
    assert_int_equal(sched_replace(rest, timesteps, sched_sigmas(whole) + skipped, &err), 0);
    struct run a = begin(whole, 1, FIRST), b = begin(rest, 1, 0);
    while (advance(&a, &step)) {
        assert_true(advance(&b, &step));
        check_same(whole, rest, "a start in the middle is not a run that begins there");
    }
    assert_false(advance(&b, &step));
    sched_free(whole);
    sched_free(rest);
}

static void a_start_in_the_middle_is_a_run_that_begins_there(void **state)
{
    (void)state;
    walk(check_middle);
}

/* Levels 8, 4, 2 ... of all steps. */
static void set_levels(struct sched *s)
{
    struct dr_error err = { 0 };
    float levels[MAX_EVALUATIONS + 1], sigmas[MAX_EVALUATIONS + 1];
    int steps = sched_config_of(s)->steps;
    for (int i = 0; i < steps; i++)
        levels[i] = (float)(8 / pow(2, i));
    levels[steps] = 0;
    assert_int_equal(test_lay_out(s, levels, sigmas), sched_levels(s));
    assert_int_equal(sched_replace(s, NULL, sigmas, &err), 0);
}

static void check_prefix(const struct sched_info *sampler)
{
    enum { FEW = 6, MORE = 9 };
    int step, step_b;
    if (sampler->layout.next) /* its steps are its own */
        return;
    if (!strcmp(sampler->name, "heunpp2")) /* its last step but one looks ahead once less */
        return;
    /* a Brownian path depends on both its ends */
    double eta = sampler->noise == SCHED_NOISE_BROWNIAN ? 0 : 0.7;
    struct sched *few = make_with(sampler, FEW, eta), *more = make_with(sampler, MORE, eta);
    set_levels(few);
    set_levels(more);
    struct run a = begin(few, 2, 0), b = begin(more, 2, 0);
    for (int e = 0; advance(&a, &step) && step < FEW - 1; e++) {
        assert_true(advance(&b, &step_b));
        assert_int_equal(step, step_b);
        check_same(few, more, "a step before the last depends on how many follow");
    }
    assert_int_equal(step, FEW - 1);
    sched_free(few);
    sched_free(more);
}

static void only_the_last_step_knows_that_it_is_the_last(void **state)
{
    (void)state;
    walk(check_prefix);
}

static void check_apart(const struct sched_info *sampler)
{
    enum { STEPS = 7 };
    int step;
    struct sched *alone = make(sampler, STEPS), *one = make(sampler, STEPS);
    struct sched *other = make(sampler, STEPS);
    struct run a = begin(alone, 3, 0), b = begin(one, 3, 0), c = begin(other, 4, 0);
    while (advance(&a, &step)) {}
    while (advance(&b, &step))
        advance(&c, &step);
    check_same(alone, one, "another run in the same process changes the result");
    sched_free(alone);
    sched_free(one);
    sched_free(other);
}

static void runs_side_by_side_leave_each_other_alone(void **state)
{
    (void)state;
    walk(check_apart);
}

/* After each evaluation the run moves into the other of two objects, which hold what is left of
 * other runs. */
static void check_moves(const struct sched_info *sampler, int first)
{
    enum { STEPS = 8 };
    struct dr_error err = { 0 };
    int step;
    struct sched *still = make(sampler, STEPS);
    struct sched *homes[] = { make(sampler, STEPS), make(sampler, STEPS) };
    void *saved = dr_malloc(DR_TAG_TEST, sched_state_size(still));
    assert_non_null(saved);
    for (int i = 0; i < 2; i++) {
        struct run before = begin(homes[i], 5 + (uint64_t)i, 0);
        while (advance(&before, &step)) {}
    }
    struct run a = begin(still, 7, first), b = begin(homes[0], 7, first);
    for (int e = 1; advance(&a, &step); e++) {
        assert_true(advance(&b, &step));
        check_same(still, b.s, "a run that was saved and loaded goes another way");
        sched_save(b.s, saved);
        b.s = homes[e % 2];
        assert_int_equal(sched_load(b.s, saved, sched_state_size(b.s), &err), 0);
        assert_int_equal(memcmp(&a.rng, &b.rng, sizeof a.rng), 0);
    }
    assert_false(advance(&b, &step));
    dr_free(saved);
    sched_free(still);
    sched_free(homes[0]);
    sched_free(homes[1]);
}

static void check_resume(const struct sched_info *sampler)
{
    check_moves(sampler, 0);
    check_moves(sampler, 3);
}

static void a_run_may_move_to_another_object(void **state)
{
    (void)state;
    walk(check_resume);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_start_in_the_middle_is_a_run_that_begins_there),
    cmocka_unit_test(only_the_last_step_knows_that_it_is_the_last),
    cmocka_unit_test(runs_side_by_side_leave_each_other_alone),
    cmocka_unit_test(a_run_may_move_to_another_object),
};

int main(int argc, char **argv)
{
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
