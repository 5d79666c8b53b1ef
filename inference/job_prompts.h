/* job_prompts.h - the prompts of a job: their language, the texts they become, and the phases of
 * the pictures that follow from them and from the LoRAs. */
#ifndef DR_INFERENCE_JOB_PROMPTS_H
#define DR_INFERENCE_JOB_PROMPTS_H

#include "inference/denoise.h"
#include "inference/job.h"

struct walk_phase;

/* Language and emphasis (NULL: not given) by their names in requests, once the texts are there.
 * DR_EINVAL names the field. */
int job_prompts_language(struct job *job, const char *syntax, const char *emphasis,
                         struct dr_error *err);
const char *job_emphasis_name(const struct job *job);

/* Once sampler and guidance are settled: the job's script. */
int job_prompts_read(struct job *job, struct dr_error *err);
void job_prompts_release(struct job *job);

/* Whether a row of the prompts is read by an evaluation of [from, to). */
bool job_prompts_uses(const struct job *job, int row, int from, int to);
/* Rows of an evaluation beyond those of guidance. */
int job_prompts_more(const struct job *job);

/* The phases of a picture. */
struct job_phases {
    struct denoise_phase *phase;
    int n;
    const struct unet_conditioning **more; /* of all phases */
};

/* Weights and contexts are those of the walk's phases, which outlive the result. */
int job_phases_make(const struct job *job, struct unet *unet, struct walk_phase *walk, int n,
                    struct job_phases *ret, struct dr_error *err);
void job_phases_release(struct job_phases *phases);

#endif
