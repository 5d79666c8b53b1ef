/* job_encode.c - the stage of a job that encodes the picture it begins with. See job_walk.h. */
#include <math.h>

#include "conditioning/img2img.h"
#include "inference/job_image.h"
#include "inference/job_walk.h"
#include "models/vae_manager.h"

static struct vae_tiling tiling(const struct job_walk *k)
{
    return (struct vae_tiling){ .mode = k->job->vae_tiling ? VAE_TILING_ON : VAE_TILING_OFF };
}

static int check_finite(const float *v, int64_t n, struct dr_error *err)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(v[i]))
            return dr_fail(err, DR_EFORMAT,
                           "the encoded picture is not finite: the autoencoder's weights overflow "
                           "or hold NaN, or the picture does");
    return 0;
}

/* The planes of the picture lie where the decoded one will. */
static int encode(void *ctx, struct exec *x, struct dr_error *err)
{
    struct job_walk *k = ctx;
    int64_t values = vae_moments(vae_arch(k->p->encoder)) * k->h * k->w;
    int r = vae_manager_encode(k->p->encoder, x, tiling(k), k->pixels, 1, k->h, k->w, k->moments,
                               err);
    return r || k->planning ? r : check_finite(k->moments, values, err);
}

static int take_picture(struct job_walk *k, struct dr_error *err)
{
    const struct job *job = k->job;
    int64_t shape[4] = { 1, 3, job->height, job->width };
    bool loaded;
    if (k->planning)
        return 0;
    img2img_planes(&job->image->picture, k->pixels);
    int r = stage_load(&job->stages, "init_image", NPY_F32, shape, 4, k->pixels, &loaded, err);
    return r ? r : stage_dump(&job->stages, "init_image", NPY_F32, shape, 4, k->pixels, err);
}

int walk_encode(struct job_walk *k, struct dr_error *err)
{
    if (!k->job->image)
        return 0;
    struct vae *v = k->p->encoder;
    size_t values = (size_t)(vae_moments(vae_arch(v)) * k->h * k->w);
    k->moments = dr_calloc(DR_TAG_JOB, values, sizeof *k->moments);
    if (!k->moments)
        return dr_fail(err, DR_ENOMEM, "out of memory for an encoded picture");
    if (k->planning)
        k->tile_bytes = k->job->tally.bytes[DR_TAG_JOB] +
                        vae_manager_encode_bytes(v, tiling(k), k->h, k->w);
    int r = take_picture(k, err);
    if (!r)
        r = params_acquire(v, vae_visit, err);
    if (r < 0)
        return r;
    r = walk_stage(k, STAGE_INIT_IMAGE, encode, 1, err);
    params_release(v, vae_visit, walk_drops(k, STAGE_INIT_IMAGE));
    return r;
}
