/* test_inference_weights.c - a model's packed weights: made once, found again, never trusted
 * blindly, and done without where they cannot be kept. With the first kernel set that packs; on
 * processors without one, with a set of tests.
 */
#include "testing/helpers/model_access.h"
#include "testing/helpers/part_file.h"
#include "testing/helpers/test.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "testing/backends/packing.h"
#include "backend/device.h"
#include "backend/cache/pack.h"
#include "base/log.h"
#include "base/mapguard.h"
#include "core/communication/request.h"
#include "inference/job_run.h"
#include "inference/pipeline_manager.h"
#include "inference/sdxl_worker.h"

enum { WIDTH = 32, HEIGHT = 16, BYTES = 3 * WIDTH * HEIGHT };

/* What one start told and what it drew. */
struct start {
    struct pack_store store;
    atomic_int stop;
    int hashed, verified, packed;
    double last; /* fraction of the packing */
    double stop_at;
    unsigned char picture[BYTES];
    char warning[400], news[400];
    bool from_pack;
    struct dr_error err;
};

static struct backend *try_open_packing(int threads)
{
    const struct weight_desc desc = { WEIGHT_LINEAR, .in = 8, .out = 8, .parts = 1 };
    const char *name;
    bool usable;
    packing_set_add();
    for (int i = 0; (name = backend_kernel_set_name(i, &usable)); i++) {
        struct backend *be;
        struct backend_options options = { .kernels = name, .threads = threads };
        if (!usable || backend_open(&options, &be, NULL))
            continue;
        if (weight_bytes(be, &desc).packed)
            return be;
        backend_close(be);
    }
    return NULL;
}

static struct backend *open_packing(int threads)
{
    struct backend *be = try_open_packing(threads);
    assert_non_null(be);
    return be;
}

static const char *model(void)
{
    return test_source("testing/golden/odd/model");
}

static void fresh_store(struct start *s)
{
    static int turn;
    char folder[200];
    memset(s, 0, sizeof *s);
    s->stop_at = 2;
    snprintf(folder, sizeof folder, "%s/store%d", test_dir(), turn++);
    assert_int_equal(pack_store_init(&s->store, folder, 1 << 30, NULL), 0);
}

static int entries(const struct start *s, char path[DR_PATH_MAX])
{
    int n = 0;
    DIR *dir = opendir(s->store.folder);
    for (struct dirent *e; dir && (e = readdir(dir));)
        if (e->d_name[0] != '.') {
            n++;
            snprintf(path, DR_PATH_MAX, "%.200s/%s", s->store.folder, e->d_name);
        }
    if (dir)
        closedir(dir);
    return n;
}

static void on_progress(void *ctx, const char *what, double fraction)
{
    struct start *s = ctx;
    assert_true(fraction >= 0 && fraction <= 1);
    if (!strcmp(what, "hashing")) {
        s->hashed++;
        assert_int_equal(s->packed, 0);
        return;
    }
    if (!strcmp(what, "verifying")) {
        s->verified++;
        assert_int_equal(s->packed, 0);
        return;
    }
    assert_string_equal(what, "packing");
    assert_true(s->last <= fraction);
    s->packed++;
    s->last = fraction;
    if (fraction > s->stop_at)
        atomic_store(&s->stop, 1);
}

static int draw_watched(struct pipeline *p,
                        void (*step)(void *ctx, int evaluation, int evaluations, double seconds),
                        void *ctx, unsigned char *dst, struct dr_error *err)
{
    struct job_events events = { .step = step, .ctx = ctx };
    struct request q;
    struct job job;
    struct memory_plan plan;
    struct dr_image image;
    struct job_timing timing;
    json_t *data = json_pack("{s:s,s:i,s:i,s:i,s:i,s:s}", "prompt", "a red circle", "width", WIDTH,
                             "height", HEIGHT, "steps", 1, "seed", 5, "sampler", "euler");
    int r = data ? request_parse(data, "", NULL, &q, err) : DR_ENOMEM;
    json_decref(data);
    if (r)
        return r;
    r = sdxl_job(&q, p, &job, err);
    if (!r) {
        r = job_plan(p, &job, &(struct memory_budget){ 0 }, NULL, &plan, err);
        if (!r)
            r = job_run(p, &job, &plan, step ? &events : NULL, NULL, &image, &timing, err);
        job_release(&job);
    }
    if (!r) {
        memcpy(dst, image.pixels, BYTES);
        img_free(&image);
    }
    request_free(&q);
    return r;
}

static int draw(struct pipeline *p, unsigned char *dst, struct dr_error *err)
{
    return draw_watched(p, NULL, NULL, dst, err);
}

/* Opens, draws, closes. */
static int start_spec(struct start *s, struct backend *be, const struct model_spec *spec)
{
    struct pipeline *p;
    struct pipeline_options options = {
        .stop = &s->stop, .store = &s->store, .progress = on_progress, .ctx = s
    };
    s->hashed = s->verified = s->packed = 0;
    s->last = 0;
    memset(s->picture, 0, sizeof s->picture);
    int r = pipeline_open_spec(spec, be, &options, &p, &s->err);
    if (r)
        return r;
    r = pipeline_load(p, &options, &s->err);
    snprintf(s->warning, sizeof s->warning, "%s", p->warning);
    snprintf(s->news, sizeof s->news, "%s", p->news);
    s->from_pack = p->pack != NULL;
    if (!r)
        r = draw(p, s->picture, &s->err);
    pipeline_unref(p);
    return r;
}

static int start_on(struct start *s, struct backend *be, const char *path)
{
    return start_spec(s, be, MODEL_AT(path));
}

static void must_start(struct start *s, struct backend *be)
{
    if (start_on(s, be, model()))
        fail_msg("%s", s->err.text);
}

/* A part in place of the model's own is another model: the pack of the one is not the other's. */
static void a_part_has_its_own_pack(void **state)
{
    (void)state;
    struct backend *be = open_packing(2);
    struct start s, bare;
    char path[DR_PATH_MAX], part[300], other[300];
    unsigned char whole[BYTES];
    snprintf(part, sizeof part, "%s/vae.safetensors", test_dir());
    snprintf(other, sizeof other, "%s/other_vae.safetensors", test_dir());
    assert_true(part_file(test_source("testing/golden/odd/model/vae/"
                                      "diffusion_pytorch_model.safetensors"),
                          "", "", 2, 0x40, part) > 10);
    assert_true(part_file(part, "", "", 2, 0x20, other) > 10);
    struct model_spec spec = { .model = { model(), NULL } };
    spec.part[COMPONENT_VAE].path = part;
    fresh_store(&s);
    fresh_store(&bare);
    bare.store.limit = 0;
    must_start(&s, be);
    memcpy(whole, s.picture, BYTES);
    if (start_spec(&bare, be, &spec) || start_spec(&s, be, &spec))
        fail_msg("%s", s.err.text);
    assert_true(s.packed > 0 && s.from_pack);
    assert_int_equal(entries(&s, path), 2);
    assert_memory_not_equal(s.picture, whole, BYTES);
    assert_memory_equal(s.picture, bare.picture, BYTES);
    if (start_spec(&s, be, &spec))
        fail_msg("%s", s.err.text);
    assert_true(s.packed == 0 && s.from_pack);
    assert_memory_equal(s.picture, bare.picture, BYTES);
    must_start(&s, be);
    assert_memory_equal(s.picture, whole, BYTES);
    /* another file in the same place */
    spec.part[COMPONENT_VAE].path = other;
    if (start_spec(&s, be, &spec))
        fail_msg("%s", s.err.text);
    assert_true(s.packed > 0 && s.from_pack);
    assert_int_equal(entries(&s, path), 3);
    assert_memory_not_equal(s.picture, bare.picture, BYTES);
    backend_close(be);
}

static void the_second_start_packs_nothing(void **state)
{
    (void)state;
    struct backend *be = open_packing(2);
    struct start s, bare;
    char path[DR_PATH_MAX];
    struct pack_facts facts;
    uint64_t blocks = test_blocks();
    fresh_store(&s);
    fresh_store(&bare);
    bare.store.limit = 0;
    must_start(&bare, be);
    assert_true(bare.packed > 0 && bare.hashed == 0 && !bare.from_pack && !bare.warning[0]);
    assert_int_equal(entries(&bare, path), 0);

    must_start(&s, be);
    assert_true(s.hashed > 0 && s.packed > 0 && s.last == 1 && s.from_pack && !s.warning[0]);
    assert_memory_equal(s.picture, bare.picture, BYTES);
    assert_int_equal(entries(&s, path), 1);
    assert_int_equal(pack_verify(path, NULL, &facts, NULL), 0);

    must_start(&s, be);
    assert_true(s.packed == 0 && s.verified > 0 && s.from_pack && !s.warning[0] && !s.news[0]);
    assert_memory_equal(s.picture, bare.picture, BYTES);
    assert_int_equal(entries(&s, path), 1);
    assert_int_equal(test_blocks(), blocks);
    backend_close(be);
}

/* Nothing but the pieces of a weight are handed out to threads. */
static void packs_do_not_depend_on_threads(void **state)
{
    (void)state;
    char path[2][DR_PATH_MAX];
    struct start s[2];
    struct buf bytes[2];
    for (int i = 0; i < 2; i++) {
        struct backend *be = open_packing(1 + 2 * i);
        fresh_store(&s[i]);
        must_start(&s[i], be);
        assert_int_equal(entries(&s[i], path[i]), 1);
        buf_init(&bytes[i], DR_TAG_TEST, 0);
        assert_int_equal(dr_read_file(path[i], 1 << 28, &bytes[i], NULL), 0);
        backend_close(be);
    }
    assert_string_equal(dr_path_base(path[0]), dr_path_base(path[1]));
    assert_int_equal(bytes[0].len, bytes[1].len);
    assert_memory_equal(bytes[0].data, bytes[1].data, bytes[0].len);
    buf_free(&bytes[0]);
    buf_free(&bytes[1]);
}

/* One bit, and the times of the file as before but for that of change. */
static void flip(const char *path, off_t at)
{
    struct stat st;
    char byte;
    usleep(20000); /* times of files are kept in steps */
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(chmod(path, 0600), 0);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    struct timespec times[2] = { st.st_atim, st.st_mtim };
    assert_int_equal(futimens(fd, times), 0);
    close(fd);
}

static void a_damaged_pack_is_made_again(void **state)
{
    (void)state;
    struct backend *be = open_packing(2);
    struct start s, whole;
    char path[DR_PATH_MAX];
    struct stat st;
    struct pack_facts facts;
    fresh_store(&s);
    must_start(&s, be);
    whole = s;
    assert_int_equal(entries(&s, path), 1);
    assert_int_equal(stat(path, &st), 0);
    /* the header, the index, a blob at the begin, in the middle and at the end */
    const off_t places[] = { 30, st.st_size - 100, 4096, st.st_size / 2,
                             st.st_size - (st.st_size >> 4) };
    for (int damage = -1; damage < 5; damage++) {
        if (damage < 0) {
            assert_int_equal(chmod(path, 0600), 0);
            assert_int_equal(truncate(path, st.st_size / 2), 0);
        } else {
            flip(path, places[damage]);
        }
        must_start(&s, be);
        assert_true(s.packed > 0 && s.from_pack && !s.warning[0]);
        assert_non_null(strstr(s.news, "rebuilding packed weights"));
        assert_memory_equal(s.picture, whole.picture, BYTES);
        assert_int_equal(entries(&s, path), 1);
        assert_int_equal(pack_verify(path, NULL, &facts, NULL), 0);
    }
    backend_close(be);
}

/* Pages that cannot be read any more are zeros, and the picture is not given out. */
static void a_pack_cut_under_a_job_is_made_again(void **state)
{
    (void)state;
    struct backend *be = open_packing(2);
    struct start s, whole;
    struct pipeline *p;
    char path[DR_PATH_MAX];
    assert_int_equal(mapguard_install(NULL), 0);
    fresh_store(&s);
    must_start(&s, be);
    whole = s;
    struct pipeline_options options = { .store = &s.store };
    assert_int_equal(pipeline_open(model(), be, &options, &p, NULL), 0);
    assert_int_equal(pipeline_load(p, &options, NULL), 0);
    assert_int_equal(entries(&s, path), 1);
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(truncate(path, 8192), 0);
    assert_int_equal(draw(p, s.picture, &s.err), DR_EIO);
    pipeline_unref(p);
    assert_int_equal(entries(&s, path), 0);
    must_start(&s, be);
    assert_true(s.packed > 0 && s.from_pack);
    assert_memory_equal(s.picture, whole.picture, BYTES);
    backend_close(be);
}

/* ---- a model that stays loaded ---- */

static void copy_file(const char *from, const char *to)
{
    struct buf bytes;
    buf_init(&bytes, DR_TAG_TEST, 0);
    assert_int_equal(dr_read_file(from, 1 << 28, &bytes, NULL), 0);
    assert_int_equal(dr_write_file(to, bytes.data, bytes.len, NULL), 0);
    buf_free(&bytes);
}

struct kept {
    struct start start;
    struct backend *be;
    struct pipeline_manager *m;
    struct pipeline *p;
};

/* As a worker serves a request: planned, made ready, drawn. */
static void serve(struct kept *k)
{
    struct start *s = &k->start;
    struct pipeline_options options = { .store = &s->store, .progress = on_progress, .ctx = s };
    s->hashed = s->verified = s->packed = 0;
    s->last = 0;
    if (pipeline_manager_get(k->m, MODEL_AT(model()), k->be, &options, &k->p, &s->err) ||
        pipeline_load(k->p, &options, &s->err) || draw(k->p, s->picture, &s->err))
        fail_msg("%s", s->err.text);
    snprintf(s->news, sizeof s->news, "%s", k->p->news);
    k->p->news[0] = '\0';
    pipeline_unref(k->p); /* the manager's stays */
}

static void begin_serving(struct kept *k, char path[DR_PATH_MAX])
{
    fresh_store(&k->start);
    k->be = open_packing(2);
    assert_int_equal(pipeline_manager_new(&k->m, NULL), 0);
    serve(k);
    assert_int_equal(entries(&k->start, path), 1);
    serve(k);
    assert_true(k->start.packed == 0 && k->start.verified == 0);
}

static void end_serving(struct kept *k)
{
    pipeline_manager_free(k->m);
    backend_close(k->be);
}

static void change_between_jobs(struct kept *k, const char *path, int change)
{
    char other[DR_PATH_MAX + 8];
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    snprintf(other, sizeof other, "%s/copy", test_dir());
    if (change < 3) {
        flip(path, change == 0 ? 5000 : change == 1 ? st.st_size / 2 : st.st_size - 9000);
    } else if (change == 3) {
        assert_int_equal(unlink(path), 0);
    } else if (change == 4) { /* as check --cache does */
        flip(path, 5000);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(pack_remove(path, &st, NULL), 0);
    } else if (change == 5) { /* another process put a damaged one there */
        copy_file(path, other);
        flip(other, 5000);
        assert_int_equal(rename(other, path), 0);
    } else {
        assert_int_equal(chmod(path, 0600), 0);
        assert_int_equal(truncate(path, 8192), 0);
    }
    (void)k;
}

/* Whatever happens to the file between two jobs, the second draws what the first drew. */
static void a_pack_that_changes_between_jobs_is_made_again(void **state)
{
    (void)state;
    static struct kept k;
    unsigned char first[BYTES];
    char path[DR_PATH_MAX];
    struct pack_facts facts;
    assert_int_equal(mapguard_install(NULL), 0);
    begin_serving(&k, path);
    memcpy(first, k.start.picture, BYTES);
    for (int change = 0; change < 7; change++) {
        change_between_jobs(&k, path, change);
        serve(&k);
        if (!k.start.packed || memcmp(first, k.start.picture, BYTES))
            fail_msg("change %d: packed %d", change, k.start.packed);
        bool removed = change == 3 || change == 4;
        assert_int_equal(strstr(k.start.news, "rebuilding packed weights") != NULL, !removed);
        assert_int_equal(entries(&k.start, path), 1);
        assert_int_equal(pack_verify(path, NULL, &facts, NULL), 0);
        serve(&k);
        assert_true(k.start.packed == 0 && k.start.verified == 0 && !k.start.news[0]);
    }
    end_serving(&k);
}

/* What only touches the file costs a look at its bytes, once. */
static void a_pack_that_is_touched_is_verified(void **state)
{
    (void)state;
    static struct kept k;
    char path[DR_PATH_MAX], other[DR_PATH_MAX + 8];
    begin_serving(&k, path);
    usleep(20000);
    assert_int_equal(chmod(path, 0640), 0);
    serve(&k);
    assert_true(k.start.packed == 0 && k.start.verified > 0 && !k.start.news[0]);
    serve(&k);
    assert_true(k.start.packed == 0 && k.start.verified == 0);
    /* a whole one in its place, as another maker puts it there */
    snprintf(other, sizeof other, "%s/copy", test_dir());
    copy_file(path, other);
    assert_int_equal(rename(other, path), 0);
    serve(&k);
    assert_true(k.start.packed == 0 && k.start.verified > 0 && !k.start.news[0]);
    /* another process that starts with it does not touch it */
    struct start s = k.start;
    must_start(&s, k.be);
    serve(&k);
    assert_true(k.start.verified == 0);
    end_serving(&k);
}

struct flipping {
    const char *path;
    off_t at;
    bool done;
};

static void flip_under_the_job(void *ctx, int evaluation, int evaluations, double seconds)
{
    struct flipping *f = ctx;
    (void)evaluation;
    (void)evaluations;
    (void)seconds;
    if (!f->done)
        flip(f->path, f->at);
    f->done = true;
}

/* The picture is not given out, and the next one is right. */
static void a_pack_that_changes_under_a_job_fails_it(void **state)
{
    (void)state;
    static struct kept k;
    unsigned char first[BYTES], picture[BYTES];
    char path[DR_PATH_MAX];
    struct dr_error err = { 0 };
    begin_serving(&k, path);
    memcpy(first, k.start.picture, BYTES);
    struct flipping f = { .path = path, .at = 5000 };
    assert_int_equal(draw_watched(k.p, flip_under_the_job, &f, picture, &err), DR_EIO);
    assert_true(f.done);
    assert_non_null(strstr(err.text, "damaged"));
    assert_int_equal(entries(&k.start, path), 0);
    serve(&k);
    assert_true(k.start.packed > 0);
    assert_memory_equal(first, k.start.picture, BYTES);
    end_serving(&k);
}

/* A pack under the right name with the right key, whose blobs are not those that are asked for. */
static void a_pack_of_other_blobs_is_made_again(void **state)
{
    (void)state;
    struct backend *be = open_packing(2);
    struct start s;
    char path[DR_PATH_MAX];
    struct pack_facts facts;
    fresh_store(&s);
    must_start(&s, be);
    assert_int_equal(entries(&s, path), 1);
    assert_int_equal(pack_verify(path, NULL, &facts, NULL), 0);
    struct pack_spec spec = { .key = facts.key, .blobs = 1, .bytes = 64, .largest = 64 };
    struct pack *p;
    const void *at;
    assert_int_equal(pack_create(path, &spec, &p, NULL), 0);
    memset(pack_stage(p), 1, 64);
    assert_int_equal(pack_add(p, "unet/conv_in", 64, &at, NULL), 0);
    assert_int_equal(pack_finish(p, NULL), 0);
    pack_close(p);
    must_start(&s, be);
    assert_true(s.packed > 0 && s.from_pack);
    backend_close(be);
}

static void without_a_folder_weights_are_private(void **state)
{
    (void)state;
    struct backend *be = open_packing(2);
    struct start s, kept;
    fresh_store(&kept);
    must_start(&kept, be);
    fresh_store(&s);
    assert_int_equal(dr_write_file(s.store.folder, "x", 1, NULL), 0); /* a file is in the way */
    must_start(&s, be);
    assert_true(s.packed > 0 && !s.from_pack);
    assert_non_null(strstr(s.warning, "not cached"));
    assert_memory_equal(s.picture, kept.picture, BYTES);

    fresh_store(&s);
    s.store.limit = 1 << 16; /* too small */
    must_start(&s, be);
    assert_true(!s.from_pack);
    assert_non_null(strstr(s.warning, "GB"));
    assert_memory_equal(s.picture, kept.picture, BYTES);
    backend_close(be);
}

static void a_stop_while_packing_leaves_nothing(void **state)
{
    (void)state;
    struct backend *be = open_packing(2);
    struct start s;
    char path[DR_PATH_MAX];
    uint64_t blocks = test_blocks();
    fresh_store(&s);
    s.stop_at = 0.3;
    assert_int_equal(start_on(&s, be, model()), DR_ECANCELED);
    assert_true(s.packed > 0 && s.last < 1);
    assert_int_equal(entries(&s, path), 0);
    atomic_store(&s.stop, 1); /* and before it */
    assert_int_equal(start_on(&s, be, model()), DR_ECANCELED);
    assert_int_equal(entries(&s, path), 0);
    assert_int_equal(test_blocks(), blocks);
    atomic_store(&s.stop, 0);
    s.stop_at = 2;
    must_start(&s, be);
    assert_true(s.from_pack);
    backend_close(be);
}

static void request_job(struct pipeline *p, struct job *ret)
{
    struct request q;
    json_t *data = json_pack("{s:s}", "prompt", "x");
    assert_int_equal(request_parse(data, "", NULL, &q, NULL), 0);
    json_decref(data);
    assert_int_equal(sdxl_job(&q, p, ret, NULL), 0);
    request_free(&q);
}

/* Opened, planned, loaded, planned again: with and without room for a pack. */
static void plan_and_make(struct start *s, struct backend *be, struct memory_plan plans[2])
{
    struct pipeline_manager *m;
    struct pipeline *p;
    struct job job;
    struct dr_image image;
    struct job_timing timing;
    char path[DR_PATH_MAX];
    struct pipeline_options options = { .store = &s->store, .progress = on_progress, .ctx = s };
    struct memory_budget budget = { .limit = (size_t)1 << 40 };
    assert_int_equal(pipeline_manager_new(&m, NULL), 0);
    assert_int_equal(pipeline_manager_get(m, MODEL_AT(model()), be, &options, &p, NULL), 0);
    request_job(p, &job);
    assert_int_equal(job_plan(p, &job, &budget, NULL, &plans[0], NULL), 0);
    assert_false(pipeline_is_loaded(p));
    assert_int_equal(job_run(p, &job, &plans[0], NULL, NULL, &image, &timing, NULL), DR_ESTATE);
    assert_true(s->hashed == 0 && s->packed == 0);
    assert_int_equal(entries(s, path), 0);

    assert_int_equal(pipeline_load(p, &options, NULL), 0);
    assert_true(pipeline_is_loaded(p) && s->packed > 0);
    assert_int_equal(job_plan(p, &job, &budget, NULL, &plans[1], NULL), 0);
    assert_int_equal(job_run(p, &job, &plans[1], NULL, NULL, &image, &timing, NULL), 0);
    img_free(&image);
    job_release(&job);
    for (int i = 0; i < STAGE_COUNT; i++) {
        assert_int_equal(plans[0].stage[i].mapped, plans[1].stage[i].mapped);
        assert_int_equal(plans[0].stage[i].workspace, plans[1].stage[i].workspace);
        assert_int_equal(plans[0].stage[i].kept, plans[1].stage[i].kept);
    }
    assert_int_equal(plans[0].tagged[DR_TAG_WEIGHTS], plans[1].tagged[DR_TAG_WEIGHTS]);
    assert_int_equal(plans[0].tagged[DR_TAG_JOB], plans[1].tagged[DR_TAG_JOB]);
    struct pipeline *again;
    assert_int_equal(pipeline_manager_get(m, MODEL_AT(model()), be, &options, &again, NULL), 0);
    assert_ptr_equal(p, again);
    assert_true(pipeline_is_loaded(p));
    pipeline_unref(p);
    pipeline_unref(again);
    pipeline_manager_free(m);
}

/* What is only planned is neither hashed nor packed, and plans the same. */
static void a_plan_packs_nothing(void **state)
{
    (void)state;
    if (TEST_SANITIZED) /* whole runs, which others have under sanitizers too */
        skip();
    struct backend *be = open_packing(2);
    struct start s;
    char path[DR_PATH_MAX];
    struct memory_plan plans[2];
    fresh_store(&s);
    plan_and_make(&s, be, plans);
    assert_int_equal(entries(&s, path), 1);
    assert_int_equal(plans[0].tagged[DR_TAG_WEIGHTS], 0);

    /* a pack that is there will be used, room or not */
    struct pipeline_options options = { .store = &s.store };
    struct pipeline *p;
    s.store.limit = 1 << 16;
    assert_int_equal(pipeline_open(model(), be, &options, &p, NULL), 0);
    assert_true(p->in_pack);
    pipeline_unref(p);
    backend_close(be);
}

static void a_plan_without_room_counts_private_weights(void **state)
{
    (void)state;
    if (TEST_SANITIZED) /* whole runs, which others have under sanitizers too */
        skip();
    struct backend *be = open_packing(2);
    struct start s;
    char path[DR_PATH_MAX];
    struct memory_plan plans[2];
    for (int limit = 0; limit < 2; limit++) {
        fresh_store(&s);
        s.store.limit = limit << 16;
        plan_and_make(&s, be, plans);
        assert_int_equal(entries(&s, path), 0);
        assert_true(plans[0].tagged[DR_TAG_WEIGHTS] > 0);
    }
    backend_close(be);
}

/* Nor where the folder cannot be one. */
static void a_plan_sees_what_cannot_be_a_folder(void **state)
{
    (void)state;
    static const char *const under[] = { "", "/packs", "/packs/" };
    struct backend *be = open_packing(2);
    struct start s;
    char file[DR_PATH_MAX];
    assert_int_equal(dr_path_join(file, sizeof file, test_dir(), "a-file"), 0);
    assert_int_equal(dr_write_file(file, "x", 1, NULL), 0);
    for (size_t i = 0; i < sizeof under / sizeof *under; i++) {
        struct pipeline_options options = { .store = &s.store };
        struct pipeline *p;
        fresh_store(&s);
        snprintf(s.store.folder, sizeof s.store.folder, "%.400s%s", file, under[i]);
        assert_int_equal(pipeline_open(model(), be, &options, &p, NULL), 0);
        assert_true(!p->in_pack && pipeline_unmade_bytes(p) > 0);
        pipeline_unref(p);
    }
    backend_close(be);
}

struct both {
    struct start start;
    pthread_t thread;
    int r;
};

/* A thread of its own asserts nothing: a failed assertion would end the process by exit() under
 * the other threads. */
static void *start_one(void *arg)
{
    struct both *b = arg;
    struct backend *be = try_open_packing(1);
    b->r = be ? start_on(&b->start, be, model()) : DR_ENOMEM;
    if (be)
        backend_close(be);
    return NULL;
}

static void two_first_starts_at_once(void **state)
{
    (void)state;
    static struct both b[2];
    char path[DR_PATH_MAX];
    packing_set_add();
    fresh_store(&b[0].start);
    fresh_store(&b[1].start);
    b[1].start.store = b[0].start.store;
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&b[i].thread, NULL, start_one, &b[i]), 0);
    for (int i = 0; i < 2; i++)
        pthread_join(b[i].thread, NULL);
    assert_int_equal(b[0].r, 0);
    assert_int_equal(b[1].r, 0);
    assert_true(b[0].start.from_pack && b[1].start.from_pack);
    assert_memory_equal(b[0].start.picture, b[1].start.picture, BYTES);
    assert_int_equal(entries(&b[0].start, path), 1);
}

/* One start finds a damaged pack and waits in its warning, the log being full; meanwhile another
 * start has put a whole one there. */
static void a_pack_mended_meanwhile_stays(void **state)
{
    (void)state;
    static struct both b;
    static char line[4096];
    char path[DR_PATH_MAX], whole[DR_PATH_MAX];
    struct backend *be = open_packing(1);
    struct pack_facts facts;
    int log[2];
    fresh_store(&b.start);
    must_start(&b.start, be);
    backend_close(be);
    assert_int_equal(entries(&b.start, path), 1);
    snprintf(whole, sizeof whole, "%s/whole", test_dir());
    copy_file(path, whole);
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(truncate(path, 8192), 0);

    assert_int_equal(pipe(log), 0);
    assert_int_equal(fcntl(log[1], F_SETFL, O_NONBLOCK), 0);
    while (write(log[1], line, sizeof line) > 0) {}
    assert_int_equal(fcntl(log[1], F_SETFL, 0), 0);
    dr_log_set_level(DR_LOG_WARN);
    int saved = test_stderr_to(log[1]);
    assert_int_equal(pthread_create(&b.thread, NULL, start_one, &b), 0);
    usleep(500000);
    assert_int_equal(rename(whole, path), 0);
    atomic_store(&b.start.stop, 1); /* or it would make one of its own */
    assert_true(read(log[0], line, sizeof line) > 0);
    pthread_join(b.thread, NULL);
    test_stderr_back(saved);
    close(log[0]);
    close(log[1]);
    assert_int_equal(b.r, DR_ECANCELED);
    assert_int_equal(entries(&b.start, path), 1);
    assert_int_equal(pack_verify(path, NULL, &facts, NULL), 0);
}

struct short_memory {
    struct backend *be;
    struct start start;
};

static int open_short(void *ctx, struct dr_error *err)
{
    struct short_memory *m = ctx;
    struct pipeline *p;
    struct pipeline_options options = { .store = &m->start.store };
    int r = pipeline_open(model(), m->be, &options, &p, err);
    if (r)
        return r;
    r = pipeline_load(p, &options, err);
    pipeline_unref(p);
    return r;
}

static void survives_short_memory(void **state)
{
    (void)state;
    struct short_memory m = { .be = open_packing(1) };
    fresh_store(&m.start);
    assert_int_equal(open_short(&m, NULL), 0);
    test_oom_walk(open_short, &m);
    backend_close(m.be);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_second_start_packs_nothing),
        cmocka_unit_test(a_part_has_its_own_pack),
        cmocka_unit_test(packs_do_not_depend_on_threads),
        cmocka_unit_test(a_damaged_pack_is_made_again),
        cmocka_unit_test(a_pack_cut_under_a_job_is_made_again),
        cmocka_unit_test(a_pack_that_changes_between_jobs_is_made_again),
        cmocka_unit_test(a_pack_that_is_touched_is_verified),
        cmocka_unit_test(a_pack_that_changes_under_a_job_fails_it),
        cmocka_unit_test(a_pack_of_other_blobs_is_made_again),
        cmocka_unit_test(without_a_folder_weights_are_private),
        cmocka_unit_test(a_stop_while_packing_leaves_nothing),
        cmocka_unit_test(a_plan_packs_nothing),
        cmocka_unit_test(a_plan_without_room_counts_private_weights),
        cmocka_unit_test(a_plan_sees_what_cannot_be_a_folder),
        cmocka_unit_test(two_first_starts_at_once),
        cmocka_unit_test(a_pack_mended_meanwhile_stays),
        cmocka_unit_test(survives_short_memory),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
