/* test_cancel.c - a job that is stopped at any moment ends at once, and only that job.
 *
 * Jobs are cancelled after random times that reach from the loading of the model to the writing of
 * the picture. Each gets exactly one answer, CANCELED or a success that was faster; the engine is
 * idle right after; the next job draws the same bits as ever. tools/check_fullsize.sh does the same
 * at SDXL's real size.
 */
#include "testing/helpers/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"

enum { ROUNDS = 24 };

static const double IDLE_SECONDS = 1;

static void wait_for(double seconds)
{
    struct timespec t = { (time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9) };
    nanosleep(&t, NULL);
}

/* About half a second of work on one core, with several pictures to encode. */
static json_t *long_job(const char *format)
{
    json_t *data = session_case("odd", "euler_a_batch_unguided", NULL);
    json_object_set_new(data, "width", json_integer(256));
    json_object_set_new(data, "height", json_integer(256));
    json_object_set_new(data, "steps", json_integer(4));
    json_object_set_new(data, "format", json_string(format));
    return data;
}

/* 1 when the job was cancelled, 0 when it was done before. */
static int cancel_after(struct session *s, double seconds, const char *format, double *ret_idle)
{
    session_send(s, "generate", "victim", long_job(format));
    wait_for(seconds);
    double asked = dr_now();
    int found = darkroom_cancel(s->engine, "victim");
    darkroom_drain(s->engine);
    *ret_idle = dr_now() - asked;
    assert_int_equal(s->answers, 1);
    assert_string_equal(json_string_value(json_object_get(s->answer, "request_id")), "victim");
    if (json_is_true(json_object_get(s->answer, "success")))
        return 0;
    assert_int_equal(found, 1);
    assert_string_equal(json_string_value(json_object_get(s->answer, "error_code")), "CANCELED");
    return 1;
}

static void at_any_moment(void **state)
{
    (void)state;
    struct session s;
    static const char *const formats[] = { "png", "jpeg", "webp" };
    double idle, worst = 0;
    int cancelled = 0;
    unsigned seed = 12345;
    session_open(&s, "{\"threads\":2}");
    session_must(&s, "generate", session_case("odd", "euler", "before"));
    double start = dr_now();
    session_must(&s, "generate", long_job("png"));
    double whole = dr_now() - start;
    for (int i = 0; i < ROUNDS; i++) {
        if (i % 3 == 0) /* so that loading is among the moments */
            session_must(&s, "unload_model", NULL);
        seed = seed * 1103515245u + 12345u;
        double share = i % 6 == 0 ? 0.01 : (double)(seed >> 8) / (1 << 24);
        cancelled += cancel_after(&s, whole * share, formats[i % 3], &idle);
        worst = idle > worst ? idle : worst;
        assert_true(idle <= IDLE_SECONDS);
    }
    printf("%d of %d cancelled, idle after %.3f s at most; a whole job takes %.3f s\n", cancelled,
           ROUNDS, worst, whole);
    assert_true(cancelled >= ROUNDS / 3);
    session_must(&s, "generate", session_case("odd", "euler", "after"));
    session_close(&s);
    session_same("before", "after", 14);
}

static void before_it_begins(void **state)
{
    (void)state;
    struct session s;
    double idle;
    session_open(&s, "{\"threads\":1}");
    assert_int_equal(cancel_after(&s, 0, "png", &idle), 1); /* at the first load */
    assert_int_equal(darkroom_cancel(s.engine, "victim"), 0);
    assert_int_equal(darkroom_cancel(s.engine, "nobody"), 0);
    session_must(&s, "generate", session_case("odd", "euler", NULL));
    session_close(&s);
}

static void waiting_jobs_fall_alone(void **state)
{
    (void)state;
    struct session s;
    session_open(&s, "{\"threads\":2}");
    session_send(&s, "generate", "first", long_job("png"));
    session_send(&s, "generate", "second", long_job("png"));
    assert_int_equal(darkroom_cancel(s.engine, "second"), 1);
    darkroom_drain(s.engine);
    assert_string_equal(json_string_value(json_object_get(s.answer, "request_id")), "first");
    assert_true(json_is_true(json_object_get(s.answer, "success")));
    session_close(&s);
}

/* Closing in the middle of a job: it is stopped and answered, nothing is left behind. */
static void by_closing(void **state)
{
    (void)state;
    struct session s;
    session_open(&s, "{\"threads\":2}");
    session_send(&s, "generate", "victim", long_job("png"));
    wait_for(0.05);
    double start = dr_now();
    darkroom_close(s.engine);
    assert_true(dr_now() - start <= IDLE_SECONDS);
    assert_int_equal(s.answers, 1);
    json_decref(s.answer);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(at_any_moment),
        cmocka_unit_test(before_it_begins),
        cmocka_unit_test(waiting_jobs_fall_alone),
        cmocka_unit_test(by_closing),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
