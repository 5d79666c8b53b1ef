/* job.h - one generation with everything decided: what the worker kinds translate their requests
 * into, what a receipt records, and what the pipeline runs. There is one job path for all of them.
 */
#ifndef DR_INFERENCE_JOB_H
#define DR_INFERENCE_JOB_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/alloc.h"
#include "base/arena.h"
#include "base/image/image.h"
#include "base/rng.h"
#include "conditioning/prompt_processor.h"
#include "inference/memory_optimizer.h"
#include "inference/stages.h"
#include "inference/guidance.h"
#include "inference/guiders/guiders.h"
#include "schedulers/base_scheduler.h"

enum { JOB_BATCH = 16 };

struct job_image;
struct job_loras;
struct prompt_script;
struct preset;
struct job_mask;
struct textual_inversions;

struct job {
    struct prompt_request prompt; /* texts are the job's */
    struct prompt_script *script; /* of the prompt (job_prompts.h); owned */
    struct sched_config sched;
    int64_t width, height; /* pixels */
    int batch;
    uint64_t seed;                            /* of picture 0; picture i uses seed + i */
    enum dr_rng_kind rng, step_rng, tree_rng; /* of the first noise, of the steps', of a path */
    int64_t ensd;                             /* added to the seed of noise in steps; 0: none */
    /* With a preset whose batches have one generator: pictures of the batch, and which is the
     * job's first. */
    int drawn, first_drawn;
    double guidance_scale, guidance_rescale;
    struct guiders guiders;
    const struct preset *preset;
    const char *precision;
    bool vae_tiling;
    unsigned wrap;                         /* EXEC_WRAP_X, EXEC_WRAP_Y: edges that fit together */
    struct textual_inversions *embeddings; /* job_embeddings.h; NULL: none */
    struct job_loras *loras;               /* job_loras.h; NULL: none */
    struct job_mask *mask;                 /* job_mask.h; NULL: all of it is drawn anew */
    struct job_image *image;               /* job_image.h; NULL: it begins with noise */
    struct stages stages;
    struct arena arena;    /* texts and small things; freed with the job */
    struct dr_tally tally; /* what the job holds, from sdxl_job to job_release */
    struct prompt_embeds
        prompts; /* tokenised by job_plan, used up by job_run; text NULL: not there */
};

/* Callbacks of a plan (warning) and of a run (the others). Any may be NULL. */
struct job_events {
    /* `evaluations` is 0 where their number is open. */
    void (*step)(void *ctx, int evaluation, int evaluations, double seconds);
    void (*warning)(void *ctx, const char *text); /* of prompts and schedule */
    /* A stage begins; while it runs, the fraction of its FLOPs that is done, before each op. */
    void (*stage)(void *ctx, enum job_stage stage);
    void (*part)(void *ctx, enum job_stage stage, double fraction);
    /* A picture is decoded. It is valid during the call. A negative result ends the job. */
    int (*picture)(void *ctx, int index, const struct dr_image *image, struct dr_error *err);
    void *ctx;
};

/* How often the model is evaluated for a picture; 0: the sampler decides while it runs. */
int job_evaluations(const struct job *job);

/* The same in work: an evaluation with half of the most rows is half of one. */
double job_full_evaluations(const struct job *job);

/* The job's guidance, without the conditioning. */
struct guidance job_guidance(const struct job *job);

#endif
