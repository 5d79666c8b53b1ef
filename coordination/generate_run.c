/* generate_run.c - see generation.h: a run's progress, its pictures and its answer. */
#include "coordination/generation.h"

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/path_text.h"
#include "base/utf8.h"
#include "coordination/output.h"
#include "models/digest.h"
#include "schedulers/scheduler_factory.h"
#include "schedulers/schedules.h"

/* The model's sha256, computed beside the first steps. */
struct digest_thread {
    pthread_t thread;
    bool running;
    const struct checkpoint *checkpoint;
    atomic_int stop;
    int result;
    char hex[SHA256_HEX];
    struct dr_error error;
};

static void *digest_main(void *arg)
{
    struct digest_thread *d = arg;
    struct digest_options options = { .stop = &d->stop };
    d->result = checkpoint_digest(d->checkpoint, &options, d->hex, &d->error);
    return NULL;
}

static void digest_start(struct digest_thread *d, const struct pipeline *p)
{
    memset(d, 0, sizeof *d);
    d->checkpoint = p->checkpoint;
    snprintf(d->hex, sizeof d->hex, "%s", p->digest);
    if (d->hex[0])
        return;
    d->result = DR_ESTATE;
    d->running = !pthread_create(&d->thread, NULL, digest_main, d);
    if (!d->running)
        dr_log_line(DR_LOG_WARN, "engine", "no digest of the model: no thread for it");
}

/* Waits for it; a job that is over (failed, or stopped also meanwhile) ends it. A digest that
 * failed is "" and a log line. */
static const char *digest_join(struct digest_thread *d, bool abandon, const atomic_int *stop)
{
    bool ran = d->running;
    while (d->running) {
        struct timespec until;
        if (abandon || atomic_load(stop))
            atomic_store(&d->stop, 1);
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 20 * 1000 * 1000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        d->running = pthread_timedjoin_np(d->thread, NULL, &until) != 0;
    }
    if (ran && d->result < 0 && d->result != DR_ECANCELED)
        dr_log_line(DR_LOG_WARN, "engine", "no digest of the model: %s", d->error.text);
    return d->result < 0 ? "" : d->hex;
}

struct receipt_facts generation_facts(const struct generation *g, const struct model_titles *titles,
                                      const char *digest)
{
    const struct checkpoint_formulation *said = checkpoint_formulation(g->pipeline->checkpoint);
    struct receipt_facts f = { .model = titles ? titles->model : "",
                               .digest = digest,
                               .prediction_from = said->prediction_by,
                               .zsnr_from = said->zero_snr_by,
                               .kernel_set = backend_kernel_set(g->pipeline->backend),
                               .layout = backend_layout_version(g->pipeline->backend),
                               .version = DR_VERSION };
    for (int i = 0; titles && i < COMPONENT_COUNT; i++)
        f.part[i] = *titles->part[i] ? titles->part[i] : NULL;
    return f;
}

json_t *generation_tags(const size_t tagged[DR_TAG_COUNT], size_t *ret_total)
{
    json_t *tags = json_object();
    *ret_total = 0;
    for (int t = 0; tags && t < DR_TAG_COUNT; t++) {
        *ret_total += tagged[t];
        if (jx_set(tags, dr_tag_name((enum dr_tag)t), json_integer((json_int_t)tagged[t])) < 0) {
            json_decref(tags);
            return NULL;
        }
    }
    return tags;
}

/* ---- progress ---- */

static bool streams(const struct generation *g)
{
    return request_flag(&g->request, FIELD_stream);
}

/* An event at the step that the job has reached. Takes data over. */
static void tell(struct generation *g, json_t *data)
{
    g->last_event = dr_now();
    worker_progress(g->worker, g->evaluation, g->evaluations, streams(g), data);
}

static void on_step(void *ctx, int evaluation, int evaluations, double seconds)
{
    struct generation *g = ctx;
    double elapsed = dr_now() - g->started;
    g->evaluation = evaluation;
    g->evaluations = evaluations ? evaluations : WORKER_STEPS_OPEN;
    tell(g, streams(g) ? json_pack("{s:s,s:f,s:f}", "stage", "denoise", "seconds", seconds,
                                   "elapsed", elapsed)
                       : NULL);
}

/* The event with one member more; NULL when memory is short. */
static json_t *with(json_t *data, const char *key, json_t *value)
{
    if (jx_set(data, key, value) == 0)
        return data;
    json_decref(data);
    return NULL;
}

static void on_stage(void *ctx, enum job_stage stage)
{
    static const char *const messages[STAGE_COUNT] = { "encoding the prompt",
                                                       "encoding the picture",
                                                       "preparing the denoiser", "denoising",
                                                       "decoding" };
    struct generation *g = ctx;
    json_t *data = NULL;
    if (stage == STAGE_DENOISE)
        g->evaluations = job_evaluations(&g->job) ? job_evaluations(&g->job) : WORKER_STEPS_OPEN;
    if (streams(g))
        data = json_pack("{s:s,s:s}", "stage", job_stage_name(stage), "message", messages[stage]);
    if (data && g->estimate.stage[stage] > 0)
        data = with(data, "estimated_seconds", json_real(g->estimate.stage[stage]));
    tell(g, data);
}

/* Within a stage, at most four times a second. */
static void on_part(void *ctx, enum job_stage stage, double fraction)
{
    struct generation *g = ctx;
    if (dr_now() - g->last_event >= 0.25)
        tell(g, json_pack("{s:s,s:f}", "stage", job_stage_name(stage), "fraction", fraction));
}

/* The last part of a path, without the extension of weights. */
static void title(const char *path, bool folder, char *dst, size_t n)
{
    const char *base = dr_path_base(path);
    size_t len = strlen(base), extension = strlen(dr_path_extension(base));
    snprintf(dst, n, "%.*s", (int)(folder ? len : len - extension), base);
    for (size_t at; (at = utf8_valid_prefix(dst, strlen(dst))) < strlen(dst);)
        dst[at] = '?'; /* receipts are UTF-8 */
}

static void model_name(const struct checkpoint *c, char *dst, size_t n)
{
    title(checkpoint_path(c), checkpoint_is_folder(c), dst, n);
}

static void model_titles(const struct checkpoint *c, struct model_titles *ret)
{
    model_name(c, ret->model, sizeof ret->model);
    for (int i = 0; i < COMPONENT_COUNT; i++) {
        const char *path = checkpoint_part_path(c, (enum component)i);
        ret->part[i][0] = '\0';
        if (path)
            title(path, checkpoint_part_is_folder(c, (enum component)i), ret->part[i],
                  sizeof ret->part[i]);
    }
}

json_t *generation_flops(double flops)
{
    return flops > 0 ? json_real(flops) : json_null();
}

/* The "starting" event: everything is decided, sent before the first step. */
static void announce(struct generation *g)
{
    const struct job *job = &g->job;
    char name[DR_PATH_MAX];
    if (!streams(g))
        return;
    model_name(g->pipeline->checkpoint, name, sizeof name);
    json_t *data = json_pack(
        "{s:s,s:o,s:s,s:I,s:I,s:i,s:s,s:s,s:f,s:i,s:s,s:o}", "message", "starting", "seed",
        jx_uint(job->seed), "model", name, "width", (json_int_t)job->width, "height",
        (json_int_t)job->height, "steps", job->sched.steps, "sampler", job->sched.sampler->name,
        "schedule", job->sched.schedule->name, "guidance_scale", job->guidance_scale, "batch_size",
        job->batch, "kernels", backend_kernel_set(g->pipeline->backend), "flops",
        generation_flops(g->plan.flops));
    if (data && g->estimate.seconds > 0)
        data = with(data, "estimated_seconds", json_real(g->estimate.seconds));
    tell(g, data);
}

/* ---- pictures ---- */

/* What a run collects for its answer. */
struct result {
    struct generation *g;
    struct digest_thread digest;
    struct model_titles titles;
    json_t *images, *seeds, *receipts;
    json_t *paths;  /* of the files, if images are base64 as well */
    double seconds; /* for encoding and writing */
};

static int add_picture(struct result *res, const struct receipt_facts *facts, int index,
                       json_t *entry, json_t *path)
{
    struct generation *g = res->g;
    uint64_t seed = job_picture_seed(&g->job, index);
    int r = jx_add(res->images, entry);
    if (!r && path)
        r = jx_add(res->paths, json_incref(path));
    if (!r)
        r = jx_add(res->seeds, jx_uint(seed));
    if (!r)
        r = jx_add(res->receipts, receipt_json(&g->job, facts, index));
    if (r < 0 || !streams(g))
        return r;
    json_t *data = json_pack("{s:s,s:i,s:i,s:o}", "stage", "write", "picture", index, "pictures",
                             g->job.batch, "seed", jx_uint(seed));
    if (data && path) /* base64 is in the answer only */
        data = with(data, "path", json_incref(path));
    tell(g, data);
    return 0;
}

static void log_saved(int index, double seconds)
{
    struct dr_log_fields f = { .n = 0 };
    dr_log_int(&f, "picture", index);
    dr_log_real(&f, "seconds", seconds);
    dr_log_event(DR_LOG_DEBUG, "engine", &f, "stage save");
}

/* Encodes, writes and reports a picture at once. It stays if a later one fails. */
static int on_picture(void *ctx, int index, const struct dr_image *image, struct dr_error *err)
{
    struct generation *g = ctx;
    struct result *res = g->result;
    double began = dr_now();
    const char *hex = digest_join(&res->digest, false, g->worker->stop);
    struct receipt_facts facts = generation_facts(g, &res->titles, hex);
    snprintf(g->pipeline->digest, sizeof g->pipeline->digest, "%s", hex);
    struct output out = { .job = &g->job,
                          .request = &g->request,
                          .facts = &facts,
                          .roots = &g->engine->roots,
                          .sink = &g->sink,
                          .name = message_id(g->worker->ids),
                          .stop = g->worker->stop };
    json_t *entry = NULL, *path = NULL;
    if (atomic_load(g->worker->stop))
        return dr_fail(err, DR_ECANCELED, "cancelled");
    if (streams(g))
        tell(g,
             json_pack("{s:s,s:s,s:i}", "stage", "encode", "message", "writing", "picture", index));
    int r = output_image(&out, image, index, &entry, &path, err);
    if (!r && add_picture(res, &facts, index, entry, path) < 0)
        r = dr_fail(err, DR_ENOMEM, "out of memory for the answer");
    json_decref(path);
    res->seconds += dr_now() - began;
    if (!r)
        log_saved(index, dr_now() - began);
    return r;
}

/* ---- the answer ---- */

/* Seconds to the microsecond: more digits only look exact. */
static json_t *seconds_json(double seconds)
{
    return json_real(nearbyint(seconds * 1e6) / 1e6);
}

static int add_seconds(const struct result *res, const struct job_timing *timing, json_t *data)
{
    json_t *stages = json_object();
    double seconds = dr_now() - res->g->started;
    int r = stages ? 0 : DR_ENOMEM;
    for (int s = 0; !r && s < STAGE_COUNT; s++) {
        if (s == STAGE_INIT_IMAGE && !res->g->job.image)
            continue;
        r = jx_set(stages, job_stage_name((enum job_stage)s), seconds_json(timing->seconds[s]));
    }
    if (!r)
        r = jx_set(stages, "write", seconds_json(res->seconds));
    if (r < 0) {
        json_decref(stages);
        return r;
    }
    r = jx_set(data, "seconds", stages);
    if (!r)
        r = jx_set(data, "processing_time", seconds_json(seconds));
    return r ? r : jx_set(data, "executionTimeMs", json_integer((json_int_t)(seconds * 1e3)));
}

static int add_summary(struct result *res, const struct job_timing *timing, json_t *data)
{
    struct generation *g = res->g;
    size_t tagged;
    enum output_kind kind = output_kind(&g->request, &g->sink);
    const char *format = kind == OUTPUT_CALLBACK ? "rgb" : request_text(&g->request, FIELD_format);
    int r = add_seconds(res, timing, data);
    if (!r)
        r = jx_set(data, "encoding", json_string(output_encoding(kind)));
    if (!r)
        r = jx_set(data, "format", json_string(format));
    if (!r)
        r = jx_set(data, "seed", jx_uint(g->job.seed));
    if (!r)
        r = jx_set(data, "model_used", path_text_json(checkpoint_path(g->pipeline->checkpoint)));
    if (!r)
        r = jx_set(data, "inference_steps", json_integer(g->job.sched.steps));
    if (!r)
        r = jx_set(data, "steps", json_integer(g->job.sched.steps));
    if (!r)
        r = jx_set(data, "guidance_scale", json_real(g->job.guidance_scale));
    if (!r)
        r = jx_set(data, "sampler", json_string(g->job.sched.sampler->name));
    if (!r)
        r = jx_set(data, "scheduler", json_string(g->job.sched.sampler->name));
    if (!r)
        r = jx_set(data, "dimensions",
                   json_pack("{s:I,s:I}", "width", (json_int_t)g->job.width, "height",
                             (json_int_t)g->job.height));
    if (!r)
        r = jx_set(data, "tagged", generation_tags(timing->tagged, &tagged));
    if (!r)
        r = jx_set(data, "tagged_bytes", json_integer((json_int_t)tagged));
    if (!r)
        r = jx_set(data, "peak_bytes", json_integer((json_int_t)system_resident_peak()));
    return r ? r : jx_set(data, "warnings", json_incref(g->warnings));
}

/* Without progress events the error says which pictures were written. */
static void say_written(const struct result *res, struct dr_error *err)
{
    size_t n = json_array_size(res->paths), used = err ? strlen(err->text) : 0;
    if (err && n && !streams(res->g))
        snprintf(err->text + used, sizeof err->text - used, "; %zu of %d pictures were written", n,
                 res->g->job.batch);
}

static void release(struct result *res, const atomic_int *stop)
{
    (void)digest_join(&res->digest, true, stop);
    json_decref(res->images);
    json_decref(res->seeds);
    json_decref(res->receipts);
    json_decref(res->paths);
}

/* The lists go into the answer. */
static int add_lists(struct result *res, json_t *data)
{
    int r = jx_set(data, "images", json_incref(res->images));
    if (!r)
        r = jx_set(data, "seed_used", json_incref(res->seeds));
    bool both = output_kind(&res->g->request, &res->g->sink) != OUTPUT_PATH;
    if (!r && both && json_array_size(res->paths))
        r = jx_set(data, "paths", json_incref(res->paths));
    return r ? r : jx_set(data, "receipts", json_incref(res->receipts));
}

int generation_run(struct generation *g, json_t **ret_data, struct dr_error *err)
{
    struct result res = { .g = g,
                          .images = json_array(),
                          .seeds = json_array(),
                          .receipts = json_array(),
                          .paths = json_array() };
    struct job_timing timing;
    struct job_events events = { .step = on_step,
                                 .stage = on_stage,
                                 .part = streams(g) ? on_part : NULL,
                                 .picture = on_picture,
                                 .ctx = g };
    const struct backend *be = g->pipeline->backend;
    int evaluations = job_evaluations(&g->job);
    if (!res.images || !res.seeds || !res.receipts || !res.paths) {
        release(&res, g->worker->stop);
        return dr_fail(err, DR_ENOMEM, "out of memory for the answer");
    }
    model_titles(g->pipeline->checkpoint, &res.titles);
    g->result = &res;
    g->estimate = speed_estimate(be, &g->plan, evaluations);
    announce(g);
    digest_start(&res.digest, g->pipeline);
    int r = job_run(g->pipeline, &g->job, &g->plan, &events, g->worker->stop, NULL, &timing, err);
    json_t *data = r < 0 ? NULL : json_object();
    if (!r && (!data || add_lists(&res, data) < 0 || add_summary(&res, &timing, data) < 0))
        r = dr_fail(err, DR_ENOMEM, "out of memory for the answer");
    if (r < 0)
        say_written(&res, err);
    else if (!json_object_size(g->job.stages.load)) /* else not all of the plan was computed */
        speed_remember(be, &g->plan, evaluations, &timing);
    release(&res, g->worker->stop);
    if (r < 0)
        json_decref(data);
    else
        *ret_data = data;
    return r;
}
