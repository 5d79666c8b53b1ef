/* test_library_callbacks.c - the promises of include/darkroom.h about pixels, log lines, codes and
 * the folder of shipped data. */
#include "testing/helpers/test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/base64.h"
#include "base/fs.h"
#include "base/image/image.h"
#include "base/json.h"
#include "base/log.h"
#include "include/darkroom.h"

enum { PICTURES = 8, ANSWERS = 8 };

struct host {
    struct darkroom *engine;
    int images, answers, late; /* late: pictures after the answer of their request */
    struct dr_image image[PICTURES];
    int index[PICTURES];
    json_t *answer[ANSWERS];
    int refuse;         /* this picture, counted from 1, is not taken */
    const char *cancel; /* id to cancel from inside the callback */
    uint64_t fail;      /* this allocation after a picture fails */
};

static void on_event(void *user, const char *json)
{
    struct host *h = user;
    dr_alloc_fail_at(0, 0);
    if (strstr(json, "\"status\":\"ready\""))
        return;
    json_t *event = json_loads(json, 0, NULL);
    assert_non_null(event);
    assert_true(h->answers < ANSWERS);
    h->answer[h->answers++] = event;
}

static int on_image(void *user, const char *id, int index, int width, int height, size_t stride,
                    int channels, const uint8_t *pixels)
{
    struct host *h = user;
    assert_int_equal(channels, 3);
    assert_true(stride >= (size_t)width * 3 && h->images < PICTURES);
    for (int i = 0; i < h->answers; i++) {
        const char *old = json_string_value(json_object_get(h->answer[i], "request_id"));
        h->late += old && !strcmp(old, id);
    }
    struct dr_image *copy = &h->image[h->images];
    assert_int_equal(img_new(width, height, channels, copy, NULL), 0);
    for (int y = 0; y < height; y++)
        memcpy(copy->pixels + (size_t)y * (size_t)width * 3, pixels + (size_t)y * stride,
               (size_t)width * 3);
    h->index[h->images++] = index;
    if (h->cancel)
        assert_int_equal(darkroom_cancel(h->engine, h->cancel), 1);
    if (h->fail)
        dr_alloc_fail_at(h->fail, 1);
    return h->images == h->refuse;
}

static void host_open(struct host *h)
{
    char options[900], error[512];
    jx_init();
    memset(h, 0, sizeof *h);
    snprintf(options, sizeof options,
             "{\"threads\": 1, \"kernels\": \"scalar\", \"roots\": [\"%s\"]}", test_dir());
    if (darkroom_open(options, on_event, h, &h->engine, error, sizeof error) < 0)
        fail_msg("%s", error);
    darkroom_set_image_callback(h->engine, on_image, h);
}

static void host_clear(struct host *h)
{
    for (int i = 0; i < h->images; i++)
        img_free(&h->image[i]);
    for (int i = 0; i < h->answers; i++)
        json_decref(h->answer[i]);
    h->images = h->answers = 0;
}

static void host_close(struct host *h)
{
    darkroom_close(h->engine);
    assert_int_equal(h->late, 0);
    host_clear(h);
}

/* A small job of the golden model, waited for; its data, NULL where it failed. */
static json_t *draw(struct host *h, const char *id, const char *more)
{
    char message[3000];
    snprintf(message, sizeof message,
             "{\"type\":\"generate\",\"request_id\":\"%s\",\"data\":{\"model\":\"%s\",\"prompt\":"
             "\"a red circle\",\"width\":32,\"height\":16,\"steps\":1,\"seed\":3%s}}",
             id, test_source("testing/golden/odd/model"), more);
    int before = h->answers;
    assert_int_equal(darkroom_submit(h->engine, message), 0);
    darkroom_drain(h->engine);
    assert_int_equal(h->answers, before + 1);
    return json_object_get(h->answer[before], "data");
}

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static void same_pixels(const struct dr_image *shown, const json_t *base64)
{
    struct buf bytes;
    struct dr_image image;
    assert_true(json_is_string(base64));
    buf_init(&bytes, DR_TAG_TEST, 0);
    assert_int_equal(
        base64_decode(json_string_value(base64), json_string_length(base64), false, &bytes, NULL),
        0);
    assert_int_equal(img_decode(bytes.data, bytes.len, 3, &image, NULL, NULL), 0);
    assert_true(image.width == shown->width && image.height == shown->height);
    assert_memory_equal(image.pixels, shown->pixels, (size_t)(image.width * image.height * 3));
    img_free(&image);
    buf_free(&bytes);
}

static void the_pixels_are_those_of_the_png(void **state)
{
    (void)state;
    struct host h;
    host_open(&h);
    json_t *data = draw(&h, "pixels", ",\"batch_size\":3");
    assert_string_equal(text_of(data, "encoding"), "callback");
    assert_string_equal(text_of(data, "format"), "rgb");
    assert_int_equal(json_array_size(json_object_get(data, "images")), 3);
    assert_int_equal(json_array_size(json_object_get(data, "receipts")), 3);
    assert_int_equal(h.images, 3);
    json_t *png = draw(&h, "png", ",\"batch_size\":3,\"return_base64\":true");
    assert_string_equal(text_of(png, "encoding"), "base64");
    for (int i = 0; i < 3; i++) {
        assert_int_equal(h.index[i], i);
        assert_int_equal(
            json_integer_value(json_array_get(json_object_get(data, "images"), (size_t)i)), i);
        same_pixels(&h.image[i], json_array_get(json_object_get(png, "images"), (size_t)i));
    }
    host_close(&h);
}

static void files_and_base64_when_they_are_asked_for(void **state)
{
    (void)state;
    struct host h;
    char more[600];
    host_open(&h);
    snprintf(more, sizeof more, ",\"save_path\":\"%s\"", test_dir());
    assert_string_equal(text_of(draw(&h, "file", more), "encoding"), "path");
    assert_string_equal(text_of(draw(&h, "text", ",\"return_base64\":true"), "encoding"), "base64");
    assert_int_equal(h.images, 0);
    darkroom_set_image_callback(h.engine, NULL, NULL);
    assert_string_equal(text_of(draw(&h, "none", ""), "encoding"), "base64");
    assert_int_equal(h.images, 0);
    host_close(&h);
}

static void was_canceled(const struct host *h, int answer)
{
    assert_true(json_is_false(json_object_get(h->answer[answer], "success")));
    assert_string_equal(text_of(h->answer[answer], "error_code"), "CANCELED");
}

static void a_picture_that_is_not_taken_cancels(void **state)
{
    (void)state;
    struct host h;
    host_open(&h);
    h.refuse = 2;
    draw(&h, "refused", ",\"batch_size\":4");
    was_canceled(&h, 0);
    assert_int_equal(h.images, 2);
    assert_non_null(draw(&h, "next", ""));
    assert_int_equal(h.images, 3);
    host_close(&h);
}

static void cancel_from_inside_the_callback(void **state)
{
    (void)state;
    struct host h;
    host_open(&h);
    h.cancel = "job";
    draw(&h, "job", ",\"batch_size\":4");
    was_canceled(&h, 0);
    assert_int_equal(h.images, 1);
    h.cancel = NULL;
    assert_non_null(draw(&h, "next", ""));
    host_close(&h);
}

/* Whatever fails after a picture was delivered: one answer, no picture behind it, nothing lost. */
static void memory_that_ends_after_a_picture(void **state)
{
    (void)state;
    struct host h;
    int failures = 0;
    host_open(&h);
    draw(&h, "warm", "");
    host_clear(&h);
    uint64_t blocks = test_blocks();
    for (uint64_t k = 1; k < 60; k++) {
        h.fail = k;
        draw(&h, "job", ",\"batch_size\":2");
        if (json_is_false(json_object_get(h.answer[0], "success"))) {
            assert_string_equal(text_of(h.answer[0], "error_code"), "OUT_OF_MEMORY");
            failures++;
        }
        host_clear(&h);
        assert_true(test_blocks() == blocks);
    }
    assert_true(failures > 5);
    h.fail = 0;
    assert_non_null(draw(&h, "after", ""));
    host_close(&h);
}

static void codes_have_their_names(void **state)
{
    (void)state;
    assert_string_equal(darkroom_code_name(DARKROOM_OK), "OK");
    assert_string_equal(darkroom_code_name(DARKROOM_EINVAL), "INVALID_VALUE");
    assert_string_equal(darkroom_code_name(DARKROOM_EINTERNAL), "INTERNAL_ERROR");
    assert_string_equal(darkroom_code_name(DARKROOM_EINTERNAL - 1), "INTERNAL_ERROR");
    assert_string_equal(darkroom_code_name(1), "INTERNAL_ERROR");
    for (int code = 0; code >= DARKROOM_EINTERNAL; code--)
        for (int other = 0; other > code; other--)
            assert_string_not_equal(darkroom_code_name(code), darkroom_code_name(other));
    char version[32];
    snprintf(version, sizeof version, "%d.%d.%d", DARKROOM_VERSION_MAJOR, DARKROOM_VERSION_MINOR,
             DARKROOM_VERSION_PATCH);
    assert_string_equal(darkroom_version(), version);
}

struct lines {
    int n;
    char first[200];
    enum darkroom_log_level level;
};

static void on_line(void *user, enum darkroom_log_level level, const char *component,
                    const char *text)
{
    struct lines *l = user;
    if (!l->n++)
        snprintf(l->first, sizeof l->first, "%s: %s", component, text);
    l->level = level;
}

static void log_lines_go_to_the_host(void **state)
{
    (void)state;
    struct lines one = { 0 }, two = { 0 };
    darkroom_set_log(DARKROOM_LOG_WARN, on_line, &one);
    dr_log_line(DR_LOG_INFO, "engine", "not at this level");
    dr_log_line(DR_LOG_ERROR, "engine", "of %d\nlines", 2);
    assert_int_equal(one.n, 1);
    assert_string_equal(one.first, "engine: of 2\\nlines");
    assert_int_equal(one.level, DARKROOM_LOG_ERROR);
    darkroom_set_log(DARKROOM_LOG_DEBUG, on_line, &two);
    dr_log_line(DR_LOG_DEBUG, "engine", "x");
    assert_true(one.n == 1 && two.n == 1);
    darkroom_set_log(DARKROOM_LOG_OFF, on_line, &two);
    dr_log_line(DR_LOG_ERROR, "engine", "x");
    darkroom_set_log(DARKROOM_LOG_ERROR, NULL, NULL);
    int nowhere = open("/dev/null", O_WRONLY), saved = test_stderr_to(nowhere);
    dr_log_line(DR_LOG_ERROR, "engine", "x");
    test_stderr_back(saved);
    close(nowhere);
    assert_true(one.n == 1 && two.n == 1);
}

static int open_with(const char *share, struct darkroom **ret, char error[512])
{
    char options[700];
    snprintf(options, sizeof options, "{\"threads\": 1, \"share\": \"%s\"}", share);
    return darkroom_open(options, on_event, NULL, ret, error, 512);
}

static const char tokens[] = "{\"type\":\"tokens\",\"request_id\":\"t\",\"data\":{\"text\":\"x\"}}";

static void counted(void *user, const char *json)
{
    *(int *)user += strstr(json, "\"ids\":[") != NULL;
}

static void shipped_data_is_where_the_host_says(void **state)
{
    (void)state;
    struct darkroom *a, *b;
    char error[512], options[700];
    int answered = 0;
    setenv("DARKROOM_SHARE", "/nonexistent/share", 1);
    snprintf(options, sizeof options, "{\"threads\": 1, \"share\": \"%s\"}", test_source("share"));
    assert_int_equal(darkroom_open(options, counted, &answered, &a, error, sizeof error), 0);
    darkroom_submit(a, tokens);
    darkroom_drain(a);
    assert_int_equal(answered, 1);
    assert_int_equal(open_with(test_dir(), &b, error), DARKROOM_ESTATE);
    assert_non_null(strstr(error, "share: got "));
    assert_int_equal(darkroom_open(NULL, counted, &answered, &b, error, sizeof error), 0);
    darkroom_submit(b, tokens); /* the other engine's folder: there is one */
    darkroom_drain(b);
    assert_int_equal(answered, 2);
    darkroom_close(b);
    darkroom_close(a);
    answered = 0;
    snprintf(options, sizeof options, "{\"threads\": 1, \"share\": \"%s\"}", test_dir());
    assert_int_equal(darkroom_open(options, counted, &answered, &b, error, sizeof error), 0);
    darkroom_submit(b, tokens);
    darkroom_drain(b);
    assert_int_equal(answered, 0); /* nothing is there */
    darkroom_close(b);
    assert_int_equal(open_with("/nonexistent/share", &b, error), DARKROOM_ENOENT);
    assert_non_null(strstr(error, "share: got /nonexistent/share, expected a folder"));
    assert_int_equal(open_with("/etc/passwd", &b, error), DARKROOM_EINVAL);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_pixels_are_those_of_the_png),
        cmocka_unit_test(files_and_base64_when_they_are_asked_for),
        cmocka_unit_test(a_picture_that_is_not_taken_cancels),
        cmocka_unit_test(cancel_from_inside_the_callback),
        cmocka_unit_test(memory_that_ends_after_a_picture),
        cmocka_unit_test(codes_have_their_names),
        cmocka_unit_test(log_lines_go_to_the_host),
        cmocka_unit_test(shipped_data_is_where_the_host_says),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
