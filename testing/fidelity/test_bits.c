/* test_bits.c - what must not change a bit, does not.
 *
 * For a given kernel set the output depends on the request alone: not on the number of threads, on
 * what else is in the batch, on how many rows go through the network together, on what the engine
 * did before. Every stage that can be dumped is compared, byte by byte. The model is the small one
 * of odd shape, whose sizes are no multiples of anything that a kernel likes; and the shipped one.
 */
#include "testing/helpers/session.h"

#include <stdio.h>
#include <stdlib.h>

#include "testing/helpers/remote_backend.h"

enum { LEAST_STAGES = 14 };

static const char ancestral[] = "euler_a_batch_unguided", guided[] = "dpmpp_karras_negative",
                  with_eta[] = "ddim_eta_sizes";

static void open_with(struct session *s, const char *kernels, int threads, double memory_limit)
{
    char options[200];
    snprintf(options, sizeof options, "{\"kernels\":\"%s\",\"threads\":%d,\"memory_limit\":%.0f}",
             kernels, threads, memory_limit);
    session_open(s, options);
}

static void draw(struct session *s, const char *name, const char *stages)
{
    session_must(s, "generate", session_case("odd", name, stages));
}

static const char *const *usable_kernels(void)
{
    struct session s;
    session_open(&s, "{\"threads\":1}");
    const char *const *kernels = session_kernels(&s);
    session_close(&s);
    return kernels;
}

static void same_bits_on_one_two_and_three_threads(void **state)
{
    (void)state;
    struct session s;
    char stages[80], first[80];
    for (const char *const *k = usable_kernels(); *k; k++) {
        for (int threads = 1; threads <= 3; threads++) {
            open_with(&s, *k, threads, 0);
            snprintf(stages, sizeof stages, "%s-%d", *k, threads);
            draw(&s, guided, stages);
            session_close(&s);
            snprintf(first, sizeof first, "%s-1", *k);
            session_same(first, stages, LEAST_STAGES);
        }
    }
}

/* The case as it is, and each of its pictures by itself. */
static void batch_against_alone(struct session *s, const char *kernels, const char *name)
{
    char all[80], alone[80];
    snprintf(all, sizeof all, "%s-%s-all", kernels, name);
    json_t *batch = session_case("odd", name, all);
    int n = (int)session_number(batch, "batch_size");
    double seed = session_number(batch, "seed");
    assert_true(n > 1);
    session_must(s, "generate", batch);
    for (int i = 0; i < n; i++) {
        snprintf(alone, sizeof alone, "%s-%s-%d", kernels, name, i);
        json_t *one = session_case("odd", name, alone);
        json_object_set_new(one, "batch_size", json_integer(1));
        json_object_set_new(one, "seed", json_integer((json_int_t)seed + i));
        session_must(s, "generate", one);
        session_same_picture(all, i, alone);
    }
}

static void a_picture_of_a_batch_is_the_picture_alone(void **state)
{
    (void)state;
    struct session s;
    for (const char *const *k = usable_kernels(); *k; k++) {
        open_with(&s, *k, 2, 0);
        batch_against_alone(&s, *k, ancestral);
        batch_against_alone(&s, *k, with_eta);
        session_close(&s);
    }
}

static int rows_of(struct session *s, const char *name, double *ret_peak)
{
    const json_t *plan = session_must(s, "plan", session_case("odd", name, NULL));
    *ret_peak = session_number(plan, "peak_bytes");
    return (int)session_number(plan, "rows_per_forward");
}

static void rows_of_a_forward_change_no_bit(void **state)
{
    (void)state;
    struct session s;
    double peak, other;
    char together[80], apart[80];
    for (const char *const *k = usable_kernels(); *k; k++) {
        snprintf(together, sizeof together, "%s-together", *k);
        snprintf(apart, sizeof apart, "%s-apart", *k);
        open_with(&s, *k, 2, 0);
        int most = rows_of(&s, with_eta, &peak);
        assert_int_equal(most, 4); /* two pictures, guided */
        draw(&s, with_eta, together);
        session_close(&s);
        open_with(&s, *k, 2, 1.5 * peak); /* less than twice the peak: fewer rows are tried */
        assert_int_equal(rows_of(&s, with_eta, &other), 2);
        draw(&s, with_eta, apart);
        session_close(&s);
        session_same(together, apart, LEAST_STAGES);
    }
}

/* A device whose memory, weights and transfers are its own is reached through the seam alone. */
static void another_device_has_the_bits_of_scalar(void **state)
{
    (void)state;
    struct session s;
    remote_device_add();
    open_with(&s, "scalar", 2, 0);
    draw(&s, guided, "scalar-device");
    session_close(&s);
    open_with(&s, REMOTE_SET, 1, 0);
    long before = remote_transfers();
    draw(&s, guided, "remote-device");
    assert_true(remote_transfers() > before);
    session_close(&s);
    session_same("scalar-device", "remote-device", LEAST_STAGES);
}

static void earlier_jobs_change_no_bit(void **state)
{
    (void)state;
    struct session s;
    open_with(&s, "auto", 2, 0);
    draw(&s, guided, "first");
    draw(&s, guided, "again");
    draw(&s, "heun_long_prompt", "heun");
    json_t *wrong = session_case("odd", guided, "wrong");
    json_object_set_new(wrong, "width", json_integer(103));
    const json_t *success = json_object_get(session_ask(&s, "generate", wrong), "success");
    assert_true(json_is_false(success));
    draw(&s, "lms_one_edge", "lms");
    draw(&s, guided, "last");
    session_close(&s);
    session_same("first", "again", LEAST_STAGES);
    session_same("first", "last", LEAST_STAGES);
}

static json_t *tiny_request(const char *stages, int seed, int batch)
{
    json_t *data = session_case("odd", guided, stages);
    json_object_del(data, "model"); /* the shipped one */
    json_object_set_new(data, "prompt", json_string("a red circle left of a blue square"));
    json_object_set_new(data, "width", json_integer(128));
    json_object_set_new(data, "height", json_integer(128));
    json_object_set_new(data, "steps", json_integer(2));
    json_object_set_new(data, "seed", json_integer(seed));
    json_object_set_new(data, "batch_size", json_integer(batch));
    return data;
}

static void the_shipped_model_keeps_its_bits(void **state)
{
    (void)state;
    struct session s;
    if (!session_has("tiny"))
        skip();
    open_with(&s, "auto", 3, 0);
    session_must(&s, "generate", tiny_request("three", 5, 3));
    session_close(&s);
    open_with(&s, "auto", 1, 0);
    session_must(&s, "generate", tiny_request("one", 6, 1));
    session_close(&s);
    session_same_picture("three", 1, "one");
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_bits_on_one_two_and_three_threads),
        cmocka_unit_test(a_picture_of_a_batch_is_the_picture_alone),
        cmocka_unit_test(rows_of_a_forward_change_no_bit),
        cmocka_unit_test(another_device_has_the_bits_of_scalar),
        cmocka_unit_test(earlier_jobs_change_no_bit),
        cmocka_unit_test(the_shipped_model_keeps_its_bits),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
