/* test_worker_progress.c - what darkroom-worker says while it draws, and what stays when a job ends
 * early. */
#include "testing/helpers/worker_host.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "testing/helpers/program.h"

/* The next event that is not about the loading of the model. */
static json_t *hear(struct host *h)
{
    json_t *event = host_hear(h);
    while (!strcmp(host_text(json_object_get(event, "data"), "stage"), "load")) {
        json_decref(event);
        event = host_hear(h);
    }
    return event;
}

static double number(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

/* Stages in their order, each picture reported when its file is there. */
static void stages_and_pictures_are_told(void **state)
{
    (void)state;
    static const char *const stages[] = { "text",    "context", "denoise", "denoise",
                                          "denoise", "denoise", "decode",  "encode",
                                          "write",   "encode",  "write" };
    struct host h;
    size_t at = 0;
    const char *folder = program_folder();
    host_begin(&h, "--root", folder);
    host_ask_picture(&h, "a",
                     json_pack("{s:s,s:i,s:i,s:b}", "save_path", folder, "batch_size", 2, "steps",
                               3, "stream", 1));
    json_t *event = hear(&h);
    const json_t *data = json_object_get(event, "data");
    assert_string_equal(host_text(data, "message"), "starting");
    assert_string_equal(host_text(data, "model"), "model");
    assert_true(number(data, "seed") == 1 && number(data, "steps") == 3);
    assert_true(number(data, "flops") > 1e6 && number(data, "batch_size") == 2);
    assert_true(*host_text(data, "kernels") && *host_text(data, "schedule"));
    for (;;) {
        json_decref(event);
        event = hear(&h);
        if (!host_is_progress(event))
            break;
        data = json_object_get(event, "data");
        const char *stage = host_text(data, "stage");
        if (json_is_number(json_object_get(data, "fraction")))
            continue; /* as many as there is time for */
        if (at == sizeof stages / sizeof *stages || strcmp(stage, stages[at]) != 0)
            fail_msg("event %zu: %s", at, stage);
        if (at == 2) /* the bar may be drawn before the first step */
            assert_true(number(data, "step") == 0 && number(data, "total_steps") == 3);
        if (!strcmp(stage, "write")) {
            assert_true(dr_is_file(host_text(data, "path")));
            assert_true(number(data, "seed") == 1 + number(data, "picture"));
            assert_true(number(data, "pictures") == 2);
        }
        at++;
    }
    assert_int_equal(at, sizeof stages / sizeof *stages);
    data = json_object_get(event, "data");
    assert_int_equal(json_array_size(json_object_get(data, "images")), 2);
    assert_true(number(json_object_get(data, "seconds"), "write") > 0);
    json_decref(event);
    assert_int_equal(host_end(&h), 0);
}

/* The bytes of a picture come once, in the answer. */
static void base64_is_not_sent_twice(void **state)
{
    (void)state;
    struct host h;
    int pictures = 0;
    json_t *event;
    host_begin(&h, NULL, NULL);
    host_ask_picture(&h, "a", json_pack("{s:b,s:i}", "stream", 1, "batch_size", 2));
    while (host_is_progress(event = host_hear(&h))) {
        json_t *data = json_object_get(event, "data");
        if (!strcmp(host_text(data, "stage"), "write")) {
            assert_null(json_object_get(data, "path"));
            assert_null(json_object_get(data, "image"));
            pictures++;
        }
        char *text = json_dumps(data, 0);
        assert_non_null(text);
        assert_true(strlen(text) < 1000);
        dr_free(text);
        json_decref(event);
    }
    assert_int_equal(pictures, 2);
    json_decref(event);
    assert_int_equal(host_end(&h), 0);
}

/* Cancels at the first picture; false: the job was quicker. */
static bool cancelled_at_the_first(struct host *h, const char *id, const char *folder, bool stream)
{
    int written = 0;
    char cancel[200], expected[80];
    json_t *event;
    host_ask_picture(h, id,
                     json_pack("{s:s,s:i,s:i,s:i,s:i,s:b}", "save_path", folder, "batch_size", 8,
                               "width", 256, "height", 256, "steps", 1, "stream", stream));
    while (!stream && program_entries(folder) == 0)
        usleep(500);
    for (;;) {
        event = stream ? host_hear(h) : NULL;
        const json_t *data = json_object_get(event, "data");
        bool write = !strcmp(host_text(data, "stage"), "write");
        written += write;
        if (!stream || (write && written == 1)) {
            snprintf(cancel, sizeof cancel,
                     "{\"type\":\"cancel\",\"request_id\":\"c\",\"data\":{\"target\":\"%s\"}}\n",
                     id);
            host_say(h, cancel);
        }
        if (!stream || (!host_is_progress(event) && !strcmp(host_text(event, "request_id"), id)))
            break;
        json_decref(event);
    }
    if (!stream)
        event = host_answer(h, id);
    bool failed = json_is_false(json_object_get(event, "success"));
    int files = program_entries(folder);
    if (failed) {
        assert_string_equal(host_text(event, "error_code"), "CANCELED");
        assert_true(files >= 1 && files < 8);
        snprintf(expected, sizeof expected, "%d of 8 pictures were written", files);
        assert_true(!strstr(host_text(event, "error"), expected) == stream);
        if (stream)
            assert_int_equal(files, written);
    }
    json_decref(event);
    return failed;
}

static void what_is_written_stays(void **state)
{
    (void)state;
    enum { TRIES = 20 };
    struct host h;
    int cancelled = 0;
    const char *folder = program_folder();
    host_begin(&h, "--root", folder);
    for (int i = 0; i < TRIES && cancelled < 2; i++) {
        char id[20], place[300];
        snprintf(id, sizeof id, "job-%d", i);
        snprintf(place, sizeof place, "%s/%s", folder, id);
        assert_int_equal(dr_mkdirs(place, NULL), 0);
        cancelled += cancelled_at_the_first(&h, id, place, i % 2 == 0);
    }
    assert_true(cancelled > 0);
    assert_int_equal(host_end(&h), 0);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(stages_and_pictures_are_told),
    cmocka_unit_test(base64_is_not_sent_twice),
    cmocka_unit_test(what_is_written_stays),
};

int main(int argc, char **argv)
{
    jx_init();
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
