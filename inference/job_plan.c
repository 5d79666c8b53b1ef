/* job_plan.c - see job_plan.h. */
#include "inference/job_plan.h"

#include <string.h>

#include "backend/measure.h"
#include "base/system.h"
#include "inference/guidance.h"
#include "inference/job_image.h"
#include "inference/job_prompts.h"
#include "inference/job_walk.h"
#include "schedulers/scheduler_factory.h"

/* Whether the files of stages are what the job needs, by their headers. */
static int try_stages(const struct job_walk *k, struct dr_error *err)
{
    const struct stages *stages = &k->job->stages;
    const struct prompt_embeds *m = &k->job->prompts;
    int evaluations = job_evaluations(k->job);
    int64_t batch = k->job->batch;
    int64_t levels = evaluations ? sched_count(&k->job->sched) : k->job->sched.steps;
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
        { "timesteps", NPY_F32, true, 1, { levels } },
        { "sigmas", NPY_F32, true, 1, { levels + 1 } },
        { "init_image", NPY_F32, k->job->image, 4, { 1, 3, k->job->height, k->job->width } },
        { "init_latents", NPY_F32, k->job->image, 4, { batch, k->channels, k->h, k->w } },
        { "noise", NPY_F32, k->job->image, 4, { batch, k->channels, k->h, k->w } },
        { "latents_init", NPY_F32, true, 4, { batch, k->channels, k->h, k->w } },
        { "image", NPY_F32, true, 4, { batch, 3, k->job->height, k->job->width } },
    };
    const int64_t latents[4] = { batch, k->channels, k->h, k->w };
    const char *name;
    json_t *file;
    static const char *const of_picture[] = { "init_image", "init_latents", "noise" };
    int r = 0, evaluation;
    bool loaded;
    for (size_t i = 0; !k->job->image && i < sizeof of_picture / sizeof *of_picture; i++)
        if (stage_loads(stages, of_picture[i]))
            return stage_refuse(stages, of_picture[i], "a file",
                                "none: the job does not begin with a picture", err);
    if (!evaluations && stage_loads(stages, "timesteps"))
        return stage_refuse(stages, "timesteps", "a file", "none: the sampler chooses its own",
                            err);
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

/* The job's peaks by tag since they were reset, joined with earlier ones. */
static void join_peaks(const struct job_walk *k, size_t peaks[DR_TAG_COUNT])
{
    for (int t = 0; t < DR_TAG_COUNT; t++)
        if (k->job->tally.peak[t] > peaks[t])
            peaks[t] = k->job->tally.peak[t];
}

/* The stages that depend on how many rows a forward has; peaks: their own. */
static int plan_denoise(struct job_walk *k, size_t peaks[DR_TAG_COUNT], struct dr_error *err)
{
    struct memory_plan *plan = k->plan;
    memset(&plan->stage[STAGE_CONTEXT], 0, sizeof *plan->stage);
    memset(&plan->stage[STAGE_DENOISE], 0, sizeof *plan->stage);
    memset(peaks, 0, DR_TAG_COUNT * sizeof *peaks);
    dr_tally_reset_peak(&k->job->tally);
    int r = walk_denoise(k, err);
    join_peaks(k, peaks);
    return r;
}

/* Everything that follows from the stages and these peaks of the job. */
static void sum_up(const struct job_walk *k, const size_t peaks[DR_TAG_COUNT])
{
    struct memory_plan *plan = k->plan;
    size_t activation = 0, private_weights = pipeline_unmade_bytes(k->p) + k->variant_use.missing;
    plan->flops = 0;
    for (int s = 0; s < STAGE_COUNT; s++) {
        size_t now = plan->stage[s].workspace + plan->stage[s].kept;
        activation = now > activation ? now : activation;
        plan->flops += plan->stage[s].flops;
    }
    if (!job_evaluations(k->job))
        plan->flops = 0; /* unknown */
    plan->held = k->idle + dr_alloc_kept();
    for (int t = 0; t < DR_TAG_COUNT; t++) {
        plan->tagged[t] = k->p->tally.bytes[t] + peaks[t];
        if (t != DR_TAG_ACTIVATION)
            plan->held += k->p->tally.bytes[t] + k->job->tally.bytes[t];
    }
    size_t tiles = k->tile_bytes > peaks[DR_TAG_JOB] ? k->tile_bytes - peaks[DR_TAG_JOB] : 0;
    plan->tagged[DR_TAG_ACTIVATION] = activation;
    plan->tagged[DR_TAG_JOB] += tiles + k->pixel_bytes;
    plan->tagged[DR_TAG_IMAGE] += k->image_bytes;
    plan->tagged[DR_TAG_PROMPT] += k->prompt_bytes;
    plan->tagged[DR_TAG_WEIGHTS] += private_weights;
    plan->variants = k->variant_use;
    plan->pictures = tiles + k->pixel_bytes + k->image_bytes;
    /* the only picture's bytes are first touched when the workspace is gone */
    plan->never_both = k->job->batch > 1 ? 0 : k->image_bytes;
    plan->unmapped = 0;
    for (int s = 0; s < STAGE_COUNT && !pipeline_is_loaded(k->p); s++)
        plan->unmapped += plan->stage[s].mapped;
    memory_decide(plan);
}

/* With as many rows a forward as there are, halved while the job takes more than half of what is
 * allowed. */
static int plan_rows(struct job_walk *k, struct dr_error *err)
{
    struct guidance g = job_guidance(k->job);
    int each = guidance_rows(&g) + job_prompts_more(k->job);
    size_t fixed[DR_TAG_COUNT] = { 0 }, denoise[DR_TAG_COUNT], peaks[DR_TAG_COUNT];
    k->plan->rows = each * k->job->batch < UNET_ROWS ? each * k->job->batch : UNET_ROWS;
    join_peaks(k, fixed);
    int r = plan_denoise(k, denoise, err);
    dr_tally_reset_peak(&k->job->tally);
    if (!r)
        r = walk_decode(k, err);
    join_peaks(k, fixed);
    while (!r) {
        for (int t = 0; t < DR_TAG_COUNT; t++)
            peaks[t] = fixed[t] > denoise[t] ? fixed[t] : denoise[t];
        sum_up(k, peaks);
        if (k->plan->rows <= each || k->plan->peak <= k->plan->limit / 2)
            break;
        k->plan->rows = (k->plan->rows + 1) / 2;
        r = plan_denoise(k, denoise, err);
    }
    return r;
}

static int plan_all(struct job_walk *k, struct dr_error *err)
{
    const struct job *job = k->job;
    int r = guiders_check(&job->guiders, &job->sched, job->image ? job->image->first_step : 0,
                          job->prompt.guidance, err);
    if (!r)
        r = walk_begin(k, err);
    dr_tally_reset_peak(&k->job->tally);
    if (!r)
        r = walk_text(k, err);
    if (!r)
        r = walk_encode(k, err);
    if (!r)
        r = try_stages(k, err);
    return r ? r : plan_rows(k, err);
}

int job_plan(struct pipeline *p, struct job *job, const struct memory_budget *budget,
             const struct job_events *events, struct memory_plan *ret_plan, struct dr_error *err)
{
    struct memory_plan plan;
    struct job_walk k = { .p = p,
                          .job = job,
                          .x = { .be = p->plan },
                          .plan = &plan,
                          .planning = true,
                          .events = events,
                          .idle = budget->idle };
    memset(&plan, 0, sizeof plan);
    plan.baseline = budget->baseline;
    plan.asked = budget->limit;
    system_memory("", &plan.system);
    struct dr_tally *before = dr_tally_use(&job->tally);
    int r = plan_all(&k, err);
    walk_release(&k);
    dr_tally_use(before);
    if (!r)
        *ret_plan = plan;
    return r;
}
