/* job_run.c - see job_run.h. */
#include "inference/job_run.h"

#include <string.h>

#include "inference/job_image.h"
#include "inference/job_walk.h"
#include "models/unet.h"
#include "schedulers/scheduler_factory.h"

int job_evaluations(const struct job *job)
{
    int first = job->image ? job->image->first_step : 0;
    return sched_count(&job->sched) - sched_count_before(&job->sched, first);
}

double job_full_evaluations(const struct job *job)
{
    struct guidance g = job_guidance(job);
    int n = job_evaluations(job), most = guidance_rows(&g);
    struct unet_row rows[UNET_ROWS];
    struct sched *s = NULL;
    double sum = 0;
    if (!job->guiders.n || !n || sched_new(&job->sched, 1, &s, NULL) < 0)
        return n;
    int first = job->image ? job->image->first_step : 0;
    int before = sched_count_before(&job->sched, first);
    for (int e = 0; e < n; e++) {
        struct sched_ask ask = { .step = sched_step_of(s, before + e) - first,
                                 .steps = job->sched.steps - first };
        sum += (double)guidance_expand(&g, &ask, NULL, 0, rows) / most;
    }
    sched_free(s);
    return sum;
}

struct guidance job_guidance(const struct job *job)
{
    return (struct guidance){ .scale = job->guidance_scale,
                              .rescale = job->guidance_rescale,
                              .guiders = job->guiders.n ? &job->guiders : NULL,
                              .uncond = sched_wants_uncond(&job->sched) || job->prompt.composed };
}

/* exec.watch: how far the stage is, by the FLOPs of the ops so far. */
static int watch_op(struct exec *x, const struct op *op, struct dr_error *err)
{
    struct job_walk *k = x->watcher;
    double all = k->plan->stage[k->stage].flops;
    (void)err;
    if (all > 0)
        k->events->part(k->events->ctx, k->stage, k->flops < all ? k->flops / all : 1);
    k->flops += backend_need(x->be, op).flops;
    return 0;
}

static int walk(struct job_walk *k, struct dr_error *err)
{
    int r = walk_begin(k, err);
    if (!r)
        r = walk_text(k, err);
    bool draws = !stage_loads(&k->job->stages, "image");
    if (!r && draws)
        r = walk_encode(k, err);
    if (!r && draws)
        r = walk_denoise(k, err);
    if (!r)
        r = walk_decode(k, err);
    if (r == DR_ECANCELED && k->x.stop && atomic_load(k->x.stop))
        dr_fail(err, DR_ECANCELED, "cancelled");
    return r;
}

/* What of the model's weights stays in memory: of stages that ran and whose weights were not given
 * back. */
static size_t resident_weights(const struct memory_plan *plan)
{
    size_t bytes = 0;
    for (int s = 0; s < STAGE_COUNT; s++)
        if (!plan->drop[s == STAGE_CONTEXT ? STAGE_DENOISE : s])
            bytes += plan->stage[s].mapped;
    return bytes;
}

static int run(struct job_walk *k, struct dr_error *err)
{
    struct stages *stages = &k->job->stages;
    stages->stop = k->x.stop;
    dr_tally_reset_peak(&k->job->tally);
    int r = stages_open(stages, err);
    if (!r)
        r = walk(k, err);
    stages_close(stages);
    stages->stop = NULL;
    walk_release(k);
    prompt_release(&k->job->prompts);
    k->p->mapped = resident_weights(k->plan);
    return r ? r : pipeline_check_after(k->p, k->x.stop, err);
}

int job_run(struct pipeline *p, struct job *job, const struct memory_plan *plan,
            const struct job_events *events, const atomic_int *stop, struct dr_image *images,
            struct job_timing *ret_timing, struct dr_error *err)
{
    struct memory_plan copy = *plan;
    struct job_walk k = { .p = p,
                          .job = job,
                          .x = { .be = p->backend, .stop = stop },
                          .plan = &copy,
                          .events = events,
                          .images = images };
    if (!p->loaded)
        return dr_fail(err, DR_ESTATE, "the model's weights are not loaded");
    if (images)
        memset(images, 0, (size_t)job->batch * sizeof *images);
    if (events && events->part) {
        k.x.watch = watch_op;
        k.x.watcher = &k;
    }
    dr_alloc_keep(plan->keep ? memory_block(plan) : 0);
    struct dr_tally *before = dr_tally_use(&job->tally);
    int r = run(&k, err);
    dr_tally_use(before);
    for (int i = 0; r < 0 && images && i < job->batch; i++)
        img_free(&images[i]);
    if (r < 0)
        return r;
    for (int t = 0; t < DR_TAG_COUNT; t++)
        k.timing.tagged[t] = p->tally.bytes[t] + job->tally.peak[t];
    *ret_timing = k.timing;
    return 0;
}
