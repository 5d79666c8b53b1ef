/* job_walk.h - one walk through the stages of a job, planned or real. Internal to inference/: what
 * job_plan.c and job_run.c share.
 *
 * Each stage is a pass (backend/measure.h). When planning it is measured on the plan backend, else
 * it runs with a workspace of the planned size, made before and freed after it.
 */
#ifndef DR_INFERENCE_JOB_WALK_H
#define DR_INFERENCE_JOB_WALK_H

#include "backend/measure.h"
#include "inference/job_run.h"
#include "models/unet.h"

enum { WALK_VARIANTS = 2 * 32 + 1 + PROMPT_ENCODERS }; /* LORA_PHASES, and the text encoders */

/* The UNet's weights from an evaluation on, and the keys and values it makes of the texts that are
 * read with them; NULL of the others. */
struct walk_phase {
    int first;
    const struct weight_variant *variant;
    struct unet_context *context[PROMPT_ROWS];
    struct unet_conditioning conditioning[PROMPT_ROWS];
};

struct job_walk {
    struct pipeline *p;
    struct job *job;          /* its tally is in use */
    struct exec x;            /* planning: be only */
    struct memory_plan *plan; /* planning: written; else read */
    bool planning;
    const struct job_events *events;
    struct job_timing timing;
    struct walk_phase *phases; /* while the UNet is in use; owned */
    int n_phases;
    int64_t h, w, channels; /* of the latents */
    float *latents;         /* [batch, channels, h, w] */
    float *moments;         /* of the picture that the job begins with; NULL: none */
    float *pixels;          /* [shown, 3, height, width], 0..1 after decoding; NULL when planning */
    int shown;              /* pictures held as floats: all when stages ask for them, else one */
    struct dr_image *images; /* [batch], or NULL: each is handed out and `image` is used again */
    struct dr_image image;
    /* of the stage that runs now */
    enum job_stage stage;
    pass_fn *pass;
    double flops;   /* done so far */
    double handing; /* seconds for handing pictures out */
    /* planning: what a run allocates and planning does not */
    size_t pixel_bytes, image_bytes, tile_bytes, prompt_bytes;
    size_t tables; /* activation bytes outside of the workspace's block */
    size_t idle;   /* as memory_budget's */
    struct {
        const void *network;
        uint8_t key[SHA256_BYTES];
    } variants[WALK_VARIANTS]; /* sets of changes that are counted */
    int n_variants;
    struct variant_use variant_use;
};

/* Sizes, latents and, in a run, pixels and images. */
int walk_begin(struct job_walk *k, struct dr_error *err);
/* Whatever was made; not the images, which are the caller's, nor the job's prompts. */
void walk_release(struct job_walk *k);

/* Runs or measures fn with ctx = k as this stage. repeats: how often a run does what is measured.
 */
int walk_stage(struct job_walk *k, enum job_stage stage, pass_fn *fn, double repeats,
               struct dr_error *err);
/* Whether the plan gives the stage's weights back when it is over. */
bool walk_drops(const struct job_walk *k, enum job_stage stage);

/* The stages, in this order. */
int walk_text(struct job_walk *k, struct dr_error *err);    /* job_text.c */
int walk_encode(struct job_walk *k, struct dr_error *err);  /* job_encode.c; none without picture */
int walk_denoise(struct job_walk *k, struct dr_error *err); /* with the context before it */
int walk_decode(struct job_walk *k, struct dr_error *err);  /* job_decode.c */

#endif
