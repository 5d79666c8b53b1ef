/* pipeline.c - see pipeline.h. */
#include "inference/pipeline.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "backend/cache/pack.h"
#include "base/clock.h"
#include "base/log.h"
#include "inference/job_denoise.h"
#include "models/clip_text.h"
#include "models/unet.h"
#include "models/vae_manager.h"
#include "schedulers/scheduler_factory.h"

/* One walk through the stages, real or planned. */
struct walk {
    struct pipeline *p;
    const struct job *job;
    struct exec x;
    struct memory_plan *plan; /* planning: written; else read */
    bool planning;
    const struct job_events *events;
    struct job_timing timing;
    struct prompt_embeds embeds;
    struct unet_context *context[PROMPT_ROWS];
    struct unet_conditioning conditioning[PROMPT_ROWS];
    int64_t h, w, channels;  /* of the latents */
    float *latents;          /* [batch, channels, h, w] */
    float *pixels;           /* [shown, 3, height, width], 0..1 after decoding */
    int shown;               /* pictures held as floats: all when stages ask for them, else one */
    struct dr_image *images; /* [batch], or NULL: each is handed out and `image` is used again */
    struct dr_image image;
    enum job_stage stage;       /* that runs now, */
    double flops;               /* of it, done so far */
    size_t grown[DR_TAG_COUNT]; /* bytes that the receiver of pictures keeps: not the job's */
    double started, handing;    /* of the stage; seconds of it for handing pictures out */
    size_t pixel_bytes, image_bytes, tile_bytes, prompt_bytes; /* planning: what a run allocates */
};

static int stage_begin(struct walk *k, enum job_stage stage, struct dr_error *err)
{
    size_t bytes = k->planning ? SIZE_MAX : k->plan->stage[stage].workspace;
    k->started = dr_now();
    k->stage = stage;
    k->flops = 0;
    if (k->planning)
        backend_plan_reset(k->x.be);
    else if (k->events && k->events->stage)
        k->events->stage(k->events->ctx, stage);
    return workspace_new(k->x.be, bytes, &k->x.ws, err);
}

static void log_stage(const struct walk *k, enum job_stage stage)
{
    struct dr_log_fields f = { .n = 0 };
    dr_log_real(&f, "seconds", k->timing.seconds[stage]);
    dr_log_int(&f, "bytes", (int64_t)k->plan->stage[stage].workspace);
    dr_log_event(DR_LOG_DEBUG, "engine", &f, "stage %s", job_stage_name(stage));
}

static void stage_end(struct walk *k, enum job_stage stage, double repeats)
{
    if (k->planning && k->x.ws) {
        struct plan_totals t = backend_plan_totals(k->x.be);
        k->plan->stage[stage].workspace = workspace_peak(k->x.ws);
        k->plan->stage[stage].kept += dr_alloc_stats(DR_TAG_ACTIVATION).bytes; /* tables */
        k->plan->stage[stage].mapped = t.mapped_bytes;
        k->plan->stage[stage].flops = t.flops * repeats;
    }
    workspace_free(k->x.ws);
    k->x.ws = NULL;
    k->timing.seconds[stage] = dr_now() - k->started - k->handing;
    k->handing = 0;
    if (!k->planning)
        log_stage(k, stage);
}

/* exec.watch: how far the stage is, by the FLOPs of the ops so far. */
static int watch_op(struct exec *x, const struct op *op, struct dr_error *err)
{
    struct walk *k = x->watcher;
    double all = k->plan->stage[k->stage].flops;
    (void)err;
    if (all > 0)
        k->events->part(k->events->ctx, k->stage, k->flops < all ? k->flops / all : 1);
    k->flops += backend_need(x->be, op).flops;
    return 0;
}

int job_evaluations(const struct job *job)
{
    return job->sched.sampler->second_order ? 2 * job->sched.steps - 1 : job->sched.steps;
}

static bool drops(const struct walk *k, enum job_stage stage)
{
    return !k->planning && k->plan->drop[stage];
}

/* ---- text ---- */

static int refuse_token(const struct walk *k, const char *name, int64_t id, int64_t vocab,
                        struct dr_error *err)
{
    char got[40], expected[40];
    snprintf(got, sizeof got, "id %lld", (long long)id);
    snprintf(expected, sizeof expected, "0 to %lld", (long long)vocab - 1);
    return stage_refuse(&k->job->stages, name, got, expected, err);
}

static int dump_tokens(const struct walk *k, struct dr_error *err)
{
    static const char *const names[PROMPT_ENCODERS] = { "tokens", "tokens_2" };
    const struct prompt_embeds *m = &k->embeds;
    int64_t shape[2] = { m->rows, m->length }, count = m->rows * m->length;
    int64_t *wide = dr_calloc(DR_TAG_JOB, (size_t)count, sizeof *wide);
    int r = wide ? 0 : dr_fail(err, DR_ENOMEM, "out of memory for tokens");
    for (int e = 0; !r && e < PROMPT_ENCODERS; e++) {
        bool loaded;
        if (!m->ids[e])
            continue;
        for (int64_t i = 0; i < count; i++)
            wide[i] = m->ids[e][i];
        r = stage_load(&k->job->stages, names[e], NPY_I64, shape, 2, wide, &loaded, err);
        int64_t vocab = clip_text_arch(k->p->encoders.encoder[e].text)->vocab;
        for (int64_t i = 0; !r && loaded && i < count; i++) {
            if (wide[i] < 0 || wide[i] >= vocab)
                r = refuse_token(k, names[e], wide[i], vocab, err);
            m->ids[e][i] = (int32_t)wide[i];
        }
        if (!r)
            r = stage_dump(&k->job->stages, names[e], NPY_I64, shape, 2, wide, err);
    }
    dr_free(wide);
    return r;
}

static bool all_known(const struct prompt_embeds *m)
{
    bool known = true;
    for (int row = 0; row < m->rows; row++)
        known = known && m->known[row];
    return known;
}

static int run_encoders(struct walk *k, struct dr_error *err)
{
    struct prompt_encoders *e = &k->p->encoders;
    int r = 0;
    k->p->text_read |= !k->planning;
    for (int i = 0; !r && i < PROMPT_ENCODERS; i++)
        if (e->encoder[i].text)
            r = params_acquire(e->encoder[i].text, clip_text_visit, err);
    return r ? r : prompt_encode(e, &k->x, &k->embeds, err);
}

/* Encodes what is not known. Weights that an earlier job left are given back here too. */
static int encode_prompts(struct walk *k, struct dr_error *err)
{
    struct prompt_encoders *e = &k->p->encoders;
    bool known = all_known(&k->embeds), drop = drops(k, STAGE_TEXT);
    int r = stage_begin(k, STAGE_TEXT, err);
    if (!r && !known)
        r = run_encoders(k, err);
    if (!r && !known && !k->planning)
        prompt_cache_keep(&k->p->prompts, &k->embeds);
    for (int i = 0; i < PROMPT_ENCODERS; i++)
        if (e->encoder[i].text && (!known || drop))
            params_release(e->encoder[i].text, clip_text_visit, drop);
    k->p->text_read = k->p->text_read && !drop;
    stage_end(k, STAGE_TEXT, 1);
    return r;
}

/* What is left of the weights that an earlier job read is there, used or not: plans as if this one
 * read them. */
static int plan_prompts(struct walk *k, struct dr_error *err)
{
    const struct stages *stages = &k->job->stages;
    struct prompt_embeds *m = &k->embeds;
    if (!stage_loads(stages, "tokens") && !stage_loads(stages, "tokens_2"))
        prompt_cache_find(&k->p->prompts, m);
    k->prompt_bytes = prompt_cache_growth(&k->p->prompts, m);
    bool known = all_known(m);
    if (known && k->p->text_read)
        m->known[m->rows - 1] = false;
    int r = encode_prompts(k, err);
    if (known)
        k->plan->stage[STAGE_TEXT].flops = 0;
    return r;
}

/* Before anything is computed. */
static void tell_warnings(const struct walk *k)
{
    char text[SCHED_WARNING];
    if (!k->planning || !k->events || !k->events->warning)
        return;
    for (int i = 0; i < k->embeds.n_warnings; i++)
        k->events->warning(k->events->ctx, k->embeds.warning[i]);
    for (int i = 0; sched_warning(&k->job->sched, i, text); i++)
        k->events->warning(k->events->ctx, text);
}

/* Loads what is asked for among the text's results; encodes if anything is left to compute; dumps.
 */
static int text(struct walk *k, struct dr_error *err)
{
    const struct stages *stages = &k->job->stages;
    int r = prompt_tokenize(&k->p->encoders, &k->job->prompt, &k->embeds, err);
    if (r < 0)
        return r;
    struct prompt_embeds *m = &k->embeds;
    tell_warnings(k);
    if (k->planning)
        return plan_prompts(k, err);
    if ((r = dump_tokens(k, err)) < 0)
        return r;
    prompt_cache_find(&k->p->prompts, m);
    if (!stage_loads(stages, "prompt_embeds") || !stage_loads(stages, "pooled"))
        r = encode_prompts(k, err);
    struct {
        const char *name;
        int64_t shape[3];
        int ndim;
        float *data;
    } parts[] = { { "prompt_embeds", { m->rows, m->length, m->width }, 3, m->text },
                  { "pooled", { m->rows, m->pooled_width }, 2, m->pooled },
                  { "time_ids", { m->rows, m->n_time_ids }, 2, m->time_ids } };
    for (size_t i = 0; !r && i < sizeof parts / sizeof *parts; i++) {
        bool loaded;
        r = stage_load(stages, parts[i].name, NPY_F32, parts[i].shape, parts[i].ndim, parts[i].data,
                       &loaded, err);
        if (!r)
            r = stage_dump(stages, parts[i].name, NPY_F32, parts[i].shape, parts[i].ndim,
                           parts[i].data, err);
    }
    return r;
}

/* ---- denoise ---- */

static int make_contexts(struct walk *k, struct dr_error *err)
{
    const struct prompt_embeds *m = &k->embeds;
    bool given = stage_loads(&k->job->stages, "prompt_embeds");
    size_t bytes = 0;
    int r = stage_begin(k, STAGE_CONTEXT, err);
    for (int i = 0; !r && i < m->rows; i++) {
        const float *text = m->text + i * m->length * m->width;
        bool zeros = m->zero_negative && i == 0 && !given; /* all that is known when planning */
        r = unet_context_new(k->p->unet, &k->x, k->planning && !zeros ? NULL : text, m->length,
                             m->pooled + i * m->pooled_width, m->time_ids + i * m->n_time_ids,
                             &k->context[i], err);
        if (!r)
            bytes += unet_context_bytes(k->context[i]);
        k->conditioning[i] = unet_prompt(k->context[i]);
    }
    stage_end(k, STAGE_CONTEXT, 1);
    for (int s = STAGE_CONTEXT; k->planning && s <= STAGE_DENOISE; s++)
        k->plan->stage[s].kept += bytes;
    return r;
}

static int denoise(struct walk *k, struct dr_error *err)
{
    const struct job *job = k->job;
    int r = params_acquire(k->p->unet, unet_visit, err);
    if (!r)
        r = make_contexts(k, err);
    struct job_denoise d = { .job = job,
                             .unet = k->p->unet,
                             .guidance = { .scale = job->guidance_scale,
                                           .rescale = job->guidance_rescale,
                                           .negative = &k->conditioning[0],
                                           .positive = &k->conditioning[k->embeds.rows - 1] },
                             .rows = k->plan->rows,
                             .channels = k->channels,
                             .h = k->h,
                             .w = k->w };
    if (!r)
        r = stage_begin(k, STAGE_DENOISE, err);
    if (!r)
        r = job_denoise_run(&d, &k->x, k->events, k->latents, err);
    stage_end(k, STAGE_DENOISE, job_evaluations(job));
    for (int i = 0; i < PROMPT_ROWS; i++) {
        unet_context_free(k->context[i]);
        k->context[i] = NULL;
    }
    params_release(k->p->unet, unet_visit, drops(k, STAGE_DENOISE));
    return r;
}

/* ---- decode ---- */

/* [3, h, w] about -1..1 to 0..1, in place. DR_EFORMAT when a value is not finite. */
static int to_unit(float *v, int64_t n, struct dr_error *err)
{
    for (int64_t i = 0; i < n; i++) {
        float x = v[i] / 2 + 0.5f;
        if (!isfinite(x))
            return dr_fail(err, DR_EFORMAT,
                           "the decoded picture is not finite: the autoencoder's weights overflow "
                           "or hold NaN, or its latents do");
        v[i] = x < 0 ? 0 : x > 1 ? 1 : x;
    }
    return 0;
}

/* Bytes: round half to even of 255 x, as the reference does. */
static void to_bytes(const float *planes, struct dr_image *image)
{
    int64_t n = image->width * image->height;
    for (int64_t i = 0; i < n; i++)
        for (int c = 0; c < 3; c++)
            image->pixels[3 * i + c] = (uint8_t)nearbyintf(planes[c * n + i] * 255.0f);
}

/* The job's own peaks so far, without what the receiver of pictures has kept. */
static void note_peaks(struct walk *k)
{
    for (int t = 0; t < DR_TAG_COUNT; t++) {
        size_t peak = dr_alloc_stats((enum dr_tag)t).peak;
        peak -= k->grown[t] < peak ? k->grown[t] : peak;
        k->timing.tagged[t] = peak > k->timing.tagged[t] ? peak : k->timing.tagged[t];
    }
}

/* A picture of finished pixels goes to whoever wants it, if the model's files are still those that
 * it was drawn with. */
static int hand_out(struct walk *k, int index, const float *pixels, struct dr_error *err)
{
    struct dr_image *image = k->images ? &k->images[index] : &k->image;
    size_t before[DR_TAG_COUNT];
    to_bytes(pixels, image);
    if (!k->events || !k->events->picture)
        return 0;
    int r = pipeline_check(k->p, err);
    if (r < 0)
        return r;
    note_peaks(k);
    for (int t = 0; t < DR_TAG_COUNT; t++)
        before[t] = dr_alloc_stats((enum dr_tag)t).bytes;
    double began = dr_now();
    r = k->events->picture(k->events->ctx, index, image, err);
    for (int t = 0; t < DR_TAG_COUNT; t++) {
        size_t now = dr_alloc_stats((enum dr_tag)t).bytes;
        k->grown[t] += now > before[t] ? now - before[t] : 0;
    }
    k->handing += dr_now() - began;
    dr_alloc_reset_peak();
    return r;
}

static int decode_all(struct walk *k, struct dr_error *err)
{
    struct vae_tiling how = { .mode = k->job->vae_tiling ? VAE_TILING_ON : VAE_TILING_OFF };
    int64_t size = k->channels * k->h * k->w, plane = 3 * k->job->width * k->job->height;
    int r = params_acquire(k->p->vae, vae_visit, err);
    if (k->planning)
        k->tile_bytes = dr_alloc_stats(DR_TAG_JOB).bytes +
                        vae_manager_bytes(k->p->vae, how, k->h, k->w);
    if (!r)
        r = stage_begin(k, STAGE_DECODE, err);
    int last = k->planning ? 0 : k->job->batch - 1;
    float *pixels = NULL;
    for (int i = 0; !r && i <= last; i++) {
        pixels = k->pixels ? k->pixels + (k->shown > 1 ? i * plane : 0) : NULL;
        r = vae_manager_decode(k->p->vae, &k->x, how, k->latents + i * size, 1, k->h, k->w, pixels,
                               err);
        if (r < 0 || k->planning)
            break;
        if (k->x.stop && atomic_load(k->x.stop))
            r = dr_fail(err, DR_ECANCELED, "cancelled");
        if (!r)
            r = to_unit(pixels, plane, err);
        if (!r && i < last)
            r = hand_out(k, i, pixels, err);
    }
    stage_end(k, STAGE_DECODE, k->job->batch);
    params_release(k->p->vae, vae_visit, drops(k, STAGE_DECODE));
    /* the last one without the workspace, which is much more than an encoder needs */
    return r < 0 || k->planning ? r : hand_out(k, last, pixels, err);
}

static int decode(struct walk *k, struct dr_error *err)
{
    const struct job *job = k->job;
    int64_t shape[4] = { job->batch, 3, job->height, job->width };
    int64_t plane = 3 * job->width * job->height;
    bool loaded = false;
    int r = 0;
    if (!k->planning)
        r = stage_load(&job->stages, "image", NPY_F32, shape, 4, k->pixels, &loaded, err);
    if (!r && !loaded)
        r = decode_all(k, err);
    for (int i = 0; !r && loaded && i < job->batch; i++) {
        for (int64_t j = 0; !r && j < plane; j++)
            if (!(k->pixels[i * plane + j] >= 0 && k->pixels[i * plane + j] <= 1))
                r = stage_refuse(&job->stages, "image", "a value outside", "0 to 1", err);
        if (!r)
            r = hand_out(k, i, k->pixels + i * plane, err);
    }
    if (!r && !k->planning)
        r = stage_dump(&job->stages, "image", NPY_F32, shape, 4, k->pixels, err);
    return r;
}

/* ---- the files of stages, when planning ---- */

/* Whether they are what the job needs, by their headers: known before anything is loaded or drawn.
 */
static int try_stages(const struct walk *k, struct dr_error *err)
{
    const struct stages *stages = &k->job->stages;
    const struct prompt_embeds *m = &k->embeds;
    int64_t batch = k->job->batch, evaluations = job_evaluations(k->job);
    const struct {
        const char *name;
        enum npy_dtype dtype;
        bool used;
        int ndim;
        int64_t shape[4];
    } parts[] = {
        { "tokens", NPY_I64, m->ids[0], 2, { m->rows, m->length } },
        { "tokens_2", NPY_I64, m->ids[1], 2, { m->rows, m->length } },
        { "prompt_embeds", NPY_F32, true, 3, { m->rows, m->length, m->width } },
        { "pooled", NPY_F32, true, 2, { m->rows, m->pooled_width } },
        { "time_ids", NPY_F32, true, 2, { m->rows, m->n_time_ids } },
        { "timesteps", NPY_F32, true, 1, { evaluations } },
        { "sigmas", NPY_F32, true, 1, { evaluations + 1 } },
        { "latents_init", NPY_F32, true, 4, { batch, k->channels, k->h, k->w } },
        { "image", NPY_F32, true, 4, { batch, 3, k->job->height, k->job->width } },
    };
    const int64_t latents[4] = { batch, k->channels, k->h, k->w };
    const char *name;
    json_t *file;
    int r = 0, evaluation;
    bool loaded;
    for (size_t i = 0; !r && i < sizeof parts / sizeof *parts; i++)
        if (parts[i].used)
            r = stage_load(stages, parts[i].name, parts[i].dtype, parts[i].shape, parts[i].ndim,
                           NULL, &loaded, err);
    json_object_foreach((json_t *)stages->load, name, file)
    {
        if (!r && stage_is_name(name, &evaluation) && evaluation >= 0)
            r = stage_load(stages, name, NPY_F32, latents, 4, NULL, &loaded, err);
    }
    return r;
}

/* ---- the walk ---- */

static int allocate(struct walk *k, struct dr_error *err)
{
    const struct job *job = k->job;
    int64_t factor = k->p->latent_factor;
    k->h = job->height / factor;
    k->w = job->width / factor;
    k->channels = unet_arch(k->p->unet)->out_channels;
    bool all = (job->stages.dump && *job->stages.dump) || stage_loads(&job->stages, "image");
    k->shown = all ? job->batch : 1;
    size_t pixels = (size_t)(3 * job->width * job->height);
    k->latents = dr_calloc(DR_TAG_JOB, (size_t)job->batch * (size_t)(k->channels * k->h * k->w),
                           sizeof *k->latents);
    if (!k->latents)
        return dr_fail(err, DR_ENOMEM, "out of memory for %d latents", job->batch);
    if (k->planning) {
        k->pixel_bytes = (size_t)k->shown * pixels * sizeof *k->pixels;
        k->image_bytes = pixels;
        return 0;
    }
    k->pixels = dr_malloc(DR_TAG_JOB, (size_t)k->shown * pixels * sizeof *k->pixels);
    if (!k->pixels)
        return dr_fail(err, DR_ENOMEM, "out of memory for %d pictures", job->batch);
    int r = 0;
    for (int i = 0; !r && i < (k->images ? job->batch : 1); i++)
        r = img_new(job->width, job->height, 3, k->images ? &k->images[i] : &k->image, err);
    return r;
}

static int walk(struct walk *k, struct dr_error *err)
{
    const struct stages *stages = &k->job->stages;
    bool image_given = !k->planning && stage_loads(stages, "image");
    int r = stages_check(stages, job_evaluations(k->job), err);
    if (!r)
        r = allocate(k, err);
    if (!r)
        r = text(k, err);
    if (!r && k->planning)
        r = try_stages(k, err);
    if (!r && !image_given)
        r = denoise(k, err);
    if (!r)
        r = decode(k, err);
    if (r < 0 && k->x.stop && atomic_load(k->x.stop) && r == DR_ECANCELED)
        dr_fail(err, DR_ECANCELED, "cancelled");
    for (int i = 0; i < PROMPT_ROWS; i++)
        unet_context_free(k->context[i]);
    prompt_release(&k->embeds);
    dr_free(k->latents);
    dr_free(k->pixels);
    img_free(&k->image);
    return r;
}

/* One planning walk with so many rows a forward. */
static int plan_rows(struct pipeline *p, const struct job *job, struct backend *be, int rows,
                     const struct job_events *events, struct memory_plan *plan,
                     struct dr_error *err)
{
    plan->rows = rows;
    memset(plan->stage, 0, sizeof plan->stage);
    struct walk k = {
        .p = p, .job = job, .x = { .be = be }, .plan = plan, .planning = true, .events = events
    };
    dr_alloc_reset_peak();
    int r = walk(&k, err);
    if (r < 0)
        return r;
    plan->flops = 0;
    size_t activation = 0;
    for (int s = 0; s < STAGE_COUNT; s++) {
        size_t now = plan->stage[s].workspace + plan->stage[s].kept;
        activation = now > activation ? now : activation;
        plan->flops += plan->stage[s].flops;
    }
    for (int t = 0; t < DR_TAG_COUNT; t++)
        plan->tagged[t] = dr_alloc_stats((enum dr_tag)t).peak;
    plan->tagged[DR_TAG_ACTIVATION] = activation;
    size_t job_bytes = plan->tagged[DR_TAG_JOB];
    size_t tiles = k.tile_bytes > job_bytes ? k.tile_bytes - job_bytes : 0;
    plan->tagged[DR_TAG_JOB] += tiles + k.pixel_bytes;
    plan->tagged[DR_TAG_IMAGE] += k.image_bytes;
    plan->tagged[DR_TAG_PROMPT] += k.prompt_bytes;
    plan->tagged[DR_TAG_WEIGHTS] += p->pack ? (size_t)pack_private_bytes(p->pack) : 0;
    plan->pictures = tiles + k.pixel_bytes + k.image_bytes;
    /* the only picture's bytes are first touched when the workspace is gone */
    plan->never_both = job->batch > 1 ? 0 : k.image_bytes;
    plan->unmapped = 0;
    for (int s = 0; s < STAGE_COUNT && !pipeline_is_ready(p); s++)
        plan->unmapped += plan->stage[s].mapped;
    memory_decide(plan);
    return 0;
}

int job_plan(struct pipeline *p, const struct job *job, size_t baseline, size_t limit,
             const struct job_events *events, struct memory_plan *ret_plan, struct dr_error *err)
{
    struct backend *be;
    int r = backend_open_plan(p->backend, &be, err);
    if (r < 0)
        return r;
    struct guidance g = { .scale = job->guidance_scale };
    struct memory_plan plan;
    memset(&plan, 0, sizeof plan);
    plan.baseline = baseline;
    plan.asked = limit;
    system_memory("", &plan.system);
    int each = guidance_rows(&g), rows = each * job->batch;
    for (;;) {
        r = plan_rows(p, job, be, rows, events, &plan, err);
        events = NULL; /* warnings are reported once */
        if (r < 0 || rows <= each || plan.peak <= plan.limit / 2)
            break;
        rows = (rows + 1) / 2;
    }
    backend_close(be);
    if (!r)
        *ret_plan = plan;
    return r;
}

int job_run(struct pipeline *p, const struct job *job, const struct memory_plan *plan,
            const struct job_events *events, const atomic_int *stop, struct dr_image *images,
            struct job_timing *ret_timing, struct dr_error *err)
{
    if (p->pack && pack_promised(p->pack))
        return dr_fail(err, DR_EINTERNAL, "a pipeline that was opened for planning cannot run");
    struct memory_plan copy = *plan;
    struct job own = *job; /* with its stages open */
    own.stages.stop = stop;
    struct walk k = { .p = p,
                      .job = &own,
                      .x = { .be = p->backend, .stop = stop },
                      .plan = &copy,
                      .events = events,
                      .images = images };
    if (images)
        memset(images, 0, (size_t)job->batch * sizeof *images);
    if (events && events->part) {
        k.x.watch = watch_op;
        k.x.watcher = &k;
    }
    dr_alloc_reset_peak();
    int r = stages_open(&own.stages, err);
    if (!r)
        r = walk(&k, err);
    stages_close(&own.stages);
    if (!r)
        r = pipeline_check_after(p, stop, err);
    for (int i = 0; r < 0 && images && i < job->batch; i++)
        img_free(&images[i]);
    if (r < 0)
        return r;
    note_peaks(&k);
    *ret_timing = k.timing;
    return 0;
}
