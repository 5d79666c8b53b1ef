/* int8_samples.c - see int8_samples.h. */
#include "inference/int8_samples.h"

#include <math.h>
#include <string.h>

#include "inference/sdxl_worker.h"
#include "models/clip_text.h"
#include "models/unet.h"

static const char *const captions[SAMPLE_CAPTIONS] = {
    "a red circle left of a blue square",
    "a photograph of a mountain lake at dawn",
};

/* One walk that needs a workspace: first on a plan, for its size. */
struct walk {
    struct pipeline *p;
    struct int8_samples *s;
    int caption;      /* of the text walk */
    int first, count; /* rows of the forward walk */
    float *preds;
    int (*fn)(struct walk *w, struct exec *x, struct dr_error *err);
};

static int walk_run(struct walk *w, struct int8_watch watch, const atomic_int *stop,
                    struct dr_error *err)
{
    struct exec planned = { .be = NULL };
    struct exec x = { .be = w->p->backend, .stop = stop, .watch = watch.fn, .watcher = watch.ctx };
    int r = backend_open_plan(x.be, &planned.be, err);
    if (r < 0)
        return r;
    r = workspace_new(planned.be, SIZE_MAX, &planned.ws, err);
    if (!r)
        r = w->fn(w, &planned, err);
    if (!r)
        r = workspace_new(x.be, workspace_peak(planned.ws), &x.ws, err);
    if (!r)
        r = w->fn(w, &x, err);
    workspace_free(x.ws);
    workspace_free(planned.ws);
    backend_close(planned.be);
    return r;
}

static int text_walk(struct walk *w, struct exec *x, struct dr_error *err)
{
    return prompt_encode(&w->p->encoders, x, &w->s->embeds[w->caption], err);
}

/* Contexts of all captions, then rows [first, first + count). */
static int forward_walk(struct walk *w, struct exec *x, struct dr_error *err)
{
    struct unet_context *contexts[SAMPLE_CAPTIONS] = { NULL };
    struct unet_row rows[SAMPLE_ROWS];
    const struct int8_samples *s = w->s;
    int r = 0;
    for (int i = 0; i < SAMPLE_CAPTIONS && !r; i++) {
        const struct prompt_embeds *m = &s->embeds[i];
        r = unet_context_new(w->p->unet, x, m->text, m->length, m->pooled, m->time_ids,
                             &contexts[i], err);
    }
    for (int i = 0; i < w->count; i++)
        rows[i] = (struct unet_row){ .latent = s->latents + (size_t)(w->first + i) * s->values,
                                     .timestep = s->timestep[w->first + i],
                                     .context = contexts[(w->first + i) % SAMPLE_CAPTIONS],
                                     .pred = w->preds + (size_t)i * s->values };
    if (!r)
        r = unet_forward(w->p->unet, x, rows, w->count, s->h, s->w, err);
    for (int i = 0; i < SAMPLE_CAPTIONS; i++)
        unet_context_free(contexts[i]);
    return r;
}

/* The job that draws a caption. */
static int caption_job(struct pipeline *p, int caption, struct job *ret, struct dr_error *err)
{
    struct request q;
    int64_t edge = checkpoint_default_size(p->checkpoint);
    edge = edge < SAMPLE_EDGE ? edge : SAMPLE_EDGE;
    json_t *json = json_pack("{s:s,s:I,s:I,s:i,s:s,s:f,s:i}", "prompt", captions[caption], "width",
                             (json_int_t)edge, "height", (json_int_t)edge, "steps", SAMPLE_STEPS,
                             "sampler", "ddim", "guidance_scale", 1.0, "seed", caption);
    int r = json ? request_parse(json, "", NULL, &q, err)
                 : dr_fail(err, DR_ENOMEM, "out of memory for a request");
    json_decref(json);
    if (r < 0)
        return r;
    r = sdxl_job(&q, p, ret, err);
    request_free(&q);
    return r;
}

/* Drawing all captions side by side. */
struct drawing {
    struct pipeline *p;
    struct int8_samples *s;
    struct sched *sched[SAMPLE_CAPTIONS];
    struct dr_rng rng[SAMPLE_CAPTIONS];
    float *preds; /* [SAMPLE_CAPTIONS, values] */
};

static int begin_caption(struct drawing *d, int caption, const struct job *job,
                         const atomic_int *stop, struct dr_error *err)
{
    struct int8_samples *s = d->s;
    struct walk w = { .p = d->p, .s = s, .caption = caption };
    w.fn = text_walk;
    int r = prompt_tokenize(&d->p->encoders, &job->prompt, &s->embeds[caption], err);
    if (!r)
        r = walk_run(&w, (struct int8_watch){ NULL, NULL }, stop, err);
    if (!r)
        r = sched_new(&job->sched, s->values, &d->sched[caption], err);
    if (r < 0)
        return r;
    float *noise = d->preds + (size_t)caption * s->values;
    float scale = (float)sched_init_noise_scale(d->sched[caption]);
    dr_rng_seed(&d->rng[caption], DR_RNG_CPU, job->seed);
    dr_rng_normal(&d->rng[caption], noise, s->values);
    for (size_t i = 0; i < s->values; i++)
        noise[i] *= scale;
    return sched_begin(d->sched[caption], noise, 0, err);
}

static int draw(struct drawing *d, const atomic_int *stop, struct dr_error *err)
{
    struct int8_samples *s = d->s;
    struct sched_ask ask;
    int r = 0;
    for (int step = 0; step < SAMPLE_STEPS && !r; step++) {
        struct walk w = { .p = d->p, .s = s, .first = s->n, .count = SAMPLE_CAPTIONS };
        w.preds = d->preds;
        w.fn = forward_walk;
        for (int i = 0; i < SAMPLE_CAPTIONS; i++, s->n++) {
            if (!sched_next(d->sched[i], &ask))
                return dr_fail(err, DR_EINTERNAL, "a sampler that ended early");
            memcpy(s->latents + (size_t)s->n * s->values, ask.x, s->values * sizeof *ask.x);
            s->timestep[s->n] = ask.timestep;
        }
        r = walk_run(&w, (struct int8_watch){ NULL, NULL }, stop, err);
        for (int i = 0; i < SAMPLE_CAPTIONS && !r; i++)
            r = sched_feed(d->sched[i], d->preds + (size_t)i * s->values, &d->rng[i], err);
    }
    return r;
}

static int make(struct drawing *d, const atomic_int *stop, struct dr_error *err)
{
    struct int8_samples *s = d->s;
    int r = 0;
    for (int i = 0; i < SAMPLE_CAPTIONS && !r; i++) {
        struct job job;
        r = caption_job(d->p, i, &job, err);
        if (r < 0)
            return r;
        if (!i) {
            s->h = job.height / d->p->latent_factor;
            s->w = job.width / d->p->latent_factor;
            s->values = (size_t)(unet_arch(d->p->unet)->out_channels * s->h * s->w);
            s->latents = dr_malloc(DR_TAG_JOB, SAMPLE_ROWS * s->values * sizeof *s->latents);
            d->preds = dr_malloc(DR_TAG_JOB, SAMPLE_CAPTIONS * s->values * sizeof *d->preds);
        }
        r = s->latents && d->preds ? begin_caption(d, i, &job, stop, err)
                                   : dr_fail(err, DR_ENOMEM, "out of memory for samples");
        job_release(&job);
    }
    return r ? r : draw(d, stop, err);
}

int int8_samples_make(struct pipeline *p, const atomic_int *stop, struct int8_samples *ret,
                      struct dr_error *err)
{
    struct drawing d = { .p = p, .s = ret };
    memset(ret, 0, sizeof *ret);
    int r = make(&d, stop, err);
    for (int i = 0; i < SAMPLE_CAPTIONS; i++)
        sched_free(d.sched[i]);
    dr_free(d.preds);
    return r;
}

void int8_samples_release(struct int8_samples *s)
{
    for (int i = 0; i < SAMPLE_CAPTIONS; i++)
        prompt_release(&s->embeds[i]);
    dr_free(s->latents);
    memset(s, 0, sizeof *s);
}

int int8_predict(struct pipeline *p, const struct int8_samples *s, struct int8_watch watch,
                 const atomic_int *stop, float *ret_preds, struct dr_error *err)
{
    struct walk w = {
        .p = p, .s = (struct int8_samples *)s, .count = s->n, .preds = ret_preds, .fn = forward_walk
    };
    return walk_run(&w, watch, stop, err);
}

double int8_distance(const float *of, const float *from, size_t n)
{
    double difference = 0, reference = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)of[i] - from[i];
        difference += d * d;
        reference += (double)from[i] * from[i];
    }
    return reference > 0 ? sqrt(difference / reference) : sqrt(difference);
}
