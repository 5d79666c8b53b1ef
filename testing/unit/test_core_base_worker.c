/* test_core_base_worker.c - messages in, exactly one answer each out, whatever happens in between.
 */
#include "core/base_worker.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "testing/helpers/test.h"

enum { EVENTS = 256, WAIT_SECONDS = 5, NAME = 32 };

/* What came out, without allocations: these tests run with failing ones. */
struct event {
    char id[NAME], code[NAME], type[NAME];
    bool success, progress;
    json_int_t step;
    bool cancelled;
    char status[NAME], state[NAME];
};

struct bench {
    struct base_worker *worker;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct event event[EVENTS];
    int events, begun, now_calls;
    char order[EVENTS]; /* first letters of the ids of jobs in the order they began */
    bool open;          /* jobs may end */
    const char *probe;  /* its answer is held back until health was asked for; NULL: none */
    pthread_t asking;
};

static void copy(char *dst, const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    snprintf(dst, NAME, "%s", s ? s : "");
}

static void *ask_health(void *bench)
{
    static const char line[] = "{\"type\":\"health\",\"request_id\":\"health\"}";
    struct bench *b = bench;
    base_worker_submit(b->worker, line, sizeof line - 1);
    return NULL;
}

static void on_event(void *user, const json_t *event)
{
    struct bench *b = user;
    const json_t *data = json_object_get(event, "data");
    pthread_mutex_lock(&b->lock);
    if (b->events < EVENTS) {
        struct event *e = &b->event[b->events++];
        copy(e->id, event, "request_id");
        copy(e->code, event, "error_code");
        copy(e->type, data, "type");
        copy(e->status, data, "status");
        copy(e->state, data, "state");
        e->success = json_is_true(json_object_get(event, "success"));
        e->progress = !strcmp(e->type, "progress");
        e->step = json_integer_value(json_object_get(data, "step"));
        e->cancelled = json_is_true(json_object_get(data, "cancelled"));
    }
    const char *id = json_string_value(json_object_get(event, "request_id"));
    bool probe = b->probe && id && !strcmp(id, b->probe) && !json_object_get(data, "step");
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
    if (probe && !pthread_create(&b->asking, NULL, ask_health, b)) {
        struct timespec moment = { .tv_nsec = 100 * 1000 * 1000 };
        nanosleep(&moment, NULL); /* it is answered by now, but for the sending */
    }
}

/* Waits for the gate; the stop flag is looked at every millisecond. */
static int slow(void *ctx, struct worker_job *job, json_t **ret_data, struct dr_error *err)
{
    struct bench *b = ctx;
    bool open = false;
    pthread_mutex_lock(&b->lock);
    if (b->begun < EVENTS)
        b->order[b->begun++] = message_id(job->ids)[0];
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
    worker_progress(job, 1, 4, json_is_true(json_object_get(job->data, "stream")), json_object());
    while (!open) {
        struct timespec tick = { .tv_nsec = 1000000 };
        if (atomic_load(job->stop))
            return dr_fail(err, DR_ECANCELED, "stopped");
        nanosleep(&tick, NULL);
        pthread_mutex_lock(&b->lock);
        open = b->open;
        pthread_mutex_unlock(&b->lock);
    }
    *ret_data = json_object();
    return *ret_data ? 0 : dr_fail(err, DR_ENOMEM, "no memory");
}

static int wordless(void *ctx, struct worker_job *job, json_t **ret_data, struct dr_error *err)
{
    (void)ctx;
    (void)job;
    (void)ret_data;
    (void)err;
    return DR_EIO;
}

static int at_once(void *ctx, struct worker_job *job, json_t **ret_data, struct dr_error *err)
{
    struct bench *b = ctx;
    (void)job;
    b->now_calls++;
    *ret_data = json_object();
    return *ret_data ? 0 : dr_fail(err, DR_ENOMEM, "no memory");
}

static void start(struct bench *b, int queue)
{
    memset(b, 0, sizeof *b);
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->changed, NULL);
    struct worker_config config = {
        .handler = {
            [VERB_generate] = slow,
            [VERB_plan] = wordless,
            [VERB_devices] = at_once,
        },
        .ctx = b,
        .queue = queue,
        .emit = on_event,
        .user = b,
    };
    assert_int_equal(base_worker_new(&config, &b->worker, NULL), 0);
}

static void stop(struct bench *b)
{
    base_worker_free(b->worker);
    pthread_mutex_destroy(&b->lock);
    pthread_cond_destroy(&b->changed);
}

static int send(struct bench *b, const char *line)
{
    return base_worker_submit(b->worker, line, strlen(line));
}

static int generate(struct bench *b, const char *id)
{
    char line[128];
    snprintf(line, sizeof line, "{\"type\":\"generate\",\"request_id\":\"%s\"}", id);
    return send(b, line);
}

static void open_gate(struct bench *b)
{
    pthread_mutex_lock(&b->lock);
    b->open = true;
    pthread_mutex_unlock(&b->lock);
}

/* Until `n` jobs have begun. */
static void wait_begun(struct bench *b, int n)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_SECONDS;
    int late = 0;
    pthread_mutex_lock(&b->lock);
    while (b->begun < n && !late)
        late = pthread_cond_timedwait(&b->changed, &b->lock, &until);
    pthread_mutex_unlock(&b->lock);
    assert_int_equal(late, 0);
}

/* Jobs end as soon as they begin. */
static void start_open(struct bench *b)
{
    start(b, 0);
    open_gate(b);
}

/* Job `id` runs, and goes on running. */
static void start_busy(struct bench *b, int queue, const char *id)
{
    start(b, queue);
    assert_int_equal(generate(b, id), 0);
    wait_begun(b, 1);
}

/* Lets all jobs end. */
static void finish(struct bench *b)
{
    open_gate(b);
    base_worker_drain(b->worker);
}

/* The only answer to `id`. */
static struct event answer(struct bench *b, const char *id)
{
    struct event found;
    int n = 0;
    pthread_mutex_lock(&b->lock);
    for (int i = 0; i < b->events; i++)
        if (!strcmp(b->event[i].id, id) && !b->event[i].progress) {
            found = b->event[i];
            n++;
        }
    pthread_mutex_unlock(&b->lock);
    if (n != 1)
        fail_msg("%d answers to %s", n, id);
    return found;
}

static int answers(struct bench *b, const char *id)
{
    int n = 0;
    pthread_mutex_lock(&b->lock);
    for (int i = 0; i < b->events; i++)
        n += !strcmp(b->event[i].id, id) && !b->event[i].progress;
    pthread_mutex_unlock(&b->lock);
    return n;
}

static void every_message_has_one_answer(void **state)
{
    (void)state;
    static struct bench b;
    start_open(&b);
    assert_int_equal(generate(&b, "job"), 0);
    assert_int_equal(send(&b, "{\"type\":\"health\",\"request_id\":\"health\"}"), 0);
    assert_int_equal(send(&b, "{\"type\":\"devices\",\"request_id\":\"devices\"}"), 0);
    assert_int_equal(send(&b, "{\"type\":\"status\",\"request_id\":\"status\"}"), 0);
    assert_int_equal(send(&b, "{\"type\":\"tokens\",\"request_id\":\"tokens\"}"), 0);
    assert_int_equal(send(&b, "{\"type\":\"plan\",\"request_id\":\"plan\"}"), 0);
    assert_int_equal(send(&b, "{\"type\":\"no\",\"request_id\":\"no\"}"), DR_EPROTO);
    assert_int_equal(send(&b, "{\"type\":\"capabilities\",\"request_id\":\"cap\"}"),
                     DR_EUNSUPPORTED);
    assert_true(send(&b, "garbage") < 0);
    base_worker_drain(b.worker);
    assert_true(answer(&b, "job").success);
    assert_string_equal(answer(&b, "health").status, "healthy");
    assert_true(answer(&b, "devices").success);
    assert_true(answer(&b, "status").success);
    assert_string_equal(answer(&b, "tokens").code, "UNSUPPORTED");
    assert_string_equal(answer(&b, "plan").code, "IO_ERROR");
    assert_string_equal(answer(&b, "no").code, "PROTOCOL_ERROR");
    assert_string_equal(answer(&b, "cap").code, "UNSUPPORTED");
    assert_false(answer(&b, "").success); /* the garbage */
    assert_int_equal(b.now_calls, 1);
    stop(&b);
}

static void jobs_run_in_order(void **state)
{
    (void)state;
    static struct bench b;
    start_open(&b);
    for (int i = 0; i < 20; i++) {
        char id[2] = { (char)('a' + i), '\0' };
        assert_int_equal(generate(&b, id), 0);
    }
    base_worker_drain(b.worker);
    assert_int_equal(b.begun, 20);
    assert_memory_equal(b.order, "abcdefghijklmnopqrst", 20);
    stop(&b);
}

static void a_full_queue_refuses(void **state)
{
    (void)state;
    static struct bench b;
    start_busy(&b, 2, "running");
    assert_int_equal(generate(&b, "first"), 0);
    assert_int_equal(generate(&b, "second"), 0);
    assert_int_equal(generate(&b, "third"), DR_ELIMIT);
    assert_string_equal(answer(&b, "third").code, "LIMIT_EXCEEDED");
    finish(&b);
    assert_true(answer(&b, "second").success);
    assert_int_equal(generate(&b, "third"), 0);
    base_worker_drain(b.worker);
    assert_int_equal(answers(&b, "third"), 2); /* of two messages */
    stop(&b);
}

static void an_id_in_use_is_refused(void **state)
{
    (void)state;
    static struct bench b;
    start_busy(&b, 0, "same");
    assert_int_equal(generate(&b, "same"), DR_ESTATE);
    assert_int_equal(generate(&b, "waiting"), 0);
    assert_int_equal(generate(&b, "waiting"), DR_ESTATE);
    assert_int_equal(send(&b, "{\"type\":\"generate\"}"), 0); /* no id is no name */
    assert_int_equal(send(&b, "{\"type\":\"generate\"}"), 0);
    finish(&b);
    assert_int_equal(generate(&b, "same"), 0);
    base_worker_drain(b.worker);
    assert_int_equal(answers(&b, "same"), 3);
    assert_int_equal(answers(&b, "waiting"), 2);
    assert_int_equal(answers(&b, ""), 2);
    assert_int_equal(b.begun, 5);
    stop(&b);
}

static void cancel_ends_what_runs_and_what_waits(void **state)
{
    (void)state;
    static struct bench b;
    start_busy(&b, 0, "running");
    assert_int_equal(generate(&b, "waiting"), 0);
    assert_int_equal(generate(&b, "kept"), 0);
    send(&b, "{\"type\":\"cancel\",\"request_id\":\"c1\",\"data\":{\"target\":\"waiting\"}}");
    send(&b, "{\"type\":\"cancel\",\"request_id\":\"c2\",\"data\":{\"session_id\":\"nobody\"}}");
    send(&b, "{\"type\":\"cancel\",\"request_id\":\"c3\",\"data\":{\"request_id\":\"running\"}}");
    send(&b, "{\"type\":\"cancel\",\"data\":{}}");
    send(&b, "{\"type\":\"cancel\",\"request_id\":\"c4\"}"); /* its own id is no target */
    send(&b, "{\"type\":\"cancel\",\"request_id\":\"c5\",\"data\":{\"foo\":1}}");
    send(&b, "{\"type\":\"health\",\"request_id\":\"h\",\"data\":{\"foo\":1}}");
    send(&b, "{\"type\":\"shutdown\",\"request_id\":\"s\",\"data\":{\"foo\":1}}");
    assert_true(answer(&b, "c1").cancelled);
    assert_false(answer(&b, "c2").cancelled);
    assert_true(answer(&b, "c3").cancelled);
    assert_string_equal(answer(&b, "").code, "INVALID_VALUE");
    assert_string_equal(answer(&b, "c4").code, "INVALID_VALUE");
    assert_string_equal(answer(&b, "c5").code, "INVALID_VALUE");
    assert_string_equal(answer(&b, "h").code, "INVALID_VALUE");
    assert_string_equal(answer(&b, "s").code, "INVALID_VALUE");
    wait_begun(&b, 2); /* the kept one */
    finish(&b);
    assert_string_equal(answer(&b, "running").code, "CANCELED");
    assert_string_equal(answer(&b, "waiting").code, "CANCELED");
    assert_true(answer(&b, "kept").success);
    assert_int_equal(b.begun, 2); /* the waiting one never began */
    assert_false(base_worker_cancel(b.worker, "kept"));
    stop(&b);
}

static void status_is_answered_beside_a_job(void **state)
{
    (void)state;
    static struct bench b;
    start_busy(&b, 0, "running");
    assert_int_equal(generate(&b, "waiting"), 0);
    send(&b, "{\"type\":\"status\",\"request_id\":\"s1\",\"data\":{\"target\":\"running\"}}");
    send(&b, "{\"type\":\"status\",\"request_id\":\"s2\",\"data\":{\"target\":\"waiting\"}}");
    send(&b, "{\"type\":\"status\",\"request_id\":\"s3\",\"data\":{\"target\":\"nobody\"}}");
    send(&b, "{\"type\":\"health\",\"request_id\":\"h\"}");
    assert_string_equal(answer(&b, "s1").status, "running");
    assert_string_equal(answer(&b, "s2").status, "waiting");
    assert_string_equal(answer(&b, "s3").status, "not_found");
    assert_string_equal(answer(&b, "h").status, "healthy");
    assert_int_equal(answers(&b, "running"), 0);
    open_gate(&b);
    stop(&b);
}

static void shutdown_finishes_what_was_taken(void **state)
{
    (void)state;
    static struct bench b;
    start(&b, 0);
    assert_int_equal(generate(&b, "running"), 0);
    assert_int_equal(generate(&b, "waiting"), 0);
    assert_false(base_worker_shutting_down(b.worker));
    assert_int_equal(send(&b, "{\"type\":\"shutdown\",\"request_id\":\"end\"}"), 0);
    assert_true(base_worker_shutting_down(b.worker));
    assert_int_equal(generate(&b, "late"), DR_ESTATE);
    finish(&b);
    assert_true(answer(&b, "running").success);
    assert_true(answer(&b, "waiting").success);
    assert_string_equal(answer(&b, "late").code, "BAD_STATE");
    stop(&b);
}

static void stopping_cancels_what_waits(void **state)
{
    (void)state;
    static struct bench b;
    start_busy(&b, 0, "running");
    assert_int_equal(generate(&b, "one"), 0);
    assert_int_equal(generate(&b, "two"), 0);
    base_worker_stop(b.worker, false);
    assert_string_equal(answer(&b, "one").code, "CANCELED"); /* at once */
    assert_string_equal(answer(&b, "two").code, "CANCELED");
    assert_int_equal(answers(&b, "running"), 0);
    assert_int_equal(generate(&b, "late"), DR_ESTATE);
    assert_int_equal(send(&b, "{\"type\":\"health\",\"request_id\":\"h\"}"), 0);
    assert_true(answer(&b, "h").success);
    assert_false(base_worker_wait(b.worker, 0));
    finish(&b);
    assert_true(answer(&b, "running").success);
    assert_string_equal(answer(&b, "late").code, "BAD_STATE");
    base_worker_stop(b.worker, true); /* nothing is left */
    stop(&b);
    start_busy(&b, 0, "running");
    base_worker_stop(b.worker, true);
    base_worker_drain(b.worker);
    assert_string_equal(answer(&b, "running").code, "CANCELED");
    stop(&b);
}

static void closing_answers_what_is_left(void **state)
{
    (void)state;
    static struct bench b;
    start_busy(&b, 0, "running");
    assert_int_equal(generate(&b, "waiting"), 0);
    base_worker_free(b.worker);
    assert_string_equal(answer(&b, "running").code, "CANCELED");
    assert_string_equal(answer(&b, "waiting").code, "CANCELED");
    base_worker_free(NULL);
}

static void progress_is_for_those_who_ask(void **state)
{
    (void)state;
    static struct bench b;
    int told = 0;
    start_open(&b);
    send(&b, "{\"type\":\"generate\",\"request_id\":\"a\",\"data\":{\"stream\":true}}");
    send(&b, "{\"type\":\"generate\",\"request_id\":\"b\",\"data\":{\"stream\":false}}");
    base_worker_drain(b.worker);
    for (int i = 0; i < b.events; i++) {
        told += b.event[i].progress;
        if (b.event[i].progress) {
            assert_string_equal(b.event[i].id, "a");
            assert_int_equal(b.event[i].step, 1);
        }
    }
    assert_int_equal(told, 1);
    stop(&b);
}

static void *send_many(void *bench)
{
    struct bench *b = bench;
    for (int i = 0; i < 20; i++)
        send(b, "{\"type\":\"health\",\"request_id\":\"many\"}");
    return NULL;
}

static void many_may_speak_at_once(void **state)
{
    (void)state;
    static struct bench b;
    pthread_t thread[4];
    start_open(&b);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, send_many, &b), 0);
    for (int i = 0; i < 20; i++)
        send(&b, "{\"type\":\"generate\"}");
    for (int i = 0; i < 4; i++)
        pthread_join(thread[i], NULL);
    base_worker_drain(b.worker);
    assert_int_equal(answers(&b, "many"), 80);
    assert_int_equal(answers(&b, ""), 20);
    stop(&b);
}

/* The thread that ran the job still has it when its answer goes out. */
static void an_answered_job_is_over(void **state)
{
    (void)state;
    static struct bench b;
    start_open(&b);
    b.probe = "job";
    assert_int_equal(generate(&b, "job"), 0);
    base_worker_drain(b.worker);
    pthread_join(b.asking, NULL);
    assert_string_equal(answer(&b, "health").state, "idle");
    stop(&b);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(every_message_has_one_answer),
    cmocka_unit_test(jobs_run_in_order),
    cmocka_unit_test(a_full_queue_refuses),
    cmocka_unit_test(an_id_in_use_is_refused),
    cmocka_unit_test(cancel_ends_what_runs_and_what_waits),
    cmocka_unit_test(status_is_answered_beside_a_job),
    cmocka_unit_test(shutdown_finishes_what_was_taken),
    cmocka_unit_test(stopping_cancels_what_waits),
    cmocka_unit_test(closing_answers_what_is_left),
    cmocka_unit_test(progress_is_for_those_who_ask),
    cmocka_unit_test(many_may_speak_at_once),
    cmocka_unit_test(an_answered_job_is_over),
};

int main(int argc, char **argv)
{
    jx_init();
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
