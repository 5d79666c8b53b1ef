/* engine_generate.c - the verbs that turn a request into a job: generate, validate, plan. */
#include "coordination/generation.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "coordination/model_hints.h"
#include "coordination/speed.h"
#include "inference/job_embeddings.h"
#include "inference/job_loras.h"
#include "inference/lora_tags.h"
#include "inference/receipt_match.h"
#include "inference/recipe_apply.h"
#include "inference/sdxl_worker.h"
#include "schedulers/scheduler_factory.h"

/* Adds a warning to the answer and sends it as progress: all are known before the first step. */
static void tell_warning(struct generation *g, const char *text)
{
    if (request_flag(&g->request, FIELD_stream))
        worker_progress(g->worker, 0, 0, true, json_pack("{s:s}", "warning", text));
    if (jx_add(g->warnings, json_string(text)) < 0)
        dr_log_line(DR_LOG_WARN, "engine", "out of memory: a warning is only in the log");
}

static void add_warning(void *ctx, const char *text)
{
    dr_log_line(DR_LOG_INFO, "engine", "%s", text);
    tell_warning(ctx, text);
}

static void generation_release(struct generation *g)
{
    if (g->has_job)
        job_release(&g->job);
    pipeline_unref(g->pipeline);
    img_free(&g->image.picture);
    img_free(&g->mask.picture);
    request_free(&g->request);
    json_decref(g->warnings);
}

/* Checks that files of the request are inside the roots, that its output folders can exist, and
 * that stages to load are arrays. */
static int check_paths(const struct generation *g, struct dr_error *err)
{
    static const enum field_id fields[] = { FIELD_save_path, FIELD_dump_stages };
    const struct roots *roots = &g->engine->roots;
    struct stages stages = { .load = g->request.value[FIELD_load_stage].map, .roots = roots };
    const char *name;
    json_t *file;
    int r = 0;
    for (size_t i = 0; !r && i < sizeof fields / sizeof *fields; i++)
        if (request_has(&g->request, fields[i]))
            r = roots_try_folder(roots, field_info(fields[i])->name,
                                 request_text(&g->request, fields[i]), err);
    json_object_foreach((json_t *)stages.load, name, file)
    {
        if (!r)
            r = stage_probe(&stages, name, err);
    }
    return r;
}

/* What the model suggests for what the request leaves open. */
static int take_hints(struct generation *g, struct dr_error *err)
{
    struct engine_model model;
    int r = engine_find_model(g->engine, request_text(&g->request, FIELD_model), &model, err);
    return r ? r : model_hints_apply(&model, &g->request, err);
}

static int find_spec(const struct generation *g, struct engine_spec *ret, struct dr_error *err)
{
    const struct request *q = &g->request;
    struct engine_names names = { .model = request_text(q, FIELD_model),
                                  .prediction = request_text(q, FIELD_prediction) };
    names.part[COMPONENT_UNET] = request_text(q, FIELD_unet);
    names.part[COMPONENT_TEXT_ENCODER] = request_text(q, FIELD_text_encoder);
    names.part[COMPONENT_TEXT_ENCODER_2] = request_text(q, FIELD_text_encoder_2);
    names.part[COMPONENT_VAE] = request_text(q, FIELD_vae);
    if (request_has(q, FIELD_zsnr))
        names.zero_snr = request_flag(q, FIELD_zsnr) ? MODEL_HAS : MODEL_HAS_NOT;
    return engine_find_spec(g->engine, &names, ret, err);
}

static int find_pipeline(struct generation *g, struct dr_error *err)
{
    const char *kernels = request_text(&g->request, FIELD_kernels);
    enum precision precision;
    struct engine_spec spec;
    int r = precision_find(request_text(&g->request, FIELD_precision), &precision, err);
    if (!r)
        r = device_manager_check(g->engine->devices, kernels, precision, err);
    if (!r)
        r = take_hints(g, err);
    if (!r)
        r = find_spec(g, &spec, err);
    return r ? r
             : engine_pipeline(g->engine, &spec.spec, kernels, precision, g->worker->stop,
                               &g->pipeline, err);
}

/* The files of the request's LoRAs, opened for the job; what they say of themselves is warned. */
static int open_loras(struct generation *g, struct dr_error *err)
{
    struct lora_place places[LORAS_MOST];
    const struct request *q = &g->request;
    int n = request_count(q, FIELD_loras), r = 0;
    for (int i = 0; !r && i < n; i++) {
        char field[32];
        snprintf(field, sizeof field, "loras[%d]", i);
        struct engine_wanted wanted = { field, request_item_text(q, FIELD_loras, i, "path"),
                                        request_item_text(q, FIELD_loras, i, "sha256"),
                                        g->worker->stop };
        r = engine_find_lora(g->engine, &wanted, &places[i], err);
    }
    if (!r)
        r = job_loras_open(q, places, g->pipeline, g->worker->stop, &g->job, err);
    for (int i = 0; !r && i < n; i++) {
        char text[160];
        if (*job_loras_warning(&g->job, i))
            add_warning(g, job_loras_warning(&g->job, i));
        if (!job_loras_idle(&g->job, i))
            continue;
        snprintf(
            text, sizeof text,
            "loras[%d]: none of the %d evaluations is between start %g and end %g: it does not "
            "change the UNet",
            i, job_evaluations(&g->job), g->job.loras->lora[i].start, g->job.loras->lora[i].end);
        add_warning(g, text);
    }
    return r;
}

/* The files of the request's embeddings, read for the job. */
static int add_embeddings(struct generation *g, struct dr_error *err)
{
    const struct request *q = &g->request;
    int r = 0;
    for (int i = 0; !r && i < request_count(q, FIELD_embeddings); i++) {
        const char *path = request_item_text(q, FIELD_embeddings, i, "path");
        const char *token = request_item_text(q, FIELD_embeddings, i, "token");
        bool named = request_item_has(q, FIELD_embeddings, i, "token");
        char field[32];
        int fd;
        snprintf(field, sizeof field, "embeddings[%d]", i);
        struct engine_wanted wanted = { field, path,
                                        request_item_text(q, FIELD_embeddings, i, "sha256"),
                                        g->worker->stop };
        r = engine_open_embedding(g->engine, &wanted, &fd, err);
        if (r < 0)
            break;
        r = job_add_embedding(&g->job, g->pipeline, fd, path, named ? token : NULL,
                              request_item_text(q, FIELD_embeddings, i, "sha256"), err);
        close(fd);
    }
    return r ? r : job_fit_embeddings(&g->job, g->pipeline, add_warning, g, err);
}

/* What is too much is planned again without the variants and models that nobody uses, whose
 * mappings count too where address space is short. */
static int plan(struct generation *g, const struct job_events *events, struct dr_error *err)
{
    struct pipeline_manager *models = g->engine->pipelines;
    struct memory_budget budget = engine_budget(g->engine, g->pipeline);
    int r = job_plan(g->pipeline, &g->job, &budget, events, &g->plan, err);
    if (r < 0 || g->plan.peak <= g->plan.limit)
        return r;
    bool dropped = pipeline_drop_variants(g->pipeline);
    if (!pipeline_manager_idle(models, g->pipeline, NULL) && !dropped)
        return 0;
    pipeline_manager_trim(models, g->pipeline, 0);
    budget = engine_budget(g->engine, g->pipeline);
    return job_plan(g->pipeline, &g->job, &budget, NULL, &g->plan, err);
}

/* Fields for the log line of the job's end, taken while the pipeline is open for certain. */
static void log_job(struct generation *g)
{
    struct dr_log_fields *f = &g->worker->log;
    if (!dr_log_on(DR_LOG_INFO))
        return;
    dr_log_text(f, "model", checkpoint_path(g->pipeline->checkpoint));
    dr_log_int(f, "width", g->job.width);
    dr_log_int(f, "height", g->job.height);
    dr_log_int(f, "steps", g->job.sched.steps);
    dr_log_int(f, "pictures", g->job.batch);
    dr_log_text(f, "kernels", backend_kernel_set(g->pipeline->backend));
}

/* Request, model, job, plan: nothing is hashed or packed. With a list, all mistakes in the form of
 * fields go there and nothing else is checked if there are any. generation_release in any case. */
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
    int r = request_parse_all(worker->data, "", message_ids_in_data, list, &g->request, err);
    if (r < 0 || error_list_count(list))
        return r;
    r = check_paths(g, err);
    if (!r)
        r = recipe_apply(&g->request, err);
    if (!r)
        r = lora_tags_apply(&g->request, err);
    if (!r)
        r = find_pipeline(g, err);
    if (!r)
        r = generation_read_images(g, add_warning, err);
    if (!r)
        r = sdxl_job(&g->request, g->pipeline, &g->job, err);
    if (r < 0)
        return r;
    g->has_job = true;
    if ((r = recipe_check(&g->request, g->pipeline, &g->job, err)) < 0)
        return r;
    g->job.stages.roots = &e->roots;
    r = generation_set_images(g, add_warning, err);
    if (!r)
        r = open_loras(g, err);
    if (!r)
        r = add_embeddings(g, err);
    if (r < 0)
        return r;
    log_job(g);
    const char *warning;
    for (size_t i = 0; (warning = checkpoint_warning(g->pipeline->checkpoint, i)); i++)
        add_warning(g, warning);
    struct receipt_facts ours = generation_facts(g, NULL, "");
    struct job_events events = { .warning = add_warning, .ctx = g };
    receipt_match(&g->request, &g->job, &ours, add_warning, g);
    return plan(g, &events, err);
}

static struct load_progress loading_of(const struct generation *g)
{
    return (struct load_progress){ .job = g->worker,
                                   .stream = request_flag(&g->request, FIELD_stream),
                                   .last = dr_now() };
}

static struct pipeline_options how_to_load(const struct generation *g,
                                           struct load_progress *loading)
{
    return (struct pipeline_options){ .stop = g->worker->stop,
                                      .progress = engine_loading,
                                      .ctx = loading };
}

/* A receipt's digest, before anything is drawn: of this model, or it is refused. */
static int check_digest(struct generation *g, struct dr_error *err)
{
    struct load_progress loading = loading_of(g);
    struct pipeline_options how = how_to_load(g, &loading);
    if (!request_has(&g->request, FIELD_model_sha256))
        return 0;
    int r = pipeline_digest(g->pipeline, &how, err);
    return r ? r : receipt_match_model(&g->request, g->pipeline->digest, err);
}

/* The weights of a job that is admitted, which may take minutes. Where no pack could be kept they
 * are private memory after all: the job is planned and admitted again. */
static int load(struct generation *g, struct dr_error *err)
{
    struct load_progress loading = loading_of(g);
    struct pipeline_options how = how_to_load(g, &loading);
    struct pipeline *p = g->pipeline;
    bool in_pack = p->in_pack;
    int r = check_digest(g, err);
    if (!r)
        r = engine_load(g->engine, p, &g->plan, &how, err);
    if (!r && p->in_pack != in_pack) {
        r = plan(g, NULL, err);
        if (!r)
            r = memory_admit(&g->plan, err);
        if (r < 0)
            pipeline_manager_forget(g->engine->pipelines, p);
    }
    if (!r && p->news[0]) {
        add_warning(g, p->news);
        p->news[0] = '\0';
    }
    if (!r && p->warning[0])
        tell_warning(g, p->warning);
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
        r = generation_run(&g, ret_data, err);
    dr_log_int(&worker->log, "peak_bytes", (int64_t)system_resident_peak());
    generation_release(&g);
    return r;
}

/* A bad request is this verb's normal answer, not its failure: all mistakes in the form of fields,
 * else the first error that generate would report. */
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

static json_t *stages_json(const struct memory_plan *plan, int evaluations)
{
    json_t *list = json_array();
    for (int s = 0; list && s < STAGE_COUNT; s++) {
        const struct stage_use *u = &plan->stage[s];
        bool known = s != STAGE_DENOISE || evaluations;
        if (s == STAGE_INIT_IMAGE && !u->workspace) /* the job begins with noise */
            continue;
        if (jx_add(list, json_pack("{s:s,s:I,s:I,s:I,s:o,s:b}", "stage",
                                   job_stage_name((enum job_stage)s), "workspace_bytes",
                                   (json_int_t)u->workspace, "kept_bytes", (json_int_t)u->kept,
                                   "mapped_bytes", (json_int_t)u->mapped, "flops",
                                   known ? json_real(u->flops) : json_null(), "drops_weights",
                                   plan->drop[s])) < 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *variants_json(const struct variant_use *v)
{
    return json_pack("{s:I,s:I,s:I}", "layers", (json_int_t)v->layers, "bytes",
                     (json_int_t)v->bytes, "missing_bytes", (json_int_t)v->missing);
}

int engine_plan(void *engine, struct worker_job *worker, json_t **ret_data, struct dr_error *err)
{
    struct generation g;
    size_t tagged;
    int r = prepare(&g, engine, worker, NULL, err);
    if (!r) {
        int evaluations = job_evaluations(&g.job);
        json_t *stages = stages_json(&g.plan, evaluations);
        json_t *tags = generation_tags(g.plan.tagged, &tagged);
        double seconds = speed_estimate(g.pipeline->backend, &g.plan, evaluations).seconds;
        *ret_data = json_pack(
            "{s:o,s:o,s:o,s:I,s:I,s:I,s:I,s:{s:I,s:s},s:o,s:i,s:b,s:I,s:I,s:i,s:o,s:s,s:O,s:o}",
            "stages", stages, "variants", variants_json(&g.plan.variants), "tagged", tags,
            "tagged_bytes", (json_int_t)tagged, "baseline_bytes", (json_int_t)g.plan.baseline,
            "peak_bytes", (json_int_t)g.plan.peak, "limit_bytes", (json_int_t)g.plan.limit, "limit",
            "bytes", (json_int_t)g.plan.bound.limit, "source", g.plan.bound.source, "flops",
            generation_flops(g.plan.flops), "rows_per_forward", g.plan.rows, "admitted",
            g.plan.peak <= g.plan.limit, "width", (json_int_t)g.job.width, "height",
            (json_int_t)g.job.height, "steps", g.job.sched.steps, "evaluations",
            evaluations ? json_integer(evaluations) : json_null(), "kernels",
            backend_kernel_set(g.pipeline->backend), "warnings", g.warnings, "estimated_seconds",
            seconds > 0 ? json_real(seconds) : json_null());
        if (!*ret_data)
            r = dr_fail(err, DR_ENOMEM, "out of memory for the answer");
    }
    generation_release(&g);
    return r;
}
