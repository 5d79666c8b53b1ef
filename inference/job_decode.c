/* job_decode.c - the decode stage of a job: latents to pictures, each handed out as soon as it is
 * done. See job_walk.h. */
#include <math.h>

#include "base/clock.h"
#include "inference/job_mask.h"
#include "inference/job_walk.h"
#include "models/vae_manager.h"

/* Of a picture's, that an encoder may take beside it: twice what was measured. */
enum { ENCODER_BYTES = 6 };

/* [3, h, w] about -1..1 to 0..1, in place. DR_EFORMAT when a value is not finite. */
static int to_unit(float *v, int64_t n, struct dr_error *err)
{
    for (int64_t i = 0; i < n; i++) {
        float x = v[i] / 2 + 0.5f;
        if (!isfinite(x))
            return dr_fail(err, DR_EFORMAT,
                           "the decoded picture is not finite: the autoencoder's weights overflow "
                           "or hold NaN, or its latents do");
        v[i] = x < 0 ? 0 : x > 1 ? 1 : x;
    }
    return 0;
}

/* Bytes: round half to even of 255 x, as the reference does. */
static void to_bytes(const float *planes, struct dr_image *image)
{
    int64_t n = image->width * image->height;
    for (int64_t i = 0; i < n; i++)
        for (int c = 0; c < 3; c++)
            image->pixels[3 * i + c] = (uint8_t)nearbyintf(planes[c * n + i] * 255.0f);
}

/* A picture of finished pixels goes to its receiver if the model's files are still those that it
 * was drawn with. What the receiver allocates is not the job's. */
static int hand_out(struct job_walk *k, int index, const float *pixels, struct dr_error *err)
{
    struct dr_image *image = k->images ? &k->images[index] : &k->image;
    to_bytes(pixels, image);
    if (!k->events || !k->events->picture)
        return 0;
    int r = pipeline_check(k->p, err);
    if (r < 0)
        return r;
    double began = dr_now();
    const struct dr_image *finished = image;
    if (k->job->mask && (r = job_mask_finish(k->job->mask, image, &finished, err)) < 0)
        return r;
    struct dr_tally *before = dr_tally_use(NULL);
    r = k->events->picture(k->events->ctx, index, finished, err);
    dr_tally_use(before);
    k->handing += dr_now() - began;
    return r;
}

static struct vae_tiling tiling(const struct job_walk *k)
{
    return (struct vae_tiling){ .mode = k->job->vae_tiling ? VAE_TILING_ON : VAE_TILING_OFF };
}

/* Decodes all pictures and hands out all but the last. */
static int decode_pictures(void *ctx, struct exec *x, struct dr_error *err)
{
    struct job_walk *k = ctx;
    int64_t size = k->channels * k->h * k->w, plane = 3 * k->job->width * k->job->height;
    int last = k->job->batch - 1, r = 0;
    if (k->planning) /* one */
        return vae_manager_decode(k->p->vae, x, tiling(k), k->latents, 1, k->h, k->w, NULL, err);
    for (int i = 0; !r && i <= last; i++) {
        float *pixels = k->pixels + (k->shown > 1 ? i * plane : 0);
        r = vae_manager_decode(k->p->vae, x, tiling(k), k->latents + i * size, 1, k->h, k->w,
                               pixels, err);
        if (!r && x->stop && atomic_load(x->stop))
            r = dr_fail(err, DR_ECANCELED, "cancelled");
        if (!r)
            r = to_unit(pixels, plane, err);
        if (!r && i < last)
            r = hand_out(k, i, pixels, err);
    }
    return r;
}

static size_t most(size_t a, size_t b)
{
    return a > b ? a : b;
}

static int decode_all(struct job_walk *k, struct dr_error *err)
{
    int64_t plane = 3 * k->job->width * k->job->height;
    int last = k->job->batch - 1;
    int r = params_acquire(k->p->vae, vae_visit, err);
    if (k->planning)
        k->tile_bytes = most(k->tile_bytes,
                             k->job->tally.bytes[DR_TAG_JOB] +
                                 vae_manager_bytes(k->p->vae, tiling(k), k->h, k->w));
    if (!r)
        r = walk_stage(k, STAGE_DECODE, decode_pictures, k->job->batch, err);
    params_release(k->p->vae, vae_visit, walk_drops(k, STAGE_DECODE));
    if (r < 0 || k->planning)
        return r;
    /* the last one without the workspace, which is much more than an encoder needs: what is kept of
     * it makes room */
    size_t block = memory_block(k->plan), encoder = ENCODER_BYTES * (size_t)plane;
    if (k->plan->keep)
        dr_alloc_keep(block > encoder ? block - encoder : 0);
    return hand_out(k, last, k->pixels + (k->shown > 1 ? last * plane : 0), err);
}

/* Pictures that a file gave. */
static int take_pictures(struct job_walk *k, struct dr_error *err)
{
    int64_t plane = 3 * k->job->width * k->job->height;
    int r = 0;
    for (int i = 0; !r && i < k->job->batch; i++) {
        for (int64_t j = 0; !r && j < plane; j++)
            if (!(k->pixels[i * plane + j] >= 0 && k->pixels[i * plane + j] <= 1))
                r = stage_refuse(&k->job->stages, "image", "a value outside", "0 to 1", err);
        if (!r)
            r = hand_out(k, i, k->pixels + i * plane, err);
    }
    return r;
}

int walk_decode(struct job_walk *k, struct dr_error *err)
{
    const struct job *job = k->job;
    int64_t shape[4] = { job->batch, 3, job->height, job->width };
    bool loaded = false;
    if (k->planning)
        return decode_all(k, err);
    int r = stage_load(&job->stages, "image", NPY_F32, shape, 4, k->pixels, &loaded, err);
    if (!r)
        r = loaded ? take_pictures(k, err) : decode_all(k, err);
    return r ? r : stage_dump(&job->stages, "image", NPY_F32, shape, 4, k->pixels, err);
}
