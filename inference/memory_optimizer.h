/* memory_optimizer.h - what a job will use, before it starts, and what to do about it.
 *
 * A job is run on the plan backend: the same code path, nothing computed. That gives each stage's
 * workspace to the byte and the weights it reads. From it follow the decisions that change memory
 * but no bits: how many rows go through the UNet together, and whether weights of a finished stage
 * are given back to the system.
 */
#ifndef DR_INFERENCE_MEMORY_OPTIMIZER_H
#define DR_INFERENCE_MEMORY_OPTIMIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/system.h"

/* The source of a limit that was asked for. */
#define MEMORY_ASKED "memory_limit"

/* STAGE_INIT_IMAGE: the picture that a job begins with is encoded; others do not have it. */
enum job_stage {
    STAGE_TEXT,
    STAGE_INIT_IMAGE,
    STAGE_CONTEXT,
    STAGE_DENOISE,
    STAGE_DECODE,
    STAGE_COUNT
};

struct stage_use {
    size_t workspace; /* bytes of its block: activations and op scratch */
    size_t kept;      /* activation bytes outside it: keys and values of the text */
    size_t mapped;    /* bytes of the files' weights it reads */
    double flops;     /* nominal, over the whole job; denoise: 0 where evaluations are open */
};

/* Second weights of layers that LoRAs change. */
struct variant_use {
    size_t layers, bytes; /* that the job uses */
    size_t missing;       /* of bytes: not made yet */
};

struct memory_plan {
    struct stage_use stage[STAGE_COUNT];
    int rows;                    /* most rows of one forward */
    bool drop[STAGE_COUNT];      /* give the stage's weights back when it is done */
    bool keep;                   /* one block serves all stages, and stays for the next job */
    size_t tagged[DR_TAG_COUNT]; /* peak bytes by allocation tag */
    struct variant_use variants; /* of tagged */
    size_t pictures;   /* of tagged: pixels of results and tiles, touched by the last stage only */
    size_t never_both; /* of pictures: not touched while the last stage's workspace is there */
    size_t held;       /* private bytes that are there already: of tagged, and of idle models */
    size_t baseline;   /* resident before the job: program, libraries, models of other jobs */
    size_t peak;       /* resident at the highest moment, all together */
    double flops;      /* of all stages; 0: unknown */
    size_t unmapped;   /* of mapped: files that loading will map, not mapped yet */
    size_t asked;      /* a limit in bytes; 0: three quarters of what is available */
    struct system_memory system; /* when it was planned */
    size_t limit;                /* what the peak is held against */
    struct system_bound bound;   /* what that follows from */
};

/* What a plan is held against. Zero: three quarters of what is available. */
struct memory_budget {
    size_t baseline; /* resident bytes that are neither the job's nor its model's */
    size_t limit;    /* bytes; 0: three quarters of what is available */
    size_t idle;     /* private bytes of models that can be unloaded */
};

const char *job_stage_name(enum job_stage stage);

/* Fills in drop, keep, peak, limit and bound from everything else. The limit is what was asked for,
 * else three quarters of what the machine and the control group have left and the plan's `held`.
 * Whatever was asked for, private memory must fit what the group and RLIMIT_DATA leave,
 * and all address space what RLIMIT_AS leaves: beyond these a process is killed or its allocations
 * fail. Weights are dropped when their stage is over where it helps: those of the text encoders,
 * which wake again in a second and only for a new prompt, when the peak is above two fifths of the
 * limit, the others when it is still above half. The block of workspaces is kept, with its pages,
 * where that raises the peak to no more than half, or not at all. Pure. */
void memory_decide(struct memory_plan *plan);

/* The block of workspaces that is kept: as large as the largest stage's. */
size_t memory_block(const struct memory_plan *plan);

/* DR_ENOMEM when the planned peak is over the limit: says what is needed and what there is. */
int memory_admit(const struct memory_plan *plan, struct dr_error *err);

/* Bytes that idle models may keep while the job runs. */
size_t memory_spare(const struct memory_plan *plan);

#endif
