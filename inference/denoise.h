/* denoise.h - one picture in flight: the denoising loop as an object that is stepped from outside.
 *
 * The scheduler says where to evaluate the UNet, the UNet predicts, the scheduler takes the
 * prediction. The object holds the scheduler; the caller runs the UNet (batch_manager.h), with rows
 * of many pictures in one forward. Everything that changes is in the object:
 * the scheduler's state, the generator, the latents. So pictures join and leave at any evaluation,
 * and each can be saved there and loaded by another process.
 *
 *     denoise_open(&spec, &d, err);
 *     while ((n = denoise_rows(d, rows)) > 0) {
 *         unet_forward(denoise_unet(d), x, rows, n, h, w, err);
 *         denoise_combine(d, err);
 *         denoise_advance(d, err);
 *     }
 *     decode(denoise_latents(d));
 *     denoise_close(d);
 */
#ifndef DR_INFERENCE_DENOISE_H
#define DR_INFERENCE_DENOISE_H

#include <stdbool.h>

#include "base/rng.h"
#include "base/sha256.h"
#include "inference/guidance.h"

struct denoise;
struct unet;
struct unet_row;
struct weight_variant;

/* The network with its weights, and the guidance with its conditioning, that hold from an
 * evaluation on. */
struct denoise_phase {
    int first; /* evaluation; 0 for the first phase, rising */
    struct unet *unet;
    const struct weight_variant *variant; /* of the network's weights; NULL: the base */
    struct guidance guidance;             /* its contexts are of the same variant */
    /* Further parts of the prompt, and the weights of all, the guidance's first: the conditional
     * prediction is negative + the sum of weight (part - negative) (Liu et al. 2022). 0 and NULL:
     * the guidance's is all. */
    int n_more;
    const struct unet_conditioning *const *more; /* [n_more] */
    const double *weight;                        /* [1 + n_more] */
};

/* Noise in the steps where its generator is not the first noise's. */
struct denoise_noise {
    int index, count; /* the picture is number `index` of `count` whose noise is drawn together */
    bool fresh;       /* a generator of its own, */
    enum dr_rng_kind rng;
    uint64_t seed;
    enum dr_rng_kind tree; /* and that of a Brownian path, */
    uint64_t tree_seed;
};

struct denoise_spec {
    const struct sched_config *sched;
    const float *timesteps,
        *sigmas;            /* instead of the scheduler's own (sched_replace); NULL: those */
    int64_t channels, h, w; /* of the latents */
    enum dr_rng_kind rng;
    uint64_t seed;                     /* of the first noise */
    const struct denoise_noise *noise; /* of the steps'; NULL: the same generator goes on */
    const float *latents; /* [channels, h, w] of step first_step; NULL: noise of the seed, scaled as
                           * the sampler wants it */
    int first_step;
    /* Instead of both: latents of a picture and noise, [channels, h, w], to begin in the middle
     * with; and the generator that they were drawn from. NULL: none. */
    const float *clean, *start_noise;
    const struct dr_rng *generator;
    /* [h, w]: 1 where the picture is drawn anew, 0 where it stays `clean`; with `soft` also in
     * between: for that share of the run. NULL: 1. */
    const float *mask;
    bool soft, pure;                    /* pure: the run begins with the noise alone */
    const struct denoise_phase *phases; /* borrowed until denoise_close */
    int n_phases;
    bool most; /* show the rows of the evaluation that has most: for a plan */
};

/* What does not change is copied, but for the phases. Nothing is allocated after this. DR_EINVAL
 * for phases or settings that do not go together, DR_ENOMEM. */
int denoise_open(const struct denoise_spec *spec, struct denoise **ret, struct dr_error *err);
void denoise_close(struct denoise *d);

/* The UNet rows that the picture needs now, at most denoise_rows_most; 0 when it is finished. They
 * point into the object until denoise_advance. Asking twice gives the same rows. */
int denoise_rows(struct denoise *d, struct unet_row *ret_rows);
int denoise_rows_most(const struct denoise *d);
struct unet *denoise_unet(const struct denoise *d); /* of these rows */
const struct weight_variant *denoise_variant(const struct denoise *d);

/* After the forward: the guided prediction, then the scheduler's step. DR_EFORMAT when the
 * prediction is not finite; DR_ELIMIT or DR_EINVAL when a sampler with an open number of
 * evaluations does not end or finds no next step: the picture is lost, the object may only be
 * closed. */
int denoise_combine(struct denoise *d, struct dr_error *err);
int denoise_advance(struct denoise *d, struct dr_error *err);

/* [channels, h, w] each. The scaled model input (after denoise_rows) and the guided prediction
 * (after denoise_combine) of the present evaluation, and the latents between evaluations, in the
 * sampler's own parametrisation. All may be written. */
float *denoise_input(struct denoise *d);
float *denoise_pred(struct denoise *d);
float *denoise_latents(struct denoise *d);

/* The timestep that denoise_rows asked for last, and how many evaluations the run has (0: the
 * sampler decides while it runs). */
double denoise_timestep(const struct denoise *d);
int denoise_evaluations(const struct denoise *d);
void denoise_size(const struct denoise *d, int64_t *ret_h, int64_t *ret_w);

/* The whole changing state, between evaluations, as one flat block with version and checksum.
 * `identity` names what is drawn (the digest of the picture's receipt): a block of another one is
 * refused. Loading wants an object opened with the same spec; DR_EFORMAT for a block that is cut,
 * damaged or of another picture, sampler, size or version, and then nothing has changed. */
size_t denoise_state_size(const struct denoise *d);
int denoise_save(const struct denoise *d, const uint8_t identity[SHA256_BYTES], void *ret_state,
                 struct dr_error *err);
int denoise_load(struct denoise *d, const uint8_t identity[SHA256_BYTES], const void *state,
                 size_t size, struct dr_error *err);

#endif
