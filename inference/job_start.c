/* job_start.c - see job_start.h. */
#include "inference/job_start.h"

#include "conditioning/img2img.h"
#include "models/vae.h"

static int settle(const struct job_denoise *d, const char *name, float *values,
                  struct dr_error *err)
{
    int64_t shape[4] = { d->job->batch, d->channels, d->h, d->w };
    bool loaded;
    int r = stage_load(&d->job->stages, name, NPY_F32, shape, 4, values, &loaded, err);
    return r ? r : stage_dump(&d->job->stages, name, NPY_F32, shape, 4, values, err);
}

int job_start_init(struct job_start *s, const struct job_denoise *d, bool planning,
                   struct dr_error *err)
{
    const struct job *job = d->job;
    size_t plane = (size_t)(d->h * d->w), n = (size_t)d->channels * plane;
    if (!d->moments)
        return 0;
    s->clean = dr_calloc(DR_TAG_JOB, (size_t)job->batch * n, sizeof *s->clean);
    s->noise = dr_calloc(DR_TAG_JOB, (size_t)job->batch * n, sizeof *s->noise);
    if (!s->clean || !s->noise)
        return dr_fail(err, DR_ENOMEM, "out of memory for the latents of a job");
    for (int i = 0; !planning && i < job->batch; i++) {
        dr_rng_seed(&s->rng[i], job->rng, job->seed + (uint64_t)i);
        img2img_latents(vae_arch(d->encoder), d->moments, plane, &s->rng[i],
                        s->clean + (size_t)i * n);
        dr_rng_normal(&s->rng[i], s->noise + (size_t)i * n, n);
    }
    int r = planning ? 0 : settle(d, "init_latents", s->clean, err);
    return r || planning ? r : settle(d, "noise", s->noise, err);
}

void job_start_release(struct job_start *s)
{
    dr_free(s->clean);
    dr_free(s->noise);
}
