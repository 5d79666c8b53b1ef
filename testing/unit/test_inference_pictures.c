/* test_inference_pictures.c - pictures are handed out one by one while a job runs, and it tells how
 * far it is. On the model of the golden vectors. */
#include "testing/helpers/test.h"

#include <string.h>

#include "backend/device.h"
#include "base/json.h"
#include "inference/job_run.h"
#include "inference/job_image.h"
#include "inference/sdxl_worker.h"

enum { WIDTH = 32, HEIGHT = 16, BYTES = 3 * WIDTH * HEIGHT, BATCH = 3 };

struct run {
    uint8_t pixels[BATCH][BYTES];
    int pictures;
    int fails_at; /* picture of which the receiver fails; -1: none */
    int code;
    struct memory_plan plan;
    struct job_timing timing;
    int stages; /* begun; in the order of the enum */
    int parts[STAGE_COUNT];
    double fraction[STAGE_COUNT];
    char *kept; /* memory of the receiver's own */
};

static void on_stage(void *ctx, enum job_stage stage)
{
    struct run *r = ctx;
    assert_int_equal((int)stage, r->stages);
    r->stages++;
}

static void on_part(void *ctx, enum job_stage stage, double fraction)
{
    struct run *r = ctx;
    assert_int_equal((int)stage, r->stages - 1);
    assert_true(fraction >= r->fraction[stage] && fraction <= 1);
    r->fraction[stage] = fraction;
    r->parts[stage]++;
}

static int on_picture(void *ctx, int index, const struct dr_image *image, struct dr_error *err)
{
    struct run *r = ctx;
    assert_int_equal(index, r->pictures);
    assert_true(image->width == WIDTH && image->height == HEIGHT);
    memcpy(r->pixels[index], image->pixels, BYTES);
    if (index == r->fails_at)
        return dr_fail(err, DR_EIO, "the disk is full");
    if (!r->kept)
        r->kept = dr_malloc(DR_TAG_IMAGE, 1 << 20);
    r->pictures++;
    return 0;
}

static int begin_with_picture(struct job *job, const struct request *q, const struct pipeline *p,
                              struct dr_error *err)
{
    struct dr_image grey;
    if (img_new(9, 5, 1, &grey, err) < 0)
        return DR_ENOMEM;
    memset(grey.pixels, 100, 45);
    struct job_image_source source = { &grey, NULL, "" };
    int r = job_set_image(job, q, p, &source, err);
    img_free(&grey);
    return r;
}

/* Fills r; images: NULL or [BATCH]. */
static void run(struct run *r, struct dr_image *images, struct dr_error *err)
{
    struct backend_options options = { .kernels = "scalar", .threads = 1 };
    struct job_events events = {
        .stage = on_stage, .part = on_part, .picture = images ? NULL : on_picture, .ctx = r
    };
    struct backend *be;
    struct pipeline *p = NULL;
    struct request q;
    struct job job;
    json_t *data = json_pack("{s:s,s:i,s:i,s:i,s:i,s:i}", "prompt", "a red circle", "width", WIDTH,
                             "height", HEIGHT, "batch_size", BATCH, "steps", 2, "seed", 5);
    if (backend_open(&options, &be, err) ||
        pipeline_open(test_source("testing/golden/odd/model"), be, NULL, &p, err) ||
        pipeline_load(p, NULL, err) || request_parse(data, "", NULL, &q, err) ||
        sdxl_job(&q, p, &job, err) || begin_with_picture(&job, &q, p, err) ||
        job_plan(p, &job, &(struct memory_budget){ 0 }, NULL, &r->plan, err))
        fail_msg("%s", err->text);
    r->code = job_run(p, &job, &r->plan, &events, NULL, images, &r->timing, err);
    json_decref(data);
    job_release(&job);
    request_free(&q);
    pipeline_unref(p);
    backend_close(be);
    dr_free(r->kept);
}

static void pictures_are_those_of_the_whole_batch(void **state)
{
    (void)state;
    struct run one = { .fails_at = -1 }, all = { .fails_at = -1 };
    struct dr_image images[BATCH];
    struct dr_error err = { 0 };
    run(&one, NULL, &err);
    assert_int_equal(one.code, 0);
    assert_int_equal(one.pictures, BATCH);
    run(&all, images, &err);
    assert_int_equal(all.code, 0);
    for (int i = 0; i < BATCH; i++) {
        assert_memory_equal(images[i].pixels, one.pixels[i], BYTES);
        img_free(&images[i]);
    }
    assert_memory_not_equal(one.pixels[0], one.pixels[1], BYTES);
    /* one picture at a time beside the one to begin with; the receiver's is not the job's */
    assert_int_equal(one.plan.tagged[DR_TAG_IMAGE], 2 * BYTES);
    assert_int_equal(one.timing.tagged[DR_TAG_IMAGE], 2 * BYTES);
}

static void a_job_tells_how_far_it_is(void **state)
{
    (void)state;
    struct run r = { .fails_at = -1 };
    struct dr_error err = { 0 };
    run(&r, NULL, &err);
    assert_int_equal(r.stages, STAGE_COUNT);
    for (int s = 0; s < STAGE_COUNT; s++)
        if (r.parts[s] < 2 || r.fraction[s] < 0.5)
            fail_msg("stage %d: %d parts, the last at %g", s, r.parts[s], r.fraction[s]);
    assert_true(r.parts[STAGE_DENOISE] > 100); /* ops */
}

static void a_receiver_that_fails_ends_the_job(void **state)
{
    (void)state;
    struct run r = { .fails_at = 1 };
    struct dr_error err = { 0 };
    run(&r, NULL, &err);
    assert_int_equal(r.code, DR_EIO);
    assert_string_equal(err.text, "the disk is full");
    assert_int_equal(r.pictures, 1);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(pictures_are_those_of_the_whole_batch),
    cmocka_unit_test(a_job_tells_how_far_it_is),
    cmocka_unit_test(a_receiver_that_fails_ends_the_job),
};

int main(int argc, char **argv)
{
    jx_init();
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
