/* generate.c - the verbs that turn a request into a job: generate, validate, plan. */
#include "coordination/engine.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "coordination/output.h"
#include "inference/receipt_match.h"
#include "inference/sdxl_worker.h"
#include "models/digest.h"
#include "schedulers/scheduler_factory.h"

/* A generation under way. */
struct generation {
    struct engine *engine;
    struct worker_job *worker;
    struct request request;
    struct pipeline *pipeline; /* lent */
    struct pipeline *own;      /* that one, where it is not the engine's; else NULL */
    struct job job;
    struct memory_plan plan;
    struct image_sink sink;
    bool has_job;
    json_t *warnings; /* array of texts */
    int evaluations;
    double started;
};

/* The model's sha256, computed beside the first steps. */
struct digest_thread {
    pthread_t thread;
    bool running;
    const char *path;
    atomic_int stop;
    int result;
    char hex[SHA256_HEX];
    struct dr_error error;
};

static void *digest_main(void *arg)
{
    struct digest_thread *d = arg;
    struct digest_options options = { .stop = &d->stop };
    d->result = digest_path(d->path, &options, d->hex, &d->error);
    return NULL;
}

static void digest_start(struct digest_thread *d, const struct pipeline *p)
{
    memset(d, 0, sizeof *d);
    d->path = checkpoint_path(p->checkpoint);
    snprintf(d->hex, sizeof d->hex, "%s", p->digest);
    if (d->hex[0])
        return;
    d->result = DR_ESTATE;
    d->running = !pthread_create(&d->thread, NULL, digest_main, d);
}

/* Waits for it; a job that is over (failed, or stopped also meanwhile) ends it. A digest that
 * failed is "" and a log line. */
static const char *digest_join(struct digest_thread *d, bool abandon, const atomic_int *stop)
{
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
    if (d->result < 0 && d->result != DR_ECANCELED)
        dr_log_line(DR_LOG_WARN, "engine", "no digest of the model: %s", d->error.text);
    return d->result < 0 ? "" : d->hex;
}

/* For the answer, and at once for who listens: all there is to warn of is known before a step. */
static void add_warning(void *ctx, const char *text)
{
    struct generation *g = ctx;
    dr_log_line(DR_LOG_INFO, "engine", "%s", text);
    if (request_flag(&g->request, FIELD_stream))
        worker_progress(g->worker, 0, 0, true, json_pack("{s:s}", "warning", text));
    if (jx_add(g->warnings, json_string(text)) < 0)
        dr_log_line(DR_LOG_WARN, "engine", "out of memory: a warning is only in the log");
}

static void generation_release(struct generation *g)
{
    if (g->has_job)
        job_release(&g->job);
    pipeline_close(g->own);
    request_free(&g->request);
    json_decref(g->warnings);
}

static int check_folder(const struct generation *g, enum field_id id, struct dr_error *err)
{
    const char *name = field_info(id)->name, *path = request_text(&g->request, id);
    int r = request_has(&g->request, id) ? roots_check(&g->engine->roots, name, path, err) : 0;
    if (!r && request_has(&g->request, id) && dr_is_file(path))
        r = dr_fail_field(err, DR_EINVAL, name, path, "a folder, not a file", NULL);
    return r;
}

/* Files of the request lie inside the roots, and its pictures go where a folder can be. */
static int check_paths(const struct generation *g, struct error_list *list, struct dr_error *err)
{
    static const enum field_id fields[] = { FIELD_save_path, FIELD_dump_stages };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        int r = check_folder(g, fields[i], err);
        if (r < 0 && (r = error_list_take(list, r, err)) < 0)
            return r;
    }
    const char *name;
    json_t *file;
    json_object_foreach(g->request.value[FIELD_load_stage].map, name, file)
    {
        int r = roots_check(&g->engine->roots, "load_stage", json_string_value(file), err);
        if (r < 0 && (r = error_list_take(list, r, err)) < 0)
            return r;
    }
    return 0;
}

/* The pipeline. With a list and a mistake in one of model, kernels and precision the others are
 * judged alone, the model with a stand-in; it may be missing in the end. */
static int find_pipeline(struct generation *g, struct error_list *list, struct dr_error *err)
{
    const struct request *q = &g->request;
    const char *kernels = request_text(q, FIELD_kernels), *model = request_text(q, FIELD_model);
    bool named = !request_refused(q, FIELD_model);
    bool how_known = !request_refused(q, FIELD_kernels) && !request_refused(q, FIELD_precision);
    struct pipeline_options how = { .stop = g->worker->stop, .plan_only = true };
    enum precision precision = PRECISION_AUTO;
    int r = precision_find(request_text(q, FIELD_precision), &precision, err);
    if (!r && named && how_known)
        r = engine_pipeline(g->engine, model, kernels, precision, &how, &g->pipeline, err);
    if (r < 0)
        g->pipeline = NULL;
    if (r < 0 && (r = error_list_take(list, r, err)) < 0)
        return r;
    if (g->pipeline)
        return 0;
    r = device_manager_check(g->engine->devices, kernels, precision, err);
    if (r < 0 && (r = error_list_take(list, r, err)) < 0)
        return r;
    if (named)
        r = engine_stand_in(g->engine, model, &g->pipeline, &g->own, err);
    return r < 0 ? error_list_take(list, r, err) : 0;
}

static struct receipt_facts facts_of(const struct generation *g, const char *model,
                                     const char *digest)
{
    return (struct receipt_facts){ .model = model,
                                   .digest = digest,
                                   .kernel_set = backend_kernel_set(g->pipeline->backend),
                                   .layout = backend_layout_version(g->pipeline->backend),
                                   .version = DR_VERSION };
}

/* Request, model, job, plan: nothing is hashed or packed. With a list every field is judged, and
 * where it has grown there is no job. generation_release in any case. */
static int prepare(struct generation *g, struct engine *e, struct worker_job *worker,
                   struct error_list *list, struct dr_error *err)
{
    memset(g, 0, sizeof *g);
    g->engine = e;
    g->worker = worker;
    g->started = dr_now();
    pthread_mutex_lock(&e->sink_lock);
    g->sink = e->sink;
    pthread_mutex_unlock(&e->sink_lock);
    g->warnings = json_array();
    if (!g->warnings)
        return dr_fail(err, DR_ENOMEM, "out of memory");
    int r = request_parse_all(worker->data, "", engine_envelope_members, list, &g->request, err);
    if (!r)
        r = check_paths(g, list, err);
    if (!r)
        r = find_pipeline(g, list, err);
    if (!r)
        r = sdxl_job_all(&g->request, g->pipeline, list, &g->job, &g->has_job, err);
    if (r < 0 || error_list_count(list))
        return r;
    const char *warning;
    for (size_t i = 0; (warning = checkpoint_warning(g->pipeline->checkpoint, i)); i++)
        add_warning(g, warning);
    struct receipt_facts ours = facts_of(g, "", "");
    r = receipt_match(&g->request, &g->job, &ours, add_warning, g, err);
    struct job_events events = { .warning = add_warning, .ctx = g };
    return r ? r
             : job_plan(g->pipeline, &g->job, e->baseline, e->memory_limit, &events, &g->plan, err);
}

static struct loading loading_of(const struct generation *g)
{
    return (struct loading){ .job = g->worker,
                             .stream = request_flag(&g->request, FIELD_stream),
                             .last = dr_now() };
}

static struct pipeline_options how_to_load(const struct generation *g, struct loading *loading)
{
    return (struct pipeline_options){ .stop = g->worker->stop,
                                      .progress = engine_loading,
                                      .ctx = loading };
}

/* A receipt's digest, before anything is drawn: of this model, or it is refused. */
static int check_digest(struct generation *g, struct dr_error *err)
{
    struct loading loading = loading_of(g);
    struct pipeline_options how = how_to_load(g, &loading);
    if (!request_has(&g->request, FIELD_model_sha256))
        return 0;
    int r = pipeline_digest(g->pipeline, &how, err);
    return r ? r : receipt_match_model(&g->request, g->pipeline->digest, err);
}

/* The weights of a job that is admitted, which may take minutes. Where they do not lie as planned
 * the job is planned and admitted again, against the same limit. */
static int load(struct generation *g, struct dr_error *err)
{
    struct loading loading = loading_of(g);
    struct pipeline_options how = how_to_load(g, &loading);
    bool was = pipeline_is_ready(g->pipeline);
    struct system_bound bound = g->plan.bound;
    int r = check_digest(g, err);
    if (!r && !was)
        r = engine_ready(g->engine, &how, err);
    if (!r && !was)
        r = job_plan(g->pipeline, &g->job, g->engine->baseline, g->plan.limit, NULL, &g->plan, err);
    if (!r && !was && !strcmp(g->plan.bound.source, MEMORY_ASKED))
        g->plan.bound = bound; /* nobody asked for it: it is the first plan's */
    if (!r && !was && (r = memory_admit(&g->plan, err)) < 0)
        pipeline_manager_drop(g->engine->pipelines); /* private weights are memory */
    if (!r && g->pipeline->warning[0])
        add_warning(g, g->pipeline->warning);
    return r;
}

static void on_step(void *ctx, int evaluation, int evaluations, double seconds)
{
    struct generation *g = ctx;
    bool stream = request_flag(&g->request, FIELD_stream);
    g->evaluations = evaluations;
    worker_progress(
        g->worker, evaluation, evaluations, stream,
        stream ? json_pack("{s:f,s:f}", "seconds", seconds, "elapsed", dr_now() - g->started)
               : NULL);
}

/* Announces the seed and the size before the first step: "seed random and printed". */
static void announce(struct generation *g)
{
    if (request_flag(&g->request, FIELD_stream))
        worker_progress(g->worker, 0, 0, true,
                        json_pack("{s:s,s:I,s:I,s:I}", "message", "denoising", "seed",
                                  (json_int_t)g->job.seed, "width", (json_int_t)g->job.width,
                                  "height", (json_int_t)g->job.height));
}

/* A job that fails leaves no pictures behind. */
static void remove_written(const struct generation *g, const json_t *paths)
{
    size_t i;
    json_t *path;
    if (output_kind(&g->request, &g->sink) != OUTPUT_PATH)
        return;
    json_array_foreach(paths, i, path)(void) remove(json_string_value(path));
}

static int add_images(struct generation *g, const struct receipt_facts *facts,
                      const struct dr_image *images, json_t *data, struct dr_error *err)
{
    struct output out = { .job = &g->job,
                          .request = &g->request,
                          .facts = facts,
                          .sink = &g->sink,
                          .name = message_id(g->worker->ids),
                          .stop = g->worker->stop };
    json_t *list = json_array(), *seeds = json_array(), *receipts = json_array();
    int r = list && seeds && receipts ? 0 : dr_fail(err, DR_ENOMEM, "out of memory for the answer");
    for (int i = 0; !r && i < g->job.batch; i++) {
        json_t *entry = NULL;
        if (atomic_load(g->worker->stop))
            r = dr_fail(err, DR_ECANCELED, "cancelled");
        else
            r = output_image(&out, &images[i], i, &entry, err);
        if (!r && (jx_add(list, entry) < 0 ||
                   jx_add(seeds, json_integer((json_int_t)(g->job.seed + (uint64_t)i))) < 0 ||
                   jx_add(receipts, receipt_json(&g->job, facts, i)) < 0))
            r = dr_fail(err, DR_ENOMEM, "out of memory for the answer");
    }
    if (r < 0)
        remove_written(g, list);
    /* each of these takes its list over, also when it fails */
    int a = jx_set(data, "images", list), b = jx_set(data, "seed_used", seeds);
    int c = jx_set(data, "receipts", receipts);
    return r < 0 ? r : a < 0 || b < 0 || c < 0 ? dr_fail(err, DR_ENOMEM, "out of memory") : 0;
}

static json_t *tags_json(const size_t tagged[DR_TAG_COUNT], size_t *ret_total)
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

static int add_summary(struct generation *g, const struct job_timing *timing, json_t *data)
{
    enum output_kind kind = output_kind(&g->request, &g->sink);
    const char *format = kind == OUTPUT_CALLBACK ? "rgb" : request_text(&g->request, FIELD_format);
    double seconds = dr_now() - g->started;
    int r = jx_set(data, "encoding", json_string(output_encoding(kind)));
    if (!r)
        r = jx_set(data, "format", json_string(format));
    if (!r)
        r = jx_set(data, "seed", json_integer((json_int_t)g->job.seed));
    if (!r)
        r = jx_set(data, "model_used", json_string(checkpoint_path(g->pipeline->checkpoint)));
    if (!r)
        r = jx_set(data, "inference_steps", json_integer(g->job.sched.steps));
    if (!r)
        r = jx_set(data, "guidance_scale", json_real(g->job.guidance_scale));
    if (!r)
        r = jx_set(data, "scheduler", json_string(g->job.sched.sampler->name));
    if (!r)
        r = jx_set(data, "dimensions",
                   json_pack("{s:I,s:I}", "width", (json_int_t)g->job.width, "height",
                             (json_int_t)g->job.height));
    if (!r)
        r = jx_set(data, "processing_time", json_real(seconds));
    if (!r)
        r = jx_set(data, "executionTimeMs", json_integer((json_int_t)(seconds * 1e3)));
    json_t *stages = json_object();
    for (int s = 0; !r && s < STAGE_COUNT; s++)
        r = jx_set(stages, job_stage_name((enum job_stage)s), json_real(timing->seconds[s]));
    if (r < 0) {
        json_decref(stages);
        return r;
    }
    size_t tagged;
    r = jx_set(data, "seconds", stages);
    if (!r)
        r = jx_set(data, "tagged", tags_json(timing->tagged, &tagged));
    if (!r)
        r = jx_set(data, "tagged_bytes", json_integer((json_int_t)tagged));
    if (!r)
        r = jx_set(data, "peak_bytes", json_integer((json_int_t)system_resident_peak()));
    return r ? r : jx_set(data, "warnings", json_incref(g->warnings));
}

static void model_name(const char *path, char *dst, size_t n)
{
    const char *base = dr_path_base(path);
    size_t len = strlen(base), extension = strlen(dr_path_extension(path));
    snprintf(dst, n, "%.*s", (int)(dr_is_dir(path) ? len : len - extension), base);
}

static int run(struct generation *g, json_t **ret_data, struct dr_error *err)
{
    struct dr_image images[JOB_BATCH];
    struct job_timing timing;
    struct digest_thread digest;
    char name[DR_PATH_MAX];
    struct job_events events = { .step = on_step, .ctx = g };
    const char *path = checkpoint_path(g->pipeline->checkpoint);
    announce(g);
    digest_start(&digest, g->pipeline);
    int r = job_run(g->pipeline, &g->job, &g->plan, &events, g->worker->stop, images, &timing, err);
    const char *hex = digest_join(&digest, r < 0, g->worker->stop);
    if (r < 0)
        return r;
    model_name(path, name, sizeof name);
    struct receipt_facts facts = facts_of(g, name, hex);
    json_t *data = json_object();
    r = data ? add_images(g, &facts, images, data, err) : dr_fail(err, DR_ENOMEM, "out of memory");
    for (int i = 0; i < g->job.batch; i++)
        img_free(&images[i]);
    if (!r && add_summary(g, &timing, data) < 0)
        r = dr_fail(err, DR_ENOMEM, "out of memory for the answer");
    if (r < 0)
        json_decref(data);
    else
        *ret_data = data;
    return r;
}

int engine_generate(void *engine, struct worker_job *worker, json_t **ret_data,
                    struct dr_error *err)
{
    struct generation g;
    int r = prepare(&g, engine, worker, NULL, err);
    if (!r)
        r = memory_admit(&g.plan, err);
    if (!r)
        r = load(&g, err);
    if (!r)
        r = run(&g, ret_data, err);
    generation_release(&g);
    return r;
}

/* A bad request is this verb's normal answer, not its failure. What can only be judged when all
 * fields are right (a receipt's model, memory) is judged then. */
int engine_validate(void *engine, struct worker_job *worker, json_t **ret_data,
                    struct dr_error *err)
{
    struct generation g;
    struct error_list list = { .n = 0 };
    struct dr_error found = { 0 };
    int r = prepare(&g, engine, worker, &list, &found);
    if (!r && !list.n)
        r = memory_admit(&g.plan, &found);
    if (!r && !list.n)
        r = check_digest(&g, &found);
    if (r < 0)
        error_list_add(&list, &found);
    *ret_data = r == DR_ECANCELED ? NULL
                                  : json_pack("{s:b,s:o,s:O}", "valid", !list.n, "errors",
                                              message_errors(&list), "warnings", g.warnings);
    generation_release(&g);
    if (*ret_data)
        return 0;
    return r == DR_ECANCELED ? dr_fail(err, r, "cancelled")
                             : dr_fail(err, DR_ENOMEM, "out of memory for the answer");
}

static json_t *stages_json(const struct memory_plan *plan)
{
    json_t *list = json_array();
    for (int s = 0; list && s < STAGE_COUNT; s++) {
        const struct stage_use *u = &plan->stage[s];
        if (jx_add(list, json_pack("{s:s,s:I,s:I,s:I,s:f,s:b}", "stage",
                                   job_stage_name((enum job_stage)s), "workspace_bytes",
                                   (json_int_t)u->workspace, "kept_bytes", (json_int_t)u->kept,
                                   "mapped_bytes", (json_int_t)u->mapped, "flops", u->flops,
                                   "drops_weights", plan->drop[s])) < 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

int engine_plan(void *engine, struct worker_job *worker, json_t **ret_data, struct dr_error *err)
{
    struct generation g;
    size_t tagged;
    int r = prepare(&g, engine, worker, NULL, err);
    if (!r) {
        json_t *stages = stages_json(&g.plan), *tags = tags_json(g.plan.tagged, &tagged);
        *ret_data = json_pack(
            "{s:o,s:o,s:I,s:I,s:I,s:I,s:{s:I,s:s},s:f,s:i,s:b,s:I,s:I,s:i,s:s,s:O}", "stages",
            stages, "tagged", tags, "tagged_bytes", (json_int_t)tagged, "baseline_bytes",
            (json_int_t)g.plan.baseline, "peak_bytes", (json_int_t)g.plan.peak, "limit_bytes",
            (json_int_t)g.plan.limit, "limit", "bytes", (json_int_t)g.plan.bound.limit, "source",
            g.plan.bound.source, "flops", g.plan.flops, "rows_per_forward", g.plan.rows, "admitted",
            g.plan.peak <= g.plan.limit, "width", (json_int_t)g.job.width, "height",
            (json_int_t)g.job.height, "steps", g.job.sched.steps, "kernels",
            backend_kernel_set(g.pipeline->backend), "warnings", g.warnings);
        if (!*ret_data)
            r = dr_fail(err, DR_ENOMEM, "out of memory for the answer");
    }
    generation_release(&g);
    return r;
}
