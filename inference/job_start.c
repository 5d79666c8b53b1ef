/* job_start.c - see job_start.h. */
#include "inference/job_start.h"

#include "conditioning/img2img.h"
#include "inference/job_image.h"
#include "inference/job_mask.h"
#include "models/vae.h"

static int settle(const struct job_denoise *d, const char *name, float *values,
                  struct dr_error *err)
{
    int64_t shape[4] = { d->job->batch, d->channels, d->h, d->w };
    bool loaded;
    int r = stage_load(&d->job->stages, name, NPY_F32, shape, 4, values, &loaded, err);
    return r ? r : stage_dump(&d->job->stages, name, NPY_F32, shape, 4, values, err);
}

/* What is to be drawn anew is noise or nothing at the beginning, where that is wished. The noise is
 * what the seed gives first, as A1111's. */
static void fill(const struct job_denoise *d, int picture, float *spare, float *latents)
{
    const struct job_mask *m = d->job->mask;
    size_t plane = (size_t)(d->h * d->w), n = (size_t)d->channels * plane;
    bool noise = m->fill == INPAINT_NOISE;
    struct dr_rng rng;
    if (!noise && m->fill != INPAINT_NOTHING)
        return;
    dr_rng_seed(&rng, d->job->rng, d->job->seed + (uint64_t)picture);
    dr_rng_normal(&rng, spare, n);
    for (size_t i = 0; i < n; i++) {
        float share = m->latents[i % plane];
        latents[i] = latents[i] * (1 - share) + (noise ? spare[i] * share : 0);
    }
}

/* In the reference's order: a draw of the picture, the noise, and with a hard mask a draw of the
 * picture without what is masked, which only models that are made for it use. */
static void draw(struct job_start *s, const struct job_denoise *d, int picture)
{
    const struct job *job = d->job;
    const struct vae_arch *a = vae_arch(d->encoder);
    size_t plane = (size_t)(d->h * d->w), n = (size_t)d->channels * plane;
    float *clean = s->clean + (size_t)picture * n;
    struct dr_rng *rng = &s->rng[picture];
    dr_rng_seed(rng, job->rng, job->seed + (uint64_t)picture);
    img2img_latents(a, d->moments, plane, rng, clean);
    if (job->mask)
        fill(d, picture, s->spare, clean);
    dr_rng_normal(rng, s->noise + (size_t)picture * n, n);
    if (job->mask && !job->mask->soft && !a->tiny)
        dr_rng_normal(rng, s->spare, n);
}

int job_start_init(struct job_start *s, const struct job_denoise *d, bool planning,
                   struct dr_error *err)
{
    const struct job *job = d->job;
    size_t n = (size_t)(d->channels * d->h * d->w);
    if (!d->moments)
        return 0;
    s->pure = job->mask && !job->mask->soft && job->image->strength >= 1;
    s->clean = dr_calloc(DR_TAG_JOB, (size_t)job->batch * n, sizeof *s->clean);
    s->noise = dr_calloc(DR_TAG_JOB, (size_t)job->batch * n, sizeof *s->noise);
    s->spare = dr_calloc(DR_TAG_JOB, job->mask ? n : 1, sizeof *s->spare);
    if (!s->clean || !s->noise || !s->spare)
        return dr_fail(err, DR_ENOMEM, "out of memory for the latents of a job");
    for (int i = 0; !planning && i < job->batch; i++)
        draw(s, d, i);
    int r = planning ? 0 : settle(d, "init_latents", s->clean, err);
    return r || planning ? r : settle(d, "noise", s->noise, err);
}

void job_start_release(struct job_start *s)
{
    dr_free(s->clean);
    dr_free(s->noise);
    dr_free(s->spare);
}
