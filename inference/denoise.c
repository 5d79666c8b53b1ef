/* denoise.c - see denoise.h. */
#include "inference/denoise.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "inference/batch_manager.h"
#include "models/unet.h"
#include "schedulers/scheduler_factory.h"

/* The loop's own memory, all made before it starts. Arrays are [batch, n] unless said. */
struct loop {
    const struct denoise *d;
    size_t n; /* floats of one picture's latents */
    struct sched *sched[JOB_BATCH];
    struct sched_ask ask[JOB_BATCH];
    struct dr_rng *rng; /* [batch] */
    float *input, *pred;
    float *predictions; /* [batch, rows of a picture, n] */
    struct unet_row rows[2 * JOB_BATCH];
};

static void loop_release(struct loop *l)
{
    for (int i = 0; i < JOB_BATCH; i++)
        sched_free(l->sched[i]);
    dr_free(l->rng);
    dr_free(l->input);
    dr_free(l->pred);
    dr_free(l->predictions);
}

static int loop_init(struct loop *l, const struct denoise *d, struct dr_error *err)
{
    const struct job *job = d->job;
    size_t batch = (size_t)job->batch;
    memset(l, 0, sizeof *l);
    l->d = d;
    l->n = (size_t)(d->channels * d->h * d->w);
    l->rng = dr_calloc(DR_TAG_JOB, batch, sizeof *l->rng);
    l->input = dr_calloc(DR_TAG_JOB, batch * l->n, sizeof *l->input);
    l->pred = dr_calloc(DR_TAG_JOB, batch * l->n, sizeof *l->pred);
    l->predictions = dr_calloc(DR_TAG_JOB, batch * l->n * (size_t)guidance_rows(&d->guidance),
                               sizeof *l->predictions);
    if (!l->rng || !l->input || !l->pred || !l->predictions)
        return dr_fail(err, DR_ENOMEM, "out of memory for the latents of %d pictures", job->batch);
    for (int i = 0; i < job->batch; i++) {
        dr_rng_seed(&l->rng[i], job->rng, job->seed + (uint64_t)i);
        int r = sched_new(&job->sched, l->n, &l->sched[i], err);
        if (r < 0)
            return r;
    }
    return 0;
}

/* [batch, channels, h, w] */
static void latent_shape(const struct loop *l, int64_t shape[4])
{
    shape[0] = l->d->job->batch;
    shape[1] = l->d->channels;
    shape[2] = l->d->h;
    shape[3] = l->d->w;
}

static int load_latents(const struct loop *l, const char *name, float *data, bool *ret_loaded,
                        struct dr_error *err)
{
    int64_t shape[4];
    latent_shape(l, shape);
    return stage_load(&l->d->job->stages, name, NPY_F32, shape, 4, data, ret_loaded, err);
}

static int dump_latents(const struct loop *l, const char *name, const float *data,
                        struct dr_error *err)
{
    int64_t shape[4];
    latent_shape(l, shape);
    return stage_dump(&l->d->job->stages, name, NPY_F32, shape, 4, data, err);
}

/* Timesteps and sigmas: replaced if asked, written if asked. */
static int settle_times(struct loop *l, struct dr_error *err)
{
    const struct stages *stages = &l->d->job->stages;
    int64_t n = sched_evaluations(l->sched[0]), n_sigmas = n + 1;
    bool new_times = false, new_sigmas = false;
    float *times = dr_malloc(DR_TAG_JOB, (size_t)(n + n_sigmas) * sizeof *times);
    if (!times)
        return dr_fail(err, DR_ENOMEM, "out of memory for timesteps");
    float *sigmas = times + n;
    memcpy(times, sched_timesteps(l->sched[0]), (size_t)n * sizeof *times);
    memcpy(sigmas, sched_sigmas(l->sched[0]), (size_t)n_sigmas * sizeof *sigmas);
    int r = stage_load(stages, "timesteps", NPY_F32, &n, 1, times, &new_times, err);
    if (!r)
        r = stage_load(stages, "sigmas", NPY_F32, &n_sigmas, 1, sigmas, &new_sigmas, err);
    for (int i = 0; !r && (new_times || new_sigmas) && i < l->d->job->batch; i++)
        r = sched_replace(l->sched[i], new_times ? times : NULL, new_sigmas ? sigmas : NULL, err);
    if (!r)
        r = stage_dump(stages, "timesteps", NPY_F32, &n, 1, times, err);
    if (!r)
        r = stage_dump(stages, "sigmas", NPY_F32, &n_sigmas, 1, sigmas, err);
    dr_free(times);
    return r;
}

static int begin(struct loop *l, struct dr_error *err)
{
    int batch = l->d->job->batch;
    bool loaded;
    float scale = (float)sched_init_noise_scale(l->sched[0]);
    for (int i = 0; i < batch; i++)
        dr_rng_normal(&l->rng[i], l->input + (size_t)i * l->n, l->n);
    for (size_t i = 0; i < (size_t)batch * l->n; i++)
        l->input[i] *= scale;
    int r = load_latents(l, "latents_init", l->input, &loaded, err);
    if (!r)
        r = dump_latents(l, "latents_init", l->input, err);
    for (int i = 0; !r && i < batch; i++)
        r = sched_begin(l->sched[i], l->input + (size_t)i * l->n, 0, err);
    return r;
}

/* Asks every picture's scheduler; the questions' inputs stand together in l->input. False at the
 * end. */
static bool ask_all(struct loop *l)
{
    for (int i = 0; i < l->d->job->batch; i++) {
        float *input = l->input + (size_t)i * l->n;
        if (!sched_next(l->sched[i], &l->ask[i]))
            return false;
        memcpy(input, l->ask[i].x, l->n * sizeof *input);
        l->ask[i].x = input;
    }
    return true;
}

/* The model's answer to all questions, guided, in l->pred. */
static int predict(struct loop *l, struct dr_error *err)
{
    const struct denoise *d = l->d;
    int each = guidance_rows(&d->guidance), batch = d->job->batch;
    size_t stride = (size_t)each * l->n;
    for (int i = 0; i < batch; i++)
        guidance_expand(&d->guidance, &l->ask[i], l->predictions + (size_t)i * stride, l->n,
                        l->rows + i * each);
    int r = batch_forward(d->unet, d->x, l->rows, batch * each, d->rows, d->h, d->w, err);
    if (r < 0)
        return r;
    for (int i = 0; i < batch; i++)
        guidance_combine(&d->guidance, l->predictions + (size_t)i * stride, l->n,
                         l->pred + (size_t)i * l->n);
    for (size_t i = 0; i < (size_t)batch * l->n; i++)
        if (!isfinite(l->pred[i]))
            return dr_fail(err, DR_EFORMAT,
                           "the model's prediction is not finite at evaluation %d: its weights "
                           "overflow or hold NaN",
                           l->ask[0].evaluation);
    return 0;
}

/* One evaluation. What is loaded is not computed: a loaded prediction needs no model, nor do loaded
 * latents where the sampler keeps no history of predictions. */
static int evaluate(struct loop *l, struct dr_error *err)
{
    const struct job *job = l->d->job;
    int at = l->ask[0].evaluation;
    char name[32];
    bool loaded;
    int r = load_latents(l, stage_name("model_input", at, name), l->input, &loaded, err);
    if (!r)
        r = dump_latents(l, name, l->input, err);
    if (r < 0)
        return r;
    bool history = job->sched.sampler->vectors > 0;
    bool skip = !history && stage_loads(&job->stages, stage_name("latents", at, name));
    r = load_latents(l, stage_name("pred", at, name), l->pred, &loaded, err);
    if (!r && !loaded && skip)
        memset(l->pred, 0, (size_t)job->batch * l->n * sizeof *l->pred);
    else if (!r && !loaded)
        r = predict(l, err);
    if (!r && (loaded || !skip))
        r = dump_latents(l, name, l->pred, err);
    for (int i = 0; !r && i < job->batch; i++)
        r = sched_feed(l->sched[i], l->pred + (size_t)i * l->n, &l->rng[i], err);
    return r;
}

/* After the evaluation the input array is free: it carries the latents to and from their stage. */
static int settle_latents(struct loop *l, struct dr_error *err)
{
    char name[32];
    bool loaded;
    int batch = l->d->job->batch;
    for (int i = 0; i < batch; i++)
        memcpy(l->input + (size_t)i * l->n, sched_latents(l->sched[i]), l->n * sizeof(float));
    stage_name("latents", l->ask[0].evaluation, name);
    int r = load_latents(l, name, l->input, &loaded, err);
    if (!r)
        r = dump_latents(l, name, l->input, err);
    for (int i = 0; !r && loaded && i < batch; i++)
        memcpy(sched_latents(l->sched[i]), l->input + (size_t)i * l->n, l->n * sizeof(float));
    return r;
}

static int run(struct loop *l, const struct job_events *events, struct dr_error *err)
{
    int evaluations = sched_evaluations(l->sched[0]);
    while (ask_all(l)) {
        double start = dr_now();
        if (l->d->x->stop && atomic_load(l->d->x->stop))
            return dr_fail(err, DR_ECANCELED, "cancelled");
        int r = evaluate(l, err);
        if (!r)
            r = settle_latents(l, err);
        if (r < 0)
            return r;
        if (events && events->step)
            events->step(events->ctx, l->ask[0].evaluation + 1, evaluations, dr_now() - start);
    }
    return 0;
}

/* A forward of the most rows, the kinds in turn, the last one of `last`. */
static int plan_forward(struct loop *l, const struct unet_context *last,
                        const struct unet_context *other, struct dr_error *err)
{
    int n = l->d->rows, each = guidance_rows(&l->d->guidance);
    for (int i = 0; i < n; i++) /* rows of a picture have its latents; the last one's are whole */
        l->rows[i] = (struct unet_row){ .latent = l->input + (size_t)((i + n % each) / each) * l->n,
                                        .pred = l->predictions,
                                        .context = (n - 1 - i) % 2 ? other : last };
    return unet_forward(l->d->unet, l->d->x, l->rows, n, l->d->h, l->d->w, err);
}

/* On the plan backend. Rows of the negative may need less of all than those of the positive. */
static int plan(struct loop *l, struct dr_error *err)
{
    const struct guidance *g = &l->d->guidance;
    bool guided = guidance_on(g);
    int r = plan_forward(l, g->positive, guided ? g->negative : g->positive, err);
    return r || !guided || l->d->rows % 2 == 0 ? r : plan_forward(l, g->negative, g->positive, err);
}

int denoise_planned_rows(const struct denoise *d)
{
    return guidance_on(&d->guidance) && d->rows % 2 ? 2 * d->rows : d->rows;
}

int denoise_run(const struct denoise *d, const struct job_events *events, float *ret_latents,
                struct dr_error *err)
{
    struct loop *l = dr_calloc(DR_TAG_JOB, 1, sizeof *l);
    if (!l)
        return dr_fail(err, DR_ENOMEM, "out of memory for the denoising loop");
    int r = loop_init(l, d, err);
    if (!r && backend_is_plan(d->x->be)) {
        r = plan(l, err);
        goto out;
    }
    if (!r)
        r = settle_times(l, err);
    if (!r)
        r = begin(l, err);
    if (!r)
        r = run(l, events, err);
    for (int i = 0; !r && i < d->job->batch; i++)
        memcpy(ret_latents + (size_t)i * l->n, sched_latents(l->sched[i]),
               l->n * sizeof *ret_latents);
out:
    loop_release(l);
    dr_free(l);
    return r;
}
