/* engine_check.c - the self-test on the user's machine: every kernel against its reference, and a
 * picture against the one the reference implementation drew from the same weights and seed. */
#include "coordination/check_draw.h"

#include <stdlib.h>
#include <string.h>

#include "backend/check/op_check.h"
#include "base/fs.h"

static const char request_file[] = "check/request.json", picture_file[] = "check/picture.png";

enum { SCALAR_FLOPS = 100000000, FILE_BYTES = 16 << 20, LEVELS = 1 };

struct findings {
    json_t *list;
    bool lost; /* no memory for one */
};

static void on_result(void *ctx, const struct check_result *c)
{
    struct findings *f = ctx;
    json_t *one = json_pack("{s:s,s:s,s:s,s:f,s:f,s:I,s:f,s:b,s:s}", "op", c->op, "kernels", c->set,
                            "case", c->name, "error", c->error, "tolerance", c->tolerance,
                            "compared", (json_int_t)c->compared, "seconds", c->seconds, "passed",
                            c->passed, "why", c->why);
    f->lost |= jx_add(f->list, one) < 0;
}

static int read_request(struct request *ret, struct dr_error *err)
{
    char path[DR_PATH_MAX];
    json_t *json;
    int r = dr_share_path(path, sizeof path, request_file, err);
    if (!r)
        r = jx_parse_file(path, NULL, &json, err);
    if (r < 0)
        return r;
    r = request_parse(json, "", NULL, ret, err);
    json_decref(json);
    return r;
}

static int read_picture(struct dr_image *ret, struct dr_error *err)
{
    char path[DR_PATH_MAX];
    struct buf file;
    buf_init(&file, DR_TAG_IMAGE, FILE_BYTES);
    int r = dr_share_path(path, sizeof path, picture_file, err);
    if (!r)
        r = dr_read_file(path, FILE_BYTES, &file, err);
    if (!r)
        r = img_decode(file.data, file.len, 3, ret, NULL, err);
    buf_free(&file);
    return r;
}

/* Largest difference in levels, and how many bytes differ; -1 when the sizes do. */
static int compare(const struct dr_image *a, const struct dr_image *b, int64_t *ret_differing)
{
    int largest = 0;
    int64_t n = a->width * a->height * 3;
    *ret_differing = 0;
    if (a->width != b->width || a->height != b->height)
        return -1;
    for (int64_t i = 0; i < n; i++) {
        int d = abs(a->pixels[i] - b->pixels[i]);
        largest = d > largest ? d : largest;
        *ret_differing += d != 0;
    }
    return largest;
}

static int check_picture(struct engine *e, const atomic_int *stop, json_t **ret,
                         struct dr_error *err)
{
    struct request q;
    struct dr_image ours = { 0 }, theirs = { 0 };
    int64_t differing = 0;
    int r = read_request(&q, err);
    if (r < 0)
        return r;
    r = read_picture(&theirs, err);
    if (!r)
        r = check_draw(e, &q, stop, &ours, err);
    if (!r) {
        int largest = compare(&ours, &theirs, &differing);
        *ret = json_pack("{s:s,s:i,s:I,s:b}", "prompt", request_text(&q, FIELD_prompt),
                         "largest_difference", largest, "bytes_differing", (json_int_t)differing,
                         "passed", largest >= 0 && largest <= LEVELS);
        if (!*ret)
            r = dr_fail(err, DR_ENOMEM, "out of memory for the answer");
    }
    request_free(&q);
    img_free(&ours);
    img_free(&theirs);
    return r;
}

int engine_check(void *engine, struct worker_job *job, json_t **ret_data, struct dr_error *err)
{
    struct findings f = { .list = json_array() };
    struct check_options options = { .scalar_flops = SCALAR_FLOPS, .seed = 1, .stop = job->stop };
    struct dr_error found = { 0 };
    json_t *picture = NULL;
    int failed = 0;
    static const char *const keys[] = { "cache", "quick", "matrix", "schedule", NULL };
    bool cache = false, quick = false;
    int given = message_only(job->data, keys, err);
    if (!given)
        given = jx_opt_bool(job->data, "data", "cache", &cache, err);
    if (!given)
        given = jx_opt_bool(job->data, "data", "quick", &quick, err);
    bool matrix = json_object_get(job->data, "matrix") != NULL;
    if (given < 0 || cache || matrix) {
        json_decref(f.list);
        return given < 0 ? given
               : matrix  ? engine_check_matrix(engine, job, ret_data, err)
                         : engine_check_cache(engine, job, ret_data, err);
    }
    int r = f.list ? 0 : dr_fail(err, DR_ENOMEM, "out of memory");
    if (!r && !quick)
        r = backend_check(&options, on_result, &f, &failed, err);
    if (!r && check_picture(engine, job->stop, &picture, &found) < 0) {
        /* a missing picture is a finding like any other; only a cancel ends the check */
        r = atomic_load(job->stop) ? DR_ECANCELED : 0;
        if (!r)
            picture = json_pack("{s:s,s:b}", "error", found.text, "passed", 0);
    }
    if (!r && (f.lost || !picture))
        r = dr_fail(err, DR_ENOMEM, "out of memory for the answer");
    if (r < 0) {
        json_decref(f.list);
        json_decref(picture);
        return r;
    }
    failed += !json_is_true(json_object_get(picture, "passed"));
    *ret_data = json_pack("{s:o,s:o,s:i}", "kernels", f.list, "picture", picture, "failed", failed);
    return *ret_data ? 0 : dr_fail(err, DR_ENOMEM, "out of memory for the answer");
}
