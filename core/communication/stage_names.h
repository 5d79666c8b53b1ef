/* stage_names.h - names of a job's stages, in requests and as files: tokens tokens_2 prompt_embeds
 * pooled time_ids timesteps sigmas init_image init_latents noise latents_init model_input_III
 * pred_III latents_III image; III counts model evaluations from 000. */
#ifndef DR_CORE_COMMUNICATION_STAGE_NAMES_H
#define DR_CORE_COMMUNICATION_STAGE_NAMES_H

#include <stdbool.h>

#include "base/error.h"

/* "pred", 7 -> "pred_007". Returns dst. */
const char *stage_name(const char *base, int evaluation, char dst[32]);

/* Whether it names a stage; *ret_evaluation: its number, -1 where stages of that name are not
 * counted. */
bool stage_is_name(const char *name, int *ret_evaluation);

/* Whether a worker writes a stage to a file of that name: "NAME.npy". */
bool stage_is_file(const char *file);

/* DR_EINVAL for a name that is no stage's; says which there are and the nearest. */
int stage_fail_unknown(const char *field, const char *name, struct dr_error *err);

#endif
