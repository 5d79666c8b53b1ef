/* pipeline_weights.h - a pipeline's weights, made ready: from the pack of an earlier start, into a
 * new one, or into private memory when no pack can be had. Internal to inference/.
 */
#ifndef DR_INFERENCE_PIPELINE_WEIGHTS_H
#define DR_INFERENCE_PIPELINE_WEIGHTS_H

#include "inference/pipeline_manager.h"

/* The networks are loaded and not prepared; after an error none is. Why there is no pack, where the
 * kernel set has use for one, is p->warning and no error. */
int pipeline_weights(struct pipeline *p, const struct pipeline_options *options,
                     struct dr_error *err);

/* Undoes it, so that it can be called again. */
void pipeline_weights_drop(struct pipeline *p);

#endif
