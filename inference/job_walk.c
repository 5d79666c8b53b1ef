/* job_walk.c - see job_walk.h: what all stages share, and the context and denoise stages. */
#include "inference/job_walk.h"

#include <limits.h>

#include "base/clock.h"
#include "base/log.h"
#include "inference/denoise.h"
#include "inference/job_denoise.h"
#include "inference/job_loras.h"
#include "inference/job_mask.h"
#include "inference/job_prompts.h"
#include "inference/job_variants.h"
#include "models/unet.h"

static int run_pass(void *ctx, struct exec *x, struct dr_error *err)
{
    struct job_walk *k = ctx;
    x->wrap = k->job->wrap;
    int r = k->pass(k, x, err);
    k->tables = k->job->tally.bytes[DR_TAG_ACTIVATION];
    return r;
}

static int plan_stage(struct job_walk *k, enum job_stage stage, double repeats,
                      struct dr_error *err)
{
    struct stage_use *use = &k->plan->stage[stage];
    struct pass_need need;
    int r = pass_measure(k->x.be, run_pass, k, &need, err);
    if (r < 0)
        return r;
    use->workspace = need.workspace;
    use->kept += k->tables;
    use->mapped = need.totals.mapped_bytes;
    use->flops = need.totals.flops * repeats;
    return 0;
}

static void log_stage(const struct job_walk *k, enum job_stage stage)
{
    struct dr_log_fields f = { .n = 0 };
    dr_log_real(&f, "seconds", k->timing.seconds[stage]);
    dr_log_int(&f, "bytes", (int64_t)k->plan->stage[stage].workspace);
    dr_log_event(DR_LOG_DEBUG, "engine", &f, "stage %s", job_stage_name(stage));
}

int walk_stage(struct job_walk *k, enum job_stage stage, pass_fn *fn, double repeats,
               struct dr_error *err)
{
    k->stage = stage;
    k->pass = fn;
    k->flops = 0;
    if (k->planning)
        return plan_stage(k, stage, repeats, err);
    double started = dr_now();
    if (k->events && k->events->stage)
        k->events->stage(k->events->ctx, stage);
    int r = pass_run(&k->x, k->plan->stage[stage].workspace, run_pass, k, err);
    k->timing.seconds[stage] = dr_now() - started - k->handing;
    k->handing = 0;
    log_stage(k, stage);
    return r;
}

bool walk_drops(const struct job_walk *k, enum job_stage stage)
{
    return !k->planning && k->plan->drop[stage];
}

int walk_begin(struct job_walk *k, struct dr_error *err)
{
    const struct job *job = k->job;
    int64_t factor = k->p->latent_factor;
    k->h = job->height / factor;
    k->w = job->width / factor;
    k->channels = unet_arch(k->p->unet)->out_channels;
    bool all = (job->stages.dump && *job->stages.dump) || stage_loads(&job->stages, "image");
    k->shown = all ? job->batch : 1;
    size_t pixels = (size_t)(3 * job->width * job->height);
    int count = job_evaluations(job);
    int r = stages_check(&job->stages, count ? count : SCHED_MAX_OPEN, err);
    if (r < 0)
        return r;
    k->latents = dr_calloc(DR_TAG_JOB, (size_t)job->batch * (size_t)(k->channels * k->h * k->w),
                           sizeof *k->latents);
    if (!k->latents)
        return dr_fail(err, DR_ENOMEM, "out of memory for %d latents", job->batch);
    if (k->planning) {
        k->pixel_bytes = (size_t)k->shown * pixels * sizeof *k->pixels;
        k->image_bytes = pixels + (job->mask ? job_mask_finish_bytes(job->mask) : 0);
        return 0;
    }
    k->pixels = dr_malloc(DR_TAG_JOB, (size_t)k->shown * pixels * sizeof *k->pixels);
    if (!k->pixels)
        return dr_fail(err, DR_ENOMEM, "out of memory for %d pictures", job->batch);
    for (int i = 0; !r && i < (k->images ? job->batch : 1); i++)
        r = img_new(job->width, job->height, 3, k->images ? &k->images[i] : &k->image, err);
    return r;
}

static void free_phases(struct job_walk *k)
{
    for (int i = 0; i < k->n_phases; i++) {
        for (int row = 0; row < PROMPT_ROWS; row++)
            unet_context_free(k->phases[i].context[row]);
        variant_close(k, k->phases[i].variant);
    }
    dr_free(k->phases);
    k->phases = NULL;
    k->n_phases = 0;
}

void walk_release(struct job_walk *k)
{
    free_phases(k);
    dr_free(k->latents);
    dr_free(k->moments);
    dr_free(k->pixels);
    img_free(&k->image);
}

/* The weights of each phase. */
static int open_phases(struct job_walk *k, struct dr_error *err)
{
    int first[LORA_PHASES], n = job_loras_phases(k->job, first), r = 0;
    k->phases = dr_calloc(DR_TAG_JOB, (size_t)n, sizeof *k->phases);
    if (!k->phases)
        return dr_fail(err, DR_ENOMEM, "out of memory for %d phases", n);
    k->n_phases = n;
    for (int i = 0; !r && i < n; i++) {
        k->phases[i].first = first[i];
        r = variant_open(k, k->p->unet, first[i], &k->phases[i].variant, err);
    }
    return r;
}

/* Where the next phase of weights begins. */
static int phase_end(const struct job_walk *k, const struct walk_phase *phase)
{
    return phase + 1 < k->phases + k->n_phases ? phase[1].first : INT_MAX;
}

/* Keys and values of the prompts, which live until the denoising is over. */
static int make_contexts(struct job_walk *k, struct exec *x, struct walk_phase *phase,
                         struct dr_error *err)
{
    const struct prompt_embeds *m = &k->job->prompts;
    bool given = stage_loads(&k->job->stages, "prompt_embeds");
    struct exec own = *x;
    int r = 0;
    own.variant = phase->variant;
    for (int i = 0; !r && i < m->rows; i++) {
        if (!job_prompts_uses(k->job, i, phase->first, phase_end(k, phase)))
            continue;
        const float *text = m->text + i * m->length * m->width;
        bool zeros = m->zero_negative && i == 0 && !given; /* all that is known when planning */
        r = unet_context_new(k->p->unet, &own, k->planning && !zeros ? NULL : text, m->tokens[i],
                             m->pooled + i * m->pooled_width, m->time_ids + i * m->n_time_ids,
                             &phase->context[i], err);
        phase->conditioning[i] = unet_prompt(phase->context[i]);
    }
    return r;
}

static int make_all_contexts(void *ctx, struct exec *x, struct dr_error *err)
{
    struct job_walk *k = ctx;
    int r = 0;
    for (int i = 0; !r && i < k->n_phases; i++)
        r = make_contexts(k, x, &k->phases[i], err);
    return r;
}

static int denoise(void *ctx, struct exec *x, struct dr_error *err)
{
    struct job_walk *k = ctx;
    struct job_phases phases;
    struct job_denoise d = { .job = k->job,
                             .rows = k->plan->rows,
                             .encoder = k->p->encoder,
                             .moments = k->moments,
                             .channels = k->channels,
                             .h = k->h,
                             .w = k->w };
    int r = job_phases_make(k->job, k->p->unet, k->phases, k->n_phases, &phases, err);
    d.phases = phases.phase;
    d.n_phases = phases.n;
    if (!r)
        r = job_denoise_run(&d, x, k->events, k->latents, err);
    job_phases_release(&phases);
    return r;
}

static void count_contexts(struct job_walk *k)
{
    for (int i = 0; i < k->n_phases; i++)
        for (int row = 0; row < k->job->prompts.rows; row++) {
            const struct unet_context *context = k->phases[i].context[row];
            size_t bytes = context ? unet_context_bytes(context) : 0;
            k->plan->stage[STAGE_CONTEXT].kept += bytes;
            k->plan->stage[STAGE_DENOISE].kept += bytes;
        }
}

int walk_denoise(struct job_walk *k, struct dr_error *err)
{
    int r = params_acquire(k->p->unet, unet_visit, err);
    if (!r)
        r = open_phases(k, err);
    if (!r)
        r = walk_stage(k, STAGE_CONTEXT, make_all_contexts, 1, err);
    if (!r && k->planning)
        count_contexts(k);
    if (!r)
        r = walk_stage(k, STAGE_DENOISE, denoise, job_full_evaluations(k->job), err);
    free_phases(k);
    params_release(k->p->unet, unet_visit, walk_drops(k, STAGE_DENOISE));
    return r;
}
