/* job_variants.h - the variants of weights that a walk through a job uses. Internal to inference/.
 *
 * In a run they come from the pipeline's cache, so that the next job with the same LoRAs finds
 * them. When planning they are opened on the plan backend, and what the cache lacks is counted.
 */
#ifndef DR_INFERENCE_JOB_VARIANTS_H
#define DR_INFERENCE_JOB_VARIANTS_H

#include "inference/job_walk.h"

/* Of a network at that evaluation; *ret is NULL where no LoRA changes it. */
int variant_open(struct job_walk *k, const void *network, int evaluation,
                 const struct weight_variant **ret, struct dr_error *err);
void variant_close(struct job_walk *k, const struct weight_variant *v);

/* What the prompt cache tells embeddings of the text encoders' variants apart by. */
int variant_text_keys(const struct job_walk *k, struct prompt_embeds *m, struct dr_error *err);

#endif
