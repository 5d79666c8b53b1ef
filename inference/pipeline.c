/* pipeline.c - see pipeline.h. */
#include "inference/pipeline.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "backend/pack.h"
#include "base/clock.h"
#include "inference/denoise.h"
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
    int64_t h, w, channels; /* of the latents */
    float *latents;         /* [batch, channels, h, w] */
    float *pixels;          /* [shown, 3, height, width], 0..1 after decoding */
    int shown;              /* pictures held as floats: all when stages ask for them, else one */
    struct dr_image *images;
    double started;
    size_t pixel_bytes, image_bytes, tile_bytes, prompt_bytes; /* planning: what a run allocates */
};

static int stage_begin(struct walk *k, enum job_stage stage, struct dr_error *err)
{
    size_t bytes = k->planning ? SIZE_MAX : k->plan->stage[stage].workspace;
    k->started = dr_now();
    if (k->planning)
        backend_plan_reset(k->x.be);
    return workspace_new(k->x.be, bytes, &k->x.ws, err);
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
    k->timing.seconds[stage] = dr_now() - k->started;
}

/* Of the model: a second-order sampler asks twice a step, but for the last. */
static int evaluations_of(const struct job *job)
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
    int64_t shape[2] = { m->rows, m->length }, wide[PROMPT_ROWS * 128];
    int r = 0;
    for (int e = 0; !r && e < PROMPT_ENCODERS; e++) {
        bool loaded;
        int64_t count = m->rows * m->length;
        if (!m->ids[e])
            continue;
        for (int64_t i = 0; i < count; i++)
            wide[i] = m->ids[e][i];
        r = stage_load(&k->job->stages, names[e], NPY_I64, shape, 2, wide, &loaded, err);
        int64_t vocab = clip_text_arch(k->p->encoders.text[e])->vocab;
        for (int64_t i = 0; !r && loaded && i < count; i++) {
            if (wide[i] < 0 || wide[i] >= vocab)
                r = refuse_token(k, names[e], wide[i], vocab, err);
            m->ids[e][i] = (int32_t)wide[i];
        }
        if (!r)
            r = stage_dump(&k->job->stages, names[e], NPY_I64, shape, 2, wide, err);
    }
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
        if (e->text[i])
            r = params_acquire(e->text[i], clip_text_visit, err);
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
        if (e->text[i] && (!known || drop))
            params_release(e->text[i], clip_text_visit, drop);
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

/* Loads what is asked for among the text's results; encodes if anything is left to compute; dumps.
 */
static int text(struct walk *k, struct dr_error *err)
{
    const struct stages *stages = &k->job->stages;
    int r = prompt_tokenize(&k->p->encoders, &k->job->prompt, &k->embeds, err);
    if (r < 0)
        return r;
    struct prompt_embeds *m = &k->embeds;
    bool tells = k->planning && k->events && k->events->warning;
    for (int i = 0; tells && i < m->n_warnings; i++)
        k->events->warning(k->events->ctx, m->warning[i]);
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
    struct denoise d = { .unet = k->p->unet,
                         .x = &k->x,
                         .job = job,
                         .guidance = { .scale = job->guidance_scale,
                                       .rescale = job->guidance_rescale,
                                       .negative = k->context[0],
                                       .positive = k->context[k->embeds.rows - 1] },
                         .rows = k->plan->rows,
                         .channels = k->channels,
                         .h = k->h,
                         .w = k->w };
    int total = guidance_rows(&d.guidance) * job->batch;
    if (!r)
        r = stage_begin(k, STAGE_DENOISE, err);
    if (!r)
        r = denoise_run(&d, k->events, k->latents, err);
    stage_end(k, STAGE_DENOISE, (double)evaluations_of(job) * total / denoise_planned_rows(&d));
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
    for (int i = 0; !r && i < (k->planning ? 1 : k->job->batch); i++) {
        float *pixels = k->pixels ? k->pixels + (k->shown > 1 ? i * plane : 0) : NULL;
        r = vae_manager_decode(k->p->vae, &k->x, how, k->latents + i * size, 1, k->h, k->w, pixels,
                               err);
        if (r < 0 || k->planning)
            break;
        if (k->x.stop && atomic_load(k->x.stop))
            r = dr_fail(err, DR_ECANCELED, "cancelled");
        if (!r)
            r = to_unit(pixels, plane, err);
        if (!r)
            to_bytes(pixels, &k->images[i]);
    }
    stage_end(k, STAGE_DECODE, k->job->batch);
    params_release(k->p->vae, vae_visit, drops(k, STAGE_DECODE));
    return r;
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
            to_bytes(k->pixels + i * plane, &k->images[i]);
    }
    if (!r && !k->planning)
        r = stage_dump(&job->stages, "image", NPY_F32, shape, 4, k->pixels, err);
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
        k->image_bytes = (size_t)job->batch * pixels;
        return 0;
    }
    k->pixels = dr_malloc(DR_TAG_JOB, (size_t)k->shown * pixels * sizeof *k->pixels);
    if (!k->pixels)
        return dr_fail(err, DR_ENOMEM, "out of memory for %d pictures", job->batch);
    for (int i = 0; i < job->batch; i++) {
        int r = img_new(job->width, job->height, 3, &k->images[i], err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int walk(struct walk *k, struct dr_error *err)
{
    const struct stages *stages = &k->job->stages;
    bool image_given = !k->planning && stage_loads(stages, "image");
    int r = stages_check(stages, evaluations_of(k->job), err);
    if (!r)
        r = allocate(k, err);
    if (!r)
        r = text(k, err);
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
    for (int i = 0; (r < 0 || k->planning) && i < k->job->batch; i++)
        img_free(&k->images[i]);
    return r;
}

/* One planning walk with so many rows a forward. */
static int plan_rows(struct pipeline *p, const struct job *job, struct backend *be, int rows,
                     const struct job_events *events, struct memory_plan *plan,
                     struct dr_error *err)
{
    struct dr_image images[JOB_BATCH];
    memset(images, 0, sizeof images);
    plan->rows = rows;
    memset(plan->stage, 0, sizeof plan->stage);
    struct walk k = { .p = p,
                      .job = job,
                      .x = { .be = be },
                      .plan = plan,
                      .planning = true,
                      .events = events,
                      .images = images };
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
    size_t last = k.image_bytes / (size_t)job->batch; /* made when its tiles are gone */
    plan->never_both = tiles < last ? tiles : last;
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
        events = NULL; /* told once */
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
    if (!pipeline_is_ready(p))
        return dr_fail(err, DR_EINTERNAL, "a pipeline that was opened for planning cannot run");
    struct memory_plan copy = *plan;
    struct walk k = { .p = p,
                      .job = job,
                      .x = { .be = p->backend, .stop = stop },
                      .plan = &copy,
                      .events = events,
                      .images = images };
    memset(images, 0, (size_t)job->batch * sizeof *images);
    dr_alloc_reset_peak();
    int r = walk(&k, err);
    if (!r)
        r = pipeline_check(p, err);
    if (p->pack && pack_check(p->pack, NULL))
        pack_discard(p->pack);
    if (r < 0) {
        for (int i = 0; i < job->batch; i++)
            img_free(&images[i]);
        return r;
    }
    for (int t = 0; t < DR_TAG_COUNT; t++)
        k.timing.tagged[t] = dr_alloc_stats((enum dr_tag)t).peak;
    *ret_timing = k.timing;
    return 0;
}
