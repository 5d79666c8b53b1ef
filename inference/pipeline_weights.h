/* pipeline_weights.h - the two states of a pipeline's weights: sizes only, and loaded. Internal to
 * inference/.
 */
#ifndef DR_INFERENCE_PIPELINE_WEIGHTS_H
#define DR_INFERENCE_PIPELINE_WEIGHTS_H

#include "inference/pipeline.h"

/* Handles without data, and a forecast of where the data will lie. The networks are bound. */
int pipeline_weights_size(struct pipeline *p, const struct pack_store *store, struct dr_error *err);

/* From the pack of an earlier start, into a new one, or into private memory when no pack can be
 * had: why, where the kernel set has use for one, is p->warning and no error. After an error there
 * are no handles. */
int pipeline_weights_load(struct pipeline *p, const struct pipeline_options *options,
                          struct dr_error *err);

#endif
