/* job_denoise.c - see job_denoise.h. */
#include "inference/job_denoise.h"

#include <stdio.h>
#include <string.h>

#include "backend/backend.h"
#include "base/clock.h"
#include "inference/batch_manager.h"
#include "inference/denoise.h"
#include "inference/preset.h"
#include "inference/job_image.h"
#include "inference/job_mask.h"
#include "inference/job_start.h"
#include "schedulers/scheduler_factory.h"

struct denoising {
    const struct job_denoise *d;
    const struct stages *stages;
    struct denoise *picture[JOB_BATCH];
    struct batch *batch;
    struct job_start start;
    size_t n;                  /* floats of one picture's latents */
    int at;                    /* evaluation of the pictures that are not finished */
    float *timesteps, *sigmas; /* from files; NULL: the scheduler's own */
    float *together;           /* [batch, n]: the pictures' arrays as one stage; NULL: no stages */
};

static void run_release(struct denoising *k)
{
    batch_free(k->batch);
    job_start_release(&k->start);
    for (int i = 0; i < JOB_BATCH; i++)
        denoise_close(k->picture[i]);
    dr_free(k->timesteps);
    dr_free(k->sigmas);
    dr_free(k->together);
}

/* ---- stages ---- */

typedef float *(*array_fn)(struct denoise *d);

static int load(struct denoising *k, const char *name, array_fn array, bool *ret_loaded,
                struct dr_error *err)
{
    const struct job_denoise *d = k->d;
    int64_t shape[4] = { d->job->batch, d->channels, d->h, d->w };
    int r = stage_load(k->stages, name, NPY_F32, shape, 4, k->together, ret_loaded, err);
    for (int i = 0; !r && *ret_loaded && i < d->job->batch; i++)
        memcpy(array(k->picture[i]), k->together + (size_t)i * k->n, k->n * sizeof *k->together);
    return r;
}

static int dump(struct denoising *k, const char *name, array_fn array, struct dr_error *err)
{
    const struct job_denoise *d = k->d;
    int64_t shape[4] = { d->job->batch, d->channels, d->h, d->w };
    if (!k->stages->dump || !*k->stages->dump)
        return 0;
    for (int i = 0; i < d->job->batch; i++)
        memcpy(k->together + (size_t)i * k->n, array(k->picture[i]), k->n * sizeof *k->together);
    return stage_dump(k->stages, name, NPY_F32, shape, 4, k->together, err);
}

static int replace(struct denoising *k, const char *name, array_fn array, struct dr_error *err)
{
    bool loaded;
    int r = load(k, name, array, &loaded, err);
    return r ? r : dump(k, name, array, err);
}

/* A prediction that is loaded needs no model, unless the unconditional one is needed too. Neither
 * do latents that are loaded where the sampler keeps no history of predictions. */
static int on_input(void *ctx, bool *skip_forward, struct dr_error *err)
{
    struct denoising *k = ctx;
    char name[32];
    const struct sched_info *sampler = k->d->job->sched.sampler;
    bool history = sampler->vectors || guidance_state(&k->d->phases[0].guidance);
    bool needed = sampler->uncond || guidance_state(&k->d->phases[0].guidance);
    *skip_forward = (!needed && stage_loads(k->stages, stage_name("pred", k->at, name))) ||
                    (!history && stage_loads(k->stages, stage_name("latents", k->at, name)));
    return replace(k, stage_name("model_input", k->at, name), denoise_input, err);
}

static int on_pred(void *ctx, struct dr_error *err)
{
    struct denoising *k = ctx;
    char name[32];
    int at = k->at;
    bool history = k->d->job->sched.sampler->vectors > 0 ||
                   guidance_state(&k->d->phases[0].guidance);
    bool loaded;
    int r = load(k, stage_name("pred", at, name), denoise_pred, &loaded, err);
    bool skipped = !loaded && !history && stage_loads(k->stages, stage_name("latents", at, name));
    for (int i = 0; skipped && i < k->d->job->batch; i++)
        memset(denoise_pred(k->picture[i]), 0, k->n * sizeof(float));
    return r || skipped ? r : dump(k, stage_name("pred", at, name), denoise_pred, err);
}

static int on_latents(void *ctx, struct dr_error *err)
{
    struct denoising *k = ctx;
    char name[32];
    stage_name("latents", k->at, name);
    return replace(k, name, denoise_latents, err);
}

/* An array of the scheduler's: *ret_values is made when a file replaces it. */
static int settle_array(const struct denoising *k, const char *name, const float *own, int64_t n,
                        float **ret_values, struct dr_error *err)
{
    bool loaded = false;
    float *values = dr_malloc(DR_TAG_JOB, (size_t)n * sizeof *values);
    if (!values)
        return dr_fail(err, DR_ENOMEM, "out of memory for %s", name);
    memcpy(values, own, (size_t)n * sizeof *values);
    int r = stage_load(k->stages, name, NPY_F32, &n, 1, values, &loaded, err);
    if (!r)
        r = stage_dump(k->stages, name, NPY_F32, &n, 1, values, err);
    if (!r && loaded)
        *ret_values = values;
    else
        dr_free(values);
    return r;
}

/* Timesteps and sigmas: replaced if asked, written if asked. */
static int settle_times(struct denoising *k, struct dr_error *err)
{
    struct sched *s;
    int r = sched_new(&k->d->job->sched, 1, &s, err);
    if (r < 0)
        return r;
    int64_t n = sched_levels(s);
    if (sched_evaluations(s)) /* else it chooses them while it runs */
        r = settle_array(k, "timesteps", sched_timesteps(s), n, &k->timesteps, err);
    if (!r)
        r = settle_array(k, "sigmas", sched_sigmas(s), n + 1, &k->sigmas, err);
    sched_free(s);
    return r;
}

/* ---- the run ---- */

/* From these latents [n], or from noise. */
static int open_pictures(struct denoising *k, const float *latents, struct dr_error *err)
{
    const struct job_denoise *d = k->d;
    const struct job *job = d->job;
    struct denoise_spec spec = { .sched = &job->sched,
                                 .timesteps = k->timesteps,
                                 .sigmas = k->sigmas,
                                 .channels = d->channels,
                                 .h = d->h,
                                 .w = d->w,
                                 .rng = job->rng,
                                 .latents = latents,
                                 .first_step = job->image ? job->image->first_step : 0,
                                 .phases = d->phases,
                                 .n_phases = d->n_phases,
                                 .most = latents != NULL };
    int r = batch_new(d->rows, &k->batch, err);
    bool together = job->preset->together;
    for (int i = 0; !r && i < job->batch; i++) {
        uint64_t seed = job->seed + (together ? 0 : (uint64_t)i);
        struct denoise_noise noise = { .index = together ? job->first_drawn + i : 0,
                                       .count = together ? job->drawn : 1,
                                       .fresh = job->preset->fresh_steps || job->ensd,
                                       .rng = job->step_rng,
                                       .seed = seed + (uint64_t)job->ensd,
                                       .tree = job->tree_rng,
                                       .tree_seed = seed };
        spec.seed = seed;
        spec.noise = &noise;
        if (k->start.clean) {
            spec.clean = k->start.clean + (size_t)i * k->n;
            spec.start_noise = k->start.noise + (size_t)i * k->n;
            spec.generator = &k->start.rng[i];
            spec.pure = k->start.pure;
            spec.mask = job->mask ? job->mask->latents : NULL;
            spec.soft = job->mask && job->mask->soft;
        }
        r = denoise_open(&spec, &k->picture[i], err);
        if (!r)
            r = batch_add(k->batch, k->picture[i], err);
    }
    return r;
}

/* Stages of evaluations that an open run did not come to were loaded in vain. */
static int check_reached(const struct denoising *k, struct dr_error *err)
{
    const char *name;
    json_t *file;
    int at, r = 0;
    char expected[64];
    snprintf(expected, sizeof expected, "an evaluation from 000 to %03d", k->at - 1);
    json_object_foreach((json_t *)k->stages->load, name, file)
    {
        if (!r && stage_is_name(name, &at) && at >= k->at)
            r = dr_fail_field(err, DR_EINVAL, "load_stage", name, expected,
                              "the run ended before it");
    }
    return r;
}

static int step_all(struct denoising *k, struct exec *x, const struct job_events *events,
                    struct dr_error *err)
{
    const struct batch_hooks hooks = { on_input, on_pred, on_latents, k };
    int evaluations = denoise_evaluations(k->picture[0]);
    for (;;) {
        double start = dr_now();
        struct denoise *failed;
        int stepped;
        int r = batch_step(k->batch, x, &hooks, &stepped, &failed, err);
        if (r < 0)
            return r;
        if (!stepped)
            return check_reached(k, err);
        k->at++;
        if (events && events->step)
            events->step(events->ctx, k->at, evaluations, dr_now() - start);
    }
}

static int run(struct denoising *k, struct exec *x, const struct job_events *events,
               float *ret_latents, struct dr_error *err)
{
    const struct stages *stages = k->stages;
    bool planning = backend_is_plan(x->be);
    bool staged = json_object_size(stages->load) || (stages->dump && *stages->dump);
    size_t batch = (size_t)k->d->job->batch;
    int r = 0;
    if (staged && !(k->together = dr_calloc(DR_TAG_JOB, batch * k->n, sizeof *k->together)))
        return dr_fail(err, DR_ENOMEM, "out of memory for the latents of a job");
    if (!r && !planning)
        r = settle_times(k, err);
    if (!r)
        r = job_start_init(&k->start, k->d, planning, err);
    if (!r)
        r = open_pictures(k, planning ? ret_latents : NULL, err); /* noise takes only time */
    if (!r && planning)
        return batch_forward(k->batch, x, err);
    if (!r)
        r = replace(k, "latents_init", denoise_latents, err);
    if (!r)
        r = step_all(k, x, events, err);
    for (size_t i = 0; !r && i < batch; i++)
        memcpy(ret_latents + i * k->n, denoise_latents(k->picture[i]), k->n * sizeof *ret_latents);
    return r;
}

int job_denoise_run(const struct job_denoise *d, struct exec *x, const struct job_events *events,
                    float *ret_latents, struct dr_error *err)
{
    struct denoising k = { .d = d,
                           .stages = &d->job->stages,
                           .n = (size_t)(d->channels * d->h * d->w) };
    int r = run(&k, x, events, ret_latents, err);
    run_release(&k);
    return r;
}
