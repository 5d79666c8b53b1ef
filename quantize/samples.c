/* samples.c - see samples.h. */
#include "quantize/samples.h"

#include <math.h>
#include <string.h>

#include "backend/backend.h"
#include "inference/batch_manager.h"
#include "inference/denoise.h"
#include "inference/sdxl_worker.h"
#include "models/clip_text.h"
#include "models/unet.h"

static const char *const captions[SAMPLE_CAPTIONS] = {
    "a red circle left of a blue square",
    "a photograph of a mountain lake at dawn",
};

struct sample_drawing;

/* One walk that needs a workspace: first on a plan, for its size. */
struct sample_walk {
    struct pipeline *p;
    struct int8_samples *s;
    int caption;                    /* of the text walk */
    struct sample_drawing *drawing; /* of the drawing walk */
    int count;                      /* rows of the forward walk */
    float *preds;
    int (*fn)(struct sample_walk *w, struct exec *x, struct dr_error *err);
};

static int walk_run(struct sample_walk *w, struct int8_watch watch, const atomic_int *stop,
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

static int text_walk(struct sample_walk *w, struct exec *x, struct dr_error *err)
{
    return prompt_encode(&w->p->encoders, x, &w->s->embeds[w->caption], err);
}

static int caption_context(struct sample_walk *w, struct exec *x, int caption,
                           struct unet_context **ret, struct dr_error *err)
{
    const struct prompt_embeds *m = &w->s->embeds[caption];
    return unet_context_new(w->p->unet, x, m->text, m->length, m->pooled, m->time_ids, ret, err);
}

/* Contexts of all captions, then the first `count` rows. */
static int forward_walk(struct sample_walk *w, struct exec *x, struct dr_error *err)
{
    struct unet_context *contexts[SAMPLE_CAPTIONS] = { NULL };
    struct unet_row rows[SAMPLE_ROWS];
    const struct int8_samples *s = w->s;
    int r = 0;
    for (int i = 0; i < SAMPLE_CAPTIONS && !r; i++)
        r = caption_context(w, x, i, &contexts[i], err);
    for (int i = 0; i < w->count; i++)
        rows[i] = (struct unet_row){ .latent = s->latents + (size_t)i * s->values,
                                     .timestep = s->timestep[i],
                                     .context = contexts[i % SAMPLE_CAPTIONS],
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

/* Drawing all captions side by side, and keeping every model input on the way. */
struct sample_drawing {
    struct pipeline *p;
    struct int8_samples *s;
    struct job job[SAMPLE_CAPTIONS];
    struct denoise *picture[SAMPLE_CAPTIONS];
};

static int keep_inputs(void *ctx, bool *skip_forward, struct dr_error *err)
{
    struct sample_drawing *d = ctx;
    struct int8_samples *s = d->s;
    (void)skip_forward;
    for (int i = 0; i < SAMPLE_CAPTIONS; i++, s->n++) {
        if (s->n == SAMPLE_ROWS)
            return dr_fail(err, DR_EINTERNAL, "a sampler that ends late");
        memcpy(s->latents + (size_t)s->n * s->values, denoise_input(d->picture[i]),
               s->values * sizeof *s->latents);
        s->timestep[s->n] = denoise_timestep(d->picture[i]);
    }
    return 0;
}

static int open_caption(struct sample_drawing *d, int caption, const struct denoise_phase *phase,
                        struct dr_error *err)
{
    const struct job *job = &d->job[caption];
    struct denoise_spec spec = { .sched = &job->sched,
                                 .channels = unet_arch(d->p->unet)->out_channels,
                                 .h = d->s->h,
                                 .w = d->s->w,
                                 .rng = DR_RNG_CPU,
                                 .seed = job->seed,
                                 .phases = phase,
                                 .n_phases = 1 };
    return denoise_open(&spec, &d->picture[caption], err);
}

static int step_all(struct sample_drawing *d, struct batch *b, struct exec *x, struct dr_error *err)
{
    const struct batch_hooks hooks = { .input = keep_inputs, .ctx = d };
    struct denoise *failed;
    int stepped, r;
    do
        r = batch_step(b, x, &hooks, &stepped, &failed, err);
    while (!r && stepped);
    return r;
}

/* Contexts of all captions, then all steps; on a plan one forward of each. */
static int draw_walk(struct sample_walk *w, struct exec *x, struct dr_error *err)
{
    struct sample_drawing *d = w->drawing;
    struct denoise_phase phases[SAMPLE_CAPTIONS];
    struct unet_context *contexts[SAMPLE_CAPTIONS] = { NULL };
    struct batch *b = NULL;
    int r = batch_new(SAMPLE_CAPTIONS, &b, err);
    for (int i = 0; i < SAMPLE_CAPTIONS && !r; i++) {
        r = caption_context(w, x, i, &contexts[i], err);
        phases[i] = (struct denoise_phase){ .unet = d->p->unet,
                                            .guidance = { .scale = 1, .positive = contexts[i] } };
        if (!r)
            r = open_caption(d, i, &phases[i], err);
        if (!r)
            r = batch_add(b, d->picture[i], err);
    }
    if (!r)
        r = backend_is_plan(x->be) ? batch_forward(b, x, err) : step_all(d, b, x, err);
    batch_free(b);
    for (int i = 0; i < SAMPLE_CAPTIONS; i++) {
        denoise_close(d->picture[i]);
        d->picture[i] = NULL;
        unet_context_free(contexts[i]);
    }
    return r;
}

static int make(struct sample_drawing *d, const atomic_int *stop, struct dr_error *err)
{
    static const struct int8_watch unwatched;
    struct int8_samples *s = d->s;
    struct sample_walk w = { .p = d->p, .s = s, .drawing = d };
    int r = 0;
    for (int i = 0; i < SAMPLE_CAPTIONS && !r; i++) {
        r = caption_job(d->p, i, &d->job[i], err);
        if (r < 0)
            return r;
        s->h = d->job[i].height / d->p->latent_factor;
        s->w = d->job[i].width / d->p->latent_factor;
        r = prompt_tokenize(&d->p->encoders, &d->job[i].prompt, &s->embeds[i], err);
        w.caption = i;
        w.fn = text_walk;
        if (!r)
            r = walk_run(&w, unwatched, stop, err);
    }
    if (r < 0)
        return r;
    s->values = (size_t)(unet_arch(d->p->unet)->out_channels * s->h * s->w);
    s->latents = dr_malloc(DR_TAG_JOB, SAMPLE_ROWS * s->values * sizeof *s->latents);
    if (!s->latents)
        return dr_fail(err, DR_ENOMEM, "out of memory for samples");
    w.fn = draw_walk;
    return walk_run(&w, unwatched, stop, err);
}

int int8_samples_make(struct pipeline *p, const atomic_int *stop, struct int8_samples *ret,
                      struct dr_error *err)
{
    struct sample_drawing d = { .p = p, .s = ret };
    memset(ret, 0, sizeof *ret);
    int r = make(&d, stop, err);
    for (int i = 0; i < SAMPLE_CAPTIONS; i++)
        job_release(&d.job[i]);
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
    struct sample_walk w = {
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
