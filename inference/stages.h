/* stages.h - every stage of a job can be written to a file and replaced from one.
 *
 * That is how agreement with the reference is checked piece by piece, and how a user finds where
 * two programs part. Files are .npy, float32 in the reference's NCHW order (tokens: int64). Names:
 * tokens tokens_2 prompt_embeds pooled time_ids timesteps sigmas latents_init model_input_III
 * pred_III latents_III image; III counts model evaluations from 000.
 */
#ifndef DR_INFERENCE_STAGES_H
#define DR_INFERENCE_STAGES_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "base/error.h"
#include "base/npy.h"

struct stages {
    const char *dump;   /* folder, made if missing; NULL or "": nothing is written */
    const json_t *load; /* name to file; NULL: nothing is replaced */
};

/* DR_EINVAL for a name that is no stage (names the nearest) or counts past `evaluations`. */
int stages_check(const struct stages *s, int evaluations, struct dr_error *err);

/* "pred", 7 -> "pred_007". Returns dst. */
const char *stage_name(const char *base, int evaluation, char dst[32]);

bool stage_loads(const struct stages *s, const char *name);

/* Replaces `data` from the stage's file if the request names one; *ret_loaded says whether. Shape
 * and dtype must be exactly these: DR_EINVAL names the file and both. data is float32, int64 for
 * tokens. */
int stage_load(const struct stages *s, const char *name, enum npy_dtype dtype, const int64_t *shape,
               int ndim, void *data, bool *ret_loaded, struct dr_error *err);
/* DR_EINVAL about a loaded stage: names the field, what it has and its file. */
int stage_refuse(const struct stages *s, const char *name, const char *got, const char *expected,
                 struct dr_error *err);

/* Writes the stage when there is a dump folder. */
int stage_dump(const struct stages *s, const char *name, enum npy_dtype dtype, const int64_t *shape,
               int ndim, const void *data, struct dr_error *err);

#endif
